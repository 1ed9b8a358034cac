"""What is about the SQLite file: one server, damage refused, trouble survived, crashes too."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import exc

from schedule_zero.config import StoreConfig
from schedule_zero.errors import ConfigError, StoreCorrupt, StoreLocked, StoreUnavailable
from schedule_zero.store import Store, Tx, events, executions, failures, fires, migrations, sqlite, writer
from schedule_zero.store.executions import Insert
from schedule_zero.store.store import FILE_NAME
from tests.store.builders import execution, get, insert
from tests.store.crasher import BATCH
from tests.support import ManualClock, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_schema")]

BIG = b'"' + b"x" * 100_000 + b'"'


def open_store(state_dir: Path, clock: ManualClock, **fields: Any) -> Store:
    return Store.open(StoreConfig(**fields), state_dir, clock=clock)


async def filled(state_dir: Path, clock: ManualClock, rows: int = 2000) -> Path:
    """A closed database with something in it."""
    store = open_store(state_dir, clock)
    await insert(store, *(execution(f"e{n:06}", params=b'{"x": "' + b"y" * 100 + b'"}') for n in range(rows)))
    await store.close()
    return state_dir / FILE_NAME


# --- opening ----------------------------------------------------------------------------------------


async def test_a_second_server_on_the_file_is_refused_and_told_who_holds_it(tmp_path: Path, clock: ManualClock) -> None:
    store = open_store(tmp_path, clock)
    try:
        with pytest.raises(StoreLocked, match=str(os.getpid())):
            open_store(tmp_path, clock)
        (tmp_path / "link.db").symlink_to(tmp_path / FILE_NAME)
        with pytest.raises(StoreLocked):
            open_store(tmp_path, clock, url=f"sqlite:///{tmp_path}/link.db")
        await insert(store, execution("a"))
    finally:
        await store.close()

    await open_store(tmp_path, clock).close()


async def test_each_start_is_a_greater_epoch(tmp_path: Path, clock: ManualClock) -> None:
    epochs = []
    for _ in range(3):
        store = open_store(tmp_path, clock)
        epochs.append(store.epoch)
        await store.close()

    assert epochs == [1, 2, 3]


async def test_the_file_is_for_its_owner_only(tmp_path: Path, clock: ManualClock) -> None:
    store = open_store(tmp_path, clock)
    await insert(store, execution("a"))

    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    await store.close()

    assert modes == dict.fromkeys((FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", f"{FILE_NAME}.lock"), 0o600)


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("fast", 1)])
async def test_durability_is_sqlite_s_synchronous(
    tmp_path: Path, clock: ManualClock, durability: str, synchronous: int
) -> None:
    store = open_store(tmp_path, clock, durability=durability)

    def pragmas(tx: Tx, args: list[None]) -> list[tuple[Any, ...]]:
        return [
            tuple(
                tx.cursor.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("synchronous", "journal_mode", "mmap_size")
            )
        ]

    found = await store.write(pragmas, None)
    await store.close()

    assert found == (synchronous, "wal", 0)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "nonsense"])
async def test_a_url_that_is_no_database_of_ours_is_refused(tmp_path: Path, clock: ManualClock, url: str) -> None:
    with pytest.raises(ConfigError):
        open_store(tmp_path, clock, url=url)


async def test_a_file_of_another_program_is_refused_and_left_alone(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE users (name TEXT)")
    other.close()
    before = path.read_bytes()

    with pytest.raises(ConfigError, match="users"):
        open_store(tmp_path, clock, url=f"sqlite:///{path}")

    assert path.read_bytes() == before


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path, clock: ManualClock) -> None:
    path = await filled(tmp_path, clock, rows=1)
    with sqlite3.connect(path) as other:
        other.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    other.close()
    before = path.read_bytes()

    with pytest.raises(ConfigError, match="schema version 99") as caught:
        open_store(tmp_path, clock)

    assert str(path) in caught.value.message
    assert path.read_bytes() == before


async def test_an_older_schema_walks_the_steps_and_a_step_that_fails_leaves_it_as_it_was(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await filled(tmp_path, clock, rows=1)

    def add_colour(conn: Any) -> None:
        conn.exec_driver_sql("ALTER TABLE nodes ADD COLUMN colour TEXT")

    def fail(conn: Any) -> None:
        conn.exec_driver_sql("ALTER TABLE nodes ADD COLUMN taste TEXT")
        raise ZeroDivisionError

    before = migrations.LATEST
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, add_colour, fail))
    monkeypatch.setattr(migrations, "LATEST", before + 2)
    with pytest.raises(ZeroDivisionError):
        open_store(tmp_path, clock)

    raw = sqlite3.connect(path)
    columns = {row[1] for row in raw.execute("PRAGMA table_info(nodes)")}
    version = raw.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()[0]
    raw.close()
    assert ("colour" in columns, "taste" in columns, version) == (True, False, str(before + 1))


# --- damage: C15 ------------------------------------------------------------------------------------


def overwrite(path: Path, at: int, what: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(what)


def truncate(path: Path, size: int) -> None:
    os.truncate(path, size)


def swap_rows(path: Path) -> None:
    """In the last leaf of a table with two rows or more: each page still reads well, but they stand in wrong order."""
    pages = bytearray(path.read_bytes())
    leaf, cells = 0x0D, 8
    for at in range(len(pages) - 4096, 0, -4096):
        if pages[at] == leaf and int.from_bytes(pages[at + 3 : at + 5]) >= 2:
            first, second = slice(at + cells, at + cells + 2), slice(at + cells + 2, at + cells + 4)
            pages[first], pages[second] = pages[second], pages[first]
            path.write_bytes(pages)
            return
    raise AssertionError("no table with two rows in one page")


def lose_from_index(path: Path) -> None:
    """An index that is well in itself, without one of the rows that wait: nobody would ever come by it."""
    name = "ix_executions_pending"
    with sqlite3.connect(path) as raw:
        (sql,) = raw.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        raw.execute(f"DROP INDEX {name}")
        raw.execute(f"{sql} AND id <> 'e000007'")
        raw.execute("PRAGMA writable_schema = ON")
        raw.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql, name))
    raw.close()


DAMAGE = {
    "the header is gone": lambda path: overwrite(path, 0, b"\0" * 100),
    "it is text": lambda path: path.write_text("hello\n" * 1000),
    "it is empty": lambda path: truncate(path, 0),
    "half of it is gone": lambda path: truncate(path, path.stat().st_size // 2 // 4096 * 4096),
    "it ends in the middle of a page": lambda path: truncate(path, path.stat().st_size - 1000),
    "a page in the middle is noise": lambda path: overwrite(
        path, path.stat().st_size // 2 // 4096 * 4096, b"\xa5" * 4096
    ),
    "two rows have changed places": swap_rows,
    "an index has lost a row": lose_from_index,
    "the schema is noise": lambda path: overwrite(path, 100, b"\xa5" * 3000),
}


@pytest.mark.parametrize("how", DAMAGE)
async def test_a_damaged_database_is_refused_and_left_untouched(tmp_path: Path, clock: ManualClock, how: str) -> None:
    path = await filled(tmp_path, clock)
    DAMAGE[how](path)
    before = path.read_bytes()

    with pytest.raises(StoreCorrupt) as caught:
        open_store(tmp_path, clock)

    assert path.read_bytes() == before
    assert caught.value.exit_code == 65
    assert str(path) in caught.value.message
    assert f"cp BACKUP '{path}'" in caught.value.message


def rename(what: bytes, to: bytes) -> Any:
    """Another text of that length, where it stands first: sound for SQLite."""
    return lambda path: path.write_bytes(path.read_bytes().replace(what, to, 1))


# What SQLite's own check finds nothing wrong with, and what no server can work with.
UNREADABLE = {
    "a column has another name": rename(b"idempotency_key", b"idempotencyXkey"),
    "the version is no number": lambda path: execute(path, "UPDATE meta SET value = '1x' WHERE key = 'schema_version'"),
    "the version is gone": lambda path: execute(path, "DELETE FROM meta WHERE key = 'schema_version'"),
    "the version is too old": lambda path: execute(path, "UPDATE meta SET value = '10' WHERE key = 'schema_version'"),
    "a text is none": lambda path: execute(path, "UPDATE execution_counts SET handler_id = CAST(x'ff41' AS TEXT)"),
}


def execute(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute(sql)
    raw.close()


@pytest.mark.parametrize("how", UNREADABLE)
async def test_what_only_a_reader_finds_damaged_is_refused_as_damage_and_keeps_its_rows(
    tmp_path: Path, clock: ManualClock, how: str
) -> None:
    path = await filled(tmp_path, clock)
    UNREADABLE[how](path)

    with pytest.raises(StoreCorrupt) as caught:
        open_store(tmp_path, clock)

    assert caught.value.exit_code == 65
    assert f"cp BACKUP '{path}'" in caught.value.message
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT count(*) FROM executions NOT INDEXED").fetchone()[0] == 2000
    raw.close()


@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN]
)
async def test_a_disk_that_fails_for_a_moment_has_damaged_nothing(code: int) -> None:
    """Nobody is to restore a backup for that."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code

    assert not failures.is_unreadable(error)
    assert not failures.is_unreadable(exc.OperationalError("SELECT 1", {}, error))
    assert failures.is_unreadable(sqlite3.OperationalError("Could not decode to UTF-8 column 'id'"))


@pytest.mark.parametrize("how", ["the header is gone", "half of it is gone", "the schema is noise"])
async def test_damage_to_a_large_database_is_seen_without_reading_all_of_it(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = await filled(tmp_path, clock)
    monkeypatch.setattr(sqlite, "FULL_CHECK_BELOW_BYTES", 0)
    await open_store(tmp_path, clock).close()
    DAMAGE[how](path)

    with pytest.raises(StoreCorrupt):
        open_store(tmp_path, clock)


async def test_a_database_that_is_gone_while_its_log_is_there_is_not_begun_anew(
    tmp_path: Path, clock: ManualClock
) -> None:
    path = await filled(tmp_path, clock, rows=1)
    path.unlink()
    (tmp_path / f"{FILE_NAME}-wal").write_bytes(b"x" * 5000)

    with pytest.raises(StoreCorrupt, match="-wal is still there"):
        open_store(tmp_path, clock)

    assert not path.exists()


async def test_the_lock_is_given_back_when_opening_fails(tmp_path: Path, clock: ManualClock) -> None:
    path = await filled(tmp_path, clock, rows=1)
    good = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(StoreCorrupt):
        open_store(tmp_path, clock)

    path.write_bytes(good)
    store = open_store(tmp_path, clock)
    assert (await get(store, "e000000")).id == "e000000"
    await store.close()


# --- trouble: C13 -----------------------------------------------------------------------------------


@contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    """Writes beyond ``size`` fail in this process, as on a disk that has trouble."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("call", "error"), [("pwrite", errno.ENOSPC), ("rename", errno.EIO), ("fsync", errno.EIO)])
async def test_a_disk_that_refuses_a_start_is_no_wrong_setting(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, call: str, error: int
) -> None:
    """78 would be: systemd doesn't try again after that."""

    def fail(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StoreUnavailable, match=os.strerror(error)) as caught:
            open_store(tmp_path, clock)
    assert caught.value.exit_code == 5

    await open_store(tmp_path, clock).close()


async def test_a_disk_that_is_full_amid_the_first_start_leaves_nothing_that_looks_damaged(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is in the log by then, and closing it would leave what does not fit there."""
    limits = ExitStack()
    migrate = migrations.migrate

    def fill(*args: Any, **options: Any) -> None:
        migrate(*args, **options)
        limits.enter_context(no_file_grows_beyond(100_000))

    with monkeypatch.context() as patch, limits:
        patch.setattr(migrations, "migrate", fill)
        with pytest.raises(StoreUnavailable, match="disk I/O error"):
            open_store(tmp_path, clock)
    assert not (tmp_path / FILE_NAME).exists()

    await open_store(tmp_path, clock).close()


async def test_a_step_of_the_schema_that_the_disk_refuses_says_so(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite has rolled back by itself then; that there is nothing to roll back is not the error."""
    await filled(tmp_path, clock, rows=1)

    def grow(conn: Any) -> None:
        conn.exec_driver_sql("PRAGMA max_page_count = 1")
        conn.exec_driver_sql("CREATE TABLE big (x)")

    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, grow))
    monkeypatch.setattr(migrations, "LATEST", migrations.LATEST + 1)

    with pytest.raises(StoreUnavailable, match="database or disk is full"):
        open_store(tmp_path, clock)


async def test_an_io_error_changes_nothing_and_heals_by_itself(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PROBE_S", 0.02)
    await insert(sqlite_store, execution("before"))

    with no_file_grows_beyond((tmp_path / f"{FILE_NAME}-wal").stat().st_size):
        with pytest.raises(StoreUnavailable, match="disk I/O error"):
            await insert(sqlite_store, execution("a"))
        assert not sqlite_store.healthy
        assert sqlite_store.last_error == "disk I/O error"
        # Reads go on.
        assert (await sqlite_store.read(executions.stats)).total == 1

    await eventually(lambda: sqlite_store.healthy)
    assert sqlite_store.last_error is None
    await insert(sqlite_store, execution("a"))
    assert (await sqlite_store.read(executions.stats)).total == 2


async def test_a_full_disk_fails_what_needs_room_and_nothing_else(sqlite_store: Store) -> None:
    def limit_pages(tx: Tx, args: list[int]) -> list[int]:
        return [tx.cursor.execute(f"PRAGMA max_page_count = {arg}").fetchone()[0] for arg in args]

    await insert(sqlite_store, execution("before"))
    await sqlite_store.write(limit_pages, 1)  # that is: no more than there are now

    outcomes: list[Any] = []
    sqlite_store.submit(executions.insert, Insert(rows=[execution("big", params=BIG)]), outcomes.append)
    sqlite_store.submit(executions.cancel, ["before"], outcomes.append)
    with pytest.raises(StoreUnavailable, match="disk is full"):
        await insert(sqlite_store, execution("big", params=BIG))

    assert isinstance(outcomes[0], StoreUnavailable)
    assert outcomes[1][0].outcome == "cancelled"
    assert not sqlite_store.healthy
    assert await sqlite_store.read(lambda conn: executions.get(conn, "big")) is None

    await sqlite_store.write(limit_pages, 1_000_000)
    assert sqlite_store.healthy
    await insert(sqlite_store, execution("big", params=BIG))
    assert (await get(sqlite_store, "big")).params == BIG


async def test_a_lock_of_another_program_fails_writes_and_heals_by_itself(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.02)
    monkeypatch.setattr(writer, "PROBE_S", 0.02)
    store = open_store(tmp_path, clock)
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="locked"):
        await insert(store, execution("a"))
    assert not store.healthy

    other.execute("ROLLBACK")
    other.close()
    await eventually(lambda: store.healthy)
    await insert(store, execution("a"))
    await store.close()


async def test_trouble_that_is_not_of_one_operation_fails_the_rest_without_trying_each(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def touch(tx: Tx, args: list[str]) -> list[None]:
        tried.extend(args)
        executions.insert(tx, [Insert(rows=[execution(arg)]) for arg in args])
        return [None for _ in args]

    outcomes: list[Any] = []
    await insert(sqlite_store, execution("before"))
    with no_file_grows_beyond((tmp_path / f"{FILE_NAME}-wal").stat().st_size):
        for n in range(50):
            sqlite_store.submit(touch, f"e{n}", outcomes.append)
        with pytest.raises(StoreUnavailable):
            await sqlite_store.write(touch, "last")

    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    assert len(tried) < 50 + 51 + 2 * writer.GIVE_UP_AFTER
    await insert(sqlite_store, execution("after"))
    assert (await sqlite_store.read(executions.stats)).total == 2


# --- tidying up -----------------------------------------------------------------------------------


async def write_until_untidy(store: Store) -> None:
    for n in range(sqlite.IDLE_CHECKPOINT_PAGES // sqlite.PAGES_A_COMMIT + 1):
        await insert(store, execution(f"e{n:04}"))


async def test_the_log_is_folded_into_the_file_while_nothing_waits(sqlite_store: Store, tmp_path: Path) -> None:
    size = (tmp_path / FILE_NAME).stat().st_size

    await write_until_untidy(sqlite_store)

    await eventually(lambda: (tmp_path / FILE_NAME).stat().st_size > size)
    # SQLite itself would not have begun yet.
    assert (tmp_path / f"{FILE_NAME}-wal").stat().st_size < sqlite.CHECKPOINT_PAGES * 4096 / 2


async def test_a_log_that_can_not_be_folded_keeps_nobody_from_writing(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def tidy(self: object, cursor: object, rows: int, commits: int) -> bool:
        tried.append(commits)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(sqlite.SqliteBackend, "tidy", tidy)
    for n in range(10):
        await insert(sqlite_store, execution(f"e{n}"))

    # Each time it is told only of what was written since.
    await eventually(lambda: tried)
    assert sum(tried) <= 10
    assert sqlite_store.healthy
    assert (await sqlite_store.read(executions.stats)).total == 10


# --- crashes: C4 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [1, 40, 200])
async def test_what_was_acknowledged_survives_a_sigkill_in_the_middle_of_writing(
    tmp_path: Path, clock: ManualClock, lines: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.store.crasher", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged: list[list[str]] = []
    for line in process.stdout:
        acknowledged.append(line.split())
        if len(acknowledged) == lines:
            process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    inserted = {id_ for kind, *ids in acknowledged if kind == "insert" for id_ in ids if len(ids) == BATCH}
    fired = {int(words[1]) for words in acknowledged if words[0] == "fire" and len(words) == 2}

    store = open_store(tmp_path, clock)
    try:
        stored: dict[str, Any] = {}
        cursor = None
        while True:
            wanted = executions.Filter(limit=500, cursor=cursor)
            page = await store.read(lambda conn, wanted=wanted: executions.find(conn, wanted))
            stored.update((row.id, row) for row in page.rows)
            cursor = page.next_cursor
            if cursor is None:
                break
        ledger = (await store.read(lambda conn: fires.find(conn, schedule_id="s", limit=10_000))).rows
        told = [
            event.id
            for _, row in await store.read(lambda conn: events.read_after(conn, 0, 100_000))
            for event in row
            if event.kind == "execution.created"
        ]
        total = (await store.read(executions.stats)).total
    finally:
        await store.close()

    submitted = {id_ for id_, row in stored.items() if row.schedule_id is None}
    assert inserted <= submitted
    # All or nothing: requests, their events, their counters; a fire and its execution.
    assert len(submitted) % BATCH == 0
    assert sorted(told) == sorted(stored)
    assert total == len(stored)
    assert fired <= {fire.nominal_us for fire in ledger}
    assert {fire.execution_id for fire in ledger} == set(stored) - submitted
    assert len({fire.nominal_us for fire in ledger}) == len(ledger)
