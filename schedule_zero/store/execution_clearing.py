"""Deleting executions that are over, a step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from sqlalchemy import delete, func, select, text

from schedule_zero.store import tables
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from schedule_zero.store.store import Store


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
    return [_clear_step(tx, arg) for arg in args]


def _clear_step(tx: Tx, arg: Clear) -> Cleared:
    e, a = tables.executions.c, tables.attempts.c
    window = select(e.seq, e.created_us).where(e.seq > arg.after).order_by(e.seq).limit(arg.limit).subquery()
    last, oldest, looked = tx.execute(
        select(func.max(window.c.seq), func.min(window.c.created_us), func.count(window.c.seq))
    ).one()
    if not looked:
        return Cleared(0, None)
    doomed = [e.seq > arg.after, e.seq <= last, text(tables.IS_TERMINAL)]
    if arg.before_us is not None:
        doomed.append(e.stored_us < arg.before_us)
    run_us = func.coalesce(func.sum(e.finished_us - e.started_us), 0)
    for handler_id, state, n, ran_us in tx.execute(
        select(e.handler_id, e.state, func.count(), run_us).where(*doomed).group_by(e.handler_id, e.state)
    ).all():
        tx.count_cleared(handler_id, state, n, int(ran_us))
        tx.count_cleared(handler_id, "created", n)
    for aside in (tables.log_chunks, tables.result_chunks):
        tx.execute(delete(aside).where(aside.c.execution_id.in_(select(e.id).where(*doomed))))
    tx.execute(delete(tables.attempts).where(a.execution_id.in_(select(e.id).where(*doomed))))
    deleted = tx.execute(delete(tables.executions).where(*doomed)).rowcount
    # Nothing is stored before it is created: where all of a step is too young, so is all that follows.
    over = looked < arg.limit or (arg.before_us is not None and oldest >= arg.before_us)
    return Cleared(deleted, None if over else last)


async def clear_all(store: Store, before_us: int | None = None) -> int:
    """Delete terminal executions stored before ``before_us`` (None: all), in steps so that nobody waits; how many."""
    deleted = 0
    after: int | None = 0
    while after is not None:
        step = await store.write(clear, Clear(before_us, after))
        deleted += step.deleted
        after = step.after
    return deleted
