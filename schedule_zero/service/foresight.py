"""What will happen: the forecast over all schedules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from heapq import heappush, heapreplace
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from schedule_zero.clock import Clock, rfc3339
from schedule_zero.errors import InvalidCalendar, InvalidField, InvalidTrigger, NotFound
from schedule_zero.model import Schedule, ScheduleState
from schedule_zero.service.rest import Rest
from schedule_zero.store import Store, schedule_overview
from schedule_zero.store import calendars as store_calendars
from schedule_zero.store import executions as store_executions
from schedule_zero.store import schedules as store_schedules
from schedule_zero.timing import Timer
from schedule_zero.timing.forecast import MAX_BUCKETS, Firing, Forecast, forecast
from schedule_zero.timing.outlook import Outlook, Outlooks
from schedule_zero.timing.trigger import LATEST_US

if TYPE_CHECKING:
    from sqlalchemy import Connection

PAGE = 1000
# The newest completed executions that say how long a job takes.
HISTORY = 20_000
MAX_RANGE_US = 366 * 86_400_000_000
# What runs before the range may have to be counted as well.
FARTHEST_US = 2 * MAX_RANGE_US
# Entries of a feed, and of one schedule in it.
MAX_COMING = 2000
MAX_OF_ONE = 500
# Schedules that are read, the next ones first, to find those that run next: more where these don't settle it, as far
# as the last of these.
LOOKED_AT = (50, 500, 5000)


class NextRun(Struct, frozen=True, kw_only=True):
    """A schedule that is going to run: when next, and how often in all within the range that was asked for."""

    schedule: Schedule
    at_us: int
    runs: int


class NextRuns(Struct, frozen=True):
    """The earliest first; ``more``: others follow within the range, or may."""

    rows: list[NextRun]
    more: bool


class Only(Struct, frozen=True, kw_only=True):
    """Some schedules: of an id (``*`` stands for any text), and that name a calendar in their policies. Empty: any."""

    schedule: str = ""
    calendar: str = ""


class Foreseen(Struct, frozen=True, kw_only=True):
    """What comes in a range, of some schedules or all: how much when, and which of them run first."""

    at_us: int
    forecast: Forecast
    first: NextRuns


ALL = Only()

# When it runs first, its id, the schedule, its outlook.
_First: TypeAlias = "tuple[int, str, Schedule, Outlook]"


class ForesightService:
    """Reads only."""

    def __init__(self, *, store: Store, timer: Timer, clock: Clock) -> None:
        self._store = store
        self._timer = timer
        self._clock = clock

    async def forecast(self, from_us: int, to_us: int, bucket_us: int, quiet_us: int | None = None) -> Forecast:
        """What will run in ``[from_us, to_us)``, as things stand, with the run time that it is expected to take.

        InvalidField: the range is empty, longer than a year, or too far ahead, or has too many buckets.
        """
        self.check_range(from_us, to_us, bucket_us)
        now_us = self._clock.wall_us()
        if quiet_us is not None and quiet_us > to_us - from_us:
            raise InvalidField("expected a window that fits into the range", parameter="quiet_s")
        # A reader thread: counting for 100,000 schedules takes seconds, and the loop has to fire meanwhile.
        return await self._store.read(
            lambda conn: forecast(
                self._firings(conn, now_us, ALL), from_us, to_us, bucket_us, quiet_us=quiet_us, rest=Rest()
            )
        )

    async def foresee(self, from_us: int, to_us: int, bucket_us: int, only: Only, limit: int) -> Foreseen:
        """The forecast of some schedules, and the ``limit`` of them that run first in that range.

        InvalidField as ``forecast``. All schedules are gone through: it takes as long as that takes.
        """
        self.check_range(from_us, to_us, bucket_us)
        now_us = self._clock.wall_us()

        def look(conn: Connection) -> Foreseen:
            soonest = _Soonest(limit, from_us, to_us, of_one=1)
            found = forecast(self._firings(conn, now_us, only, soonest.take), from_us, to_us, bucket_us, rest=Rest())
            first = [
                NextRun(schedule=row, at_us=at_us, runs=outlook.runs(from_us, to_us))
                for row, outlook, at_us in soonest.all()
            ]
            return Foreseen(at_us=now_us, forecast=found, first=NextRuns(first, more=found.schedules > len(first)))

        return await self._store.read(look)

    def check_range(self, from_us: int, to_us: int, bucket_us: int) -> None:
        """InvalidField: no forecast can be made of such a range."""
        now_us = self._clock.wall_us()
        if to_us <= from_us:
            raise InvalidField("the end of the range does not lie after its start", parameter="to")
        if to_us > now_us + FARTHEST_US:
            got = f"to {rfc3339(to_us)}" if to_us <= LATEST_US else "that ends after the year 9998"
            raise InvalidField(
                f"expected a range that ends within two years, by {rfc3339(now_us + FARTHEST_US)}, got one {got}",
                parameter="to",
            )
        if to_us - from_us > MAX_RANGE_US:
            raise InvalidField("expected a range of at most 366 days", parameter="to")
        if (to_us - from_us) / bucket_us > MAX_BUCKETS:
            raise InvalidField(f"expected at most {MAX_BUCKETS} buckets: make them longer", parameter="bucket_s")

    async def coming(
        self, from_us: int, to_us: int, schedule_id: str | None = None, limit: int = MAX_COMING
    ) -> list[tuple[Schedule, int]]:
        """The nominal times in ``[from_us, to_us)`` that will run, of one schedule or of all, the earliest first.

        At most ``limit``, and of one schedule at most ``MAX_OF_ONE``: whoever fires each second fills no diary.
        NotFound: there is no such schedule.
        """
        return await self._store.read(lambda conn: self._coming(conn, from_us, to_us, schedule_id, limit))

    async def next_runs(self, to_us: int, limit: int, only: Only | None = None) -> NextRuns:
        """The schedules that run next, up to ``to_us``; what it costs does not grow with how many there are.

        Of some schedules (``only``), those among the ``LOOKED_AT[-1]`` that are due next.
        """
        return await self._store.read(lambda conn: self.next_runs_in(conn, to_us, limit, only))

    def next_runs_in(self, conn: Connection, to_us: int, limit: int, only: Only | None = None) -> NextRuns:
        """``next_runs`` within one snapshot."""
        now_us = self._clock.wall_us()
        fits = None if only is None or only == ALL else _fitting(conn, only)
        found, more = self._first_ones(conn, now_us, to_us, limit, fits)
        runs = [
            NextRun(schedule=row, at_us=at_us, runs=outlook.runs(now_us, to_us))
            for at_us, _, row, outlook in found[:limit]
        ]
        return NextRuns(runs, more=more or len(found) > limit)

    def _first_ones(
        self, conn: Connection, now_us: int, to_us: int, limit: int, fits: Callable[[str], bool] | None
    ) -> tuple[list[_First], bool]:
        """The schedules that run first, and perhaps others after them; and whether there may be more than these."""
        for most in LOOKED_AT:
            rows = schedule_overview.upcoming(conn, to_us, most)
            found: list[_First] = []
            wanted = rows if fits is None else [row for row in rows if fits(row.id)]
            for row, outlook in self._outlooks(iter(wanted), now_us):
                at_us = next(outlook.times(now_us, to_us), None)
                if at_us is not None:
                    found.append((at_us, row.id, row, outlook))
            found.sort(key=_first_two)
            if len(rows) < most:
                return found, False
            # Whoever is due later than the last that was read, runs later as well.
            if most == LOOKED_AT[-1] or (len(found) > limit and found[limit][0] <= (rows[-1].next_fire_us or 0)):
                return found, True
        raise AssertionError("LOOKED_AT is empty")

    def _coming(
        self, conn: Connection, from_us: int, to_us: int, schedule_id: str | None, limit: int
    ) -> list[tuple[Schedule, int]]:
        rest = Rest()
        rows = _not_over(conn) if schedule_id is None else iter([_one(conn, schedule_id)])
        soonest = _Soonest(limit, from_us, to_us, of_one=MAX_OF_ONE)
        for row, outlook in self._outlooks(rows, self._clock.wall_us()):
            rest()
            soonest.take(row, outlook)
        return [(row, at_us) for row, _, at_us in soonest.all()]

    def _firings(
        self,
        conn: Connection,
        now_us: int,
        only: Only,
        also: Callable[[Schedule, Outlook], None] = lambda _, __: None,
    ) -> Iterator[Firing]:
        """``also`` hears of each of them."""
        run_s = store_executions.run_times(conn, HISTORY)
        for row, outlook in self._outlooks(_those(conn, only), now_us):
            also(row, outlook)
            expected = run_s.get((row.id, row.handler_id, row.job_method))
            if expected is None:
                expected = run_s.get(("", row.handler_id, row.job_method))
            yield Firing(schedule_id=row.id, outlook=outlook, run_s=expected)

    def _outlooks(self, rows: Iterator[Schedule], now_us: int) -> Iterator[tuple[Schedule, Outlook]]:
        outlooks = Outlooks(self._timer.resolver, now_us, Rest())
        for row in rows:
            try:
                outlook = outlooks.of(row)
            except (InvalidTrigger, InvalidCalendar):
                continue
            if outlook is not None:
                yield row, outlook


def _first_two(entry: _First) -> tuple[int, str]:
    return entry[:2]


def _moment(entry: tuple[int, int, Schedule, Outlook]) -> tuple[int, int]:
    return entry[:2]


class _Soonest:
    """The earliest nominal times of many schedules."""

    def __init__(self, limit: int, from_us: int, to_us: int, *, of_one: int) -> None:
        self._limit, self._from_us, self._to_us, self._of_one = limit, from_us, to_us, of_one
        # The latest one is on top: what lies behind ``limit`` others is let go at once.
        self._kept: list[tuple[int, int, Schedule, Outlook]] = []
        self._seen = 0

    def take(self, row: Schedule, outlook: Outlook) -> None:
        """Look at the times of a schedule, as far as they can be among the earliest."""
        kept = self._kept
        self._seen += 1
        for nominal_us in islice(outlook.times(self._from_us, self._to_us), self._of_one):
            if len(kept) == self._limit and -nominal_us <= kept[0][0]:
                break
            entry = (-nominal_us, -self._seen, row, outlook)
            heappush(kept, entry) if len(kept) < self._limit else heapreplace(kept, entry)

    def all(self) -> list[tuple[Schedule, Outlook, int]]:
        """The earliest first."""
        kept = sorted(self._kept, key=_moment, reverse=True)
        return [(row, outlook, -nominal_us) for nominal_us, _, row, outlook in kept]


def _those(conn: Connection, only: Only) -> Iterator[Schedule]:
    """The ones that are meant, of those that are not over."""
    if only == ALL:
        return _not_over(conn)
    fits = _fitting(conn, only)
    if only.schedule and "*" not in only.schedule:
        row = store_schedules.get(conn, only.schedule)
        return iter([] if row is None or not fits(row.id) else [row])
    return (row for row in _not_over(conn) if fits(row.id))


def _fitting(conn: Connection, only: Only) -> Callable[[str], bool]:
    """Whether a schedule of that id is one of those that are meant."""
    pattern = re.compile(".*".join(re.escape(piece) for piece in (only.schedule or "*").split("*")), re.DOTALL)
    users = frozenset(store_calendars.users(conn, only.calendar)) if only.calendar else None
    return lambda id_: pattern.fullmatch(id_) is not None and (users is None or id_ in users)


def _one(conn: Connection, schedule_id: str) -> Schedule:
    row = store_schedules.get(conn, schedule_id)
    if row is None:
        raise NotFound(f"there is no schedule {schedule_id!r}")
    return row


def _not_over(conn: Connection) -> Iterator[Schedule]:
    """Those that fire, and those that may go on by themselves."""
    for state in (ScheduleState.ACTIVE, ScheduleState.PAUSED):
        cursor: str | None = None
        while True:
            page = store_schedules.find(conn, cursor=cursor, limit=PAGE, state=state)
            yield from page.rows
            cursor = page.next_cursor
            if cursor is None:
                break
