"""The change log's documents: bounded, and what of them differs; its lines as CSV."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.rules.change_csv import COLUMNS, csv_line, head
from schedule_zero.rules.change_log import MAX_BYTES, NOUNS, OMITTED, ChangeVerb, bounded, differing, listed

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=3000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=200), json_values, max_size=12))
def test_a_document_never_takes_more_than_its_bound_and_says_what_is_left_out(fields):
    text = bounded(fields)

    kept = msgspec.json.decode(text)
    omitted = kept.pop(OMITTED, []) if len(msgspec.json.encode(fields)) > MAX_BYTES else []
    assert len(text.encode()) <= MAX_BYTES
    assert all(fields[name] == value for name, value in kept.items())
    assert len(kept) + len(omitted) == len(fields)


def test_the_largest_values_go_first():
    fields = {"small": 1, "huge": "x" * MAX_BYTES, "large": "y" * 3000, "params": {"a": [1, 2]}}

    assert msgspec.json.decode(bounded(fields)) == {
        "small": 1,
        "large": "y" * 3000,
        "params": {"a": [1, 2]},
        OMITTED: ["huge"],
    }


def test_thousands_of_names_are_no_document():
    kept = msgspec.json.decode(bounded({f"handler-{n:0100}": {"limits": {}} for n in range(5000)}))

    assert len(kept[OMITTED]) == 20
    assert len(msgspec.json.encode(kept)) <= MAX_BYTES


def test_no_document_is_none():
    assert bounded(None) == ""
    assert bounded({}) == "{}"


def test_what_differs_stands_on_both_sides_and_what_is_equal_on_none():
    before, after = {"a": 1, "b": [1], "gone": None}, {"a": 1, "b": [True], "new": None}

    assert differing(before, after) == ({"b": [1], "gone": None}, {"b": [True], "new": None})


def test_of_many_ids_the_first_are_listed():
    assert listed([str(n) for n in range(1000)]) == [str(n) for n in range(100)]


def test_every_verb_is_a_noun_and_what_was_done_to_it():
    assert not [verb for verb in ChangeVerb if not re.fullmatch(r"[a-z_]+\.[a-z_]+", verb)]
    assert set(NOUNS) == {verb.partition(".")[0] for verb in ChangeVerb}


def test_every_verb_stands_in_the_audit_logs_page_and_no_other():
    page = Path(__file__).resolve().parents[2] / "docs" / "reference" / "audit-log.md"
    table = page.read_text(encoding="utf-8").partition("\n## Verbs\n")[2].partition("\n## ")[0]
    verbs = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    said = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", verbs))

    assert said == set(ChangeVerb)


def test_a_line_of_csv_comes_back_as_it_was():
    values = dict.fromkeys(COLUMNS) | {"seq": 7, "by": 'a "b", c', "note": "two\nlines", "subject": "s"}

    [names, row] = list(csv.reader(io.StringIO(head() + csv_line(values))))

    assert names == list(COLUMNS)
    assert dict(zip(names, row, strict=True)) == dict.fromkeys(COLUMNS, "") | {
        "seq": "7",
        "by": 'a "b", c',
        "note": "two\nlines",
        "subject": "s",
    }


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_spreadsheet_computes_what_somebody_wrote(text):
    line = csv_line(dict.fromkeys(COLUMNS) | {"note": text})

    [row] = list(csv.reader(io.StringIO(line, newline="")))
    assert row[COLUMNS.index("note")] == f"'{text}"
