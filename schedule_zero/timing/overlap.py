"""Where two sets of nominal times agree, without looking at each of them: the arithmetic below ``combined``.

Two intervals meet in an interval (or never). And where one trigger fires at every point of a grid for a while, all
times of another one on that grid are among its own, however many they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, lcm

from schedule_zero.timing.instants import IntervalTrigger
from schedule_zero.timing.trigger import DAY_US, Span, Trigger

# How far to look for agreement at once, longest first. No longer than a day: within one, a zone changes once at most.
_LENGTHS_US = (DAY_US, 3_600_000_000, 60_000_000)
# Fewer steps than this are taken one by one.
_FEW = 4


def common_interval(intervals: Sequence[IntervalTrigger]) -> IntervalTrigger | None:
    """What all of them have in common; ``None``: they never meet (Chinese remainder theorem)."""
    anchor, period = intervals[0].anchor_us, intervals[0].period_us
    for interval in intervals[1:]:
        step, distance = gcd(period, interval.period_us), interval.anchor_us - anchor
        if distance % step:
            return None
        rest = interval.period_us // step
        anchor += period * (distance // step * pow(period // step, -1, rest) % rest)
        period = lcm(period, interval.period_us)
    start_us = max(interval.anchor_us for interval in intervals)
    ends = [interval.span.end_us for interval in intervals if interval.span.end_us is not None]
    return IntervalTrigger(period, Span(start_us + (anchor - start_us) % period, min(ends, default=None)))


def agree_until(base: Trigger, other: Trigger, us: int) -> int:
    """A moment up to which all times of ``base`` after ``us`` are times of ``other``; ``us`` if nothing is known.

    ``us`` is a time of both.
    """
    for length_us in _LENGTHS_US:
        steps, grid_us = _steps(base, other, us, us + length_us, length_us)
        if steps >= _FEW and other.count(us, us + steps * grid_us) == steps:
            return us + steps * grid_us
    return us


def agree_since(base: Trigger, other: Trigger, us: int) -> int:
    """The same backwards: a moment from which on all times of ``base`` before ``us`` are times of ``other``."""
    for length_us in _LENGTHS_US:
        steps, grid_us = _steps(base, other, us - length_us, us, length_us)
        if steps >= _FEW and other.count(us - steps * grid_us - 1, us - 1) == steps:
            return us - steps * grid_us
    return us


def _steps(base: Trigger, other: Trigger, low_us: int, high_us: int, length_us: int) -> tuple[int, int]:
    """How many points of the grid of ``other`` lie in a range, if that of ``base`` is part of it; and the grid."""
    grid_us, base_us = other.grid_us(low_us, high_us), base.grid_us(low_us, high_us)
    if grid_us is None or base_us is None or base_us % grid_us:
        return 0, 0
    return length_us // grid_us, grid_us
