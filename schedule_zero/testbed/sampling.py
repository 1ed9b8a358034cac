"""Memory and CPU time of processes while a scenario runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from statistics import median

import psutil

from schedule_zero.reports.record import ProcessFigures

EVERY_S = 0.25
# In less time nothing can be said of growth per hour.
LEAST_S = 60.0
MOST_POINTS = 200


class TooLarge(Exception):
    """The processes together use more memory than was allowed."""


class Sampler:
    """``watch`` until it is cancelled; a process that has a successor goes on under its target's name."""

    def __init__(self, pids: Callable[[], Mapping[str, int]], *, limit_mib: float | None = None) -> None:
        self._pids = pids
        self._limit_mib = limit_mib
        self._readings: dict[str, list[tuple[float, float]]] = {}
        # Of each process (a target may have several, one after the other): the CPU time first and last seen.
        self._cpu: dict[tuple[str, int], tuple[float, float]] = {}
        # (Seconds, MiB of all.)
        self.total: list[tuple[float, float]] = []
        self._began_s = time.monotonic()

    async def watch(self) -> None:
        """TooLarge, once they are."""
        while True:
            self.look()
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        at_s = time.monotonic() - self._began_s
        total = 0.0
        for target, pid in self._pids().items():
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                with process.oneshot():
                    mib = process.memory_info().rss / 2**20
                    times = process.cpu_times()
                used = times.user + times.system
                first, _ = self._cpu.get((target, pid), (used, used))
                self._cpu[target, pid] = first, used
                self._readings.setdefault(target, []).append((at_s, mib))
                total += mib
        self.total.append((at_s, total))
        if self._limit_mib is not None and total > self._limit_mib:
            raise TooLarge(f"its processes use {total:.0f} MiB; limits.memory_limit_mb is {self._limit_mib:g}")

    def figures(self) -> list[ProcessFigures]:
        return [
            ProcessFigures(
                target=target,
                memory_peak_mib=round(max(mib for _, mib in readings), 2),
                memory_delta_mib=round(readings[-1][1] - readings[0][1], 2),
                memory_mib_per_hour=_growth(readings),
                cpu_s=round(sum(last - first for (mine, _), (first, last) in self._cpu.items() if mine == target), 3),
            )
            for target, readings in sorted(self._readings.items())
        ]


def _growth(points: list[tuple[float, float]]) -> float | None:
    """MiB per hour: the median of the slopes from the first third to the last, so that a peak does not move it."""
    if points[-1][0] - points[0][0] < LEAST_S:
        return None
    points = points[:: -(-len(points) // MOST_POINTS)]
    third = len(points) // 3
    slopes = [(y2 - y1) / (x2 - x1) for x1, y1 in points[:third] for x2, y2 in points[-third:]]
    return round(median(slopes) * 3600, 2)
