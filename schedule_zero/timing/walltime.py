"""Times on the wall of one zone, turned into moments: the engine below ``cron`` and ``calendar``.

A pattern (``pattern``) says which local times match. The zone is cut into stretches of constant UTC offset; inside
one of them local and absolute time run in parallel, so "next", "last" and "how many" are binary searches in
integers. All that is special about daylight saving happens at the seams:

* the clock jumps forward: the local times in the gap don't exist. ``shift`` fires once, at the first moment
  after the gap, for whatever the pattern has in it (as Vixie cron does); ``skip`` doesn't.
* the clock is set back: the local times in the fold happen twice. ``first``, ``second`` or ``both`` count.

Everything here is in whole seconds: UTC seconds since the epoch, or *local* seconds (the same number plus the
offset, so ``local // 86400`` is the local date and ``local % 86400`` the time of its day).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from schedule_zero.timing.pattern import DAY_S, CachedDays, Days, Pattern, TimesOfDay, day_number, from_day_number

__all__ = [
    "DAY_S",
    "CachedDays",
    "Days",
    "Fold",
    "Gap",
    "Pattern",
    "Stretch",
    "TimesOfDay",
    "WallTimes",
    "day_number",
    "from_day_number",
    "resolve",
    "stretches",
]

SECOND = timedelta(seconds=1)
FIRST_YEAR = 1970
LAST_YEAR = 9998
# Offsets are sampled at this distance, then the seam is bisected. No zone of tzdata has kept an offset for less than
# a week since 1970, nor has a fold that spans the end of a UTC year, where the stretches are cut
# (tests/unit/test_trigger_seams.py and test_trigger_walltime.py look).
SAMPLE_S = 3 * DAY_S

# What is said about single nominal times: made up for after a gap; one of two with the same local time.
DST_GAP = "dst_gap"
DST_FOLD = "dst_fold"


class Gap(StrEnum):
    """What becomes of local times that don't exist."""

    SHIFT = "shift"
    SKIP = "skip"


class Fold(StrEnum):
    """Which of two equal local times counts."""

    FIRST = "first"
    SECOND = "second"
    BOTH = "both"


# --- the zone --------------------------------------------------------------------------------------


class Stretch(NamedTuple):
    """``[start, end)`` in UTC seconds with one offset, and the offsets of its neighbours."""

    start: int
    end: int
    offset: int
    before: int
    after: int

    @property
    def gap(self) -> tuple[int, int]:
        """The local times that the clock jumped over right before it, as ``[start, end)``."""
        return self.start + self.before, self.start + self.offset


def _offset_at(zone: ZoneInfo, utc: int) -> int:
    offset = datetime.fromtimestamp(utc, zone).utcoffset()
    assert offset is not None  # a ZoneInfo always has one
    return offset // SECOND


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
        year = max(FIRST_YEAR, _year_of(low))
        last_year = min(LAST_YEAR, _year_of(upto), year + self.pattern.days.patience_years)
        while year <= last_year:
            for stretch in stretches(self.zone, year):
                if stretch.end <= low:
                    continue
                if stretch.start >= low and self._shifted(stretch):
                    return stretch.start if stretch.start <= upto else None
                local_low, local_high = self._local_range(stretch, low, upto + 1)
                local = self.pattern.next(local_low, local_high)
                if local is not None:
                    return local - stretch.offset
            year = self._year_after(year, last_year)
        return None

    def last_before(self, utc: int, from_: int) -> int | None:
        """The last of them in ``[from_, utc)``."""
        if from_ >= utc:
            return None
        year = min(LAST_YEAR, _year_of(utc - 1))
        first_year = max(FIRST_YEAR, _year_of(from_), year - self.pattern.days.patience_years)
        while year >= first_year:
            for stretch in reversed(stretches(self.zone, year)):
                if stretch.start >= utc:
                    continue
                local_low, local_high = self._local_range(stretch, from_, utc)
                local = self.pattern.previous(local_low, local_high)
                if local is not None:
                    return local - stretch.offset
                if stretch.start >= from_ and self._shifted(stretch):
                    return stretch.start
            year = self._year_before(year, first_year)
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

    def marks(self, utc: int) -> tuple[str, ...]:
        """What the clock change does to one of them."""
        stretch = self.stretch_at(utc)
        if utc == stretch.start and self._shifted(stretch):
            return (DST_GAP,)
        after_fold = stretch.start + stretch.before - stretch.offset
        before_fold = stretch.end + stretch.after - stretch.offset
        return (DST_FOLD,) if utc < after_fold or utc >= before_fold else ()

    def gaps(self, utc: int, upto: int) -> Iterator[Stretch]:
        """The stretches that begin in ``(utc, upto]`` after a jump forward."""
        for year in range(max(FIRST_YEAR, _year_of(utc)), min(LAST_YEAR, _year_of(upto)) + 1):
            for stretch in stretches(self.zone, year):
                if stretch.offset > stretch.before and utc < stretch.start <= upto:
                    yield stretch

    def folds(self, utc: int, upto: int) -> Iterator[Stretch]:
        """The stretches that begin in ``(utc, upto]`` after the clock was set back."""
        for year in range(max(FIRST_YEAR, _year_of(utc)), min(LAST_YEAR, _year_of(upto)) + 1):
            for stretch in stretches(self.zone, year):
                if stretch.offset < stretch.before and utc < stretch.start <= upto:
                    yield stretch

    def stretch_at(self, utc: int) -> Stretch:
        """The stretch that ``utc`` lies in."""
        return next(stretch for stretch in stretches(self.zone, _year_of(utc)) if utc < stretch.end)

    def _year_after(self, year: int, last_year: int) -> int:
        """The next year worth looking at: the clock's stretches cost more than the days of a rule."""
        days = self.pattern.days
        # Local days of the end of the year may still come, and the first one of a year may come before it.
        day = days.next(day_number(date(year, 12, 30)), day_number(date(last_year, 12, 31)))
        return last_year + 1 if day is None else max(year + 1, from_day_number(day - 1).year)

    def _year_before(self, year: int, first_year: int) -> int:
        days = self.pattern.days
        day = days.previous(day_number(date(first_year, 1, 1)) - 1, day_number(date(year, 1, 2)))
        return first_year - 1 if day is None else min(year - 1, from_day_number(day + 1).year)

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
        gap_start, gap_end = stretch.gap
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
