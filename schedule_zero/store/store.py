"""The store's door: open, write, read, listen, close."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from schedule_zero.clock import Clock
from schedule_zero.config import StoreConfig
from schedule_zero.errors import ConfigError, StoreCorrupt, StoreUnavailable
from schedule_zero.rules.change_log import Actor
from schedule_zero.store import clock_steps, failures, migrations
from schedule_zero.store.postgres import PostgresBackend
from schedule_zero.store.sqlite import SqliteBackend
from schedule_zero.store.tally import Tally
from schedule_zero.store.tx import Verb
from schedule_zero.store.writer import Counted, Listener, Operation, StoreStats, Writer

if TYPE_CHECKING:
    from sqlalchemy import Connection

A = TypeVar("A")
R = TypeVar("R")

log = structlog.get_logger(__name__)

FILE_NAME = "schedule_zero.db"


class Store:
    """One writer thread and a few reader threads over one database."""

    def __init__(
        self, backend: SqliteBackend | PostgresBackend, conn: Connection, *, readers: int, clock: Clock
    ) -> None:
        self.dialect = backend.name
        self.epoch = migrations.next_epoch(conn, begin=backend.begin)
        self._backend = backend
        self._engine = backend.readers(readers)
        self._pool = ThreadPoolExecutor(readers, thread_name_prefix="store-reader")
        self._writer = Writer(backend, conn, epoch=self.epoch, clock=clock)
        self._closing: asyncio.Future[None] | None = None

    @classmethod
    def open(cls, config: StoreConfig, state_dir: Path, *, clock: Clock) -> Store:
        """Lock, check, migrate, begin a new epoch. ``StoreLocked``, ``StoreCorrupt`` or ``ConfigError`` say why not."""
        backend = _backend(config, state_dir)
        try:
            conn = backend.open()
            try:
                store = cls(backend, conn, readers=config.readers, clock=clock)
            except BaseException:
                conn.close()
                raise
        except BaseException as error:
            backend.close()
            if isinstance(error, Exception):
                if failures.is_unreadable(error):
                    # The statements are right: what they ask for is not there, or not what was written.
                    raise backend.unreadable(failures.driver_error(error)) from error
                raise failures.translate(error) from error
            raise
        log.info("store_opened", database=backend.where, epoch=store.epoch, durability=config.durability)
        return store

    def damage(self, error: BaseException) -> StoreCorrupt | None:
        """What ended a start that only reads what is stored, if it is that this can't be read."""
        return self._backend.unreadable(failures.driver_error(error)) if failures.is_unreadable(error) else None

    @property
    def where(self) -> str:
        """Which database it is, without a password."""
        return self._backend.where

    async def size_bytes(self) -> int:
        """How much the database takes on its disk, its log included."""
        return await self.read(self._backend.size_bytes)

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return self._writer.healthy

    @property
    def last_error(self) -> str | None:
        return self._writer.last_error

    @property
    def stats(self) -> StoreStats:
        stats = self._writer.stats
        stats.queued = self._writer.queued()
        return stats

    @property
    def tally(self) -> Tally:
        """How many executions are not over, as of the last commit."""
        return self._writer.tally

    async def write(self, verb: Verb[A, R], arg: A, *, by: Actor | None = None) -> R:
        """Run one operation; returns after its COMMIT. ``StoreUnavailable``: nothing was changed.

        ``by``: who wants it, for the change log; None: the server itself, or nobody has to know. Cancelling the caller
        does not take the operation back.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._put(Operation(verb, arg, partial(_settle, future), loop, by))
        return await future

    def submit(
        self, verb: Verb[A, R], arg: A, on_done: Callable[[R | Exception], None], *, by: Actor | None = None
    ) -> None:
        """``write`` without a future or task: ``on_done`` is called on the loop with the result or the error."""
        self._put(Operation(verb, arg, on_done, asyncio.get_running_loop(), by))

    async def read(self, query: Callable[[Connection], R]) -> R:
        """Run ``query`` on a reader thread, in one read-only snapshot."""
        self._refuse_if_closed()
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, query)

    def on_commit(self, listener: Listener) -> None:
        """Call ``listener`` on the loop with the (journal seq, event) pairs of what was committed, in order.

        It is called *before* the writes' own completions: who awaits a write finds its events told already. An
        event's place among those of the same seq is its index.
        """
        self._writer.listeners.append(listener)

    def on_counted(self, listener: Callable[[list[Counted]], None]) -> None:
        """Call ``listener`` on the loop with what transactions counted, each once it is committed, before the
        completions of its writes.
        """
        self._writer.count_listeners.append(listener)

    def look_at_clock(self) -> None:
        """Notice that the wall clock was set even where nothing is written: call this every second or so."""
        if self._closing is None and self._writer.steps.step_us():
            self.submit(clock_steps.look, None, _nothing)

    def on_clock_set(self, listener: Callable[[int], None]) -> None:
        """Call ``listener`` on the loop when the wall clock was set: with the microseconds by which the moments of what
        waits for a length of time (``start_by_us``, a retry's ``not_before_us``) were moved, before the completions of
        the writes that were committed with it.
        """
        self._writer.clock_listeners.append(listener)

    async def close(self) -> None:
        """Commit what is queued, then close. Safe to call twice."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(asyncio.to_thread(self._close))
        await asyncio.shield(self._closing)

    def _close(self) -> None:
        # Readers go first: the last connection to close folds SQLite's log into the file, and that has to be the
        # writer's.
        self._pool.shutdown(wait=True)
        self._engine.dispose()
        self._writer.stop()
        self._backend.close()
        log.info("store_closed", commits=self._writer.stats.commits)

    def _put(self, operation: Operation) -> None:
        self._refuse_if_closed()
        self._writer.put(operation)

    def _refuse_if_closed(self) -> None:
        if self._closing is not None:
            raise StoreUnavailable("the store is closed")

    def _read(self, query: Callable[[Connection], R]) -> R:
        try:
            with self._engine.connect() as conn:
                conn.exec_driver_sql(self._backend.begin_read)
                answer = query(conn)
                conn.exec_driver_sql("COMMIT")
                return answer
        except Exception as error:
            raise failures.translate(error) from error


def _nothing(_: object) -> None:
    """Nobody waits for this."""


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def _backend(config: StoreConfig, state_dir: Path) -> SqliteBackend | PostgresBackend:
    if not config.url:
        return SqliteBackend(state_dir / FILE_NAME, config.durability)
    try:
        url = make_url(config.url)
    except ArgumentError as error:
        raise ConfigError(f"store.url is not a database URL: {error}", pointer="/store/url") from error
    kind = url.get_backend_name()
    if kind == "sqlite" and url.database and url.database != ":memory:":
        return SqliteBackend(Path(url.database), config.durability)
    if kind == "postgresql":
        return PostgresBackend(url, config.durability)
    raise ConfigError(
        "store.url must be sqlite:////path/to/file or postgresql://user@host/database, "
        f"not {url.render_as_string(hide_password=True)}",
        pointer="/store/url",
    )
