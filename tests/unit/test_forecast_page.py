"""The heat map: each hour in its cell by the clock on the wall, also where that clock is changed; quiet windows."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.timing.forecast import Bucket, Forecast
from schedule_zero.web.pages.days import midnight_us
from schedule_zero.web.pages.forecast_view import (
    HOUR_US,
    SHADES,
    Measure,
    Scale,
    Span,
    bounds,
    heat,
    quiet_windows,
)

UTC, BERLIN, KOLKATA = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")
BEFORE = 0


def forecast(span: Span, first: date, zone: ZoneInfo, fires: int = 1, busy_s: float = 0.0) -> Forecast:
    """The same in every bucket."""
    from_us, to_us, bucket_us = bounds(span, first, zone)
    buckets = [Bucket(from_us=us, fires=fires, busy_s=busy_s) for us in range(from_us, to_us, bucket_us)]
    return Forecast(
        buckets=buckets, bucket_us=bucket_us, schedules=1, fires=fires * len(buckets), busy_s=busy_s * len(buckets),
        peaks=[], quietest=None, unseen=0,
    )  # fmt: skip


def texts(found):
    return [[cell.text for cell in row.cells] for row in found.rows]


@pytest.mark.parametrize("zone", [UTC, BERLIN, KOLKATA])
def test_a_week_is_seven_days_of_twenty_four_hours(zone):
    first = date(2026, 6, 1)

    found = heat(forecast(Span.WEEK, first, zone), Span.WEEK, Measure.FIRES, first, zone, BEFORE)

    assert [row.label for row in found.rows] == [
        "Mon 1 Jun", "Tue 2 Jun", "Wed 3 Jun", "Thu 4 Jun", "Fri 5 Jun", "Sat 6 Jun", "Sun 7 Jun",
    ]  # fmt: skip
    assert found.columns == [f"{hour:02}" for hour in range(24)]
    assert texts(found) == [["1"] * 24] * 7
    assert [row.day for row in found.rows] == [date(2026, 6, day) for day in range(1, 8)]


def test_a_day_is_twenty_four_hours_of_twelve_times_five_minutes():
    first = date(2026, 6, 1)

    found = heat(forecast(Span.DAY, first, BERLIN), Span.DAY, Measure.FIRES, first, BERLIN, BEFORE)

    assert found.columns[:3] == [":00", ":05", ":10"]
    assert [row.label for row in found.rows][:2] == ["00:00", "01:00"]
    assert texts(found) == [["1"] * 12] * 24


def test_the_hour_that_clocks_leave_out_has_no_cell():
    first = date(2026, 3, 29)

    found = heat(forecast(Span.WEEK, first, BERLIN), Span.WEEK, Measure.FIRES, first, BERLIN, BEFORE)

    missing = found.rows[0].cells[2]
    assert (missing.shade, missing.title) == (None, "no such time: the clock changes")
    assert texts(found)[0] == ["1", "1", "", *["1"] * 21]


def test_the_hour_that_clocks_repeat_is_one_cell_with_both():
    first = date(2026, 10, 25)

    found = heat(forecast(Span.WEEK, first, BERLIN), Span.WEEK, Measure.FIRES, first, BERLIN, BEFORE)

    assert texts(found)[0] == ["1", "1", "2", *["1"] * 21]


def test_what_is_over_is_empty_and_the_present_hour_is_not():
    first = date(2026, 6, 1)
    now_us = midnight_us(first, UTC) + 2 * HOUR_US + 1

    found = heat(forecast(Span.WEEK, first, UTC), Span.WEEK, Measure.FIRES, first, UTC, now_us)

    assert [cell.shade is None for cell in found.rows[0].cells[:4]] == [True, True, False, False]


def test_run_time_is_shown_in_its_unit_and_the_title_says_both():
    first = date(2026, 6, 1)

    found = heat(forecast(Span.WEEK, first, UTC, 7, 5400.0), Span.WEEK, Measure.BUSY, first, UTC, BEFORE)

    cell = found.rows[0].cells[0]
    assert (cell.text, cell.title) == ("2h", "7 fires, 1 h 30 min of run time")


@pytest.mark.parametrize(("fires", "shown"), [(999, "999"), (1234, "1.2k"), (45_678, "46k"), (2_500_000, "2.5M")])
def test_many_fires_fit_into_a_cell(fires, shown):
    first = date(2026, 6, 1)

    found = heat(forecast(Span.DAY, first, UTC, fires), Span.DAY, Measure.FIRES, first, UTC, BEFORE)

    assert found.rows[0].cells[0].text == shown


@given(st.lists(st.floats(0.001, 1e6), min_size=1))
def test_shades_go_from_the_least_to_the_greatest_and_more_is_never_lighter(values):
    scale = Scale(min(values), max(values))

    shades = [scale.shade(value) for value in sorted(values)]

    assert shades == sorted(shades)
    assert set(shades) <= set(range(1, SHADES + 1))
    assert [scale.upto(shade) for shade in range(1, SHADES + 1)] == sorted(
        scale.upto(shade) for shade in range(1, SHADES + 1)
    )


def test_quiet_windows_lie_ahead_and_only_those_that_fit_are_there():
    first = date(2026, 6, 1)
    found = forecast(Span.DAY, first, UTC, 5)
    for bucket in found.buckets[:24]:
        bucket.fires = 0
    for bucket in found.buckets[-30:-18]:
        bucket.fires = 1
    now_us = midnight_us(first, UTC) + 18 * HOUR_US

    quiet = quiet_windows(found, now_us)

    assert [hours for hours, _ in quiet] == [1, 2, 4]
    hour = quiet[0][1]
    assert (hour.from_us, hour.to_us, hour.fires) == (
        midnight_us(first, UTC) + 21 * HOUR_US + HOUR_US // 2,
        midnight_us(first, UTC) + 22 * HOUR_US + HOUR_US // 2,
        12,
    )
