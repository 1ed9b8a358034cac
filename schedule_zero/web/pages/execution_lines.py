"""Executions as one line each, where another page shows a few of them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from schedule_zero.model import Execution, JobError

MAX_MESSAGE = 300
_decode_error = msgspec.json.Decoder(JobError).decode


class Line(Struct, frozen=True, kw_only=True):
    """One execution, and what its error says."""

    row: Execution
    error: str


def lines(rows: Iterable[Execution]) -> list[Line]:
    return [Line(row=row, error=error_words(row.error)) for row in rows]


def error_words(document: bytes | None) -> str:
    """``KeyError: 'customer'``, cut; "" where there is none."""
    if document is None:
        return ""
    error = _decode_error(document)
    text = f"{error.type}: {error.message}" if error.message else error.type
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…"
