"""Data for charts can't leave its element; sparklines are plain shapes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.web.pages import static
from schedule_zero.web.pages.charts import HEIGHT, WIDTH, Chart, Line, chart_data, sparkline, three_digits
from schedule_zero.web.pages.overview_view import ENDS, QUANTILES

PREFIX, SUFFIX = '<script type="application/json">', "</script>"
VALUES = st.lists(st.none() | st.integers(0, 10**9) | st.floats(0, 1e9), max_size=80)


@given(st.text(), VALUES)
def test_whatever_a_label_says_the_data_stays_in_its_element_and_comes_back_as_it_was(label, values):
    chart = Chart(kind="lines", unit="count", from_s=0, step=60, zone="UTC", lines=[Line(label, "ok", values)])

    text = str(chart_data(chart))

    assert text.startswith(PREFIX)
    assert text.endswith(SUFFIX)
    inside = text.removeprefix(PREFIX).removesuffix(SUFFIX)
    assert not set(inside) & set("<>&")
    [line] = json.loads(inside)["lines"]
    assert (line["label"], line["values"]) == (label, values)


@given(VALUES)
def test_a_sparkline_stays_in_its_frame_and_has_no_style(values):
    text = str(sparkline(values))

    known = [value for value in values if value is not None]
    assert bool(text) is (len(values) > 1 and bool(known))
    if text:
        svg = ET.fromstring(text)
        assert "style" not in text
        for path in svg:
            points = [point.split(",") for point in path.attrib["d"].replace("M", " ").replace("L", " ").split()]
            for x, y in points:
                assert 0 <= float(x) <= WIDTH + 1
                assert 0 <= float(y.rstrip("Z")) <= HEIGHT


def test_a_gap_in_a_sparkline_is_a_gap():
    line = ET.fromstring(str(sparkline([1, 2, None, 4, 4])))[1].attrib["d"]

    assert line.count("M") == 2


def test_a_sparkline_with_a_label_is_a_picture_that_says_it():
    assert 'role="img" aria-label="a &lt; b"' in sparkline([1, 2], "a < b")
    assert 'aria-hidden="true"' in sparkline([1, 2])


@pytest.mark.parametrize(("value", "shown"), [(None, None), (0.0, 0.0), (0.0012349, 0.00123), (1234.5, 1230.0)])
def test_a_chart_needs_three_digits(value, shown):
    assert three_digits(value) == shown


@pytest.mark.parametrize("colour", sorted({colour for _, colour, _ in QUANTILES} | {colour for _, _, colour in ENDS}))
def test_each_colour_of_a_chart_is_one_of_the_stylesheet(colour):
    style = (static.FOLDER / "app.css").read_text("utf-8")

    assert f"--{colour}: light-dark(" in style
