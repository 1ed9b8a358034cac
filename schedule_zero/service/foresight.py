"""What will happen: the forecast over all schedules."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappush, heapreplace
from typing import TYPE_CHECKING

from schedule_zero.errors import InvalidCalendar, InvalidField, InvalidTrigger, NotFound
from schedule_zero.model import Schedule, ScheduleState
from schedule_zero.rules.policies import policies_of, skips_of
from schedule_zero.service.rest import Rest
from schedule_zero.store import Store
from schedule_zero.store import executions as store_executions
from schedule_zero.store import schedules as store_schedules
from schedule_zero.timing import Timer
from schedule_zero.timing.forecast import MAX_BUCKETS, Firing, Forecast, forecast

if TYPE_CHECKING:
    from sqlalchemy import Connection

PAGE = 1000
# The newest completed executions that say how long a job takes.
HISTORY = 20_000
MAX_RANGE_US = 366 * 86_400_000_000
# Entries of a feed, and of one schedule in it.
MAX_COMING = 2000
MAX_OF_ONE = 500


class ForesightService:
    """Reads only."""

    def __init__(self, *, store: Store, timer: Timer) -> None:
        self._store = store
        self._timer = timer

    async def forecast(self, from_us: int, to_us: int, bucket_us: int, quiet_us: int | None = None) -> Forecast:
        """The fires of all active schedules in ``[from_us, to_us)``, with the run time that they are expected to take.

        InvalidField: the range is empty, longer than a year, or has too many buckets.
        """
        if to_us <= from_us:
            raise InvalidField("the end of the range does not lie after its start", parameter="to")
        if to_us - from_us > MAX_RANGE_US:
            raise InvalidField("expected a range of at most 366 days", parameter="to")
        if (to_us - from_us) / bucket_us > MAX_BUCKETS:
            raise InvalidField(f"expected at most {MAX_BUCKETS} buckets: make them longer", parameter="bucket_s")
        if quiet_us is not None and quiet_us > to_us - from_us:
            raise InvalidField("expected a window that fits into the range", parameter="quiet_s")
        # A reader thread: counting for 100,000 schedules takes seconds, and the loop has to fire meanwhile.
        return await self._store.read(
            lambda conn: forecast(self._firings(conn), from_us, to_us, bucket_us, quiet_us=quiet_us, rest=Rest())
        )

    async def coming(
        self, from_us: int, to_us: int, schedule_id: str | None = None, limit: int = MAX_COMING
    ) -> list[tuple[Schedule, int]]:
        """The nominal times in ``[from_us, to_us)`` of one schedule or of all active ones, the earliest first.

        At most ``limit``, and of one schedule at most ``MAX_OF_ONE``: whoever fires each second fills no diary.
        NotFound: there is no such schedule.
        """
        return await self._store.read(lambda conn: self._coming(conn, from_us, to_us, schedule_id, limit))

    def _coming(
        self, conn: Connection, from_us: int, to_us: int, schedule_id: str | None, limit: int
    ) -> list[tuple[Schedule, int]]:
        rest = Rest()
        # The latest one is on top: what lies behind ``limit`` others is let go at once.
        kept: list[tuple[int, int, Schedule]] = []
        for place, row in enumerate(_active(conn) if schedule_id is None else [_one(conn, schedule_id)]):
            rest()
            try:
                trigger = self._timer.resolver.trigger(row)
            except (InvalidTrigger, InvalidCalendar):
                continue
            skips = frozenset(skips_of(row.skips))
            exclusions = self._timer.resolver.exclusions(policies_of(row.policies), trigger)
            nominal_us = trigger.next_after(from_us - 1)
            for _ in range(MAX_OF_ONE):
                if nominal_us is None or nominal_us >= to_us or (len(kept) == limit and -nominal_us <= kept[0][0]):
                    break
                if nominal_us not in skips and (exclusions is None or exclusions.verdict(nominal_us) is None):
                    entry = (-nominal_us, -place, row)
                    heappush(kept, entry) if len(kept) < limit else heapreplace(kept, entry)
                nominal_us = trigger.next_after(nominal_us)
        return [(row, -nominal_us) for nominal_us, _, row in sorted(kept, key=_moment, reverse=True)]

    def _firings(self, conn: Connection) -> Iterator[Firing]:
        run_s = store_executions.run_times(conn, HISTORY)
        for row in _active(conn):
            try:
                trigger = self._timer.resolver.trigger(row)
            except (InvalidTrigger, InvalidCalendar):
                continue
            expected = run_s.get((row.id, row.handler_id, row.job_method))
            if expected is None:
                expected = run_s.get(("", row.handler_id, row.job_method))
            yield Firing(schedule_id=row.id, trigger=trigger, run_s=expected)


def _moment(entry: tuple[int, int, Schedule]) -> tuple[int, int]:
    return entry[:2]


def _one(conn: Connection, schedule_id: str) -> Schedule:
    row = store_schedules.get(conn, schedule_id)
    if row is None:
        raise NotFound(f"there is no schedule {schedule_id!r}")
    return row


def _active(conn: Connection) -> Iterator[Schedule]:
    cursor: str | None = None
    while True:
        page = store_schedules.find(conn, cursor=cursor, limit=PAGE, state=ScheduleState.ACTIVE)
        yield from page.rows
        cursor = page.next_cursor
        if cursor is None:
            return
