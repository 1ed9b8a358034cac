"""Running a past range of a schedule's times afterwards: counted first, then created at a rate, and cancellable."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from itertools import islice

import msgspec
import structlog

from schedule_zero.clock import Clock, rfc3339
from schedule_zero.errors import Conflict, InvalidField, NotFound
from schedule_zero.model import Backfill, Schedule, new_id
from schedule_zero.rules.policies import policies_of
from schedule_zero.service.idempotency import idempotency_record
from schedule_zero.service.specs import BackfillCount, IdemKey, Principal
from schedule_zero.store import Store
from schedule_zero.store import backfills as store_backfills
from schedule_zero.store import schedules as store_schedules
from schedule_zero.store.idempotency import IdempotentReplay
from schedule_zero.store.tx import Page
from schedule_zero.timing import Timer
from schedule_zero.timing.backfills import MAX_TOTAL, nominal_times, starts_in, why_no_times

log = structlog.get_logger(__name__)


class BackfillService:
    """Count, begin, look, cancel."""

    def __init__(self, *, store: Store, timer: Timer, clock: Clock) -> None:
        self._store = store
        self._timer = timer
        self._clock = clock

    async def count(self, schedule_id: str, from_us: int, to_us: int, rate_per_s: float) -> BackfillCount:
        """What a backfill would run. Nothing is stored. InvalidField and Conflict as ``begin``."""
        times = await self._times(await self._schedule(schedule_id), from_us, to_us)
        beside = await self._store.read(lambda conn: store_backfills.overlap(conn, schedule_id, from_us, to_us))
        if beside is not None:
            raise beside
        return BackfillCount(
            total=len(times),
            first_us=times[0] if times else None,
            last_us=times[-1] if times else None,
            takes_s=len(times) / rate_per_s,
        )

    async def begin(
        self,
        principal: Principal,
        schedule_id: str,
        from_us: int,
        to_us: int,
        rate_per_s: float,
        expected: int | None = None,
        idem: IdemKey | None = None,
    ) -> tuple[Backfill, bool]:
        """Run the nominal times in ``[from_us, to_us]`` once more, or for the first time. The ledger stays as it is.

        Answers the backfill as it is now, and whether it was begun by an earlier request of the same key.

        ``expected`` is the count that was agreed to: Conflict if it is another one by now. InvalidField if there is
        nothing to run, or too much.
        """
        schedule = await self._schedule(schedule_id)
        times = await self._times(schedule, from_us, to_us)
        if not times:
            raise InvalidField("the schedule has no nominal time in this range", pointer="/from")
        if expected is not None and expected != len(times):
            raise Conflict(f"expected {expected} executions, there would be {len(times)}", count=len(times))
        row = Backfill(
            id=new_id(),
            schedule_id=schedule_id,
            generation=schedule.generation,
            version=schedule.version,
            from_us=from_us,
            to_us=to_us,
            next_us=times[0],
            rate_per_s=rate_per_s,
            total=len(times),
            created_us=self._clock.wall_us(),
            by=principal.name,
        )
        record = idempotency_record(principal, idem, [row.id], self._clock)
        begun: Backfill | IdempotentReplay = await self._store.write(
            store_backfills.create, store_backfills.Create(row=row, idem=record), by=principal.actor
        )
        if isinstance(begun, IdempotentReplay):
            [backfill_id] = msgspec.json.decode(begun.response, type=list[str])
            earlier = await self._store.read(lambda conn: store_backfills.get(conn, backfill_id))
            assert earlier is not None  # they are never deleted
            return earlier, True
        self._timer.backfills.changed()
        log.info("backfill_begun", backfill_id=row.id, schedule_id=schedule_id, count=row.total, by=principal.name)
        return begun, False

    async def cancel(self, principal: Principal, backfill_id: str) -> Backfill:
        """Create no more; what was created stays. NotFound, WrongState."""
        cancelled: Backfill = await self._store.write(store_backfills.cancel, backfill_id, by=principal.actor)
        log.info("backfill_cancelled", backfill_id=backfill_id, created=cancelled.created, by=principal.name)
        return cancelled

    async def find(self, schedule_id: str, *, cursor: str | None = None, limit: int = 50) -> Page[Backfill]:
        """Those of one schedule, the newest first; they outlive it. NotFound: there never was one."""
        page = await self._store.read(lambda conn: store_backfills.find(conn, schedule_id, cursor=cursor, limit=limit))
        if not page.rows and cursor is None:
            await self._schedule(schedule_id)
        return page

    async def _schedule(self, schedule_id: str) -> Schedule:
        found = await self._store.read(lambda conn: store_schedules.get(conn, schedule_id))
        if found is None:
            raise NotFound(f"there is no schedule {schedule_id!r}")
        return found

    async def _times(self, schedule: Schedule, from_us: int, to_us: int) -> list[int]:
        if to_us < from_us:
            raise InvalidField("the end lies before the start", pointer="/to")
        if to_us > self._clock.wall_us():
            raise InvalidField(f"expected a range that lies back, got {rfc3339(to_us)}", pointer="/to")
        if policies_of(schedule.policies).grouped:
            raise Conflict(
                f"each run of schedule {schedule.id!r} is a group (policies.broadcast, policies.shards), and a "
                "backfill makes single executions: make the groups that are missing with POST /api/groups"
            )
        resolver = self._timer.resolver
        why = why_no_times(resolver.trigger(schedule))
        if why is not None:
            raise InvalidField(f"the schedule has no nominal times that could be run: {why}", pointer="/from")
        starts_us = await self._store.read(lambda conn: starts_in(conn, schedule, from_us, to_us))
        times = await asyncio.to_thread(
            lambda: list(islice(nominal_times(resolver, schedule, from_us, to_us, starts_us), MAX_TOTAL + 1))
        )
        if len(times) > MAX_TOTAL:
            raise InvalidField(f"expected at most {MAX_TOTAL} nominal times in the range, got more", pointer="/from")
        undecided_us = schedule.next_fire_us
        if undecided_us is None or undecided_us > to_us:
            return times
        if self._timer.freezes.at(self._clock.wall_us()) is not None:
            # Their own fires may still run, when it is thawed.
            raise Conflict(
                f"all schedules are frozen, and nothing is decided yet from {rfc3339(undecided_us)} on: expected a "
                f"range that ends before that, got one to {rfc3339(to_us)}",
                pointer="/to",
            )
        # Due at this very moment: that is what its own fire is for.
        return times[: bisect_left(times, undecided_us)]
