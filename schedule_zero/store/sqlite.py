"""SQLite: one file, one server at a time, never repaired or reset behind the operator's back.

Only the writer's connection checkpoints: SQLite before 3.51.3 can corrupt a database whose WAL is reset by one
connection while another writes (Debian 12 has 3.40). No memory map: with one, a failing disk is a SIGBUS instead of
an error.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import structlog
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool, QueuePool

from schedule_zero.errors import ConfigError, ScheduleZeroError, StoreCorrupt, StoreLocked, StoreUnavailable
from schedule_zero.state_dir import DISK_TROUBLE
from schedule_zero.store import failures, migrations

log = structlog.get_logger(__name__)

MAGIC = b"SQLite format 3\x00"
# A quick_check reads every page (37 MiB: 0.1 s); beyond this size a start would wait for it.
FULL_CHECK_BELOW_BYTES = 64 << 20
# An integrity_check also looks up each row in each index, which takes four times as long (7 MiB: 55 ms). What an index
# has lost is never dispatched.
INDEX_CHECK_BELOW_BYTES = 8 << 20
BUSY_S = 5.0
# A checkpoint copies the log's pages into the file and waits for the disk twice. Of 4000 pages, 16 MB, it keeps the
# writer for 35 to 75 ms, and several times as long where others use the disk: a commit pays that under load only.
CHECKPOINT_PAGES = 4000
# Otherwise it is done between commits, while nothing waits, of about so many: 1 to 10 ms.
IDLE_CHECKPOINT_PAGES = 600
# How many pages of the log a commit takes, and each of its rows. (Measured with submissions and pruning at a time.)
PAGES_A_COMMIT = 4
PAGES_A_ROW = 0.2
WAL_LIMIT_BYTES = 64 << 20
WRITER_CACHE_KIB = 16 << 10
READER_CACHE_KIB = 2 << 10
# Bulk statements come in nine sizes each.
CACHED_STATEMENTS = 256


class SqliteBackend:
    """One database file: its lock, its checks, its connections."""

    name = "sqlite"
    begin = "BEGIN IMMEDIATE"
    begin_read = "BEGIN"

    def __init__(self, path: Path, durability: Literal["full", "fast"]) -> None:
        self.path = path.resolve()
        self.where = f"the database {self.path}"
        self._synchronous = "FULL" if durability == "full" else "NORMAL"
        self._lock: int | None = None

    def open(self) -> Connection:
        """Lock, check, create or migrate; the writer's connection."""
        self._take_lock()
        try:
            if self._exists():
                self._check()
            else:
                self._create()
            conn = self.connect()
            migrations.migrate(conn, begin=self.begin, where=self.where)
        except ScheduleZeroError:
            raise
        except Exception as error:
            raise self._open_failure(error) from error
        return conn

    def connect(self) -> Connection:
        """A connection that writes."""
        return self._engine(self.path).connect()

    def readers(self, size: int) -> Engine:
        """Read-only connections, as many as there are reader threads."""

        def connect() -> sqlite3.Connection:
            raw = self._connect_read_only()
            raw.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
            raw.execute("PRAGMA query_only = ON")
            return raw

        return create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=size, max_overflow=0)

    def size_bytes(self, conn: Connection) -> int:  # noqa: ARG002 - PostgreSQL has to be asked
        """The file and its log."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def reconnected(self, conn: Connection, epoch: int) -> None:
        """Nothing to verify: the lock on the file outlives a connection."""

    def tidy(self, cursor: Any, rows: int, commits: int) -> bool:
        """Fold the log into the file, if about enough was written; whether it was."""
        if commits * PAGES_A_COMMIT + rows * PAGES_A_ROW < IDLE_CHECKPOINT_PAGES:
            return False
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return True

    def close(self) -> None:
        """Give the lock back. The lock file stays: removing it would let two servers hold two locks."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        path = self.path.with_name(self.path.name + ".lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            os.close(lock)
            raise StoreLocked(
                f"another server uses {self.where}" + (f" (process {holder})" if holder else ""),
                hint="stop it, or give this one its own state directory",
            ) from None
        # Given back by ``close``, whatever happens from here on.
        self._lock = lock
        try:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise self._unusable(error) from error

    def _exists(self) -> bool:
        if self.path.exists():
            return True
        wal = self.path.with_name(self.path.name + "-wal")
        if wal.exists() and wal.stat().st_size > 0:
            # A new database in this place would swallow the old one's log.
            raise self._corrupt(f"it is gone, but its log {wal.name} is still there")
        return False

    def _create(self) -> None:
        """Build the new database aside and move it into place whole, so that an empty file always means damage."""
        fresh = self.path.with_name(self.path.name + ".new")
        for suffix in ("", "-journal", "-wal", "-shm"):
            fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT, 0o600))
        conn = self._engine(fresh).connect()
        try:
            migrations.migrate(conn, begin=self.begin, where=self.where)
            # All of it into the file, or an error: closing would leave what does not fit in a log of the old name.
            busy = conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
            if busy:
                raise StoreLocked(f"another program holds a lock on {fresh}")
        finally:
            conn.close()
        fresh.rename(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        log.info("store_created", path=str(self.path), schema_version=migrations.LATEST)

    def _check(self) -> None:
        """Refuse a damaged file, and one that isn't ours. Reads only: not even the log is replayed into the file."""
        with self.path.open("rb") as file:
            head = file.read(len(MAGIC))
        if head != MAGIC:
            raise self._corrupt("it is empty (0 bytes)" if not head else "it does not begin like an SQLite database")
        raw = self._connect_read_only()
        try:
            self._check_size(raw)
            size = self.path.stat().st_size
            if size < FULL_CHECK_BELOW_BYTES:
                check = "integrity_check" if size < INDEX_CHECK_BELOW_BYTES else "quick_check"
                found = [str(row[0]) for row in raw.execute(f"PRAGMA {check}(3)")]
                if found != ["ok"]:
                    raise self._corrupt("; ".join(found))
            else:
                self._glance(raw)
            self._check_schema(raw)
        finally:
            raw.close()

    def _check_schema(self, raw: sqlite3.Connection) -> None:
        """The tables and columns of its version: SQLite doesn't mind what a flipped bit makes of a name."""
        tables = {row[0] for row in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        row = None
        if migrations.VERSIONED in tables:
            row = raw.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
        version = None if row is None else row[0]
        if len(tables & migrations.TABLES.keys()) > len(migrations.TABLES) // 2:
            if version is None:
                raise self._corrupt("it does not say which version of the schema it has")
            if not str(version).isdecimal():
                raise self._corrupt(f"it says that its schema has version {str(version)[:20]!r}")
        if migrations.recognise(version, tables, where=self.where) != migrations.LATEST:
            return
        for name, columns in migrations.TABLES.items():
            missing = columns - {row[1] for row in raw.execute(f'PRAGMA table_info("{name}")')}
            if missing:
                raise self._corrupt(f"the table {name} has no {', '.join(sorted(missing)[:3])}")

    def _check_size(self, raw: sqlite3.Connection) -> None:
        """A file without a log has exactly its pages; with one, the rest may still be in the log."""
        wal = self.path.with_name(self.path.name + "-wal")
        if wal.exists() and wal.stat().st_size > 0:
            return
        pages = raw.execute("PRAGMA page_count").fetchone()[0]
        expected = pages * raw.execute("PRAGMA page_size").fetchone()[0]
        size = self.path.stat().st_size
        if size < expected:
            raise self._corrupt(f"{expected} bytes expected, {size} found")

    def _glance(self, raw: sqlite3.Connection) -> None:
        """For a large file: the schema and both ends of every table. Damage raises as such."""
        for name, sql in raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall():
            if "WITHOUT ROWID" not in sql:
                raw.execute(f'SELECT * FROM "{name}" ORDER BY rowid LIMIT 1').fetchall()
                raw.execute(f'SELECT * FROM "{name}" ORDER BY rowid DESC LIMIT 1').fetchall()

    def _engine(self, path: Path) -> Engine:
        def connect() -> sqlite3.Connection:
            raw = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=CACHED_STATEMENTS
            )
            for pragma in (
                "journal_mode = WAL",
                f"synchronous = {self._synchronous}",
                f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
                f"journal_size_limit = {WAL_LIMIT_BYTES}",
                f"cache_size = -{WRITER_CACHE_KIB}",
                "temp_store = MEMORY",
                "foreign_keys = OFF",
                # Debian's SQLite overwrites what is deleted with zeros, all of it once more through the log: 64 MiB of
                # a result 267 ms, 28 ms without. As SQLite comes, nothing is overwritten; this way, what costs nothing.
                "secure_delete = FAST",
                "mmap_size = 0",
            ):
                raw.execute(f"PRAGMA {pragma}")
            return raw

        return create_engine("sqlite://", creator=connect, poolclass=NullPool)

    def _connect_read_only(self) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{quote(str(self.path))}?mode=ro",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )

    def unreadable(self, reason: object) -> StoreCorrupt:
        """Sound for SQLite, and something in it is not what can have been written."""
        return self._corrupt(str(reason)[:500], "Nothing in it was reset")

    def _corrupt(self, what: str, done: str = "It was not touched") -> StoreCorrupt:
        return StoreCorrupt(
            f"{self.where} is damaged: {what}. {done}. "
            f"Restore a backup: cp BACKUP '{self.path}' && rm -f '{self.path}-wal' '{self.path}-shm'; "
            f"or salvage what can be read: sqlite3 '{self.path}' .recover | sqlite3 '{self.path}.recovered'"
        )

    def _unusable(self, error: OSError) -> ScheduleZeroError:
        kind = StoreUnavailable if error.errno in DISK_TROUBLE else ConfigError
        return kind(f"cannot use {self.where}: {error}")

    def _open_failure(self, error: Exception) -> Exception:
        if isinstance(error, OSError):
            return self._unusable(error)
        code = failures.sqlite_code(error)
        reason = failures.driver_error(error)
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self._corrupt(str(reason))
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreLocked(f"another program holds a lock on {self.where}: {reason}")
        if failures.is_unavailable(error):
            return StoreUnavailable(f"cannot use {self.where}: {reason}")
        return error
