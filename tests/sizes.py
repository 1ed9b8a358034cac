"""How much of what can be repeated at will is done: a sample in ``make test``, ``make faults``, a night.

``FAULTS=sample|full|nightly`` chooses; ``make faults`` sets ``full`` where nothing is chosen.
"""

from __future__ import annotations

import os

from msgspec import Struct


class Size(Struct, frozen=True):
    """How often each kind of thing is tried. None: all there are."""

    # Processes killed, and stopped, at random moments.
    kills: int
    stops: int
    # Of each sweep over system calls: so many points.
    sweep: int | None
    # Of the writes of a first start, a few hundred with a start for each: every so many.
    stride: int
    # Times that a link is cut, in each way in which one can be.
    cuts: int
    # Steps of a wall clock.
    steps: int
    # Of a file: so many bytes cut off or flipped, so many pages.
    bytes: int | None
    # Messages of each type, requests to each route, files of each kind.
    messages: int
    requests: int
    files: int
    # Hostile connections at a time.
    peers: int
    # Simulated worlds.
    seeds: int

    def first_start_step(self, call: str) -> int:
        """From one point of a sweep over a first start to the next."""
        return self.stride if call == "pwrite64" else 1


SIZES = {
    "sample": Size(
        kills=3, stops=1, sweep=2, stride=1, cuts=1, steps=0, bytes=40, messages=200, requests=3, files=100, peers=2,
        seeds=200,
    ),
    "full": Size(
        kills=30, stops=5, sweep=None, stride=4, cuts=3, steps=10, bytes=None, messages=50_000, requests=50,
        files=5_000, peers=300, seeds=1_000,
    ),
    "nightly": Size(
        kills=1_000, stops=50, sweep=None, stride=1, cuts=30, steps=100, bytes=None, messages=500_000, requests=500,
        files=50_000, peers=900, seeds=10_000,
    ),
}  # fmt: skip


def chosen() -> Size:
    """What the environment asks for. ValueError: there is no such size."""
    name = os.environ.get("FAULTS", "sample")
    if name not in SIZES:
        raise ValueError(f"FAULTS: expected one of {', '.join(SIZES)}, not {name!r}")
    return SIZES[name]


SIZE = chosen()
