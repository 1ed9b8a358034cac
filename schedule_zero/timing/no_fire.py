"""Why a trigger has no fire after some moment, in words: its date, its end, or what its parts leave of it."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from schedule_zero.clock import from_us, rfc3339
from schedule_zero.timing.calendar import CalendarTrigger
from schedule_zero.timing.combination import Combination
from schedule_zero.timing.combined import AndTrigger, ExceptTrigger
from schedule_zero.timing.instants import DateTrigger
from schedule_zero.timing.occasions import DelayTrigger
from schedule_zero.timing.trigger import Span, SpannedTrigger, Trigger

_TOO_FAR = "the next one would lie behind the year 9998"


def next_of_new(trigger: Trigger, now_us: int) -> int | None:
    """The first nominal time after now that is known beforehand; what follows its own runs may begin right now."""
    return trigger.first_fire(now_us) if isinstance(trigger, DelayTrigger) else trigger.next_after(now_us)


def never_fires(trigger: Trigger, now_us: int) -> bool:
    """Whether nothing makes it fire after now."""
    waits = trigger.endless and not isinstance(trigger, DelayTrigger)
    return not waits and next_of_new(trigger, now_us) is None


def why_none_left(named: Trigger, now_us: int) -> str:
    """The reason why a trigger that was moved to business days has none after now; ``named`` is what the user wrote."""
    return why_no_fire(named, now_us) if never_fires(named, now_us) else "no business day is near enough"


def why_no_fire(trigger: Trigger, now_us: int) -> str:
    """The reason, of a trigger that has none after now."""
    if isinstance(trigger, DateTrigger):
        return f"its run_date, {rfc3339(trigger.run_us)}, has passed"
    if isinstance(trigger, CalendarTrigger):
        return _of_calendar(trigger, now_us)
    if isinstance(trigger, SpannedTrigger | Combination | DelayTrigger):
        reason = why_ended(trigger.span, now_us)
        if reason is not None:
            return reason
    if isinstance(trigger, Combination):
        return _of_parts(trigger, now_us)
    return _of_span(trigger.span) if isinstance(trigger, SpannedTrigger) else _TOO_FAR


def why_ended(span: Span, now_us: int) -> str | None:
    """The reason, if it is that its end has passed."""
    if span.end_us is None or span.end_us > now_us:
        return None
    return f"its end, {rfc3339(span.end_us)}, has passed"


def _of_span(span: Span) -> str:
    if span.end_us is None:
        return _TOO_FAR
    start = "" if span.start_us is None else f"between its start, {rfc3339(span.start_us)}, and "
    return f"it names no moment {start or 'up to '}its end, {rfc3339(span.end_us)}"


def _of_calendar(trigger: CalendarTrigger, now_us: int) -> str:
    if trigger.end_date is None:
        return _TOO_FAR
    today = from_us(now_us).astimezone(ZoneInfo(trigger.zone_key)).date()
    if trigger.end_date < today:
        return f"its end_date, {trigger.end_date}, has passed"
    return f"it names no moment up to its end_date, {trigger.end_date}, any more"


def _of_parts(trigger: Combination, now_us: int) -> str:
    if isinstance(trigger, ExceptTrigger):
        left = never_fires(trigger.trigger, now_us)
        return why_no_fire(trigger.trigger, now_us) if left else "the exception leaves nothing of it"
    reasons = [why_no_fire(part, now_us) for part in trigger.parts if never_fires(part, now_us)]
    if isinstance(trigger, AndTrigger):
        return reasons[0] if reasons else "its triggers have no time in common any more"
    if len(reasons) < len(trigger.parts):
        return _of_span(trigger.span)
    return "; ".join(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1))
