"""Saved views: the query of a page, by a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select, update

from schedule_zero.errors import Conflict, NotFound, ScheduleZeroError, WrongState
from schedule_zero.model import Event, SavedView
from schedule_zero.rules.change_log import ChangeVerb
from schedule_zero.store import tables
from schedule_zero.store.changes import Filter, record
from schedule_zero.store.changes import find as find_changes
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
        elif (full := _full(tx, arg.page)) is not None:
            answers.append(full)
            continue
        else:
            tx.execute(insert(tables.saved_views).values(values))
        _tell_saved(tx, n, arg)
        answers.append(arg)
    return answers


def _full(tx: Tx, page: str) -> Conflict | None:
    if tx.execute(select(func.count()).where(V.page == page)).scalar_one() < MAX_VIEWS:
        return None
    return Conflict(f"a page keeps at most {MAX_VIEWS} views: delete some of them first")


def _tell_saved(tx: Tx, n: int, view: SavedView) -> None:
    tx.emit(Event("view.saved", view.id, {"page": view.page, "name": view.name, "by": view.by}))
    record(tx, tx.actor(n), ChangeVerb.VIEW_SAVED, view.id, after=_said(view))


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


def restore(tx: Tx, args: list[SavedView]) -> list[SavedView | ScheduleZeroError]:
    """Keep deleted ones again, by their ids, as the change log has them; nothing else of ``args`` but ``by`` and
    ``created_us`` is looked at. ``NotFound``, ``WrongState`` (it is there), ``Conflict`` (another has its name now, or
    there are too many). Emits ``view.saved``.
    """
    answers: list[SavedView | ScheduleZeroError] = []
    for n, arg in enumerate(args):
        if tx.execute(select(V.id).where(V.id == arg.id)).first() is not None:
            answers.append(WrongState(f"saved view {arg.id!r} is not deleted"))
            continue
        deleted = find_changes(tx.conn, Filter(subject=arg.id, verb=ChangeVerb.VIEW_DELETED.value, limit=1)).rows
        said = msgspec.json.decode(deleted[0].before or b"{}", type=dict[str, Any]) if deleted else {}
        # (One of a very long query is not all in the log.)
        if not said.keys() >= {"page", "name", "query"}:
            answers.append(NotFound(f"there is no saved view {arg.id!r}", id=arg.id))
            continue
        view = msgspec.structs.replace(arg, page=said["page"], name=said["name"], query=said["query"])
        if tx.execute(select(V.id).where(V.page == view.page, V.name == view.name)).first() is not None:
            answers.append(Conflict(f"another view is called {view.name!r} meanwhile: delete or keep that one"))
            continue
        if (full := _full(tx, view.page)) is not None:
            answers.append(full)
            continue
        tx.execute(insert(tables.saved_views).values({name: getattr(view, name) for name in _FIELDS}))
        _tell_saved(tx, n, view)
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
