"""What a job may know and say while it runs: ``current_job()``, and the exceptions ``Retry`` and ``GiveUp``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from schedule_zero.clock import from_us

if TYPE_CHECKING:
    from pathlib import Path

    from schedule_zero.client import Client
    from schedule_zero.wire.messages import DispatchItem

MAX_PROGRESS_TEXT = 500
MAX_RETRY_AFTER_S = 86_400 * 365

ReportProgress = Callable[[int, float, str], None]


class Retry(Exception):
    """Raised by a job: this attempt failed; try again, not before ``after_s`` seconds (if attempts are left)."""

    def __init__(self, after_s: float, message: str = "") -> None:
        self.after_s = float(after_s)
        if not 0 <= self.after_s <= MAX_RETRY_AFTER_S:
            raise ValueError(f"Retry(after_s) must be between 0 and {MAX_RETRY_AFTER_S} seconds, not {after_s!r}")
        super().__init__(message or f"the job asked to be tried again after {after_s:g} s")


class GiveUp(Exception):
    """Raised by a job: it failed, and no further attempt would help."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``index``, counted from 0, of ``count``."""

    index: int
    count: int


class StopReason(StrEnum):
    """Why a job was asked to stop."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    # It gave no sign of going on for longer than its ``heartbeat_timeout_s``.
    SILENCE = "silence"
    DRAIN = "drain"
    LEASE = "lease"


_event_lock = threading.Lock()


class StopSignal:
    """Whether an attempt was asked to stop, and whether its job has seen that. The runner writes, the job reads."""

    __slots__ = ("_event", "noticed", "reason")

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self.noticed = False
        # Made only when somebody waits on it: most jobs never do, and an Event costs more than a no-op job.
        self._event: threading.Event | None = None

    def ask(self, reason: StopReason) -> None:
        """The first reason stays, but a lost lease is overruled by anything that follows."""
        if self.reason is None or self.reason is StopReason.LEASE:
            self.reason = reason
        with _event_lock:
            if self._event is not None:
                self._event.set()

    def look(self) -> bool:
        if self.reason is None:
            return False
        self.noticed = True
        return True

    def wait(self, timeout_s: float) -> bool:
        with _event_lock:
            if self._event is None:
                self._event = threading.Event()
            if self.reason is not None:
                self._event.set()
        self._event.wait(timeout_s)
        return self.look()


class Lines(Protocol):
    """The log of one attempt."""

    def write(self, code: str, text: str) -> bool: ...

    def flush(self) -> None: ...


class Book(Protocol):
    """Where the logs of attempts are: in a node ``log_book``, in a worker process what sends them to its node."""

    # Of the attempts that have said something.
    logs: dict[int, Any]

    def open(self, execution_id: str, token: int) -> Lines | None: ...

    def say(self, token: int, code: str, text: str) -> bool: ...

    def end(self, token: int) -> int: ...


class JobContext:
    """One attempt, seen from inside the job. Get it with ``current_job()``."""

    __slots__ = ("_alive", "_book", "_deadline_us", "_item", "_log", "_report", "_stop", "lines", "node_id")

    def __init__(
        self,
        item: DispatchItem,
        node_id: str,
        deadline_us: int | None,
        stop: StopSignal,
        report: ReportProgress,
        book: Book | None = None,
        alive: Callable[[], None] | None = None,
    ) -> None:
        # Where the job has promised to give signs of going on.
        self._alive = alive
        self._item = item
        self._deadline_us = deadline_us
        self._stop = stop
        self._report = report
        self._log: Any = None
        self._book = book
        # Its log, once it has said something.
        self.lines: Lines | None = None
        self.node_id = node_id

    @property
    def execution_id(self) -> str:
        return self._item.id

    @property
    def handler_id(self) -> str:
        return self._item.handler_id

    @property
    def job_method(self) -> str:
        return self._item.job_method

    @property
    def attempt(self) -> int:
        """Counts from 1."""
        return self._item.attempt

    @property
    def fence_token(self) -> int:
        """Grows with every attempt in the whole system: let the resource that you write to refuse smaller ones."""
        return self._item.token

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts of one execution (by default its id): for services that take such a key."""
        return self._item.idempotency_key or self._item.id

    @property
    def shard(self) -> Shard | None:
        """Which part of how many this is, if the job is done in parts: ``Shard(index=0, count=8)`` is the first."""
        return None if self._item.shard is None else Shard(*map(int, self._item.shard.split("/")))

    @property
    def schedule_id(self) -> str | None:
        return self._item.schedule_id

    @property
    def nominal_time(self) -> datetime | None:
        """The due time that this execution stands for, if it comes from a schedule (aware, UTC)."""
        return None if self._item.nominal_us is None else from_us(self._item.nominal_us)

    @property
    def deadline(self) -> datetime | None:
        """When this attempt times out, by this machine's clock (aware, UTC); None if it may take for ever."""
        return None if self._deadline_us is None else from_us(self._deadline_us)

    @property
    def cancelled(self) -> bool:
        """Whether to stop: the attempt was cancelled, timed out, lost its lease, or the node is going down.

        A plain method can't be interrupted: it has to look here (an ``async`` one is cancelled as well, unless
        only the lease is over). Having seen True here and then ended, a job counts as having reacted: it is
        reported as ``cancelled`` (or handed back), whatever it returned. One that never looks and completes is
        reported as ``completed``: the work was done. One that is still busy 30 s after a cancel is reported as
        ``cancelled`` without waiting for it. An isolated job is killed instead, 5 s after a cancel.
        """
        return self._stop.look()

    @property
    def stop_reason(self) -> str | None:
        """``cancel``, ``timeout``, ``silence``, ``drain`` or ``lease``; None while all is well."""
        return self._stop.reason

    def wait_cancelled(self, timeout_s: float) -> bool:
        """Sleep up to ``timeout_s`` seconds; return True, and at once, if the job should stop. For plain methods."""
        return self._stop.wait(timeout_s)

    def progress(self, percent: float, text: str = "") -> None:
        """Tell how far the job is (0 … 100). Cheap: only the newest is sent, a few times a second.

        The last one is kept with the attempt, however that ends. Of ``text`` 500 characters are kept. Raises TypeError
        for a percentage that is no number, ValueError for one that is out of range (or not a number: NaN).
        """
        if not hasattr(percent, "__float__"):
            raise TypeError(f"progress must be a number from 0 to 100, not {percent!r}")
        if not 0 <= percent <= 100:
            raise ValueError(f"progress must be between 0 and 100, not {percent!r}")
        self.heartbeat()
        said = str(text)
        if not said.isascii():
            # A lone surrogate has no place in a message.
            said = said[:MAX_PROGRESS_TEXT].encode("utf-8", "backslashreplace").decode()
        self._report(self._item.token, float(percent), said[:MAX_PROGRESS_TEXT])

    def heartbeat(self) -> None:
        """Say that the job goes on, where ``heartbeat_timeout_s`` wants to hear that (else it does nothing).

        ``progress`` says it too. From any thread, as often as you like: nothing is sent.
        """
        if self._alive is not None:
            self._alive()

    @property
    def log(self) -> Any:
        """A structlog logger. Its lines go to the log of this attempt, and with its ids to the log of the node."""
        if self._log is None:
            from schedule_zero.node.job_logger import make

            self._log = make(self)
        return self._log

    def say(self, code: str, text: str) -> bool:
        """For ``print`` and loggers, see ``capture``: add to this attempt's log. False: no log takes it."""
        lines = self.lines
        if lines is None and self._book is not None:
            lines = self.lines = self._book.open(self._item.id, self._item.token)
        return lines is not None and lines.write(code, text)

    @property
    def client(self) -> Client:
        """A client of the server, for plain methods; one for the whole process, made when first asked for.

        Address and token come from ``SCHEDULE_ZERO_URL`` and ``SCHEDULE_ZERO_TOKEN``, else from what a server left
        in this node's state directory.
        """
        return CLIENT.get()


class SharedClient:
    """One client per process, made at first use: it brings an HTTP stack that most nodes never need."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: Client | None = None
        # Where the node keeps its things; beside a server, its address and token are found there.
        self.state_dir: Path | None = None

    def get(self) -> Client:
        with self._lock:
            if self._client is None:
                from schedule_zero.client import Client

                self._client = Client(state_dir=self.state_dir)
            return self._client


CLIENT = SharedClient()


CURRENT: ContextVar[JobContext] = ContextVar("schedule_zero_current_job")


def current_job() -> JobContext:
    """The attempt that this code runs for, in a job method and in the tasks and ``to_thread`` calls it makes.

    Raises RuntimeError anywhere else.
    """
    try:
        return CURRENT.get()
    except LookupError:
        raise RuntimeError(
            "current_job() was called outside a job; it works inside a job method that a node runs, "
            "and in the asyncio tasks and asyncio.to_thread() calls which that method makes"
        ) from None
