"""One attempt on this node: what was asked, how far it is, how its method is called. Knows no queue and no socket."""

from __future__ import annotations

from contextvars import Context
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from schedule_zero.job_options import Isolation
from schedule_zero.node import outcome
from schedule_zero.node.context import CURRENT, JobContext, StopReason, StopSignal
from schedule_zero.node.outcome import Outcome

if TYPE_CHECKING:
    import asyncio

    from schedule_zero.node.methods import BoundMethod
    from schedule_zero.wire.messages import DispatchItem

# Jobs start from an empty context each, so that what one leaves in a context variable is not seen by the next.
_EMPTY = Context()


class Phase(IntEnum):
    """Only ever grows."""

    QUEUED = 0
    RUNNING = 1
    # Has its one outcome. (A plain method may still be busy: see Runner.overdue.)
    ENDED = 2


class LiveAttempt:
    """An attempt from its DISPATCH until its result is on disk. The runner's lock guards ``phase`` and ``outcome``."""

    __slots__ = (
        "accepted",
        "deadline_s",
        "finished_s",
        "heard_s",
        "in_thread",
        "interrupted",
        "isolated",
        "item",
        "log_lines",
        "method",
        "outcome",
        "phase",
        "progress",
        "received_s",
        "start_by_s",
        "start_told",
        "started_s",
        "stop",
        "stop_since_s",
        "task",
        "weight",
    )

    def __init__(
        self, item: DispatchItem, method: BoundMethod, received_s: float, start_by_s: float | None = None
    ) -> None:
        self.item = item
        # How many slots it takes.
        self.weight = item.weight
        self.method = method
        self.received_s = received_s
        self.isolated = item.isolation is Isolation.PROCESS
        # Or else in a worker process, or as a task on the loop.
        self.in_thread = not (self.isolated or method.is_async)
        self.phase = Phase.QUEUED
        self.outcome: Outcome | None = None
        self.started_s: float | None = None
        self.finished_s: float | None = None
        # Monotonic, like all of these: not to be started after it.
        self.start_by_s = start_by_s
        # When its job last showed that it goes on; the start counts.
        self.heard_s = received_s
        # What its job said last of how far it is, and when: (percent, text, monotonic seconds).
        self.progress: tuple[float, str, float] | None = None
        # How many lines its log has, once it is over.
        self.log_lines = 0
        # Monotonic; from the timeout, counted from the start.
        self.deadline_s: float | None = None
        self.task: asyncio.Task[Outcome] | None = None
        # Its task was cancelled.
        self.interrupted = False
        self.stop = StopSignal()
        self.stop_since_s = 0.0
        # What the server was told by ACCEPT.
        self.accepted = False
        self.start_told = False

    @property
    def token(self) -> int:
        return self.item.token

    def call(self, context: JobContext, result_limit: int) -> Outcome:
        """Run a plain method in this thread to its outcome. Nothing that it or its result raises gets out."""
        try:
            ended = outcome.completed(_EMPTY.copy().run(self._call, context), result_limit)
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt end the job, not the node
            ended = outcome.failed(error)
        return self._as_asked(ended)

    async def call_async(self, context: JobContext, result_limit: int) -> Outcome:
        """Run an ``async`` method to its outcome. Nothing that it raises gets out, not even its cancellation."""
        try:
            ended = outcome.completed(await self._call(context), result_limit)
        except BaseException as error:  # noqa: BLE001 - as above; asyncio would end the loop for SystemExit
            ended = outcome.failed(error)
        return self._as_asked(ended)

    def _call(self, context: JobContext) -> Any:
        CURRENT.set(context)
        args, kwargs = self.method.bind(self.item.params)
        return self.method.function(*args, **kwargs)

    def _as_asked(self, ended: Outcome) -> Outcome:
        """If the job was asked to stop, and reacted, then that is its outcome.

        An ``async`` method always reacts (it was interrupted), except to a lost lease, of which it is only told
        (but in a worker process, which ends with the lease).
        A plain one reacted if it looked. What ends without having noticed is reported as it ended.
        """
        reason = self.stop.reason
        if reason is None:
            return ended
        interrupted = self.interrupted or (self.method.is_async and reason is not StopReason.LEASE)
        if not (interrupted or self.stop.noticed):
            return ended
        return stopped(reason, self.item)


def stopped(reason: StopReason, item: DispatchItem) -> Outcome:
    """The outcome of an attempt that ended because it was asked to."""
    if reason is StopReason.CANCEL:
        return outcome.cancelled()
    if reason is StopReason.TIMEOUT:
        return outcome.timed_out(item.timeout_s)
    if reason is StopReason.SILENCE:
        return outcome.fell_silent(item.heartbeat_timeout_s)
    if reason is StopReason.DRAIN:
        return outcome.handed_back("the node was drained before the job was done")
    return outcome.handed_back("the job stopped because the node's lease was over")


def empty_context() -> Context:
    return _EMPTY.copy()
