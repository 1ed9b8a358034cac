"""From a named calendar as the API takes it to a ``NamedCalendar``: validated entry by entry, unknown keys refused.

What comes out as ``document`` is canonical: defaults left out, codes and times in one spelling, of an iCalendar file
only what bears on time. Its own canonical form is what it is parsed from again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, time
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from schedule_zero.errors import InvalidCalendar, InvalidTrigger
from schedule_zero.timing.calendar_rules import (
    DAY_US,
    WEEKDAYS,
    CronRule,
    DatesRule,
    HolidaysRule,
    Hours,
    MonthlyRule,
    Rule,
    Wall,
    WeeklyRule,
    clock,
)
from schedule_zero.timing.calendars import NamedCalendar
from schedule_zero.timing.parse import parse_trigger
from schedule_zero.timing.trigger import Trigger
from schedule_zero.timing.walltime import DAY_S, FIRST_YEAR, LAST_YEAR, day_number
from schedule_zero.timing.zones import iana_zone

# What bounds the work for one day of a calendar, and so for the year after a long outage: that runs on the event loop.
MAX_ENTRIES = {"holidays": 100, "dates": 1000, "weekly": 100, "monthly": 100, "cron": 20}
MAX_CRON_A_DAY = 288
MAX_DATES = 20_000
MAX_TEXT = 200
MAX_DESCRIPTION = 500
LONGEST_WINDOW_S = 31 * DAY_S
DEFAULT_ZONE = "UTC"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def parse_calendar(document: object, name: str, *, pointer: str = "") -> NamedCalendar:
    """The calendar that ``document`` describes; ``InvalidCalendar`` with a pointer if it doesn't describe one.

    May import the libraries for holidays and iCalendar, and compute for a while: not for the event loop.
    """
    fields = _Entry(document, pointer)
    zone_name = fields.text("timezone") or DEFAULT_ZONE
    wall = Wall(_zone(zone_name, f"{pointer}/timezone"))
    canonical: dict[str, Any] = {"timezone": wall.zone.key}
    description = fields.text("description", MAX_DESCRIPTION)
    if description:
        canonical["description"] = description
    rules: list[Rule] = []
    warnings: list[str] = []
    for key, parse in _LISTS.items():
        items = list(fields.items(key))
        if len(items) > MAX_ENTRIES[key]:
            raise InvalidCalendar(
                f"{key}: expected at most {MAX_ENTRIES[key]} entries, got {len(items)}", pointer=f"{pointer}/{key}"
            )
        if items:
            made, canonical[key] = parse(wall, items)
            rules += made
    ical = fields.text("ical", None)
    if ical is not None:
        from schedule_zero.timing.ical import distil, ical_rules

        distilled = distil(ical, f"{pointer}/ical")
        canonical["ical"] = distilled.text
        of_file, note = ical_rules(distilled, wall, f"{pointer}/ical")
        rules += of_file
        warnings += [note] if note else []
    fields.refuse_rest()
    return NamedCalendar(name, wall.zone, rules, canonical, warnings)


def load_calendar(encoded: bytes, name: str) -> NamedCalendar:
    """The calendar of a stored document."""
    try:
        document = msgspec.json.decode(encoded)
    except msgspec.DecodeError as error:
        raise InvalidCalendar(f"the stored calendar {name!r} is not JSON: {error}") from None
    return parse_calendar(document, name)


class _Entry:
    """The keys of one object, taken one by one; what is left at the end is unknown."""

    def __init__(self, document: object, pointer: str) -> None:
        if not isinstance(document, dict):
            raise InvalidCalendar(f"expected an object, got {_shown(document)}", pointer=pointer)
        self._rest: dict[str, Any] = dict(document)
        self._known: list[str] = []
        self.pointer = pointer

    def fail(self, name: str, expected: str, got: object) -> InvalidCalendar:
        return InvalidCalendar(f"{name}: expected {expected}, got {_shown(got)}", pointer=f"{self.pointer}/{name}")

    def take(self, name: str) -> Any:
        """The value, ``None`` if it isn't said."""
        self._known.append(name)
        return self._rest.pop(name, None)

    def text(self, name: str, most: int | None = MAX_TEXT) -> str | None:
        """A text of at most ``most`` characters."""
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, str) or (most is not None and len(value) > most):
            bound = "" if most is None else f" of at most {most} characters"
            raise self.fail(name, f"a text{bound}", value)
        return value

    def needed(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise self.fail(name, "a text", value)
        return value

    def items(self, name: str) -> Iterator[tuple[object, str]]:
        """The items of a list, each with its pointer."""
        value = self.take(name)
        if value is None:
            return
        if not isinstance(value, list):
            raise self.fail(name, "a list", value)
        yield from ((item, f"{self.pointer}/{name}/{index}") for index, item in enumerate(value))

    def day(self, name: str, default: date | None = None) -> date:
        value = self.take(name)
        return default if value is None and default is not None else _day(value, f"{self.pointer}/{name}")

    def whole(self, name: str, low: int, high: int) -> int:
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.fail(name, f"a whole number from {low} to {high}", value)
        return value

    def hours(self) -> Hours:
        """``from`` and ``to``; the whole day where there is neither."""
        start, end = self._time("from"), self._time("to")
        if start is None and end is None:
            return Hours()
        start = start or 0
        end = DAY_S if end is None else end
        if start == DAY_S:
            raise InvalidCalendar(
                "24:00 is the end of a day: expected 00:00 of the day after as a start", pointer=f"{self.pointer}/from"
            )
        if start == end:
            raise InvalidCalendar(
                "expected a time that differs from the start; leave out both for the whole day",
                pointer=f"{self.pointer}/to",
            )
        return Hours(start, end if end > start else end + DAY_S)

    def _time(self, name: str) -> int | None:
        value = self.take(name)
        if value is None:
            return None
        if value == "24:00":
            return DAY_S
        try:
            moment = time.fromisoformat(value)
        except (TypeError, ValueError):
            moment = None
        if moment is None or moment.tzinfo is not None or moment.microsecond:
            raise self.fail(name, "a time of day such as 22:00", value)
        return (moment.hour * 60 + moment.minute) * 60 + moment.second

    def refuse_rest(self) -> None:
        if not self._rest:
            return
        unknown = sorted(map(str, self._rest))
        name = unknown[0].replace("~", "~0").replace("/", "~1")
        raise InvalidCalendar(
            f"unknown key{'s' if len(unknown) > 1 else ''} {', '.join(unknown)[:MAX_TEXT]}; "
            f"known here: {', '.join(dict.fromkeys(self._known))}",
            pointer=f"{self.pointer}/{name}",
        )


def _shown(value: object) -> str:
    names = {type(None): "nothing", dict: "an object", list: "a list"}
    return names.get(type(value)) or repr(value)[:MAX_TEXT]


def _zone(key: str, pointer: str) -> ZoneInfo:
    zone = iana_zone(key)
    if zone is None:
        raise InvalidCalendar(f"timezone: expected an IANA zone such as Europe/Berlin, got {key!r}", pointer=pointer)
    return zone


def _day(value: object, pointer: str) -> date:
    try:
        day = date.fromisoformat(value)  # type: ignore[arg-type]  # a TypeError is an answer, too
    except (TypeError, ValueError):
        day = None
    # fromisoformat takes 20261224 and 2026-W52-4 as well; one spelling is enough here.
    if day is None or value != day.isoformat():
        why = ""
        if isinstance(value, str) and _DATE.fullmatch(value):
            why = f": there is no day {value[8:]} in month {value[5:7]} of {value[:4]}"
        raise InvalidCalendar(f"expected a date such as 2026-12-24, got {_shown(value)}{why}", pointer=pointer)
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise InvalidCalendar(f"expected a date from {FIRST_YEAR} to {LAST_YEAR}, got {_shown(value)}", pointer=pointer)
    return day


# --- one function for each kind of entry -------------------------------------------------------------

_Items = list[tuple[object, str]]
_Parsed = tuple[list[Rule], list[Any]]


def _holidays(wall: Wall, items: _Items) -> _Parsed:
    from schedule_zero.timing.holiday_names import check_category, country_code, subdivision_code

    rules: list[Rule] = []
    documents: list[Any] = []
    for item, pointer in items:
        entry = _Entry(item, pointer)
        country = country_code(entry.needed("country"), f"{pointer}/country")
        document: dict[str, Any] = {"country": country}
        subdivision = entry.text("subdivision")
        if subdivision:
            subdivision = subdivision_code(country, subdivision, f"{pointer}/subdivision")
            document["subdivision"] = subdivision
        categories: list[str] = []
        for category, place in entry.items("categories"):
            if not isinstance(category, str):
                raise InvalidCalendar(f"expected a text, got {_shown(category)}", pointer=place)
            check_category(country, category, place)
            categories.append(category)
        if categories:
            document["categories"] = categories = sorted(set(categories))
        entry.refuse_rest()
        rules.append(HolidaysRule(wall, country, subdivision or None, tuple(categories) or None))
        documents.append(document)
    return rules, documents


def _dates(wall: Wall, items: _Items) -> _Parsed:
    ranges: list[tuple[int, int, str]] = []
    documents: list[Any] = []
    total = 0
    for item, pointer in items:
        if isinstance(item, str):
            first = last = _day(item, pointer)
            label = None
            documents.append(first.isoformat())
        else:
            entry = _Entry(item, pointer)
            first = entry.day("from")
            last = entry.day("to", first)
            label = entry.text("label")
            entry.refuse_rest()
            span = {"from": first.isoformat(), "to": last.isoformat(), "label": label or None}
            documents.append(_without_none(span))
        if last < first:
            raise InvalidCalendar("to: expected a date that is not before from", pointer=f"{pointer}/to")
        total += (last - first).days + 1
        if total > MAX_DATES:
            raise InvalidCalendar(f"expected at most {MAX_DATES} days in all ranges together", pointer=pointer)
        words = first.isoformat() if first == last else f"{first.isoformat()} to {last.isoformat()}"
        ranges.append((day_number(first), day_number(last), label or words))
    return [DatesRule(wall, ranges)], documents


def _weekly(wall: Wall, items: _Items) -> _Parsed:
    rules: list[Rule] = []
    documents: list[Any] = []
    for item, pointer in items:
        entry = _Entry(item, pointer)
        days = sorted({_weekday(day, place) for day, place in entry.items("days")})
        if not days:
            raise entry.fail("days", "at least one of " + ", ".join(WEEKDAYS), [])
        hours, label = entry.hours(), entry.text("label")
        entry.refuse_rest()
        rules.append(WeeklyRule(wall, days, hours, label))
        names = [WEEKDAYS[day] for day in days]
        documents.append(_without_none({"days": names, **_hours(hours), "label": label or None}))
    return rules, documents


def _weekday(value: object, pointer: str) -> int:
    if isinstance(value, str) and value.upper() in WEEKDAYS:
        return WEEKDAYS.index(value.upper())
    raise InvalidCalendar(f"expected one of {', '.join(WEEKDAYS)}, got {_shown(value)}", pointer=pointer)


def _monthly(wall: Wall, items: _Items) -> _Parsed:
    rules: list[Rule] = []
    documents: list[Any] = []
    for item, pointer in items:
        entry = _Entry(item, pointer)
        day = entry.take("day")
        number = -1 if day == "last" else day
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= abs(number) <= 31:
            raise entry.fail("day", 'a day from 1 to 31, from -1 (the last) to -31, or "last"', day)
        hours, label = entry.hours(), entry.text("label")
        entry.refuse_rest()
        rules.append(MonthlyRule(wall, number, hours, label))
        documents.append(_without_none({"day": number, **_hours(hours), "label": label or None}))
    return rules, documents


def _cron(wall: Wall, items: _Items) -> _Parsed:
    rules: list[Rule] = []
    documents: list[Any] = []
    a_day = 0
    for item, pointer in items:
        entry = _Entry(item, pointer)
        expression = " ".join(entry.needed("expression").split())
        duration_s = entry.whole("duration_s", 1, LONGEST_WINDOW_S)
        label = entry.text("label")
        entry.refuse_rest()
        trigger_document = {"type": "cron", "expression": expression, "timezone": wall.zone.key}
        try:
            trigger = parse_trigger(trigger_document, pointer=pointer)
        except InvalidTrigger as error:
            raise InvalidCalendar(error.message, pointer=error.pointer) from None
        a_day += _busiest_day(trigger)
        if a_day > MAX_CRON_A_DAY:
            raise InvalidCalendar(
                f"expression: expected windows that begin at most {MAX_CRON_A_DAY} times a day (every five minutes), "
                f"those of all entries together, got {a_day}",
                pointer=f"{pointer}/expression",
            )
        rules.append(CronRule(trigger, expression, duration_s, label))
        document = {"expression": expression, "duration_s": duration_s, "label": label or None}
        documents.append(_without_none(document))
    return rules, documents


def _busiest_day(trigger: Trigger) -> int:
    """How many nominal times there are in a day at most; looked for in a leap year."""
    first = day_number(date(2028, 1, 1))
    return max(trigger.count(day * DAY_US - 1, (day + 1) * DAY_US - 1) for day in range(first, first + 366))


def _hours(hours: Hours) -> dict[str, str]:
    if hours.whole_day:
        return {}
    return {"from": clock(hours.start), "to": clock(hours.end if hours.end <= DAY_S else hours.end - DAY_S)}


def _without_none(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}


_LISTS: dict[str, Callable[[Wall, _Items], _Parsed]] = {
    "holidays": _holidays,
    "dates": _dates,
    "weekly": _weekly,
    "monthly": _monthly,
    "cron": _cron,
}
