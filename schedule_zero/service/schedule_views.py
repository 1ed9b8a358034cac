"""Schedules as people look at them: many with how their last fires went, one with past and future.

Reads only, each in one snapshot and with a bounded number of look-ups.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct

from schedule_zero.clock import Clock
from schedule_zero.dispatch.dispatcher import Dispatcher
from schedule_zero.errors import InvalidCalendar, InvalidTrigger, NotFound
from schedule_zero.model import Fire, FireOutcome, Schedule, ScheduleState
from schedule_zero.rules.options import Source, StoredOptions, effective, options_said
from schedule_zero.rules.policies import policies_of, skips_of
from schedule_zero.service.explain import zone_of
from schedule_zero.service.foresight import FARTHEST_US
from schedule_zero.store import Store, fire_audit, fire_outcomes, schedule_lists
from schedule_zero.store import fires as store_fires
from schedule_zero.store import schedules as store_schedules
from schedule_zero.store.fire_outcomes import Day, Outcome
from schedule_zero.store.fires import FireCounts
from schedule_zero.store.schedule_lists import Order, Wanted
from schedule_zero.store.tx import Page
from schedule_zero.timing import Timer, load_trigger
from schedule_zero.timing.outlook import Outlooks
from schedule_zero.timing.previews import PreviewTime, times_from

if TYPE_CHECKING:
    from sqlalchemy import Connection

STRIP = 20
# Marks of a time to come beside those of a preview.
REQUESTED = "to_be_skipped"
PAUSED = "paused"


class ListedSchedule(Struct, frozen=True, kw_only=True):
    """A schedule, its trigger in words and on which wall, and its last fires, oldest first."""

    schedule: Schedule
    words: str
    # None: it counts in UTC.
    zone: str | None
    outcomes: list[Outcome]


class ScheduleList(Struct, frozen=True, kw_only=True):
    rows: list[ListedSchedule]
    next_cursor: str | None
    # How many the filter finds in each state, whatever state is wanted.
    counts: dict[ScheduleState, int]
    # Of all schedules.
    handlers: list[str]


class ShownSchedule(Struct, frozen=True, kw_only=True):
    listed: ListedSchedule
    # How many nominal times of this generation had which outcome.
    counts: FireCounts


class MonthDay(Struct, frozen=True, kw_only=True):
    """What became of the nominal times of one day, and what is to come of those that lie ahead."""

    past: Day
    to_come: int = 0
    # To come, and won't run: asked to be skipped, or forbidden by a calendar.
    left_out: int = 0


class LedgerPage(Struct, frozen=True, kw_only=True):
    page: Page[Fire]
    # The states of what ran, by the id of the execution or the group; what is deleted is absent.
    states: dict[str, str]


class ScheduleViews:
    """Looks, and changes nothing."""

    def __init__(self, *, store: Store, dispatcher: Dispatcher, timer: Timer, clock: Clock) -> None:
        self._store = store
        self._registry = dispatcher.registry
        self._timer = timer
        self._clock = clock

    async def page(
        self, wanted: Wanted, *, order: Order = Order.ID, cursor: str | None = None, limit: int = 50
    ) -> ScheduleList:
        """A page of schedules, and how many there are. InvalidField: the cursor is none of this order."""

        def read(conn: Connection) -> ScheduleList:
            page = schedule_lists.find(conn, wanted, order=order, cursor=cursor, limit=limit)
            return ScheduleList(
                rows=_listed(conn, page.rows),
                next_cursor=page.next_cursor,
                counts=schedule_lists.counts(conn, wanted),
                handlers=schedule_lists.handlers(conn),
            )

        return await self._store.read(read)

    async def one(self, schedule_id: str) -> ShownSchedule:
        """One schedule. NotFound."""

        def read(conn: Connection) -> ShownSchedule:
            row = _get(conn, schedule_id)
            return ShownSchedule(listed=_listed(conn, [row])[0], counts=store_fires.counts(conn, schedule_id))

        return await self._store.read(read)

    async def ledger(
        self,
        schedule_id: str,
        *,
        outcome: FireOutcome | None = None,
        low_us: int | None = None,
        high_us: int | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> LedgerPage:
        """A page of its ledger, newest first, of ``[low_us, high_us)`` if both are given; it outlives its schedule."""

        def read(conn: Connection) -> LedgerPage:
            if low_us is None or high_us is None:
                page = store_fires.find(conn, schedule_id=schedule_id, outcome=outcome, cursor=cursor, limit=limit)
            else:
                page = store_fires.between(
                    conn, schedule_id, low_us, high_us, outcome=outcome, cursor=cursor, limit=limit
                )
            ran = [fire.execution_id for fire in page.rows if fire.execution_id is not None]
            return LedgerPage(page=page, states=fire_outcomes.states(conn, ran))

        return await self._store.read(read)

    async def has_ledger(self, schedule_id: str) -> bool:
        """Whether there ever was a fire of this id."""
        return await self._store.read(lambda conn: next(fire_audit.generations(conn, schedule_id), None) is not None)

    async def coming(self, row: Schedule, n: int) -> list[PreviewTime]:
        """Its next nominal times with what is special about each; none, if its trigger can't be read any more."""
        return await self._store.read(lambda _: self._coming(row, n))

    def _coming(self, row: Schedule, n: int) -> list[PreviewTime]:
        if row.next_fire_us is None:
            return []
        policies, now_us = policies_of(row.policies), self._clock.wall_us()
        try:
            trigger, named = self._timer.resolver.trigger(row), load_trigger(row.trigger)
            exclusions = self._timer.resolver.exclusions(policies, named)
        except (InvalidTrigger, InvalidCalendar):
            return []
        # What is due and not decided (all is frozen) is not to come.
        late = row.next_fire_us < now_us
        first_us = trigger.next_after(now_us) if late else row.next_fire_us
        left = None if policies.max_fires is None else policies.max_fires - row.runs
        times = times_from(trigger, first_us, n, named, exclusions, left)
        skips = set(skips_of(row.skips))
        for time in times:
            if time.at_us in skips:
                time.marks.append(REQUESTED)
            if row.state is ScheduleState.PAUSED and (row.resume_us is None or time.at_us < row.resume_us):
                time.marks.append(PAUSED)
        return times

    async def days(self, schedule_id: str, bounds: Sequence[int]) -> list[MonthDay]:
        """What became of the days between these moments (one more than there are days), and what is to come."""
        now_us = self._clock.wall_us()
        begun = [us for us in bounds if us <= now_us]
        past_bounds = list(bounds[: len(begun) + 1])

        def read(conn: Connection) -> list[MonthDay]:
            past = fire_outcomes.days(conn, schedule_id, past_bounds)
            past += [Day() for _ in range(len(bounds) - 1 - len(past))]
            row = store_schedules.get(conn, schedule_id)
            ahead = [(0, 0)] * len(past) if row is None else self._ahead(row, bounds, now_us)
            return [
                MonthDay(past=day, to_come=runs, left_out=left_out)
                for day, (runs, left_out) in zip(past, ahead, strict=True)
            ]

        return await self._store.read(read)

    def _ahead(self, row: Schedule, bounds: Sequence[int], now_us: int) -> list[tuple[int, int]]:
        """For each day how many of its times to come run, and how many are left out."""
        none = [(0, 0)] * (len(bounds) - 1)
        try:
            outlook = Outlooks(self._timer.resolver, now_us).of(row)
        except (InvalidTrigger, InvalidCalendar):
            return none
        if outlook is None or bounds[0] > now_us + FARTHEST_US:
            return none
        found = []
        for midnight_us, high_us in pairwise(bounds):
            low_us = max(midnight_us, outlook.start_us)
            if low_us >= high_us:
                found.append((0, 0))
                continue
            runs = outlook.runs(low_us, high_us)
            found.append((runs, max(0, outlook.count(low_us, high_us) - runs)))
        return found

    def options(self, row: Schedule) -> StoredOptions:
        """The options that its executions get, and who said each: the schedule or its method."""
        return effective(
            {
                Source.SCHEDULE: options_said(row.options),
                Source.METHOD: self._registry.options(row.handler_id, row.job_method),
            }
        )


def _get(conn: Connection, schedule_id: str) -> Schedule:
    row = store_schedules.get(conn, schedule_id)
    if row is None:
        raise NotFound(f"there is no schedule {schedule_id!r}")
    return row


def _listed(conn: Connection, rows: Sequence[Schedule]) -> list[ListedSchedule]:
    outcomes = fire_outcomes.last_outcomes(conn, [row.id for row in rows], STRIP)
    return [
        ListedSchedule(schedule=row, words=words_of(row.trigger), zone=zone_of(row), outcomes=outcomes[row.id])
        for row in rows
    ]


@lru_cache(maxsize=4096)
def words_of(trigger: bytes) -> str:
    """A stored trigger in words."""
    try:
        return load_trigger(trigger).words()
    except InvalidTrigger as error:
        return f"it can't be read any more: {error.message}"
