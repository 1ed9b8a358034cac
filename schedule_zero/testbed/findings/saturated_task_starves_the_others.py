"""Queued jobs of a task that is at its maximum keep the jobs of all other tasks from running.

One expects a job of an idle task to run while there are free slots: `max_running_jobs` limits one task,
`max_concurrent_jobs` (100 unless told otherwise; 5 here) the scheduler. The store takes the oldest n jobs first, and
only then looks which of them may run.

Needs: pip install "apscheduler[sqlalchemy]" sniffio
"""

import asyncio
import sys
import tempfile

from apscheduler import AsyncScheduler
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore

ran = []


async def slow():
    await asyncio.sleep(60)


async def quick():
    ran.append("quick")


async def main(folder):
    store = SQLAlchemyDataStore(f"sqlite:///{folder}/jobs.db")
    async with AsyncScheduler(store, max_concurrent_jobs=5, cleanup_interval=None) as scheduler:
        for _ in range(6):  # one will run, five will wait for it
            await scheduler.add_job(slow)
        await scheduler.add_job(quick)
        await scheduler.start_in_background()
        await asyncio.sleep(0.7)
        return bool(ran)


with tempfile.TemporaryDirectory() as folder:
    quick_ran = asyncio.run(main(folder))
print("expected: 4 slots are free, the quick job runs at once")
print(f"seen: {'it ran' if quick_ran else 'it waits until the slow task is through its queue'}")
sys.exit(not quick_ran)
