"""When very many schedules have finished, `cleanup()` cannot delete them any more, and ends the scheduler.

`cleanup()` "ensures that the data store doesn't get filled with unused data over time" (user guide). One expects that
to hold for any amount. It deletes with `IN (…)`, one parameter for each schedule: SQLite refuses more than 32,766
(some builds 250,000), PostgreSQL's protocol more than 65,535. One-shot schedules stay until a cleanup, every 15
minutes: 37 a second will do.

Needs: pip install "apscheduler[sqlalchemy]" sniffio
"""

import asyncio
import sqlite3
import sys
import tempfile

from apscheduler import AsyncScheduler
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy import create_engine, event


def job():
    pass


async def main(folder):
    engine = create_engine(f"sqlite:///{folder}/jobs.db")
    # SQLite's own default, whatever this build says.
    event.listen(engine, "connect", lambda db, _: db.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766))
    scheduler = AsyncScheduler(SQLAlchemyDataStore(engine))
    async with scheduler:
        await scheduler.add_schedule(job, IntervalTrigger(hours=1), id="1")
        with engine.begin() as connection:
            # It has finished, and so have 32,766 others.
            connection.exec_driver_sql("UPDATE schedules SET next_fire_time = NULL")
            columns = [row[1] for row in connection.exec_driver_sql("PRAGMA table_info(schedules)")]
            others = ", ".join("n.value" if name == "id" else name for name in columns)
            numbers = "WITH RECURSIVE n(value) AS (SELECT 2 UNION ALL SELECT value + 1 FROM n WHERE value < 32767)"
            connection.exec_driver_sql(f"{numbers} INSERT INTO schedules SELECT {others} FROM schedules, n")
        running = asyncio.create_task(scheduler.run_until_stopped())  # cleans up at its start
        done, _ = await asyncio.wait([running], timeout=20)
        if done:
            return innermost(running.exception())
        await scheduler.stop()
        await running


def innermost(exception):
    return innermost(exception.exceptions[0]) if isinstance(exception, BaseExceptionGroup) else exception


with tempfile.TemporaryDirectory() as folder:
    ended_by = asyncio.run(main(folder))
print("expected: 32,767 finished schedules are deleted")
print(f"seen: {type(ended_by).__name__} ({ended_by.orig}) ended the scheduler" if ended_by else "seen: they are")
sys.exit(ended_by is not None)
