"""Does something to executions whose moment has come: wakes those that wait for it (``not_before``, a retry's delay),
ends those that were to be started by then (``start_by``).

One timer for the earliest known moment. It never sleeps long, so that a step of the wall clock is noticed; a
step that brought a full batch is followed by the next at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import structlog

from schedule_zero.clock import Clock
from schedule_zero.errors import StoreUnavailable
from schedule_zero.model import Execution
from schedule_zero.store import Store, executions
from schedule_zero.store.execution_expiry import Expire, misfire_expired, next_expiry_us
from schedule_zero.store.tx import Verb

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

log = structlog.get_logger(__name__)

BATCH = 1_000
MAX_SLEEP_S = 2.0
# After a failure of the store.
PAUSE_S = 1.0


def wakes(
    store: Store, clock: Clock, on_released: Callable[[list[Execution]], None], *, batch: int = BATCH
) -> MomentTimer[Execution]:
    """Makes pending what is due, and hands it on."""
    return MomentTimer(
        store, clock, executions.release_due, executions.ReleaseDue, executions.next_due_us, on_released, batch=batch
    )


def ends_expired(store: Store, clock: Clock, on_expired: Callable[[list[str]], None]) -> MomentTimer[str]:
    """Ends what was not started in time, and tells whom."""
    return MomentTimer(store, clock, misfire_expired, Expire, next_expiry_us, on_expired)


class MomentTimer(Generic[T]):
    """Runs ``verb`` on what is due (``step`` makes its argument of now and a limit) and hands on what it answers."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        verb: Verb[Any, list[T]],
        step: Callable[[int, int], object],
        next_us: Callable[[Connection], int | None],
        on_done: Callable[[list[T]], None],
        *,
        batch: int = BATCH,
    ) -> None:
        self._verb = verb
        self._step = step
        self._next_us = next_us
        self._store = store
        self._batch = min(batch, BATCH)
        self._clock = clock
        self._on_done = on_done
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_us: int | None = None
        self._busy = False
        # The moments have been moved since the verb was submitted.
        self._moved = False
        self._task: asyncio.Task[int | None] | None = None

    def start(self) -> None:
        """Do what came due while nobody looked, and go on from there."""
        self._loop = asyncio.get_running_loop()
        self._release()

    def stop(self) -> None:
        self._loop = None
        for handle in (self._timer, self._task):
            if handle is not None:
                handle.cancel()

    def at(self, wall_us: int) -> None:
        """Something waits for this moment."""
        if self._due_us is None or wall_us < self._due_us:
            self._due_us = wall_us
            self._arm()

    def look(self) -> None:
        """The clock may have been moved."""
        if self._due_us is not None and not self._busy and self._due_us <= self._clock.wall_us():
            self._release()

    def moved(self) -> None:
        """The moments in the store are not what they were."""
        self._moved = True
        if not self._busy:
            self._release()

    def _arm(self) -> None:
        if self._loop is None or self._busy or self._due_us is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        delay_s = (self._due_us - self._clock.wall_us()) / 1e6
        self._timer = self._loop.call_later(min(max(delay_s, 0.0), MAX_SLEEP_S), self._woken)

    def _woken(self) -> None:
        self._timer = None
        if self._due_us is not None and self._due_us <= self._clock.wall_us():
            self._release()
        else:
            self._arm()

    def _release(self) -> None:
        if self._busy or self._loop is None:
            return
        self._busy = True
        self._moved = False
        self._due_us = None
        try:
            self._store.submit(self._verb, self._step(self._clock.wall_us(), self._batch), self._released)
        except StoreUnavailable as error:
            self._released(error)

    def _released(self, rows: list[T] | Exception) -> None:
        self._busy = False
        if self._loop is None:
            return
        if isinstance(rows, Exception):
            self._again(rows)
            return
        if rows:
            self._on_done(rows)
        if len(rows) >= self._batch or self._moved:
            self._release()
        else:
            self._task = self._loop.create_task(self._store.read(self._next_us), name="dispatch.next_moment")
            self._task.add_done_callback(self._found)

    def _found(self, task: asyncio.Task[int | None]) -> None:
        if task.cancelled() or self._loop is None:
            return
        error = task.exception()
        if error is not None:
            self._again(error)
            return
        next_us = task.result()
        if next_us is not None:
            self.at(next_us)
        self._arm()

    def _again(self, error: BaseException) -> None:
        """Look again in a while; until then nothing is known of what is due."""
        log.warning("release_postponed", verb=self._verb.__name__, reason=str(error)[:200])
        if self._loop is not None:
            self.at(self._clock.wall_us() + round(PAUSE_S * 1e6))
