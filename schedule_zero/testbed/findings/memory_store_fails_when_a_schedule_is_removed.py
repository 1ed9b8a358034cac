"""MemoryDataStore: removing a schedule while it is processed ends the scheduler.

"Removing a schedule does not cancel any jobs derived from it, but does prevent further jobs from being created" (user
guide). One expects the scheduler to go on without it. `release_schedules` looks every schedule up by its id, and
raises KeyError for one that is gone.
"""

import asyncio
import sys
from datetime import UTC, datetime

from apscheduler import AsyncScheduler, SchedulerRole
from apscheduler.datastores.memory import MemoryDataStore
from apscheduler.triggers.interval import IntervalTrigger


class Store(MemoryDataStore):
    async def release_schedules(self, scheduler_id, results):
        """Somebody removes the schedule just before the scheduler is done with it."""
        if results:
            await scheduler.remove_schedule("a")
        await super().release_schedules(scheduler_id, results)


def job():
    pass


scheduler = AsyncScheduler(Store(), role=SchedulerRole.scheduler)


async def main():
    async with scheduler:
        await scheduler.add_schedule(job, IntervalTrigger(hours=1, start_time=datetime.now(UTC)), id="a")
        running = asyncio.create_task(scheduler.run_until_stopped())
        done, _ = await asyncio.wait([running], timeout=20)
        if done:
            return innermost(running.exception())
        await scheduler.stop()
        await running


def innermost(exception):
    return innermost(exception.exceptions[0]) if isinstance(exception, BaseExceptionGroup) else exception


ended_by = asyncio.run(main())
print("expected: the scheduler runs on")
print(f"seen: {type(ended_by).__name__} ended the scheduler" if ended_by else "seen: the scheduler runs on")
sys.exit(ended_by is not None)
