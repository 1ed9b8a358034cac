"""What somebody may mean who types a part of a name: few rows, however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, func, select

from schedule_zero.store import tables
from schedule_zero.store.statements import Query

if TYPE_CHECKING:
    from sqlalchemy import Connection

_S, _E = tables.schedules.c, tables.executions.c
# Walks the ids alone, in the table's key: ten thousand of them are a few milliseconds.
_SCHEDULES = Query(
    select(_S.id)
    .where(func.lower(_S.id).like(bindparam("pattern"), escape="\\"))
    .order_by(_S.id)
    .limit(bindparam("most"))
)
_EXECUTIONS = Query(
    select(_E.id, _E.handler_id, _E.job_method, _E.state)
    .where(_E.id >= bindparam("low"), _E.id < bindparam("high"))
    .order_by(_E.id)
    .limit(bindparam("most"))
)


def schedules_like(conn: Connection, text: str, *, limit: int) -> list[str]:
    """The first ids of schedules that have ``text`` in them, in whatever case."""
    escaped = text.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return [row[0] for row in _SCHEDULES.rows(conn, pattern=f"%{escaped}%", most=limit)]


def executions_from(conn: Connection, prefix: str, *, limit: int) -> list[tuple[str, str, str, str]]:
    """(id, handler, method, state) of the first executions whose ids begin with ``prefix``."""
    return [tuple(row) for row in _EXECUTIONS.rows(conn, low=prefix, high=prefix + "~", most=limit)]
