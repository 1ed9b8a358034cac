"""``cron``: Vixie's rules, parsed by cronsim, with a seconds field in front if there are six.

Day of month and day of week are alternatives if both are restricted; a field that begins with ``*`` doesn't
restrict (Debian's reading). ``L``, ``LW``, ``5L`` (last Friday) and ``MON#2`` work.

Daylight saving, also after Vixie: an expression that names its hour and its minute runs at these local times,
once a day, also on the days of the change (gap ``shift``, fold ``first``). One with ``*`` in the hour or the
minute means "all the time" and goes by real time: nothing to make up for in the gap, nothing left out in the
repeated hour (gap ``skip``, fold ``both``). ``dst_gap`` and ``dst_fold`` say otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property, lru_cache
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing.trigger import OPEN, Span, SpannedTrigger
from schedule_zero.timing.walltime import Days, Fold, Gap, Pattern, TimesOfDay, WallTimes, day_number

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
# Of the days that one rule selects; a bound, not a tuning knob.
CACHED_YEARS = 64
# Any year will do: only the parsed fields are used.
_SOME_DAY = datetime(2000, 1, 1, tzinfo=UTC)


class CronDays(Days):
    """The days that the day of month, month and day of week fields select. Shared by all triggers that say the same."""

    __slots__ = ("_years", "every_day", "rule")

    def __init__(self, day: str, month: str, day_of_week: str) -> None:
        self.rule = CronSim(f"0 0 {day} {month} {day_of_week}", _SOME_DAY)
        self.every_day = (day, month, day_of_week) == ("*", "*", "*")
        self._years: dict[int, Sequence[int]] = {}

    def of_year(self, year: int) -> Sequence[int]:
        days = self._years.get(year)
        if days is None:
            if len(self._years) >= CACHED_YEARS:
                self._years.clear()
            days = self._years[year] = self._select(year)
        return days

    def _select(self, year: int) -> Sequence[int]:
        first, after = day_number(date(year, 1, 1)), day_number(date(year + 1, 1, 1))
        if self.every_day:
            return range(first, after)
        months, matches, from_ordinal = self.rule.months, self.rule.match_day, date.fromordinal
        shift = date(year, 1, 1).toordinal() - first
        days = ((number, from_ordinal(number + shift)) for number in range(first, after))
        return [number for number, day in days if day.month in months and matches(day)]


@lru_cache(maxsize=512)
def _days(day: str, month: str, day_of_week: str) -> CronDays:
    return CronDays(day, month, day_of_week)


@dataclass(frozen=True)
class CronTrigger(SpannedTrigger):
    """The local times of a cron expression: ``expression`` as the user wrote it, ``fields`` parsed, always six."""

    type: ClassVar[str] = "cron"

    expression: str
    fields: tuple[str, str, str, str, str, str]
    zone: ZoneInfo
    # ``None``: Vixie's rule, see above.
    dst_gap: Gap | None = None
    dst_fold: Fold | None = None
    span: Span = OPEN

    @cached_property
    def times(self) -> WallTimes:
        second, minute, hour, day, month, day_of_week = self.fields
        # The three first fields parsed by cronsim, the others don't matter here.
        parsed = CronSim(f"{second} {minute} {hour} * * *", _SOME_DAY)
        by_real_time = minute.startswith("*") or hour.startswith("*")
        pattern = Pattern(
            _days(day, month, day_of_week),
            TimesOfDay(list(parsed.hours), list(parsed.minutes), list(parsed.seconds)),
        )
        return WallTimes(
            pattern,
            self.zone,
            self.dst_gap or (Gap.SKIP if by_real_time else Gap.SHIFT),
            self.dst_fold or (Fold.BOTH if by_real_time else Fold.FIRST),
        )

    def _next_after(self, us: int, upto_us: int) -> int | None:
        utc = self.times.next_after(us // 1_000_000, upto_us // 1_000_000)
        return None if utc is None else utc * 1_000_000

    def _last_before(self, us: int, from_us: int) -> int | None:
        # Rounded up: 10.5 s has 10 s before it, 10.0 s has not; and what begins at 10.5 s begins at 11 s.
        utc = self.times.last_before(-(-us // 1_000_000), -(-from_us // 1_000_000))
        return None if utc is None else utc * 1_000_000

    def _count(self, after_us: int, upto_us: int) -> int:
        return self.times.count(after_us // 1_000_000, upto_us // 1_000_000)

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"type": self.type, "expression": self.expression, "timezone": self.zone.key}
        if self.dst_gap is not None:
            document["dst_gap"] = self.dst_gap.value
        if self.dst_fold is not None:
            document["dst_fold"] = self.dst_fold.value
        return document | self.span.document()

    def words(self) -> str:
        # Only needed where a human looks, and slow to import.
        from cron_descriptor import (  # type: ignore[import-untyped]  # it has no py.typed
            FormatError,
            Options,
            get_description,
        )

        options = Options(use_24hour_time_format=True, locale_code="en_US")
        fields = self.fields[1:] if self.fields[0] == "0" else self.fields
        try:
            described = get_description(" ".join(fields), options)
        except FormatError:
            described = f"Cron {self.expression}"
        return f"{described} ({self.zone.key}){self.span.words()}"


def parse_expression(expression: str, pointer: str) -> tuple[str, str, str, str, str, str]:
    """The six fields of an expression of five or six, or of an ``@`` alias; the error names the field that is wrong."""
    text = expression.strip()
    if len(text) > MAX_EXPRESSION:
        raise InvalidTrigger(f"expected at most {MAX_EXPRESSION} characters, got {len(text)}", pointer=pointer)
    if text.startswith("@"):
        try:
            text = ALIASES[text.lower()]
        except KeyError:
            raise InvalidTrigger(
                f"expected one of {', '.join(ALIASES)} or five or six fields, got {expression!r}", pointer=pointer
            ) from None
    parts = text.upper().split()
    if len(parts) == 5:
        parts.insert(0, "0")
    if len(parts) != 6:
        raise InvalidTrigger(
            "expected 5 fields (minute hour day month day_of_week) or 6 (second first), "
            f"got {len(text.split())}: {expression!r}",
            pointer=pointer,
        )
    second, minute, hour, day, month, day_of_week = parts
    fields = (second, minute, hour, day, month, _sunday_last(day_of_week))
    _check(fields, dict.fromkeys(FIELDS, pointer))
    return fields


def parse_keywords(keywords: dict[str, Any], pointer: str) -> tuple[str, str, str, str, str, str]:
    """The six fields of the keyword form. What is left out is found as in APScheduler.

    A field below the smallest one said has its smallest value, the others are ``*``: ``hour=3`` is 03:00:00 each
    day, ``minute="*/5"`` every five minutes, ``month=2`` the 1st of February.
    """
    said = {name: _keyword(keywords[name], f"{pointer}/{name}", name) for name in FIELDS if name in keywords}
    smallest = max(_BIG_TO_SMALL.index(name) for name in said)
    filled = {name: "*" if place < smallest else _SMALLEST[name] for place, name in enumerate(_BIG_TO_SMALL)} | said
    second, minute, hour, day, month, day_of_week = (filled[name] for name in FIELDS)
    fields = (second, minute, hour, day, month, _sunday_last(day_of_week))
    _check(fields, {name: f"{pointer}/{name}" if name in said else pointer for name in FIELDS})
    return fields


def _keyword(value: object, pointer: str, name: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and len(value.split()) == 1:
        return value.strip().upper()
    raise InvalidTrigger(f"expected {FIELDS[name]}, a range, list or step of these, got {value!r}", pointer=pointer)


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


def _check(fields: tuple[str, str, str, str, str, str], pointers: dict[str, str]) -> None:
    """Each field by itself, so that the error names it; then whether the days ever come."""
    for index, (name, text) in enumerate(zip(FIELDS, fields, strict=True)):
        probe = ["*"] * len(FIELDS)
        probe[index] = text
        try:
            CronSim(" ".join(probe), _SOME_DAY)
        except CronSimError:
            raise InvalidTrigger(
                f"{name}: expected {FIELDS[name]}, a range, list or step of these, got {text!r}", pointer=pointers[name]
            ) from None
        for term in text.split(","):
            step = term.partition("/")[2]
            if step and int(step) > _LARGEST[name]:
                # cronsim and Vixie take it and match the first value only, which nobody means.
                raise InvalidTrigger(
                    f"{name}: a step of {step} is larger than the field ({FIELDS[name]})", pointer=pointers[name]
                )
    _, _, _, day, month, day_of_week = fields
    try:
        possible = _days(day, month, day_of_week).next(day_number(date(2000, 1, 1)), day_number(date(2049, 12, 31)))
    except CronSimError:
        possible = None
    if possible is None:
        raise InvalidTrigger(_why_impossible(day, month, day_of_week), pointer=pointers[DAY])


def _why_impossible(day: str, month: str, day_of_week: str) -> str:
    longest = max(_LONGEST_MONTH[number - 1] for number in CronSim(f"0 0 * {month} *", _SOME_DAY).months)
    if day.isdigit() and int(day) > longest:
        return f"this never fires: day {day} does not exist in month {month}, which has at most {longest} days"
    return f"this never fires: no day is day {day} of month {month} with day of week {day_of_week}"
