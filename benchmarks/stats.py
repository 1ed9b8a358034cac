"""The arithmetic of a benchmark: percentiles, medians, spread. Pure, so that it is tested like any other rule."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from msgspec import Struct


class Summary(Struct, frozen=True, kw_only=True):
    """One figure over its rounds. ``spread`` is (max - min) / median: 0.1 reads "±5 % or so"."""

    median: float
    low: float
    high: float
    spread: float
    rounds: int


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: always a value that was measured, never one in between.

    ``percent`` is in (0, 100]; ``values`` need not be sorted and must not be empty.
    """
    if not values:
        raise ValueError("a percentile needs at least one value")
    if not 0 < percent <= 100:
        raise ValueError(f"a percentile lies in (0, 100], not {percent}")
    ordered = sorted(values)
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def summarise(values: Sequence[float]) -> Summary:
    """Median, extremes and spread of one figure's rounds."""
    if not values:
        raise ValueError("a summary needs at least one round")
    median = statistics.median(values)
    low, high = min(values), max(values)
    spread = (high - low) / abs(median) if median else 0.0
    return Summary(median=median, low=low, high=high, spread=spread, rounds=len(values))


def ratio(figure: float, floor: float) -> float:
    """``figure / floor``; a floor of nothing is an error, not infinity."""
    if floor <= 0:
        raise ValueError(f"a floor is a positive figure, not {floor}")
    return figure / floor


def paired_ratios(figures: Sequence[float], floors: Sequence[float]) -> list[float]:
    """Each round's figure over the floor *of the same round*, so that the machine's drift cancels out."""
    if len(figures) != len(floors):
        raise ValueError(f"{len(figures)} rounds of the figure and {len(floors)} of the floor do not pair up")
    return [ratio(figure, floor) for figure, floor in zip(figures, floors, strict=True)]
