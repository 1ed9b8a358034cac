"""The product's own writer, database and outbox without their threads, on a disk that can be slow, or fail.

Files are real (on tmpfs, unsynced), so that what a killed process leaves behind is what SQLite makes of it.
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from schedule_zero.node.outbox import IDLE_S, Outbox
from schedule_zero.store.sqlite import BUSY_S, CACHED_STATEMENTS, SqliteBackend
from schedule_zero.store.writer import PROBE_S, Operation, Writer
from tests.simulation.loop import PROCESS, Process

T = TypeVar("T")


class Disk:
    """What the server's disk does."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        # What fails: nothing, the begin of a transaction, its end, or any statement now and then.
        self.fails: Literal["", "begin", "commit", "any"] = ""
        self.slow_s = 0.0
        # The server dies right after its next commit, before anybody hears of it.
        self.deadly = False

    def sync_s(self) -> float:
        """How long the next commit takes."""
        return 0.0005 + 0.001 * self._random.random() + self.slow_s * self._random.random()

    def check(self, sql: str) -> None:
        """Raise what SQLite raises."""
        begins, commits = sql.startswith("BEGIN"), sql == "COMMIT"
        if sql == "ROLLBACK":
            return
        bad = self.fails == "begin" and begins
        bad = bad or (self.fails == "commit" and commits)
        bad = bad or (self.fails == "any" and self._random.random() < 0.2)
        if bad:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error


DISKS: dict[str, Disk] = {}


def disk_of(process: Process) -> Disk:
    return DISKS[process.name]


class _Cursor(sqlite3.Cursor):
    disk: Disk

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if self.disk.fails:
            self.disk.check(sql)
        return super().execute(sql, *args)

    def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if self.disk.fails:
            self.disk.check(sql)
        return super().executemany(sql, *args)


class _Connection(sqlite3.Connection):
    disk: Disk

    def cursor(self, *_: Any) -> sqlite3.Cursor:
        cursor = super().cursor(_Cursor)
        cursor.disk = self.disk
        return cursor


class SimSqlite(SqliteBackend):
    """The file on that disk. Its process's death closes what it had open."""

    def __init__(self, path: Path, durability: Literal["full", "fast"]) -> None:
        super().__init__(path, durability)
        self._synchronous = "OFF"
        self._process = PROCESS.get()
        assert self._process is not None, "a store belongs to a process"
        self._disk = disk_of(self._process)
        self._process.holds.append(self.close)

    def _engine(self, path: Path) -> Engine:
        def connect() -> sqlite3.Connection:
            raw = sqlite3.connect(
                path,
                timeout=BUSY_S,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=CACHED_STATEMENTS,
                factory=_Connection,
            )
            raw.disk = self._disk
            for pragma in ("journal_mode = WAL", "synchronous = OFF", "temp_store = MEMORY", "foreign_keys = OFF"):
                raw.execute(f"PRAGMA {pragma}")
            return self._held(raw)

        return create_engine("sqlite://", creator=connect, poolclass=NullPool)

    def _connect_read_only(self) -> sqlite3.Connection:
        return self._held(
            sqlite3.connect(
                f"file:{quote(str(self.path))}?mode=ro",
                uri=True,
                timeout=BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
        )

    def _held(self, raw: sqlite3.Connection) -> sqlite3.Connection:
        assert self._process is not None
        self._process.holds.append(lambda: _close(raw))
        return raw


def _close(raw: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        raw.close()


class TurnedWriter(Writer):
    """The writer, in turns of the loop."""

    def _launch(self) -> None:
        process = PROCESS.get()
        assert process is not None, "a writer belongs to a process"
        self._process = process
        self._disk = disk_of(process)
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.TimerHandle | None = None
        self._busy = False

    def put(self, operation: Operation) -> None:
        super().put(operation)
        if self._turn is None or not self._busy:
            self._arm(self._disk.sync_s())

    def _arm(self, delay_s: float, *, probe: bool = False) -> None:
        if self._turn is not None:
            self._turn.cancel()
        self._busy = not probe
        self._turn = self._loop.call_later(delay_s, self._step)

    def _step(self) -> None:
        self._turn = None
        if self._waiting():
            self._serve(self._gather())
        elif not self.healthy:
            self._probe()
        if not self._process.alive:
            return
        if self._waiting():
            self._arm(self._disk.sync_s())
        elif not self.healthy:
            self._arm(PROBE_S, probe=True)

    def _waiting(self) -> bool:
        return self._held is not None or not self._queue.empty()

    def _deliver(self, *told: Any) -> None:
        if self._disk.deadly:
            self._disk.deadly = False
            self._process.kill()
        else:
            super()._deliver(*told)

    def stop(self) -> None:
        while self._waiting():
            self._serve(self._gather())
        if self._turn is not None:
            self._turn.cancel()
        self._drop_connection()


class TurnedOutbox(Outbox[T]):
    """The outbox, in turns of the loop."""

    def _launch(self) -> None:
        process = PROCESS.get()
        assert process is not None, "an outbox belongs to a process"
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.TimerHandle | None = None
        process.holds.append(self._lose)

    def put(self, entry: T) -> None:
        super().put(entry)
        self._arm(0.0005)

    def ack(self, tokens: Any) -> None:
        super().ack(tokens)
        if self._next is None:
            self._arm(IDLE_S)

    def _arm(self, delay_s: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self._loop.call_later(delay_s, self._step)

    def _step(self) -> None:
        self._next = None
        self._turn(self._queued())

    def _queued(self) -> list[T]:
        batch: list[T] = []
        with suppress(queue.Empty):
            while True:
                entry = self._queue.get_nowait()
                if entry is not None:
                    batch.append(entry)
        return batch

    def close(self) -> None:
        self._closing.set()
        if self._next is not None:
            self._next.cancel()
        if self._fd >= 0:
            self._turn(self._queued())
        self._lose()

    def _lose(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
