"""When which process is ended, and how: from the seed alone."""

from __future__ import annotations

import random
import signal

from msgspec import Struct

from schedule_zero.testbed.history import SERVER

NODES = ("n1", "n2", "n3")
FIRST, SECOND, THIRD = TARGETS = tuple(f"node:{node_id}" for node_id in NODES)
# In hours of the run. A life of the server is long enough to be judged, and the last one is the longest.
SERVER_LIFE = (2.5, 4.5)
SERVER_LAST = 4.0
# The first node is killed once, early; the second lives long enough to be judged; the third never does.
FIRST_BEFORE = 0.3
SECOND_LIFE = (2.0, 4.0)
THIRD_LIFE = (0.3, 0.8)
# How long it is away, in seconds of the machine.
AWAY_S = (0.2, 3.0)


class End(Struct, frozen=True, order=True):
    """One process, ended at that hour by that signal, replaced so many seconds later."""

    at_h: float
    target: str
    signal: int
    away_s: float


def plan(hours: float, seed: int) -> list[End]:
    """All ends of a run of so many hours, in order."""
    rng = random.Random(seed)
    ends: list[End] = []

    def end(at_h: float, target: str, number: int = signal.SIGKILL) -> None:
        ends.append(End(at_h, target, number, rng.uniform(*AWAY_S)))

    at_h = rng.uniform(*SERVER_LIFE)
    at_h = min(at_h, max(SERVER_LIFE[0], hours - SERVER_LAST))
    while at_h <= hours - SERVER_LAST:
        end(at_h, SERVER)
        at_h += rng.uniform(*SERVER_LIFE)
    end(rng.uniform(0.1, FIRST_BEFORE) * hours, FIRST)
    at_h = rng.uniform(*SECOND_LIFE)
    while at_h < hours:
        end(at_h, SECOND)
        at_h += rng.uniform(*SECOND_LIFE)
    at_h = rng.uniform(*THIRD_LIFE)
    while at_h < hours:
        end(at_h, THIRD, rng.choice([signal.SIGKILL, signal.SIGTERM]))
        at_h += rng.uniform(*THIRD_LIFE)
    return sorted(ends)
