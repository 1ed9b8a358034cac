"""Executions as files: CSV, JSON, and JSON by lines. Text is hostile: no cell of a CSV file may become a formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from schedule_zero.clock import rfc3339
from schedule_zero.model import Execution, JobError
from schedule_zero.rules import csv_text
from schedule_zero.web.api.execution_records import ExportRecord, export_record

_encode = msgspec.json.Encoder().encode
_decode_error = msgspec.json.Decoder(JobError).decode


class Format(Struct, frozen=True, kw_only=True):
    """How a file of executions is written, part by part."""

    content_type: str
    head: bytes = b""
    tail: bytes = b""
    write: Callable[[Sequence[Execution]], bytes]
    # Between rows that are not written at once.
    between: bytes = b""

    def rows(self, page: Sequence[Execution], *, first: bool) -> bytes:
        """The next rows; at least one."""
        return (b"" if first else self.between) + self.write(page)


def duration_ms(row: Execution) -> float | None:
    if row.started_us is None or row.finished_us is None:
        return None
    return (row.finished_us - row.started_us) / 1000


COLUMNS: dict[str, Callable[[Execution], object]] = {
    "id": lambda row: row.id,
    "status": lambda row: row.state.value,
    "handler_id": lambda row: row.handler_id,
    "job_method": lambda row: row.job_method,
    "schedule_id": lambda row: row.schedule_id,
    "origin": lambda row: row.origin.value,
    "node_id": lambda row: row.node_id,
    "attempt": lambda row: row.attempt,
    "priority": lambda row: row.priority,
    "nominal_time": lambda row: rfc3339(row.nominal_us),
    "not_before": lambda row: rfc3339(row.not_before_us),
    "created_at": lambda row: rfc3339(row.created_us),
    "dispatched_at": lambda row: rfc3339(row.dispatched_us),
    "started_at": lambda row: rfc3339(row.started_us),
    "finished_at": lambda row: rfc3339(row.finished_us),
    "duration_ms": duration_ms,
    "cpu_ms": lambda row: None if row.cpu_us is None else row.cpu_us / 1000,
    "peak_rss_bytes": lambda row: row.peak_rss_bytes,
    "parent_id": lambda row: row.parent_id,
    "group_id": lambda row: row.group_id,
    "concurrency_key": lambda row: row.concurrency_key,
    "unique_key": lambda row: row.unique_key,
    "job_params": lambda row: row.params.decode(),
    "result": lambda row: None if row.result is None else row.result.decode(),
    "error_type": lambda row: None if row.error is None else _decode_error(row.error).type,
    "error_message": lambda row: None if row.error is None else _decode_error(row.error).message,
}


def _csv_rows(page: Sequence[Execution]) -> bytes:
    return csv_text.lines([column(row) for column in COLUMNS.values()] for row in page).encode()


def _json(row: Execution) -> bytes:
    record: ExportRecord = export_record(row)
    return _encode(record)


FORMATS: dict[str, Format] = {
    "csv": Format(content_type="text/csv; charset=utf-8", head=csv_text.lines([COLUMNS]).encode(), write=_csv_rows),
    "json": Format(
        content_type="application/json",
        head=b"[\n",
        tail=b"\n]\n",
        write=lambda page: b",\n".join(map(_json, page)),
        between=b",\n",
    ),
    "jsonl": Format(content_type="application/jsonl", write=lambda page: b"".join(_json(row) + b"\n" for row in page)),
}
