"""Cancels many executions: by their ids, or all that a filter finds, a step at a time so that nobody waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from schedule_zero.model import State
from schedule_zero.rules.change_log import Actor
from schedule_zero.rules.states import TERMINAL
from schedule_zero.store import Store
from schedule_zero.store import executions as store_executions
from schedule_zero.store.executions import CancelAnswer, CancelOutcome, Filter

if TYPE_CHECKING:
    from schedule_zero.dispatch.dispatcher import Dispatcher

STEP = 500
# Found by a filter in one request; the answer's cursor leads on.
MOST = 10_000
OPEN = [state for state in State if state not in TERMINAL]


class CancelledMany(Struct, kw_only=True):
    """How many there were, and what became of them."""

    matched: int = 0
    # They waited, and are over.
    cancelled: int = 0
    # They run: their nodes are told, and confirm.
    requested: int = 0
    # They were over, or (with states that leave ``running`` out) began meanwhile, or don't exist.
    left: int = 0
    next_cursor: str | None = None


async def cancel_found(
    store: Store, dispatcher: Dispatcher, wanted: Filter, *, now_us: int, dry_run: bool, by: Actor
) -> CancelledMany:
    """Cancel what ``wanted`` finds of what is open now; with ``dry_run`` only count it. ``by`` has a deed of steps."""
    states = [state for state in wanted.states if state not in TERMINAL] or OPEN
    until_us = now_us if wanted.until_us is None else min(wanted.until_us, now_us)
    wanted = replace(wanted, states=states, until_us=until_us, limit=STEP)
    done = CancelledMany(next_cursor=wanted.cursor)
    while done.matched < MOST:
        step = replace(wanted, cursor=done.next_cursor)
        page = await store.read(lambda conn, step=step: store_executions.find(conn, step))  # type: ignore[misc]
        ids = [row.id for row in page.rows]
        done.matched += len(ids)
        if ids and not dry_run:
            _count(done, await _cancel(store, dispatcher, ids, running=State.RUNNING in states, by=by))
        done.next_cursor = page.next_cursor
        if page.next_cursor is None:
            break
    return done


async def cancel_ids(dispatcher: Dispatcher, ids: list[str], *, by: Actor) -> CancelledMany:
    """Cancel these."""
    done = CancelledMany(matched=len(ids))
    for at in range(0, len(ids), STEP):
        _count(done, await dispatcher.cancel(ids[at : at + STEP], by=by))
    return done


async def _cancel(
    store: Store, dispatcher: Dispatcher, ids: list[str], *, running: bool, by: Actor
) -> list[CancelAnswer]:
    if running:
        return await dispatcher.cancel(ids, by=by)
    # One that was started since it was found is not among those that were meant.
    return await store.write(store_executions.cancel_unstarted, ids, by=by)


def _count(done: CancelledMany, answers: list[CancelAnswer]) -> None:
    for answer in answers:
        if answer.outcome is CancelOutcome.CANCELLED:
            done.cancelled += 1
        elif answer.outcome is CancelOutcome.REQUESTED:
            done.requested += 1
        else:
            done.left += 1
