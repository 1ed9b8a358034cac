"""Saved views: the query of a page, by a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, func, insert, select, update

from schedule_zero.errors import Conflict, NotFound, ScheduleZeroError
from schedule_zero.model import Event, SavedView
from schedule_zero.rules.change_log import ChangeVerb
from schedule_zero.store import tables
from schedule_zero.store.changes import record
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

V = tables.saved_views.c
_FIELDS = ("id", "page", "name", "query", "created_us", "by")
_COLUMNS = tuple(V[name] for name in _FIELDS)
_OF_PAGE = Query(select(*_COLUMNS).where(V.page == bindparam("page")).order_by(V.name))
_ALL = Query(select(*_COLUMNS).order_by(V.page, V.name))
# Of one page: they are shown all at once.
MAX_VIEWS = 200


def save(tx: Tx, args: list[SavedView]) -> list[SavedView | ScheduleZeroError]:
    """Keep them; one that has the name on that page gets the new query and keeps its id. Emits ``view.saved``."""
    answers: list[SavedView | ScheduleZeroError] = []
    for n, arg in enumerate(args):
        query = select(V.id).where(V.page == arg.page, V.name == arg.name)
        known = tx.execute(query).scalar_one_or_none()
        values: dict[str, Any] = {name: getattr(arg, name) for name in _FIELDS}
        if known is not None:
            arg.id = values["id"] = known
            tx.execute(update(tables.saved_views).where(V.id == known).values(values))
        elif tx.execute(select(func.count()).where(V.page == arg.page)).scalar_one() >= MAX_VIEWS:
            answers.append(Conflict(f"a page keeps at most {MAX_VIEWS} views: delete some of them first"))
            continue
        else:
            tx.execute(insert(tables.saved_views).values(values))
        tx.emit(Event("view.saved", arg.id, {"page": arg.page, "name": arg.name, "by": arg.by}))
        record(tx, tx.actor(n), ChangeVerb.VIEW_SAVED, arg.id, after=_said(arg))
        answers.append(arg)
    return answers


def remove(tx: Tx, args: list[str]) -> list[SavedView | ScheduleZeroError]:
    """Forget them. ``NotFound``. Emits ``view.deleted``."""
    answers: list[SavedView | ScheduleZeroError] = []
    for n, id_ in enumerate(args):
        row = tx.execute(select(*_COLUMNS).where(V.id == id_)).one_or_none()
        if row is None:
            answers.append(NotFound(f"there is no saved view {id_!r}", id=id_))
            continue
        view = _view(row)
        tx.execute(delete(tables.saved_views).where(V.id == id_))
        tx.emit(Event("view.deleted", id_, {"page": view.page, "name": view.name}))
        record(tx, tx.actor(n), ChangeVerb.VIEW_DELETED, id_, before=_said(view))
        answers.append(view)
    return answers


def _said(view: SavedView) -> dict[str, Any]:
    """For the change log."""
    return {"page": view.page, "name": view.name, "query": view.query}


def find(conn: Connection, page: str | None = None) -> list[SavedView]:
    """Those of a page, or all, by name."""
    return [_view(row) for row in (_ALL.rows(conn) if page is None else _OF_PAGE.rows(conn, page=page))]


def _view(row: Sequence[Any]) -> SavedView:
    return SavedView(**dict(zip(_FIELDS, row, strict=True)))
