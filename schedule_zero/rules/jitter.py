"""Jitter: how long after its nominal time an execution starts, and what else is drawn by lot. Pure.

Not from a random source: what is decided again after a crash comes out the same.
"""

from __future__ import annotations

from hashlib import blake2b

from schedule_zero.model import Spread


def jitter_us(spread: Spread, most_s: float, schedule_id: str, nominal_us: int) -> int:
    """Microseconds in ``[0, most_s]``, drawn from the schedule's id, with ``uniform`` from the nominal time as well."""
    return round(drawn(schedule_id if spread is Spread.HASH else f"{schedule_id}@{nominal_us}") * most_s * 1e6)


def drawn(seed: str) -> float:
    """A number from 0 to 1, evenly spread over all seeds."""
    return int.from_bytes(blake2b(seed.encode(), digest_size=8).digest(), "big") / 2**64
