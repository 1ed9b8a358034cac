"""A job whose return value cannot be serialised ends the scheduler that ran it.

"if you want to get the results later, you need to pass an appropriate result_expiration_time" (user guide). One
expects an error for this job. `release_job` raises inside the job's task, and that ends the scheduler with all other
jobs. An exception that cannot be pickled does the same.

Needs: pip install "apscheduler[sqlalchemy]" sniffio
"""

import asyncio
import sys
import tempfile

from apscheduler import AsyncScheduler
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore


async def job():
    return lambda: None


async def main(folder):
    store = SQLAlchemyDataStore(f"sqlite:///{folder}/jobs.db")
    scheduler = AsyncScheduler(store, cleanup_interval=None)
    async with scheduler:
        await scheduler.add_job(job, result_expiration_time=60)
        running = asyncio.create_task(scheduler.run_until_stopped())
        done, _ = await asyncio.wait([running], timeout=20)
        if done:
            return innermost(running.exception())
        await scheduler.stop()
        await running


def innermost(exception):
    return innermost(exception.exceptions[0]) if isinstance(exception, BaseExceptionGroup) else exception


with tempfile.TemporaryDirectory() as folder:
    ended_by = asyncio.run(main(folder))
print("expected: the job ends with an error, the scheduler runs on")
print(f"seen: {type(ended_by).__name__} ended the scheduler" if ended_by else "seen: the scheduler runs on")
sys.exit(ended_by is not None)
