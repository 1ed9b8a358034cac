"""Moments that people type: on the wall of the zone in which they are shown, with an offset, or a time from now."""

from __future__ import annotations

import re
from datetime import datetime, tzinfo

from schedule_zero.clock import to_us
from schedule_zero.errors import InvalidField

_FROM_NOW = re.compile(r"\+\s*(\d{1,6})\s*(min|m|h|d)")
UNIT_US = {"m": 60_000_000, "min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


def typed_us(text: str, zone: tzinfo, now_us: int, *, pointer: str) -> int:
    """``2026-12-24T18:00`` in ``zone``, the same with an offset, or ``+2h``. InvalidField."""
    text = text.strip()
    ahead = _FROM_NOW.fullmatch(text)
    if ahead is not None:
        return now_us + int(ahead[1]) * UNIT_US[ahead[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidField(
            f"expected a date and time such as 2026-12-24T18:00, or a time from now such as +2h, got {text[:50]!r}",
            pointer=pointer,
        ) from None
    try:
        return to_us(moment if moment.tzinfo is not None else moment.replace(tzinfo=zone))
    except (OverflowError, ValueError):
        raise InvalidField(f"expected a moment that can be reckoned with, got {text[:50]!r}", pointer=pointer) from None
