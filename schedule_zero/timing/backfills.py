"""Runs past ranges afterwards: creates the executions of running backfills, at their rates.

What a backfill still has to do stands in the store, and is written together with the executions; this loop only
knows how fast it may go.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from schedule_zero.clock import Clock
from schedule_zero.errors import StoreUnavailable, WrongState
from schedule_zero.model import Backfill, Execution, Origin, Schedule, new_id
from schedule_zero.ops.pace import Pace, keep_going
from schedule_zero.rules.birth import equip
from schedule_zero.rules.options import Source, options_said
from schedule_zero.rules.policies import policies_of
from schedule_zero.store import backfills, schedule_history, schedules, server_runs
from schedule_zero.timing.occasions import DelayTrigger, ManualTrigger
from schedule_zero.timing.parse import load_trigger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

    from schedule_zero.dispatch.dispatcher import Dispatcher
    from schedule_zero.store import Store
    from schedule_zero.timing.freezes import FreezeBook
    from schedule_zero.timing.resolve import Resolver
    from schedule_zero.timing.trigger import Trigger

log = structlog.get_logger(__name__)

# Executions of one backfill in one transaction.
BATCH = 500
MAX_TOTAL = 100_000


def starts_in(conn: Connection, row: Schedule, from_us: int, to_us: int) -> list[int]:
    """The starts of the server on record, for a trigger that fires at them. InvalidTrigger."""
    if not load_trigger(row.trigger).has_startup:
        return []
    lives = server_runs.between(conn, from_us, to_us)
    return sorted({life.started_us for life in lives if from_us <= life.started_us <= to_us})


def why_no_times(trigger: Trigger) -> str | None:
    """Why a past range of a trigger can't be run; None: it can."""
    if isinstance(trigger, ManualTrigger):
        return "it runs only when somebody runs it"
    return "each follows the end of a run (anchor: end)" if isinstance(trigger, DelayTrigger) else None


def nominal_times(
    resolver: Resolver, row: Schedule, from_us: int, to_us: int, starts_us: Sequence[int] = ()
) -> Iterator[int]:
    """What a backfill runs: the nominal times in ``[from_us, to_us]`` that no named calendar forbids.

    ``starts_us`` are those of ``starts_in``.
    """
    trigger = resolver.trigger(row)
    if trigger.has_startup:
        trigger = trigger.bound(*starts_us)
    exclusions = resolver.exclusions(policies_of(row.policies), trigger)
    whole = [(from_us, to_us + 1, None)]
    for low_us, high_us, verdict in whole if exclusions is None else exclusions.segments(from_us, to_us + 1):
        # Not one by one through what is forbidden: that may be all of a range of ten years.
        nominal_us = trigger.next_after(low_us - 1) if verdict is None else None
        while nominal_us is not None and nominal_us < high_us:
            yield nominal_us
            nominal_us = trigger.next_after(nominal_us)


class Backfills:
    """The loop; ``changed`` after one was begun or cancelled."""

    def __init__(
        self, *, store: Store, dispatcher: Dispatcher, clock: Clock, resolver: Resolver, freezes: FreezeBook
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._resolver = resolver
        self._freezes = freezes
        self._backlog = dispatcher.backlog
        self._bell = asyncio.Event()
        self._pace = Pace()

    def changed(self) -> None:
        self._bell.set()

    async def run(self) -> None:
        """Create what is to be created, for ever."""
        await keep_going(self._bell, self.run_once, _postponed)

    async def run_once(self) -> bool:
        """One step of each running backfill; whether there are any."""
        if not self._freezes.loaded:
            # The timer, which keeps them, may not have begun yet.
            await self._freezes.load()
        found = await self._store.read(backfills.running)
        self._pace.keep(row.id for row in found)
        if self._freezes.at(self._clock.wall_us()) is None:
            for row in found:
                await self._step(row)
        return bool(found)

    async def _step(self, row: Backfill) -> None:
        size = self._pace.take(row.id, row.rate_per_s, self._clock.mono_s(), BATCH)
        at_us = row.next_us
        if size < 1 or at_us is None:
            return
        schedule = await self._store.read(lambda conn: _as_it_was(conn, row))
        if schedule is None:
            log.error("backfill_without_schedule", backfill_id=row.id, schedule_id=row.schedule_id)
            await self._give_up(row)
            return
        room = self._backlog.room(schedule.handler_id)
        if room < size:
            # What is waiting is enough for now; nothing of the range is left out.
            size = room
            if size < 1:
                return
        try:
            starts_us = await self._store.read(lambda conn: starts_in(conn, schedule, at_us, row.to_us))
            *now, after = await asyncio.to_thread(self._next, schedule, row, at_us, size, starts_us)
        except StoreUnavailable:
            raise
        except Exception as error:  # a trigger's own failure: its backfill ends, the others go on
            log.exception("backfill_failed", backfill_id=row.id, schedule_id=row.schedule_id, reason=str(error))
            await self._give_up(row)
            return
        created = [self._execution(schedule, row.id, nominal_us) for nominal_us in now if nominal_us is not None]
        self._backlog.take(created)
        self._dispatcher.place(created)
        await self._write(
            backfills.Advance(id=row.id, schedule_id=row.schedule_id, at_us=at_us, next_us=after, executions=created)
        )

    async def _give_up(self, row: Backfill) -> None:
        # WrongState: somebody has cancelled it meanwhile.
        with suppress(WrongState):
            await self._store.write(backfills.cancel, row.id)

    def _next(self, schedule: Schedule, row: Backfill, at_us: int, size: int, starts_us: list[int]) -> list[int | None]:
        """The next ``size`` nominal times, and the one after them (None: that was all)."""
        found = nominal_times(self._resolver, schedule, at_us, row.to_us, starts_us)
        times: list[int | None] = list(islice(found, size + 1))
        return times if len(times) > size else [*times, None]

    async def _write(self, step: backfills.Advance) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def written(outcome: int | Exception) -> None:
            # Called even if nobody waits any more: the dispatcher must hear of it.
            born = 0 if isinstance(outcome, Exception) else outcome
            self._dispatcher.committed(step.executions[:born])
            self._dispatcher.abandoned(step.executions[born:])
            self._backlog.settled(step.executions)
            if done.done():
                return
            if isinstance(outcome, Exception):
                done.set_exception(outcome)
            else:
                done.set_result(None)

        self._store.submit(backfills.advance, step, written)
        await done

    def _execution(self, schedule: Schedule, backfill_id: str, nominal_us: int) -> Execution:
        method = self._dispatcher.registry.options(schedule.handler_id, schedule.job_method)
        execution = Execution(
            id=new_id(),
            handler_id=schedule.handler_id,
            job_method=schedule.job_method,
            params=schedule.params,
            origin=Origin.BACKFILL,
            schedule_id=schedule.id,
            group_id=backfill_id,
            nominal_us=nominal_us,
            created_us=self._clock.wall_us(),
        )
        equip(execution, options_said(schedule.options), method, Source.SCHEDULE)
        return execution


def _as_it_was(conn: Connection, row: Backfill) -> Schedule | None:
    """The schedule in the version that the backfill was asked for."""
    current = schedules.get(conn, row.schedule_id)
    if current is not None and (current.generation, current.version) == (row.generation, row.version):
        return current
    kept = schedule_history.get(conn, row.schedule_id, row.generation, row.version)
    return None if kept is None else kept.schedule


def _postponed(error: StoreUnavailable) -> None:
    log.warning("backfills_postponed", reason=str(error)[:200])
