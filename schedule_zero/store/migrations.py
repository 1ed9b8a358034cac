"""Schema versions: numbered steps, each in its own transaction, the number in ``meta.schema_version``.

Version 1 is the whole schema. From version 2 on a fresh database still gets ``tables.metadata`` as it is then, and
the newest number; only an existing one walks the steps. Never edit a step that was released: add one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from sqlalchemy import Connection, insert, inspect, select, update

from schedule_zero.errors import ConfigError
from schedule_zero.store.migration_steps import (
    batches_and_views,
    bound_tokens,
    browser_sessions,
    change_log,
    how_jobs_are_run,
    logs_and_large_results,
    node_history,
    node_operations,
    policies_and_history,
    progress_is_kept,
    rate_buckets,
    requeues,
    retries_by_parent,
    routed_and_grouped,
    series_by_minute,
    thawed_by,
    tokens_of_processes,
    unique_by_state,
)
from schedule_zero.store.tables import meta, metadata

# STEPS[n] takes version n + 1 to n + 2.
STEPS: tuple[Callable[[Connection], None], ...] = (
    policies_and_history,
    thawed_by,
    how_jobs_are_run,
    requeues,
    node_operations,
    logs_and_large_results,
    routed_and_grouped,
    rate_buckets,
    unique_by_state,
    bound_tokens,
    progress_is_kept,
    browser_sessions,
    series_by_minute,
    tokens_of_processes,
    batches_and_views,
    node_history,
    change_log,
    retries_by_parent,
)
LATEST = 1 + len(STEPS)
# The table that says which version it is; and all tables of the newest, with their columns.
VERSIONED = meta.name
TABLES = {name: {column.name for column in table.columns} for name, table in metadata.tables.items()}


def recognise(version: str | None, tables: Collection[str], *, where: str) -> int:
    """The version of the schema that is there (0: none). ``ConfigError`` if it is newer, or not ours at all."""
    if version is not None and version.isdecimal():
        if int(version) > LATEST:
            raise ConfigError(
                f"{where} has schema version {version}, this ScheduleZero knows versions up to {LATEST}: "
                "use the newer ScheduleZero that wrote it, or restore a backup from before the upgrade"
            )
        return int(version)
    if tables:
        raise ConfigError(
            f"{where} holds other tables ({', '.join(sorted(tables)[:5])}) but not those of ScheduleZero: "
            "name another one in store.url"
        )
    return 0


def migrate(conn: Connection, *, begin: str, where: str) -> None:
    """Bring the schema to ``LATEST``, creating it if there is none. ``where`` names the database in errors."""
    tables = inspect(conn).get_table_names()
    version = recognise(get_meta(conn, "schema_version") if meta.name in tables else None, tables, where=where)
    if version == 0:
        with _transaction(conn, begin):
            metadata.create_all(conn, checkfirst=False)
            for key, value in (("schema_version", str(LATEST)), ("epoch", "0"), ("generation", "0")):
                put_meta(conn, key, value)
        return
    for step in range(version, LATEST):
        with _transaction(conn, begin):
            STEPS[step - 1](conn)
            put_meta(conn, "schema_version", str(step + 1))


def next_epoch(conn: Connection, *, begin: str) -> int:
    """Count this start of a server; every token of this life is greater than all before."""
    with _transaction(conn, begin):
        epoch = int(get_meta(conn, "epoch") or 0) + 1
        put_meta(conn, "epoch", str(epoch))
    return epoch


def get_meta(conn: Connection, key: str) -> str | None:
    return conn.execute(select(meta.c.value).where(meta.c.key == key)).scalar_one_or_none()


def put_meta(conn: Connection, key: str, value: str) -> None:
    if conn.execute(update(meta).where(meta.c.key == key).values(value=value)).rowcount == 0:
        conn.execute(insert(meta).values(key=key, value=value))


class _transaction:  # noqa: N801 - used as a function
    """An explicit transaction on a connection in driver autocommit."""

    def __init__(self, conn: Connection, begin: str) -> None:
        self._conn = conn
        self._begin = begin

    def __enter__(self) -> None:
        self._conn.exec_driver_sql(self._begin)

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._conn.exec_driver_sql("COMMIT")
        # SQLite may have rolled back by itself (a full disk): a second time would be an error that hides the first.
        elif self._conn.dialect.name != "sqlite" or self._conn.connection.in_transaction:
            self._conn.exec_driver_sql("ROLLBACK")
