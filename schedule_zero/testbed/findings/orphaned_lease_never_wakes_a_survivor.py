"""A schedule that a crashed scheduler had acquired is not processed by another one when the lease is over.

"You need fault tolerance (scheduling will continue even if a node or process running a scheduler goes down)" (user
guide, Using multiple schedulers). A schedule is eligible if "its claim has expired" (`DataStore.acquire_schedules`).
But nobody wakes up for that: `get_next_schedule_run_time` leaves out what is acquired, expired or not.

Needs: pip install "apscheduler[sqlalchemy]" sniffio
"""

import asyncio
import sys
import tempfile
from datetime import UTC, datetime, timedelta

from apscheduler import AsyncScheduler, SchedulerRole
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore
from apscheduler.triggers.interval import IntervalTrigger

LEASE = timedelta(seconds=1)


class Store(SQLAlchemyDataStore):
    crashed = False

    async def acquire_schedules(self, scheduler_id, lease_duration, limit):
        """Another scheduler is a moment quicker than the survivor; then it crashes."""
        if not self.crashed:
            self.crashed = True
            assert len(await super().acquire_schedules("crashed", LEASE, limit)) == 1
        return await super().acquire_schedules(scheduler_id, lease_duration, limit)


def job():
    pass


async def main(folder):
    store = Store(f"sqlite:///{folder}/jobs.db")
    async with AsyncScheduler(
        store, identity="survivor", role=SchedulerRole.scheduler, lease_duration=LEASE, cleanup_interval=None
    ) as scheduler:
        await scheduler.add_schedule(job, IntervalTrigger(hours=1, start_time=datetime.now(UTC)))
        await scheduler.start_in_background()
        await asyncio.sleep(LEASE.total_seconds() + 0.7)
        return len(await scheduler.get_jobs())


with tempfile.TemporaryDirectory() as folder:
    jobs = asyncio.run(main(folder))
print("expected: the survivor makes the job soon after the lease of 1 s is over")
print(f"seen: {jobs} jobs 0.7 s after the lease was over")
sys.exit(jobs == 0)
