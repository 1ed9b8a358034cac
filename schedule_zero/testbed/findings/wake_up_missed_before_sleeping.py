"""A schedule that is added while the scheduler asks for the next run time does not wake it.

One expects a new schedule to fire when it is due. Its event is compared with `wakeup_deadline`; but while
`get_next_schedule_run_time` is on its way, that is still the deadline of the round before, and the event is dropped.
The scheduler then sleeps until the time that it read; here there is none, so that it sleeps until something else
happens.
"""

import asyncio
import sys
from datetime import UTC, datetime, timedelta

from apscheduler import AsyncScheduler, SchedulerRole
from apscheduler.datastores.memory import MemoryDataStore
from apscheduler.triggers.date import DateTrigger


class SlowStore(MemoryDataStore):
    """As a database that is some milliseconds away: another process commits while the answer is on its way."""

    previous = None

    async def get_next_schedule_run_time(self):
        answer = await super().get_next_schedule_run_time()
        if self.previous and self.previous <= datetime.now(UTC) and not await self.get_schedules({"new"}):
            await scheduler.add_schedule(job, in_(0.2), id="new")
            await asyncio.sleep(0.05)
        self.previous = answer
        return answer


def job():
    pass


def in_(seconds):
    return DateTrigger(datetime.now(UTC) + timedelta(seconds=seconds))


scheduler = AsyncScheduler(SlowStore(), role=SchedulerRole.scheduler, cleanup_interval=None)


async def main():
    async with scheduler:
        await scheduler.start_in_background()
        while len(await scheduler.get_schedules()) < 2:  # again, if the machine was too slow for a round to end asleep
            await scheduler.remove_schedule("old")
            await scheduler.add_schedule(job, in_(0.1), id="old")
            await asyncio.sleep(0.8)
        await asyncio.sleep(0.7)
        return {one.schedule_id for one in await scheduler.get_jobs()}


fired = asyncio.run(main())
print("expected: the new schedule fires when it is due, in 0.2 s")
print(f"seen: {'it fired' if 'new' in fired else 'it has not fired after 0.7 s'}")
sys.exit("new" not in fired)
