"""The change log as lines of CSV (RFC 4180), for the API's export and for the command. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

# In order; the names of the API.
COLUMNS = (
    "seq", "at", "by", "token_id", "address", "verb", "noun", "subject", "count", "note", "request_id", "before",
    "after",
)  # fmt: skip
# What a spreadsheet would take for a formula. Names and notes are whatever somebody chose to write.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def head() -> str:
    """The line of names."""
    return csv_line({name: name for name in COLUMNS})


def csv_line(values: Mapping[str, str | int | None]) -> str:
    """One line, with its end. A text that a spreadsheet would compute gets an apostrophe before it; None is empty."""
    out = io.StringIO()
    csv.writer(out).writerow([_cell(values[name]) for name in COLUMNS])
    return out.getvalue()


def _cell(value: str | int | None) -> str | int:
    if value is None or isinstance(value, int):
        return "" if value is None else value
    return f"'{value}" if value.startswith(_FORMULA) else value
