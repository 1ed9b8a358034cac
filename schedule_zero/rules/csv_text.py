"""Lines of CSV (RFC 4180) of which no cell is a formula, for every export of the API and of the commands. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

# What a spreadsheet takes for the beginning of a formula, also behind white space that it leaves out. Names, notes,
# parameters and errors are whatever somebody chose to write.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def cell(value: object) -> object:
    """A value that is shown as it is: a text that would be computed gets an apostrophe before it; None is empty."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def lines(rows: Iterable[Iterable[object]]) -> str:
    """Rows as lines, each with its end (CR and LF)."""
    out = io.StringIO()
    csv.writer(out).writerows([cell(value) for value in row] for row in rows)
    return out.getvalue()
