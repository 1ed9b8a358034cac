"""A job for an executor that does not exist is not run and not ended; meanwhile it keeps the slot of its task.

One expects `add_job` to refuse an unknown `job_executor`, or the job to end with an error. The worker returns without
a word after it has acquired the job: `running_jobs` stays 1, so that with the default `max_running_jobs` of 1 no
other job of this task runs any more.
"""

import asyncio
import sys
from contextlib import suppress

from apscheduler import AsyncScheduler

ran = []


async def job(name):
    ran.append(name)


async def main():
    async with AsyncScheduler(cleanup_interval=None) as scheduler:
        await scheduler.start_in_background()
        with suppress(LookupError):
            await scheduler.add_job(job, args=["unknown"], job_executor="no-such-executor")
        await scheduler.add_job(job, args=["next"])
        await asyncio.sleep(0.4)
        return len(await scheduler.get_jobs())


left = asyncio.run(main())
print("expected: the next job of the task runs, none is left")
print(f"seen: {'it ran' if ran == ['next'] else 'it did not run'}, {left} left")
sys.exit(ran != ["next"] or left > 0)
