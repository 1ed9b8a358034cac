"""Schedules as people look through them: by text and state, in several orders, and all that a filter finds.

A text matches the id and ``handler.method``: anywhere in them, or as a whole where it has ``*`` or ``?``. It looks at
every schedule (0.3 ms per thousand); the order always walks along an index.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, bindparam, func, select, text, tuple_

from schedule_zero.errors import InvalidField
from schedule_zero.model import Schedule, ScheduleState
from schedule_zero.store import schedule_rows as rows
from schedule_zero.store import tables
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import Page

if TYPE_CHECKING:
    from sqlalchemy import Connection

_S = tables.schedules.c
_JOB = _S.handler_id + "." + _S.job_method


class Order(StrEnum):
    """In which order schedules are listed."""

    ID = "id"
    # The next to fire first; those without a next time are left out.
    NEXT = "next"
    # By handler, then by id.
    HANDLER = "handler"


class Wanted(Struct, frozen=True, kw_only=True):
    """Which schedules; None or empty means any."""

    text: str = ""
    handler_id: str | None = None
    state: ScheduleState | None = None


# What a page is sorted by; the cursor has these of its last row.
_KEYS: dict[Order, tuple[Any, ...]] = {
    Order.ID: (_S.id,),
    Order.NEXT: (_S.next_fire_us, _S.id),
    Order.HANDLER: (_S.handler_id, _S.id),
}


def find(
    conn: Connection, wanted: Wanted, *, order: Order = Order.ID, cursor: str | None = None, limit: int = 50
) -> Page[Schedule]:
    """A page. InvalidField: the cursor is none of this order."""
    values = _values(wanted)
    if cursor is not None:
        values |= {f"after{n}": value for n, value in enumerate(_parse_cursor(cursor, order))}
    query = _find_query(tuple(values), order)
    found = [rows.schedule(row) for row in query.rows(conn, **values, most=limit + 1)]
    if len(found) <= limit:
        return Page(found)
    last = found[limit - 1]
    place = {Order.ID: [last.id], Order.NEXT: [last.next_fire_us, last.id], Order.HANDLER: [last.handler_id, last.id]}
    return Page(found[:limit], urlsafe_b64encode(msgspec.json.encode(place[order])).decode().rstrip("="))


def counts(conn: Connection, wanted: Wanted) -> dict[ScheduleState, int]:
    """How many there are of each state, whatever state is wanted."""
    values = _values(msgspec.structs.replace(wanted, state=None))
    found = {ScheduleState(state): n for state, n in _count_query(tuple(values)).rows(conn, **values)}
    return {state: found.get(state, 0) for state in ScheduleState}


def ids(conn: Connection, wanted: Wanted, *, after: str = "", limit: int) -> list[str]:
    """The ids after another one, in order."""
    values = _values(wanted)
    return [row[0] for row in _ids_query(tuple(values)).rows(conn, **values, after=after, most=limit)]


def handlers(conn: Connection) -> list[str]:
    """The handlers of all schedules, in order: one step of the index each."""
    found: list[str] = []
    while row := _NEXT_HANDLER.one(conn, after=found[-1] if found else ""):
        found.append(row[0])
    return found


_NEXT_HANDLER = Query(select(_S.handler_id).where(_S.handler_id > bindparam("after")).order_by(_S.handler_id).limit(1))


def like_pattern(glob: str) -> str:
    r"""The LIKE pattern (with ``\\`` as its escape) of a text with ``*`` and ``?``, in lower case.

    Without these it may stand anywhere. Both databases go back for each ``%``, so that many of them in a row are one.
    """
    escaped = re.sub(r"([\\%_])", r"\\\1", glob.lower())
    if "*" not in escaped and "?" not in escaped:
        return f"%{escaped}%"
    return re.sub(r"\*+", "%", escaped).replace("?", "_")


def _values(wanted: Wanted) -> dict[str, Any]:
    given = {
        "text": like_pattern(wanted.text.strip()) if wanted.text.strip() else None,
        "handler": wanted.handler_id,
        "state": None if wanted.state is None else wanted.state.value,
    }
    return {name: value for name, value in given.items() if value is not None}


def _parse_cursor(cursor: str, order: Order) -> list[Any]:
    shape: Any = tuple[int, str] if order is Order.NEXT else tuple[str] if order is Order.ID else tuple[str, str]
    try:
        return list(msgspec.json.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=shape))
    except (ValueError, msgspec.DecodeError):
        raise InvalidField("the cursor is not one that a page in this order came with", pointer="/cursor") from None


_CONDITIONS: dict[str, ColumnElement[bool]] = {
    "text": func.lower(_S.id).like(bindparam("text"), escape="\\")
    | func.lower(_JOB).like(bindparam("text"), escape="\\"),
    "handler": _S.handler_id == bindparam("handler"),
    "state": _S.state == bindparam("state"),
}


def _conditions(given: tuple[str, ...]) -> list[ColumnElement[bool]]:
    return [_CONDITIONS[name] for name in given if name in _CONDITIONS]


@cache
def _find_query(given: tuple[str, ...], order: Order) -> Query:
    keys = _KEYS[order]
    query = select(*rows.COLUMNS).where(*_conditions(given))
    if order is Order.NEXT:
        query = query.where(text(tables.IS_DUE_ABLE), _S.next_fire_us.is_not(None))
    if "after0" in given:
        query = query.where(tuple_(*keys) > tuple_(*(bindparam(f"after{n}") for n in range(len(keys)))))
    return Query(query.order_by(*keys).limit(bindparam("most")))


@cache
def _count_query(given: tuple[str, ...]) -> Query:
    return Query(select(_S.state, func.count()).where(*_conditions(given)).group_by(_S.state))


@cache
def _ids_query(given: tuple[str, ...]) -> Query:
    query = select(_S.id).where(*_conditions(given), _S.id > bindparam("after"))
    return Query(query.order_by(_S.id).limit(bindparam("most")))
