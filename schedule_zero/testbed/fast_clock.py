"""A wall clock that goes many times as fast, for real processes; their monotonic clocks are the machine's.

libfaketime can do so (``+0 x60``), but then it shortens each ``epoll_wait`` by the same factor, and a loop that wants
to sleep turns round sixty times; told only how far ahead the clock is, by a file, it reads that at each look of libuv
at the time, 3,000 times a second. So the processes are the real commands with one thing replaced (``site``): what
``SystemClock.wall_us`` says, and what APScheduler's loop takes for now. Fires, retries' delays, ages and expiries go by
the fast clock; leases, heartbeats, timeouts, periodic chores and sleeps by the machine's.

All evidence of a run is in the fast clock's time. What was measured by the monotonic one is multiplied: a second of
the machine is ``speedup`` seconds of the run, for a lease as for a fire, so that the checker can compare them
(``for_checker``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import structs

from schedule_zero.clock import SystemClock
from schedule_zero.testbed.history import Evidence, JobLine

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


# What the checker has to be told in the run's time.
_MEASURED = ("heartbeat_s", "lost_s", "lease_s", "lease_margin_s", "late_s", "margin_s")


def for_checker(evidence: Evidence, speedup: float) -> None:
    """Put terms and ledger, as they were measured by the machine's monotonic clock, into the run's time."""
    terms = evidence.terms
    evidence.terms = structs.replace(terms, **{name: getattr(terms, name) * speedup for name in _MEASURED})
    evidence.ledger = _faster(evidence.ledger, speedup)


def _faster(lines: Iterable[JobLine], speedup: float) -> Iterator[JobLine]:
    """The monotonic clock of the jobs in the run's time (``FastClock.mono_s``)."""
    return (structs.replace(line, mono_ns=round(line.mono_ns * speedup)) for line in lines)
