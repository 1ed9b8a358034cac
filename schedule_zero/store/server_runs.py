"""When the server was there: one row for each life, so that an outage can be told from a fault.

A server that was killed leaves no end; then it was there until about ``alive_us``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select

from schedule_zero.model import ServerRun
from schedule_zero.store import tables
from schedule_zero.store.statements import Query, bulk_insert
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

R = tables.server_runs.c
_FIELDS = ("epoch", "started_us", "alive_us", "stopped_us")
_SEEN = bulk_insert(
    tables.server_runs,
    _FIELDS,
    "(epoch) DO UPDATE SET alive_us = excluded.alive_us, stopped_us = excluded.stopped_us",
)
_BETWEEN = Query(
    select(*(R[name] for name in _FIELDS))
    .where(R.started_us <= bindparam("until"), R.epoch >= bindparam("first"))
    .order_by(R.epoch)
)
_BEFORE = Query(select(R.epoch).where(R.started_us <= bindparam("at")).order_by(R.epoch.desc()).limit(1))


def seen(tx: Tx, args: list[ServerRun]) -> list[None]:
    """This server is there at ``alive_us``, or ends at ``stopped_us``."""
    newest = {run.epoch: run for run in args}
    tx.bulk(_SEEN, [(run.epoch, run.started_us, run.alive_us, run.stopped_us) for run in newest.values()])
    return [None] * len(args)


def between(conn: Connection, from_us: int, to_us: int) -> list[ServerRun]:
    """The lives that reach into a time, and the one before, in order."""
    before = _BEFORE.one(conn, at=from_us)
    first = 0 if before is None else before[0]
    return [ServerRun(**dict(zip(_FIELDS, row, strict=True))) for row in _BETWEEN.rows(conn, until=to_us, first=first)]
