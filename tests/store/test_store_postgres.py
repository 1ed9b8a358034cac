"""What is about PostgreSQL: one server at a time, lost connections, a COMMIT that was not answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schedule_zero.config import StoreConfig
from schedule_zero.errors import ConfigError, StoreLocked, StoreUnavailable
from schedule_zero.store import Store, Tx, executions, migrations, writer
from tests.store.builders import execution, get, insert
from tests.support import ManualClock

psycopg = pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")
pytestmark = pytest.mark.anyio


def open_store(url: str, state_dir: Path, clock: ManualClock) -> Store:
    return Store.open(StoreConfig(url=url), state_dir, clock=clock)


def backend_pid(tx: Tx, args: list[None]) -> list[int]:
    tx.cursor.execute("SELECT pg_backend_pid()")
    return [tx.cursor.fetchone()[0]] * len(args)


def administer(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(statement)


async def test_a_second_server_on_the_schema_is_refused(
    postgres_schema: str, tmp_path: Path, clock: ManualClock
) -> None:
    store = open_store(postgres_schema, tmp_path, clock)
    try:
        with pytest.raises(StoreLocked):
            open_store(postgres_schema, tmp_path, clock)
    finally:
        await store.close()

    again = open_store(postgres_schema, tmp_path, clock)
    assert again.epoch == store.epoch + 1
    await again.close()


async def test_a_server_that_is_not_there_is_said_to_be_unavailable(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(StoreUnavailable, match="cannot use the database"):
        open_store(f"postgresql://sz@/postgres?host={tmp_path}", tmp_path, clock)


async def test_a_newer_schema_is_refused(postgres_schema: str, tmp_path: Path, clock: ManualClock) -> None:
    await open_store(postgres_schema, tmp_path, clock).close()
    administer(postgres_schema, "UPDATE meta SET value = '99' WHERE key = 'schema_version'")

    with pytest.raises(ConfigError, match="schema version 99"):
        open_store(postgres_schema, tmp_path, clock)


async def test_a_lost_connection_fails_what_was_in_it_and_is_made_anew(
    postgres_schema: str, tmp_path: Path, clock: ManualClock
) -> None:
    store = open_store(postgres_schema, tmp_path, clock)
    await insert(store, execution("a"))
    pid = await store.write(backend_pid, None)
    administer(postgres_schema, f"SELECT pg_terminate_backend({pid}, 5000)")

    with pytest.raises(StoreUnavailable):
        await insert(store, execution("b"))
    assert not store.healthy
    await insert(store, execution("c"))

    assert store.healthy
    assert await store.read(lambda conn: executions.get(conn, "b")) is None
    assert (await get(store, "c")).id == "c"
    await store.close()


async def test_a_server_whose_database_was_used_by_another_meanwhile_writes_no_more(
    postgres_schema: str, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PROBE_S", 0.02)
    old = open_store(postgres_schema, tmp_path, clock)
    pid = await old.write(backend_pid, None)
    administer(postgres_schema, f"SELECT pg_terminate_backend({pid}, 5000)")
    new = open_store(postgres_schema, tmp_path, clock)

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await insert(old, execution("a"))
    await insert(new, execution("b"))
    await new.close()
    with pytest.raises(StoreUnavailable, match="meanwhile"):
        await insert(old, execution("c"))

    await old.close()


class LosesTheAnswer:
    """A cursor whose connection breaks right after a COMMIT was carried out."""

    def __init__(self, store: Store, *, before_commit: bool) -> None:
        self._writer = store._writer
        self._cursor = self._writer._cursor
        self._before_commit = before_commit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: str, *args: Any) -> Any:
        if sql == "COMMIT":
            if not self._before_commit:
                self._cursor.execute(sql)
            self._cursor.connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return self._cursor.execute(sql, *args)


@pytest.mark.parametrize("committed", [True, False])
async def test_a_commit_whose_answer_was_lost_is_looked_up(
    postgres_schema: str, tmp_path: Path, clock: ManualClock, committed: bool
) -> None:
    store = open_store(postgres_schema, tmp_path, clock)
    store._writer._cursor = LosesTheAnswer(store, before_commit=not committed)

    if committed:
        await insert(store, execution("a"))
    else:
        with pytest.raises(StoreUnavailable):
            await insert(store, execution("a"))

    assert (await store.read(lambda conn: executions.get(conn, "a")) is not None) is committed
    await insert(store, execution("b"))
    assert store.healthy
    await store.close()


async def test_the_epoch_is_the_one_in_the_database(postgres_schema: str, tmp_path: Path, clock: ManualClock) -> None:
    store = open_store(postgres_schema, tmp_path, clock)

    assert await store.read(lambda conn: migrations.get_meta(conn, "epoch")) == str(store.epoch)

    await store.close()
