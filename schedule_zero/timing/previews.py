"""A trigger looked at before it is used: its words, its next times with what is special about each, and its traps.

The times are those of firing: the same object answers both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from msgspec import Struct

from schedule_zero.clock import from_us, rfc3339
from schedule_zero.timing.lint import lint
from schedule_zero.timing.no_fire import never_fires, next_of_new, why_none_left
from schedule_zero.timing.seams import skipped_by_gap

if TYPE_CHECKING:
    from schedule_zero.rules.catchup import Exclusions
    from schedule_zero.timing.trigger import Trigger


class PreviewTime(Struct, kw_only=True):
    """One nominal time to come."""

    at_us: int
    # On the wall of the trigger's zone, with its offset.
    local: str
    # ``dst_gap``: made up for after a change of the clock. ``dst_fold``: this local time occurs twice that day.
    # ``shifted``: moved to a business day. ``holiday``, ``blackout``: a named calendar forbids it, it will be skipped.
    marks: list[str]
    # Which calendar, and what in it.
    detail: str | None = None


class LeftOut(Struct, kw_only=True):
    """A local time that the trigger names, and that a change of the clock leaves out."""

    local: str
    # The first moment after the change.
    after_us: int


class Preview(Struct, kw_only=True):
    """What a trigger means."""

    words: str
    document: dict[str, Any]
    zone: str
    times: list[PreviewTime]
    left_out: list[LeftOut]
    warnings: list[str]


def preview_of(
    trigger: Trigger,
    after_us: int,
    n: int,
    *,
    named: Trigger | None = None,
    exclusions: Exclusions | None = None,
    max_fires: int | None = None,
) -> Preview:
    """The next ``n`` times after ``after_us``, as far as the last that may run (``max_fires``).

    ``named`` is what the user wrote, where ``trigger`` is that moved.
    """
    named = named or trigger
    times = times_from(trigger, next_of_new(trigger, after_us), n, named, exclusions, max_fires)
    until_us = times[-1].at_us if times else after_us
    return Preview(
        words=named.words(),
        document=named.document(),
        zone=trigger.zone_key,
        times=times,
        left_out=[
            LeftOut(local=left_out.local.isoformat(), after_us=left_out.at_us)
            for left_out in skipped_by_gap(named, after_us, until_us, n)
        ],
        warnings=[*_none(trigger, named, after_us), *lint(named, after_us)],
    )


def times_from(
    trigger: Trigger,
    first_us: int | None,
    n: int,
    named: Trigger,
    exclusions: Exclusions | None = None,
    max_fires: int | None = None,
) -> list[PreviewTime]:
    """``n`` nominal times of a trigger from one of them on, as far as the last that may run."""
    zone = ZoneInfo(trigger.zone_key)
    times: list[PreviewTime] = []
    runs = 0
    nominal_us = first_us
    while nominal_us is not None and len(times) < n and runs != max_fires:
        times.append(_time(trigger, named, nominal_us, zone, exclusions))
        runs += times[-1].detail is None
        nominal_us = trigger.next_after(nominal_us)
    return times


def _none(trigger: Trigger, named: Trigger, after_us: int) -> list[str]:
    if not never_fires(trigger, after_us):
        return []
    return [f"it has no fire after {rfc3339(after_us)}: {why_none_left(named, after_us)}"]


def _time(
    trigger: Trigger, named: Trigger, nominal_us: int, zone: ZoneInfo, exclusions: Exclusions | None
) -> PreviewTime:
    marks = list(trigger.marks(nominal_us))
    if named is not trigger and not named.has(nominal_us):
        marks.append("shifted")
    verdict = None if exclusions is None else exclusions.verdict(nominal_us)
    if verdict is not None:
        marks.append(verdict.reason.value)
    return PreviewTime(
        at_us=nominal_us,
        local=from_us(nominal_us).astimezone(zone).isoformat(),
        marks=marks,
        detail=None if verdict is None else verdict.detail,
    )
