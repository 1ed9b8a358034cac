"""From a trigger as the API takes it to a trigger: validated field by field, unknown keys refused by name.

The names of the earlier ScheduleZero and of APScheduler (``run_date``, ``start_time``, ``end_time``,
``timezone``, the keyword form of cron) are understood; ``Trigger.document`` says it in one way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import msgspec

from schedule_zero.clock import rfc3339
from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing import cron_text
from schedule_zero.timing.calendar_fields import calendar_trigger
from schedule_zero.timing.combination import MAX_DEPTH, MAX_LEAVES, SEARCH_STEPS, SEARCH_YEARS, Combination
from schedule_zero.timing.combined import AndTrigger, ExceptTrigger, OrTrigger
from schedule_zero.timing.cron import CronTrigger
from schedule_zero.timing.fields import Around, Fields, is_number, kind_of, shown
from schedule_zero.timing.hashed import is_hashed
from schedule_zero.timing.instants import LONGEST_PERIOD_US, UNITS_US, DateTrigger, IntervalTrigger
from schedule_zero.timing.no_fire import why_ended
from schedule_zero.timing.occasions import DelayTrigger, ManualTrigger, StartupTrigger
from schedule_zero.timing.recurring import UNITS
from schedule_zero.timing.spacing import refuse_too_close
from schedule_zero.timing.trigger import LATEST_US, LATEST_WORDS, Span, Trigger
from schedule_zero.timing.walltime import Fold, Gap


def parse_trigger(
    document: object,
    *,
    zone: str = "UTC",
    min_interval_ms: int = 1,
    now_us: int | None = None,
    seed: str | None = None,
    pointer: str = "/trigger",
) -> Trigger:
    """The trigger that ``document`` describes; ``InvalidTrigger`` with a pointer if it doesn't describe one.

    A list stands for several triggers, each of which fires (``or``). ``zone`` is meant where the document names none,
    ``seed`` is what ``H`` in cron depends on: the schedule's id. ``now_us`` anchors what has no start of its own: an
    ``interval`` without it counts from the epoch, a ``calendar`` from 1970-01-01. Give it for a new schedule, so
    that the anchor is stored with the document; a combination without a fire after it is refused then, and what
    fires more often than every ``min_interval_ms``.
    """
    trigger = _parse(document, pointer, Around(zone, min_interval_ms, now_us, seed))
    if now_us is not None:
        refuse_too_close(trigger, now_us, min_interval_ms, pointer)
    return trigger


@lru_cache(maxsize=4096)
def load_trigger(encoded: bytes) -> Trigger:
    """The trigger of a stored document. Equal documents share one object: triggers are values."""
    try:
        document = msgspec.json.decode(encoded)
    except msgspec.DecodeError as error:
        raise InvalidTrigger(f"the stored trigger is not JSON: {error}") from None
    return parse_trigger(document)


def _parse(document: object, pointer: str, around: Around) -> Trigger:
    if isinstance(document, list):
        return _list(document, pointer, around)
    fields = Fields(document, pointer, around)
    kind = fields.take("type")
    if not isinstance(kind, str) or kind not in _PARSERS:
        raise InvalidTrigger(
            f"expected a trigger type ({', '.join(_PARSERS)}), got {shown(kind)}", pointer=f"{pointer}/type"
        )
    if kind in _COMBINATIONS:
        _refuse_too_deep(pointer, around)
    else:
        around.leaves.count += 1
        if around.leaves.count > MAX_LEAVES:
            raise InvalidTrigger(f"expected at most {MAX_LEAVES} triggers in a combination", pointer=pointer)
    fields.refuse_unknown(_KEYS[kind])
    return _PARSERS[kind](fields)


# --- one function per type -------------------------------------------------------------------------


def _date(fields: Fields) -> Trigger:
    wall = fields.wall("run_date", "run_time")
    run_us = fields.moment("run_date", "run_time")
    if run_us is None:
        raise fields.fail("run_date", "an ISO 8601 date and time, unix seconds, or +2h from now", None)
    return DateTrigger(run_us, fields.zone, wall)


def _interval(fields: Fields) -> Trigger:
    period_us = 0
    said = False
    for unit, unit_us in UNITS_US.items():
        amount = fields.take(unit)
        if amount is None:
            continue
        said = True
        if not is_number(amount) or not 0 <= amount <= LONGEST_PERIOD_US / unit_us:
            raise fields.fail(unit, f"a number from 0 to {LONGEST_PERIOD_US // unit_us} (8,000 years)", amount)
        period_us += round(amount * unit_us)
    if not said:
        raise InvalidTrigger(f"expected at least one of {', '.join(UNITS_US)}", pointer=fields.pointer)
    min_interval_ms = fields.around.min_interval_ms
    if period_us < min_interval_ms * 1000:
        raise InvalidTrigger(
            f"expected an interval of at least {min_interval_ms} ms, got {period_us / 1000:g} ms",
            pointer=fields.pointer,
        )
    if period_us > LONGEST_PERIOD_US:
        raise InvalidTrigger("expected an interval of at most 8,000 years", pointer=fields.pointer)
    anchor = fields.take("anchor")
    if anchor not in (None, "start", "end"):
        raise fields.fail("anchor", "start or end", anchor)
    span = fields.span()
    _ = fields.zone
    if anchor == "end":
        return _delay(fields, period_us, span)
    if span.start_us is None:
        span = Span(fields.around.now_us or 0, span.end_us)
    return IntervalTrigger(period_us, span)


def _delay(fields: Fields, delay_us: int, span: Span) -> Trigger:
    _refuse_inside(fields, f"{fields.pointer}/anchor", "an interval with anchor end follows its own runs")
    if span.start_us is None:
        span = Span((fields.around.now_us or 0) + delay_us, span.end_us)
        if span.start_us is not None and span.start_us > LATEST_US:
            raise InvalidTrigger(f"its first run: expected {LATEST_WORDS}", pointer=fields.pointer)
        if span.end_us is not None and span.start_us is not None and span.end_us < span.start_us:
            raise InvalidTrigger(
                f"end lies before the first run, at {rfc3339(span.start_us)}", pointer=f"{fields.pointer}/end"
            )
    return DelayTrigger(delay_us, span)


def _cron(fields: Fields) -> Trigger:
    expression = fields.take("expression")
    keywords = {name: value for name in cron_text.FIELDS if (value := fields.take(name)) is not None}
    seed = fields.seed()
    if expression is not None:
        if keywords:
            name = next(iter(keywords))
            raise InvalidTrigger(
                f"expected either expression or fields, got expression and {name}", pointer=f"{fields.pointer}/{name}"
            )
        if not isinstance(expression, str):
            raise fields.fail("expression", "a cron expression", expression)
        parsed = cron_text.parse_expression(expression, seed, f"{fields.pointer}/expression")
        text = " ".join(expression.split())
    elif keywords:
        parsed = cron_text.parse_keywords(keywords, seed, fields.pointer)
        text = " ".join(parsed[1:] if parsed[0] == "0" else parsed)
    else:
        raise InvalidTrigger(
            f"expected expression or at least one of {', '.join(cron_text.FIELDS)}", pointer=fields.pointer
        )
    return CronTrigger(
        text,
        parsed,
        fields.zone,
        fields.choice("dst_gap", Gap),
        fields.choice("dst_fold", Fold),
        fields.span(),
        seed if any(map(is_hashed, parsed)) else None,
    )


def _startup(fields: Fields) -> Trigger:
    outside = sorted(set(fields.around.inside) - {OrTrigger.type})
    if outside:
        raise InvalidTrigger(
            f"startup stands alone, in a list or in or: expected no {outside[0]} around it", pointer=fields.pointer
        )
    return StartupTrigger()


def _manual(fields: Fields) -> Trigger:
    _refuse_inside(fields, fields.pointer, "manual never fires")
    return ManualTrigger()


def _refuse_inside(fields: Fields, pointer: str, why: str) -> None:
    if fields.around.inside:
        raise InvalidTrigger(f"{why}: expected it alone, not in {fields.around.inside[-1]}", pointer=pointer)


# --- combinations ----------------------------------------------------------------------------------


def _list(documents: list[Any], pointer: str, around: Around) -> Trigger:
    if not documents:
        raise InvalidTrigger("expected at least one trigger, got an empty list", pointer=pointer)
    if len(documents) == 1:
        return _parse(documents[0], f"{pointer}/0", around)
    _refuse_too_deep(pointer, around)
    return OrTrigger(_parts(documents, pointer, replace(around, inside=(*around.inside, OrTrigger.type))))


def _refuse_too_deep(pointer: str, around: Around) -> None:
    if len(around.inside) >= MAX_DEPTH:
        raise InvalidTrigger(f"expected at most {MAX_DEPTH} combinations in one another", pointer=pointer)


def _parts(documents: list[Any], pointer: str, around: Around) -> tuple[Trigger, ...]:
    return tuple(_parse(document, f"{pointer}/{index}", around) for index, document in enumerate(documents))


def _members(fields: Fields, kind: str) -> tuple[Trigger, ...]:
    documents = fields.take("triggers")
    pointer = f"{fields.pointer}/triggers"
    if not isinstance(documents, list) or len(documents) < 2:
        got = f"{len(documents)} of them" if isinstance(documents, list) else kind_of(documents)
        raise InvalidTrigger(f"triggers: expected a list of two or more, got {got}", pointer=pointer)
    return _parts(documents, pointer, fields.within(kind))


def _or(fields: Fields) -> Trigger:
    return OrTrigger(_members(fields, OrTrigger.type), fields.span())


def _and(fields: Fields) -> Trigger:
    trigger = AndTrigger(_members(fields, AndTrigger.type), fields.span())
    if trigger.never:
        raise InvalidTrigger(
            "this never fires: the intervals in it never meet, because of where they start", pointer=fields.pointer
        )
    return _with_a_fire(fields, trigger, "its triggers have no time in common")


def _except(fields: Fields) -> Trigger:
    parts = []
    for name in ("trigger", "except"):
        document = fields.take(name)
        if document is None:
            raise InvalidTrigger(f"{name}: expected a trigger, got null", pointer=f"{fields.pointer}/{name}")
        parts.append(_parse(document, f"{fields.pointer}/{name}", fields.within(ExceptTrigger.type)))
    trigger = ExceptTrigger(parts[0], parts[1], fields.span())
    return _with_a_fire(fields, trigger, "the exception leaves nothing of it")


def _with_a_fire(fields: Fields, trigger: Combination, why: str) -> Trigger:
    now_us = fields.around.now_us
    if now_us is not None and trigger.next_after(now_us - 1) is None:
        ended = why_ended(trigger.span, now_us)
        if ended is not None:
            raise InvalidTrigger(f"this never fires: {ended}", pointer=fields.pointer)
        raise InvalidTrigger(
            f"this never fires: {why} (looked for in {SEARCH_STEPS:,} steps and {SEARCH_YEARS} years after "
            f"{rfc3339(now_us)})",
            pointer=fields.pointer,
        )
    return trigger


_COMBINATIONS: dict[str, Callable[[Fields], Trigger]] = {"or": _or, "and": _and, "except": _except}
_PARSERS: dict[str, Callable[[Fields], Trigger]] = {
    "date": _date,
    "interval": _interval,
    "cron": _cron,
    "calendar": calendar_trigger,
    **_COMBINATIONS,
    "startup": _startup,
    "manual": _manual,
}
_SPAN = ("start", "end", "start_time", "end_time")
_GAP_AND_FOLD = ("dst_gap", "dst_fold")
# Beside ``type``; each parser takes all of its own.
_KEYS: dict[str, tuple[str, ...]] = {
    "date": ("run_date", "run_time", "timezone"),
    "interval": (*UNITS_US, "anchor", *_SPAN, "timezone"),
    "cron": ("expression", *cron_text.FIELDS, "timezone", *_GAP_AND_FOLD, "seed", *_SPAN),
    "calendar": (
        *(*UNITS, "on", "month", "at", "hour", "minute", "second", "start_date", "end_date", "timezone"),
        *_GAP_AND_FOLD,
    ),
    "or": ("triggers", "timezone", *_SPAN),
    "and": ("triggers", "timezone", *_SPAN),
    "except": ("trigger", "except", "timezone", *_SPAN),
    "startup": (),
    "manual": (),
}


# --- asking ----------------------------------------------------------------------------------------


def preview(trigger: Trigger, after_us: int, n: int) -> list[int]:
    """The next ``n`` nominal times after ``after_us``: the same question that firing asks."""
    nominal_times: list[int] = []
    nominal_us = trigger.next_after(after_us)
    while nominal_us is not None and len(nominal_times) < n:
        nominal_times.append(nominal_us)
        nominal_us = trigger.next_after(nominal_us)
    return nominal_times


def first_fire(trigger: Trigger, now_us: int) -> int | None:
    """The first nominal time of a schedule that begins now.

    ``None``: it would never fire, or (``endless``) what it waits for has not happened yet. Nominal times before now
    are not owed, except by a ``date`` that has just passed: there, catch-up decides, and the ledger says what became
    of it. What follows its own runs has to begin somewhere: if its start has passed, now.
    """
    if isinstance(trigger, DateTrigger):
        return trigger.run_us
    if isinstance(trigger, DelayTrigger):
        return trigger.first_fire(now_us)
    return trigger.next_after(now_us)
