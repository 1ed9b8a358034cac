"""``calendar``: every n days, weeks, months or years, at a local time.

A month without the day (the 31st, 29 February) is left out, as in RFC 5545 (iCalendar), rather than moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from schedule_zero.timing.trigger import OPEN, Span, SpannedTrigger
from schedule_zero.timing.walltime import Days, Fold, Gap, Pattern, TimesOfDay, WallTimes, day_number

_DAYS = {"days": 1, "weeks": 7}
_MONTHS = {"months": 1, "years": 12}
UNITS = (*_DAYS, *_MONTHS)


@dataclass(frozen=True, slots=True)
class EveryNth(Days):
    """Every ``amount`` ``unit``, counted from the first day."""

    unit: str
    amount: int
    first: date
    last: date | None

    def of_year(self, year: int) -> Sequence[int]:
        low = max(day_number(date(year, 1, 1)), day_number(self.first))
        high = day_number(date(year, 12, 31))
        if self.last is not None:
            high = min(high, day_number(self.last))
        if self.unit in _DAYS:
            step = _DAYS[self.unit] * self.amount
            return range(low + (day_number(self.first) - low) % step, high + 1, step)
        step = _MONTHS[self.unit] * self.amount
        anchor = self.first.year * 12 + self.first.month - 1
        months = range(year * 12, year * 12 + 12)
        days = (_day_of(year, month % 12 + 1, self.first.day) for month in months if (month - anchor) % step == 0)
        return [number for number in days if number is not None and low <= number <= high]


def _day_of(year: int, month: int, day: int) -> int | None:
    try:
        return day_number(date(year, month, day))
    except ValueError:
        return None


@dataclass(frozen=True)
class CalendarTrigger(SpannedTrigger):
    """Every ``amount`` ``unit`` from ``start_date`` on, at ``at`` (hour, minute, second) on the wall of the zone."""

    type: ClassVar[str] = "calendar"

    unit: str
    amount: int
    at: tuple[int, int, int]
    start_date: date
    zone: ZoneInfo
    end_date: date | None = None
    dst_gap: Gap = Gap.SHIFT
    dst_fold: Fold = Fold.FIRST
    # Open: its dates bound it.
    span: Span = OPEN

    @cached_property
    def times(self) -> WallTimes:
        hour, minute, second = self.at
        days = EveryNth(self.unit, self.amount, self.start_date, self.end_date)
        return WallTimes(Pattern(days, TimesOfDay([hour], [minute], [second])), self.zone, self.dst_gap, self.dst_fold)

    def _next_after(self, us: int, upto_us: int) -> int | None:
        # A first day far ahead is not searched for.
        from_utc = max(us // 1_000_000, (day_number(self.start_date) - 2) * 86_400)
        utc = self.times.next_after(from_utc, upto_us // 1_000_000)
        return None if utc is None else utc * 1_000_000

    def _last_before(self, us: int, from_us: int) -> int | None:
        utc = self.times.last_before(-(-us // 1_000_000), -(-from_us // 1_000_000))
        return None if utc is None else utc * 1_000_000

    def _count(self, after_us: int, upto_us: int) -> int:
        return self.times.count(after_us // 1_000_000, upto_us // 1_000_000)

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "type": self.type,
            self.unit: self.amount,
            "at": self._clock(),
            "start_date": self.start_date.isoformat(),
            "timezone": self.zone.key,
            "dst_gap": self.dst_gap.value,
            "dst_fold": self.dst_fold.value,
        }
        if self.end_date is not None:
            document["end_date"] = self.end_date.isoformat()
        return document

    def words(self) -> str:
        every = f"every {self.unit[:-1]}" if self.amount == 1 else f"every {self.amount} {self.unit}"
        end = f", until {self.end_date}" if self.end_date is not None else ""
        return f"{every} at {self._clock()} ({self.zone.key}), from {self.start_date}{end}"

    def _clock(self) -> str:
        return "{:02}:{:02}:{:02}".format(*self.at)
