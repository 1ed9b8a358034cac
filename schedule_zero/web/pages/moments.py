"""Moments as people type them into a form. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo

from schedule_zero.clock import from_us, to_us
from schedule_zero.errors import InvalidField
from schedule_zero.timing.trigger import LATEST_US

EXPECTED = "expected a moment such as +2h, 18:00, tomorrow 09:00 or 2030-01-31 09:00"

_UNIT_S = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(sec|s|min|m|h|d|w)\s*")
_CLOCK = re.compile(r"(?:(today|tomorrow|yesterday)(?:\s+at)?\s*)?(?:(\d{1,2}):(\d{2})(?::(\d{2}))?)?")
_DAYS = {"today": 0, "tomorrow": 1, "yesterday": -1}


def moment_us(text: str, now_us: int, zone: tzinfo, *, field: str) -> int:
    """Microseconds since the epoch. What names no offset is meant on the wall of ``zone``.

    ``+2h``, ``-1d 6h``, ``18:00`` (the next time that it is), ``tomorrow 09:00``, ISO 8601. InvalidField.
    """
    said = " ".join(text.strip().lower().split())
    us = None
    if said:
        try:
            us = _length(said, now_us) if said[0] in "+-" else _clock(said, now_us, zone) or _iso(text.strip(), zone)
        except (ValueError, OverflowError):
            us = None
    if us is None or not 0 <= us <= LATEST_US:
        raise InvalidField(f"{EXPECTED}, got {text[:100]!r}", parameter=field)
    return us


def _length(said: str, now_us: int) -> int | None:
    rest = said[1:].strip()
    parts = _LENGTH.findall(rest)
    if not parts or _LENGTH.sub("", rest):
        return None
    seconds = sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    return now_us + round(seconds * 1e6) * (-1 if said[0] == "-" else 1)


def _clock(said: str, now_us: int, zone: tzinfo) -> int | None:
    if said == "now":
        return now_us
    found = _CLOCK.fullmatch(said)
    if found is None:
        return None
    day, hour, minute, second = found.groups()
    now = from_us(now_us).astimezone(zone)
    date = now.date() + timedelta(days=_DAYS[day] if day else 0)
    wall = datetime(date.year, date.month, date.day, int(hour or 0), int(minute or 0), int(second or 0), tzinfo=zone)
    if day is None and to_us(wall) <= now_us:
        wall += timedelta(days=1)
    return to_us(wall)


def _iso(text: str, zone: tzinfo) -> int:
    moment = datetime.fromisoformat(text)
    return to_us(moment if moment.tzinfo is not None else moment.replace(tzinfo=zone))
