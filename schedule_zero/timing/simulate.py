"""What would fire: the real rounds over schedules in memory, on a clock that jumps from one due time to the next.

Decided is what a server that is never late would decide: every trigger, calendar, pause, skip and maximum as they are.
Nothing runs, so a run takes no time: no fire overlaps the one before, and a fixed delay follows at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from schedule_zero.errors import InvalidCalendar
from schedule_zero.job_options import JobOptions
from schedule_zero.model import Event, Execution, Fire, LaneKey, Schedule, ScheduleState
from schedule_zero.timing.alarm import Alarm
from schedule_zero.timing.instants import IntervalTrigger
from schedule_zero.timing.occasions import DelayTrigger
from schedule_zero.timing.outlook import Outlooks
from schedule_zero.timing.rounds import Rounds
from schedule_zero.timing.timer import TimerStats
from schedule_zero.timing.trigger import LATEST_US, Span
from schedule_zero.timing.window import FIRING, Window

if TYPE_CHECKING:
    from schedule_zero.config import TimingConfig
    from schedule_zero.dispatch.dispatcher import Dispatcher
    from schedule_zero.rules.catchup import Frozen
    from schedule_zero.store import Store
    from schedule_zero.store.schedules import ReleaseItem, ReleaseRefusal
    from schedule_zero.timing.freezes import FreezeBook
    from schedule_zero.timing.resolve import Resolver
    from schedule_zero.timing.trigger import Trigger
    from schedule_zero.timing.turns import Turns


class JumpingClock:
    """A clock that stands where it was put."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us

    def wall_us(self) -> int:
        return self.now_us

    def mono_s(self) -> float:
        return self.now_us / 1e6


class _Memory:
    """Stands where the store stands: a release is kept, and never refused."""

    def __init__(self) -> None:
        self.released: list[ReleaseItem] = []

    def submit(
        self,
        verb: object,  # noqa: ARG002  # there is only one
        items: list[ReleaseItem],
        done: Callable[[dict[str, ReleaseRefusal]], None],
    ) -> None:
        self.released += items
        done({})


class _Alarms:
    """All of them from the start."""

    def __init__(self, alarms: list[Alarm]) -> None:
        self._alarms = alarms

    async def due(self, after_us: int, upto_us: int) -> list[Alarm]:  # noqa: ARG002
        alarms, self._alarms = self._alarms, []
        return alarms

    async def changed(self, ids: Iterable[str]) -> list[Alarm]:  # noqa: ARG002  # nobody changes anything
        return []


class _Nobody:
    """Stands where dispatcher, registry, turns and freezes stand: nothing is running, and nothing is frozen."""

    tracking = False

    @property
    def registry(self) -> _Nobody:
        return self

    def options(self, handler_id: str, job_method: str) -> JobOptions:  # noqa: ARG002
        return _NO_OPTIONS

    def place(self, rows: Sequence[Execution]) -> None: ...

    def committed(self, rows: Sequence[Execution]) -> None: ...

    def count(self, schedule_id: str) -> tuple[int, int]:  # noqa: ARG002
        return 0, 0

    @property
    def series(self) -> _Nobody:
        return self

    def fired(self, rows: Sequence[Execution]) -> None: ...

    @property
    def backlog(self) -> _Nobody:
        return self

    def awaits_nodes(self) -> bool:
        return False

    def takers(self, key: LaneKey) -> list[str]:  # noqa: ARG002
        # Which nodes there will be nobody knows; that there is one is what an execution is foreseen with, too.
        return ["?"]

    def room(self, handler_id: str) -> int:  # noqa: ARG002
        return 1_000_000

    def take(self, rows: Sequence[Execution]) -> None: ...

    def admit(self, handler_id: str) -> bool:  # noqa: ARG002
        return True

    def settled(self, rows: Sequence[Execution]) -> None: ...

    async def refresh(self) -> None: ...

    def heard(self, event: Event) -> None: ...

    def at(self, now_us: int) -> None: ...

    def any_since(self, us: int) -> bool:  # noqa: ARG002
        return False

    def since(self, us: int, now_us: int) -> tuple[Frozen, ...]:  # noqa: ARG002
        return ()


_NO_OPTIONS = JobOptions()


async def simulate(
    rows: Sequence[Schedule], from_us: int, to_us: int, *, now_us: int, resolver: Resolver, config: TimingConfig
) -> AsyncIterator[Fire]:
    """The ledger rows of ``[from_us, to_us]``, in order of time, of schedules as they are at ``now_us``.

    What they run before a range to come counts towards their maxima; a range of the past begins for each with its
    making. Each row's ``next_fire_us`` and ``runs`` are worked out anew.
    """
    clock = JumpingClock(from_us)
    memory = _Memory()
    nobody = cast("Any", _Nobody())
    outlooks = Outlooks(resolver, now_us)
    alarms = [alarm for row in rows if (alarm := _alarm(row, from_us, now_us, resolver, outlooks)) is not None]
    window = Window(_Alarms(alarms), span_us=LATEST_US)
    rounds = Rounds(
        store=cast("Store", memory),
        dispatcher=cast("Dispatcher", nobody),
        clock=clock,
        config=config,
        stats=TimerStats(),
        resolver=resolver,
        freezes=cast("FreezeBook", nobody),
        window=window,
        turns=cast("Turns", nobody),
    )
    by_id = {alarm.row.id: alarm for alarm in alarms}
    while True:
        taken = await rounds.take()
        if not taken:
            next_us = window.next_us()
            if next_us is None or next_us > to_us:
                return
            clock.now_us = next_us
            continue
        await rounds.write(taken)
        await rounds.settled()
        released, memory.released = memory.released, []
        for item in released:
            for fire in item.fires:
                yield fire
            if item.waits_for is not None:
                _follow(by_id[item.id], clock.now_us, window)


def _alarm(row: Schedule, from_us: int, now_us: int, resolver: Resolver, outlooks: Outlooks) -> Alarm | None:
    if row.state not in FIRING:
        return None
    alarm = Alarm(row, resolver.trigger)
    if alarm.trigger is None:
        # It is quarantined as soon as it is due, which is now.
        row.next_fire_us = from_us
        return alarm
    times = _at_a_fixed_rate(alarm.trigger, row, now_us) if isinstance(alarm.trigger, DelayTrigger) else alarm.trigger
    if times is None:
        return None
    most = alarm.policies.max_fires
    if most is not None and from_us > now_us:
        # A calendar that is not there stops the first round, which says so.
        with suppress(InvalidCalendar):
            outlook = outlooks.of(row)
            row.runs += 0 if outlook is None else replace(outlook, trigger=times).runs(now_us, from_us)
        if row.runs >= most:
            return None
    row.next_fire_us = times.next_after(max(from_us - 1, row.created_us))
    return None if row.next_fire_us is None else alarm


def _at_a_fixed_rate(trigger: DelayTrigger, row: Schedule, now_us: int) -> Trigger | None:
    """What a fixed delay after runs of no time comes to."""
    due_us = trigger.next_after(now_us - 1) if row.next_fire_us is None else row.next_fire_us
    if due_us is None and row.state is ScheduleState.ACTIVE:
        due_us = trigger.after_run(now_us)
    if due_us is None:
        return None
    row.next_fire_us = due_us
    return IntervalTrigger(trigger.delay_us, Span(due_us, trigger.span.end_us))


def _follow(alarm: Alarm, now_us: int, window: Window) -> None:
    """A run of no time is over."""
    assert alarm.trigger is not None
    alarm.row.waits_for, alarm.row.next_fire_us = None, alarm.trigger.after_run(now_us)
    window.add(alarm)
