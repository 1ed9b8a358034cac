"""A database of an older schema becomes what a fresh one is, and keeps what it holds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine

from schedule_zero.config import StoreConfig
from schedule_zero.model import FireOutcome, ScheduleState
from schedule_zero.store import Store, executions, fires, freezes, nodes, schedule_history, schedules
from schedule_zero.store.migrations import STEPS
from schedule_zero.store.store import FILE_NAME
from tests.store.builders import T0
from tests.support import ManualClock

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_schema")]

HERE = Path(__file__).parent
CONTENT = f"""
INSERT INTO meta VALUES ('schema_version', '1'), ('epoch', '7'), ('generation', '3');
INSERT INTO schedules (id, handler_id, job_method, state, misfire_grace_us, generation, version, next_fire_us,
    created_us, updated_us, executed, skipped, params, trigger)
VALUES ('a', 'demo', 'noop', 'active', 10000000, 3, 4, {T0}, {T0 - 9}, {T0 - 1}, 1, 40, '{{}}',
    '{{"seconds":10,"type":"interval"}}');
INSERT INTO fires (schedule_id, generation, nominal_us, outcome, execution_id, decided_us)
VALUES ('a', 3, {T0 - 10_000_000}, 'executed', 'x', {T0 - 9});
INSERT INTO fires (schedule_id, generation, nominal_us, outcome, reason, count, last_nominal_us, decided_us)
VALUES ('a', 3, {T0 - 500_000_000}, 'skipped', 'paused', 40, {T0 - 20_000_000}, {T0 - 9});
INSERT INTO executions (id, handler_id, job_method, state, priority, origin, created_us, schedule_id, nominal_us,
    params)
VALUES ('x', 'demo', 'noop', 'completed', 5, 'fire', {T0 - 9}, 'a', {T0 - 10_000_000}, '{{}}');
"""


def script(dialect: str) -> str:
    return (HERE / f"schema_1_{dialect}.sql").read_text(encoding="utf-8") + CONTENT


def sqlite_shape(path: Path) -> dict[str, Any]:
    """Columns by table (name, type, not null, default, primary key) and indexes by name, in no order."""
    with closing(sqlite3.connect(path)) as conn:
        tables = [row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {
            table: {row[1:] for row in conn.execute(f'PRAGMA table_info("{table}")')}
            for table in tables
            if not table.startswith("sqlite_")
        }
        indexes = {
            name: None if sql is None else " ".join(sql.replace('"', "").split())
            for name, sql in conn.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index'")
        }
    return {"columns": columns, "indexes": indexes}


def postgres_shape(url: str) -> dict[str, Any]:
    import psycopg

    with psycopg.connect(url) as conn:
        columns = conn.execute(
            "SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name"
            " FROM information_schema.columns WHERE table_schema = current_schema()"
        ).fetchall()
        indexes = conn.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()"
        ).fetchall()
        schema = conn.execute("SELECT current_schema()").fetchone()[0]
    return {
        "columns": {tuple(str(value).replace(f"{schema}.", "") for value in row) for row in columns},
        "indexes": {name: sql.replace(f"{schema}.", "") for name, sql in indexes},
    }


async def what_it_holds(store: Store) -> None:
    schedule = await store.read(lambda conn: schedules.get(conn, "a"))
    assert schedule is not None
    assert (schedule.state, schedule.version, schedule.tracked, schedule.runs) == (ScheduleState.ACTIVE, 4, False, 1)
    ledger = (await store.read(lambda conn: fires.find(conn, schedule_id="a"))).rows
    assert [(fire.outcome, fire.count, fire.detail) for fire in ledger] == [
        (FireOutcome.EXECUTED, 1, None),
        (FireOutcome.SKIPPED, 40, None),
    ]
    execution = await store.read(lambda conn: executions.get(conn, "x"))
    assert execution is not None
    assert execution.execution.group_id is None
    assert (await store.read(lambda conn: schedule_history.find(conn, "a"))).rows == []
    paused = schedules.SetState(id="a", state=ScheduleState.PAUSED)
    assert (await store.write(schedules.set_state, paused)).version == 5


async def test_a_sqlite_file_of_version_1_becomes_what_a_fresh_one_is(tmp_path: Path, clock: ManualClock) -> None:
    old, fresh = tmp_path / "old", tmp_path / "fresh"
    old.mkdir()
    with closing(sqlite3.connect(old / FILE_NAME)) as conn:
        conn.executescript(script("sqlite"))
    for folder in (old, fresh):
        store = Store.open(StoreConfig(durability="fast"), folder, clock=clock)
        if folder is old:
            assert store.epoch == 8
            await what_it_holds(store)
        await store.close()

    assert sqlite_shape(old / FILE_NAME) == sqlite_shape(fresh / FILE_NAME)


async def test_a_freeze_of_version_2_that_holds_goes_on_to_hold(tmp_path: Path, clock: ManualClock) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as conn:
        conn.executescript(script("sqlite"))
    engine = create_engine(f"sqlite:///{tmp_path / FILE_NAME}")
    with engine.begin() as to_version_2:
        STEPS[0](to_version_2)
    engine.dispose()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as conn:
        conn.executescript(
            """
            UPDATE meta SET value = '2' WHERE key = 'schema_version';
            INSERT INTO freezes (id, from_us, to_us) VALUES
                ('over', 1, 2), ('until 2100', 3, 4102444800000000), ('open', 4, NULL);
            """
        )

    store = Store.open(StoreConfig(durability="fast"), tmp_path, clock=clock)
    held = {freeze.id: freeze.in_force(1) for freeze in await store.read(freezes.all_freezes)}
    await store.close()

    assert held == {"over": False, "until 2100": True, "open": True}


async def test_nodes_of_version_12_come_back_and_all_that_runs_on_them_is_theirs(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Which attempts were an earlier process's was not stored: what a node says that it runs must stay with it."""
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as conn:
        conn.executescript(script("sqlite"))
    engine = create_engine(f"sqlite:///{tmp_path / FILE_NAME}")
    with engine.begin() as to_version_12:
        for step in STEPS[:11]:
            step(to_version_12)
    engine.dispose()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as conn:
        conn.executescript(
            f"""
            UPDATE meta SET value = '12' WHERE key = 'schema_version';
            INSERT INTO nodes (node_id, instance, epoch, state, handlers, slots, version, host, pid, identity,
                first_seen_us, last_seen_us)
            VALUES ('n1', 'i1', 3, 'online', '["demo"]', 4, '1', 'h', 77, 'abc', {T0}, {T0 + 1});
            """
        )

    store = Store.open(StoreConfig(durability="fast"), tmp_path, clock=clock)
    [node] = await store.read(nodes.all)
    await store.close()

    assert (node.node_id, node.instance, node.epoch, node.identity) == ("n1", "i1", 3, "abc")
    assert node.since_token == 0


async def test_a_postgresql_schema_of_version_1_becomes_what_a_fresh_one_is(
    postgres_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    import psycopg

    shapes = []
    for content in (script("postgresql"), None):
        schema = f"m{uuid4().hex}"
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            conn.execute(f"CREATE SCHEMA {schema}")
        url = f"{postgres_url}&options=-csearch_path%3D{schema}"
        if content is not None:
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute(content)
        store = Store.open(StoreConfig(url=url, durability="fast"), tmp_path, clock=clock)
        if content is not None:
            await what_it_holds(store)
        await store.close()
        shapes.append(postgres_shape(url))

    assert shapes[0] == shapes[1]
