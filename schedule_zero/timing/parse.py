"""From a trigger as the API takes it to a trigger: validated field by field, unknown keys refused by name.

The names of the earlier ScheduleZero and of APScheduler (``run_date``, ``start_time``, ``end_time``,
``timezone``, the keyword form of cron) are understood; ``Trigger.document`` says it in one way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime, time
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from schedule_zero.clock import from_us, to_us
from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing import calendar, cron
from schedule_zero.timing.calendar import CalendarTrigger
from schedule_zero.timing.cron import CronTrigger
from schedule_zero.timing.instants import LONGEST_PERIOD_US, UNITS_US, DateTrigger, IntervalTrigger
from schedule_zero.timing.trigger import LATEST_US, Span, Trigger
from schedule_zero.timing.walltime import Fold, Gap, resolve

E = TypeVar("E", bound=StrEnum)

MAX_CALENDAR_AMOUNT = 10_000


def parse_trigger(
    document: object,
    *,
    zone: str = "UTC",
    min_interval_ms: int = 1,
    now_us: int | None = None,
    pointer: str = "/trigger",
) -> Trigger:
    """The trigger that ``document`` describes; ``InvalidTrigger`` with a pointer if it doesn't describe one.

    ``zone`` is meant where the document names none. ``now_us`` anchors what has no start of its own: an
    ``interval`` without it counts from the epoch, a ``calendar`` from 1970-01-01. Give it for a new schedule, so
    that the anchor is stored with the document.
    """
    fields = _Fields(document, pointer, zone, min_interval_ms, now_us)
    kind = fields.take("type")
    parser = _PARSERS.get(kind) if isinstance(kind, str) else None
    if parser is None:
        raise InvalidTrigger(
            f"expected a trigger type ({', '.join(_PARSERS)}), got {kind!r}", pointer=f"{pointer}/type"
        )
    trigger = parser(fields)
    fields.refuse_rest()
    return trigger


@lru_cache(maxsize=4096)
def load_trigger(encoded: bytes) -> Trigger:
    """The trigger of a stored document. Equal documents share one object: triggers are values."""
    try:
        document = msgspec.json.decode(encoded)
    except msgspec.DecodeError as error:
        raise InvalidTrigger(f"the stored trigger is not JSON: {error}") from None
    return parse_trigger(document)


class _Fields:
    """The keys of a trigger document, taken one by one; what is left at the end is unknown."""

    def __init__(
        self, document: object, pointer: str, default_zone: str, min_interval_ms: int, now_us: int | None
    ) -> None:
        if not isinstance(document, dict):
            raise InvalidTrigger(f"expected an object with a type, got {_kind(document)}", pointer=pointer)
        self.rest: dict[str, Any] = dict(document)
        self.pointer = pointer
        self.min_interval_ms = min_interval_ms
        self.now_us = now_us
        self._default_zone = default_zone
        self._zone: ZoneInfo | None = None
        self._known: list[str] = []

    def fail(self, name: str, expected: str, got: object) -> InvalidTrigger:
        return InvalidTrigger(f"{name}: expected {expected}, got {got!r}", pointer=f"{self.pointer}/{name}")

    def take(self, *names: str) -> Any:
        """The value under the first of these names; saying the same thing twice is refused."""
        self._known.extend(names)
        said = [name for name in names if name in self.rest]
        if len(said) > 1:
            raise InvalidTrigger(
                f"{said[1]} is another name for {said[0]}: expected one of them", pointer=f"{self.pointer}/{said[1]}"
            )
        return self.rest.pop(said[0]) if said else None

    def name_of(self, *names: str) -> str:
        """Under which of the names it was said, for error messages."""
        return next((name for name in names if name in self.rest), names[0])

    @property
    def zone(self) -> ZoneInfo:
        if self._zone is None:
            key = self.take("timezone")
            self._zone = self._load_zone(self._default_zone if key is None else key)
        return self._zone

    def _load_zone(self, key: object) -> ZoneInfo:
        # ZoneInfo reads a file of that name: whatever is wrong with the name comes as one of these.
        if isinstance(key, str) and key:
            try:
                return ZoneInfo(key)
            except (KeyError, ValueError, OSError):
                pass
        raise self.fail("timezone", "an IANA zone such as Europe/Berlin", key)

    def moment(self, *names: str) -> int | None:
        """An ISO 8601 date and time (in the trigger's zone if it names none) or unix seconds, in microseconds."""
        name = self.name_of(*names)
        value = self.take(*names)
        if value is None:
            return None
        us: int | None = None
        if isinstance(value, str):
            us = self._moment_of_text(value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            us = round(value * 1_000_000)
        if us is None:
            raise self.fail(name, "an ISO 8601 date and time or unix seconds", value)
        if not 0 <= us <= LATEST_US:
            hint = "; unix time counts in seconds here" if isinstance(value, int | float) and value > 0 else ""
            raise self.fail(name, f"a moment between 1970 and 9999{hint}", value)
        return us

    def _moment_of_text(self, text: str) -> int | None:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            return None
        if moment.tzinfo is not None:
            return to_us(moment)
        try:
            return resolve(moment, self.zone) * 1_000_000 + moment.microsecond
        except (OverflowError, ValueError):
            return None

    def day(self, *names: str) -> date | None:
        name = self.name_of(*names)
        value = self.take(*names)
        if value is None:
            return None
        try:
            day = date.fromisoformat(value)
        except (TypeError, ValueError):
            raise self.fail(name, "a date such as 2026-12-31", value) from None
        if not 1970 <= day.year <= 9998:
            raise self.fail(name, "a date between 1970 and 9998", value)
        return day

    def whole(self, name: str, low: int, high: int) -> int | None:
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.fail(name, f"a whole number from {low} to {high}", value)
        return value

    def choice(self, name: str, choices: type[E]) -> E | None:
        value = self.take(name)
        if value is None:
            return None
        try:
            return choices(value)
        except ValueError:
            raise self.fail(name, " or ".join(choices), value) from None

    def span(self) -> Span:
        end_name = self.name_of("end", "end_time")
        span = Span(self.moment("start", "start_time"), self.moment("end", "end_time"))
        if span.start_us is not None and span.end_us is not None and span.end_us < span.start_us:
            raise InvalidTrigger(f"{end_name} lies before the start", pointer=f"{self.pointer}/{end_name}")
        return span

    def refuse_rest(self) -> None:
        if not self.rest:
            return
        unknown = sorted(map(str, self.rest))
        known = ", ".join(dict.fromkeys(self._known))
        raise InvalidTrigger(
            f"unknown key{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}; known here: {known}",
            pointer=f"{self.pointer}/{_escaped(unknown[0])}",
        )


def _escaped(name: str) -> str:
    """A key as one step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _kind(value: object) -> str:
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), type(value).__name__)


# --- one function per type -------------------------------------------------------------------------


def _date(fields: _Fields) -> Trigger:
    run_us = fields.moment("run_date", "run_time")
    # Read even if the date names its own offset, so that a wrong one is refused all the same.
    _ = fields.zone
    if run_us is None:
        raise fields.fail("run_date", "an ISO 8601 date and time or unix seconds", None)
    return DateTrigger(run_us)


def _interval(fields: _Fields) -> Trigger:
    period_us = 0
    said = False
    for unit, unit_us in UNITS_US.items():
        amount = fields.take(unit)
        if amount is None:
            continue
        said = True
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount <= LONGEST_PERIOD_US:
            raise fields.fail(unit, "a number, not negative", amount)
        period_us += round(amount * unit_us)
    if not said:
        raise InvalidTrigger(f"expected at least one of {', '.join(UNITS_US)}", pointer=fields.pointer)
    if period_us < fields.min_interval_ms * 1000:
        raise InvalidTrigger(
            f"expected an interval of at least {fields.min_interval_ms} ms, got {period_us / 1000:g} ms",
            pointer=fields.pointer,
        )
    if period_us > LONGEST_PERIOD_US:
        raise InvalidTrigger("expected an interval of less than 8,000 years", pointer=fields.pointer)
    span = fields.span()
    _ = fields.zone
    if span.start_us is None:
        span = Span(fields.now_us or 0, span.end_us)
    return IntervalTrigger(period_us, span)


def _cron(fields: _Fields) -> Trigger:
    expression = fields.take("expression")
    keywords = {name: value for name in cron.FIELDS if (value := fields.take(name)) is not None}
    if expression is not None:
        if keywords:
            name = next(iter(keywords))
            raise InvalidTrigger(
                f"expected either expression or fields, got expression and {name}", pointer=f"{fields.pointer}/{name}"
            )
        if not isinstance(expression, str):
            raise fields.fail("expression", "a cron expression", expression)
        parsed = cron.parse_expression(expression, f"{fields.pointer}/expression")
        text = " ".join(expression.split())
    elif keywords:
        parsed = cron.parse_keywords(keywords, fields.pointer)
        text = " ".join(parsed[1:] if parsed[0] == "0" else parsed)
    else:
        raise InvalidTrigger(f"expected expression or at least one of {', '.join(cron.FIELDS)}", pointer=fields.pointer)
    return CronTrigger(
        text,
        parsed,
        fields.zone,
        fields.choice("dst_gap", Gap),
        fields.choice("dst_fold", Fold),
        fields.span(),
    )


def _calendar(fields: _Fields) -> Trigger:
    amounts = {
        unit: amount for unit in calendar.UNITS if (amount := fields.whole(unit, 1, MAX_CALENDAR_AMOUNT)) is not None
    }
    if len(amounts) != 1:
        raise InvalidTrigger(
            f"expected exactly one of {', '.join(calendar.UNITS)}, got {', '.join(amounts) or 'none'}",
            pointer=fields.pointer,
        )
    ((unit, amount),) = amounts.items()
    at = _time_of_day(fields)
    zone = fields.zone
    start = fields.day("start_date")
    end = fields.day("end_date")
    if start is None:
        start = from_us(fields.now_us or 0).astimezone(zone).date()
    if end is not None and end < start:
        raise InvalidTrigger("end_date lies before the start", pointer=f"{fields.pointer}/end_date")
    gap = fields.choice("dst_gap", Gap) or Gap.SHIFT
    fold = fields.choice("dst_fold", Fold) or Fold.FIRST
    return CalendarTrigger(unit, amount, at, max(start, date(1970, 1, 1)), zone, end, gap, fold)


def _time_of_day(fields: _Fields) -> tuple[int, int, int]:
    at = fields.take("at")
    parts = [fields.whole(name, 0, high) for name, high in (("hour", 23), ("minute", 59), ("second", 59))]
    if at is None:
        hour, minute, second = (part or 0 for part in parts)
        return hour, minute, second
    if any(part is not None for part in parts):
        raise InvalidTrigger("expected either at or hour, minute, second, got both", pointer=f"{fields.pointer}/at")
    try:
        moment = time.fromisoformat(at)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is not None or moment.microsecond:
        raise fields.fail("at", "a time of day such as 09:30", at)
    return moment.hour, moment.minute, moment.second


_Parser = Callable[[_Fields], Trigger]
_PARSERS: dict[str, _Parser] = {"date": _date, "interval": _interval, "cron": _cron, "calendar": _calendar}


def preview(trigger: Trigger, after_us: int, n: int) -> list[int]:
    """The next ``n`` nominal times after ``after_us``: the same question that firing asks."""
    nominal_times: list[int] = []
    nominal_us = trigger.next_after(after_us)
    while nominal_us is not None and len(nominal_times) < n:
        nominal_times.append(nominal_us)
        nominal_us = trigger.next_after(nominal_us)
    return nominal_times


def first_fire(trigger: Trigger, now_us: int) -> int | None:
    """The first nominal time of a schedule that begins now; ``None``: it would never fire.

    Nominal times before now are not owed, except by a ``date`` that has just passed: there, catch-up decides, and
    the ledger says what became of it.
    """
    return trigger.run_us if isinstance(trigger, DateTrigger) else trigger.next_after(now_us)
