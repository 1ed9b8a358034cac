"""Named calendars: which moments a schedule stays out of (or keeps to), and which days are business days.

Not to be confused with the ``calendar`` trigger (``timing.calendar``), which says when something fires. A named
calendar is a policy: what it forbids is a nominal time like any other, and stands in the ledger as skipped.

A calendar is an immutable value, made by ``calendar_parse.parse_calendar``. It is computed as it is asked for, a UTC
day at a time: the windows of all its rules, flattened to stretches of one answer each, kept in a bounded cache. Where
windows overlap, holidays come before blackouts, and then the entry that stands first in the document (of own dates
and of iCal events the one that begins first).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import date
from heapq import heappop, heappush
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from schedule_zero.model import SkipReason
from schedule_zero.timing.calendar_rules import DAY_US, CalendarWindow, Rule, Wall
from schedule_zero.timing.trigger import LATEST_US
from schedule_zero.timing.walltime import FIRST_YEAR, LAST_YEAR, day_number

__all__ = ["CalendarWindow", "Exclusions", "NamedCalendar", "Verdict"]

# Stretches in the cache of one calendar. A day of a usual calendar has one to five.
CACHED_STRETCHES = 50_000
# A segment is cut at this length even if nothing changes, so that one step of the iterator is always short.
LONGEST_SEGMENT_US = 92 * DAY_US
CACHED_DAYS_OFF = 4096

# Calendars go to the end of the last year that every zone has as a whole: behind that nothing is covered.
END_US = LATEST_US + 1
_FIRST_DAY = day_number(date(FIRST_YEAR, 1, 2))
_LAST_DAY = day_number(date(LAST_YEAR, 12, 30))

_encoder = msgspec.json.Encoder()

# One UTC day: where its stretches begin, and what covers each.
_Day = tuple[list[int], list[CalendarWindow | None]]


class NamedCalendar:
    """The windows of one version of one named calendar."""

    __slots__ = ("_cached", "_days", "_days_off", "_document", "_rules", "_wall", "name", "warnings")

    def __init__(
        self,
        name: str,
        zone: ZoneInfo,
        rules: Sequence[Rule],
        document: dict[str, Any],
        warnings: Sequence[str] = (),
    ) -> None:
        """``document`` is canonical: ``parse_calendar`` makes the same calendar of it."""
        self.name = name
        # What may not be meant as it is written.
        self.warnings = list(warnings)
        self._wall = Wall(zone)
        self._rules = tuple(rules)
        self._document = document
        self._days: dict[int, _Day] = {}
        self._cached = 0
        self._days_off: dict[int, str | None] = {}

    @property
    def zone(self) -> ZoneInfo:
        """Where its days and times are read off the wall."""
        return self._wall.zone

    def document(self) -> dict[str, Any]:
        """The calendar as canonical data."""
        return self._document

    def encoded(self) -> bytes:
        """``document`` as the JSON that the store keeps."""
        return _encoder.encode(self._document)

    # --- moments -----------------------------------------------------------------------------------

    def covering(self, us: int) -> CalendarWindow | None:
        """The window that this moment lies in, if any; the first by precedence."""
        return self.stretch(us)[0]

    def stretch(self, us: int) -> tuple[CalendarWindow | None, int]:
        """What covers this moment, and until when that answer holds at least (at most to the end of its UTC day)."""
        if not 0 <= us < END_US:
            return None, 0 if us < 0 else us + DAY_US
        day = us // DAY_US
        known = self._days.get(day)
        starts, what = self._flatten(day) if known is None else known
        at = bisect_right(starts, us)
        return what[at - 1], starts[at] if at < len(starts) else (day + 1) * DAY_US

    def windows(self, from_us: int, to_us: int) -> list[CalendarWindow]:
        """Every window that overlaps ``[from_us, to_us)``, by start. Windows may overlap one another."""
        return list(self.iter_windows(from_us, to_us))

    def iter_windows(self, from_us: int, to_us: int) -> Iterator[CalendarWindow]:
        """``windows``, one by one: a year of a window each minute is never held as a whole."""
        from_us, to_us = max(from_us, 0), min(to_us, END_US)
        begun = False
        for day in range(from_us // DAY_US, -(-to_us // DAY_US)) if from_us < to_us else ():
            low_us, high_us = max(from_us, day * DAY_US), min(to_us, (day + 1) * DAY_US)
            found = self._windows(low_us, high_us)
            # Those that began on a day before have been told then.
            yield from (window for _, window in found if not begun or window.start_us >= low_us)
            begun = True

    def _windows(self, from_us: int, to_us: int) -> list[tuple[int, CalendarWindow]]:
        """The windows by start, each with the place of its rule."""
        found = [(rank, window) for rank, rule in enumerate(self._rules) for window in rule.windows(from_us, to_us)]
        found.sort(key=lambda one: (one[1].start_us, one[1].end_us, one[0]))
        return found

    def _flatten(self, day: int) -> _Day:
        low_us, high_us = day * DAY_US, (day + 1) * DAY_US
        starts: list[int] = []
        what: list[CalendarWindow | None] = []
        ahead = self._windows(low_us, high_us)
        # The windows that have begun, the one that counts first.
        open_: list[tuple[bool, int, int, CalendarWindow]] = []
        at_us, next_ = low_us, 0
        while at_us < high_us:
            while next_ < len(ahead) and ahead[next_][1].start_us <= at_us:
                rank, window = ahead[next_]
                heappush(open_, (window.reason is not SkipReason.HOLIDAY, rank, next_, window))
                next_ += 1
            while open_ and open_[0][3].end_us <= at_us:
                heappop(open_)
            window_now = open_[0][3] if open_ else None
            if not what or window_now is not what[-1]:
                starts.append(at_us)
                what.append(window_now)
            # To where this one ends or another begins.
            until_us = high_us if window_now is None else window_now.end_us
            at_us = min(until_us, ahead[next_][1].start_us) if next_ < len(ahead) else until_us
        if self._cached > CACHED_STRETCHES:
            # A new one, never emptied: another thread may be reading it.
            self._days, self._cached = {}, 0
        self._cached += len(starts)
        self._days[day] = starts, what
        return starts, what

    # --- days --------------------------------------------------------------------------------------

    def day_at(self, us: int) -> int:
        """The day number (``walltime.day_number``) that the calendar's wall shows at this moment."""
        return self._wall.day_at(us)

    def is_business_day(self, day: int) -> bool:
        """Whether people work on this local day: it is no holiday, and not covered from its beginning to its end."""
        return self.day_off(day) is None

    def day_off(self, day: int) -> str | None:
        """Why a day is not a business day; ``None``: it is one."""
        if not _FIRST_DAY <= day <= _LAST_DAY:
            return None
        known = self._days_off
        if day in known:
            return known[day]
        if len(known) >= CACHED_DAYS_OFF:
            # A new one, never emptied: another thread may be reading it.
            self._days_off = {}
        why = self._days_off[day] = self._why_off(day)
        return why

    def _why_off(self, day: int) -> str | None:
        for rule in self._rules:
            label = rule.day_off(day)
            if label is not None:
                return label
        why: str | None = None
        for start_us, end_us in self._wall.day(day):
            at_us = start_us
            while at_us < end_us:
                window, at_us = self.stretch(at_us)
                if window is None:
                    return None
                why = why or window.label
        return why

    def warm(self, from_us: int, to_us: int) -> None:
        """Compute a range in advance, on a thread: what is slow (a first import, an iCal year) is done then."""
        at_us = max(from_us, 0)
        while at_us < min(to_us, END_US):
            _, at_us = self.stretch(at_us)

    def __repr__(self) -> str:
        return f"<NamedCalendar {self.name} {self.encoded()[:200].decode(errors='replace')}>"


# --- what a schedule makes of them -------------------------------------------------------------------


class Verdict(Struct, frozen=True, gc=False):
    """Why a moment is forbidden, and by which calendar."""

    reason: SkipReason
    calendar: str
    label: str

    @property
    def detail(self) -> str:
        """The words for the ledger: which calendar, and what in it."""
        return self.label if self.label == _outside(self.calendar) else f"{self.calendar}: {self.label}"


def _outside(name: str) -> str:
    return f"outside of {name}"


class Exclusions:
    """The named calendars that bear on one schedule: those that forbid, those that it keeps to, its business days."""

    __slots__ = ("_business", "_exclude", "_require")

    def __init__(
        self,
        exclude: Sequence[NamedCalendar] = (),
        require: Sequence[NamedCalendar] = (),
        business: tuple[NamedCalendar, ZoneInfo] | None = None,
    ) -> None:
        """``business``: forbid the days that are not business days there (the day rule ``skip``).

        A day is a date on the wall of that zone, as where days are moved (``business.moved``).
        """
        self._exclude = tuple(exclude)
        self._require = tuple(require)
        self._business = None if business is None else (business[0], Wall(business[1]))

    def verdict(self, us: int) -> Verdict | None:
        """Why this moment is forbidden; ``None``: it isn't. The first calendar that has something against it counts."""
        return self._at(us)[0]

    def segments(self, from_us: int, to_us: int) -> Iterator[tuple[int, int, Verdict | None]]:
        """``[from_us, to_us)`` cut into stretches of one verdict each, in order, without a gap.

        Two neighbours differ, unless the first is as long as a segment may be.
        """
        start_us = at_us = from_us
        current: Verdict | None = None
        while at_us < to_us:
            verdict, until_us = self._at(at_us)
            if at_us > start_us and (verdict != current or at_us - start_us >= LONGEST_SEGMENT_US):
                yield start_us, at_us, current
                start_us = at_us
            current, at_us = verdict, until_us
        if start_us < to_us:
            yield start_us, to_us, current

    def _at(self, us: int) -> tuple[Verdict | None, int]:
        """The verdict, and until when it holds at least."""
        until_us = us + LONGEST_SEGMENT_US
        for calendar in self._exclude:
            window, end_us = calendar.stretch(us)
            until_us = min(until_us, end_us)
            if window is not None:
                return Verdict(window.reason, calendar.name, window.label), until_us
        if self._business is not None:
            calendar, wall = self._business
            label, end_us = _day_off(calendar, wall, us)
            until_us = min(until_us, end_us)
            if label is not None:
                return Verdict(SkipReason.HOLIDAY, calendar.name, label), until_us
        for calendar in self._require:
            window, end_us = calendar.stretch(us)
            until_us = min(until_us, end_us)
            if window is None:
                return Verdict(SkipReason.BLACKOUT, calendar.name, _outside(calendar.name)), until_us
        return None, until_us


def _day_off(calendar: NamedCalendar, wall: Wall, us: int) -> tuple[str | None, int]:
    """Why the local day of this moment is not a business day, and until when that holds."""
    if not 0 <= us < END_US:
        return None, 0 if us < 0 else us + DAY_US
    day = wall.day_at(us)
    end_us = next((end_us for start_us, end_us in wall.day(day) if start_us <= us < end_us), us + 1)
    return calendar.day_off(day), end_us
