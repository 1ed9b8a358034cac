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
from schedule_zero.model import Event

if TYPE_CHECKING:
    from apscheduler.abc import EventBroker

    from schedule_zero.dispatch.dispatcher import Dispatcher
    from schedule_zero.store import Store
    from schedule_zero.timing.window import Window

log = structlog.get_logger(__name__)

# Journal events after which a schedule has to be read again. Those of the timer's own releases are not among them.
CHANGES = frozenset({"schedule.created", "schedule.updated", "schedule.deleted", "schedule.paused", "schedule.resumed"})


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

    def __init__(self, *, store: Store, dispatcher: Dispatcher, clock: Clock, config: TimingConfig) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._config = config
        self._bell = asyncio.Event()
        # Of the run in progress.
        self._window: Window | None = None
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

        rounds = Rounds(
            store=self._store, dispatcher=self._dispatcher, clock=self._clock, config=self._config, stats=self.stats
        )
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
        self._window = rounds.window
        try:
            async with asyncio.TaskGroup() as tasks:
                bell = tasks.create_task(self._ring(data_store.broker), name="timer bell")
                await scheduler.run_until_stopped()
                bell.cancel()
        except BaseExceptionGroup as group:
            # The groups are AsyncScheduler's and ours; who supervises this wants to read what went wrong.
            raise _innermost(group) from group
        finally:
            self._window = None

    def changed(self) -> None:
        """Look again now. Schedules that were written through the store are known of without it."""
        self._bell.set()

    def _on_commit(self, events: list[tuple[int, Event]]) -> None:
        if self._window is None:
            # It will begin by reading everything.
            return
        concerns = self._window.concerns
        changed = [
            event.id
            for _, event in events
            if event.kind in CHANGES and concerns(event.id, event.data.get("next_fire_us"))
        ]
        if changed:
            self._window.changed(changed)
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
