"""Which local times match: some days, and some times of each of them. Dates and numbers only, no zone, no clock change.

Days are numbers since the epoch, times of the day are seconds, and a local time is ``day * 86400 + second``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from math import gcd

from schedule_zero.clock import EPOCH

DAY_S = 86_400
EPOCH_ORDINAL = EPOCH.toordinal()
# A rule without a match for so long has none: 29 February on a given weekday is at most 40 years away.
SEARCH_YEARS = 50
# Of the days that one rule selects; a bound, not a tuning knob.
CACHED_YEARS = 64


def day_number(day: date) -> int:
    """Days since the epoch."""
    return day.toordinal() - EPOCH_ORDINAL


def from_day_number(number: int) -> date:
    return date.fromordinal(number + EPOCH_ORDINAL)


class Days(ABC):
    """Which local days match."""

    __slots__ = ()

    # How far ahead the next one may be.
    patience_years: int = SEARCH_YEARS

    @abstractmethod
    def of_year(self, year: int) -> Sequence[int]:
        """The matching days of one year as ascending day numbers. Called often: cache it."""

    def next(self, first: int, last: int) -> int | None:
        """The first matching day in ``first … last``."""
        for year in range(from_day_number(first).year, from_day_number(last).year + 1):
            days = self.of_year(year)
            index = bisect_left(days, first)
            if index < len(days):
                return days[index] if days[index] <= last else None
        return None

    def previous(self, first: int, last: int) -> int | None:
        """The last matching day in ``first … last``."""
        for year in range(from_day_number(last).year, from_day_number(first).year - 1, -1):
            days = self.of_year(year)
            index = bisect_right(days, last)
            if index:
                return days[index - 1] if days[index - 1] >= first else None
        return None

    def has(self, day: int) -> bool:
        return self.next(day, day) is not None

    def count(self, first: int, last: int) -> int:
        """How many days in ``first … last`` match."""
        years = range(from_day_number(first).year, from_day_number(last).year + 1) if first <= last else ()
        return sum(bisect_right(days, last) - bisect_left(days, first) for days in map(self.of_year, years))


class CachedDays(Days):
    """Days that are worked out once a year; subclasses say how."""

    __slots__ = ("_years",)

    def __init__(self) -> None:
        self._years: dict[int, Sequence[int]] = {}

    @abstractmethod
    def select(self, year: int) -> Sequence[int]:
        """The matching days of one year as ascending day numbers."""

    def of_year(self, year: int) -> Sequence[int]:
        days = self._years.get(year)
        if days is None:
            if len(self._years) >= CACHED_YEARS:
                self._years.clear()
            days = self._years[year] = self.select(year)
        return days


class TimesOfDay:
    """Which times of a day match: every combination of some hours, minutes and seconds."""

    __slots__ = ("grid_s", "hours", "minutes", "seconds", "total")

    def __init__(self, hours: Sequence[int], minutes: Sequence[int], seconds: Sequence[int]) -> None:
        self.hours = tuple(sorted(hours))
        self.minutes = tuple(sorted(minutes))
        self.seconds = tuple(sorted(seconds))
        self.total = len(self.hours) * len(self.minutes) * len(self.seconds)
        # The distance of any two matches, also of different days, is a multiple of this.
        self.grid_s = gcd(
            DAY_S,
            *(3600 * (hour - self.hours[0]) for hour in self.hours),
            *(60 * (minute - self.minutes[0]) for minute in self.minutes),
            *(second - self.seconds[0] for second in self.seconds),
        )

    def rank(self, second: int) -> int:
        """How many matching times of the day lie before ``second``."""
        minute, second = divmod(second, 60)
        hour, minute = divmod(minute, 60)
        hours, minutes, seconds = self.hours, self.minutes, self.seconds
        index = bisect_left(hours, hour)
        rank = index * len(minutes)
        if index < len(hours) and hours[index] == hour:
            index = bisect_left(minutes, minute)
            rank += index
            if index < len(minutes) and minutes[index] == minute:
                return rank * len(seconds) + bisect_left(seconds, second)
        return rank * len(seconds)

    def at(self, rank: int) -> int:
        """The matching time of the day that has ``rank`` others before it, in seconds."""
        rank, second = divmod(rank, len(self.seconds))
        hour, minute = divmod(rank, len(self.minutes))
        return (self.hours[hour] * 60 + self.minutes[minute]) * 60 + self.seconds[second]


@dataclass(frozen=True, slots=True)
class Pattern:
    """The local times that match."""

    days: Days
    times: TimesOfDay

    def next(self, low: int, high: int) -> int | None:
        """The first match in local ``[low, high)``."""
        if low >= high:
            return None
        first, second = divmod(low, DAY_S)
        day = self.days.next(first, (high - 1) // DAY_S)
        if day == first:
            rank = self.times.rank(second)
            if rank < self.times.total:
                local = day * DAY_S + self.times.at(rank)
                return local if local < high else None
            day = self.days.next(first + 1, (high - 1) // DAY_S)
        if day is None:
            return None
        local = day * DAY_S + self.times.at(0)
        return local if local < high else None

    def previous(self, low: int, high: int) -> int | None:
        """The last match in local ``[low, high)``."""
        if low >= high:
            return None
        last, second = divmod(high, DAY_S)
        day = self.days.previous(low // DAY_S, last)
        if day == last:
            rank = self.times.rank(second)
            if rank:
                local = day * DAY_S + self.times.at(rank - 1)
                return local if local >= low else None
            day = self.days.previous(low // DAY_S, last - 1)
        if day is None:
            return None
        local = day * DAY_S + self.times.at(self.times.total - 1)
        return local if local >= low else None

    def count(self, low: int, high: int) -> int:
        """How many matches lie in local ``[low, high)``."""
        if low >= high:
            return 0
        first, before = divmod(low, DAY_S)
        last, until = divmod(high, DAY_S)
        count = self.days.count(first, last - 1) * self.times.total
        if self.days.has(first):
            count -= self.times.rank(before)
        if self.days.has(last):
            count += self.times.rank(until)
        return count
