"""When the server was there: one row for each life, so that an outage can be told from a fault.

A life begins in the very transaction that makes due what fires at a start: a start that is on record is a start whose
fires are owed. A server that was killed leaves no end; then it was there until about ``alive_us``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from sqlalchemy import bindparam, select

from schedule_zero.model import ServerRun
from schedule_zero.store import schedule_release, tables
from schedule_zero.store.statements import Query, bulk_insert, bulk_update
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

R = tables.server_runs.c
_FIELDS = ("epoch", "started_us", "alive_us", "stopped_us")
_BEGIN = bulk_insert(
    tables.server_runs,
    _FIELDS,
    "(epoch) DO UPDATE SET alive_us = excluded.alive_us, stopped_us = excluded.stopped_us",
)
_SEEN = bulk_update(tables.server_runs, ("epoch",), ("alive_us", "stopped_us"))
_BETWEEN = Query(
    select(*(R[name] for name in _FIELDS))
    .where(R.started_us <= bindparam("until"), R.started_us > bindparam("after"))
    .order_by(R.started_us.desc(), R.epoch.desc())
    .limit(bindparam("most"))
)
_BEFORE = Query(
    select(*(R[name] for name in _FIELDS))
    .where(R.started_us <= bindparam("at"))
    .order_by(R.started_us.desc(), R.epoch.desc())
    .limit(1)
)
_FROM = Query(select(*(R[name] for name in _FIELDS)).where(R.epoch >= bindparam("first")).order_by(R.epoch).limit(2))


class Begin(Struct, kw_only=True):
    """A life that begins, and (id, generation, moment) of the schedules that are due because of it."""

    run: ServerRun
    due: list[tuple[str, int, int]]


def begin(tx: Tx, args: list[Begin]) -> list[None]:
    """Put a life on record, and make due what fires at a start. Emits ``schedule.rearmed``."""
    for arg in args:
        tx.bulk(_BEGIN, [_values(arg.run)])
    schedule_release.arm(tx, [arg.due for arg in args])
    return [None] * len(args)


def seen(tx: Tx, args: list[ServerRun]) -> list[None]:
    """This server is there at ``alive_us``, or ends at ``stopped_us``. Nothing is written if it has not begun."""
    newest = {run.epoch: run for run in args}
    tx.bulk(_SEEN, [(run.epoch, run.alive_us, run.stopped_us) for run in newest.values()])
    return [None] * len(args)


def between(conn: Connection, from_us: int, to_us: int, limit: int = 10_000) -> list[ServerRun]:
    """The lives that began in a time, and the one before, by their beginnings; the newest ``limit`` of them.

    (While the clock was set back, that is not the order in which they were.)
    """
    rows = _BETWEEN.rows(conn, until=to_us, after=from_us, most=limit)
    if len(rows) < limit and from_us <= to_us:
        rows = [*rows, *_BEFORE.rows(conn, at=from_us)]
    return [_run(row) for row in reversed(rows)]


def around(conn: Connection, us: int) -> tuple[ServerRun | None, ServerRun | None]:
    """The last life that had begun by a moment, and the one after it."""
    before = _BEFORE.one(conn, at=us)
    if before is None:
        return None, None
    last, *later = (_run(row) for row in _FROM.rows(conn, first=before[0]))
    return last, later[0] if later else None


def _run(row: Sequence[Any]) -> ServerRun:
    return ServerRun(**dict(zip(_FIELDS, row, strict=True)))


def _values(run: ServerRun) -> tuple[int, int, int, int | None]:
    return (run.epoch, run.started_us, run.alive_us, run.stopped_us)
