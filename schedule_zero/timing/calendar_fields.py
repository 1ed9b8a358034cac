"""The fields of a ``calendar`` trigger."""

from __future__ import annotations

import re
from datetime import date

from schedule_zero.clock import from_us
from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing.calendar import CalendarTrigger
from schedule_zero.timing.fields import Fields
from schedule_zero.timing.recurring import (
    COUNTED,
    DAYS,
    MONTH_NAMES,
    MONTHS,
    ORDINALS,
    UNITS,
    WEEKS,
    YEARS,
    DayOfMonth,
    Weekday,
    ordinal,
)
from schedule_zero.timing.trigger import Trigger
from schedule_zero.timing.walltime import LAST_YEAR, Fold, Gap

MAX_AMOUNT = 10_000
_WEEKDAYS = {day.name: day for day in Weekday} | {day.full_name.upper(): day for day in Weekday}
_MONTHS = {name.upper(): number for number, name in enumerate(MONTH_NAMES, start=1)}
_MONTHS |= {name[:3]: number for name, number in list(_MONTHS.items())}
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")
_ON_MONTH = '"last friday", "2nd tuesday", "15th day", "last day" or "1st weekday"'


def calendar_trigger(fields: Fields) -> Trigger:
    amounts = {unit: amount for unit in UNITS if (amount := fields.whole(unit, 1, MAX_AMOUNT)) is not None}
    if len(amounts) != 1:
        raise InvalidTrigger(
            f"expected exactly one of {', '.join(UNITS)}, got {', '.join(amounts) or 'none'}",
            pointer=fields.pointer,
        )
    ((unit, amount),) = amounts.items()
    at = _time_of_day(fields)
    zone = fields.zone
    start = fields.day("start_date")
    end = None if fields.is_for_ever("end_date") else fields.day("end_date")
    unsaid = start is None
    if start is None:
        start = from_us(fields.around.now_us or 0).astimezone(zone).date()
    start = max(start, date(1970, 1, 1))
    if end is not None and end < start:
        first = f"today, {start}, on, as there is no start_date" if unsaid else f"the start_date, {start}, on"
        raise InvalidTrigger(f"end_date: expected a day from {first}, got {end}", pointer=f"{fields.pointer}/end_date")
    month = _month(fields, unit)
    on = _on(fields, unit)
    if unit == YEARS and (on or month is not None):
        # Whichever was said, the document says both.
        month = month or start.month
        on = on or (DayOfMonth(start.day, "day"),)
    trigger = CalendarTrigger(
        unit,
        amount,
        at,
        start,
        zone,
        end,
        on,
        month,
        fields.choice("dst_gap", Gap) or Gap.SHIFT,
        fields.choice("dst_fold", Fold) or Fold.FIRST,
    )
    if on:
        _refuse_impossible(fields, trigger)
    return trigger


def _time_of_day(fields: Fields) -> tuple[int, int, int]:
    at = fields.take("at")
    parts = [fields.whole(name, 0, high) for name, high in (("hour", 23), ("minute", 59), ("second", 59))]
    if at is None:
        hour, minute, second = (part or 0 for part in parts)
        return hour, minute, second
    if any(part is not None for part in parts):
        raise InvalidTrigger("expected either at or hour, minute, second, got both", pointer=f"{fields.pointer}/at")
    found = _CLOCK.fullmatch(at) if isinstance(at, str) else None
    hour, minute, second = map(int, found.groups("0")) if found is not None else (24, 0, 0)
    if hour > 23 or minute > 59 or second > 59:
        raise fields.fail("at", "a time of day such as 09:30 or 09:30:15", at)
    return hour, minute, second


def _month(fields: Fields, unit: str) -> int | None:
    value = fields.take("month")
    if value is None:
        return None
    if unit != YEARS:
        raise InvalidTrigger(f"month goes with years, not with {unit}", pointer=f"{fields.pointer}/month")
    if isinstance(value, str) and value.upper() in _MONTHS:
        return _MONTHS[value.upper()]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 12:
        raise fields.fail("month", "1 to 12 or the name of a month", value)
    return value


def _on(fields: Fields, unit: str) -> tuple[Weekday, ...] | tuple[DayOfMonth, ...]:
    value = fields.take("on")
    if value is None:
        return ()
    if unit == DAYS:
        raise InvalidTrigger("on goes with weeks, months or years, not with days", pointer=f"{fields.pointer}/on")
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise fields.fail("on", "at least one day", value)
    if unit == WEEKS:
        return tuple(sorted({_weekday(fields, text) for text in texts}))
    days = {_day_of_month(fields, text) for text in texts}
    # The last ones last, and of one number in the order of the week.
    return tuple(sorted(days, key=lambda day: (day.nth % 100, list(COUNTED).index(day.what))))


def _weekday(fields: Fields, text: object) -> Weekday:
    if isinstance(text, str) and text.upper() in _WEEKDAYS:
        return _WEEKDAYS[text.upper()]
    if isinstance(text, str) and len(text.split()) > 1:
        raise fields.fail("on", "weekdays such as MON (one of a month goes with months or years)", text)
    raise fields.fail("on", "weekdays such as MON or monday", text)


def _day_of_month(fields: Fields, text: object) -> DayOfMonth:
    words = text.lower().split() if isinstance(text, str) else []
    if len(words) != 2:
        raise fields.fail("on", _ON_MONTH, text)
    if words[1].upper() in _WEEKDAYS:
        words[1] = _WEEKDAYS[words[1].upper()].full_name.lower()
    nth, counted = ORDINALS.get(words[0]), COUNTED.get(words[1])
    if nth is None or counted is None:
        raise fields.fail("on", _ON_MONTH, text)
    if nth > counted[1]:
        what = f"{ordinal(nth)} {words[1]}"
        raise InvalidTrigger(
            f"on: no month has a {what}, at most a {ordinal(counted[1])}", pointer=f"{fields.pointer}/on"
        )
    return DayOfMonth(nth, words[1])


def _refuse_impossible(fields: Fields, trigger: CalendarTrigger) -> None:
    if trigger.next_after(-1) is not None:
        return
    days = " or ".join(day.full_name if isinstance(day, Weekday) else str(day) for day in trigger.on)
    if trigger.end_date is not None:
        why = f"{days} does not come between {trigger.start_date} and {trigger.end_date}"
    elif trigger.unit == MONTHS or trigger.month is None:
        why = f"none of its months has a {days}"
    else:
        why = f"{MONTH_NAMES[trigger.month - 1]} has no {days} in any of its years up to {LAST_YEAR}"
    raise InvalidTrigger(f"this never fires: {why}", pointer=f"{fields.pointer}/on")
