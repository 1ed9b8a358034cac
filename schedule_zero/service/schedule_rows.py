"""From what a user writes of a schedule to the row that is stored of it, and back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from schedule_zero.config import LimitsConfig, TimingConfig
from schedule_zero.errors import InvalidCalendar, InvalidField, InvalidTrigger
from schedule_zero.job_options import JobOptions
from schedule_zero.model import CatchUp, Policies, Schedule, ScheduleState, new_id
from schedule_zero.rules.options import options_said
from schedule_zero.rules.policies import is_tracked, policies_of, stored_policies
from schedule_zero.service.params import check_options, check_params
from schedule_zero.service.specs import Principal, ScheduleSpec
from schedule_zero.timing import Trigger, first_fire, parse_trigger
from schedule_zero.timing.no_fire import never_fires, why_none_left
from schedule_zero.timing.spacing import refuse_too_close
from schedule_zero.timing.zones import iana_zone

if TYPE_CHECKING:
    from schedule_zero.dispatch.registry import Registry
    from schedule_zero.timing.resolve import Resolver

# A healthy server is never so late (C3).
LEAST_GRACE_S = 0.1

# Executions of one schedule that a round may have to create.
MOST_AT_ONCE = 10_000


class RowMaker:
    """Checks a spec, and makes the row of it."""

    def __init__(self, *, registry: Registry, resolver: Resolver, limits: LimitsConfig, timing: TimingConfig) -> None:
        self._registry = registry
        self._resolver = resolver
        self._limits = limits
        self._timing = timing

    def row(
        self,
        principal: Principal,
        spec: ScheduleSpec,
        now_us: int,
        old: Schedule | None = None,
        *,
        may_be_over: bool = False,
    ) -> Schedule:
        """What is stored of a spec. ``may_be_over``: one whose trigger has run out already keeps it."""
        params = bytes(spec.job_params)
        check_params(self._registry, self._limits, spec.handler_id, spec.job_method, params)
        check_options(spec.options)
        id_ = spec.id or new_id()
        parse = partial(parse_trigger, spec.trigger, zone=default_zone(spec.timezone), now_us=now_us, seed=id_)
        trigger = parse()
        unchanged = old is not None and trigger.encoded() == old.trigger
        # What fires already may go on, although the setting was changed since.
        least_ms = 1 if unchanged else self._timing.min_interval_ms
        if least_ms > 1:
            trigger = parse(min_interval_ms=least_ms)
        _check_groups(spec, self._registry)
        policies = self.pinned(spec.policies)
        grace_s = self._timing.misfire_grace_s if spec.misfire_grace_s is None else spec.misfire_grace_s
        if old is None or (old.policies, old.misfire_grace_s) != (stored_policies(policies), grace_s):
            _check_lateness(policies, grace_s)
        row = Schedule(
            id=id_,
            handler_id=spec.handler_id,
            job_method=spec.job_method,
            params=params,
            trigger=trigger.encoded(),
            options=None if spec.options == JobOptions() else msgspec.json.encode(spec.options),
            policies=stored_policies(policies),
            state=ScheduleState.PAUSED if spec.paused else ScheduleState.ACTIVE,
            note=spec.note,
            misfire_grace_s=grace_s,
            tracked=is_tracked(policies) or trigger.after_run(now_us) is not None,
            created_us=now_us,
            updated_us=now_us,
            updated_by=principal.name,
        )
        named, trigger = trigger, self.bound(trigger, policies, now_us, least_ms)
        row.next_fire_us = first_fire(trigger, now_us)
        # A date that passed just now is late, not wrong: it is caught up. One from before that can only be a mistake.
        too_old_us = now_us - round(self._timing.catch_up_window_s * 1e6)
        late = row.next_fire_us is not None and row.next_fire_us >= too_old_us
        if not late and not (unchanged and may_be_over) and never_fires(trigger, now_us):
            why = why_none_left(named, now_us)
            raise InvalidTrigger(f"the trigger has no fire after now: {why}", pointer="/trigger")
        return row

    def bound(self, trigger: Trigger, policies: Policies, now_us: int, least_ms: int) -> Trigger:
        """The trigger with what it stands on. InvalidTrigger, if its days can't be moved, or come too close by that."""
        try:
            bound = self._resolver.bind(trigger, policies)
        except InvalidTrigger as error:
            error.pointer = "/policies/business_days"
            raise
        if policies.business_days is not None:
            refuse_too_close(bound, now_us, least_ms, "/policies/business_days")
        return bound

    def pinned(self, policies: Policies) -> Policies:
        """The policies with the calendars that they name found, and their business days bound to a version."""
        resolver, business = self._resolver, policies.business_days
        named = [
            *((name, f"exclude/{place}") for place, name in enumerate(policies.exclude)),
            *((name, f"require/{place}") for place, name in enumerate(policies.require)),
            *([(business.calendar, "business_days/calendar")] if business is not None else []),
        ]
        for name, place in named:
            try:
                resolver.calendar(name)
            except InvalidCalendar as error:
                error.pointer = f"/policies/{place}"
                raise
        if business is None:
            return policies
        version = resolver.calendar_version(business.calendar)
        return replace(policies, business_days=replace(business, version=version))


def spec_of(schedule: Schedule) -> ScheduleSpec:
    """What a user would have to send to get this schedule."""
    return ScheduleSpec(
        id=schedule.id,
        handler_id=schedule.handler_id,
        job_method=schedule.job_method,
        job_params=msgspec.Raw(schedule.params),
        trigger=msgspec.json.decode(schedule.trigger),
        options=options_said(schedule.options),
        policies=policies_of(schedule.policies),
        misfire_grace_s=schedule.misfire_grace_s,
        paused=schedule.state is ScheduleState.PAUSED,
        note=schedule.note,
    )


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: objects are merged, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def default_zone(key: str | None) -> str:
    """The zone of triggers that name none. InvalidTrigger."""
    if key is not None and iana_zone(key) is None:
        raise InvalidTrigger(f"timezone: expected an IANA zone such as Europe/Berlin, got {key!r}", pointer="/timezone")
    return key or "UTC"


def _check_groups(spec: ScheduleSpec, registry: Registry) -> None:
    """A run that is a group: of one kind, of members that don't shut one another out, and not too many at once."""
    policies = spec.policies
    if not policies.grouped:
        return
    if policies.broadcast and policies.shards is not None:
        raise InvalidField("expected one of broadcast and shards, got both", pointer="/policies/shards")
    most = policies.catch_up_max * (policies.shards or 1)
    if policies.catch_up is CatchUp.ALL and most > MOST_AT_ONCE:
        raise InvalidField(
            f"expected at most {MOST_AT_ONCE} executions to be caught up at once (shards × catch_up_max), got {most}",
            pointer="/policies/catch_up_max",
        )
    method = registry.options(spec.handler_id, spec.job_method)
    if (spec.options.unique_key or method.unique_key) is not None:
        raise InvalidField(
            "expected no unique_key for a group: its members would shut one another out",
            pointer="/options/unique_key",
        )


def _check_lateness(policies: Policies, grace_s: float) -> None:
    """Every fire is a little late. Refuse what could never run for that, and what could never be caught up."""
    if policies.catch_up is CatchUp.NONE:
        if grace_s < LEAST_GRACE_S:
            raise InvalidField(
                f"expected at least {LEAST_GRACE_S} with catch_up none, as every fire is a bit late, got {grace_s:g}",
                pointer="/misfire_grace_s",
            )
    elif policies.catch_up_window_s is not None and policies.catch_up_window_s <= grace_s:
        raise InvalidField(
            f"expected more than the misfire_grace_s, {grace_s:g}, or nothing is ever caught up, "
            f"got {policies.catch_up_window_s:g}",
            pointer="/policies/catch_up_window_s",
        )
