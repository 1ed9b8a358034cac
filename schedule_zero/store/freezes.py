"""The times in which nothing fired: one row each, the open one without an end. Few, and kept for the explanations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from sqlalchemy import insert, select, update

from schedule_zero.errors import ScheduleZeroError, WrongState
from schedule_zero.model import CatchUp, Event, Freeze
from schedule_zero.store import tables
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

Z = tables.freezes.c
_FIELDS = ("id", "from_us", "to_us", "note", "by", "catch_up")
_ALL = Query(select(*(Z[name] for name in _FIELDS)).order_by(Z.from_us, Z.id))
_LATEST = select(*(Z[name] for name in _FIELDS)).order_by(Z.from_us.desc(), Z.id.desc()).limit(1)


class Thaw(Struct, kw_only=True):
    """End the freeze that is in force."""

    now_us: int
    catch_up: CatchUp | None


def freeze(tx: Tx, args: list[Freeze]) -> list[Freeze | ScheduleZeroError]:
    """Begin a freeze. ``WrongState`` if there is one. Emits ``schedules.frozen``."""
    answers: list[Freeze | ScheduleZeroError] = []
    for arg in args:
        last = _latest(tx)
        if last is not None and (last.to_us is None or last.to_us > arg.from_us):
            answers.append(WrongState("all schedules are frozen already", id=last.id))
            continue
        tx.execute(insert(tables.freezes).values({name: getattr(arg, name) for name in _FIELDS}))
        tx.emit(Event("schedules.frozen", arg.id, {"by": arg.by, "note": arg.note, "to_us": arg.to_us}))
        answers.append(arg)
    return answers


def thaw(tx: Tx, args: list[Thaw]) -> list[Freeze | ScheduleZeroError]:
    """End it now. ``WrongState`` if there is none. Emits ``schedules.thawed``."""
    answers: list[Freeze | ScheduleZeroError] = []
    for arg in args:
        last = _latest(tx)
        if last is None or (last.to_us is not None and last.to_us <= arg.now_us):
            answers.append(WrongState("no schedule is frozen"))
            continue
        # A clock that was set back must not end it before it began.
        last.to_us = max(arg.now_us, last.from_us)
        last.catch_up = arg.catch_up
        tx.execute(update(tables.freezes).where(Z.id == last.id).values(to_us=last.to_us, catch_up=last.catch_up))
        tx.emit(Event("schedules.thawed", last.id, {"to_us": last.to_us, "catch_up": last.catch_up}))
        answers.append(last)
    return answers


def all_freezes(conn: Connection) -> list[Freeze]:
    """Every one, the oldest first."""
    return [_freeze(row) for row in _ALL.rows(conn)]


def _latest(tx: Tx) -> Freeze | None:
    row = tx.execute(_LATEST).first()
    return None if row is None else _freeze(tuple(row))


def _freeze(row: Sequence[Any]) -> Freeze:
    values = dict(zip(_FIELDS, row, strict=True))
    values["catch_up"] = None if values["catch_up"] is None else CatchUp(values["catch_up"])
    return Freeze(**values)
