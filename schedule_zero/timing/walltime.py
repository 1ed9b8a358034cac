"""Times on the wall of one zone, turned into moments: the engine below ``cron`` and ``calendar``.

A pattern says which local times match (which days, which times of the day). The zone is cut into stretches of
constant UTC offset; inside one of them local and absolute time run in parallel, so "next", "last" and "how many"
are binary searches in integers. All that is special about daylight saving happens at the seams:

* the clock jumps forward: the local times in the gap don't exist. ``shift`` fires once, at the first moment
  after the gap, for whatever the pattern has in it (as Vixie cron does); ``skip`` doesn't.
* the clock is set back: the local times in the fold happen twice. ``first``, ``second`` or ``both`` count.

Everything here is in whole seconds: UTC seconds since the epoch, or *local* seconds (the same number plus the
offset, so ``local // 86400`` is the local date and ``local % 86400`` the time of its day).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from schedule_zero.clock import EPOCH

DAY_S = 86_400
EPOCH_ORDINAL = EPOCH.toordinal()
FIRST_YEAR = 1970
LAST_YEAR = 9998
# A pattern that has no match for so long has none: 29 February on a given weekday is at most 40 years away.
SEARCH_YEARS = 50
# Offsets are sampled at this distance, then the seam is bisected. No zone of tzdata has changed its offset and
# changed it back within a day since 1970, nor has a fold that spans the end of a UTC year, where the stretches
# are cut (tests/unit/test_trigger_walltime.py looks).
SAMPLE_S = DAY_S


class Gap(StrEnum):
    """What becomes of local times that don't exist."""

    SHIFT = "shift"
    SKIP = "skip"


class Fold(StrEnum):
    """Which of two equal local times counts."""

    FIRST = "first"
    SECOND = "second"
    BOTH = "both"


def day_number(day: date) -> int:
    """Days since the epoch."""
    return day.toordinal() - EPOCH_ORDINAL


def from_day_number(number: int) -> date:
    return date.fromordinal(number + EPOCH_ORDINAL)


# --- the pattern -----------------------------------------------------------------------------------


class Days(ABC):
    """Which local days match."""

    __slots__ = ()

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


class TimesOfDay:
    """Which times of a day match: every combination of some hours, minutes and seconds."""

    __slots__ = ("hours", "minutes", "seconds", "total")

    def __init__(self, hours: Sequence[int], minutes: Sequence[int], seconds: Sequence[int]) -> None:
        self.hours = tuple(sorted(hours))
        self.minutes = tuple(sorted(minutes))
        self.seconds = tuple(sorted(seconds))
        self.total = len(self.hours) * len(self.minutes) * len(self.seconds)

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


# --- the zone --------------------------------------------------------------------------------------


class Stretch(NamedTuple):
    """``[start, end)`` in UTC seconds with one offset, and the offsets of its neighbours."""

    start: int
    end: int
    offset: int
    before: int
    after: int


def _offset_at(zone: ZoneInfo, utc: int) -> int:
    local = datetime.fromtimestamp(utc, zone)
    return int((local.replace(tzinfo=UTC) - EPOCH).total_seconds()) - utc


def _seams(zone: ZoneInfo, start: int, end: int) -> Iterator[int]:
    """The UTC seconds in ``(start, end)`` at which the offset changes."""
    low, low_offset = start, _offset_at(zone, start)
    while low < end:
        high = min(low + SAMPLE_S, end)
        high_offset = _offset_at(zone, high)
        if high_offset != low_offset:
            left, right = low, high
            while right - left > 1:
                middle = (left + right) // 2
                if _offset_at(zone, middle) == low_offset:
                    left = middle
                else:
                    right = middle
            if right < end:
                yield right
        low, low_offset = high, high_offset


@lru_cache(maxsize=4096)
def stretches(zone: ZoneInfo, year: int) -> tuple[Stretch, ...]:
    """One UTC year of a zone, cut at its seams (and at the year's ends, which only look like seams)."""
    start = day_number(date(year, 1, 1)) * DAY_S
    end = day_number(date(year + 1, 1, 1)) * DAY_S
    edges = [start, *_seams(zone, start, end), end]
    offsets = [_offset_at(zone, edge) for edge in edges]
    before = [_offset_at(zone, start - 1), *offsets]
    return tuple(Stretch(edges[i], edges[i + 1], offsets[i], before[i], offsets[i + 1]) for i in range(len(edges) - 1))


@dataclass(frozen=True, slots=True)
class WallTimes:
    """A pattern in a zone, with what happens at the seams: a set of UTC seconds."""

    pattern: Pattern
    zone: ZoneInfo
    gap: Gap
    fold: Fold

    def next_after(self, utc: int, upto: int) -> int | None:
        """The first of them in ``(utc, upto]``."""
        low = utc + 1
        if low > upto:
            return None
        first_year = max(FIRST_YEAR, _year_of(low))
        last_year = min(LAST_YEAR, first_year + SEARCH_YEARS, _year_of(upto))
        for year in range(first_year, last_year + 1):
            for stretch in stretches(self.zone, year):
                if stretch.end <= low:
                    continue
                if stretch.start >= low and self._shifted(stretch):
                    return stretch.start if stretch.start <= upto else None
                local_low, local_high = self._local_range(stretch, low, upto + 1)
                local = self.pattern.next(local_low, local_high)
                if local is not None:
                    return local - stretch.offset
        return None

    def last_before(self, utc: int, from_: int) -> int | None:
        """The last of them in ``[from_, utc)``."""
        if from_ >= utc:
            return None
        last_year = min(LAST_YEAR, _year_of(utc - 1))
        first_year = max(FIRST_YEAR, last_year - SEARCH_YEARS, _year_of(from_))
        for year in range(last_year, first_year - 1, -1):
            for stretch in reversed(stretches(self.zone, year)):
                if stretch.start >= utc:
                    continue
                local_low, local_high = self._local_range(stretch, from_, utc)
                local = self.pattern.previous(local_low, local_high)
                if local is not None:
                    return local - stretch.offset
                if stretch.start >= from_ and self._shifted(stretch):
                    return stretch.start
        return None

    def count(self, utc: int, upto: int) -> int:
        """How many of them lie in ``(utc, upto]``."""
        low, high = utc + 1, upto + 1
        count = 0
        for year in range(max(FIRST_YEAR, _year_of(low)), min(LAST_YEAR, _year_of(upto)) + 1):
            for stretch in stretches(self.zone, year):
                if stretch.end <= low or stretch.start >= high:
                    continue
                count += self.pattern.count(*self._local_range(stretch, low, high))
                if low <= stretch.start and self._shifted(stretch):
                    count += 1
        return count

    def _local_range(self, stretch: Stretch, low: int, high: int) -> tuple[int, int]:
        """The local times of a stretch that count, cut to UTC ``[low, high)``."""
        start, end, offset, before, after = stretch
        local_low = max(start, low) + offset
        local_high = min(end, high) + offset
        if offset < before and self.fold is Fold.FIRST:
            # The clock was just set back: until it catches up, everything happens for the second time.
            local_low = max(local_low, start + before)
        if after < offset and self.fold is Fold.SECOND:
            # It is about to be set back: the end of this stretch will happen again.
            local_high = min(local_high, end + after)
        return local_low, local_high

    def _shifted(self, stretch: Stretch) -> bool:
        """Whether a gap right before the stretch swallowed matches that are made up for at its first moment."""
        if stretch.offset <= stretch.before or self.gap is Gap.SKIP:
            return False
        gap_start, gap_end = stretch.start + stretch.before, stretch.start + stretch.offset
        # A match at the very end of the gap fires at that same moment anyway.
        return self.pattern.next(gap_start, gap_end) is not None and self.pattern.next(gap_end, gap_end + 1) is None


def _year_of(utc: int) -> int:
    return datetime.fromtimestamp(utc, UTC).year


def resolve(local: datetime, zone: ZoneInfo) -> int:
    """UTC seconds of a naive local time: the first of two, or the first moment after a gap."""
    aware = local.replace(tzinfo=zone, fold=0)
    utc = int(aware.timestamp())
    if datetime.fromtimestamp(utc, zone).replace(tzinfo=None) == local.replace(microsecond=0):
        return utc
    # In a gap: ``fold=0`` read it with the offset from before, which lands as far after the gap as it lay inside.
    return next(_seams(zone, utc - 2 * DAY_S, utc + 1), utc)
