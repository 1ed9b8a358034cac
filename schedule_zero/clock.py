"""The only reader of wall and monotonic time, so that tests and the simulation can own both.

Facts are stored as whole microseconds since the Unix epoch, UTC (``…_us``). Durations, leases and
heartbeats use the monotonic clock, in seconds (``…_s``). Rules never read a clock: they take ``now``.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Wall and monotonic time of one process."""

    def wall_us(self) -> int:
        """Microseconds since the Unix epoch; may step when somebody sets the clock."""
        ...

    def mono_s(self) -> float:
        """Seconds on a clock that never steps; only differences have a meaning."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def mono_s(self) -> float:
        # Not time.monotonic(): that stands still while a machine is suspended, and a node that was carried away
        # in a lid would go on believing in a lease that the server gave away hours ago.
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def to_us(moment: datetime) -> int:
    """Whole microseconds since the epoch of an aware datetime (exact, no float in between)."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_us(us: int) -> datetime:
    """The aware UTC datetime of ``us`` microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=us)


def rfc3339(us: int | None) -> str | None:
    """``2026-11-20T13:24:51.123456Z``, the one form in which the API shows a moment."""
    if us is None:
        return None
    return from_us(us).isoformat(timespec="microseconds").replace("+00:00", "Z")
