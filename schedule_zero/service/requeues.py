"""Runs the requeues that are under way: so many dead letters a second become executions again.

What is still to be done stands in the store, and is written together with the executions; this loop only knows how fast
it may go. A letter that its job would not take any more (other parameters by now, no such method) is passed over: it
stays a dead letter, counted in the requeue, with the first reason.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import structlog

from schedule_zero.clock import Clock
from schedule_zero.config import LimitsConfig
from schedule_zero.dispatch.dispatcher import Dispatcher
from schedule_zero.errors import BadRequest, NotFound, StoreUnavailable, TooLarge, WrongState
from schedule_zero.job_options import JobOptions
from schedule_zero.model import Execution, Requeue
from schedule_zero.ops.pace import Pace, keep_going
from schedule_zero.rules.birth import again
from schedule_zero.rules.options import options_said
from schedule_zero.service.params import check_params
from schedule_zero.service.placed import write_placed
from schedule_zero.service.schedule_rows import merge_patch
from schedule_zero.store import Store, dead_letters, requeues

log = structlog.get_logger(__name__)

# Executions of one requeue in one transaction.
BATCH = 500


class Requeues:
    """The loop; ``changed`` after one was begun or cancelled."""

    def __init__(self, *, store: Store, dispatcher: Dispatcher, clock: Clock, limits: LimitsConfig) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._limits = limits
        self._bell = asyncio.Event()
        self._pace = Pace()

    def changed(self) -> None:
        self._bell.set()

    async def run(self) -> None:
        """Create what is to be created, for ever."""
        await keep_going(self._bell, self.run_once, _postponed)

    async def run_once(self) -> bool:
        """One step of each running requeue; whether there are any."""
        found = await self._store.read(requeues.running)
        self._pace.keep(row.id for row in found)
        for row in found:
            try:
                await self._step(row)
            except StoreUnavailable:
                raise
            except Exception as error:  # whatever is wrong with this one: it ends, the others go on
                log.exception("requeue_failed", requeue_id=row.id, reason=str(error))
                # WrongState: somebody has cancelled it meanwhile.
                with suppress(WrongState):
                    await self._store.write(requeues.cancel, row.id)
        return bool(found)

    async def _step(self, row: Requeue) -> None:
        size = self._pace.take(row.id, row.rate_per_s, self._clock.mono_s(), BATCH)
        if size < 1:
            return
        at = (row.at_letter, row.at_seq)
        which = dead_letters.Which(dead_letter=row.dead_letter, handler_id=row.handler_id, job_method=row.job_method)
        letters = await self._store.read(lambda conn: dead_letters.onward(conn, which, at, row.up_to_seq, size))
        found, letters = letters, letters[: self.room_for([letter for _, letter in letters])]
        if found and not letters:
            # What is waiting is enough for now.
            return
        step = requeues.Advance(id=row.id, at=at, next=letters[-1][0] if letters else at, rows=[], done=not letters)
        for _, letter in letters:
            try:
                step.rows.append(self.replacement(letter, patch=row.patch, options=options_said(row.options),
                                                  group_id=row.id))  # fmt: skip
            except (BadRequest, NotFound, TooLarge) as error:
                step.refused += 1
                step.note = step.note or f"execution {letter.id}: {error.message}"[:500]
        created = await write_placed(self._store, self._dispatcher, requeues.advance, step, step.rows)
        if step.done and created is not None:
            log.info("requeue_completed", requeue_id=row.id, count=row.created, refused=row.refused)

    def room_for(self, rows: Sequence[Execution]) -> int:
        """How many of them, from the first on, the limits on what is open leave room for."""
        backlog, taken = self._dispatcher.backlog, Counter[str]()
        for place, row in enumerate(rows):
            taken[row.handler_id] += 1
            # (An empty name has no limit of its own.)
            if place >= backlog.room("") or taken[row.handler_id] > backlog.room(row.handler_id):
                return place
        return len(rows)

    def replacement(
        self,
        letter: Execution,
        *,
        params: bytes | None = None,
        patch: bytes | None = None,
        options: JobOptions,
        group_id: str | None = None,
        not_before_us: int | None = None,
    ) -> Execution:
        """The execution that is to take a letter's place, its parameters checked like a submission's.

        Raises what ``check_params`` does.
        """
        if patch is not None:
            merged = merge_patch(msgspec.json.decode(letter.params), msgspec.json.decode(patch))
            params = msgspec.json.encode(merged)
        row = again(
            letter,
            self._clock.wall_us(),
            params=params,
            narrow=options,
            group_id=group_id,
            not_before_us=not_before_us,
        )
        check_params(self._dispatcher.registry, self._limits, row.handler_id, row.job_method, row.params)
        return row


def _postponed(error: StoreUnavailable) -> None:
    log.warning("requeues_postponed", reason=str(error)[:200])
