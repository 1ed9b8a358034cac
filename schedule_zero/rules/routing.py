"""Which of the nodes that serve a job method may run an execution, and which of those should. Pure.

What a node is like are its *facts* (``os``, ``python``, ``cores`` …, gathered by itself) and its *labels* (said by who
started it); conditions (``conditions``) don't tell one from the other. The choice among nodes with room is a key
by which they are ordered, the smallest first; ``dispatch.choice`` counts what the strategies have to remember.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct

from schedule_zero.conditions import Condition, ConditionError, parse
from schedule_zero.rules.birth import LaneSpec

# The label that the strategy ``weighted`` goes by; without it, the slots.
WEIGHT = "weight"
_MASK = (1 << 64) - 1


class Match(Struct, frozen=True):
    """How well a node that may run a lane's executions suits it."""

    # How many of the preferred conditions it does not meet.
    unmet: int
    # For the strategy ``weighted``: its share.
    share: float


class _Compiled(Struct, frozen=True):
    """The conditions of a lane. None: one of them can't be understood (by this release): no node meets it."""

    require: tuple[Condition | None, ...]
    prefer: tuple[Condition | None, ...]


@lru_cache(maxsize=4096)
def _compiled(spec: LaneSpec) -> _Compiled:
    return _Compiled(tuple(map(_lenient, spec.require)), tuple(map(_lenient, spec.prefer)))


def _lenient(text: str) -> Condition | None:
    try:
        return parse(text)
    except ConditionError:
        return None


def match(spec: LaneSpec, facts: Mapping[str, str], slots: int) -> Match | None:
    """How well a node suits; None: it may not run this."""
    if spec.node is not None and facts.get("node") != spec.node:
        return None
    conditions = _compiled(spec)
    if not all(condition is not None and condition.holds(facts) for condition in conditions.require):
        return None
    met = sum(condition is not None and condition.holds(facts) for condition in conditions.prefer)
    return Match(len(conditions.prefer) - met, share_of(facts, slots))


def share_of(facts: Mapping[str, str], slots: int) -> float:
    """A node's share of the work in the strategy ``weighted``: its label ``weight``, else its slots."""
    try:
        share = float(facts.get(WEIGHT, slots))
    except ValueError:
        share = float(slots)
    return share if math.isfinite(share) and share > 0 else 1.0


def lacks(spec: LaneSpec, facts: Mapping[str, str]) -> list[str]:
    """What keeps a node from running this: the conditions that it doesn't meet, as they were written."""
    missing = [] if spec.node in (None, facts.get("node")) else [f"node == {spec.node}"]
    found = zip(spec.require, _compiled(spec).require, strict=True)
    return missing + [text for text, condition in found if condition is None or not condition.holds(facts)]


def affinity(key: int, node: int) -> int:
    """Rendezvous hashing of two digests: of several nodes the one with the greatest value has the key.

    A node that goes or comes moves its own keys only (Thaler and Ravishankar, 1998). The mix is that of SplitMix64.
    """
    mixed = ((key ^ node) * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)


def digest(text: str) -> int:
    """64 bits of it, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def draw(execution_id: str, among: int) -> int:
    """A number below ``among`` that is as good as any other, and the same for the same execution."""
    return digest(execution_id) % among
