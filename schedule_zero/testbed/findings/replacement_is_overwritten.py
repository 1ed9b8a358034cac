"""A schedule that is replaced while the scheduler processes it gets its old trigger back.

`ConflictPolicy.replace`: "replace the existing schedule with a new one". One expects the new trigger to stay. The
replacement leaves `acquired_by` as it is, so that the release of the old one still matches, and writes the old
trigger and the old next fire time over the new ones. The new arguments stay: the row is now of two schedules.

Needs: pip install "apscheduler[sqlalchemy]" sniffio
"""

import asyncio
import sys
import tempfile
from datetime import UTC, datetime

from apscheduler import AsyncScheduler, ConflictPolicy, SchedulerRole
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore
from apscheduler.triggers.interval import IntervalTrigger


class Store(SQLAlchemyDataStore):
    async def release_schedules(self, scheduler_id, results):
        """Somebody replaces the schedule just before the scheduler is done with it."""
        if results and not released.is_set():
            new = IntervalTrigger(minutes=10)
            await scheduler.add_schedule(job, new, id="a", args=["new"], conflict_policy=ConflictPolicy.replace)
            await super().release_schedules(scheduler_id, results)
            released.set()


def job(which):
    pass


async def main(folder):
    global scheduler, released
    released = asyncio.Event()
    store = Store(f"sqlite:///{folder}/jobs.db")
    async with AsyncScheduler(store, role=SchedulerRole.scheduler, cleanup_interval=None) as scheduler:
        await scheduler.add_schedule(job, IntervalTrigger(hours=1, start_time=datetime.now(UTC)), id="a", args=["old"])
        await scheduler.start_in_background()
        async with asyncio.timeout(10):
            await released.wait()
        return await scheduler.get_schedule("a")


with tempfile.TemporaryDirectory() as folder:
    schedule = asyncio.run(main(folder))
print("expected: every 10 minutes, args ('new',)")
every = f"{schedule.trigger.minutes} minutes" if schedule.trigger.minutes else f"{schedule.trigger.hours} hour"
print(f"seen: every {every}, args {schedule.args}")
sys.exit(schedule.trigger.minutes != 10)
