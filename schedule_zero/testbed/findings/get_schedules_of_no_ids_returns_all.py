"""SQLAlchemyDataStore: asked for the schedules of an empty set of ids, it returns all schedules.

`get_schedules(ids)`: "a specific set of schedule IDs to return, or None to return all schedules". One expects none
for an empty set, as MemoryDataStore answers. The store asks `if ids:` where it means `if ids is not None:`; so does
`get_jobs`.

Needs: pip install "apscheduler[sqlalchemy]" sniffio
"""

import asyncio
import sys
import tempfile

from apscheduler import AsyncScheduler
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore
from apscheduler.triggers.interval import IntervalTrigger


def job():
    pass


async def main(folder):
    store = SQLAlchemyDataStore(f"sqlite:///{folder}/jobs.db")
    async with AsyncScheduler(store) as scheduler:
        await scheduler.add_schedule(job, IntervalTrigger(hours=1))
        await scheduler.add_job(job)
        return len(await store.get_schedules(set())), len(await store.get_jobs([]))


with tempfile.TemporaryDirectory() as folder:
    schedules, jobs = asyncio.run(main(folder))
print("expected: 0 schedules, 0 jobs")
print(f"seen: {schedules} schedules, {jobs} jobs")
sys.exit(schedules + jobs > 0)
