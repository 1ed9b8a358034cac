"""Handlers in numbers: what was created and came to its end, by the hour; and what waits, as far as one looks.

The hours are counted as things happen. What waits is counted along the index of what is pending, and no further than
asked for: a page must not cost more because a million wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sqlalchemy import Text, bindparam, func, literal_column, select, text

from schedule_zero.model import LaneKey
from schedule_zero.store import tables
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import HOUR_US

if TYPE_CHECKING:
    from sqlalchemy import Connection

C, E = tables.execution_counts.c, tables.executions.c
_SUM = Query(
    select(C.handler_id, C.state, func.sum(C.n))
    .where(C.bucket_us >= bindparam("since"))
    .group_by(C.handler_id, C.state)
)
_PENDING = (
    select(E.job_method, literal_column(tables.LANE, Text).label("in_lane"))
    .where(text(tables.IS_PENDING), E.handler_id == bindparam("wanted"))
    .limit(bindparam("most"))
    .subquery("pending")
)
_BY_LANE = Query(
    select(_PENDING.c.job_method, _PENDING.c.in_lane, func.count()).group_by(_PENDING.c.job_method, _PENDING.c.in_lane)
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


def pending(conn: Connection, handler_id: str, most: int) -> dict[LaneKey, int] | None:
    """How many executions of a handler are pending in each lane; None: they are ``most`` or more."""
    rows = _BY_LANE.rows(conn, wanted=handler_id, most=most)
    found: dict[LaneKey, int] = {(handler_id, row[0], row[1] or None): row[2] for row in rows}
    return found if sum(found.values()) < most else None
