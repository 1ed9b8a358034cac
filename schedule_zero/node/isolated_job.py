"""One isolated attempt in its worker: what it has used, whether it is within its limits, and what its end comes to.

It looks at the worker and signals it; when to look, and what becomes of the worker afterwards, is the pool's business.
"""

from __future__ import annotations

import asyncio
import signal

from schedule_zero.model import AttemptOutcome
from schedule_zero.node import outcome, processes
from schedule_zero.node.attempt import LiveAttempt, stopped
from schedule_zero.node.context import StopReason
from schedule_zero.node.outcome import Outcome
from schedule_zero.node.worker_frames import Done
from schedule_zero.node.worker_process import Death, WorkerProcess

# How often a job with limits is looked at, one that is throttled, and any other.
LOOK_S, LOOK_THROTTLED_S, LOOK_UNLIMITED_S = 0.05, 0.02, 1.0
# CPU time that a throttled job may save up.
BURST_S = 0.1


class IsolatedJob:
    """``look`` now and then; at the end one of ``ended_itself`` and ``ended_with_its_worker``."""

    __slots__ = (
        "_base_cpu_us", "_credit_us", "_paused", "attempt", "breach", "cpu_us", "hit", "kill_timer", "look_s",
        "looked_s", "peak_rss_bytes", "stopping", "worker",
    )  # fmt: skip

    def __init__(self, attempt: LiveAttempt, worker: WorkerProcess, now_s: float) -> None:
        item = attempt.item
        self.attempt = attempt
        self.worker = worker
        self.cpu_us = 0
        self.peak_rss_bytes = worker.rss_bytes
        # What the tree had used before; known where it is needed.
        self._base_cpu_us: int | None = None
        if item.cpu_s is not None or item.cpu_percent is not None:
            self._base_cpu_us = processes.usage(processes.tree(worker.pid)).cpu_us
        self.look_s = LOOK_UNLIMITED_S
        if item.cpu_percent is not None:
            self.look_s = LOOK_THROTTLED_S
        elif item.cpu_s is not None or item.memory_mb is not None:
            self.look_s = LOOK_S
        self.looked_s = now_s
        self._credit_us = 0.0
        self._paused = False
        # It was asked to stop; and with it processes that it has started.
        self.stopping = False
        self.hit = False
        # The limit that it is being killed for.
        self.breach = ""
        self.kill_timer: asyncio.TimerHandle | None = None

    @property
    def paused(self) -> bool:
        """It stands still for having used too much CPU time."""
        return self._paused

    def used(self) -> str:
        peak, cpu = self.peak_rss_bytes / (1 << 20), self.cpu_us / 1e6
        return f"it used up to {peak:.1f} MiB of memory, and {cpu:.2f} s of CPU time"

    # --- while it runs -----------------------------------------------------------------------------------

    def look(self, now_s: float) -> None:
        """Take note of what it uses; kill it if that is too much, let it stand still or go on."""
        passed_s, self.looked_s = now_s - self.looked_s, now_s
        now = processes.usage(processes.tree(self.worker.pid))
        self.peak_rss_bytes = max(self.peak_rss_bytes, now.rss_bytes)
        before_us = self.cpu_us
        if self._base_cpu_us is not None:
            self.cpu_us = max(self.cpu_us, now.cpu_us - self._base_cpu_us)
        if self.breach or self.stopping:
            return
        item = self.attempt.item
        if item.memory_mb is not None and now.rss_bytes > item.memory_mb << 20:
            self.breach = "memory"
        elif item.cpu_s is not None and self.cpu_us > item.cpu_s * 1e6:
            self.breach = "cpu"
        if self.breach:
            self.worker.kill()
        elif item.cpu_percent is not None:
            self._throttle(item.cpu_percent, passed_s, self.cpu_us - before_us)

    def _throttle(self, percent: int, passed_s: float, used_us: int) -> None:
        """Let it run while it has credit, which it gets for the time that passes, and pays for its CPU time with."""
        rate = percent / 100
        self._credit_us = min(self._credit_us + rate * passed_s * 1e6, rate * BURST_S * 1e6) - used_us
        if self._credit_us < 0 and not self._paused:
            self._paused = True
            self.worker.signal(signal.SIGSTOP)
        elif self._credit_us >= 0:
            self.go_on()

    def go_on(self) -> None:
        if self._paused:
            self._paused = False
            self.worker.signal(signal.SIGCONT)

    # --- its end -----------------------------------------------------------------------------------------

    def ended_itself(self, done: Done) -> Outcome:
        """Its worker lives, and says so."""
        self.cpu_us = max(self.cpu_us, done.cpu_us)
        self.peak_rss_bytes = max(self.peak_rss_bytes, done.peak_rss_bytes)
        reason, item = self.attempt.stop.reason, self.attempt.item
        too_long = reason is StopReason.TIMEOUT or reason is StopReason.SILENCE
        if reason is not None and (too_long or self.hit or done.kind is AttemptOutcome.FAILED):
            # What worked for it was told to end, so that what it makes of that is no result.
            return stopped(reason, item)
        if item.memory_mb is not None and done.error is not None and done.error.type == "MemoryError":
            return outcome.over_memory(item.memory_mb, self.used(), refused=True)
        return Outcome(done.kind, done.result, done.error, done.retry_after_s, done.give_up)

    def ended_with_its_worker(self, how: str, death: Death) -> Outcome:
        self.cpu_us = max(self.cpu_us, death.cpu_us - self.worker.total_cpu_us)
        # The kernel's figure is of its whole life, and from before that: it says something only where it has grown.
        if death.most_rss_bytes > self.worker.most_rss_bytes:
            self.peak_rss_bytes = max(self.peak_rss_bytes, death.most_rss_bytes)
        reason, item = self.attempt.stop.reason, self.attempt.item
        if item.memory_mb is not None and self.breach == "memory":
            return outcome.over_memory(item.memory_mb, self.used())
        if item.cpu_s is not None and (self.breach == "cpu" or (reason is None and "SIGXCPU" in how)):
            return outcome.over_cpu(item.cpu_s, self.used())
        if reason is not None:
            return stopped(reason, item)
        return outcome.worker_died(how, self.used())
