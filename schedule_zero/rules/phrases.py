"""Moments and lengths as people say them, in English. Pure."""

from __future__ import annotations

from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo

from schedule_zero.clock import from_us

_MS, _SECOND, _MINUTE, _HOUR, _DAY = 1_000, 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000
# From here on a length is said in two units: the unit, its name, the smaller one, and its name.
_TWO = (
    (_DAY, "d", _HOUR, "h"),
    (_HOUR, "h", _MINUTE, "min"),
    (_MINUTE, "min", _SECOND, "s"),
)
_UTC = ZoneInfo("UTC")


def length(us: int) -> str:
    """``4 ms``, ``3.2 s``, ``5 min 3 s``, ``2 h``, ``3 d 4 h``."""
    us = abs(us)
    if us < _MS:
        return "less than 1 ms"
    if us < _SECOND:
        return f"{us // _MS} ms"
    for unit, name, small, small_name in _TWO:
        if us >= unit:
            rest = us % unit // small
            return f"{us // unit} {name}" + (f" {rest} {small_name}" if rest else "")
    return f"{us // (_SECOND // 10) / 10:g} s"


def times(count: int, what: str) -> str:
    """``1 fire``, ``3 fires``."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def by(who: str | None) -> str:
    return f" by {who}" if who else ""


def quoted(note: str | None) -> str:
    """A note of a person, behind what it is about, in one line."""
    return f' ("{" ".join(note.split())}")' if note else ""


class Wall:
    """Says moments on the wall of a zone, and in UTC."""

    def __init__(self, zone: str | None) -> None:
        self.name = zone or "UTC"
        self._zone: tzinfo = _UTC if zone is None else ZoneInfo(zone)

    def say(self, us: int) -> str:
        """``2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC)``."""
        utc = from_us(us)
        if self.name == "UTC":
            return f"{_whole(utc)} UTC"
        local = utc.astimezone(self._zone)
        return f"{_whole(local)} {self.name} ({_time(utc) if local.date() == utc.date() else _whole(utc)} UTC)"

    def local(self, us: int) -> str:
        """``2026-11-20 09:00:00`` on the wall alone."""
        return _whole(from_us(us).astimezone(self._zone))


def _whole(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d} {_time(moment)}"


def _time(moment: datetime) -> str:
    fraction = f".{moment.microsecond:06}".rstrip("0") if moment.microsecond else ""
    return f"{moment:%H:%M:%S}{fraction}"
