"""A real store, a real timer, and a dispatcher that only takes notes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from schedule_zero.clock import Clock, SystemClock
from schedule_zero.config import StoreConfig, TimingConfig
from schedule_zero.errors import StoreUnavailable
from schedule_zero.job_options import JobOptions
from schedule_zero.model import Execution, Fire, Schedule, ScheduleState
from schedule_zero.ops.backlog import Backlog
from schedule_zero.ops.series import Series
from schedule_zero.store import Store, executions, fires, schedules
from schedule_zero.store.execution_lists import Filter as ExecutionFilter
from schedule_zero.store.tally import Tally
from schedule_zero.timing import Timer, parse_trigger
from schedule_zero.timing.alarm import Alarm
from schedule_zero.timing.freezes import FreezeBook
from schedule_zero.timing.resolve import Resolver
from schedule_zero.timing.rounds import Rounds
from schedule_zero.timing.timer import TimerStats
from schedule_zero.timing.turns import Turns
from schedule_zero.timing.window import StoredAlarms, Window
from tests.support import nothing_owed

if TYPE_CHECKING:
    from schedule_zero.dispatch.dispatcher import Dispatcher

S = 1_000_000
MINUTE = 60 * S
HOUR = 3600 * S
DAY = 24 * HOUR


class Methods:
    """What the registry answers about any method."""

    def __init__(self) -> None:
        self.said = JobOptions()

    def options(self, handler_id: str, job_method: str) -> JobOptions:
        return self.said


class NotingDispatcher:
    """Stands where the dispatcher stands, and remembers what it was told."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.registry = Methods()
        self.backlog = Backlog(Tally(), limit=1_000_000, rules={}, clock=SystemClock())
        self.calls: list[tuple[str, list[str]]] = []
        self.on_place: Callable[[Sequence[Execution]], None] | None = None
        self.series = Series(store=store, clock=clock, running=lambda: 0)

    def place(self, rows: Sequence[Execution]) -> None:
        self.calls.append(("place", [row.id for row in rows]))
        if self.on_place is not None:
            self.on_place(rows)

    def committed(self, rows: Sequence[Execution]) -> None:
        self.calls.append(("committed", [row.id for row in rows]))

    def abandoned(self, rows: Sequence[Execution]) -> None:
        self.calls.append(("abandoned", [row.id for row in rows]))

    def told(self, call: str) -> list[str]:
        return [id_ for name, ids in self.calls if name == call for id_ in ids]


class FailingStore:
    """The real store, of which the next ``failures`` calls of one kind fail as if the disk were full."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.failing_writes = 0
        self.failing_reads = 0
        # Writes that are done, but reported as failed: the connection was lost at the commit.
        self.lying_writes = 0
        self.error: Exception = StoreUnavailable("database or disk is full")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def submit(self, verb: Any, arg: Any, on_done: Callable[[Any], None], **more: Any) -> None:
        if self.failing_writes:
            self.failing_writes -= 1
            asyncio.get_running_loop().call_soon(on_done, self.error)
        elif self.lying_writes:
            self.lying_writes -= 1
            self._store.submit(verb, arg, lambda _: on_done(self.error), **more)
        else:
            self._store.submit(verb, arg, on_done, **more)

    async def read(self, query: Any) -> Any:
        if self.failing_reads:
            self.failing_reads -= 1
            raise self.error
        return await self._store.read(query)


class Bed:
    """The store with what a test wants to do with it in a line."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.faults = FailingStore(store)
        self.clock = clock
        self.dispatcher = NotingDispatcher(store, clock)
        self.stats = TimerStats()
        self.freezes = FreezeBook(store)

    def rounds(self, config: TimingConfig | None = None) -> Rounds:
        """What the timer runs, without APScheduler around it."""
        resolver = Resolver(self.clock.wall_us())
        return Rounds(
            store=cast("Store", self.faults),
            dispatcher=cast("Dispatcher", self.dispatcher),
            clock=self.clock,
            config=config or TimingConfig(),
            stats=self.stats,
            resolver=resolver,
            freezes=self.freezes,
            window=Window(StoredAlarms(cast("Store", self.faults), resolver.coming)),
            turns=Turns(
                store=cast("Store", self.faults),
                dispatcher=cast("Dispatcher", self.dispatcher),
                clock=self.clock,
                trigger_of=resolver.coming,
            ),
        )

    def timer(self, config: TimingConfig | None = None) -> Timer:
        return Timer(
            store=cast("Store", self.faults),
            dispatcher=cast("Dispatcher", self.dispatcher),
            clock=self.clock,
            config=config or TimingConfig(),
        )

    def row(self, id_: str, trigger: dict[str, Any] | bytes, *, due_us: int | None = None, **fields: Any) -> Schedule:
        """A schedule that is due at ``due_us`` (or next, by its trigger)."""
        now_us = self.clock.wall_us()
        if isinstance(trigger, dict):
            parsed = parse_trigger(trigger, now_us=now_us if due_us is None else due_us)
            trigger = parsed.encoded()
            if due_us is None:
                due_us = parsed.next_after(now_us)
        return Schedule(
            id=id_,
            handler_id=fields.pop("handler_id", "demo"),
            job_method=fields.pop("job_method", "hello"),
            trigger=trigger,
            next_fire_us=due_us,
            created_us=now_us,
            updated_us=now_us,
            **fields,
        )

    async def create(self, *rows: Schedule) -> None:
        await self.store.write(schedules.create, schedules.Create(rows=list(rows)))

    async def set_state(self, id_: str, state: ScheduleState) -> None:
        await self.store.write(schedules.set_state, schedules.SetState(id=id_, state=state))

    async def replace(self, row: Schedule) -> None:
        await self.store.write(schedules.put, schedules.Put(row=row, handover=nothing_owed))

    async def delete(self, id_: str) -> None:
        await self.store.write(schedules.delete, schedules.Delete(ids=[id_], handover=nothing_owed))

    async def get(self, id_: str) -> Schedule:
        row = await self.store.read(lambda conn: schedules.get(conn, id_))
        assert row is not None
        return row

    async def ledger(self, id_: str) -> list[Fire]:
        """All of it, the oldest nominal time first."""
        found: list[Fire] = []
        cursor: str | None = None
        while True:
            page = await self.store.read(
                lambda conn, cursor=cursor: fires.find(conn, schedule_id=id_, cursor=cursor, limit=500)
            )
            found += page.rows
            cursor = page.next_cursor
            if cursor is None:
                return found[::-1]

    async def nominal_times(self, id_: str) -> list[int]:
        return [fire.nominal_us for fire in await self.ledger(id_)]

    async def counts(self, id_: str) -> fires.FireCounts:
        """The ledger's totals as the schedule keeps them."""
        return await self.store.read(lambda conn: fires.counts(conn, id_))

    async def executions(self, id_: str) -> list[Execution]:
        """Of one schedule, the oldest first."""
        page = await self.store.read(lambda conn: executions.find(conn, ExecutionFilter(schedule_id=id_, limit=500)))
        return page.rows[::-1]


@asynccontextmanager
async def bed_in(state_dir: Path, clock: Clock) -> AsyncIterator[Bed]:
    state_dir.mkdir(parents=True, exist_ok=True)
    store = Store.open(StoreConfig(durability="fast"), state_dir, clock=clock)
    try:
        yield Bed(store, clock)
    finally:
        await store.close()


@asynccontextmanager
async def running(timer: Timer) -> AsyncIterator[asyncio.Task[None]]:
    """The timer's loop as a task, cancelled at the end; what kills it earlier is raised here."""
    task = asyncio.create_task(timer.run())
    try:
        yield task
        if task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def write(rounds: Rounds, alarms: list[Alarm]) -> None:
    """Write one round and wait for its commit."""
    await rounds.write(alarms)
    await rounds.settled()


async def one_round(rounds: Rounds) -> list[str]:
    """What APScheduler's loop does once; the ids that were due."""
    alarms = await rounds.take()
    ids = [alarm.row.id for alarm in alarms]
    if alarms:
        await write(rounds, alarms)
    return ids
