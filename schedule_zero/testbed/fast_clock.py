"""A wall clock that goes many times as fast, for real processes; their monotonic clocks are the machine's.

libfaketime can do so (``+0 x60``), but then it shortens each ``epoll_wait`` by the same factor, and a loop that wants
to sleep turns round sixty times; told only how far ahead the clock is, by a file, it reads that at each look of libuv
at the time, 3,000 times a second. So the processes are the real commands with one thing replaced (``site``): what
``SystemClock.wall_us`` says, and what APScheduler's loop takes for now. Fires, retries' delays, ages and expiries go by
the fast clock; leases, heartbeats, timeouts, periodic chores and sleeps by the machine's.

It may begin at another moment than the machine's, and go as fast as the machine's until everybody is there (``held``,
``go``): a start takes seconds, which are hours here.

All evidence of a run is in the fast clock's time. What was measured by the monotonic one is multiplied: a second of
the machine is ``speedup`` seconds of the run, for a lease as for a fire, so that the checker can compare them
(``for_checker``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec import structs

from schedule_zero.clock import SystemClock, from_us, to_us
from schedule_zero.testbed.history import Evidence, JobLine

SITE = Path(__file__).parent / "site"
HOURS_OF_A_YEAR = 366 * 24


class FastClock:
    """The clock of the processes that have ``env``, and (``schedule_zero.clock.Clock``) of those who watch them."""

    def __init__(self, speedup: float, *, began_us: int | None = None, held: Path | None = None) -> None:
        """``began_us``: what it shows now. ``held``: a file to be; until ``go`` makes it, a second is a second."""
        self.speedup = speedup
        self._machine = SystemClock()
        self._began_s = self._machine.mono_s()
        self._began_us = self._machine.wall_us() if began_us is None else began_us
        self._held = held
        # From which second of the machine's on it goes fast; None: it does not yet.
        self._fast_from_s = self._began_s if held is None else None
        words = [repr(self._began_s), str(self._began_us), repr(speedup), *([] if held is None else [str(held)])]
        self.env = {"PYTHONPATH": str(SITE), "TESTBED_CLOCK": " ".join(words)}

    def go(self) -> None:
        """From now on it is fast, for everybody who has it. (Once: again does nothing.)"""
        if self._held is None or self._fast_from_s is not None:
            return
        from_s = self._machine.mono_s()
        # Whole or not at all.
        new = self._held.with_suffix(".new")
        new.write_text(repr(from_s))
        new.replace(self._held)
        self._fast_from_s = from_s

    def wall_us(self) -> int:
        """What the processes see."""
        now_s = self._machine.mono_s()
        fast_s = 0.0 if self._fast_from_s is None else now_s - self._fast_from_s
        return self._began_us + round((now_s - self._began_s + fast_s * (self.speedup - 1)) * 1e6)

    def mono_s(self) -> float:
        """The machine's monotonic clock, in the run's seconds."""
        return self._machine.mono_s() * self.speedup

    def hours(self) -> float:
        """How many the run has lasted."""
        return (self.wall_us() - self._began_us) / 3.6e9


def change_after(us: int, zone: str) -> int:
    """When the clocks of a zone are changed next, which is at a full hour."""
    local = ZoneInfo(zone)
    hour = from_us(us - us % 3_600_000_000)
    for _ in range(HOURS_OF_A_YEAR):
        after = hour + timedelta(hours=1)
        if hour.astimezone(local).utcoffset() != after.astimezone(local).utcoffset():
            return to_us(after)
        hour = after
    raise ValueError(f"the clocks of {zone} are not changed any more")


def changed_hour(us: int, zone: str) -> int:
    """Of a change at that moment the local hour that it leaves out or repeats."""
    local = ZoneInfo(zone)
    return min(from_us(us - 3_600_000_000).astimezone(local).replace(tzinfo=None) + timedelta(hours=1),
               from_us(us).astimezone(local).replace(tzinfo=None)).hour  # fmt: skip


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
