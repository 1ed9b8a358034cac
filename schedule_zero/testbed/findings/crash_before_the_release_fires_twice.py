"""A crash between adding the job and releasing the schedule fires the same time again.

"Support is provided for persistent storage of schedules and jobs. This means that they … will survive process and
node restarts" (README). One expects one job for each fire time. The job is committed in a transaction of its own,
before the schedule moves on; and no key says that a schedule and a fire time belong together only once.

Needs: pip install "apscheduler[sqlalchemy]" sniffio; and os.fork
"""

import asyncio
import os
import sys
import tempfile
from datetime import UTC, datetime

from apscheduler import AsyncScheduler, JobAdded, SchedulerRole
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore
from apscheduler.triggers.interval import IntervalTrigger


class Crashing(SQLAlchemyDataStore):
    async def release_schedules(self, scheduler_id, results):
        os._exit(9)  # as a kill -9 would, at this moment


def job():
    pass


async def run(store):
    # The same identity, so that the second takes up at once what the first had acquired.
    role = SchedulerRole.scheduler
    async with AsyncScheduler(store, identity="one", role=role, cleanup_interval=None) as scheduler:
        added = asyncio.Event()
        scheduler.subscribe(lambda _: added.set(), JobAdded)
        await scheduler.add_schedule(job, IntervalTrigger(hours=1, start_time=datetime.now(UTC)), id="a")
        await scheduler.start_in_background()
        await asyncio.wait([asyncio.create_task(added.wait())], timeout=10)
        await asyncio.sleep(0.3)
        return [one.scheduled_fire_time for one in await scheduler.get_jobs()]


with tempfile.TemporaryDirectory() as folder:
    url = f"sqlite:///{folder}/jobs.db"
    if (child := os.fork()) == 0:
        asyncio.run(run(Crashing(url)))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    times = asyncio.run(run(SQLAlchemyDataStore(url)))
print("expected: 1 job for 1 fire time, before and after the crash")
print(f"seen: {len(times)} job{'s' * (len(times) != 1)} for {len(set(times))} fire time")
sys.exit(len(times) != len(set(times)))
