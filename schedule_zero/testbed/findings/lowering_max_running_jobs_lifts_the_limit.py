"""Lowering `max_running_jobs` below what runs just now means no limit at all until those jobs are done.

`max_running_jobs`: "maximum number of instances of the task that are allowed to run concurrently". One expects that
no job is acquired while more than the new maximum run. The store counts the slots that are left, 1 - 2 = -1, and asks
whether that is 0.

Needs: pip install "apscheduler[sqlalchemy]" sniffio
"""

import asyncio
import sys
import tempfile
from datetime import timedelta

from apscheduler import AsyncScheduler
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore

LEASE = timedelta(seconds=30)


def job():
    pass


async def main(folder):
    store = SQLAlchemyDataStore(f"sqlite:///{folder}/jobs.db")
    async with AsyncScheduler(store) as scheduler:  # not started: acquire_jobs is called as its loop would
        task = await scheduler.configure_task(job, max_running_jobs=2)
        for _ in range(8):
            await scheduler.add_job(task.id)
        assert len(await store.acquire_jobs("worker", LEASE)) == 2
        await scheduler.configure_task(job, max_running_jobs=1)
        return len(await store.acquire_jobs("worker", LEASE))


with tempfile.TemporaryDirectory() as folder:
    more = asyncio.run(main(folder))
print("expected: with 2 running and a maximum of 1, 0 more are acquired")
print(f"seen: {more} more are acquired")
sys.exit(more > 0)
