"""iCalendar files (RFC 5545) as rules of a named calendar: all-day events are holidays, timed ones blackouts.

``ical_text.distil`` has reduced the file to what bears on time and refused what would never end. Here the libraries
take over: ``icalendar`` parses, ``recurring-ical-events`` repeats, a year at a time, when first asked. What either of
them can't make sense of is refused when the calendar is written, never when a schedule is due.

Times without a zone, and all-day events, are on the wall of the calendar's zone. Cancelled events count for nothing;
nor do events without a duration, which cover no moment. ``TRANSP`` is not looked at: holidays are marked as
transparent by half of the world's calendars.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from threading import Lock
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct

from schedule_zero.clock import to_us
from schedule_zero.errors import InvalidCalendar
from schedule_zero.model import SkipReason
from schedule_zero.timing.calendar_rules import DAY_US, SECOND_US, CalendarWindow, Rule, Wall
from schedule_zero.timing.ical_text import Distilled, distil, line_error
from schedule_zero.timing.walltime import DAY_S, FIRST_YEAR, day_number, resolve

__all__ = ["distil", "ical_rules"]

# Recurring events are followed to the end of this year.
LAST_YEAR = 2099
LONGEST_EVENT = timedelta(days=3660)
MAX_LABEL = 200
CACHED_YEARS = 32
_DAY = timedelta(days=1)


def ical_rules(distilled: Distilled, wall: Wall, pointer: str) -> tuple[list[Rule], str | None]:
    """The rules that a distilled text describes, and what there is to say about it.

    InvalidCalendar if the libraries can't make sense of it.
    """
    events = _Events(distilled, wall, pointer)
    return [_AllDayRule(events), _TimedRule(events)], events.note


class _Year(Struct):
    """What happens in one UTC year: each window under every UTC day that it touches."""

    all_day: dict[int, list[CalendarWindow]]
    timed: dict[int, list[CalendarWindow]]
    # Local days of all-day events, and the first event of each.
    days_off: dict[int, str]


class _Events:
    """The events of one file."""

    def __init__(self, distilled: Distilled, wall: Wall, pointer: str) -> None:
        import icalendar
        from recurring_ical_events import CalendarQuery  # type: ignore[import-untyped]  # it has no py.typed

        self._wall = wall
        self._pointer = pointer
        self._years: dict[int, _Year] = {}
        # Series by rule, and every start that the file names itself, each by UID.
        self._ruled: set[str] = set()
        self._named: set[tuple[str, datetime]] = set()
        # The library keeps the occurrences that it has found, and was not made for threads.
        self._lock = Lock()
        covering = 0
        try:
            calendar = icalendar.Calendar.from_ical(distilled.text)
            # Property by property: the library's own types would allow each of them to be anything.
            events: list[Any] = list(calendar.walk("VEVENT"))
            for event, lines in zip(events, distilled.lines, strict=True):
                covering += self._length(event, lines) > timedelta(0) and not _cancelled(event)
                self._note_starts(event)
            self._query = CalendarQuery(calendar)
        except InvalidCalendar:
            raise
        except Exception as error:  # noqa: BLE001  # what a parser raises over a stranger's file is its own affair
            raise self._refused(error) from None
        # Whatever else may be wrong comes out when the events are laid out; better now than when something is due.
        years = [_as_date(event["DTSTART"].dt).year for event in events]
        for year in {max(year, FIRST_YEAR) for year in (min(years), max(years))} if years else ():
            self.of_year(year)
        # Allowed: an export may be empty for a while. But it may also be the wrong file.
        self.note: str | None = None
        if not events:
            self.note = "the iCalendar file covers nothing: it has no event"
        elif not covering:
            self.note = (
                f"the iCalendar file covers nothing: all of its {len(events)} events are cancelled or of no length"
            )

    def _length(self, event: Any, lines: Mapping[str, int]) -> timedelta:
        """How long an event is. InvalidCalendar, with the line, if that is no length for one."""
        for name, problem in event.errors:
            raise line_error(lines.get(name, lines[""]), f"{name}: {problem}"[:300], self._pointer)
        start = event["DTSTART"].dt
        said = "DURATION" if "DURATION" in event else "DTEND"
        number = lines.get(said, lines["DTSTART"])
        try:
            if said == "DURATION":
                end = start + event["DURATION"].dt
            elif said in event:
                end = event["DTEND"].dt
            else:
                end = start if isinstance(start, datetime) else start + _DAY
            if isinstance(start, datetime) != isinstance(end, datetime):
                raise line_error(number, "the event has a date and a time as its start and end", self._pointer)
            # In one zone they are compared on the wall, as they were written: what differs in a gap is no mistake.
            length = _naive(end) - _naive(start)
            if isinstance(start, datetime) and start.tzinfo != end.tzinfo:
                length = timedelta(microseconds=self._us(end) - self._us(start))
        except OverflowError:
            raise line_error(number, "the event ends after the year 9999", self._pointer) from None
        if length < timedelta(0):
            raise line_error(number, f"{said}: the event {_label(event)!r} ends before it begins", self._pointer)
        if length > LONGEST_EVENT:
            what = f"{said}: the event {_label(event)!r} is {length.days} days long, expected at most"
            raise line_error(number, f"{what} {LONGEST_EVENT.days}", self._pointer)
        return length

    def _note_starts(self, event: Any) -> None:
        uid = _uid(event)
        if "RRULE" in event:
            self._ruled.add(uid)
        dates = event.get("RDATE", [])
        listed = [entry.dt for part in (dates if isinstance(dates, list) else [dates]) for entry in part.dts]
        for moment in [event["DTSTART"].dt, *listed]:
            # A period is a pair.
            self._named.add((uid, _naive(moment[0] if isinstance(moment, tuple) else moment)))

    def _is_lost(self, event: Any, start: datetime) -> bool:
        """Whether a rule made an occurrence of a local time that doesn't exist (RFC 5545, 3.3.10: to be ignored)."""
        uid, local = _uid(event), _naive(start)
        if uid not in self._ruled or (uid, local) in self._named:
            return False
        zone = start.tzinfo or self._wall.zone
        return _naive(local.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)) != local

    def _refused(self, why: object) -> InvalidCalendar:
        kind = f"{type(why).__name__}: " if isinstance(why, Exception) else ""
        return InvalidCalendar(f"not an iCalendar file that can be used: {kind}{why}"[:500], pointer=self._pointer)

    def of_year(self, year: int) -> _Year:
        """The events that touch a UTC year."""
        known = self._years.get(year)
        if known is not None:
            return known
        with self._lock:
            if year in self._years:
                return self._years[year]
            found = self._lay_out(year) if FIRST_YEAR <= year <= LAST_YEAR else _Year({}, {}, {})
            if len(self._years) >= CACHED_YEARS:
                self._years = {}
            self._years[year] = found
            return found

    def _lay_out(self, year: int) -> _Year:
        # A day more at both ends, because the library reads all-day events and times without a zone as UTC.
        start = datetime(year, 1, 1, tzinfo=UTC) - _DAY
        end = datetime(year + 1, 1, 1, tzinfo=UTC) + _DAY
        try:
            events: Sequence[Any] = self._query.between(start, end)
        except Exception as error:  # noqa: BLE001  # as above
            raise self._refused(error) from None
        low_us, high_us = to_us(start + _DAY), to_us(end - _DAY)
        found = _Year({}, {}, {})
        for event in events:
            if _cancelled(event):
                continue
            first, last, label = event["DTSTART"].dt, event["DTEND"].dt, _label(event)
            if isinstance(first, datetime):
                if self._is_lost(event, first):
                    continue
                windows = [CalendarWindow(self._us(first), self._us(last), SkipReason.BLACKOUT, label)]
                by_day = found.timed
            else:
                first_day, after_day = day_number(first), day_number(last)
                spans = self._wall.spans(first_day * DAY_S, after_day * DAY_S)
                windows = [CalendarWindow(*span, SkipReason.HOLIDAY, label) for span in spans]
                by_day = found.all_day
                for day in range(max(first_day, low_us // DAY_US - 1), min(after_day, high_us // DAY_US + 1)):
                    found.days_off.setdefault(day, label)
            for window in windows:
                for day in range(max(window.start_us, low_us) // DAY_US, -(-min(window.end_us, high_us) // DAY_US)):
                    if window.start_us < window.end_us:
                        by_day.setdefault(day, []).append(window)
        return found

    def _us(self, moment: datetime) -> int:
        zone = moment.tzinfo or self._wall.zone
        if isinstance(zone, ZoneInfo):
            return resolve(moment.replace(tzinfo=None), zone) * SECOND_US
        return to_us(moment.astimezone(UTC))


class _ICalRule(Rule):
    def __init__(self, events: _Events) -> None:
        self._events = events

    def windows(self, from_us: int, to_us: int) -> Iterator[CalendarWindow]:
        seen: set[CalendarWindow] = set()
        for day in range(from_us // DAY_US, -(-to_us // DAY_US)):
            for window in self._by_day(self._events.of_year(_year_of_day(day))).get(day, ()):
                if window.start_us < to_us and window.end_us > from_us and window not in seen:
                    seen.add(window)
                    yield window

    def _by_day(self, year: _Year) -> Mapping[int, list[CalendarWindow]]:
        raise NotImplementedError


class _AllDayRule(_ICalRule):
    def _by_day(self, year: _Year) -> Mapping[int, list[CalendarWindow]]:
        return year.all_day

    def day_off(self, day: int) -> str | None:
        return self._events.of_year(_year_of_day(day)).days_off.get(day)


class _TimedRule(_ICalRule):
    def _by_day(self, year: _Year) -> Mapping[int, list[CalendarWindow]]:
        return year.timed


def _year_of_day(day: int) -> int:
    return date.fromordinal(day + date(1970, 1, 1).toordinal()).year


def _as_date(moment: date) -> date:
    return moment.date() if isinstance(moment, datetime) else moment


def _naive(moment: date) -> datetime:
    if isinstance(moment, datetime):
        return moment.replace(tzinfo=None)
    return datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001  # on the wall


def _uid(event: Any) -> str:
    return str(event.get("UID", ""))


def _cancelled(event: Any) -> bool:
    return str(event.get("STATUS", "")).upper() == "CANCELLED"


def _label(event: Any) -> str:
    words = " ".join(str(event.get("SUMMARY", "")).split())
    return "".join(char for char in words if char.isprintable())[:MAX_LABEL] or "iCal event"
