"""Does a job that runs while the scheduler is stopped stay acquired?

Issue #946 says so of earlier alphas, and the change log of master lists it as mended after 4.0.0a6. One expects a
cancelled job to be released with the outcome `cancelled`. In 4.0.0a6 it is: the release is shielded from the
cancellation.

Needs: pip install "apscheduler[sqlalchemy]" sniffio
"""

import asyncio
import sys
import tempfile

from apscheduler import AsyncScheduler, JobReleased
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore

began = asyncio.Event()
outcomes = []


async def job():
    began.set()
    await asyncio.sleep(60)


async def main(folder):
    store = SQLAlchemyDataStore(f"sqlite:///{folder}/jobs.db")
    async with AsyncScheduler(store, cleanup_interval=None) as scheduler, asyncio.timeout(4):
        scheduler.subscribe(lambda event: outcomes.append(event.outcome.name), JobReleased)
        await scheduler.add_job(job)
        await scheduler.start_in_background()
        await began.wait()
        await scheduler.stop()
        while not outcomes:
            await asyncio.sleep(0.02)
        return len(await scheduler.get_jobs())


with tempfile.TemporaryDirectory() as folder:
    jobs = asyncio.run(main(folder))
print("expected: 0 jobs left, outcome cancelled")
print(f"seen: {jobs} jobs left, outcome {', '.join(outcomes) or 'none'}")
sys.exit(jobs != 0 or outcomes != ["cancelled"])
