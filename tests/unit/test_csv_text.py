"""What exports write is read back as it was, and is never computed by whoever opens it."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.rules.csv_text import FORMULA, lines

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@given(st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=5))
def test_each_cell_comes_back_with_at_most_an_apostrophe_and_none_begins_a_formula(rows: list[list[str]]) -> None:
    found = read(lines(rows))

    assert [[cell.startswith(FORMULA) for cell in row] for row in found] == [[False, False] for _ in rows]
    assert [[cell.removeprefix("'") for cell in row] for row in found] == [
        [cell.removeprefix("'") for cell in row] for row in rows
    ]


@pytest.mark.parametrize("first", FORMULA)
def test_a_text_that_would_be_computed_is_kept_from_it(first: str) -> None:
    assert read(lines([[f"{first}1+1", 1]])) == [[f"'{first}1+1", "1"]]


def test_what_is_no_text_stays_as_it_is() -> None:
    assert lines([[None, -1, 2.5, "a,b", 'c"d']]) == ',-1,2.5,"a,b","c""d"\r\n'
