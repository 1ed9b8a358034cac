"""MemoryDataStore: in the hour that is repeated in autumn, the earlier of two schedules waits for the later one.

`get_next_schedule_run_time`: "Return the earliest upcoming run time of all the schedules in the store". The store keeps
its schedules sorted by `next_fire_time`, and Python compares two datetimes of one time zone by what the clock on the
wall shows, whichever of the two hours it is: 02:15 of the second hour comes before 02:30 of the first. Beside a time of
another zone, which is compared as a moment, there is no order at all, and a schedule may not be found again.
"""

import asyncio
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from apscheduler import AsyncScheduler
from apscheduler.datastores.memory import MemoryDataStore
from apscheduler.triggers.date import DateTrigger

BERLIN = ZoneInfo("Europe/Berlin")
# The clocks go from 03:00 back to 02:00.
FIRST = datetime(2027, 10, 31, 2, 30, tzinfo=BERLIN, fold=0)
SECOND = datetime(2027, 10, 31, 2, 15, tzinfo=BERLIN, fold=1)


def job():
    pass


async def main():
    store = MemoryDataStore()
    async with AsyncScheduler(store) as scheduler:
        await scheduler.add_schedule(job, DateTrigger(FIRST))
        await scheduler.add_schedule(job, DateTrigger(SECOND))
        return await store.get_next_schedule_run_time()


woken = asyncio.run(main())
print(f"expected: it wakes up at {FIRST.astimezone(UTC):%H:%M} UTC")
print(f"seen: it wakes up at {woken.astimezone(UTC):%H:%M} UTC")
sys.exit(woken.timestamp() != FIRST.timestamp())
