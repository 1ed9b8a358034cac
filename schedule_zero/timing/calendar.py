"""``calendar``: every n days, weeks, months or years, on certain days of them (``recurring``), at a local time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from schedule_zero.timing.recurring import (
    MONTH_NAMES,
    WEEKS,
    YEARS,
    DayOfMonth,
    EveryDays,
    EveryMonths,
    EveryWeeks,
    Weekday,
)
from schedule_zero.timing.trigger import OPEN, Span
from schedule_zero.timing.wallclock import WallClockTrigger
from schedule_zero.timing.walltime import Days, Fold, Gap, Pattern, TimesOfDay, WallTimes


@dataclass(frozen=True)
class CalendarTrigger(WallClockTrigger):
    """Every ``amount`` ``unit`` from ``start_date`` on, at ``at`` (hour, minute, second) on the wall of the zone."""

    type: ClassVar[str] = "calendar"

    unit: str
    amount: int
    at: tuple[int, int, int]
    start_date: date
    zone: ZoneInfo
    end_date: date | None = None
    # Of weeks: weekdays. Of months and years: days of the month. Empty: the day that ``start_date`` is.
    on: tuple[Weekday, ...] | tuple[DayOfMonth, ...] = ()
    # Of years.
    month: int | None = None
    dst_gap: Gap = Gap.SHIFT
    dst_fold: Fold = Fold.FIRST
    # In place of those of the rule.
    days: Days | None = None
    # Open: its dates bound it.
    span: Span = OPEN

    @cached_property
    def times(self) -> WallTimes:
        hour, minute, second = self.at
        days = self.days or self._rule()
        return WallTimes(Pattern(days, TimesOfDay([hour], [minute], [second])), self.zone, self.dst_gap, self.dst_fold)

    def _rule(self) -> Days:
        first, last = self.start_date, self.end_date
        if self.unit == "days":
            return EveryDays(self.amount, first, last)
        if self.unit == WEEKS:
            return EveryWeeks(self.amount, first, last, [day for day in self.on if isinstance(day, Weekday)])
        on = [day for day in self.on if isinstance(day, DayOfMonth)]
        if self.unit == YEARS:
            return EveryMonths(12 * self.amount, first, last, on, self.month)
        return EveryMonths(self.amount, first, last, on)

    def with_days(self, change: Callable[[Days], Days]) -> CalendarTrigger:
        return replace(self, days=change(self.times.pattern.days))

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
        if self.on:
            document["on"] = [day.name if isinstance(day, Weekday) else str(day) for day in self.on]
        if self.month is not None:
            document["month"] = self.month
        if self.end_date is not None:
            document["end_date"] = self.end_date.isoformat()
        return document

    def words(self) -> str:
        every = f"every {self.unit[:-1]}" if self.amount == 1 else f"every {self.amount} {self.unit}"
        days = [day.full_name if isinstance(day, Weekday) else day.words() for day in self.on]
        on = f" on {_listed(days)}" if days else ""
        month = f"{' of' if days else ' in'} {MONTH_NAMES[self.month - 1]}" if self.month is not None else ""
        end = f", until {self.end_date}" if self.end_date is not None else ""
        return f"{every}{on}{month} at {self._clock()} ({self.zone.key}), from {self.start_date}{end}"

    def _clock(self) -> str:
        return "{:02}:{:02}:{:02}".format(*self.at)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
