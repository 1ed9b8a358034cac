"""The days of a ``calendar`` trigger: every nth day, week, month or year, and which day of it (``on``).

A month without the day (the 31st, a fifth Monday) is left out, as in RFC 5545 (iCalendar), rather than moved. Weeks
begin on Monday, and are counted from the one of the first day, as months and years are.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator, Sequence
from datetime import date
from enum import IntEnum
from math import lcm
from typing import NamedTuple

from schedule_zero.timing.walltime import FIRST_YEAR, CachedDays, day_number

DAYS, WEEKS, MONTHS, YEARS = UNITS = ("days", "weeks", "months", "years")


class Weekday(IntEnum):
    """As ``date.weekday`` counts them."""

    MON = 0
    TUE = 1
    WED = 2
    THU = 3
    FRI = 4
    SAT = 5
    SUN = 6

    @property
    def full_name(self) -> str:
        return _FULL_NAMES[self]


_FULL_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTH_NAMES = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)

ORDINAL_WORDS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "last": -1}
# What can be counted within a month: its weekdays, and how many of it the longest month has.
COUNTED: dict[str, tuple[frozenset[int], int]] = {
    "day": (frozenset(range(7)), 31),
    "weekday": (frozenset(range(5)), 23),
    **{day.full_name.lower(): (frozenset([day]), 5) for day in Weekday},
}


def ordinal(number: int) -> str:
    """``1st``, ``22nd``, ``last``."""
    if number < 0:
        return "last"
    ending = "th" if number // 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


ORDINALS = {ordinal(number): number for number in range(1, 32)} | ORDINAL_WORDS


class DayOfMonth(NamedTuple):
    """``last friday``, ``2nd tuesday``, ``last day``, ``1st weekday`` (Monday to Friday)."""

    # From 1 on; -1 is the last one.
    nth: int
    what: str

    def day(self, year: int, month: int) -> int | None:
        """Its day number in one month; ``None`` if that month has none."""
        first_weekday, length = monthrange(year, month)
        wanted, _ = COUNTED[self.what]
        days = [day for day in range(1, length + 1) if (first_weekday + day - 1) % 7 in wanted]
        if self.nth > len(days):
            return None
        return day_number(date(year, month, days[self.nth - 1 if self.nth > 0 else -1]))

    def __str__(self) -> str:
        return f"{ordinal(self.nth)} {self.what}"

    def words(self) -> str:
        return f"the {ordinal(self.nth)} {self.what if self.what in ('day', 'weekday') else self.what.capitalize()}"


class Every(CachedDays):
    """Every ``amount`` ``unit``, counted from the first day. Subclasses: one per kind of unit."""

    __slots__ = ("amount", "first", "last", "patience_years")

    def __init__(self, amount: int, first: date, last: date | None) -> None:
        super().__init__()
        self.amount = amount
        self.first = first
        self.last = last
        # It knows where it begins and ends: it need not be asked again and again.
        self.patience_years = 10_000

    def select(self, year: int) -> Sequence[int]:
        low = max(day_number(date(year, 1, 1)), day_number(self.first))
        high = day_number(date(year, 12, 31))
        if self.last is not None:
            high = min(high, day_number(self.last))
        return self._between(year, low, high) if low <= high else ()

    def _between(self, year: int, low: int, high: int) -> Sequence[int]:
        """The days of one year, cut to ``low … high``."""
        raise NotImplementedError

    def next(self, first: int, last: int) -> int | None:
        # A first day far ahead is not searched for, nor anything after the last one.
        first = max(first, day_number(self.first))
        if self.last is not None:
            last = min(last, day_number(self.last))
        return super().next(first, last) if first <= last else None

    def previous(self, first: int, last: int) -> int | None:
        first = max(first, day_number(self.first))
        if self.last is not None:
            last = min(last, day_number(self.last))
        return super().previous(first, last) if first <= last else None


class EveryDays(Every):
    """Every ``amount`` days."""

    __slots__ = ()

    def _between(self, year: int, low: int, high: int) -> Sequence[int]:  # noqa: ARG002
        return range(low + (day_number(self.first) - low) % self.amount, high + 1, self.amount)


class EveryWeeks(Every):
    """Every ``amount`` weeks, on some weekdays."""

    __slots__ = ("on",)

    def __init__(self, amount: int, first: date, last: date | None, on: Sequence[Weekday]) -> None:
        super().__init__(amount, first, last)
        self.on = tuple(on) or (Weekday(first.weekday()),)

    def _between(self, year: int, low: int, high: int) -> Sequence[int]:  # noqa: ARG002
        step = 7 * self.amount
        monday = day_number(self.first) - self.first.weekday()
        weeks = range(low - 6 + (monday - low + 6) % step, high + 1, step)
        return [day for week in weeks for day in (week + weekday for weekday in self.on) if low <= day <= high]


class EveryMonths(Every):
    """Every ``amount`` months, on some days of each: those of ``on``, or that of the first day."""

    __slots__ = ("anchor", "on")

    def __init__(
        self, amount: int, first: date, last: date | None, on: Sequence[DayOfMonth], month: int | None = None
    ) -> None:
        super().__init__(amount, first, last)
        self.on = tuple(on) or (DayOfMonth(first.day, "day"),)
        self.anchor = first.year * 12 + (month or first.month) - 1
        # "Every 25 years on 29 February" pauses for centuries. But the calendar repeats itself after 400 years, 4800
        # months: what has not come until then and its own repetition, never comes. It may begin long after 1970.
        self.patience_years = first.year - FIRST_YEAR + lcm(4800, amount) // 12

    def _between(self, year: int, low: int, high: int) -> Sequence[int]:
        days = {rule.day(year, month) for month in self._months(year) for rule in self.on}
        return sorted(day for day in days if day is not None and low <= day <= high)

    def _months(self, year: int) -> Iterator[int]:
        start = year * 12
        return (number - start + 1 for number in range(start, start + 12) if (number - self.anchor) % self.amount == 0)
