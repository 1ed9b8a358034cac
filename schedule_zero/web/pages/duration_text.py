"""Durations as people type them (``90``, ``10s``, ``1h30m``), exact in both directions. Pure."""

from __future__ import annotations

import re
from decimal import Decimal

# By what is typed; from large to small.
UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_PART = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*(ms|[wdhms])\s*")
_PLAIN = re.compile(r"[0-9]{1,18}(\.[0-9]{1,20})?(e-[0-9]{1,3})?")


def parts_of(text: str) -> dict[str, str]:
    """``1h30m`` → ``{"h": "1", "m": "30"}``, and ``90`` → ``{"s": "90"}``. ValueError."""
    said = text.strip().lower()
    if _PLAIN.fullmatch(said):
        return {"s": said}
    found = _PART.findall(said)
    units = [unit for _, unit in found]
    if not found or _PART.sub("", said) or len(set(units)) != len(units):
        raise ValueError(f"expected a duration such as 10s, 250ms or 1h30m, got {text.strip()[:80]!r}")
    return {unit: amount for amount, unit in found}


def seconds_of(text: str) -> float:
    """``1h30m`` → 5400.0. ValueError."""
    return float(sum(Decimal(amount) * UNITS[unit] for unit, amount in parts_of(text).items()) / 1000)


def duration_text(seconds: float) -> str:
    """``5400`` → ``1h30m``: what ``seconds_of`` reads as the same number."""
    ms = Decimal(repr(seconds)) * 1000
    if not 0 < ms < 10**15 or ms != int(ms):
        return f"{seconds!r}s" if _PART.fullmatch(f"{seconds!r}s") else repr(seconds)
    left, text = int(ms), ""
    for unit, size in UNITS.items():
        # Weeks are for those who type them: 10d is plainer than 1w3d.
        if unit != "w" and left >= size:
            text += f"{left // size}{unit}"
            left %= size
    return text
