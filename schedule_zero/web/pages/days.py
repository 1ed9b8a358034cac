"""Days and months as addresses name them and calendars show them. Pure."""

from __future__ import annotations

from calendar import Calendar, month_name
from datetime import date, datetime, timedelta, tzinfo

from msgspec import Struct

from schedule_zero.clock import from_us, to_us
from schedule_zero.errors import InvalidField

FIRST, LAST = date(1970, 1, 1), date(9998, 12, 31)
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Month(Struct, frozen=True):
    """A month's days on the wall of ``zone``; none is shown after that of ``last``."""

    first: date
    zone: tzinfo
    last: date = LAST

    @property
    def title(self) -> str:
        return f"{month_name[self.first.month]} {self.first.year}"

    @property
    def grid(self) -> list[list[date]]:
        """Its weeks from Monday on, as whole ones: with days of the months beside it."""
        return Calendar().monthdatescalendar(self.first.year, self.first.month)

    @property
    def days(self) -> list[date]:
        return [day for week in self.grid for day in week if day in self]

    @property
    def bounds(self) -> list[int]:
        """The midnights between its days, and both ends."""
        days = self.days
        return [midnight_us(day, self.zone) for day in [*days, days[-1] + timedelta(days=1)]]

    def __contains__(self, day: date) -> bool:
        return (day.year, day.month) == (self.first.year, self.first.month)

    def beside(self, months: int) -> str:
        """The month before (-1) or after (1) as it is written in addresses; "": there is none."""
        other = (self.first + timedelta(days=31)).replace(day=1) if months > 0 else self.first - timedelta(days=1)
        return f"{other:%Y-%m}" if FIRST <= other <= self.last else ""


def month_of(text: str, now_us: int, zone: tzinfo, *, last: date = LAST) -> Month:
    """``2026-11``, or the one that it is now. InvalidField."""
    if not text:
        return Month(from_us(now_us).astimezone(zone).date().replace(day=1), zone, last)
    try:
        first = date.fromisoformat(f"{text}-01")
    except ValueError:
        first = None
    if first is None or not FIRST <= first <= last:
        raise InvalidField(f"expected a month from {FIRST:%Y-%m} to {last:%Y-%m}, got {text[:20]!r}", parameter="month")
    return Month(first, zone, last)


def day_of(text: str, *, parameter: str, first: date = FIRST, last: date = LAST) -> date:
    """``2026-11-27``. InvalidField."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or not first <= day <= last:
        raise InvalidField(f"expected a date from {first} to {last}, got {text[:20]!r}", parameter=parameter)
    return day


def midnight_us(day: date, zone: tzinfo) -> int:
    """When a day begins; where the clock is set over midnight, right after that."""
    return to_us(datetime(day.year, day.month, day.day, tzinfo=zone))
