"""APScheduler's stock stores, as its manual makes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from apscheduler.abc import DataStore
from apscheduler.datastores.memory import MemoryDataStore

# Of our own, in a database that may have others; dropped before a scenario and after it.
SCHEMA = "schedule_zero_testbed"


@asynccontextmanager
async def stock_store(store: str, folder: Path, database: str | None) -> AsyncIterator[DataStore]:
    """One of ``STORES``, empty.

    SQLite through aiosqlite. Its manual does not recommend that, but without it a store reads results whose connection
    has gone back to the pool: it ends with "database is locked" as soon as two things happen at once.
    """
    if store == "memory":
        yield MemoryDataStore()
        return
    from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore

    if store == "sqlite":
        yield SQLAlchemyDataStore(f"sqlite+aiosqlite:///{folder / 'jobs.db'}")
        return
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.schema import DropSchema

    assert database is not None, "a PostgreSQL store has a URL"
    engine = create_async_engine(_with_driver(database))
    try:
        async with engine.begin() as connection:
            await connection.execute(DropSchema(SCHEMA, cascade=True, if_exists=True))
        yield SQLAlchemyDataStore(engine, schema=SCHEMA)
        async with engine.begin() as connection:
            await connection.execute(DropSchema(SCHEMA, cascade=True, if_exists=True))
    finally:
        await engine.dispose()


def _with_driver(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in ("postgresql", "postgres") else url
