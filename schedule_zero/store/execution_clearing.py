"""Deleting executions that are over, a step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from sqlalchemy import bindparam, select

from schedule_zero.rules.change_log import Actor
from schedule_zero.store import tables
from schedule_zero.store.belongings import FIELDS, IS_OVER, Doomed, forget
from schedule_zero.store.changes import record_deed
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from schedule_zero.store.store import Store

E = tables.executions.c
_WINDOW = Query(
    select(E.created_us, E.stored_us, *(E[name] for name in FIELDS))
    .where(E.seq > bindparam("above"))
    .order_by(E.seq)
    .limit(bindparam("most"))
)
_STATE = 2 + FIELDS.index("state")


class Clear(Struct):
    """One step: of ``limit`` rows after ``after``, oldest first, delete the terminal ones stored before a time."""

    # None: whenever they were stored.
    before_us: int | None = None
    after: int = 0
    limit: int = 1000


class Cleared(Struct):
    deleted: int
    # Where the next step begins; None: that was the last.
    after: int | None


def clear(tx: Tx, args: list[Clear]) -> list[Cleared]:
    """One step of deleting terminal executions, their attempts and their logs. See ``clear_all``."""
    answers = [_clear_step(tx, arg) for arg in args]
    for n, answer in enumerate(answers):
        record_deed(tx, tx.actor(n), answer.deleted)
    return answers


def _clear_step(tx: Tx, arg: Clear) -> Cleared:
    window = _WINDOW.rows(tx.conn, above=arg.after, most=arg.limit)
    if not window:
        return Cleared(0, None)
    wanted = [
        Doomed(*row[2:])
        for row in window
        if row[_STATE] in IS_OVER and (arg.before_us is None or (row[1] is not None and row[1] < arg.before_us))
    ]
    deleted = forget(tx, wanted)
    # Nothing is stored before it is created: where all of a step is too young, so is all that follows.
    young = arg.before_us is not None and min(row[0] for row in window) >= arg.before_us
    return Cleared(deleted, None if len(window) < arg.limit or young else window[-1][2])


async def clear_all(store: Store, before_us: int | None = None, *, by: Actor | None = None) -> int:
    """Delete terminal executions stored before ``before_us`` (None: all), in steps so that nobody waits; how many."""
    deleted = 0
    after: int | None = 0
    while after is not None:
        step = await store.write(clear, Clear(before_us, after), by=by)
        deleted += step.deleted
        after = step.after
    return deleted
