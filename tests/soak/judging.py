"""What the measurements of a run say: does memory grow, are descriptors lost, is the log bounded? Pure functions.

A process is judged life by life, since a kill begins everything anew, and each life from an hour after its start: until
then caches fill. Growth is the median of the slopes between all pairs of samples (Theil and Sen): a peak, however
high, does not move it. A descriptor that is open for a moment is no leak; of each tenth of a life the lowest reading
counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import median

from msgspec import Struct

WARM_UP_H = 1.0
# A shorter time than this after the warm-up says nothing.
LEAST_H = 0.8
LEAST_SAMPLES = 20
PARTS = 10
# More points than this are made fewer, by medians: their pairs are counted by the square.
MOST_POINTS = 400

GROWTH_MIB_H = 1.0
# Between the lowest readings of two tenths: connections of nodes that are away just then, of clients that come again.
DESCRIPTORS = 6
THREADS = 4


class Sample(Struct, frozen=True):
    """One process at one moment; hours of the run since its start."""

    age_h: float
    uss_mib: float
    rss_mib: float
    fds: int
    threads: int


class Life(Struct):
    """A process from its start to its end."""

    target: str
    number: int
    samples: list[Sample] = []

    @property
    def name(self) -> str:
        return f"{self.target}, life {self.number}"

    @property
    def warm(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.age_h >= WARM_UP_H]

    @property
    def judged(self) -> bool:
        warm = self.warm
        return len(warm) >= LEAST_SAMPLES and warm[-1].age_h - warm[0].age_h >= LEAST_H


class Finding(Struct, frozen=True):
    """One figure and its bound. ``hours``: what it was taken from."""

    what: str
    subject: str
    value: float
    bound: float
    unit: str
    hours: float = 0.0

    @property
    def ok(self) -> bool:
        return self.value <= self.bound


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs. ValueError: there are no two of different x."""
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(_fewer(points), 2) if x2 != x1]
    if not slopes:
        raise ValueError(f"expected two points at least, got {len(points)}")
    return median(slopes)


def _fewer(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    size = -(-len(points) // MOST_POINTS)
    if size <= 1:
        return points
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    return [(median(x for x, _ in group), median(y for _, y in group)) for group in groups]


def lows(readings: Sequence[float]) -> list[float]:
    """The lowest of each tenth, in order."""
    size = max(1, len(readings) // PARTS)
    return [min(readings[at : at + size]) for at in range(0, len(readings), size)]


def spread(readings: Sequence[float]) -> float:
    """How far apart the lowest readings of the tenths are."""
    found = lows(readings)
    return max(found) - min(found)


def judge_life(life: Life) -> list[Finding]:
    """Growth, descriptors, threads. Empty: it was too short."""
    if not life.judged:
        return []
    warm = life.warm
    hours = warm[-1].age_h - warm[0].age_h
    growth = slope([(sample.age_h, sample.uss_mib) for sample in warm])
    fds = spread([sample.fds for sample in warm])
    threads = spread([sample.threads for sample in warm])
    return [
        Finding("memory growth", life.name, growth, GROWTH_MIB_H, "MiB/h", hours),
        Finding("descriptors, spread", life.name, fds, DESCRIPTORS, "", hours),
        Finding("threads, spread", life.name, threads, THREADS, "", hours),
    ]


def judge_lives(lives: Sequence[Life], targets: Sequence[str]) -> list[Finding]:
    """All of them; of each of the targets one life at least has to be long enough."""
    found = [finding for life in lives for finding in judge_life(life)]
    judged = {life.target for life in lives if life.judged}
    return found + [
        Finding("lives too short to be judged", target, 1, 0, "") for target in targets if target not in judged
    ]


def judge_wal(sizes_mib: Sequence[float], bound_mib: float, hours: float) -> Finding:
    """The write-ahead log at its largest."""
    return Finding("write-ahead log, largest", "the store", max(sizes_mib), bound_mib, "MiB", hours)


def judge_open(counts: Sequence[float], bound: float, hours: float) -> Finding:
    """Executions that are not over: a backlog that grows says that the run asks for more than can be done."""
    return Finding("open executions, median", "the store", median(counts), bound, "", hours)
