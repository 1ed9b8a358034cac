"""How many executions were created and came to their end, by the hour: read from what is counted as it happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, func, select

from schedule_zero.store import tables
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import HOUR_US

if TYPE_CHECKING:
    from sqlalchemy import Connection

C = tables.execution_counts.c
_SUM = Query(
    select(C.handler_id, C.state, func.sum(C.n))
    .where(C.bucket_us >= bindparam("since"))
    .group_by(C.handler_id, C.state)
)


def first_hour_us(now_us: int, hours: int) -> int:
    """When the first of the newest ``hours`` hours began; the last of them is the one that is not over."""
    return now_us - now_us % HOUR_US - (hours - 1) * HOUR_US


def by_handler(conn: Connection, since_us: int) -> dict[str, Mapping[str, int]]:
    """Handler → terminal state, or ``created`` → how many, in the hours that began at ``since_us`` or later."""
    found: dict[str, dict[str, int]] = {}
    for handler_id, state, n in _SUM.rows(conn, since=since_us):
        if n:
            found.setdefault(handler_id, {})[state] = int(n)
    return dict(found)
