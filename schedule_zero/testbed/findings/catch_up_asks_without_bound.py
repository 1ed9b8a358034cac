"""After an outage the scheduler asks a trigger for every missed time at once, on the event loop.

A schedule of 10 ms was not looked at for ten minutes. With `CoalescePolicy.latest` ("queue exactly one job, using the
latest run time", user guide) one expects one job after a bounded piece of work. Each of the 60,000 times is asked
for, and nothing else on the event loop has a turn meanwhile: for a second of outage, or for a month.
"""

import asyncio
import sys
from datetime import UTC, datetime, timedelta

from apscheduler import AsyncScheduler, SchedulerRole
from apscheduler.triggers.interval import IntervalTrigger

turns = 0
asked_in_turn = []


class Counted(IntervalTrigger):
    def next(self):
        asked_in_turn.append(turns)
        return super().next()


def job():
    pass


async def take_turns():
    global turns
    while True:
        await asyncio.sleep(0)
        turns += 1


async def main():
    other = asyncio.create_task(take_turns())
    async with AsyncScheduler(role=SchedulerRole.scheduler) as scheduler:
        trigger = Counted(seconds=0.01, start_time=datetime.now(UTC) - timedelta(minutes=10))
        await scheduler.add_schedule(job, trigger, id="fast")
        await scheduler.start_in_background()
        async with asyncio.timeout(10):
            while (await scheduler.get_schedule("fast")).last_fire_time is None:
                await asyncio.sleep(0.01)
    other.cancel()
    return max(asked_in_turn.count(turn) for turn in set(asked_in_turn))


at_once = asyncio.run(main())
print("expected: one job, after a bounded number of calls of next() between two turns of the event loop")
print(f"seen: {'more than 60,000' if at_once > 60_000 else at_once} calls without a turn for anything else")
sys.exit(at_once > 1000)
