"""One schedule that cannot be deserialised ends the scheduler, and makes get_schedules() raise.

There is an event for it: `ScheduleDeserializationFailed` "signals that the deserialization of a schedule has failed".
One expects that event, and that all other schedules go on. The store catches `SerializationError`; serializers raise
`DeserializationError`.

Needs: pip install "apscheduler[sqlalchemy]" sniffio
"""

import asyncio
import sqlite3
import sys
import tempfile
from datetime import UTC, datetime

from apscheduler import AsyncScheduler, SchedulerRole
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore
from apscheduler.triggers.interval import IntervalTrigger


def job():
    pass


async def main(folder):
    store = SQLAlchemyDataStore(f"sqlite:///{folder}/jobs.db")
    scheduler = AsyncScheduler(store, role=SchedulerRole.scheduler, cleanup_interval=None)
    async with scheduler:
        for name in ("good", "poisoned"):
            await scheduler.add_schedule(job, IntervalTrigger(hours=1, start_time=datetime.now(UTC)), id=name)
        with sqlite3.connect(f"{folder}/jobs.db") as database:
            database.execute("UPDATE schedules SET trigger = 'not a pickle' WHERE id = 'poisoned'")
        running = asyncio.create_task(scheduler.run_until_stopped())
        done, _ = await asyncio.wait([running], timeout=20)
        if done:
            return innermost(running.exception())
        await scheduler.stop()
        await running


def innermost(exception):
    return innermost(exception.exceptions[0]) if isinstance(exception, BaseExceptionGroup) else exception


with tempfile.TemporaryDirectory() as folder:
    ended_by = asyncio.run(main(folder))
print("expected: an event for the poisoned schedule, the good one fires")
print(f"seen: {type(ended_by).__name__} ended the scheduler" if ended_by else "seen: the scheduler runs on")
sys.exit(ended_by is not None)
