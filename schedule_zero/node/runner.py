"""Runs attempts: ``async`` methods as tasks on the loop, plain ones in worker threads, isolated ones in worker
processes, at most ``slots`` at once.

Attempts start in the order in which they came (the server sends them by priority); one that is heavier than the rest
of the slots waits for more of them to be free, and one heavier than all of them for all. A worker thread that
ends one takes the next plain one itself, without a turn of the loop, and hands the outcome straight to
``deliver``; the loop is woken only where an ``async`` one is next. So a batch of short jobs costs no
task, no future and no wake-up per job.

Each attempt gets exactly one outcome, whoever is first: the job itself, its timeout, its cancellation.
A plain method can't be stopped. At its timeout, or some time after a cancel that it took no notice of, it is reported
without it, and its slot stays taken until it returns: what it still does counts for nothing.
"""

from __future__ import annotations

import asyncio
import functools
import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import structlog

from schedule_zero.clock import Clock
from schedule_zero.node import outcome
from schedule_zero.node.attempt import LiveAttempt, Phase, empty_context, stopped
from schedule_zero.node.context import Book, JobContext, ReportProgress, StopReason
from schedule_zero.node.lease import Lease
from schedule_zero.node.outcome import Outcome

if TYPE_CHECKING:
    from schedule_zero.node.isolation import WorkerPool

log = structlog.get_logger(__name__)

# An ``async`` method that was cancelled may clean up for so long before it is reported without it.
ASYNC_GRACE_S = 5.0
# A plain method gets longer to look at ``ctx.cancelled``, or to come to its own end, which then counts: a cancel has to
# end (C21), but an end that is told while the work goes on is the worse one of two.
PLAIN_GRACE_S = 30.0
# A worker process is killed by its pool, much sooner than this: then only the kernel can be holding it.
PROCESS_GRACE_S = 30.0


class Runner:
    """``deliver`` gets each ended attempt once, in the thread it ended in. All else is for the loop's thread."""

    def __init__(
        self,
        *,
        slots: int,
        clock: Clock,
        lease: Lease,
        node_id: str,
        result_limit: int,
        deliver: Callable[[LiveAttempt], None],
        report: ReportProgress,
        too_late: Callable[[list[int]], None] | None = None,
        alive: Callable[[LiveAttempt], None] | None = None,
        book: Book | None = None,
        isolation: WorkerPool | None = None,
    ) -> None:
        self.slots = slots
        # From DISPATCH until the result is on disk (``release``).
        self.attempts: dict[int, LiveAttempt] = {}
        # Ended for the server, but still busy here: each holds a slot.
        self.overdue: set[LiveAttempt] = set()
        self._clock = clock
        self._lease = lease
        self._node_id = node_id
        self._result_limit = result_limit
        self._deliver = deliver
        self._report = report
        # Hears which were not started because it was too late for them.
        self._too_late = too_late
        # Hears, in the job's thread, of each sign that it goes on.
        self._on_alive = alive
        # Some that wait have a time to be started by.
        self._expiring = False
        self._book = book
        self._isolation = isolation
        if isolation is not None:
            say = None if book is None else book.say
            isolation.attach(
                enter=self._enter_isolated, ended=self._isolated_ended, report=report, heard=self._alive, say=say
            )
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._queue: deque[LiveAttempt] = deque()
        self._busy = 0
        self._inbox: queue.SimpleQueue[LiveAttempt | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle_threads = 0
        self._pump_due = False

    # --- for the node ------------------------------------------------------------------------------------

    @property
    def busy(self) -> int:
        """Slots taken."""
        return self._busy

    @property
    def queued(self) -> int:
        return len(self._queue)

    def allow_results(self, limit: int) -> None:
        """From now on a result may take so many bytes."""
        self._result_limit = limit
        if self._isolation is not None:
            self._isolation.allow_results(limit)

    def submit(self, attempts: Iterable[LiveAttempt]) -> None:
        """Take these on, in this order."""
        attempts = list(attempts)
        self.attempts.update((attempt.token, attempt) for attempt in attempts)
        if not self._expiring:
            self._expiring = any(attempt.start_by_s is not None for attempt in attempts)
        with self._lock:
            self._queue.extend(attempts)
        self._pump()

    def release(self, tokens: Iterable[int]) -> None:
        """Their results are on disk."""
        for token in tokens:
            self.attempts.pop(token, None)

    def cancel(self, token: int) -> bool:
        """End this attempt; False if it isn't held. One that waits ends at once, one that runs is asked to."""
        attempt = self.attempts.get(token)
        if attempt is None:
            return False
        with self._lock:
            waiting = attempt.phase is Phase.QUEUED
            if waiting:
                self._queue.remove(attempt)
                self._close(attempt, outcome.cancelled())
        if waiting:
            self._hand_over(attempt)
            # It may have been what the others were waiting behind.
            self._pump()
        else:
            self._ask(attempt, StopReason.CANCEL)
        return True

    def ask(self, attempt: LiveAttempt, reason: StopReason) -> None:
        """Ask one that runs to stop."""
        self._ask(attempt, reason)

    def stop_running(self, reason: StopReason) -> None:
        """Ask everything that runs to stop."""
        for attempt in self._running():
            self._ask(attempt, reason)

    def take_back(self, keep: int) -> list[int]:
        """Give up the newest attempts that have not started, so that ``keep`` are left in all; return their tokens."""
        with self._lock:
            room = max(0, keep - self._busy)
            queued = sum(attempt.weight for attempt in self._queue)
            given: list[LiveAttempt] = []
            while self._queue and queued > room:
                given.append(self._queue.pop())
                queued -= given[-1].weight
        return self._forget(given)

    def fence(self) -> int:
        """The lease is over: start nothing that waits, tell what runs. Returns how many are still running.

        What can be ended (isolated jobs) is ended: it is over before the server lets anybody else begin with it.
        """
        with self._lock:
            dropped = list(self._queue)
            self._queue.clear()
        self._forget(dropped)
        running = self._running()
        for attempt in running:
            if attempt.isolated:
                self._ask(attempt, StopReason.LEASE)
            else:
                attempt.stop.ask(StopReason.LEASE)
        return len(running)

    def oldest_wait_s(self, now_s: float) -> float:
        """How long the first in the queue has been waiting."""
        try:
            return now_s - self._queue[0].received_s
        except IndexError:
            return 0.0

    def check_deadlines(self, now_s: float) -> float | None:
        """End what took too long; return when to look again, if anything has a deadline."""
        next_s = self._drop_expired(now_s) if self._expiring else None
        for attempt in self._running():
            reason = attempt.stop.reason
            asked = reason not in (None, StopReason.LEASE)
            due_s, why = _deadline(attempt)
            if attempt.isolated and reason is not None:
                asked, due_s = True, attempt.stop_since_s + PROCESS_GRACE_S
            elif asked and attempt.task is not None:
                due_s = attempt.stop_since_s + ASYNC_GRACE_S
            elif reason is StopReason.CANCEL:
                due_s = min(attempt.stop_since_s + PLAIN_GRACE_S, due_s or math.inf)
            if due_s is None:
                continue
            if now_s >= due_s:
                if not asked:
                    self._ask(attempt, why)
                    if attempt.isolated:
                        continue
                if asked or attempt.task is None:
                    self._give_up_on(attempt)
                    continue
                due_s = now_s + ASYNC_GRACE_S
            next_s = due_s if next_s is None else min(next_s, due_s)
        return next_s

    def _drop_expired(self, now_s: float) -> float | None:
        """Start nothing that should have been started by now; the next moment of that kind."""
        with self._lock:
            late = [attempt for attempt in self._queue if _expired(attempt, now_s)]
            for attempt in late:
                self._queue.remove(attempt)
            waiting = [attempt.start_by_s for attempt in self._queue if attempt.start_by_s is not None]
        self._forget(late)
        self._expiring = bool(waiting)
        return min(waiting, default=None)

    def give_up_running(self, *, process_ends: bool) -> int:
        """Report everything that still runs as what it was asked to be, without waiting for it; how many there were.

        A process is killed, and reported when it is dead. ``process_ends``: this one, and with it what does not stop.
        """
        running = self._running()
        for attempt in running:
            if attempt.isolated and self._isolation is not None:
                self._isolation.kill(attempt)
            else:
                self._give_up_on(attempt, process_ends=process_ends)
        return len(running)

    def close(self) -> None:
        """End the idle worker threads. Busy ones are daemons: they end with the process."""
        for _ in self._threads:
            self._inbox.put(None)

    # --- starting ------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Start what is next while there is a free slot."""
        self._pump_due = False
        while True:
            with self._lock:
                if not self._queue or not self._has_room(self._queue[0]):
                    return
                attempt = self._queue.popleft()
                attempt.phase = Phase.RUNNING
                self._busy += attempt.weight
                plain = attempt.in_thread
                spawn = plain and self._idle_threads == 0
                if plain and not spawn:
                    self._idle_threads -= 1
            if spawn:
                self._spawn()
            if plain:
                self._inbox.put(attempt)
            elif attempt.isolated:
                self._start_isolated(attempt)
            elif (context := self._enter(attempt)) is not None:
                self._start_task(attempt, context)
            else:
                with self._lock:
                    self._busy -= attempt.weight
                self._forget([attempt])

    def _has_room(self, attempt: LiveAttempt) -> bool:
        """Whether it may start now. Under the lock."""
        return self._busy + attempt.weight <= self.slots or not self._busy

    def _enter(self, attempt: LiveAttempt) -> JobContext | None:
        """Stamp the start, in the thread that runs it. None: the lease ended while it waited, it must not start."""
        now_s = self._clock.mono_s()
        if attempt.stop.reason is StopReason.LEASE or not self._lease.held(now_s) or _expired(attempt, now_s):
            return None
        attempt.started_s = attempt.heard_s = now_s
        timeout_s = attempt.item.timeout_s
        deadline_us = None
        if timeout_s is not None:
            attempt.deadline_s = now_s + timeout_s
            deadline_us = self._clock.wall_us() + round(timeout_s * 1e6)
        alive = None if attempt.item.heartbeat_timeout_s is None else functools.partial(self._alive, attempt)
        return JobContext(attempt.item, self._node_id, deadline_us, attempt.stop, self._report, self._book, alive)

    def _alive(self, attempt: LiveAttempt) -> None:
        """From the job's thread."""
        attempt.heard_s = self._clock.mono_s()
        if self._on_alive is not None:
            self._on_alive(attempt)

    def _start_task(self, attempt: LiveAttempt, context: JobContext) -> None:
        task = self._loop.create_task(
            attempt.call_async(context, self._result_limit), name=f"job {attempt.item.id}", context=empty_context()
        )
        attempt.task = task
        task.add_done_callback(functools.partial(self._task_done, attempt))

    def _task_done(self, attempt: LiveAttempt, task: asyncio.Task[Outcome]) -> None:
        # Cancelled before its first step, or by somebody else while the loop shuts down.
        early = task.cancelled()
        ended = stopped(attempt.stop.reason or StopReason.DRAIN, attempt.item) if early else task.result()
        with self._lock:
            self._busy -= attempt.weight
            late = not self._close(attempt, ended)
        attempt.task = None
        if late:
            self._returned_late(attempt)
        else:
            self._hand_over(attempt)
        self._pump()

    # --- worker processes ----------------------------------------------------------------------------------

    def _start_isolated(self, attempt: LiveAttempt) -> None:
        if self._isolation is None:
            why = "this node has no worker processes: it was given its handlers as objects, not as targets to load"
            self._isolated_ended(attempt, outcome.not_isolated(why))
        else:
            self._isolation.start(attempt)

    def _enter_isolated(self, attempt: LiveAttempt) -> bool:
        """A process has it. False: the lease ended while it waited for one, it must not start."""
        if self._enter(attempt) is not None:
            return True
        with self._lock:
            self._busy -= attempt.weight
        self._forget([attempt])
        self._pump_soon()
        return False

    def _isolated_ended(self, attempt: LiveAttempt, ended: Outcome) -> None:
        with self._lock:
            self._busy -= attempt.weight
            late = not self._close(attempt, ended)
        if late:
            self._returned_late(attempt)
        else:
            self._hand_over(attempt)
        self._pump_soon()

    def _pump_soon(self) -> None:
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    # --- worker threads ----------------------------------------------------------------------------------

    def _spawn(self) -> None:
        thread = threading.Thread(target=self._work, name=f"worker-{len(self._threads) + 1}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        attempt: LiveAttempt | None = None
        while True:
            if attempt is None:
                attempt = self._inbox.get()
                if attempt is None:
                    return
            attempt = self._leave(attempt, self._run_plain(attempt))

    def _run_plain(self, attempt: LiveAttempt) -> Outcome | None:
        """One attempt from its start to its outcome, in this worker thread. None: it must not start."""
        early = attempt.stop.reason
        if early is not None and early is not StopReason.LEASE:
            return stopped(early, attempt.item)
        context = self._enter(attempt)
        return None if context is None else attempt.call(context, self._result_limit)

    def _leave(self, attempt: LiveAttempt, ended: Outcome | None) -> LiveAttempt | None:
        """Close the books on one attempt and take the next plain one, in one step. ``ended`` None: it never started."""
        following: LiveAttempt | None = None
        with self._lock:
            late = ended is not None and not self._close(attempt, ended)
            self._busy -= attempt.weight
            if self._queue and self._queue[0].in_thread and self._has_room(self._queue[0]):
                following = self._queue.popleft()
                following.phase = Phase.RUNNING
                self._busy += following.weight
                # What it leaves of the slots is for others.
                wake = bool(self._queue) and following.weight < attempt.weight
            else:
                self._idle_threads += 1
                wake = bool(self._queue)
        if ended is None:
            self._on_loop(self._forget, [attempt])
        elif late:
            self._on_loop(self._returned_late, attempt)
        else:
            self._hand_over(attempt)
        if wake and not self._pump_due:
            self._pump_due = True
            self._on_loop(self._pump)
        return following

    def _on_loop(self, function: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            # The loop is closed: the process is ending, and this daemon thread with it.
            return

    # --- ending ------------------------------------------------------------------------------------------

    def _close(self, attempt: LiveAttempt, ended: Outcome) -> bool:
        """Give it its outcome, unless it has one. Under the lock."""
        if attempt.phase is Phase.ENDED:
            return False
        attempt.phase = Phase.ENDED
        attempt.outcome = ended
        attempt.finished_s = self._clock.mono_s()
        return True

    def _hand_over(self, attempt: LiveAttempt) -> None:
        """It has its outcome: its log ends, and it is delivered."""
        book = self._book
        if book is not None and book.logs:
            attempt.log_lines = book.end(attempt.token)
        self._deliver(attempt)

    def _running(self) -> list[LiveAttempt]:
        return [attempt for attempt in self.attempts.values() if attempt.phase is Phase.RUNNING]

    def _ask(self, attempt: LiveAttempt, reason: StopReason) -> None:
        first = attempt.stop.reason in (None, StopReason.LEASE)
        attempt.stop.ask(reason)
        if first:
            attempt.stop_since_s = self._clock.mono_s()
            # Only once: a second CancelledError would interrupt the job's own cleaning up.
            if attempt.task is not None:
                attempt.interrupted = True
                attempt.task.cancel()
            elif attempt.isolated and self._isolation is not None:
                self._isolation.stop(attempt, reason)

    def _give_up_on(self, attempt: LiveAttempt, *, process_ends: bool = False) -> None:
        """Report an attempt that does not end by itself. It keeps its slot for as long as it really runs."""
        reason = attempt.stop.reason or StopReason.DRAIN
        ended = stopped(reason, attempt.item)
        if not process_ends:
            ended = outcome.still_busy(ended, self._node_id)
        with self._lock:
            ours = self._close(attempt, ended)
            if ours:
                self.overdue.add(attempt)
        if ours:
            log.warning(
                "job_does_not_stop",
                execution_id=attempt.item.id,
                handler_id=attempt.item.handler_id,
                job_method=attempt.item.job_method,
                reason=reason,
                slots_held=len(self.overdue),
            )
            self._hand_over(attempt)

    def _returned_late(self, attempt: LiveAttempt) -> None:
        with self._lock:
            self.overdue.discard(attempt)
        log.warning(
            "job_returned_late",
            execution_id=attempt.item.id,
            handler_id=attempt.item.handler_id,
            job_method=attempt.item.job_method,
            after_s=round(self._clock.mono_s() - (attempt.started_s or 0.0), 3),
        )

    def _forget(self, attempts: list[LiveAttempt]) -> list[int]:
        """Let go of attempts that never started and never will."""
        tokens = [attempt.token for attempt in attempts]
        self.release(tokens)
        if self._too_late is not None:
            now_s = self._clock.mono_s()
            late = [attempt.token for attempt in attempts if _expired(attempt, now_s)]
            if late:
                self._too_late(late)
        return tokens


def _deadline(attempt: LiveAttempt) -> tuple[float | None, StopReason]:
    """When a running attempt is to be ended, and why: it takes too long, or it is silent for too long."""
    silence_s, over_s = attempt.item.heartbeat_timeout_s, attempt.deadline_s
    if silence_s is not None and attempt.started_s is not None:
        silent_s = attempt.heard_s + silence_s
        if over_s is None or silent_s < over_s:
            return silent_s, StopReason.SILENCE
    return over_s, StopReason.TIMEOUT


def _expired(attempt: LiveAttempt, now_s: float) -> bool:
    """Whether it was to be started before now."""
    return attempt.start_by_s is not None and now_s >= attempt.start_by_s
