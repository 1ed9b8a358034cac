"""All executions of a group of dead letters as a file, in chunks: no group is too large for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import msgspec
from msgspec import Raw, Struct

from schedule_zero.clock import rfc3339
from schedule_zero.model import Execution, JobError
from schedule_zero.rules import csv_text
from schedule_zero.service.dead_letters import DeadLetterService
from schedule_zero.web.api.dead_letter_schemas import LettersExportQuery
from schedule_zero.web.api.records import NULL, raw
from schedule_zero.web.api.request import ApiRequest, EventStream

CSV, LINES = "text/csv; charset=utf-8", "application/jsonl; charset=utf-8"
# Executions that are read at once.
ROWS = 500

_encode = msgspec.json.Encoder().encode
_decode_error = msgspec.json.Decoder(JobError).decode


class Letter(Struct, kw_only=True):
    """One line of the file. Times are RFC 3339, in UTC."""

    id: str
    handler_id: str
    job_method: str
    status: str
    schedule_id: str | None
    node_id: str | None
    attempt: int
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    # Of the error; ``error`` has its traceback as well.
    error_type: str | None
    message: str | None
    job_params: Raw
    error: Raw


FIELDS = Letter.__struct_fields__


async def as_csv(request: ApiRequest) -> EventStream:
    """All executions of a group, newest first, as CSV with a head line."""
    return _stream(request, CSV, _csv_head(), _csv_lines)


async def as_lines(request: ApiRequest) -> EventStream:
    """All executions of a group, newest first, one JSON object a line."""
    return _stream(request, LINES, b"", _json_lines)


def _stream(request: ApiRequest, content_type: str, head: bytes, lines: Callable[[list[Letter]], bytes]) -> EventStream:
    query: LettersExportQuery = request.query
    chunks = _chunks(request.service.dead_letters, query.group, head, lines)
    return EventStream(chunks, content_type=content_type)


async def _chunks(
    letters: DeadLetterService, group: str, head: bytes, lines: Callable[[list[Letter]], bytes]
) -> AsyncGenerator[bytes, None]:
    cursor = None
    if head:
        yield head
    while True:
        page = await letters.executions(group, cursor=cursor, limit=ROWS)
        if page.rows:
            yield lines([_letter(row) for row in page.rows])
        cursor = page.next_cursor
        if cursor is None:
            return


def _letter(row: Execution) -> Letter:
    error = None if row.error is None else _decode_error(row.error)
    return Letter(
        id=row.id,
        handler_id=row.handler_id,
        job_method=row.job_method,
        status=row.state.value,
        schedule_id=row.schedule_id,
        node_id=row.node_id,
        attempt=row.attempt,
        created_at=rfc3339(row.created_us),
        started_at=rfc3339(row.started_us),
        finished_at=rfc3339(row.finished_us),
        error_type=None if error is None else error.type,
        message=None if error is None else error.message,
        job_params=Raw(row.params),
        error=NULL if row.error is None else raw(row.error),
    )


def _json_lines(letters: list[Letter]) -> bytes:
    return b"".join(_encode(letter) + b"\n" for letter in letters)


def _csv_head() -> bytes:
    return csv_text.lines([FIELDS]).encode()


def _csv_lines(letters: list[Letter]) -> bytes:
    rows = ([_text(getattr(letter, name)) for name in FIELDS] for letter in letters)
    return csv_text.lines(rows).encode("utf-8", "replace")


def _text(value: object) -> object:
    return bytes(value).decode(errors="replace") if isinstance(value, Raw) else value
