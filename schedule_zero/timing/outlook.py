"""Which nominal times of a schedule will run, as things stand: what its rounds are going to decide.

Not on a pause, not those that somebody asked to skip, none that a named calendar forbids, and no more than it may run.
What can't be foreseen is left out of account: lateness, the ends of runs, freezes. Counting is arithmetic within the
stretches that are left, and nobody looks at a calendar for a schedule that has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from msgspec import Struct

from schedule_zero.model import ScheduleState
from schedule_zero.rules.policies import policies_of, skips_of
from schedule_zero.timing.resolve import day_zone

if TYPE_CHECKING:
    from schedule_zero.model import Schedule
    from schedule_zero.timing.calendars import Exclusions
    from schedule_zero.timing.resolve import Resolver
    from schedule_zero.timing.trigger import Trigger

Stretch = tuple[int, int]

# So many runs are walked through; more are found by counting.
FEW_RUNS = 1000


class OpenTimes(Struct, eq=False):
    """What some named calendars leave open: worked out once for all schedules that they bear on."""

    exclusions: Exclusions
    now_us: int
    known: dict[Stretch, list[Stretch]]
    rest: Callable[[], None]

    def between(self, from_us: int, to_us: int) -> list[Stretch]:
        """The stretches of ``[from_us, to_us)`` that none of them forbids."""
        found = self.known.get((from_us, to_us))
        if found is None:
            found = []
            for low_us, high_us, verdict in self.exclusions.segments(from_us, to_us):
                self.rest()
                if verdict is None:
                    found.append((low_us, high_us))
            self.known[from_us, to_us] = found
        return found


class Outlook(Struct, frozen=True, kw_only=True):
    """One schedule that fires. Equal ones have the same fires to come."""

    trigger: Trigger
    # Its next nominal time, whatever the trigger says; None: that of the trigger.
    due_us: int | None = None
    # From here on it runs.
    start_us: int = 0
    skips: tuple[int, ...] = ()
    open: OpenTimes | None = None
    runs_left: int | None = None

    def stretches(self, from_us: int, to_us: int) -> Iterator[Stretch]:
        """The parts of ``[from_us, to_us)`` in which each of its nominal times runs, in order."""
        left = self.runs_left
        if left is None:
            yield from self._allowed(from_us, to_us)
            return
        # Those before the range count as well.
        for low_us, high_us in self._allowed(self.start_us if self.open is None else self.open.now_us, to_us):
            if left <= 0:
                return
            runs, end_us = self._cut(low_us, high_us, left)
            left -= runs
            if end_us > from_us:
                yield max(low_us, from_us), end_us

    def _allowed(self, from_us: int, to_us: int) -> Iterator[Stretch]:
        for low_us, high_us in [(from_us, to_us)] if self.open is None else self.open.between(from_us, to_us):
            at_us = max(low_us, self.start_us)
            for skip_us in self.skips:
                if at_us <= skip_us < high_us:
                    if skip_us > at_us:
                        yield at_us, skip_us
                    at_us = skip_us + 1
            if at_us < high_us:
                yield at_us, high_us

    def _cut(self, low_us: int, high_us: int, most: int) -> tuple[int, int]:
        """How many nominal times a stretch has, ``most`` at most, and its end: right after that one."""
        if most <= FEW_RUNS:
            few = list(islice(self.nominal(low_us, high_us), most))
            return len(few), few[-1] + 1 if len(few) == most else high_us
        count = self.count(low_us, high_us)
        if count < most:
            return count, high_us
        start_us = low_us
        while high_us - low_us > 1:
            middle_us = (low_us + high_us) // 2
            if self.count(start_us, middle_us) < most:
                low_us = middle_us
            else:
                high_us = middle_us
        return most, high_us

    def count(self, low_us: int, high_us: int) -> int:
        """How many nominal times lie in ``[low_us, high_us)``, whatever becomes of them."""
        due_us = self.due_us
        if due_us is None or low_us > due_us:
            return self.trigger.count(low_us - 1, high_us - 1)
        if high_us <= due_us:
            return 0
        return 1 + (self.trigger.count(due_us, high_us - 1) if high_us - 1 > due_us else 0)

    def next_after(self, us: int) -> int | None:
        """The first nominal time after ``us``, whatever becomes of it."""
        return self.due_us if self.due_us is not None and us < self.due_us else self.trigger.next_after(us)

    def nominal(self, low_us: int, high_us: int) -> Iterator[int]:
        """The nominal times in ``[low_us, high_us)``, whatever becomes of them."""
        nominal_us = self.next_after(low_us - 1)
        while nominal_us is not None and nominal_us < high_us:
            yield nominal_us
            nominal_us = self.next_after(nominal_us)

    def runs(self, from_us: int, to_us: int) -> int:
        """How many of its nominal times in ``[from_us, to_us)`` run."""
        return sum(self.count(low_us, high_us) for low_us, high_us in self.stretches(from_us, to_us))

    def times(self, from_us: int, to_us: int) -> Iterator[int]:
        """Its nominal times in ``[from_us, to_us)`` that run, in order."""
        for low_us, high_us in self.stretches(from_us, to_us):
            yield from self.nominal(low_us, high_us)


class Outlooks:
    """Makes them, as of one moment."""

    def __init__(self, resolver: Resolver, now_us: int, rest: Callable[[], None] = lambda: None) -> None:
        """``rest`` is called often, where the work may take long."""
        self._resolver = resolver
        self._now_us = now_us
        self._rest = rest
        self._open: dict[object, OpenTimes | None] = {}

    def of(self, row: Schedule) -> Outlook | None:
        """What comes of a schedule; None: nothing, as things stand. InvalidTrigger, InvalidCalendar."""
        snoozed = row.state is ScheduleState.PAUSED and row.resume_us is not None
        if row.next_fire_us is None or not (row.state is ScheduleState.ACTIVE or snoozed):
            return None
        trigger, policies = self._resolver.trigger(row), policies_of(row.policies)
        start_us = max(row.next_fire_us, self._now_us)
        if snoozed and row.resume_us is not None:
            start_us = max(start_us, row.resume_us)
        most = policies.max_fires
        return Outlook(
            trigger=trigger,
            due_us=row.next_fire_us,
            start_us=start_us,
            skips=tuple(skips_of(row.skips)),
            open=self._open_times(row, trigger),
            runs_left=None if most is None else most - row.runs,
        )

    def _open_times(self, row: Schedule, trigger: Trigger) -> OpenTimes | None:
        policies = policies_of(row.policies)
        business = policies.business_days
        if not (policies.exclude or policies.require or business):
            return None
        key = (policies.exclude, policies.require, business, None if business is None else day_zone(trigger))
        if key not in self._open:
            exclusions = self._resolver.exclusions(policies, trigger)
            self._open[key] = None if exclusions is None else OpenTimes(exclusions, self._now_us, {}, self._rest)
        return self._open[key]
