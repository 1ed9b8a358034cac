"""Pausing a schedule while it fires sets its next fire time back; after unpausing, the same time fires twice.

"By default the schedule will retain the next fire time it had when it was paused" (user guide, Pausing schedules).
One expects that a time that has fired does not come again. `pause_schedule` reads the schedule and writes the whole
of it back; what the scheduler did in between is lost.

Needs: pip install "apscheduler[sqlalchemy]" sniffio
"""

import asyncio
import sys
import tempfile
from datetime import UTC, datetime

from apscheduler import AsyncScheduler, SchedulerRole
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore
from apscheduler.triggers.interval import IntervalTrigger


class Store(SQLAlchemyDataStore):
    async def get_schedules(self, ids=None):
        """The schedule fires after pause_schedule has read it, and before it writes."""
        answer = await super().get_schedules(ids)
        if not released.is_set():
            await scheduler.start_in_background()
        await released.wait()
        return answer

    async def release_schedules(self, scheduler_id, results):
        await super().release_schedules(scheduler_id, results)
        if results:
            released.set()


def job():
    pass


async def main(folder):
    global released, scheduler
    released = asyncio.Event()
    store = Store(f"sqlite:///{folder}/jobs.db")
    async with AsyncScheduler(store, role=SchedulerRole.scheduler, cleanup_interval=None) as scheduler:
        await scheduler.add_schedule(job, IntervalTrigger(hours=1, start_time=datetime.now(UTC)), id="a")
        await scheduler.pause_schedule("a")
        await scheduler.unpause_schedule("a")
        await asyncio.sleep(0.7)
        return [one.scheduled_fire_time for one in await scheduler.get_jobs()]


with tempfile.TemporaryDirectory() as folder:
    times = asyncio.run(main(folder))
print("expected: 1 job for 1 fire time")
print(f"seen: {len(times)} job{'s' * (len(times) != 1)} for {len(set(times))} fire time")
sys.exit(len(times) != len(set(times)))
