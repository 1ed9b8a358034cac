"""A trigger that raises gets the next fire time of whatever schedule was processed before it.

The scheduler logs "Error computing next fire time for schedule … – removing schedule", so one expects it to be
removed. It is kept, and the variable `next_fire_time` still has the value of the schedule before it in the same
batch.
"""

import asyncio
import sys
from datetime import UTC, datetime, timedelta

from apscheduler import AsyncScheduler, SchedulerRole
from apscheduler.abc import Trigger
from apscheduler.triggers.interval import IntervalTrigger

NOW = datetime.now(UTC)


class OnceThenRaise(Trigger):
    asked = False

    def next(self):
        if self.asked:
            raise ValueError("no idea when")
        self.asked = True
        return NOW - timedelta(seconds=1)

    def __getstate__(self):
        return self.asked

    def __setstate__(self, state):
        self.asked = state


def job():
    pass


async def main():
    async with AsyncScheduler(role=SchedulerRole.scheduler) as scheduler:
        hourly = IntervalTrigger(hours=1, start_time=NOW - timedelta(seconds=2))
        await scheduler.add_schedule(job, hourly, id="neighbour")
        await scheduler.add_schedule(job, OnceThenRaise(), id="raising")
        await scheduler.start_in_background()
        async with asyncio.timeout(10):
            while (await scheduler.get_schedule("neighbour")).last_fire_time is None:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # both are released one after the other
        return {schedule.id: schedule.next_fire_time for schedule in await scheduler.get_schedules()}


times = asyncio.run(main())
taken = times.get("raising") == times["neighbour"]
print("expected: the schedule is removed")
print(f"seen: it is {'kept, with the next fire time of its neighbour' if taken else 'removed'}")
sys.exit(taken)
