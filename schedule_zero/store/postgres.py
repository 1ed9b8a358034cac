"""PostgreSQL through psycopg 3: the same tables and verbs, one server at a time (an advisory lock says so)."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.pool import NullPool, QueuePool

from schedule_zero.errors import ConfigError, StoreCorrupt, StoreLocked, StoreUnavailable
from schedule_zero.store import failures, migrations, tables

# "SZ" and the lock's purpose; the schema's oid keeps servers in different schemas apart.
_LOCK = text("SELECT pg_try_advisory_lock(21338, (SELECT oid::int FROM pg_namespace WHERE nspname = current_schema()))")


class PostgresBackend:
    """One schema of a database: its lock and its connections."""

    name = "postgresql"
    begin = "BEGIN"
    begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

    def __init__(self, url: URL, durability: Literal["full", "fast"]) -> None:
        self._url = url.set(drivername="postgresql+psycopg")
        self.where = f"the database {self._url.render_as_string(hide_password=True)}"
        self._settings = (
            f"SET synchronous_commit = {'on' if durability == 'full' else 'off'}",
            "SET lock_timeout = '5s'",
            "SET TIME ZONE 'UTC'",
            "SET application_name = 'schedule-zero'",
        )

    def open(self) -> Connection:
        """Connect, lock, migrate; the writer's connection."""
        try:
            conn = self.connect()
        except NoSuchModuleError as error:
            raise ConfigError(f"{self.where}: {error}") from error
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{self.where} needs the extra 'postgres': pip install schedule-zero[postgres]"
            ) from error
        except Exception as error:
            raise StoreUnavailable(f"cannot use {self.where}: {failures.driver_error(error)}") from error
        try:
            if not conn.execute(_LOCK).scalar_one():
                raise StoreLocked(f"another server uses {self.where}")
            tables.for_postgresql()
            migrations.migrate(conn, begin=self.begin, where=self.where)
        except BaseException:
            conn.close()
            raise
        return conn

    def connect(self) -> Connection:
        """A connection that writes."""
        return self._engine(NullPool).connect()

    def size_bytes(self, conn: Connection) -> int:
        """All of the database, whatever else is in it."""
        return int(conn.execute(text("SELECT pg_database_size(current_database())")).scalar_one())

    def readers(self, size: int) -> Engine:
        return self._engine(QueuePool, pool_size=size, max_overflow=0, pool_pre_ping=True)

    def reconnected(self, conn: Connection, epoch: int) -> None:
        """After a lost connection the lock is to be had again, and nobody may have been here meanwhile."""
        if not conn.execute(_LOCK).scalar_one():
            raise StoreUnavailable(f"another server has taken {self.where}")
        found = migrations.get_meta(conn, "epoch")
        if found != str(epoch):
            raise StoreUnavailable(f"another server has used {self.where} meanwhile (its epoch {found}, ours {epoch})")

    def unreadable(self, reason: object) -> StoreCorrupt:
        return StoreCorrupt(f"{self.where} holds what can't be read: {str(reason)[:500]}. Restore a backup.")

    def tidy(self, *_: object) -> bool:
        """It has its own processes for that."""
        return True

    def close(self) -> None:
        """The lock went with the connection."""

    def _engine(self, pool: type[NullPool | QueuePool], **settings: object) -> Engine:
        engine = create_engine(
            self._url, isolation_level="AUTOCOMMIT", poolclass=pool, connect_args={"connect_timeout": 5}, **settings
        )

        @event.listens_for(engine, "connect")
        def set_up(raw: object, _: object) -> None:
            cursor = raw.cursor()  # type: ignore[attr-defined]
            for setting in self._settings:
                cursor.execute(setting)
            cursor.close()

        return engine
