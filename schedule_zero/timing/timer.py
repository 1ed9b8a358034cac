"""The timer: runs APScheduler's loop over our store, and wakes it when a schedule was changed."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING

import structlog
from msgspec import Struct

from schedule_zero.clock import Clock
from schedule_zero.config import TimingConfig
from schedule_zero.errors import StoreUnavailable
from schedule_zero.model import Event, Schedule, ServerRun
from schedule_zero.store import fire_audit, schedules, server_runs
from schedule_zero.timing.backfills import Backfills
from schedule_zero.timing.freezes import CHANGES as FREEZES
from schedule_zero.timing.freezes import FreezeBook
from schedule_zero.timing.resolve import Resolver
from schedule_zero.timing.turns import FOLLOWED, Turns

if TYPE_CHECKING:
    from apscheduler.abc import EventBroker
    from sqlalchemy import Connection

    from schedule_zero.dispatch.dispatcher import Dispatcher
    from schedule_zero.store import Store
    from schedule_zero.timing.calendar_book import CalendarBook
    from schedule_zero.timing.rounds import Rounds

log = structlog.get_logger(__name__)

# Journal events after which a schedule has to be read again. Those of the timer's own releases are not among them.
CHANGES = frozenset(
    {
        "schedule.created", "schedule.updated", "schedule.deleted", "schedule.paused", "schedule.resumed",
        "schedule.rearmed",
    }
)  # fmt: skip

WATCHED = CHANGES | FREEZES
FOLLOWED_TOO = WATCHED | FOLLOWED
# After the store could not be read at the start.
BEGIN_AGAIN_S = 0.2


class TimerStats(Struct):
    """What the timer has done since the server started."""

    rounds: int = 0
    # Ledger rows and executions written.
    fires: int = 0
    executions: int = 0
    # Schedules whose release the fence refused: changed meanwhile, decided anew.
    refused: int = 0
    quarantined: int = 0
    store_failures: int = 0
    # How long after its due time the latest round's earliest fire was committed.
    last_lateness_s: float = 0.0


class Timer:
    """Decides when. One ``run`` at a time; a ``run`` that died is simply called again (``ops.supervise``)."""

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        clock: Clock,
        config: TimingConfig,
        book: CalendarBook | None = None,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._config = config
        self._bell = asyncio.Event()
        self._thaw = asyncio.Event()
        # Of the run in progress.
        self._rounds: Rounds | None = None
        # Whether what fires at a start was made due in this life of the server.
        self._started = False
        self.started_us = clock.wall_us()
        self.freezes = FreezeBook(store)
        self.resolver = Resolver(self.started_us, book)
        self.backfills = Backfills(
            store=store, dispatcher=dispatcher, clock=clock, resolver=self.resolver, freezes=self.freezes
        )
        self.stats = TimerStats()
        store.on_commit(self._on_commit)

    async def run(self) -> None:
        """Fire what is due until cancelled. Raises what killed APScheduler's loop."""
        # APScheduler takes 0.3 s to import; the server answers meanwhile.
        await asyncio.to_thread(import_module, "schedule_zero.timing.datastore")
        from apscheduler import AsyncScheduler, SchedulerRole
        from apscheduler.executors.async_ import AsyncJobExecutor

        from schedule_zero.timing.alarm import EXECUTOR
        from schedule_zero.timing.datastore import TimerDataStore
        from schedule_zero.timing.rounds import Rounds
        from schedule_zero.timing.window import StoredAlarms, Window

        rounds = Rounds(
            store=self._store,
            dispatcher=self._dispatcher,
            clock=self._clock,
            config=self._config,
            stats=self.stats,
            resolver=self.resolver,
            freezes=self.freezes,
            window=Window(StoredAlarms(self._store, self.resolver.coming)),
            turns=Turns(
                store=self._store,
                dispatcher=self._dispatcher,
                clock=self._clock,
                trigger_of=self.resolver.coming,
            ),
        )
        await self._begin()
        data_store = TimerDataStore(rounds)
        scheduler = AsyncScheduler(
            data_store,
            identity="schedule-zero",
            role=SchedulerRole.scheduler,
            # In this role it is never started; given, because the default would make three.
            job_executors={EXECUTOR: AsyncJobExecutor()},
            cleanup_interval=None,  # type: ignore[arg-type]  # documented, but not in the annotation
            logger=logging.getLogger("apscheduler"),
        )
        self._rounds = rounds
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [
                    tasks.create_task(self._ring(data_store.broker), name="timer bell"),
                    tasks.create_task(rounds.turns.run(), name="timer turns"),
                    tasks.create_task(self._watch_freezes(), name="timer freezes"),
                ]
                await scheduler.run_until_stopped()
                for task in beside:
                    task.cancel()
        except BaseExceptionGroup as group:
            # The groups are AsyncScheduler's and ours; who supervises this wants to read what went wrong.
            raise _innermost(group) from group
        finally:
            self._rounds = None

    async def begin(self) -> None:
        """Put this start of the server on record: what fires at a start is owed from then on. StoreUnavailable."""
        await self.freezes.load()
        if not self._started:
            await self._begin_life()
            self._started = True

    async def _begin(self) -> None:
        """What has to be known before the first round."""
        while True:
            try:
                await self.begin()
            except StoreUnavailable as error:
                self.stats.store_failures += 1
                log.warning("timer_store_unavailable", error=str(error), retry_s=BEGIN_AGAIN_S)
                await asyncio.sleep(BEGIN_AGAIN_S)
            else:
                return

    async def _begin_life(self) -> None:
        rows = await self._store.read(schedules.starting)
        run = ServerRun(epoch=self._store.epoch, started_us=self.started_us, alive_us=self._clock.wall_us())
        owed_us = min((row.next_fire_us for row in rows if row.next_fire_us is not None), default=self.started_us)
        if owed_us < self.started_us:
            lives = await self._store.read(lambda conn: server_runs.between(conn, owed_us, self.started_us))
            self.resolver.started_before(life.started_us for life in lives if life.started_us >= owed_us)
        self.resolver.decided_ahead(await self._store.read(lambda conn: self._decided_ahead(conn, rows)))
        # What is made while the server starts waits for the next start.
        due = [(row.id, row.generation, self.started_us) for row in rows if row.updated_us <= self.started_us]
        await self._store.write(server_runs.begin, server_runs.Begin(run=run, due=due))

    def _decided_ahead(self, conn: Connection, rows: list[Schedule]) -> dict[str, tuple[int, int]]:
        return {
            row.id: (row.generation, decided_us)
            for row in rows
            if (decided_us := fire_audit.decided_upto(conn, row.id, row.generation) or 0) > self.started_us
        }

    async def _watch_freezes(self) -> None:
        while True:
            await self._thaw.wait()
            self._thaw.clear()
            await self.freezes.load()
            self._bell.set()

    def changed(self) -> None:
        """Look again now. Schedules that were written through the store are known of without it."""
        self._bell.set()

    def _on_commit(self, events: list[tuple[int, Event]]) -> None:
        rounds = self._rounds
        if rounds is None:
            # It will begin by reading everything.
            return
        # Nearly all events are of executions, and nearly never does one of them matter here.
        watched = FOLLOWED_TOO if rounds.turns.tracking else WATCHED
        relevant = [event for _, event in events if event.kind in watched]
        if not relevant:
            return
        window, turns = rounds.window, rounds.turns
        changed = []
        for event in relevant:
            if event.kind in FREEZES:
                self._thaw.set()
                continue
            turns.heard(event)
            if event.kind in CHANGES and window.concerns(event.id, event.data.get("next_fire_us")):
                changed.append(event.id)
        if changed:
            window.changed(changed)
            self._bell.set()

    async def _ring(self, broker: asyncio.Future[EventBroker]) -> None:
        """Wake AsyncScheduler whatever it is doing.

        It compares the event's time with the wake-up that it had planned *before* the one it is planning now, and
        drops the event if that was earlier. A time that lies before every other can't be dropped; and as its own
        event stays set until it sleeps, one that comes at the worst moment only makes the next sleep return at once.
        """
        from apscheduler import ScheduleUpdated

        from schedule_zero.timing.alarm import TASK_ID

        now = ScheduleUpdated(schedule_id="*", task_id=TASK_ID, next_fire_time=datetime.min.replace(tzinfo=UTC))
        publish = (await broker).publish_local
        while True:
            await self._bell.wait()
            self._bell.clear()
            await publish(now)


def _innermost(error: BaseException) -> BaseException:
    """What a group of groups of one is about."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
