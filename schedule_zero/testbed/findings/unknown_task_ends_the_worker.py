"""A schedule for a task that does not exist is accepted; when it is due, it ends the scheduler that runs jobs.

`add_schedule` takes "either a callable or an ID of an existing task definition". So one expects `TaskLookupError` for
an id that does not exist. A task without a callable is created instead, and looking up the callable raises
`CallableLookupError` outside of the job.
"""

import asyncio
import sys
from datetime import UTC, datetime

from apscheduler import AsyncScheduler, TaskLookupError
from apscheduler.triggers.date import DateTrigger


async def main():
    scheduler = AsyncScheduler()
    async with scheduler:
        try:
            await scheduler.add_schedule("no-such-task", DateTrigger(datetime.now(UTC)))
        except TaskLookupError:
            return None
        running = asyncio.create_task(scheduler.run_until_stopped())
        done, _ = await asyncio.wait([running], timeout=20)
        if done:
            return innermost(running.exception())
        await scheduler.stop()
        await running


def innermost(exception):
    return innermost(exception.exceptions[0]) if isinstance(exception, BaseExceptionGroup) else exception


ended_by = asyncio.run(main())
print("expected: add_schedule() raises TaskLookupError, or the job fails; the scheduler runs on")
print(f"seen: {type(ended_by).__name__} ended the scheduler" if ended_by else "seen: the scheduler runs on")
sys.exit(ended_by is not None)
