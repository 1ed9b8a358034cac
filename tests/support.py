"""What tests in several tiers share: waiting for a condition, a clock that only the test moves."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from schedule_zero.model import Fire, Schedule

T = TypeVar("T")


class ManualClock:
    """A clock that stands still until the test moves it. ``step_wall`` moves only the wall (NTP, an operator)."""

    def __init__(self, wall_us: int = 1_700_000_000_000_000, mono_s: float = 1000.0) -> None:
        self._wall_us = wall_us
        self._mono_s = mono_s

    def wall_us(self) -> int:
        return self._wall_us

    def mono_s(self) -> float:
        return self._mono_s

    def advance(self, seconds: float) -> None:
        self._wall_us += round(seconds * 1e6)
        self._mono_s += seconds

    def step_wall(self, seconds: float) -> None:
        self._wall_us += round(seconds * 1e6)


async def eventually(condition: Callable[[], T | Awaitable[T]], *, within_s: float = 10.0, every_s: float = 0.01) -> T:
    """Wait until ``condition`` returns something true and return that; fail with its last value after ``within_s``."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value  # type: ignore[return-value]
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s; the last value was {value!r}")
        await anyio.sleep(every_s)


def eventually_sync(condition: Callable[[], T], *, within_s: float = 10.0, every_s: float = 0.02) -> T:
    """``eventually`` for tests without a loop (real processes)."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s; the last value was {value!r}")
        time.sleep(every_s)


def nothing_owed(old: Schedule, new: Schedule | None, decided_us: int) -> list[Fire]:
    """The handover of a version that ends with all that was due decided."""
    return []
