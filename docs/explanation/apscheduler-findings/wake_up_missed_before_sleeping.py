"""A schedule that is added while the scheduler asks for the next run time does not wake it.

One expects a new schedule to fire when it is due. Its event is compared with `wakeup_deadline`; but while
`get_next_schedule_run_time` is on its way, that is still the deadline of the round before, and the event is dropped.
The scheduler then sleeps until the time that it read, here for an hour.
"""

import asyncio
import sys
from datetime import UTC, datetime, timedelta

from apscheduler import AsyncScheduler, SchedulerRole
from apscheduler.datastores.memory import MemoryDataStore
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger


class SlowStore(MemoryDataStore):
    """As a database that is some milliseconds away: another process commits while the answer is on its way."""

    async def get_next_schedule_run_time(self):
        answer = await super().get_next_schedule_run_time()
        if (await self.get_schedules({"old"}))[0].last_fire_time and not await self.get_schedules({"new"}):
            await scheduler.add_schedule(job, DateTrigger(datetime.now(UTC) + timedelta(seconds=0.2)), id="new")
            await asyncio.sleep(0.05)
        return answer


def job():
    pass


scheduler = AsyncScheduler(SlowStore(), role=SchedulerRole.scheduler, cleanup_interval=None)


async def main():
    async with scheduler:
        soon = datetime.now(UTC) + timedelta(seconds=0.1)
        await scheduler.add_schedule(job, IntervalTrigger(hours=1, start_time=soon), id="old")
        await scheduler.start_in_background()
        await asyncio.sleep(1)
        return {one.schedule_id for one in await scheduler.get_jobs()}


fired = asyncio.run(main())
assert "old" in fired
print("expected: the new schedule fires when it is due, in 0.2 s")
print(f"seen: {'it fired' if 'new' in fired else 'it has not fired 0.7 s after it was due'}")
sys.exit("new" not in fired)
