"""Executions that were not started in time (``queue_timeout_s``): their end, a step at a time.

Only what waits is ended here. A start that comes too late is refused by ``executions.start`` itself, however late this
is.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from sqlalchemy import bindparam, select, text

from schedule_zero.clock import rfc3339
from schedule_zero.model import Event, JobError, State
from schedule_zero.store import groups, tables
from schedule_zero.store.statements import Query, bulk_update
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

E = tables.executions.c
_NEXT = Query(select(E.start_by_us).where(text(tables.IS_EXPIRING)).order_by(E.start_by_us).limit(1))
_EXPIRED = Query(
    select(E.id, E.handler_id, E.job_method, E.schedule_id, E.start_by_us, E.group_id)
    .where(text(tables.IS_EXPIRING), E.start_by_us <= bindparam("now"))
    .order_by(E.start_by_us)
    .limit(bindparam("most"))
)
_MISFIRE = bulk_update(
    tables.executions,
    ("id",),
    ("finished_us", "error"),
    also="state = 'misfired', stored_us = v.column2",
    where=f"executions.{tables.IS_EXPIRING}",
)


class Expire(Struct):
    now_us: int
    limit: int = 1000


def next_expiry_us(conn: Connection) -> int | None:
    """The smallest ``start_by_us`` of what waits."""
    row = _NEXT.one(conn)
    return None if row is None else row[0]


def misfire_expired(tx: Tx, args: list[Expire]) -> list[list[str]]:
    """What waits and was to be started by now is ``misfired``; those ids. Emits ``execution.finished``."""
    answers: list[list[str]] = []
    for arg in args:
        found = _EXPIRED.rows(tx.conn, now=arg.now_us, most=arg.limit)
        tx.bulk(_MISFIRE, [(row[0], tx.now_us, _error(row[4])) for row in found])
        for id_, handler_id, job_method, schedule_id, *_ in found:
            data: dict[str, Any] = {"handler_id": handler_id, "job_method": job_method, "state": State.MISFIRED}
            if schedule_id is not None:
                data["schedule_id"] = schedule_id
            tx.emit(Event("execution.finished", id_, data))
        for handler_id, n in Counter(row[1] for row in found).items():
            tx.count(handler_id, State.MISFIRED.value, n)
        groups.settle(tx, [(row[5], State.MISFIRED) for row in found if row[5] is not None])
        answers.append([row[0] for row in found])
    return answers


def _error(start_by_us: int) -> str:
    message = f"it was to be started by {rfc3339(start_by_us)}, and no node had taken it"
    return msgspec.json.encode(JobError(type="QueueTimeout", message=message)).decode()
