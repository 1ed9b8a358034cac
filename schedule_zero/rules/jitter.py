"""How long after its nominal time an execution starts, where its schedule wants jitter. Pure."""

from __future__ import annotations

from hashlib import blake2b

from schedule_zero.model import Spread


def jitter_us(spread: Spread, most_s: float, schedule_id: str, nominal_us: int) -> int:
    """Microseconds in ``[0, most_s]``, drawn from the schedule's id, with ``uniform`` from the nominal time as well.

    Not from a random source: a fire that is decided again after a crash gets the same delay.
    """
    seed = schedule_id if spread is Spread.HASH else f"{schedule_id}@{nominal_us}"
    drawn = int.from_bytes(blake2b(seed.encode(), digest_size=8).digest(), "big")
    return round(drawn / 2**64 * most_s * 1e6)
