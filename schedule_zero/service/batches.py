"""Batches: all that a search finds is cancelled, or retried, by the server, whoever goes on looking at it.

What is still to be done stands in the store, and is written together with what is done; the loop here only takes the
next step. What changed meanwhile is skipped, what its job would not take any more is counted as failed, each with the
reason.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from schedule_zero.clock import Clock
from schedule_zero.dispatch.dispatcher import Dispatcher
from schedule_zero.errors import BadRequest, NotFound, StoreUnavailable, TooLarge, WrongState
from schedule_zero.model import Batch, BatchKind, Execution, new_id
from schedule_zero.ops.pace import keep_going
from schedule_zero.rules.options import NO_OPTIONS
from schedule_zero.service.idempotency import idempotency_record
from schedule_zero.service.placed import write_placed
from schedule_zero.service.requeues import Requeues
from schedule_zero.service.search import Asked, Counted, SearchService
from schedule_zero.service.specs import IdemKey, Principal
from schedule_zero.store import Store, execution_lists
from schedule_zero.store import batches as store_batches
from schedule_zero.store import dead_letters as store_letters
from schedule_zero.store.batches import What
from schedule_zero.store.executions import CancelAnswer
from schedule_zero.store.idempotency import IdempotentReplay
from schedule_zero.store.tx import Page

log = structlog.get_logger(__name__)

# Executions of one batch in one transaction, and transactions of one batch in a turn of the loop.
STEP = 500
STEPS_A_TURN = 4


class BatchService:
    """The verbs, and the loop that carries them out. ``requeues`` knows how to make an execution anew."""

    def __init__(
        self, *, store: Store, dispatcher: Dispatcher, clock: Clock, search: SearchService, requeues: Requeues
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._search = search
        self._requeues = requeues
        self._bell = asyncio.Event()

    # --- verbs --------------------------------------------------------------------------------------

    async def count(self, kind: BatchKind, asked: Asked, ids: list[str] | None = None) -> Counted:
        """How many there are now to which it would be done."""
        return await self._search.count(_what(asked, ids).filter(kind, asked.wanted.now_us))

    async def begin(
        self,
        principal: Principal,
        kind: BatchKind,
        asked: Asked,
        ids: list[str] | None = None,
        idem: IdemKey | None = None,
    ) -> tuple[Batch, bool]:
        """Do it to all of these, of what there is by now; ``ids`` instead of a search.

        Answers the batch as it is now, and whether it was begun by an earlier request of the same key. NotFound: there
        are none.
        """
        what = _what(asked, ids)
        up_to_seq = await self._store.read(store_letters.newest_seq)
        counted = await self.count(kind, asked, ids)
        row = Batch(
            id=new_id(),
            kind=kind,
            what=msgspec.json.encode(what),
            up_to_seq=up_to_seq,
            at_seq=up_to_seq + 1,
            total=counted.matched,
            exact=counted.exact,
            created_us=self._clock.wall_us(),
            by=principal.name,
        )
        record = idempotency_record(principal, idem, [row.id], self._clock)
        begun: Batch | IdempotentReplay = await self._store.write(
            store_batches.create, store_batches.Create(row=row, idem=record), by=principal.actor
        )
        if isinstance(begun, IdempotentReplay):
            [batch_id] = msgspec.json.decode(begun.response, type=list[str])
            return await self.show(batch_id), True
        self._bell.set()
        log.info("batch_begun", batch_id=row.id, kind=kind, count=row.total, by=principal.name)
        return begun, False

    async def stop(self, principal: Principal, batch_id: str) -> Batch:
        """Do no more of it; what was done stays. NotFound, WrongState."""
        stopped: Batch = await self._store.write(store_batches.stop, store_batches.Stop(batch_id), by=principal.actor)
        log.info("batch_stopped", batch_id=batch_id, done=stopped.done, by=principal.name)
        return stopped

    async def show(self, batch_id: str) -> Batch:
        """How far one is. NotFound."""
        found = await self._store.read(lambda conn: store_batches.get(conn, batch_id))
        if found is None:
            raise NotFound(f"there is no batch {batch_id!r}")
        return found

    async def find(self, *, cursor: str | None = None, limit: int = 50) -> Page[Batch]:
        """The newest first."""
        return await self._store.read(lambda conn: store_batches.find(conn, cursor=cursor, limit=limit))

    # --- loop ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do what is to be done, for ever."""
        await keep_going(self._bell, self.run_once, _postponed)

    async def run_once(self) -> bool:
        """A few steps of each running batch; whether there are any."""
        found = await self._store.read(store_batches.running)
        for batch in found:
            try:
                for _ in range(STEPS_A_TURN):
                    if not await self._step(batch):
                        break
            except StoreUnavailable:
                raise
            except Exception as error:  # whatever is wrong with this one: it ends, the others go on
                log.exception("batch_failed", batch_id=batch.id, reason=str(error))
                # WrongState: somebody has stopped it meanwhile.
                with suppress(WrongState):
                    await self._store.write(store_batches.stop, store_batches.Stop(batch.id, f"it ended: {error}"))
        return bool(found)

    async def _step(self, batch: Batch) -> bool:
        """One transaction; whether there may be more to do at once."""
        wanted = store_batches.what_of(batch).filter(batch.kind, batch.created_us)
        here = replace(wanted, cursor=str(batch.at_seq), limit=STEP)
        found = await self._store.read(partial(execution_lists.look, wanted=here))
        step = store_batches.Step(id=batch.id, at_seq=batch.at_seq, next_seq=found.reached, finished=found.reached == 0)
        moved = False
        if batch.kind is BatchKind.CANCEL:
            step.ids = [row.id for _, row in found.rows]
            step.running = store_batches.touches_running(wanted)
            moved = await self._cancel(step)
        else:
            room = self._requeues.room_for([row for _, row in found.rows])
            if room < len(found.rows):
                if not room:
                    # What is open is enough for now.
                    return False
                step.next_seq, step.finished = found.rows[room - 1][0], False
            for _, row in found.rows[:room]:
                self._again(step, row)
            moved = await write_placed(self._store, self._dispatcher, store_batches.retry, step, step.rows) is not None
        batch.at_seq = step.next_seq
        if moved and step.finished:
            log.info("batch_completed", batch_id=batch.id, kind=batch.kind)
        return moved and not step.finished

    def _again(self, step: store_batches.Step, row: Execution) -> None:
        try:
            step.rows.append(self._requeues.replacement(row, options=NO_OPTIONS, group_id=step.id))
        except (BadRequest, NotFound, TooLarge) as error:
            step.failed[error.code] = step.failed.get(error.code, 0) + 1
            step.note = step.note or f"execution {row.id}: {error.message}"

    async def _cancel(self, step: store_batches.Step) -> bool:
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def settled(outcome: list[CancelAnswer] | Any) -> None:
            # In the commit's own callback: the dispatcher hears of it in the order of the commits.
            if isinstance(outcome, list):
                self._dispatcher.cancelled(outcome)
            if done.cancelled():
                return
            if isinstance(outcome, Exception):
                done.set_exception(outcome)
            else:
                done.set_result(outcome is not None)

        self._store.submit(store_batches.cancel, step, settled)
        return await done


def _what(asked: Asked, ids: list[str] | None) -> What:
    wanted = asked.wanted
    return What(
        q=asked.said,
        ids=list(dict.fromkeys(ids or ())),
        handler_id=wanted.handler_id,
        schedule_id=wanted.schedule_id,
        job_method=wanted.job_method,
        node_id=wanted.node_id,
        group_id=wanted.group_id,
        states=wanted.states,
        since_us=wanted.since_us,
        until_us=wanted.until_us,
    )


def _postponed(error: StoreUnavailable) -> None:
    log.warning("batches_postponed", reason=str(error)[:200])
