"""Values in the search language: lengths of time, moments, numbers, comparisons. Pure.

    length := 90s, 1.5s, 1h30m … of ms, s, m, h, d, w
    moment := length (so long ago) | now | today | yesterday
            | 2030-01-31 | 2030-01-31T09:00[:00[.5]][Z or +01:00]

A day and a date are whole days, as they are in the viewer's zone; so is a time without an offset.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, tzinfo

from schedule_zero.clock import EPOCH, from_us, to_us

UNITS_US = {
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
MAX_LENGTH_US = 36_525 * UNITS_US["d"]
# Of microseconds that a moment can have: 1970 to 9999.
MAX_US = 253_402_300_799_999_999
LENGTH_WORDS = "a length of time such as 90s, 15m, 2h, 3d or 1h30m"
MOMENT_WORDS = f"{LENGTH_WORDS} (so long ago), now, today, yesterday, 2030-01-31 or 2030-01-31T09:00"
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d|w)", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MOMENT = re.compile(
    r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2})(:\d{2})?(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})?", re.ASCII | re.IGNORECASE
)
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,39})(\.\d{1,40})?(e[+-]?\d{1,2})?", re.ASCII | re.IGNORECASE)


def length_us(text: str) -> int | None:
    """Microseconds of ``1h30m``; None: it is no length of time, or one of more than a century."""
    at, total = 0, 0.0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            return None
        total += float(part[1]) * UNITS_US[part[2]]
        at = part.end()
    return round(total) if text and total <= MAX_LENGTH_US else None


def is_number(text: str) -> bool:
    """Whether it is a number as JSON has them, and one that can be compared with everywhere."""
    return _NUMBER.fullmatch(text) is not None


def is_moment(text: str) -> bool:
    """Whether ``span_us`` knows what it means."""
    return text in _WORDS or length_us(text) is not None or _day(text) is not None or _point(text) is not None


def span_us(text: str, now_us: int, zone: tzinfo) -> tuple[int, int]:
    """The first and the last microsecond of a moment; of all but days they are the same. ``is_moment(text)``."""
    ago_us = 0 if text == "now" else length_us(text)
    if ago_us is not None:
        return _held(now_us - ago_us), _held(now_us - ago_us)
    point = _point(text)
    if point is not None:
        us = _held(to_us(point if point.tzinfo is not None else point.replace(tzinfo=zone)))
        return us, us
    if text in _WORDS:
        day = from_us(now_us).astimezone(zone).date() - timedelta(days=_WORDS[text])
    else:
        found = _day(text)
        assert found is not None, text
        day = found
    return _held(midnight_us(day, zone)), _held(midnight_us(day + timedelta(days=1), zone) - 1)


def midnight_us(day: date, zone: tzinfo) -> int:
    """When a day begins in a zone; where its midnight is left out by a change of the clock, at that change."""
    return (datetime.combine(day, time(), zone) - EPOCH) // timedelta(microseconds=1)


def _held(us: int) -> int:
    return min(max(us, 0), MAX_US)


_WORDS = {"now": 0, "today": 0, "yesterday": 1}


def _day(text: str) -> date | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if _is_in_range(day.year) else None


def _point(text: str) -> datetime | None:
    found = _MOMENT.fullmatch(text)
    if found is None:
        return None
    day, minute, second, fraction, offset = found.groups()
    whole = f"{day}T{minute}{second or ':00'}"
    if fraction is not None:
        if second is None:
            return None
        whole += fraction.ljust(7, "0")
    try:
        point = datetime.fromisoformat(whole + (offset or "").upper())
    except ValueError:
        return None
    return point if _is_in_range(point.year) else None


def _is_in_range(year: int) -> bool:
    """One that can be brought to UTC, and a day further."""
    return 1970 <= year <= 9998
