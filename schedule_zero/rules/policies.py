"""The policies of a schedule between what is stored and what decides."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import msgspec

from schedule_zero.model import NO_POLICIES, Overlap, Policies

_decode = msgspec.json.Decoder(Policies).decode
_decode_skips = msgspec.json.Decoder(list[int]).decode


@lru_cache(maxsize=4096)
def policies_of(stored: bytes | None) -> Policies:
    """The policies as ``Schedule.policies`` keeps them. Equal documents share one object."""
    return NO_POLICIES if stored is None else _decode(stored)


def stored_policies(policies: Policies) -> bytes | None:
    """What ``Schedule.policies`` keeps of them."""
    return None if policies == NO_POLICIES else msgspec.json.encode(policies)


def skips_of(stored: bytes | None) -> list[int]:
    """The nominal times that an operator asked to skip, in order (``Schedule.skips``)."""
    return [] if stored is None else _decode_skips(stored)


def stored_skips(skips: Iterable[int]) -> bytes | None:
    """What ``Schedule.skips`` keeps of them."""
    ordered = sorted(skips)
    return msgspec.json.encode(ordered) if ordered else None


def is_tracked(policies: Policies) -> bool:
    """Whether the fires depend on what became of earlier executions."""
    return policies.overlap is not Overlap.ALLOW or policies.max_failures is not None
