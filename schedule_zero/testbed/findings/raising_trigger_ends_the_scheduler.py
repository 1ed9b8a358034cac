"""A trigger that raises ends the whole scheduler.

The scheduler catches what `Trigger.next()` raises and logs "Error computing next fire time for schedule … – removing
schedule". So one expects that this schedule is removed and that all others go on. But the loop goes on to use
`next_fire_time`, which was never set.
"""

import asyncio
import sys
from datetime import UTC, datetime

from apscheduler import AsyncScheduler, SchedulerRole
from apscheduler.abc import Trigger


class OnceThenRaise(Trigger):
    asked = False

    def next(self):
        if self.asked:
            raise ValueError("no idea when")
        self.asked = True
        return datetime.now(UTC)

    def __getstate__(self):
        return self.asked

    def __setstate__(self, state):
        self.asked = state


def job():
    pass


async def main():
    scheduler = AsyncScheduler(role=SchedulerRole.scheduler)
    async with scheduler:
        await scheduler.add_schedule(job, OnceThenRaise())
        running = asyncio.create_task(scheduler.run_until_stopped())
        done, _ = await asyncio.wait([running], timeout=20)
        if done:
            return innermost(running.exception())
        await scheduler.stop()
        await running


def innermost(exception):
    return innermost(exception.exceptions[0]) if isinstance(exception, BaseExceptionGroup) else exception


ended_by = asyncio.run(main())
print("expected: the schedule is removed, the scheduler runs on")
print(f"seen: {type(ended_by).__name__} ended the scheduler" if ended_by else "seen: the scheduler runs on")
sys.exit(ended_by is not None)
