"""Jobs above `max_running_jobs` are not ended; they wait, however many there are.

"If the job is about to be run but there is another job for the same task still running, the later job is terminated
with the outcome of missed_start_deadline" (user guide, Limiting the number of concurrently executing instances of a
job). They are left in the queue, which has no bound: a job of 60 s every second adds 59 a minute, for ever.
"""

import asyncio
import sys
from collections import Counter

from apscheduler import AsyncScheduler, JobOutcome

first_may_end = asyncio.Event()


async def job():
    await first_may_end.wait()


async def main():
    async with AsyncScheduler(cleanup_interval=None) as scheduler, asyncio.timeout(10):
        await scheduler.start_in_background()
        jobs = [await scheduler.add_job(job, result_expiration_time=60) for _ in range(6)]
        await asyncio.sleep(0.3)
        waiting = len(await scheduler.get_jobs()) - 1
        first_may_end.set()
        return waiting, Counter([(await scheduler.get_job_result(id_)).outcome for id_ in jobs])


waiting, outcomes = asyncio.run(main())
missed = outcomes[JobOutcome.missed_start_deadline]
print("expected: 1 job runs, 5 end with missed_start_deadline, 0 wait")
print(f"seen: {outcomes[JobOutcome.success]} ran, one after the other, {missed} missed, {waiting} waited")
sys.exit(missed != 5)
