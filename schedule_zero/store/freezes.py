"""The times in which nothing fired: one row each, the open one without an end. Few, and kept for the explanations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from sqlalchemy import insert, select, update

from schedule_zero.clock import rfc3339
from schedule_zero.errors import ScheduleZeroError, WrongState
from schedule_zero.model import CatchUp, Event, Freeze
from schedule_zero.rules.change_log import ChangeVerb
from schedule_zero.store import tables
from schedule_zero.store.changes import record
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

Z = tables.freezes.c
_FIELDS = ("id", "from_us", "to_us", "note", "by", "catch_up", "thawed_by")
_ALL = Query(select(*(Z[name] for name in _FIELDS)).order_by(Z.from_us, Z.id))


class Thaw(Struct, kw_only=True):
    """End the freeze that is in force."""

    now_us: int
    catch_up: CatchUp | None
    by: str


def freeze(tx: Tx, args: list[Freeze]) -> list[Freeze | ScheduleZeroError]:
    """Begin a freeze. ``WrongState`` if there is one. Emits ``schedules.frozen``."""
    answers: list[Freeze | ScheduleZeroError] = []
    for n, arg in enumerate(args):
        in_force = _in_force(tx, arg.from_us)
        if in_force:
            answers.append(WrongState("all schedules are frozen already", id=in_force[-1].id))
            continue
        tx.execute(insert(tables.freezes).values({name: getattr(arg, name) for name in _FIELDS}))
        tx.emit(Event("schedules.frozen", arg.id, {"by": arg.by, "note": arg.note, "to_us": arg.to_us}))
        record(tx, tx.actor(n), ChangeVerb.SCHEDULES_FROZEN, arg.id, after=_said(arg), note=arg.note)
        answers.append(arg)
    return answers


def thaw(tx: Tx, args: list[Thaw]) -> list[Freeze | ScheduleZeroError]:
    """End it now. ``WrongState`` if there is none. Emits ``schedules.thawed``."""
    answers: list[Freeze | ScheduleZeroError] = []
    for n, arg in enumerate(args):
        in_force = _in_force(tx, arg.now_us)
        if not in_force:
            answers.append(WrongState("no schedule is frozen"))
            continue
        # More than one: the clock was set back to before the end of an earlier one.
        for row in in_force:
            before = _said(row)
            # It can't end before it began, and is over all the same.
            row.to_us, row.catch_up, row.thawed_by = max(arg.now_us, row.from_us), arg.catch_up, arg.by
            ended = {"to_us": row.to_us, "catch_up": row.catch_up, "thawed_by": row.thawed_by}
            tx.execute(update(tables.freezes).where(Z.id == row.id).values(ended))
            tx.emit(Event("schedules.thawed", row.id, {"to_us": row.to_us, "catch_up": row.catch_up, "by": arg.by}))
            record(tx, tx.actor(n), ChangeVerb.SCHEDULES_THAWED, row.id, before=before, after=_said(row))
        answers.append(in_force[-1])
    return answers


def all_freezes(conn: Connection) -> list[Freeze]:
    """Every one, the oldest first."""
    return [_freeze(row) for row in _ALL.rows(conn)]


def _in_force(tx: Tx, now_us: int) -> list[Freeze]:
    return [freeze for freeze in all_freezes(tx.conn) if freeze.in_force(now_us)]


def _said(row: Freeze) -> dict[str, Any]:
    return {"from": rfc3339(row.from_us), "to": rfc3339(row.to_us), "catch_up": row.catch_up, "by": row.by}


def _freeze(row: Sequence[Any]) -> Freeze:
    values = dict(zip(_FIELDS, row, strict=True))
    values["catch_up"] = None if values["catch_up"] is None else CatchUp(values["catch_up"])
    return Freeze(**values)
