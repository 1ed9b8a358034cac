"""MemoryDataStore: a job that outlived its lease raises KeyError when it ends, which ends the scheduler.

A job that blocks the event loop for longer than the lease keeps the lease from being extended. `cleanup()` then ends
it as abandoned, as it should. One expects the late result to be dropped. `release_job` raises KeyError instead, and
in a running scheduler that ends all of it.
"""

import asyncio
import sys
from datetime import timedelta

from apscheduler import AsyncScheduler, JobOutcome, JobResult


def work():
    pass


async def main():
    async with AsyncScheduler() as scheduler:  # not started: the store is called as its loops would
        store = scheduler.data_store
        await scheduler.add_job(work)
        (job,) = await store.acquire_jobs("worker", timedelta())  # its lease is over at once
        await asyncio.sleep(0.01)
        await store.cleanup()
        try:
            await store.release_job("worker", job, JobResult.from_job(job, JobOutcome.success))
        except KeyError:
            return "KeyError"
        return "the result is dropped"


seen = asyncio.run(main())
print("expected: the result is dropped")
print(f"seen: {seen}")
sys.exit(seen == "KeyError")
