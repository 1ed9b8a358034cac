"""The text of an iCalendar file, before any library sees it: reduced to what bears on time, and bounded.

A calendar export is mostly other things: who was invited, notes, attachments, alarms, the moment of the export. None of
that belongs into a scheduler's database, and a file without it is the same file whenever it is exported anew. Kept are
events, with the few properties that say when they are and what they are called, and those time zones that only the file
itself knows.

Refused here is what libraries would follow for ever or for too long: rules by the second, minute or hour, steps of
nothing, rules that never match, more events or repetitions than a calendar of closures can have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from msgspec import Struct, field

from schedule_zero.errors import InvalidCalendar
from schedule_zero.timing.ical_recurrence import probe, times_a_year
from schedule_zero.timing.zones import iana_zone

MAX_BYTES = 1 << 20
MAX_EVENTS = 1000
MAX_LISTED_DATES = 5000
# Repetitions of all events in one year: ten a day.
MAX_PER_YEAR = 3660
MAX_ZONES = 50
MAX_LINES_OF_ZONE = 500
MAX_DEPTH = 4
MAX_INTERVAL = 1000
EARLIEST_YEAR, LATEST_YEAR = 1900, 9998

_KEPT = frozenset(
    {
        "UID", "DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID", "SEQUENCE", "STATUS",
        "SUMMARY",
    }
)  # fmt: skip
_KEPT_OF_ZONE = frozenset({"TZID", "DTSTART", "RRULE", "RDATE", "TZOFFSETFROM", "TZOFFSETTO", "TZNAME"})
_REPEATABLE = frozenset({"RRULE", "RDATE", "EXDATE"})
_PARTS = frozenset(
    {
        "FREQ", "UNTIL", "COUNT", "INTERVAL", "BYHOUR", "BYMINUTE", "BYSECOND", "BYDAY", "BYMONTHDAY", "BYYEARDAY",
        "BYWEEKNO", "BYMONTH", "BYSETPOS", "WKST",
    }
)  # fmt: skip
_FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
_PROPERTY = re.compile(r'[A-Za-z0-9_.-]+(?:;(?:[^:"]|"[^"]*")*)?:')
_HEAD = re.compile(r'(?:[^:"]|"[^"]*")*(?=:)')
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TZID = re.compile(r';TZID=("[^"]*"|[^;:"]*)', re.IGNORECASE)
# Few enough digits that no library runs into its own bounds.
_DURATION = re.compile(r"[-+]?P(?=\w)(?:\d{1,5}W)?(?:\d{1,5}D)?(?:T(?=\d)(?:\d{1,6}H)?(?:\d{1,7}M)?(?:\d{1,9}S)?)?")
_START = re.compile(r"(\d{4})(\d{2})(\d{2})(?:T(\d{2})(\d{2})(\d{2})Z?)?")


class _Line(NamedTuple):
    """One unfolded content line and where it begins."""

    number: int
    name: str
    text: str

    @property
    def head(self) -> str:
        """The name and the parameters: up to the first colon that is not in quotes."""
        found = _HEAD.match(self.text)
        return self.text if found is None else found[0]

    @property
    def value(self) -> str:
        """What stands behind that colon."""
        return self.text[len(self.head) + 1 :]


class Distilled(Struct, frozen=True):
    """A calendar reduced and bounded."""

    text: str
    # For each of its events, the line of the original on which a property of it stands.
    lines: list[dict[str, int]]


class _Block(Struct):
    """An event or a zone: its lines without BEGIN and END of its own."""

    number: int
    lines: list[_Line] = field(default_factory=list)


def distil(text: str, pointer: str) -> Distilled:
    """The same calendar, reduced and bounded; ``InvalidCalendar`` says what it can't be, with the line."""
    return _Distiller(pointer).run(text)


def line_error(number: int, what: str, pointer: str) -> InvalidCalendar:
    """What is wrong with a line of the text as it came."""
    return InvalidCalendar(f"line {number} of the iCalendar text: {what}", pointer=pointer)


def merged(old: str, new: str) -> str:
    """Two distilled texts as one; of an event that is in both (by its UID), the new one."""
    replaced = set(re.findall(r"^UID[^:\n]*:(.*)$", new, re.MULTILINE))
    kept = [
        block
        for block in re.findall(r"^BEGIN:VEVENT\n.*?^END:VEVENT\n", old, re.MULTILINE | re.DOTALL)
        if not replaced.intersection(re.findall(r"^UID[^:\n]*:(.*)$", block, re.MULTILINE))
    ]
    zones = re.findall(r"^BEGIN:VTIMEZONE\n.*?^END:VTIMEZONE\n", old, re.MULTILINE | re.DOTALL)
    zones = [zone for zone in zones if zone not in new]
    head, end, _ = new.rpartition("END:VCALENDAR\n")
    return head + "".join(zones) + "".join(kept) + end


def zone_of(text: str) -> str | None:
    """The IANA zone that a file says it was made in (``X-WR-TIMEZONE``); not part of RFC 5545, but common."""
    for line in _unfolded(text[:MAX_BYTES]):
        if line.name == "X-WR-TIMEZONE":
            return _iana(line.value.strip())
    return None


class _Distiller:
    def __init__(self, pointer: str) -> None:
        self._pointer = pointer
        self._events: list[_Block] = []
        # By the TZID that they define; in use under a name that no other file shares.
        self._zones: dict[str, _Block] = {}
        self._used: dict[str, str] = {}
        self._times_a_year = 0

    def run(self, text: str) -> Distilled:
        size = len(text.encode(errors="replace"))
        if size > MAX_BYTES:
            raise InvalidCalendar(f"expected at most {MAX_BYTES} bytes of iCalendar, got {size}", pointer=self._pointer)
        self._read(text)
        self._check_amounts()
        events = [self._event(block) for block in self._events]
        zones = [self._zone(tzid, name) for tzid, name in self._used.items()]
        head = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//ScheduleZero//named calendar//EN"]
        lines = [{"": block.number} | {line.name: line.number for line in block.lines} for block in self._events]
        return Distilled("\n".join([*head, *zones, *events, "END:VCALENDAR", ""]), lines)

    # --- structure -----------------------------------------------------------------------------------

    def _read(self, text: str) -> None:
        # What is open, the outermost first, and the line in which it began.
        open_: list[tuple[str, int]] = []
        block: _Block | None = None
        seen = False
        for line in _unfolded(text):
            if open_ and _PROPERTY.match(line.text) is None:
                raise self._at(line, f"expected a property as NAME:value, got {line.text[:50]!r}")
            if line.name == "BEGIN":
                kind = self._begin(open_, line)
                seen = True
                if len(open_) == 2:
                    block = _Block(line.number) if kind in ("VEVENT", "VTIMEZONE") else None
                elif block is not None and open_[1][0] == "VTIMEZONE":
                    block.lines.append(line)
            elif line.name == "END":
                kind = self._end(open_, line)
                if block is not None and len(open_) == 2 and open_[1][0] == "VTIMEZONE":
                    block.lines.append(line)
                elif block is not None and len(open_) == 1:
                    self._close(kind, block)
                    block = None
            elif not open_:
                raise self._at(line, "expected BEGIN:VCALENDAR")
            elif block is not None:
                self._keep(open_, block, line)
        if open_ or not seen:
            missing = f"END:{open_[-1][0][:50]}" if open_ else "BEGIN:VCALENDAR"
            raise InvalidCalendar(f"not a whole iCalendar file: {missing} is missing", pointer=self._pointer)

    def _begin(self, open_: list[tuple[str, int]], line: _Line) -> str:
        kind = line.value.strip().upper()
        if (kind == "VCALENDAR") is not (not open_):
            raise self._at(line, "expected BEGIN:VCALENDAR around everything else")
        open_.append((kind, line.number))
        if len(open_) > MAX_DEPTH:
            raise self._at(line, f"nested deeper than {MAX_DEPTH} levels")
        return kind

    def _end(self, open_: list[tuple[str, int]], line: _Line) -> str:
        kind = line.value.strip().upper()
        if not open_:
            raise self._at(line, f"END:{kind[:50]} without its BEGIN")
        began, since = open_.pop()
        if began != kind:
            expected = f"expected END:{began[:50]} (it began in line {since})"
            raise self._at(line, f"{expected}, got END:{kind[:50]}")
        return kind

    def _keep(self, open_: list[tuple[str, int]], block: _Block, line: _Line) -> None:
        if open_[1][0] == "VTIMEZONE":
            if line.name in _KEPT_OF_ZONE:
                block.lines.append(line)
        elif len(open_) == 2:
            if line.name == "EXRULE":
                raise self._at(line, "EXRULE is not taken (it was withdrawn from iCalendar); use EXDATE")
            if line.name in _KEPT:
                block.lines.append(line)

    def _close(self, kind: str, block: _Block) -> None:
        if kind == "VEVENT":
            self._events.append(block)
            return
        tzid = next((line.value.strip() for line in block.lines if line.name == "TZID"), None)
        if tzid is not None:
            self._zones.setdefault(tzid, block)

    def _check_amounts(self) -> None:
        if len(self._events) > MAX_EVENTS:
            raise InvalidCalendar(
                f"expected at most {MAX_EVENTS} events, got {len(self._events)}", pointer=self._pointer
            )
        if len(self._zones) > MAX_ZONES:
            raise InvalidCalendar(
                f"expected at most {MAX_ZONES} time zones, got {len(self._zones)}", pointer=self._pointer
            )
        listed = sum(
            line.value.count(",") + 1
            for block in self._events
            for line in block.lines
            if line.name in ("RDATE", "EXDATE")
        )
        if listed > MAX_LISTED_DATES:
            raise InvalidCalendar(
                f"expected at most {MAX_LISTED_DATES} dates in RDATE and EXDATE together, got {listed}",
                pointer=self._pointer,
            )

    # --- events --------------------------------------------------------------------------------------

    def _event(self, block: _Block) -> str:
        once: set[str] = set()
        kept: list[str] = []
        start: _Line | None = None
        for line in block.lines:
            if line.name in once:
                if line.name == "SUMMARY":
                    continue
                raise self._at(line, f"a second {line.name} in one event")
            if line.name not in _REPEATABLE:
                once.add(line.name)
            if line.name == "DTSTART":
                start = line
            if {"DTEND", "DURATION"} <= once:
                raise self._at(line, "expected either DTEND or DURATION in one event, got both")
            if line.name == "DURATION" and _DURATION.fullmatch(line.value.strip()) is None:
                raise self._at(line, f"DURATION: expected a length such as P1D or PT1H30M, got {line.value[:50]!r}")
            kept.append(self._in_known_zone(line))
        if start is None:
            raise self._line_error(block.number, "an event without DTSTART")
        self._check_rules([line for line in block.lines if line.name == "RRULE"], self._start(start))
        return "\n".join(["BEGIN:VEVENT", *kept, "END:VEVENT"])

    def _start(self, line: _Line) -> datetime:
        """When an event begins, on the wall of whichever zone."""
        value = line.value.strip()
        found = _START.fullmatch(value)
        if found is None:
            raise self._at(line, f"expected DTSTART as 20261224 or 20261224T180000, got {value[:50]!r}")
        if not EARLIEST_YEAR <= int(found[1]) <= LATEST_YEAR:
            raise self._at(line, f"expected DTSTART in a year from {EARLIEST_YEAR} to {LATEST_YEAR}, got {value!r}")
        try:
            return datetime(*(int(number or 0) for number in found.groups()))  # type: ignore[arg-type]  # noqa: DTZ001
        except ValueError as error:
            raise self._at(line, f"DTSTART: there is no {value}: {error}") from None

    def _check_rules(self, rules: list[_Line], start: datetime) -> None:
        for line in rules:
            parts = self._parts(line)
            self._times_a_year += times_a_year(parts)
            if self._times_a_year > MAX_PER_YEAR:
                raise self._at(line, f"the events repeat more than {MAX_PER_YEAR} times a year, taken together")
            self._check_match(line, parts, start)

    def _parts(self, line: _Line) -> dict[str, str]:
        """The parts of a rule, each known and sane."""
        parts: dict[str, str] = {}
        for part in line.value.strip().rstrip(";").split(";"):
            name, equals, value = part.partition("=")
            name = name.strip().upper()
            if name not in _PARTS or not equals or name in parts:
                raise self._at(line, f"expected a recurrence rule of {', '.join(sorted(_PARTS))}, got {part[:50]!r}")
            parts[name] = value.strip().upper()
        if parts.get("FREQ") not in _FREQUENCIES:
            raise self._at(line, f"FREQ: expected {', '.join(_FREQUENCIES)}, got {parts.get('FREQ', 'nothing')[:50]!r}")
        of_days = parts["FREQ"] in ("DAILY", "WEEKLY")
        if of_days and ("BYSETPOS" in parts or any(len(day) > 2 for day in parts.get("BYDAY", "").split(","))):
            raise self._at(line, f"BYSETPOS and BYDAY with a number are not for FREQ={parts['FREQ']}")
        if "UNTIL" in parts and "COUNT" in parts:
            raise self._at(line, "expected either UNTIL or COUNT, got both")
        for name, most in (("INTERVAL", MAX_INTERVAL), ("COUNT", 100_000)):
            value = parts.get(name, "1")
            if not value.isascii() or not value.isdecimal() or not 1 <= int(value[:10]) <= most:
                raise self._at(line, f"{name}: expected 1 to {most}, got {value[:50]!r}")
        return parts

    def _check_match(self, line: _Line, parts: dict[str, str], first: datetime) -> None:
        """A rule that matches nothing would be followed to the year 9999 each time it is asked."""
        from dateutil.rrule import rrulestr  # type: ignore[import-untyped]  # it has no stubs

        try:
            match = next(iter(rrulestr(probe(parts, first), dtstart=first)), None)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise self._at(line, f"not a recurrence rule: {error}"[:200]) from None
        if match is None:
            raise self._at(line, f"the rule never matches: {line.value[:100]!r}")

    # --- zones ---------------------------------------------------------------------------------------

    def _in_known_zone(self, line: _Line) -> str:
        """The line with a TZID that means the same everywhere."""
        found = _TZID.search(line.head)
        if found is None:
            return line.text
        tzid = found[1].strip('"')
        name = _iana(tzid)
        if name is None:
            if tzid not in self._zones:
                raise self._at(line, f"TZID: expected an IANA zone, or one that the file defines, got {tzid[:100]!r}")
            name = self._used.setdefault(tzid, self._own_name(tzid))
        return f"{line.text[: found.start()]};TZID={name}{line.text[found.end() :]}"

    def _own_name(self, tzid: str) -> str:
        """``icalendar`` remembers zones by their names, for all files: another "My Zone" must not be taken for it."""
        body = "\n".join(line.text for line in self._zones[tzid].lines if line.name != "TZID")
        return "zone-" + sha256(body.encode()).hexdigest()[:16]

    def _zone(self, tzid: str, name: str) -> str:
        block = self._zones[tzid]
        if len(block.lines) > MAX_LINES_OF_ZONE:
            raise self._line_error(block.number, f"expected at most {MAX_LINES_OF_ZONE} lines of one time zone")
        lines = []
        for line in block.lines:
            if line.name == "TZID":
                continue
            if line.name == "RRULE" and self._parts(line)["FREQ"] != "YEARLY":
                raise self._at(line, "a time zone changes by FREQ=YEARLY")
            lines.append(line.text)
        return "\n".join(["BEGIN:VTIMEZONE", f"TZID:{name}", *lines, "END:VTIMEZONE"])

    # --- errors --------------------------------------------------------------------------------------

    def _at(self, line: _Line, what: str) -> InvalidCalendar:
        return self._line_error(line.number, what)

    def _line_error(self, number: int, what: str) -> InvalidCalendar:
        return line_error(number, what, self._pointer)


def _unfolded(text: str) -> Iterator[_Line]:
    """Content lines: a line that begins with a space continues the one before (RFC 5545, 3.1)."""
    number, parts = 0, [""]
    for at, raw in enumerate(re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff")), 1):
        line = _CONTROL.sub("", raw)
        if line[:1] in (" ", "\t") and number:
            parts.append(line[1:])
            continue
        if parts[0]:
            yield _line(number, "".join(parts))
        number, parts = at, [line]
    if parts[0]:
        yield _line(number, "".join(parts))


def _line(number: int, text: str) -> _Line:
    return _Line(number, re.split("[;:]", text, maxsplit=1)[0].strip().upper(), text)


def _iana(tzid: str) -> str | None:
    """The IANA zone that a TZID means: by its own name, Windows' name for it, or ``/vendor/…/Europe/Berlin``."""
    from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

    if iana_zone(tzid) is not None:
        return tzid
    windows: str | None = WINDOWS_TO_OLSON.get(tzid)
    if windows is not None:
        return windows
    if tzid.startswith("/"):
        steps = tzid.strip("/").split("/")
        names = ("/".join(steps[at:]) for at in range(len(steps)))
        return next((name for name in names if iana_zone(name) is not None), None)
    return None
