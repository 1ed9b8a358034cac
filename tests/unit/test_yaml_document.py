"""Documents in YAML for what the API takes as JSON: as YAML 1.2 reads them, and where each part stands."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero import yaml_document
from schedule_zero.errors import BadRequest

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT.filter(bool), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("from: 22:00", {"from": "22:00"}),
        ("- 2026-12-24", ["2026-12-24"]),
        ("country: NO", {"country": "NO"}),
        ("a: true\nb: ~\nc: 1\nd: 1.5", {"a": True, "b": None, "c": 1, "d": 1.5}),
        ('{"a": [1, "x"]}', {"a": [1, "x"]}),
        ("", None),
    ],
)
def test_a_plain_word_is_what_yaml_1_2_says(text, value):
    assert yaml_document.parse(text).value == value


@given(VALUES)
def test_what_is_written_is_read_back(value):
    assert yaml_document.parse(yaml_document.dump(value)).value == value


def test_a_text_of_several_lines_stands_as_it_is():
    assert yaml_document.dump({"ical": "BEGIN:VCALENDAR\nEND:VCALENDAR\n"}).splitlines() == [
        "ical: |", "  BEGIN:VCALENDAR", "  END:VCALENDAR",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pointer", "line"),
    [("", 1), ("/weekly", 4), ("/weekly/1/from", 6), ("/weekly/7/from", 4), ("/nothing", 1), ("/a~1b", 2)],
)
def test_a_pointer_leads_to_a_line(pointer, line):
    text = "timezone: UTC\na/b: 1\nweekly:\n  - days: [SAT]\n  - days: [SUN]\n    from: 25:00\n"
    assert yaml_document.parse(text).line(pointer) == line


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: [1, 2\nc: 3", 3, "not valid YAML"),
        ("a: 1\na: 2", 2, "stands twice"),
        ("a: !!python/object:os.system x", None, "YAML"),
        ("a: 123456789012345678901234567890", 1, "64 bits"),
        ("[" * 200, 1, "nested deeper"),
        ("a: &a [*a]", 1, "refers to itself"),
    ],
)
def test_what_is_no_document_is_refused_with_its_line(text, line, said):
    with pytest.raises(BadRequest, match=said) as caught:
        yaml_document.parse(text)
    if line is not None:
        assert caught.value.data["line"] == line


def test_an_empty_document_has_no_lines():
    assert yaml_document.parse("").line("/a") is None
    assert json.dumps(yaml_document.parse("# only a comment").value) == "null"
