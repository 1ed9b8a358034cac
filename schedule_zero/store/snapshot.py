"""What a store says when its server is gone, read without touching it: nothing is locked, migrated or stamped.

An SQLite file is copied with its log before it is opened, so that reading does not repair what the next start is to
find. PostgreSQL is read in one read-only transaction.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

from schedule_zero.errors import NotFound
from schedule_zero.store import failures, migrations
from schedule_zero.store.postgres import PostgresBackend
from schedule_zero.store.store import FILE_NAME

if TYPE_CHECKING:
    from sqlalchemy import Connection

FETCH_ROWS = 10_000


@contextmanager
def opened(where: str | Path) -> Iterator[Connection]:
    """A connection to a snapshot: of a database file, a state directory with one, or a ``postgresql://`` URL.

    NotFound: there is none. ConfigError: it is not of this version. Damage is the reader's to find (``damage``).
    """
    if isinstance(where, str) and where.startswith("postgresql"):
        backend = PostgresBackend(make_url(where), "full")
        try:
            with closing(backend.connect()) as conn:
                conn.exec_driver_sql(backend.begin_read)
                _check_version(conn, backend.where)
                yield conn
        except Exception as error:
            raise failures.translate(error) from error
        return
    path = Path(where)
    path = path / FILE_NAME if path.is_dir() else path
    if not path.exists():
        raise NotFound(f"expected a database of ScheduleZero: there is no {path}")
    with tempfile.TemporaryDirectory(prefix="schedule-zero-read-") as folder:
        copy = Path(folder) / path.name
        for part in (path, path.with_name(path.name + "-wal")):
            if part.exists():
                shutil.copy(part, folder)
        engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(copy), poolclass=NullPool)
        with engine.connect() as conn:
            _check_version(conn, f"the database {path}")
            yield conn


def _check_version(conn: Connection, where: str) -> None:
    version = migrations.recognise(migrations.get_meta(conn, "schema_version"), (), where=where)
    if version != migrations.LATEST:
        raise NotFound(f"{where} has schema version {version}, expected {migrations.LATEST}: start its server once")


def damage(conn: Connection) -> list[str]:
    """What SQLite's own check finds wrong with the file; PostgreSQL has none that could be asked."""
    if conn.dialect.name != "sqlite":
        return []
    return [row[0] for row in conn.exec_driver_sql("PRAGMA integrity_check") if row[0] != "ok"]


def rows(conn: Connection, table: str, columns: Sequence[str], *, order: str = "") -> Iterator[Sequence[Any]]:
    """All rows of a table, as the driver gives them: a million of them in seconds."""
    named = ", ".join(f'"{column}"' for column in columns)
    cursor = conn.connection.cursor()
    try:
        cursor.execute(f"SELECT {named} FROM {table}{f' ORDER BY {order}' if order else ''}")
        while True:
            chunk = cursor.fetchmany(FETCH_ROWS)
            if not chunk:
                return
            yield from chunk
    finally:
        cursor.close()
