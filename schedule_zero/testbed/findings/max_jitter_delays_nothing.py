"""`max_jitter` changes what a job says about itself, not when it runs.

"maximum time … to randomly add to the scheduled time for each job created from this schedule" (`add_schedule`). One
expects the job to start at its scheduled time, jitter included. It is queued at once, with a `scheduled_fire_time`
that is still to come, and workers take whatever is queued.
"""

import asyncio
import random
import sys
from datetime import UTC, datetime

from apscheduler import AsyncScheduler, current_job
from apscheduler.triggers.date import DateTrigger

random.seed(1)  # a jitter of some seconds
early = []


async def job():
    early.append(current_job.get().scheduled_fire_time > datetime.now(UTC))


async def main():
    async with AsyncScheduler() as scheduler:
        await scheduler.add_schedule(job, DateTrigger(datetime.now(UTC)), max_jitter=60)
        await scheduler.start_in_background()
        for _ in range(40):
            await asyncio.sleep(0.05)
            if early:
                break


asyncio.run(main())
print("expected: the job does not start before its scheduled_fire_time")
print(f"seen: {'it started before' if early == [True] else 'it did not'}")
sys.exit(early == [True])
