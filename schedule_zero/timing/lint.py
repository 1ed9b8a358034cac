"""What people get wrong about a trigger, in plain words. Nothing here is an error: the trigger does what it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from schedule_zero.clock import from_us, rfc3339
from schedule_zero.timing.calendar import CalendarTrigger
from schedule_zero.timing.combination import Combination
from schedule_zero.timing.combined import AndTrigger, ExceptTrigger
from schedule_zero.timing.cron import CronTrigger
from schedule_zero.timing.cron_text import DAY, DAY_OF_WEEK, FIELDS, HOUR, MINUTE, MONTH, SECOND
from schedule_zero.timing.hashed import field_values
from schedule_zero.timing.instants import DateTrigger, IntervalTrigger, length_words
from schedule_zero.timing.parse import preview
from schedule_zero.timing.recurring import MONTH_NAMES, MONTHS, YEARS, DayOfMonth
from schedule_zero.timing.trigger import DAY_US, LATEST_US, SECOND_US
from schedule_zero.timing.wallclock import WallClockTrigger
from schedule_zero.timing.walltime import DAY_S, DST_FOLD, DST_GAP, Fold, Gap, Stretch

if TYPE_CHECKING:
    from schedule_zero.timing.trigger import Trigger

YEAR_US = 366 * DAY_US
# Changes of the clock that are told of one trigger; two a year are usual.
MAX_SEAMS = 4
# A combination fires rarely if its members have to wait for each other more often than this.
RARELY = 50

_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# How many values begin anew with what.
_CYCLES = {SECOND: (60, "minute"), MINUTE: (60, "hour"), HOUR: (24, "day"), MONTH: (12, "year")}
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # of local times


def lint(trigger: Trigger, now_us: int) -> list[str]:
    """Warnings in the order of importance; changes of the clock are looked for in the year after ``now_us``."""
    return list(dict.fromkeys(_lint(trigger, now_us)))


def _lint(trigger: Trigger, now_us: int, *, often: bool = True) -> Iterator[str]:
    """``often``: it fires as often as it says, and is not only part of something that does."""
    if isinstance(trigger, CronTrigger):
        yield from _cron(trigger, often=often)
    elif isinstance(trigger, CalendarTrigger):
        yield from _calendar(trigger)
    elif isinstance(trigger, IntervalTrigger):
        yield from _interval(trigger, often=often)
    elif isinstance(trigger, DateTrigger):
        yield from _date(trigger)
    elif isinstance(trigger, Combination):
        yield from _combination(trigger, now_us, often=often)
    if isinstance(trigger, WallClockTrigger):
        yield from _seams(trigger, now_us)


# --- cron ------------------------------------------------------------------------------------------


def _cron(trigger: CronTrigger, *, often: bool) -> Iterator[str]:
    fields = dict(zip(FIELDS, trigger.chosen, strict=True))
    if often:
        yield from _often(fields)
    yield from _two_days(fields[DAY], fields[DAY_OF_WEEK])
    months = field_values(MONTH, fields[MONTH]) or ()
    for term in fields[DAY].split(","):
        if term.isdigit() and int(term) > 28:
            yield from _missing_day(int(term), months)
    for name, field in zip(FIELDS, trigger.fields, strict=True):
        terms = field.split(",")
        if len(terms) > 1 and "*" in terms:
            yield f"{field} in the {name} field is every value of it, as * alone is"
        for term in terms:
            yield from _uneven(name, term)


def _often(fields: dict[str, str]) -> Iterator[str]:
    second, minute, hour = fields[SECOND], fields[MINUTE], fields[HOUR]
    every_day = {fields[DAY], fields[MONTH], fields[DAY_OF_WEEK]} <= {"*", "*/1"}
    days = "" if every_day else " of the days that match"
    if second in {"*", "*/1"}:
        if minute not in {"*", "*/1"}:
            yield f"* in the second field: it fires 60 times in each minute that matches {minute}; 0 is once"
        elif hour in {"*", "*/1"}:
            yield f"it fires every second{days}"
        else:
            yield f"* in the second and minute fields: it fires 3600 times in each hour that matches {hour}"
    elif second.isdigit() and minute in {"*", "*/1"}:
        if hour in {"*", "*/1"}:
            yield f"it fires every minute{days}"
        else:
            yield f"* in the minute field: it fires 60 times in each hour that matches {hour}; 0 is once, on the hour"


def _two_days(day: str, day_of_week: str) -> Iterator[str]:
    both = f"day {day} and day of week {day_of_week}"
    if not day.startswith("*") and not day_of_week.startswith("*"):
        yield (
            f"{both} are alternatives: it fires on each day that is one of them, not only where both agree; for those, "
            "use a calendar trigger or and"
        )
    elif _begins_with_star(day, day_of_week) or _begins_with_star(day_of_week, day):
        yield (
            f"{both} have to match both, because one of them begins with *; for each day that is one of them, use or"
        )


def _begins_with_star(field: str, other: str) -> bool:
    """Whether a field begins with a star, but leaves days out, as the other one does."""
    leaves_out = [not {"*", "*/1"}.intersection(text.split(",")) for text in (field, other)]
    return field.startswith("*") and all(leaves_out)


def _missing_day(day: int, months: Sequence[int]) -> Iterator[str]:
    without = [MONTH_NAMES[month - 1] for month in months if _MONTH_DAYS[month - 1] < day]
    if day == 29 and 2 in months:
        without = ["February in years that are no leap years"]
    if without:
        yield f"day {day} leaves out {', '.join(without)}; L is the last day of every month"


def _uneven(name: str, term: str) -> Iterator[str]:
    span, slash, step_text = term.partition("/")
    if not slash or not step_text.isdigit() or int(step_text) < 2 or span not in {"*", "H"}:
        return
    step = int(step_text)
    if name in _CYCLES:
        size, cycle = _CYCLES[name]
        if size % step:
            values = range(0, size, step)
            last = size - values[-1]
            yield (
                f"{term} in the {name} field begins anew with each {cycle}: the last distance is {last}, not {step}; "
                f"an interval trigger keeps it"
            )
    elif name == DAY:
        yield f"{term} in the day field begins anew with each month, so that the distance at its end is another one"
    elif name == DAY_OF_WEEK and 7 % step:
        yield f"{term} in the day_of_week field begins anew with each week, on Sunday"


# --- the others ------------------------------------------------------------------------------------


def _interval(trigger: IntervalTrigger, *, often: bool) -> Iterator[str]:
    if often and trigger.period_us < SECOND_US:
        yield f"it fires {SECOND_US / trigger.period_us:g} times a second"
    if trigger.period_us % DAY_US == 0:
        yield (
            f"every {length_words(trigger.period_us)} counts real time: where the clock is changed, the local time of "
            "day moves with it; a calendar trigger keeps the local time"
        )


def _date(trigger: DateTrigger) -> Iterator[str]:
    if trigger.wall is None:
        return
    said = f"{trigger.wall:%Y-%m-%d} {trigger.wall:%H:%M:%S}".removesuffix(":00")
    fires = from_us(trigger.run_us).astimezone(trigger.zone).isoformat(sep=" ")
    if DST_GAP in trigger.marks(trigger.run_us):
        yield f"{said} does not exist in {trigger.zone_key}: it fires at {fires}, the first moment after the change"
    elif DST_FOLD in trigger.marks(trigger.run_us):
        yield f"{said} comes twice in {trigger.zone_key}: it fires at the first of them, {fires}; an offset says which"


def _calendar(trigger: CalendarTrigger) -> Iterator[str]:
    if trigger.unit not in {MONTHS, YEARS}:
        return
    rules = [day for day in trigger.on if isinstance(day, DayOfMonth)]
    for rule in rules or [DayOfMonth(trigger.start_date.day, "day")]:
        if rule.what == "day" and rule.nth > 28:
            if trigger.unit == YEARS:
                if (trigger.month or trigger.start_date.month) == 2:
                    yield "29 February leaves out the years that are no leap years"
                continue
            yield f'months without a day {rule.nth} are left out; "last day" is one of every month'
        elif rule.what not in {"day", "weekday"} and rule.nth == 5:
            yield f'months without a {rule} are left out; "last {rule.what}" is one of every month'
        elif rule.what == "weekday" and rule.nth > 20:
            yield f"months without a {rule} are left out"


def _combination(trigger: Combination, now_us: int, *, often: bool) -> Iterator[str]:
    parts = [part.document() for part in trigger.parts]
    if not isinstance(trigger, ExceptTrigger) and any(part in parts[:index] for index, part in enumerate(parts)):
        yield f"a trigger stands in {trigger.document()['type']} twice, which changes nothing"
    if isinstance(trigger, AndTrigger):
        yield from _rarely(trigger, now_us)
    if isinstance(trigger, ExceptTrigger) and trigger.left_out.next_after(now_us) is None:
        yield (
            "the exception leaves nothing out: it names no moment at which the trigger fires, to the microsecond; "
            "for a stretch of time, let it name every minute or second of it, or use a calendar with a blackout"
        )
    if isinstance(trigger, ExceptTrigger):
        yield from _lint(trigger.trigger, now_us, often=often)
        yield from (f"in the exception: {said}" for said in _lint(trigger.removed, now_us, often=False))
        return
    for part in trigger.parts:
        yield from _lint(part, now_us, often=often and not isinstance(trigger, AndTrigger))


def _rarely(trigger: AndTrigger, now_us: int) -> Iterator[str]:
    fires = preview(trigger, now_us, 2)
    if not fires:
        yield "its triggers do not meet any more"
        return
    rarest = min(trigger.members, key=lambda member: member.per_day)
    until_us = fires[1] if len(fires) > 1 else now_us + YEAR_US
    from_us = fires[0] if len(fires) > 1 else now_us
    alone = sum(1 for _ in islice(_times(rarest, from_us, until_us), RARELY + 1))
    if alone > RARELY:
        then = f", then at {rfc3339(fires[1])}" if len(fires) > 1 else ""
        yield (
            f"its triggers meet rarely: next at {rfc3339(fires[0])}{then}; moments have to be equal to the microsecond"
        )


def _times(trigger: Trigger, after_us: int, upto_us: int) -> Iterator[int]:
    us = trigger.next_after(after_us)
    while us is not None and us <= upto_us:
        yield us
        us = trigger.next_after(us)


# --- changes of the clock --------------------------------------------------------------------------


def _seams(trigger: WallClockTrigger, now_us: int) -> Iterator[str]:
    """What happens in the hours that the clock jumps over or repeats, in the year after now."""
    times = trigger.times
    if len(times.pattern.times.hours) == 24:
        # It goes by real time, and nobody will miss a local one.
        return
    after, upto = now_us // SECOND_US, min(now_us + YEAR_US, LATEST_US) // SECOND_US
    told = [line for stretch in times.gaps(after, upto) if (line := _gap(trigger, stretch)) is not None]
    told += [line for stretch in times.folds(after, upto) if (line := _fold(trigger, stretch)) is not None]
    yield from told[:MAX_SEAMS]


def _gap(trigger: WallClockTrigger, stretch: Stretch) -> str | None:
    times = trigger.times
    gap_start, gap_end = stretch.gap
    local = times.pattern.next(gap_start, gap_end)
    if local is None:
        return None
    # Some zones have left out whole days.
    end = _clock(gap_end) if gap_end // DAY_S == gap_start // DAY_S else _local(gap_end)
    jump = f"the clock in {trigger.zone_key} jumps from {_local(gap_start)} to {end}"
    if times.gap is Gap.SKIP:
        does = "it does not fire for it (dst_gap: skip)"
    elif trigger.times.pattern.next(gap_end, gap_end + 1) is not None:
        does = f"it fires at {end} only, which it names as well"
    else:
        does = f"it fires at {end} instead (dst_gap: shift)"
    return f"{jump}: {_clock(local)} does not exist, {does}"


def _fold(trigger: WallClockTrigger, stretch: Stretch) -> str | None:
    times = trigger.times
    local = times.pattern.next(stretch.start + stretch.offset, stretch.start + stretch.before)
    if local is None:
        return None
    back = f"the clock in {trigger.zone_key} is set back"
    does = {
        Fold.FIRST: "it fires at the first of them (dst_fold: first)",
        Fold.SECOND: "it fires at the second of them (dst_fold: second)",
        Fold.BOTH: "it fires at both (dst_fold: both)",
    }
    return f"{back} from {_local(stretch.start + stretch.before)}: {_clock(local)} comes twice, {does[times.fold]}"


def _local(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M")


def _clock(seconds: int) -> str:
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%H:%M:%S")
    return text.removesuffix(":00")
