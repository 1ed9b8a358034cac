"""SQLAlchemyDataStore on SQLite: schedules are acquired outside of any transaction.

`acquire_schedules` runs in `engine.begin()`, so one expects a transaction around it. Its statement begins with `WITH`;
Python's sqlite3, unless told otherwise, opens a transaction only for those that begin with INSERT, UPDATE, DELETE or
REPLACE. So SQLite commits by itself, while the rows are being fetched: a lock or an error then comes from the fetch.

Needs: pip install "apscheduler[sqlalchemy]" sniffio
"""

import asyncio
import sys
import tempfile
from datetime import UTC, datetime, timedelta

from apscheduler import AsyncScheduler
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy import create_engine, event

in_transaction = []


def job():
    pass


def after(connection, *_):
    in_transaction.append(connection.connection.dbapi_connection.in_transaction)


async def main(folder):
    engine = create_engine(f"sqlite:///{folder}/jobs.db")
    store = SQLAlchemyDataStore(engine)
    async with AsyncScheduler(store) as scheduler:  # not started: acquire_schedules is called as its loop would
        await scheduler.add_schedule(job, IntervalTrigger(hours=1, start_time=datetime.now(UTC)))
        event.listen(engine, "after_cursor_execute", after)
        assert len(await store.acquire_schedules("one", timedelta(seconds=30), 100)) == 1
    engine.dispose()


with tempfile.TemporaryDirectory() as folder:
    asyncio.run(main(folder))
print("expected: in a transaction")
print(f"seen: {'in a transaction' if all(in_transaction) else 'in none'}")
sys.exit(not all(in_transaction))
