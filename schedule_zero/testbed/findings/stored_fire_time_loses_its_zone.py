"""SQLAlchemyDataStore: a schedule's next fire time comes back from SQLite with a fixed offset instead of its zone.

One expects the time zone of the trigger, as before storing: then "the same time a day later" can be computed from it.
The instant is right, to the microsecond, and the trigger keeps its zone, so that nothing fires at a wrong time.

Needs: pip install "apscheduler[sqlalchemy]" sniffio
"""

import asyncio
import sys
import tempfile
from datetime import datetime
from zoneinfo import ZoneInfo

from apscheduler import AsyncScheduler
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore
from apscheduler.triggers.date import DateTrigger

TIME = datetime(2026, 10, 31, 9, 0, 0, 123_457, tzinfo=ZoneInfo("America/New_York"))


def job():
    pass


async def main(folder):
    store = SQLAlchemyDataStore(f"sqlite:///{folder}/jobs.db")
    async with AsyncScheduler(store) as scheduler:
        await scheduler.add_schedule(job, DateTrigger(TIME), id="a")
        return (await scheduler.get_schedule("a")).next_fire_time


with tempfile.TemporaryDirectory() as folder:
    stored = asyncio.run(main(folder))
print(f"expected: the same instant, in {TIME.tzinfo}")
print(f"seen: {'the same' if stored == TIME else 'another'} instant, in {stored.tzinfo}")
sys.exit(str(stored.tzinfo) != str(TIME.tzinfo))
