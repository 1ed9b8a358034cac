"""What a named calendar is made of: rules, each of which says which moments it covers.

A window is ``[start, end)`` in microseconds. Rules that speak of days and times mean the clock on the wall of the
calendar's zone, and exactly that: a moment is covered if the clock shows a time that the rule names. So a day has 23
or 25 hours when the clock is changed, a window that lies in the gap has none, and one in the fold comes twice.
Windows by cron are the exception: they begin by the wall, and last as long as they say.

Nothing here has a memory but for what costs more than a look-up: the holidays of a year.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from msgspec import Struct

from schedule_zero.clock import from_us
from schedule_zero.model import SkipReason
from schedule_zero.timing.walltime import (
    DAY_S,
    FIRST_YEAR,
    LAST_YEAR,
    day_number,
    from_day_number,
    stretches,
)

if TYPE_CHECKING:
    from schedule_zero.timing.trigger import Trigger

SECOND_US = 1_000_000
DAY_US = DAY_S * SECOND_US
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
# 1 January 1970 was a Thursday.
_EPOCH_WEEKDAY = 3
CACHED_YEARS = 64


class CalendarWindow(Struct, frozen=True, gc=False):
    """``[start_us, end_us)`` that a calendar covers, and by what."""

    start_us: int
    end_us: int
    reason: SkipReason
    # What it is: ``New Year's Day``, ``weekly SAT SUN``, an event's summary.
    label: str


class Wall:
    """The clock on the wall of one zone."""

    __slots__ = ("zone",)

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone

    def day_at(self, us: int) -> int:
        """The day number that the wall shows at this moment."""
        return day_number(from_us(us).astimezone(self.zone).date())

    def spans(self, low: int, high: int) -> list[tuple[int, int]]:
        """The moments at which the wall shows a time in local seconds ``[low, high)``: none, one span, or more."""
        found: list[tuple[int, int]] = []
        # Offsets are less than a day, so the moments lie within a day of the same number of UTC seconds.
        first, last = _year_of(low - DAY_S), _year_of(high + DAY_S)
        for year in range(max(first, FIRST_YEAR), min(last, LAST_YEAR) + 1):
            for stretch in stretches(self.zone, year):
                start = max(low - stretch.offset, stretch.start) * SECOND_US
                end = min(high - stretch.offset, stretch.end) * SECOND_US
                if start >= end:
                    continue
                if found and found[-1][1] == start:
                    # Over a gap, or the end of a year: the wall jumps, the time that it spans does not.
                    start = found.pop()[0]
                found.append((start, end))
        return found

    def day(self, day: int) -> list[tuple[int, int]]:
        """The moments of one day."""
        return self.spans(day * DAY_S, (day + 1) * DAY_S)


def _year_of(second: int) -> int:
    return datetime.fromtimestamp(max(second, 0), UTC).year


class Rule(ABC):
    """One entry of a calendar."""

    @abstractmethod
    def windows(self, from_us: int, to_us: int) -> Iterator[CalendarWindow]:
        """The windows that overlap ``[from_us, to_us)``, each as a whole, in no particular order."""

    def day_off(self, day: int) -> str | None:  # noqa: ARG002  # for rules that are about days
        """What makes this day one on which nobody works, by its nature and not by its hours."""
        return None


# --- days ------------------------------------------------------------------------------------------


class DatesRule(Rule):
    """Own dates: single days, and ranges of them."""

    def __init__(self, wall: Wall, ranges: Sequence[tuple[int, int, str]]) -> None:
        """``ranges``: first day, last day (included), label. Where they overlap, the one that begins first counts."""
        self._wall = wall
        self._by_day: dict[int, list[tuple[int, int, str]]] = {}
        for entry in sorted(ranges):
            for day in range(entry[0], entry[1] + 1):
                self._by_day.setdefault(day, []).append(entry)

    def windows(self, from_us: int, to_us: int) -> Iterator[CalendarWindow]:
        days = range(self._wall.day_at(from_us), self._wall.day_at(to_us - 1) + 1)
        for first, last, label in dict.fromkeys(entry for day in days for entry in self._by_day.get(day, ())):
            for start_us, end_us in self._wall.spans(first * DAY_S, (last + 1) * DAY_S):
                if start_us < to_us and end_us > from_us:
                    yield CalendarWindow(start_us, end_us, SkipReason.HOLIDAY, label)

    def day_off(self, day: int) -> str | None:
        entries = self._by_day.get(day)
        return None if entries is None else entries[0][2]


class HolidaysRule(Rule):
    """The holidays of a country, or of a part of it (``holidays``)."""

    def __init__(self, wall: Wall, country: str, subdivision: str | None, categories: tuple[str, ...] | None) -> None:
        """All of these are known to the library (``holiday_names`` sees to it)."""
        self._wall = wall
        self._country = country
        self._subdivision = subdivision
        self._categories = categories
        self._years: dict[int, Mapping[int, str]] = {}

    def windows(self, from_us: int, to_us: int) -> Iterator[CalendarWindow]:
        for day in range(self._wall.day_at(from_us), self._wall.day_at(to_us - 1) + 1):
            label = self.day_off(day)
            if label is None:
                continue
            for start_us, end_us in self._wall.day(day):
                if start_us < to_us and end_us > from_us:
                    yield CalendarWindow(start_us, end_us, SkipReason.HOLIDAY, label)

    def day_off(self, day: int) -> str | None:
        return self._of_year(from_day_number(day).year).get(day)

    def _of_year(self, year: int) -> Mapping[int, str]:
        days = self._years.get(year)
        if days is None:
            from schedule_zero.timing.holiday_names import holidays_of_year

            if len(self._years) >= CACHED_YEARS:
                self._years = {}
            names = holidays_of_year(self._country, self._subdivision, self._categories, year)
            days = self._years[year] = {day_number(day): name for day, name in names.items()}
        return days


# --- hours -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hours:
    """A part of the day in local seconds; ``end`` beyond the day's length is on the next day."""

    start: int = 0
    end: int = DAY_S

    @property
    def whole_day(self) -> bool:
        return (self.start, self.end) == (0, DAY_S)

    def words(self) -> str:
        return "" if self.whole_day else f" {clock(self.start)}–{clock(self.end % DAY_S or DAY_S)}"


def clock(second: int) -> str:
    """``06:00``, ``22:30:15``, ``24:00``."""
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return f"{hour:02}:{minute:02}" + (f":{second:02}" if second else "")


class _DaysAndHours(Rule):
    """The same hours on some days."""

    def __init__(self, wall: Wall, hours: Hours, label: str) -> None:
        self._wall = wall
        self._hours = hours
        self._label = label

    @abstractmethod
    def _on(self, day: int) -> bool:
        """Whether the hours begin on this day."""

    def windows(self, from_us: int, to_us: int) -> Iterator[CalendarWindow]:
        # What began the evening before may reach into the first day.
        for day in range(self._wall.day_at(from_us) - 1, self._wall.day_at(to_us - 1) + 1):
            if not self._on(day):
                continue
            midnight = day * DAY_S
            for start_us, end_us in self._wall.spans(midnight + self._hours.start, midnight + self._hours.end):
                if start_us < to_us and end_us > from_us:
                    yield CalendarWindow(start_us, end_us, SkipReason.BLACKOUT, self._label)


class WeeklyRule(_DaysAndHours):
    """The same hours on the same days of every week."""

    def __init__(self, wall: Wall, weekdays: Sequence[int], hours: Hours, label: str | None) -> None:
        """``weekdays``: 0 is Monday."""
        self._weekdays = frozenset(weekdays)
        words = "weekly " + " ".join(WEEKDAYS[number] for number in sorted(self._weekdays)) + hours.words()
        super().__init__(wall, hours, label or words)

    def _on(self, day: int) -> bool:
        return (day + _EPOCH_WEEKDAY) % 7 in self._weekdays


class MonthlyRule(_DaysAndHours):
    """The same hours on one day of every month; a month without that day has none (as in RFC 5545)."""

    def __init__(self, wall: Wall, day: int, hours: Hours, label: str | None) -> None:
        """``day``: from the front (1 … 31), or from the back (-1 is the last)."""
        self._day = day
        words = "monthly " + ("last day" if day == -1 else f"day {day}") + hours.words()
        super().__init__(wall, hours, label or words)

    def _on(self, day: int) -> bool:
        if self._day > 0:
            return from_day_number(day).day == self._day
        last = from_day_number(day - self._day - 1)
        return from_day_number(day - self._day).day == 1 and last.month == from_day_number(day).month


class CronRule(Rule):
    """From each nominal time of a cron expression on, for a fixed time. Of those that overlap, the newest counts."""

    def __init__(self, trigger: Trigger, expression: str, duration_s: int, label: str | None) -> None:
        self._trigger = trigger
        self._duration_us = duration_s * SECOND_US
        self._label = label or f"cron {expression} for {_duration(duration_s)}"

    def windows(self, from_us: int, to_us: int) -> Iterator[CalendarWindow]:
        start_us = self._trigger.last_before(from_us + 1)
        if start_us is None or start_us + self._duration_us <= from_us:
            start_us = self._trigger.next_after(from_us)
        while start_us is not None and start_us < to_us:
            yield CalendarWindow(start_us, start_us + self._duration_us, SkipReason.BLACKOUT, self._label)
            start_us = self._trigger.next_after(start_us)


def _duration(seconds: int) -> str:
    for unit, length in (("d", DAY_S), ("h", 3600), ("min", 60)):
        if seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
