"""What a write verb is given: one open transaction. It never begins, commits or retries: the writer does.

A *verb* is a plain function ``(tx, args) -> results``. Adjacent queued operations of the same verb arrive as
one list, in the order in which they were queued, and the results come back in that order. A result that is
a ``ScheduleZeroError`` fails that operation alone (only allowed if it wrote nothing); a verb that raises makes
the writer roll back and run the operations one by one, so that one bad operation fails alone.

Hot statements go to the DBAPI cursor directly: SQLAlchemy's ``exec_driver_sql`` adds 13 µs to each, and a lone
operation has six. Everything else is SQLAlchemy Core.

Who asked for each of a verb's arguments stands in ``tx.actors``, in the same order; what is recorded of it
(``changes.record``) is written at the end, as the journal is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from schedule_zero.errors import InvalidField, ScheduleZeroError
from schedule_zero.model import Event
from schedule_zero.rules.change_log import Actor
from schedule_zero.store import tables
from schedule_zero.store.statements import CHUNKS, Bulk, bulk_insert

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult
    from sqlalchemy.sql.base import Executable

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")

Verb: TypeAlias = "Callable[[Tx, list[A]], Sequence[R | ScheduleZeroError]]"

HOUR_US = 3_600_000_000
STORED_NOW = 0
# Beside the states: how many dead letters wait.
LETTERS = "dead_letter"
CLEARED = -1


class Page(Struct, Generic[T]):
    """One page of a list. ``next_cursor`` is opaque; ``None`` says that this is the last page."""

    rows: list[T]
    next_cursor: str | None = None


def parse_seq(cursor: str | None) -> int | None:
    """A cursor that is one number."""
    if cursor is None:
        return None
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 18:
        raise InvalidField("the cursor is not one that a page came with", pointer="/cursor")
    return int(cursor)


def parse_pair(cursor: str | None) -> tuple[int | None, int | None]:
    """A cursor that is two numbers."""
    if cursor is None:
        return None, None
    first, dot, second = cursor.partition(".")
    if not dot:
        raise InvalidField("the cursor is not one that a page came with", pointer="/cursor")
    return parse_seq(first), parse_seq(second)


class IdempotencyRecord(Struct, kw_only=True):
    """What a client's Idempotency-Key stands for. ``key`` is already scoped to the principal by the caller."""

    key: str
    # Hash of the request; the same key with another one is a mismatch.
    fingerprint: str
    status: int
    response: bytes
    created_us: int


class IdempotentReplay(Struct, kw_only=True):
    """The answer of the first request with this key. Nothing was written this time."""

    status: int
    response: bytes


_COUNT = bulk_insert(
    tables.execution_counts,
    ("bucket_us", "handler_id", "state", "n", "run_us"),
    "(bucket_us, handler_id, state) DO UPDATE SET "
    "n = execution_counts.n + excluded.n, run_us = execution_counts.run_us + excluded.run_us",
)
_KEEP_CHANGES = bulk_insert(
    tables.changes,
    ("at_us", "noun", "verb", "subject", "by", "token_id", "address", "request_id", "count", "note", "before", "after"),
)
_encode_events = msgspec.json.Encoder().encode


_NEXT_GENERATION = (
    "UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE key = 'generation' RETURNING value"
)


class Tx:
    """One write transaction: a cursor, the moment it began, and what is to be told when it is committed."""

    def __init__(self, conn: Connection, cursor: Any, now_us: int) -> None:
        self.conn = conn
        self.cursor = cursor
        self.dialect = conn.dialect.name
        self.now_us = now_us
        self.events: list[Event] = []
        # Rows of the change log, to be written at the end (``changes.record``).
        self.changes: list[tuple[Any, ...]] = []
        # Of the verb that runs now: who asked for each argument. None: the server, or it is not recorded who.
        self.actors: Sequence[Actor | None] = ()
        self.counts: dict[tuple[int, str, str], tuple[int, int]] = {}
        # Nominal times decided, by outcome; for who listens to ``Store.on_counted``.
        self.fires: dict[str, int] = {}

    def emit(self, event: Event) -> None:
        """Add to the journal row of this transaction (``events.extend`` for many)."""
        self.events.append(event)

    def actor(self, n: int) -> Actor | None:
        """Who asked for the ``n``-th argument of the verb that runs now."""
        return self.actors[n] if self.actors else None

    def bulk(self, statement: Bulk, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run a statement over rows, a few hundred to a step; how many rows of the table it touched."""
        touched = at = 0
        for sql, size in self._steps(statement, len(rows)):
            self.cursor.execute(sql, tuple(chain.from_iterable(rows[at : at + size])))
            touched += self.cursor.rowcount
            at += size
        return touched

    def lookup(self, statement: Bulk, keys: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The rows of a ``bulk_select``; ``keys`` without repetition."""
        found: list[tuple[Any, ...]] = []
        at = 0
        for sql, size in self._steps(statement, len(keys)):
            self.cursor.execute(sql, tuple(chain.from_iterable(keys[at : at + size])))
            found += self.cursor.fetchall()
            at += size
        return found

    def _steps(self, statement: Bulk, left: int) -> Iterator[tuple[str, int]]:
        for size in CHUNKS:
            while left >= size:
                yield statement.sql(self.dialect, size), size
                left -= size

    def execute(self, statement: Executable) -> CursorResult[*tuple[Any, ...]]:
        """A statement that is not hot."""
        return self.conn.execute(statement)

    @contextmanager
    def attempt(self) -> Iterator[Trial]:
        """A savepoint: ``Undo`` raised inside takes back what was written inside, and goes no further."""
        trial = Trial()
        self.cursor.execute("SAVEPOINT attempt")
        try:
            yield trial
        except Undo:
            self.cursor.execute("ROLLBACK TO SAVEPOINT attempt")
            trial.kept = False
        self.cursor.execute("RELEASE SAVEPOINT attempt")

    def next_generation(self) -> int:
        """A number greater than any given out before, for schedules that are created in this transaction."""
        self.cursor.execute(_NEXT_GENERATION)
        return int(self.cursor.fetchall()[0][0])

    def count(self, handler_id: str, state: str, n: int, run_us: int = 0) -> None:
        """Keep the counters behind ``executions.stats``: what is stored, and the hour's history."""
        self._add((STORED_NOW, handler_id, state), n, run_us)
        self._add((self.now_us - self.now_us % HOUR_US, handler_id, state), n, run_us)

    def count_cleared(self, handler_id: str, state: str, n: int, run_us: int = 0) -> None:
        self._add((STORED_NOW, handler_id, state), -n, -run_us)
        self._add((CLEARED, handler_id, state), n, run_us)

    def count_letters(self, handler_id: str, n: int) -> None:
        """Keep the number of dead letters that wait; ``n`` is negative where they are dealt with."""
        self._add((STORED_NOW, handler_id, LETTERS), n, 0)

    def _add(self, key: tuple[int, str, str], n: int, run_us: int) -> None:
        had = self.counts.get(key, (0, 0))
        self.counts[key] = (had[0] + n, had[1] + run_us)

    def finish(self) -> int:
        """For the writer, before COMMIT: write counters, change log and journal. The journal row's seq, 0 if there is
        nothing to tell.
        """
        if self.changes:
            self.bulk(_KEEP_CHANGES, self.changes)
        if self.counts:
            self.bulk(_COUNT, [(*key, *value) for key, value in self.counts.items()])
        if not self.events:
            return 0
        mark = "?, ?" if self.dialect == "sqlite" else "%s, %s"
        self.cursor.execute(
            f"INSERT INTO events (created_us, body) VALUES ({mark}) RETURNING seq",
            (self.now_us, _encode_events(self.events).decode()),
        )
        return int(self.cursor.fetchone()[0])


class Trial(Struct):
    """How a ``Tx.attempt`` went."""

    kept: bool = True


class Undo(Exception):
    """Take back what was written since ``Tx.attempt`` began."""
