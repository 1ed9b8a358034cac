"""What the versions of a schedule had to decide, as the audit wants it: spans of nominal times, and chains of runs.

A version answers for the nominal times after it came into force until it ended (``handover``). What is not decided yet
is not expected yet: all up to before ``next_fire_us`` is. A schedule that has finished, was quarantined, or was
paused in that state, has nothing to decide after its last row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from schedule_zero.errors import InvalidCalendar, InvalidTrigger
from schedule_zero.model import Schedule, ScheduleState, ServerRun
from schedule_zero.rules.audit import Span
from schedule_zero.rules.policies import policies_of
from schedule_zero.timing.handover import same_times
from schedule_zero.timing.occasions import DelayTrigger
from schedule_zero.timing.parse import first_fire

if TYPE_CHECKING:
    from schedule_zero.timing.trigger import Trigger

# Who changes a schedule so shortly after a start may come before the start's own fires.
START_SLACK_US = 10_000_000


class Version(Struct, frozen=True):
    """A schedule from ``from_us`` to ``to_us`` (None: it is in force); as it was at its end."""

    schedule: Schedule
    from_us: int
    to_us: int | None


class Chain(Struct):
    """A time in which each fire follows the end of the run before."""

    after_us: int
    upto_us: int
    after_run: Callable[[int], int | None]
    # When it began anew, and with which nominal time (None: not known).
    starts: list[tuple[int, int | None]]
    # The schedule, if it is still in force.
    current: Schedule | None = None


class Owed(Struct):
    """What one generation of a schedule had to decide, in order of time."""

    spans: list[Span]
    chains: list[Chain]
    # Before this, its versions are not known, or can't be read.
    known_after_us: int
    # The first nominal time that is due and not decided.
    undecided_us: int | None = None


def owed(
    versions: Sequence[Version],
    known_after_us: int,
    until_us: int,
    *,
    trigger_of: Callable[[Schedule], Trigger],
    lives: Sequence[ServerRun],
    decided_upto: Callable[[int], int | None],
) -> Owed:
    """What the versions of one generation (the oldest first) had to decide by ``until_us``.

    ``lives`` are those of the server around that time, in order. ``decided_upto`` says which is the newest nominal
    time in the ledger that is not later than a moment.
    """
    found = Owed([], [], known_after_us)
    last = versions[-1]
    next_us = last.schedule.next_fire_us if last.to_us is None else None
    if next_us is not None and next_us <= until_us:
        found.undecided_us = next_us
    # What an earlier version left to the one in force is not decided before that one gets there.
    cap_us = until_us if next_us is None else min(until_us, next_us - 1)
    ends = _ends(versions, until_us, trigger_of, decided_upto)
    before: Version | None = None
    for version, end_us in zip(versions, ends, strict=True):
        try:
            trigger = trigger_of(version.schedule)
        except (InvalidTrigger, InvalidCalendar):
            # Nobody could fire it, and nobody can say what it would have fired.
            found.known_after_us = until_us if version.to_us is None else max(found.known_after_us, version.to_us)
            before = version
            continue
        if isinstance(trigger, DelayTrigger):
            _add_chain(found, trigger, version, before, until_us)
        else:
            earlier = None if before is None else found.spans
            for span in _spans(trigger, version, until_us, lives, decided_upto, earlier):
                found.spans.append(Span(span.times, span.after_us, min(span.upto_us, cap_us, end_us), span.may_us))
        before = version
    return found


# --- spans ------------------------------------------------------------------------------------------


def _ends(
    versions: Sequence[Version],
    until_us: int,
    trigger_of: Callable[[Schedule], Trigger],
    decided_upto: Callable[[int], int | None],
) -> list[int]:
    """Up to when each version had to decide, if one that went on from it had to decide no more after that."""
    ends: list[int] = []
    end_us, after = until_us, None
    for version in reversed(versions):
        row = version.schedule
        if after is not None and not same_times(row, after):
            end_us = until_us
        try:
            ended = has_ended(row, trigger_of(row))
        except (InvalidTrigger, InvalidCalendar):
            ended = False
        if ended:
            to_us = until_us if version.to_us is None else min(version.to_us, until_us)
            end_us = max(decided_upto(to_us) or 0, row.last_fire_us or 0)
        ends.append(end_us)
        after = row
    return ends[::-1]


def _spans(
    trigger: Trigger,
    version: Version,
    until_us: int,
    lives: Sequence[ServerRun],
    decided_upto: Callable[[int], int | None],
    earlier: Sequence[Span] | None,
) -> list[Span]:
    """``earlier``: what the versions before it answer for; None: it is the first."""
    row = version.schedule
    may_us = until_us if version.to_us is None else min(version.to_us, until_us)
    after_us, upto_us = version.from_us, may_us
    first_us = first_fire(trigger, version.from_us)
    if (
        first_us is not None
        and first_us <= after_us
        and (earlier is None or not _settled(first_us, decided_upto(after_us) or 0, earlier))
    ):
        # A date that had passed when its schedule was made is due nevertheless; unless more is decided already.
        after_us = first_us - 1
    if version.to_us is not None and row.next_fire_us is not None:
        # After the clock was set back, more is decided than the time of its end says.
        decided_us = trigger.last_before(row.next_fire_us)
        upto_us = may_us = max(may_us, min(decided_us or 0, until_us))
    if not trigger.has_startup:
        return [Span(trigger, after_us, upto_us, may_us)]
    starts = [life.started_us for life in lives]
    if version.to_us is not None:
        # A change so shortly after a start may have come before what fires at that start was due.
        unsure_us = next((us for us in starts if us <= may_us and version.to_us < us + START_SLACK_US), may_us + 1)
        upto_us = min(upto_us, max(after_us, unsure_us - 1))
    return [Span(trigger.bound(*starts), after_us, upto_us, may_us)]


def _settled(first_us: int, decided_us: int, earlier: Sequence[Span]) -> bool:
    """Whether a date is no business of the version that asks for it: more was decided already, or an earlier version
    answers for this very time.
    """
    if decided_us != first_us:
        return decided_us > first_us
    # The row may be its own.
    return any(
        span.after_us < first_us <= span.upto_us and span.times.next_after(first_us - 1) == first_us for span in earlier
    )


def has_ended(row: Schedule, trigger: Trigger) -> bool:
    """Whether a schedule without a next fire is one that has nothing to decide any more, whatever its trigger says."""
    if row.next_fire_us is not None:
        return False
    if row.state is ScheduleState.FINISHED:
        return policies_of(row.policies).max_fires is not None
    return row.state is ScheduleState.QUARANTINED or (row.state is ScheduleState.PAUSED and not trigger.endless)


# --- chains -------------------------------------------------------------------------------------------


def _add_chain(found: Owed, trigger: DelayTrigger, version: Version, before: Version | None, until_us: int) -> None:
    to_us = until_us if version.to_us is None else min(version.to_us, until_us)
    row = version.schedule
    current = row if version.to_us is None else None
    goes_on = before is not None and same_times(before.schedule, row)
    if goes_on and found.chains and found.chains[-1].upto_us == version.from_us:
        chain = found.chains[-1]
        chain.upto_us, chain.current = to_us, current
        if before is not None and before.schedule.next_fire_us is None and before.schedule.waits_for is None:
            chain.starts.append((version.from_us, None))
        return
    first_us = trigger.first_fire(version.from_us)
    # It may begin with the very moment at which it comes into force.
    after_us = version.from_us if first_us is None else min(version.from_us, first_us - 1)
    starts = [(version.from_us, first_us)]
    if before is None and row.version > 1:
        # The oldest version that is known here may have gone on from one that isn't.
        starts = []
    elif found.chains and found.chains[-1].upto_us == version.from_us:
        # The delay was changed: it follows the run that the old one followed.
        after_us, starts = version.from_us, [(version.from_us, None)]
    found.chains.append(Chain(after_us, to_us, trigger.after_run, starts, current))
