"""Executions between rows and structs: read from columns, written column by column.

A batch is turned sideways (``zip(*rows)``) so that each column is converted in one comprehension, and columns that
are empty for the whole batch are left out of the statement: a ``None`` costs sqlite3 half a microsecond (it looks for
an adapter).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from operator import attrgetter
from typing import Any, TypeVar

from schedule_zero.model import Attempt, AttemptOutcome, Execution, Origin, State
from schedule_zero.store import tables
from schedule_zero.store.statements import Bulk, bulk_insert
from schedule_zero.store.tx import Tx

# Both attribute and column names.
FIELDS = (
    "id", "handler_id", "job_method", "state", "priority", "origin", "created_us", "params", "schedule_id",
    "nominal_us", "not_before_us", "attempt", "token", "node_id", "lost_count", "cancel_requested",
    "dispatched_us", "started_us", "finished_us", "stored_us", "parent_id", "idempotency_key", "options",
    "result", "error", "group_id", "lane", "concurrency_key", "rate_key", "sticky_key", "unique_key", "start_by_us",
    "cpu_us", "peak_rss_bytes", "dead_letter", "result_bytes", "shard", "progress",
)  # fmt: skip
COLUMNS = tuple(tables.executions.c[name] for name in FIELDS)

ATTEMPT_FIELDS = (
    "execution_id", "attempt", "token", "node_id", "outcome", "dispatched_us", "started_us", "finished_us", "error",
    "cpu_us", "peak_rss_bytes", "progress",
)  # fmt: skip
ATTEMPT_COLUMNS = tuple(tables.attempts.c[name] for name in ATTEMPT_FIELDS)

_fields_of = attrgetter(*FIELDS)
E = TypeVar("E", bound=StrEnum)


class _Words(dict[str, E]):
    """The members of an enumeration by the word that is stored: as ``E(word)``, in a tenth of the time."""

    def __init__(self, members: type[E]) -> None:
        super().__init__((member.value, member) for member in members)
        self._members = members

    def __missing__(self, word: str) -> E:
        # A ValueError: no server wrote such a word (see failures.is_unreadable).
        return self._members(word)


_STATES = _Words(State)
_ORIGINS = _Words(Origin)
_OUTCOMES = _Words(AttemptOutcome)


def _decoded(column: Sequence[bytes]) -> Sequence[str]:
    return [document.decode() for document in column]


def _decoded_or_none(column: Sequence[bytes | None]) -> Sequence[str | None]:
    return [None if document is None else document.decode() for document in column]


def _words(column: Sequence[State | Origin]) -> Sequence[str]:
    # Plain str: sqlite3 would look for an adapter of the enum.
    first = column[0]
    if column.count(first) == len(column):
        return [first.value] * len(column)
    return [word.value for word in column]


_CONVERT: dict[str, Callable[[Any], Sequence[Any]]] = {
    "state": _words,
    "origin": _words,
    "params": _decoded,
    "options": _decoded_or_none,
    "result": _decoded_or_none,
    "error": _decoded_or_none,
    "progress": _decoded_or_none,
    "cancel_requested": lambda column: [int(flag) for flag in column],
}
# What the database puts where a column is left out.
_LEFT_OUT: dict[str, Any] = {
    name: 0 if name in ("attempt", "token", "lost_count", "cancel_requested") else None for name in FIELDS[8:]
}
_inserts: dict[tuple[str, ...], Bulk] = {}


def insert_rows(tx: Tx, rows: Sequence[Execution]) -> None:
    """INSERT executions as they are."""
    if not rows:
        return
    size = len(rows)
    names: list[str] = []
    columns: list[Sequence[Any]] = []
    for name, column in zip(FIELDS, zip(*map(_fields_of, rows), strict=True), strict=True):
        if name in _LEFT_OUT and column.count(_LEFT_OUT[name]) == size:
            continue
        convert = _CONVERT.get(name)
        names.append(name)
        columns.append(convert(column) if convert else column)
    shape = tuple(names)
    statement = _inserts.get(shape)
    if statement is None:
        statement = _inserts[shape] = bulk_insert(tables.executions, shape)
    tx.bulk(statement, list(zip(*columns, strict=True)))


def execution(row: Sequence[Any]) -> Execution:
    """From a row of ``COLUMNS``."""
    return Execution(
        id=row[0],
        handler_id=row[1],
        job_method=row[2],
        state=_STATES[row[3]],
        priority=row[4],
        origin=_ORIGINS[row[5]],
        created_us=row[6],
        params=row[7].encode(),
        schedule_id=row[8],
        nominal_us=row[9],
        not_before_us=row[10],
        attempt=row[11],
        token=row[12],
        node_id=row[13],
        lost_count=row[14],
        cancel_requested=bool(row[15]),
        dispatched_us=row[16],
        started_us=row[17],
        finished_us=row[18],
        stored_us=row[19],
        parent_id=row[20],
        idempotency_key=row[21],
        options=document(row[22]),
        result=document(row[23]),
        error=document(row[24]),
        group_id=row[25],
        lane=row[26],
        concurrency_key=row[27],
        rate_key=row[28],
        sticky_key=row[29],
        unique_key=row[30],
        start_by_us=row[31],
        cpu_us=row[32],
        peak_rss_bytes=row[33],
        dead_letter=row[34],
        result_bytes=row[35],
        shard=row[36],
        progress=document(row[37]),
    )


def attempt(row: Sequence[Any]) -> Attempt:
    """From a row of ``ATTEMPT_COLUMNS``."""
    return Attempt(
        execution_id=row[0],
        attempt=row[1],
        token=row[2],
        node_id=row[3],
        outcome=_OUTCOMES[row[4]],
        dispatched_us=row[5],
        started_us=row[6],
        finished_us=row[7],
        error=document(row[8]),
        cpu_us=row[9],
        peak_rss_bytes=row[10],
        progress=document(row[11]),
    )


def document(text: str | None) -> bytes | None:
    """A stored JSON document as the bytes it came as."""
    return None if text is None else text.encode()


def text(document: bytes | None) -> str | None:
    """A JSON document as it is stored."""
    return None if document is None else document.decode()
