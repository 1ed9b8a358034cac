"""How many executions wait in single lanes, counted as far as somebody wants to know it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sqlalchemy import Text, bindparam, func, literal_column, select, text

from schedule_zero.model import LaneKey
from schedule_zero.store import tables
from schedule_zero.store.statements import Query

if TYPE_CHECKING:
    from sqlalchemy import Connection

E = tables.executions.c
_LANE = literal_column(tables.LANE, Text)
_FIRST = (
    select(E.id)
    .where(
        text(tables.IS_PENDING),
        E.handler_id == bindparam("handler"),
        E.job_method == bindparam("method"),
        bindparam("lane") == _LANE,
    )
    .limit(bindparam("most"))
    .subquery()
)
_SIZE = Query(select(func.count()).select_from(_FIRST))


def pending_up_to(conn: Connection, lanes: Iterable[LaneKey], most: int) -> dict[LaneKey, int]:
    """Of each lane how many are pending; ``most``: so many at least."""
    found = {}
    for lane in lanes:
        row = _SIZE.one(conn, handler=lane[0], method=lane[1], lane=lane[2] or "", most=most)
        found[lane] = 0 if row is None else int(row[0])
    return found
