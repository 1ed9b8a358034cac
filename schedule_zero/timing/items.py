"""From the plan of one alarm to what is written: ledger rows, executions, and the schedule as it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedule_zero.model import (
    Execution,
    Fire,
    FireOutcome,
    Group,
    GroupKind,
    Origin,
    Overlap,
    ScheduleState,
    SkipReason,
    State,
    new_id,
)
from schedule_zero.rules.birth import equip
from schedule_zero.rules.grouping import ALL_AWAY, group_of, unit_of
from schedule_zero.rules.jitter import jitter_us
from schedule_zero.rules.options import Source
from schedule_zero.rules.overlap import Turn, take_turns
from schedule_zero.rules.policies import stored_skips
from schedule_zero.store.schedules import Otherwise, ReleaseItem
from schedule_zero.timing.fire_groups import broadcast_of, shards_of
from schedule_zero.timing.occasions import DelayTrigger

if TYPE_CHECKING:
    from schedule_zero.dispatch.dispatcher import Dispatcher
    from schedule_zero.job_options import JobOptions
    from schedule_zero.rules.catchup import Decision, Plan
    from schedule_zero.timing.alarm import Alarm
    from schedule_zero.timing.turns import Turns


class ItemMaker:
    """Makes release items. Reads what is open of a schedule where its overlap policy asks."""

    def __init__(self, dispatcher: Dispatcher, turns: Turns) -> None:
        self._dispatcher = dispatcher
        self._registry = dispatcher.registry
        self._turns = turns
        self._backlog = dispatcher.backlog

    def item(self, alarm: Alarm, now_us: int) -> ReleaseItem:
        """What is to be written of the alarm's plan; without a plan, its quarantine."""
        row, plan = alarm.row, alarm.plan
        due_us = row.next_fire_us
        assert due_us is not None
        if plan is None:
            return _quarantine(alarm, due_us, now_us)
        simple = alarm.ordinary and plan.next_us is not None and len(plan.decisions) == 1 and plan.decisions[0].runs
        if simple and self._backlog.admit(row.handler_id):
            return self._ordinary(alarm, plan, due_us, now_us)
        fires: list[Fire] = []
        executions: list[Execution] = []
        groups: list[Group] = []
        turns = iter(self._take_turns(alarm, plan))
        for decision in plan.decisions:
            turn = next(turns) if decision.runs else None
            fire = _fire(alarm, decision, now_us)
            fires.append(fire)
            if turn is Turn.SKIP:
                fire.outcome, fire.reason = FireOutcome.SKIPPED, SkipReason.OVERLAP
            elif turn is not None and alarm.policies.grouped:
                self._grouped(alarm, fire, now_us, executions, groups, wait=turn is Turn.WAIT)
            elif turn is not None and not self._backlog.admit(row.handler_id):
                fire.outcome, fire.reason = FireOutcome.SKIPPED, SkipReason.BACKPRESSURE
                self._backlog.skipped += 1
            elif turn is not None:
                execution = self._execution(alarm, decision.nominal_us, now_us, wait=turn is Turn.WAIT)
                executions.append(execution)
                fire.execution_id = execution.id
        item = ReleaseItem(
            id=row.id,
            generation=row.generation,
            version=row.version,
            due_us=due_us,
            next_fire_us=plan.next_us,
            last_fire_us=executions[-1].nominal_us if executions else row.last_fire_us,
            state=row.state,
            fires=fires,
            executions=executions,
            groups=groups,
            otherwise=_otherwise(alarm, executions),
        )
        if not alarm.plain or row.resume_us is not None:
            _go_on(alarm, plan, item)
        if item.next_fire_us is None:
            _run_out(alarm, item, now_us)
        return item

    def _ordinary(self, alarm: Alarm, plan: Plan, due_us: int, now_us: int) -> ReleaseItem:
        """By far the most frequent case: one fire, which runs, and nothing else changes."""
        row, [decision] = alarm.row, plan.decisions
        execution = self._execution(alarm, decision.nominal_us, now_us, wait=False)
        fire = _fire(alarm, decision, now_us)
        fire.execution_id = execution.id
        unique = execution.unique_key is not None
        return ReleaseItem(
            id=row.id,
            generation=row.generation,
            version=row.version,
            due_us=due_us,
            next_fire_us=plan.next_us,
            last_fire_us=decision.nominal_us,
            state=row.state,
            fires=[fire],
            executions=[execution],
            otherwise=Otherwise(last_fire_us=row.last_fire_us) if unique else None,
        )

    def _take_turns(self, alarm: Alarm, plan: Plan) -> list[Turn]:
        runs = sum(decision.runs for decision in plan.decisions)
        if alarm.policies.overlap is Overlap.ALLOW:
            return [Turn.START] * runs
        open_, blocked = self._turns.count(alarm.row.id)
        return take_turns(alarm.policies.overlap, runs, open_=open_, blocked=blocked)

    def _grouped(
        self,
        alarm: Alarm,
        fire: Fire,
        now_us: int,
        executions: list[Execution],
        groups: list[Group],
        *,
        wait: bool,
    ) -> None:
        """A fire that becomes a group (``fire_groups``), or is skipped as a whole."""
        row, policies = alarm.row, alarm.policies

        def make(options: JobOptions = alarm.options) -> Execution:
            return self._execution(alarm, fire.nominal_us, now_us, wait=wait, options=options)

        if policies.shards is not None:
            members, detail = shards_of(make, policies.shards)
        else:
            members, detail, key = broadcast_of(make, alarm.options, self._dispatcher.takers)
            if not members:
                why = self._dispatcher.why_nobody(key) or ALL_AWAY
                fire.outcome, fire.reason, fire.detail = FireOutcome.SKIPPED, SkipReason.NO_NODE, why
                return
        if self._backlog.room(row.handler_id) < len(members):
            fire.outcome, fire.reason = FireOutcome.SKIPPED, SkipReason.BACKPRESSURE
            self._backlog.skipped += 1
            return
        self._backlog.take(members)
        group = group_of(members, GroupKind.BROADCAST if policies.broadcast else GroupKind.SHARDS)
        executions += members
        groups.append(group)
        fire.execution_id, fire.detail = group.id, detail

    def _execution(
        self, alarm: Alarm, nominal_us: int, now_us: int, *, wait: bool, options: JobOptions | None = None
    ) -> Execution:
        row, policies = alarm.row, alarm.policies
        execution = Execution(
            id=new_id(),
            handler_id=row.handler_id,
            job_method=row.job_method,
            params=row.params,
            origin=Origin.FIRE,
            schedule_id=row.id,
            nominal_us=nominal_us,
            created_us=now_us,
        )
        if policies.jitter_s:
            start_us = nominal_us + jitter_us(policies.jitter, policies.jitter_s, row.id, nominal_us)
            if start_us > now_us:
                execution.not_before_us, execution.state = start_us, State.SCHEDULED
        if wait:
            execution.state = State.BLOCKED
        method = self._registry.options(row.handler_id, row.job_method)
        equip(execution, options or alarm.options, method, Source.SCHEDULE)
        return execution


def _otherwise(alarm: Alarm, executions: list[Execution]) -> Otherwise | None:
    unique = any(execution.unique_key is not None for execution in executions)
    return Otherwise(last_fire_us=alarm.row.last_fire_us) if unique else None


def _fire(alarm: Alarm, decision: Decision, now_us: int) -> Fire:
    return Fire(
        schedule_id=alarm.row.id,
        generation=alarm.row.generation,
        nominal_us=decision.nominal_us,
        outcome=decision.outcome,
        reason=decision.reason,
        count=decision.count,
        last_nominal_us=decision.last_nominal_us,
        decided_us=now_us,
        detail=decision.detail,
    )


def _go_on(alarm: Alarm, plan: Plan, item: ReleaseItem) -> None:
    """What else of the row changes with this round: skips that are spent, the last run."""
    row, policies = alarm.row, alarm.policies
    item.plain = False
    item.resume_us, item.waits_for = row.resume_us, row.waits_for
    item.skips = stored_skips(us for us in alarm.skips if us > plan.last_us) if alarm.skips else None
    if policies.max_fires is None:
        return
    if row.runs + item.runs >= policies.max_fires:
        if item.otherwise is not None:
            again = alarm.trigger.next_after(plan.last_us) if plan.finished and alarm.trigger else plan.next_us
            if again is not None:
                item.otherwise.next_fire_us, item.otherwise.state = again, item.state
                item.otherwise.resume_us = item.resume_us
        item.next_fire_us = None
        item.note = f"finished after {policies.max_fires} runs"
        item.state, item.resume_us = ScheduleState.FINISHED, None
    elif plan.finished and alarm.trigger is not None:
        # Some of what was to be its last runs had to be skipped: it has others left.
        item.next_fire_us = alarm.trigger.next_after(plan.last_us)


def _run_out(alarm: Alarm, item: ReleaseItem, now_us: int) -> None:
    """No nominal time follows by itself: it waits for the end of a run, or for a start; or it is finished."""
    trigger = alarm.trigger
    if trigger is None or item.state is ScheduleState.FINISHED:
        return
    follows_us = trigger.after_run(now_us)
    if follows_us is not None:
        item.plain = False
        if item.executions:
            item.waits_for = unit_of(item.executions[-1])
        else:
            item.next_fire_us = follows_us
    elif not trigger.endless or isinstance(trigger, DelayTrigger):
        # (A delay that leads beyond its end is over as well.)
        if item.state is ScheduleState.PAUSED:
            # There is nothing to go on with when its snooze ends, and why it was paused is of the past.
            item.resume_us, item.note = None, ""
        item.state = ScheduleState.FINISHED


def _quarantine(alarm: Alarm, due_us: int, now_us: int) -> ReleaseItem:
    """It can't be fired: say so in its state, its note and the ledger, and leave it alone until it is changed."""
    row = alarm.row
    fire = Fire(
        schedule_id=row.id,
        generation=row.generation,
        nominal_us=due_us,
        outcome=FireOutcome.SKIPPED,
        reason=SkipReason.QUARANTINED,
        decided_us=now_us,
    )
    return ReleaseItem(
        id=row.id,
        generation=row.generation,
        version=row.version,
        due_us=due_us,
        next_fire_us=None,
        last_fire_us=row.last_fire_us,
        state=ScheduleState.QUARANTINED,
        note=alarm.broken or "quarantined",
        fires=[fire],
        executions=[],
    )
