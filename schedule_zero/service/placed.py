"""Writes fresh executions by a verb that may not create all of them, and tells the dispatcher which there are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from schedule_zero.dispatch.dispatcher import Dispatcher
from schedule_zero.model import Execution
from schedule_zero.rules.change_log import Actor
from schedule_zero.store import Store


async def write_placed(
    store: Store, dispatcher: Dispatcher, verb: Any, arg: Any, rows: Sequence[Execution], *, by: Actor | None = None
) -> Any:
    """The verb's answer; a set is that of the ids it created, anything else says that it created none."""
    dispatcher.backlog.take(rows)
    dispatcher.place(rows)
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def settled(outcome: Any) -> None:
        # In the commit's own callback, not after the await: a caller that has gone away must neither lose the work nor
        # keep the credit.
        dispatcher.backlog.settled(rows)
        created = outcome if isinstance(outcome, set) else frozenset()
        dispatcher.committed([row for row in rows if row.id in created])
        dispatcher.abandoned([row for row in rows if row.id not in created])
        if done.cancelled():
            return
        if isinstance(outcome, Exception):
            done.set_exception(outcome)
        else:
            done.set_result(outcome)

    store.submit(verb, arg, settled, by=by)
    return await done
