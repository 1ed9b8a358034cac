"""MemoryDataStore: a paused schedule whose time has come keeps the scheduler busy without a pause.

`get_next_schedule_run_time` returns the earliest run time "or None if there are no active schedules". One expects a
scheduler with nothing but a paused schedule to sleep. The memory store counts paused schedules in, so that it sleeps
for less than no time, again and again.
"""

import asyncio
import sys
from datetime import UTC, datetime

from apscheduler import AsyncScheduler, SchedulerRole
from apscheduler.datastores.memory import MemoryDataStore
from apscheduler.triggers.interval import IntervalTrigger

rounds = 0


class Counted(MemoryDataStore):
    async def acquire_schedules(self, scheduler_id, lease_duration, limit):
        global rounds
        rounds += 1
        return await super().acquire_schedules(scheduler_id, lease_duration, limit)


def job():
    pass


async def main():
    async with AsyncScheduler(Counted(), role=SchedulerRole.scheduler) as scheduler:
        await scheduler.add_schedule(job, IntervalTrigger(hours=1, start_time=datetime.now(UTC)), paused=True)
        await scheduler.start_in_background()
        for _ in range(20):
            await asyncio.sleep(0.05)
            if rounds > 20:
                break


asyncio.run(main())
print("expected: the scheduler sleeps; at most 2 rounds")
print(f"seen: {rounds if rounds <= 20 else 'more than 20'} rounds in a second")
sys.exit(rounds > 2)
