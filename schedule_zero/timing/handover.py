"""What one version of a schedule owes when the next one, or nothing, takes its place.

Each version answers for the nominal times after its ``updated_us`` up to the moment at which it ends (C2): what was due
by then and is not decided gets its ledger rows here, in the transaction that ends it. A version with the same times
just goes on where the old one stood.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedule_zero.clock import Clock, rfc3339
from schedule_zero.errors import InvalidCalendar, InvalidTrigger
from schedule_zero.model import Fire, FireOutcome, Schedule, ScheduleState, SkipReason
from schedule_zero.rules.catchup import Decision, skip_all
from schedule_zero.rules.policies import policies_of
from schedule_zero.store.schedules import Settled
from schedule_zero.timing.occasions import DelayTrigger
from schedule_zero.timing.parse import first_fire

if TYPE_CHECKING:
    from schedule_zero.store.schedules import Handover, Settle
    from schedule_zero.timing.resolve import Resolver


def handover_with(resolver: Resolver, clock: Clock) -> Handover:
    """The handover of ``store.schedules.Put`` and ``Delete``."""

    def handover(old: Schedule, new: Schedule | None, decided_us: int) -> list[Fire]:
        # A clock that was set back does not end a version before it began.
        ended_us = max(clock.wall_us() if new is None else new.updated_us, old.updated_us)
        if new is None:
            return _owed(resolver, old, ended_us)
        goes_on = same_times(old, new) and (old.next_fire_us is not None or old.waits_for is not None)
        if goes_on:
            new.next_fire_us, new.waits_for, new.skips = old.next_fire_us, old.waits_for, old.skips
            new.updated_us = ended_us
        else:
            _begin_behind(resolver, old, new, max(ended_us, decided_us), decided_us)
        _end_if_spent(old, new)
        if goes_on and (new.next_fire_us is not None or new.waits_for is not None):
            return []
        return _owed(resolver, old, ended_us)

    return handover


def settle_with(resolver: Resolver, clock: Clock) -> Settle:
    """The settlement of ``store.schedules.SetState``: what came due in a pause belongs to it, however late it ends."""

    def settle(row: Schedule) -> Settled:
        due_us, now_us = row.next_fire_us, clock.wall_us()
        if due_us is None or due_us > now_us:
            return Settled(fires=[], next_fire_us=due_us)
        trigger = resolver.coming(row)
        upto_us = now_us if row.resume_us is None else min(now_us, row.resume_us - 1)
        decisions = skip_all(trigger, due_us, upto_us, SkipReason.PAUSED)
        if not decisions:
            return Settled(fires=[], next_fire_us=due_us)
        next_us = trigger.next_after(max(one.last_nominal_us or one.nominal_us for one in decisions))
        return Settled(
            fires=[_fire(row, decision, now_us) for decision in decisions],
            next_fire_us=trigger.after_run(now_us) if next_us is None else next_us,
            finished=next_us is None and trigger.after_run(now_us) is None and not trigger.endless,
        )

    return settle


def same_times(old: Schedule, new: Schedule) -> bool:
    """Whether two versions have the same nominal times."""
    return old.trigger == new.trigger and (
        policies_of(old.policies).business_days == policies_of(new.policies).business_days
    )


def _begin_behind(resolver: Resolver, old: Schedule, new: Schedule, begin_us: int, decided_us: int) -> None:
    """The new version begins at ``begin_us``; and what is decided already, it does not decide again."""
    trigger = resolver.trigger(new)
    next_us = new.next_fire_us
    if begin_us > new.updated_us or next_us is None or next_us <= decided_us:
        next_us = first_fire(trigger, begin_us)
        if next_us is not None and next_us <= decided_us:
            # One that follows its runs begins as if one had ended then.
            next_us = trigger.next_after(decided_us) or trigger.after_run(decided_us)
    if isinstance(trigger, DelayTrigger):
        # (Never at the very moment of the change: that may be a time of the old one.)
        next_us = _after_the_last_run(resolver, trigger, old, new, next_us)
        next_us = None if next_us is None else max(next_us, begin_us + 1)
    if next_us is None and new.waits_for is None and not (trigger.endless and trigger.after_run(begin_us) is None):
        new.state, new.resume_us = ScheduleState.FINISHED, None
        if old.state is not ScheduleState.FINISHED or not same_times(old, new):
            new.note = f"finished: all was decided up to {rfc3339(decided_us)}, and its trigger ends before"
    new.next_fire_us, new.updated_us = next_us, begin_us


def _after_the_last_run(
    resolver: Resolver, trigger: DelayTrigger, old: Schedule, new: Schedule, next_us: int | None
) -> int | None:
    """A fixed delay that is changed still follows the run that it followed."""
    if old.waits_for is not None:
        new.waits_for = old.waits_for
        return None
    try:
        before = resolver.trigger(old)
    except (InvalidTrigger, InvalidCalendar):
        return next_us
    if not isinstance(before, DelayTrigger) or old.next_fire_us is None or old.last_fire_us is None or next_us is None:
        return next_us
    follows_us = trigger.after_run(old.next_fire_us - before.delay_us)
    return next_us if follows_us is None else max(next_us, follows_us)


def _end_if_spent(old: Schedule, new: Schedule) -> None:
    most = policies_of(new.policies).max_fires
    if most is None or new.runs < most:
        return
    if old.state is not ScheduleState.FINISHED:
        new.note = f"finished after {most} runs"
    new.state, new.next_fire_us, new.waits_for, new.resume_us = ScheduleState.FINISHED, None, None, None


def _owed(resolver: Resolver, old: Schedule, now_us: int) -> list[Fire]:
    due_us = old.next_fire_us
    if due_us is None or due_us > now_us:
        return []
    try:
        trigger = resolver.coming(old)
    except (InvalidTrigger, InvalidCalendar):
        # It is quarantined, or would have been: nothing is known of its times.
        return []
    decisions: list[Decision] = []
    if old.state is ScheduleState.PAUSED:
        # A snooze that is over explains what lay in it, and no more.
        paused_to_us = now_us if old.resume_us is None else min(now_us, old.resume_us - 1)
        if due_us <= paused_to_us:
            decisions = skip_all(trigger, due_us, paused_to_us, SkipReason.PAUSED)
            due_us = trigger.next_after(paused_to_us)
    if due_us is not None and due_us <= now_us:
        decisions += skip_all(trigger, due_us, now_us, SkipReason.CHANGED)
    return [_fire(old, decision, now_us) for decision in decisions]


def _fire(row: Schedule, decision: Decision, now_us: int) -> Fire:
    return Fire(
        schedule_id=row.id,
        generation=row.generation,
        nominal_us=decision.nominal_us,
        outcome=FireOutcome.SKIPPED,
        reason=decision.reason,
        count=decision.count,
        last_nominal_us=decision.last_nominal_us,
        decided_us=now_us,
    )
