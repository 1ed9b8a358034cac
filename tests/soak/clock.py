"""A wall clock that goes many times as fast, for real processes; their monotonic clocks are the machine's.

libfaketime can do so (``+0 x60``), but then it shortens each ``epoll_wait`` by the same factor, and a loop that wants
to sleep turns round sixty times; told only how far ahead the clock is, by a file, it reads that at each look of libuv
at the time, 3,000 times a second. So the processes are the real commands with one thing replaced (``site``): what
``SystemClock.wall_us`` says, and what APScheduler's loop takes for now. Fires, retries' delays, ages and expiries go by
the fast clock; leases, heartbeats, timeouts, periodic chores and sleeps by the machine's.

All evidence of a run is in the fast clock's time. What was measured by the monotonic one is multiplied: a second of
the machine is ``speedup`` seconds of the run, for a lease as for a fire, so that the checker can compare them.
"""

from __future__ import annotations

from pathlib import Path

from schedule_zero.clock import SystemClock

SITE = Path(__file__).parent / "site"


class FastClock:
    """The clock of the processes that have ``env``, and (``schedule_zero.clock.Clock``) of those who watch them."""

    def __init__(self, speedup: float) -> None:
        self.speedup = speedup
        self._machine = SystemClock()
        self._began_s = self._machine.mono_s()
        self._began_us = self._machine.wall_us()
        self.env = {"PYTHONPATH": str(SITE), "SOAK_CLOCK": f"{self._began_s!r} {self._began_us} {speedup!r}"}

    def wall_us(self) -> int:
        """What the processes see."""
        return self._began_us + round((self._machine.mono_s() - self._began_s) * self.speedup * 1e6)

    def mono_s(self) -> float:
        """The machine's monotonic clock, in the run's seconds."""
        return self._machine.mono_s() * self.speedup

    def hours(self) -> float:
        """How many the run has lasted."""
        return (self._machine.mono_s() - self._began_s) * self.speedup / 3600
