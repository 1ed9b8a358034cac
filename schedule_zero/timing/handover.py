"""What one version of a schedule owes when the next one, or nothing, takes its place.

Each version answers for the nominal times after its ``updated_us`` up to the moment at which it ends (C2): what was due
by then and is not decided gets its ledger rows here, in the transaction that ends it. A version with the same times
just goes on where the old one stood.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from schedule_zero.clock import Clock, rfc3339
from schedule_zero.errors import InvalidCalendar, InvalidTrigger
from schedule_zero.model import Fire, FireOutcome, Schedule, ScheduleState, SkipReason
from schedule_zero.rules.catchup import Decision, skip_all
from schedule_zero.rules.policies import policies_of
from schedule_zero.store.schedules import Settled
from schedule_zero.timing.parse import first_fire

if TYPE_CHECKING:
    from schedule_zero.store.schedules import Settle
    from schedule_zero.timing.resolve import Resolver
    from schedule_zero.timing.trigger import Trigger


def handover_with(resolver: Resolver, clock: Clock) -> Callable[[Schedule, Schedule | None], list[Fire]]:
    """The handover of ``store.schedules.Put`` and ``Delete``."""

    def handover(old: Schedule, new: Schedule | None) -> list[Fire]:
        if new is not None:
            _keep_state(old, new)
            if same_times(old, new):
                _go_on(old, new)
                _end_if_spent(new)
                if new.next_fire_us is not None or old.next_fire_us is None:
                    return []
        now_us = clock.wall_us() if new is None else new.updated_us
        try:
            trigger = resolver.trigger(old)
        except (InvalidTrigger, InvalidCalendar):
            # It is quarantined, or would have been: nothing is known of its times.
            return []
        if new is not None and not same_times(old, new):
            _begin_behind(trigger, old, new, resolver)
            _end_if_spent(new)
        return _owed(trigger, old, now_us)

    return handover


def settle_with(resolver: Resolver, clock: Clock) -> Settle:
    """The settlement of ``store.schedules.SetState``: what came due in a pause belongs to it, however late it ends."""

    def settle(row: Schedule) -> Settled:
        due_us, now_us = row.next_fire_us, clock.wall_us()
        if due_us is None or due_us > now_us:
            return Settled(fires=[], next_fire_us=due_us)
        trigger = resolver.trigger(row)
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


def _keep_state(old: Schedule, new: Schedule) -> None:
    """A change of something else is no reason to wake a schedule before its time."""
    if old.state is ScheduleState.PAUSED and new.state is ScheduleState.PAUSED:
        new.resume_us = old.resume_us


def same_times(old: Schedule, new: Schedule) -> bool:
    """Whether two versions have the same nominal times."""
    return old.trigger == new.trigger and (
        policies_of(old.policies).business_days == policies_of(new.policies).business_days
    )


def _go_on(old: Schedule, new: Schedule) -> None:
    if old.next_fire_us is not None or old.waits_for is not None:
        new.next_fire_us, new.waits_for = old.next_fire_us, old.waits_for
    new.skips = old.skips


def _begin_behind(trigger: Trigger, old: Schedule, new: Schedule, resolver: Resolver) -> None:
    """What the old version has decided already, the new one does not decide again."""
    if old.next_fire_us is None:
        return
    decided_us = trigger.last_before(old.next_fire_us)
    if decided_us is not None and decided_us > new.updated_us:
        follows = resolver.trigger(new)
        new.updated_us = decided_us
        new.next_fire_us = first_fire(follows, decided_us)
        if new.next_fire_us is None and not follows.endless:
            new.state, new.resume_us = ScheduleState.FINISHED, None
            new.note = f"finished: all was decided up to {rfc3339(decided_us)}, and its trigger ends before"


def _end_if_spent(new: Schedule) -> None:
    most = policies_of(new.policies).max_fires
    if most is not None and new.runs >= most:
        new.state, new.next_fire_us, new.note = ScheduleState.FINISHED, None, f"finished after {most} runs"
        new.resume_us = None


def _owed(trigger: Trigger, old: Schedule, now_us: int) -> list[Fire]:
    due_us = old.next_fire_us
    if due_us is None or due_us > now_us:
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
