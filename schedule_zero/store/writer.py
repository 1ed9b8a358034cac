"""The one thread that writes: group commit.

Operations wait in one queue, in order. The thread takes all there are (up to a bound), runs them in one transaction,
commits once, and hands the outcomes to the loop in one call. While it commits, the next group gathers: nothing ever
waits for company. What the database has to tidy up from time to time, it does while nothing waits.

If a group fails it is rolled back and its operations run one by one, each in its own transaction, so that only the
bad one fails. If the database cannot be written (disk full, I/O error, locked, connection lost) the operations fail
with ``StoreUnavailable``, the store is unhealthy, and the thread lives on: the next success, its own probe at the
latest, heals it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import structlog
from msgspec import Struct
from sqlalchemy import Connection

from schedule_zero.clock import Clock
from schedule_zero.errors import StoreUnavailable
from schedule_zero.model import Event
from schedule_zero.rules.change_log import Actor
from schedule_zero.store import failures, migrations
from schedule_zero.store.clock_steps import ClockSteps
from schedule_zero.store.tally import Counts, Open, Tally
from schedule_zero.store.tx import Tx

log = structlog.get_logger(__name__)

# The bounds of one transaction, so that nobody waits long behind it. One operation is never split.
MAX_OPERATIONS = 2_000
MAX_ROWS = 10_000
# How long an unhealthy writer waits for work before it tries by itself.
PROBE_S = 1.0
# In isolation, after so many failures in a row that are not the operation's fault, the rest isn't tried.
GIVE_UP_AFTER = 3

Listener = Callable[[list[tuple[int, Event]]], None]


class Counted(NamedTuple):
    """What a committed transaction counted: executions that came and ended (``Tx.counts``), and fires by outcome."""

    counts: Counts
    fires: dict[str, int]


class Backend(Protocol):
    """What the writer needs of a database; ``sqlite`` and ``postgres`` have it."""

    name: str
    where: str
    begin: str
    begin_read: str

    def connect(self) -> Connection: ...
    def tidy(self, cursor: Any, rows: int, commits: int) -> bool: ...
    def reconnected(self, conn: Connection, epoch: int) -> None: ...


class StoreStats(Struct):
    """What the writer has done since it was opened."""

    commits: int = 0
    operations: int = 0
    # Operations that failed, for whatever reason.
    failures: int = 0
    # Groups that had to be run one by one.
    isolated: int = 0
    write_seconds: float = 0.0
    largest_batch: int = 0
    queued: int = 0
    listener_errors: int = 0


class Operation:
    """One queued call of a verb, and who wants to hear of it."""

    __slots__ = ("actor", "arg", "done", "loop", "rows", "verb")

    def __init__(
        self,
        verb: Any,
        arg: Any,
        done: Callable[[Any], None],
        loop: asyncio.AbstractEventLoop,
        actor: Actor | None = None,
    ) -> None:
        self.verb = verb
        self.arg = arg
        self.done = done
        self.loop = loop
        self.actor = actor
        # Only lists and the verbs' own bulk arguments count; the length of a string means nothing here.
        self.rows = len(arg) if hasattr(arg, "__len__") and not isinstance(arg, str) else 1


class _Committed(Struct):
    """The outcome of one transaction: a result for each operation, and what it has to tell."""

    results: list[Any]
    seq: int = 0
    events: list[Event] = []
    counted: Counted | None = None


class _CannotBegin(Exception):
    """No transaction could be begun: no operation is to blame."""


class Writer:
    """The thread, its queue and its connection."""

    def __init__(self, backend: Backend, conn: Connection, *, epoch: int, clock: Clock) -> None:
        self.stats = StoreStats()
        self.tally = Tally()
        self.tally.set(Tally.stored(conn))
        # What the loop has not been told for the tally yet, in order: all that is open, or what a transaction changed.
        self._tallied: list[Open | Counts] = []
        self.healthy = True
        self.last_error: str | None = None
        self.listeners: list[Listener] = []
        self.count_listeners: list[Callable[[list[Counted]], None]] = []
        # Called on the loop with the microseconds by which what waits was moved: the wall clock was set.
        self.clock_listeners: list[Callable[[int], None]] = []
        self.steps = ClockSteps(clock)
        self._moved_us = 0
        self._backend = backend
        self._epoch = epoch
        self._clock = clock
        self._conn: Connection | None = conn
        self._cursor: Any = conn.connection.cursor()
        self._queue: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        # An operation that would have made the last group too large.
        self._held: Operation | None = None
        self._stopping = False
        # Written since the backend last had time to tidy up.
        self._untidy_rows = self._untidy_commits = 0
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._launch()

    def _launch(self) -> None:
        """Begin to serve the queue. A simulation, which has no threads, calls ``_gather`` and ``_serve`` by itself."""
        self._thread.start()

    def put(self, operation: Operation) -> None:
        """Queue an operation; order is kept."""
        self._queue.put(operation)

    def queued(self) -> int:
        return self._queue.qsize()

    def stop(self) -> None:
        """Commit what is queued, then end the thread. Blocks; nothing may be queued after it."""
        self._queue.put(None)
        self._thread.join()
        self._drop_connection()

    # --- the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            group = self._gather()
            if group:
                self._serve(group)
            elif self._stopping:
                return
            else:
                self._probe()

    def _gather(self) -> list[Operation]:
        """All that is queued, within the bounds; waits for a first one. Empty: stop, or time to probe."""
        first = self._held
        self._held = None
        if first is None:
            if self._stopping:
                return []
            try:
                first = self._next()
            except queue.Empty:
                return []
            if first is None:
                self._stopping = True
                return []
        group = [first]
        rows = first.rows
        while len(group) < MAX_OPERATIONS:
            try:
                operation = self._queue.get_nowait()
            except queue.Empty:
                break
            if operation is None:
                self._stopping = True
                break
            rows += operation.rows
            if rows > MAX_ROWS:
                self._held = operation
                break
            group.append(operation)
        return group

    def _next(self) -> Operation | None:
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            self._tidy()
        return self._queue.get(timeout=None if self.healthy else PROBE_S)

    def _tidy(self) -> None:
        """Nobody waits: better now than in somebody's commit."""
        if self._conn is None or not self.healthy or not self._untidy_commits:
            return
        try:
            tidied = self._backend.tidy(self._cursor, self._untidy_rows, self._untidy_commits)
        except Exception as error:  # noqa: BLE001 - nothing is lost by it; the next commit meets the same disk, and tells
            log.warning("store_not_tidied", error=str(failures.driver_error(error)))
            tidied = True
        if tidied:
            self._untidy_rows = self._untidy_commits = 0

    def _serve(self, group: list[Operation]) -> None:
        began_s = self._clock.mono_s()
        try:
            committed = [self._transact(group)]
        except _CannotBegin as error:
            committed = [_Committed([self._unavailable(error.__cause__ or error) for _ in group])]
        except Exception as error:  # noqa: BLE001 - becomes the operations' results
            if len(group) > 1:
                self.stats.isolated += 1
                committed = self._one_by_one(group)
            else:
                committed = [_Committed([self._failed(group[0], error)])]
        self.stats.write_seconds += self._clock.mono_s() - began_s
        self.stats.operations += len(group)
        self.stats.largest_batch = max(self.stats.largest_batch, len(group))
        results = [result for one in committed for result in one.results]
        self.stats.failures += sum(isinstance(result, Exception) for result in results)
        told = [(one.seq, event) for one in committed for event in one.events]
        counted = [one.counted for one in committed if one.counted is not None]
        self._deliver(group, results, told, counted)

    def _one_by_one(self, group: list[Operation]) -> list[_Committed]:
        """Each in its own transaction, in order."""
        committed: list[_Committed] = []
        in_a_row = 0
        for operation in group:
            if in_a_row >= GIVE_UP_AFTER:
                committed.append(_Committed([StoreUnavailable(f"the store is not available: {self.last_error}")]))
                continue
            try:
                committed.append(self._transact([operation]))
                in_a_row = 0
            except _CannotBegin as error:
                committed.append(_Committed([self._unavailable(error.__cause__ or error)]))
                in_a_row = GIVE_UP_AFTER
            except Exception as error:  # noqa: BLE001 - becomes the operation's result
                committed.append(_Committed([self._failed(operation, error)]))
                in_a_row = in_a_row + 1 if failures.is_unavailable(error) else 0
        return committed

    def _transact(self, group: list[Operation]) -> _Committed:
        """Run operations in one transaction. Raises with nothing changed."""
        tx = self._begin()
        committing = False
        # Otherwise the tally is read anew, and has it.
        known = True
        seq = 0
        results: list[Any] = []
        try:
            self.steps.follow(tx)
            for verb, same in groupby(group, key=_verb_of):
                operations = list(same)
                args = [operation.arg for operation in operations]
                tx.actors = [operation.actor for operation in operations]
                answers = verb(tx, args)
                if len(answers) != len(args):
                    raise AssertionError(f"{verb.__name__} gave {len(answers)} results for {len(args)} operations")
                results += answers
            seq = tx.finish()
            committing = True
            self._cursor.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            if not (committing and seq and self._was_committed(seq, error)):
                raise
            known = False
        self._moved_us += self.steps.committed()
        self._succeeded()
        self._untidy_commits += 1
        self._untidy_rows += sum(operation.rows for operation in group)
        if known:
            self._tallied.append(tx.counts)
        counted = Counted(tx.counts, tx.fires) if tx.counts or tx.fires else None
        return _Committed(results, seq, tx.events, counted)

    def _begin(self) -> Tx:
        try:
            if self._conn is None:
                conn = self._backend.connect()
                try:
                    self._backend.reconnected(conn, self._epoch)
                    # What the last commit came to may not be known.
                    self._tallied.append(Tally.stored(conn))
                    self._cursor = conn.connection.cursor()
                except BaseException:
                    conn.close()
                    raise
                self._conn = conn
            self._cursor.execute(self._backend.begin)
        except Exception as error:
            self._roll_back()
            raise _CannotBegin from error
        return Tx(self._conn, self._cursor, self._clock.wall_us())

    def _roll_back(self) -> None:
        """Leave no transaction open. A connection on which that fails is dropped; the next begin makes a new one."""
        if self._conn is None:
            return
        try:
            # SQLite may have rolled back by itself (disk full); a second ROLLBACK would be an error.
            if self._backend.name != "sqlite" or self._conn.connection.in_transaction:
                self._cursor.execute("ROLLBACK")
        except Exception as error:  # noqa: BLE001 - whatever it was, the connection is given up
            log.warning("store_connection_dropped", error=str(failures.driver_error(error)))
            self._drop_connection()

    def _drop_connection(self) -> None:
        conn, self._conn, self._cursor = self._conn, None, None
        if conn is not None:
            try:
                conn.detach()
                conn.close()
            except Exception as error:  # noqa: BLE001 - it is broken already
                log.debug("store_connection_close_failed", error=str(error))

    def _was_committed(self, seq: int, error: BaseException) -> bool:
        """A connection lost during COMMIT leaves open what happened; the journal row tells. SQLite always knows."""
        if self._backend.name == "sqlite" or not failures.is_unavailable(error):
            return False
        try:
            tx = self._begin()
            tx.cursor.execute("SELECT count(*) FROM events WHERE seq = %s", (seq,))
            found = bool(tx.cursor.fetchone()[0])
            self._cursor.execute("COMMIT")
        except Exception as again:  # noqa: BLE001 - the answer stays "unavailable"
            log.warning("store_commit_outcome_unknown", seq=seq, error=str(again))
            return False
        return found

    def _probe(self) -> None:
        """A write of no meaning, to notice that the trouble is over."""
        try:
            tx = self._begin()
            migrations.put_meta(tx.conn, "probed_us", str(tx.now_us))
            self._cursor.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - any failure: still unhealthy
            self._roll_back()
            self._unavailable(error.__cause__ or error)
        else:
            self._succeeded()

    # --- health -------------------------------------------------------------------------------------

    def _succeeded(self) -> None:
        self.stats.commits += 1
        if not self.healthy:
            self.healthy = True
            self.last_error = None
            log.info("store_recovered")

    def _unavailable(self, error: BaseException) -> StoreUnavailable:
        self.last_error = str(failures.driver_error(error))
        if self.healthy:
            self.healthy = False
            log.error("store_unavailable", error=self.last_error, database=self._backend.where)
        return StoreUnavailable(f"the store is not available: {self.last_error}")

    def _failed(self, operation: Operation, error: Exception) -> Exception:
        """The result of an operation that raised."""
        if failures.is_unavailable(error):
            return self._unavailable(error)
        answer = failures.translate(error)
        if answer is error and not hasattr(error, "code"):
            # Not one of our own errors: a mistake in a verb or its argument.
            log.error("store_operation_failed", verb=operation.verb.__name__, error=repr(error), exc_info=error)
        return answer

    # --- back to the loop ---------------------------------------------------------------------------

    def _deliver(
        self, group: list[Operation], results: Sequence[Any], told: list[tuple[int, Event]], counted: list[Counted]
    ) -> None:
        """One call for the group. (Operations of a loop that is gone may share it with those of its successor.)"""
        newest = group[-1].loop
        tallied, self._tallied = self._tallied, []
        moved_us, self._moved_us = self._moved_us, 0
        for loop in dict.fromkeys(operation.loop for operation in group):
            mine = [
                (operation, result) for operation, result in zip(group, results, strict=True) if operation.loop is loop
            ]
            try:
                if loop is newest:
                    loop.call_soon_threadsafe(self._complete, mine, told, tallied, counted, moved_us)
                else:
                    loop.call_soon_threadsafe(self._complete, mine, [], [], [], 0)
            except RuntimeError:
                # The loop is closed: nobody is left to hear it. What was committed stays committed.
                log.debug("store_completions_dropped", operations=len(mine))

    def _complete(
        self,
        outcomes: list[tuple[Operation, Any]],
        told: list[tuple[int, Event]],
        tallied: list[Open | Counts],
        counted: list[Counted],
        moved_us: int,
    ) -> None:
        """On the loop: listeners first, so that who awaits a write finds its events told; then completions."""
        self.tally.follow(tallied)
        if counted:
            self._tell(self.count_listeners, counted)
        if moved_us:
            self._tell(self.clock_listeners, moved_us)
        if told:
            self._tell(self.listeners, told)
        for operation, result in outcomes:
            try:
                operation.done(result)
            except Exception:
                self.stats.listener_errors += 1
                log.exception("completion_failed", verb=operation.verb.__name__)

    def _tell(self, listeners: Sequence[Callable[[Any], None]], what: Any) -> None:
        for listener in listeners:
            try:
                listener(what)
            except Exception:
                # One listener's mistake must not keep the others, or the writers, from hearing of the commit.
                self.stats.listener_errors += 1
                log.exception("commit_listener_failed", listener=repr(listener))


def _verb_of(operation: Operation) -> Any:
    return operation.verb
