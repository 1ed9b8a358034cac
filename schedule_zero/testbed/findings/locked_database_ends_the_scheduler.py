"""A database that is locked for a moment ends the scheduler, and cancels the code that started it.

"Operations are retried … when an operation raises either OSError or InterfaceError" (`SQLAlchemyDataStore`).
SQLAlchemy's error for a locked SQLite file is `OperationalError`; so is PostgreSQL's for a connection that was cut.
One expects these to be retried as well, or that one operation fails, not that the program around it is cancelled.

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
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError


def job():
    pass


async def main(folder):
    # SQLite waits this long for a lock by itself (5 s unless told otherwise).
    engine = create_engine(f"sqlite:///{folder}/jobs.db", connect_args={"timeout": 0.1})
    intruder = sqlite3.connect(f"{folder}/jobs.db", isolation_level=None)
    ended = None
    try:
        store = SQLAlchemyDataStore(engine)
        async with AsyncScheduler(store, role=SchedulerRole.scheduler, cleanup_interval=None) as scheduler:
            await scheduler.add_schedule(job, IntervalTrigger(seconds=0.05, start_time=datetime.now(UTC)))
            await scheduler.start_in_background()
            intruder.execute("BEGIN IMMEDIATE")
            try:
                await asyncio.sleep(3)  # here the program would do its own work
            except asyncio.CancelledError:
                ended = "OperationalError ended the scheduler and cancelled the program"
                raise
            finally:
                intruder.execute("ROLLBACK")
            await asyncio.sleep(0.1)
    except* OperationalError:
        ended = ended or "OperationalError ended the scheduler"
    finally:
        intruder.close()
        engine.dispose()
    return ended


with tempfile.TemporaryDirectory() as folder:
    ended = asyncio.run(main(folder))
print("expected: the operation is tried again, the scheduler runs on")
print(f"seen: {ended or 'the scheduler runs on'}")
sys.exit(ended is not None)
