"""A job that is acquired again after its lease is over is counted twice; one slot of its task is lost for good.

One expects `running_jobs` to be 0 when nothing runs. Acquiring adds 1 each time, releasing subtracts 1 once. With the
default `max_running_jobs` of 1 the job of a crashed worker is not acquired again at all: its slot is taken by itself,
until `cleanup()` ends it (15 minutes).

Needs: pip install "apscheduler[sqlalchemy]" sniffio
"""

import asyncio
import sys
import tempfile
from datetime import timedelta

from apscheduler import AsyncScheduler, JobOutcome, JobResult
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore


def work():
    pass


async def main(folder):
    store = SQLAlchemyDataStore(f"sqlite:///{folder}/jobs.db")
    async with AsyncScheduler(store) as scheduler:  # not started: the store is called as its loop would
        task = await scheduler.configure_task(work, max_running_jobs=2)
        await scheduler.add_job(task.id)
        await store.acquire_jobs("crashed", timedelta())  # its lease is over at once
        await asyncio.sleep(0.01)
        (job,) = await store.acquire_jobs("survivor", timedelta(seconds=30))
        await store.release_job("survivor", job, JobResult.from_job(job, JobOutcome.success))
        return len(await scheduler.get_jobs()), (await store.get_task(task.id)).running_jobs


with tempfile.TemporaryDirectory() as folder:
    jobs, running = asyncio.run(main(folder))
print("expected: 0 jobs, 0 of them running")
print(f"seen: {jobs} jobs, {running} of them running")
sys.exit(running != 0)
