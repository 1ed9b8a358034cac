"""One month of a schedule as a calendar: what became of each day's times, and what is to come. Pure."""

from __future__ import annotations

from calendar import Calendar, month_name
from collections.abc import Sequence
from datetime import date, datetime, timedelta, tzinfo

from msgspec import Struct

from schedule_zero.clock import from_us, to_us
from schedule_zero.errors import InvalidField
from schedule_zero.service.schedule_views import MonthDay
from schedule_zero.web.pages import words

FIRST, LAST = date(1970, 1, 1), date(9998, 12, 31)
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Mark(Struct, frozen=True):
    """A count with its kind: ``kind`` colours it, ``sign`` and ``word`` say it without colour."""

    kind: str
    sign: str
    count: str
    word: str


class Cell(Struct, frozen=True):
    day: date
    today: bool
    # All of it is over: the ledger knows more.
    past: bool
    marks: list[Mark]
    # More of it than is counted.
    more: bool

    @property
    def words(self) -> str:
        """The cell as a sentence."""
        told = ", ".join(f"{mark.count} {mark.word}" for mark in self.marks) or "nothing"
        return f"{self.day.day} {month_name[self.day.month]}: {told}{' and more' if self.more else ''}"


class Month(Struct, frozen=True):
    """A month's days on the wall of ``zone``."""

    first: date
    zone: tzinfo

    @property
    def title(self) -> str:
        return f"{month_name[self.first.month]} {self.first.year}"

    @property
    def days(self) -> list[date]:
        following = (self.first + timedelta(days=31)).replace(day=1)
        return [self.first + timedelta(days=n) for n in range((following - self.first).days)]

    @property
    def bounds(self) -> list[int]:
        """The midnights between its days, and both ends."""
        days = self.days
        return [midnight_us(day, self.zone) for day in [*days, days[-1] + timedelta(days=1)]]

    def beside(self, months: int) -> str | None:
        """The month before (-1) or after (1) as it is written in addresses; None: there is none."""
        other = (self.first + timedelta(days=31)).replace(day=1) if months > 0 else self.first - timedelta(days=1)
        return f"{other:%Y-%m}" if FIRST <= other < LAST else None

    def weeks(self, found: Sequence[MonthDay], now_us: int) -> list[list[Cell | None]]:
        """Rows of seven cells, from Monday on; None is a day of another month."""
        today = from_us(now_us).astimezone(self.zone).date()
        by_day = {
            day: Cell(day, day == today, day <= today, _marks(one), one.past.more)
            for day, one in zip(self.days, found, strict=True)
        }
        grid = Calendar().monthdatescalendar(self.first.year, self.first.month)
        return [[by_day.get(day) for day in week] for week in grid]


def month_of(text: str, now_us: int, zone: tzinfo) -> Month:
    """``2026-11``, or the one that it is now. InvalidField."""
    if not text:
        return Month(from_us(now_us).astimezone(zone).date().replace(day=1), zone)
    return Month(day_of(f"{text}-01", parameter="month"), zone)


def day_of(text: str, *, parameter: str) -> date:
    """``2026-11-27``. InvalidField."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or not FIRST <= day < LAST:
        raise InvalidField(f"expected a date such as 2026-11-27, got {text[:20]!r}", parameter=parameter)
    return day


def midnight_us(day: date, zone: tzinfo) -> int:
    """When a day begins; where the clock is set over midnight, right after that."""
    return to_us(datetime(day.year, day.month, day.day, tzinfo=zone))


def _marks(one: MonthDay) -> list[Mark]:
    past = one.past
    good = max(0, past.executed - past.failed)
    found = [
        Mark("failed", "✕", words.count(past.failed), "failed"),
        Mark("missed", "!", words.count(past.missed), "missed"),
        Mark("completed", "✓", words.count(good), "ran"),
        Mark("caught-up", "↻", words.count(past.caught_up), "caught up"),
        Mark("skipped", "–", words.count(past.skipped), "skipped"),
        Mark("to-come", "○", words.count(one.to_come), "to come"),
        Mark("left-out", "⊘", words.count(one.left_out), "to come, left out"),
    ]
    return [mark for mark in found if mark.count != "0"]


LEGEND = [
    Mark("completed", "✓", "", "ran"),
    Mark("failed", "✕", "", "failed"),
    Mark("caught-up", "↻", "", "caught up"),
    Mark("skipped", "–", "", "skipped"),
    Mark("missed", "!", "", "missed"),
    Mark("to-come", "○", "", "to come"),
    Mark("left-out", "⊘", "", "left out"),
]
