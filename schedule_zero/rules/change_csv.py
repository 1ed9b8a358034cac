"""The change log as lines of CSV (RFC 4180), for the API's export and for the command. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from schedule_zero.rules import csv_text

# In order; the names of the API.
COLUMNS = (
    "seq", "at", "by", "token_id", "address", "verb", "noun", "subject", "count", "note", "request_id", "before",
    "after",
)  # fmt: skip


def head() -> str:
    """The line of names."""
    return csv_line({name: name for name in COLUMNS})


def csv_line(values: Mapping[str, str | int | None]) -> str:
    """One line, with its end. A text that a spreadsheet would compute gets an apostrophe before it; None is empty."""
    return csv_text.lines([[values[name] for name in COLUMNS]])
