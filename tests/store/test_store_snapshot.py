"""The final store is read whole, on both databases, and reading leaves no trace: not in the file, not in its log."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from schedule_zero.config import StoreConfig
from schedule_zero.errors import NotFound
from schedule_zero.model import AttemptOutcome, State
from schedule_zero.store import Store, executions, schedules
from schedule_zero.store.executions import EndItem
from schedule_zero.testbed import check, final
from schedule_zero.testbed.history import FAULTS, TERMS, Fault, FaultKind, Terms, append
from tests.store import builders as make
from tests.support import ManualClock, nothing_owed

pytestmark = pytest.mark.anyio


def where(config: StoreConfig, folder: Path) -> str | Path:
    return config.url or folder


async def fill(store: Store) -> None:
    """A fire that ran, one that is running, an attempt that was lost, a failure, a deleted schedule."""
    row = make.schedule("s", created_us=make.T0 - 1, updated_us=make.T0 - 1)
    await store.write(schedules.create, schedules.Create(rows=[row, make.schedule("gone")]))
    await store.write(schedules.release, [make.release_item(row, "fired")])
    await make.insert(store, make.running("lost", 7), make.running("failed", 8), make.running("done", 9))
    lost = {"outcome": AttemptOutcome.LOST, "lost": True, "archive": True, "error": None}
    ends: list[EndItem] = [
        make.end_item("lost", 7, State.PENDING, **lost),
        make.end_item("failed", 8, State.FAILED),
        make.end_item("done", 9, result=b'{"a":1}'),
    ]
    await store.write(executions.end, ends)
    await store.write(schedules.delete, schedules.Delete(ids=["gone"], handover=nothing_owed))


async def test_everything_that_the_checker_asks_about_is_read(
    store: Store, store_config: StoreConfig, tmp_path: Path
) -> None:
    await fill(store)
    alive = await store.read(final.read)
    await store.close()

    dead = final.load(where(store_config, tmp_path))
    assert dead == alive
    rows = {row.id: row for row in dead.executions}
    assert (rows["fired"].origin, rows["fired"].schedule_id, rows["fired"].nominal_us) == ("submit", "s", make.T0)
    assert (rows["lost"].state, rows["lost"].lost_count) == ("pending", 1)
    assert (rows["failed"].state, rows["failed"].error, rows["failed"].result) == ("failed", "E", None)
    assert rows["done"].result == final.crc32(b'{"a":1}')
    assert [(attempt.token, attempt.outcome) for attempt in dead.attempts] == [(7, "lost")]
    assert [(fire.schedule_id, fire.outcome, fire.execution_id) for fire in dead.fires] == [("s", "executed", "fired")]
    assert [(row.schedule.id, row.executed, row.missed) for row in dead.schedules] == [("s", 1, 0)]
    assert [(version.schedule.id, version.deleted) for version in dead.versions] == [("gone", True)]
    assert (dead.damage, dead.ended_again, dead.revived, dead.removed) == ([], [], [], 0)


async def test_the_command_judges_a_folder_and_its_store(
    sqlite_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await fill(sqlite_store)
    await sqlite_store.close()
    folder, store = tmp_path / "run", tmp_path
    folder.mkdir()
    terms = Terms(settled=False, ledgered=(), until_us=make.T0)

    (folder / TERMS).write_bytes(msgspec.json.encode(terms))
    assert check.main([str(folder), "--store", str(store)]) == 1
    assert "C8 unexplained_loss: execution lost" in capsys.readouterr().out

    append(folder / FAULTS, Fault(fault=FaultKind.KILL, target="node:n1", begin_us=make.T0))
    assert check.main([str(folder), "--store", str(store), "--json"]) == 0
    report = msgspec.json.decode(capsys.readouterr().out)
    assert (report["counts"], report["seen"]["executions"]) == ({}, 4)


async def test_reading_a_dead_server_s_file_changes_nothing_of_it(sqlite_store: Store, tmp_path: Path) -> None:
    await fill(sqlite_store)
    # As it is while its server lives, or after that was killed: most of it is in the log.
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before["schedule_zero.db-wal"]

    assert final.load(tmp_path / "schedule_zero.db").executions

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    # Nor is its lock of any interest.
    await sqlite_store.close()
    Store.open(StoreConfig(), tmp_path, clock=ManualClock())._close()


async def test_a_damaged_index_is_found(sqlite_store: Store, tmp_path: Path) -> None:
    await fill(sqlite_store)
    await sqlite_store.close()
    path = tmp_path / "schedule_zero.db"
    with closing(sqlite3.connect(path)) as raw:
        [size] = raw.execute("PRAGMA page_size").fetchone()
        unique = "SELECT rootpage FROM sqlite_master WHERE type = 'index' AND tbl_name = 'fires' AND sql IS NULL"
        [root] = raw.execute(unique).fetchone()
    broken = bytearray(path.read_bytes())
    # The cells of an index.
    broken[root * size - 64 : root * size] = bytes(64)
    path.write_bytes(broken)

    assert final.load(tmp_path).damage


def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"schedule_zero\.db"):
        final.load(tmp_path)
