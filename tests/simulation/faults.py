"""What is done to a world, planned from its seed: each fault has a time, a target, and an end."""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec import Struct

from schedule_zero.testbed.history import Fault, FaultKind


class Planned(Struct, frozen=True):
    """One fault of a plan. ``kind`` is a name of ``KINDS``."""

    at_s: float
    kind: str
    node: str
    length_s: float
    amount: float

    def __str__(self) -> str:
        target = "server" if self.kind in SERVER_KINDS else self.node
        return f"at {self.at_s:6.2f} s  {self.kind:<16} {target:<7} for {self.length_s:5.2f} s  ({self.amount:.3f})"


# Name → longest time in seconds.
KINDS: dict[str, float] = {
    "server_kill": 6.0,
    "server_kill_at_commit": 4.0,
    "server_stop": 12.0,
    "server_term": 3.0,
    "server_clock": 20.0,
    "disk_begin": 8.0,
    "disk_commit": 8.0,
    "disk_any": 8.0,
    "disk_slow": 10.0,
    "node_kill": 20.0,
    "node_stop": 25.0,
    "node_slow": 10.0,
    "node_term": 5.0,
    "node_clock": 20.0,
    "twin": 8.0,
    "cut": 25.0,
    "cut_up": 20.0,
    "cut_down": 20.0,
    "half_open": 1.0,
    "reset": 1.0,
    "lossy": 12.0,
    "repeating": 12.0,
    "astray": 12.0,
    "delay": 12.0,
    "drain": 12.0,
    "cordon": 12.0,
}
SERVER_KINDS = frozenset(kind for kind in KINDS if kind.startswith(("server_", "disk_")))
# With these, much can't be judged: only some worlds have them.
CLOCKS = frozenset({"server_clock", "node_clock"})


def plan(
    rng: random.Random, *, nodes: list[str], from_s: float, to_s: float, count: int, scale: float
) -> list[Planned]:
    """``count`` faults, of some kinds: which, is different from seed to seed."""
    kinds = [kind for kind in KINDS if kind not in CLOCKS]
    rng.shuffle(kinds)
    kinds = kinds[: rng.randint(3, 12)]
    if rng.random() < 0.2:
        kinds += sorted(CLOCKS)
    found = []
    for _ in range(count):
        kind = rng.choice(kinds)
        at_s = rng.uniform(from_s, to_s)
        length_s = min(rng.uniform(0.05, 1.0) ** 2 * KINDS[kind] * scale + 0.2, to_s + 1.0 - at_s)
        found.append(Planned(round(at_s, 3), kind, rng.choice(nodes), round(length_s, 3), round(rng.random(), 3)))
    return sorted(found, key=lambda one: one.at_s)


class FaultLog:
    """What was done, for the checker."""

    def __init__(self, wall_us: Callable[[], int]) -> None:
        self.faults: list[Fault] = []
        self._wall_us = wall_us

    def add(self, kind: FaultKind, target: str, length_s: float | None, detail: str = "") -> int:
        """Its number, for ``over``. ``length_s`` None: until it is over."""
        now_us = self._wall_us()
        end_us = None if length_s is None else now_us + round(length_s * 1e6)
        self.faults.append(Fault(fault=kind, target=target, begin_us=now_us, end_us=end_us, detail=detail))
        return len(self.faults) - 1

    def over(self, number: int, after_s: float = 0.0) -> None:
        old = self.faults[number]
        self.faults[number] = Fault(
            fault=old.fault,
            target=old.target,
            begin_us=old.begin_us,
            end_us=self._wall_us() + round(after_s * 1e6),
            detail=old.detail,
        )
