"""Business days: a trigger whose days are moved to the business day before or after.

"The first of the month, or the next business day" is still a set of nominal times: only its days differ. So previews,
counts and the ledger need to know nothing of it. (The day rule ``skip`` moves nothing: it forbids the other days,
see ``calendars.Exclusions``.)

A day is a date here, read off the wall of the trigger's zone (also where it is skipped); whether it is a business day,
the calendar says for the same date in its own zone.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from datetime import date
from typing import Literal

from schedule_zero.timing.calendars import NamedCalendar
from schedule_zero.timing.trigger import Trigger
from schedule_zero.timing.walltime import LAST_YEAR, Days, day_number

# A day without a business day so near is left out: whoever closes for longer did not mean "the day after".
FARTHEST = 31
CACHED_YEARS = 64


class MovedDays(Days):
    """The business days that the days of another set are moved to, each once."""

    __slots__ = ("_days", "_is_business_day", "_step", "_years")

    def __init__(self, days: Days, is_business_day: Callable[[int], bool], rule: Literal["previous", "next"]) -> None:
        self._days = days
        self._is_business_day = is_business_day
        self._step = 1 if rule == "next" else -1
        self._years: dict[int, Sequence[int]] = {}

    def of_year(self, year: int) -> Sequence[int]:
        days = self._years.get(year)
        if days is None:
            if len(self._years) >= CACHED_YEARS:
                self._years = {}
            days = self._years[year] = self._moved(year)
        return days

    def _moved(self, year: int) -> Sequence[int]:
        first, last = day_number(date(year, 1, 1)), day_number(date(year, 12, 31))
        # Days of the neighbouring years may be moved into this one.
        found: set[int] = set()
        for near in range(year - 1, min(year + 1, LAST_YEAR) + 1):
            days = self._days.of_year(near)
            low, high = bisect_left(days, first - FARTHEST), bisect_right(days, last + FARTHEST)
            found.update(moved for day in days[low:high] if (moved := self._to(day)) is not None)
        return sorted(day for day in found if first <= day <= last)

    def _to(self, day: int) -> int | None:
        for near in range(day, day + self._step * (FARTHEST + 1), self._step):
            if self._is_business_day(near):
                return near
        return None


def moved(trigger: Trigger, calendar: NamedCalendar, rule: Literal["previous", "next"]) -> Trigger:
    """The trigger with its days moved to the calendar's business days. InvalidTrigger if it has no days to move."""
    return trigger.with_days(lambda days: MovedDays(days, calendar.is_business_day, rule))
