"""From a cron expression, or its keyword form, to six checked fields; the error names the field that is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import Any

from cronsim import CronSim, CronSimError

from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing.cron import Fields, cron_days
from schedule_zero.timing.fields import shown
from schedule_zero.timing.hashed import SOME_DAY, chosen, is_hashed
from schedule_zero.timing.walltime import day_number

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

# In the order of the six-field form: the name in the keyword form, and what may stand there.
FIELDS: dict[str, str] = {
    "second": "0–59",
    "minute": "0–59",
    "hour": "0–23",
    "day": "1–31, L or LW",
    "month": "1–12 or JAN–DEC",
    "day_of_week": "0–7 or SUN–SAT, MON#2, FRI or 5L",
}
SECOND, MINUTE, HOUR, DAY, MONTH, DAY_OF_WEEK = FIELDS
_BIG_TO_SMALL = (MONTH, DAY, DAY_OF_WEEK, HOUR, MINUTE, SECOND)
_SMALLEST = {MONTH: "1", DAY: "1", DAY_OF_WEEK: "*", HOUR: "0", MINUTE: "0", SECOND: "0"}
_LARGEST = {MONTH: 12, DAY: 31, DAY_OF_WEEK: 7, HOUR: 23, MINUTE: 59, SECOND: 59}
MAX_EXPRESSION = 500
_LONGEST_MONTH = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
# Within these years every rule that has a day at all has one.
_SEARCH_FROM, _SEARCH_UPTO = day_number(date(2000, 1, 1)), day_number(date(2049, 12, 31))


def parse_expression(expression: str, seed: str | None, pointer: str) -> Fields:
    """The six fields of an expression of five or six, or of an ``@`` alias."""
    text = expression.strip()
    if len(text) > MAX_EXPRESSION:
        raise InvalidTrigger(f"expected at most {MAX_EXPRESSION} characters, got {len(text)}", pointer=pointer)
    if text.startswith("@"):
        if text.lower() == "@reboot":
            raise InvalidTrigger('@reboot: expected {"type": "startup"} for a start of the server', pointer=pointer)
        try:
            text = ALIASES[text.lower()]
        except KeyError:
            raise InvalidTrigger(
                f"expected one of {', '.join(ALIASES)} or five or six fields, got {expression!r}", pointer=pointer
            ) from None
    typed = text.split()
    if len(typed) == 5:
        typed.insert(0, "0")
    if len(typed) != 6:
        raise InvalidTrigger(
            "expected 5 fields (minute hour day month day_of_week) or 6 (second first), "
            f"got {len(text.split())}: {expression!r}",
            pointer=pointer,
        )
    return _checked(typed, seed, dict.fromkeys(FIELDS, pointer))


def parse_keywords(keywords: dict[str, Any], seed: str | None, pointer: str) -> Fields:
    """The six fields of the keyword form. What is left out is found as in APScheduler.

    A field below the smallest one said has its smallest value, the others are ``*``: ``hour=3`` is 03:00:00 each
    day, ``minute="*/5"`` every five minutes, ``month=2`` the 1st of February.
    """
    said = {name: _keyword(keywords[name], f"{pointer}/{name}", name) for name in FIELDS if name in keywords}
    smallest = max(_BIG_TO_SMALL.index(name) for name in said)
    filled = {name: "*" if place < smallest else _SMALLEST[name] for place, name in enumerate(_BIG_TO_SMALL)} | said
    pointers = {name: f"{pointer}/{name}" if name in said else pointer for name in FIELDS}
    return _checked([filled[name] for name in FIELDS], seed, pointers)


def _keyword(value: object, pointer: str, name: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and len(value.split()) == 1:
        return value.strip()
    raise InvalidTrigger(
        f"expected {FIELDS[name]}, a range, list or step of these, got {shown(value)}", pointer=pointer
    )


def _sunday_last(day_of_week: str) -> str:
    """``FRI-SUN`` and ``5-0`` mean what they say: as the end of a range Sunday is 7."""
    terms = []
    for term in day_of_week.split(","):
        span, slash, step = term.partition("/")
        start, dash, end = span.partition("-")
        if dash and start not in {"SUN", "0"} and end in {"SUN", "0"}:
            span = f"{start}-7"
        terms.append(span + slash + step)
    return ",".join(terms)


def _checked(typed: Sequence[str], seed: str | None, pointers: dict[str, str]) -> Fields:
    """The six fields in capitals. Each is checked by itself, so that the error names it; then, whether the days come.

    Errors show a field as it was typed.
    """
    second, minute, hour, day, month, day_of_week = (text.upper() for text in typed)
    fields = (second, minute, hour, day, month, _sunday_last(day_of_week))
    plain = [
        _without_h(name, field, text, seed, pointers[name])
        for name, field, text in zip(FIELDS, fields, typed, strict=True)
    ]
    _, _, _, day, month, day_of_week = plain
    try:
        possible = cron_days(day, month, day_of_week).next(_SEARCH_FROM, _SEARCH_UPTO)
    except CronSimError:
        possible = None
    if possible is None:
        said = [plain[place] if is_hashed(fields[place]) else text for place, text in enumerate(typed)]
        raise InvalidTrigger(_why_impossible(month, said), pointer=pointers[DAY])
    return fields


def _without_h(name: str, field: str, typed: str, seed: str | None, pointer: str) -> str:
    """One field as cronsim takes it, with numbers in place of each ``H``."""
    plain = field
    if is_hashed(field):
        if seed is None:
            raise InvalidTrigger(
                f"{name}: H needs a seed to choose by: expected a schedule's id, or seed in the trigger",
                pointer=pointer,
            )
        try:
            plain = chosen(name, field, seed)
        except ValueError as error:
            raise InvalidTrigger(f"{name}: {error}", pointer=pointer) from None
    if not _readable(name, plain):
        raise InvalidTrigger(
            f"{name}: expected {FIELDS[name]}, a range, list or step of these, got {shown(typed)}", pointer=pointer
        )
    for term in plain.split(","):
        span, _, step = term.partition("/")
        if step and span in {"L", "LW"}:
            # cronsim takes it and leaves the step out.
            raise InvalidTrigger(f"{name}: {span} is one day: expected no step, got {shown(typed)}", pointer=pointer)
        if step and int(step) > _LARGEST[name]:
            # cronsim and Vixie take it and match the first value only, which nobody means.
            raise InvalidTrigger(f"{name}: a step of {step} is larger than the field ({FIELDS[name]})", pointer=pointer)
    return plain


@lru_cache(maxsize=4096)
def _readable(name: str, field: str) -> bool:
    """Whether cronsim takes it. Most fields of most schedules say the same few things."""
    probe = ["*"] * len(FIELDS)
    probe[list(FIELDS).index(name)] = field
    try:
        CronSim(" ".join(probe), SOME_DAY)
    except CronSimError:
        return False
    return True


def _why_impossible(plain_month: str, said: Sequence[str]) -> str:
    _, _, _, day, month, day_of_week = said
    longest = max(_LONGEST_MONTH[number - 1] for number in CronSim(f"0 0 * {plain_month} *", SOME_DAY).months)
    if day.isdigit() and int(day) > longest:
        return f"this never fires: day {day} does not exist in month {month}, which has at most {longest} days"
    return f"this never fires: no day is day {day} of month {month} with day of week {day_of_week}"
