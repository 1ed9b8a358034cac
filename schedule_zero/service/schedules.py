"""Verbs on schedules: create, replace, patch, delete, pause, resume, skip, run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from schedule_zero.clock import Clock, rfc3339
from schedule_zero.config import LimitsConfig, TimingConfig
from schedule_zero.dispatch.dispatcher import Dispatcher
from schedule_zero.errors import (
    BadRequest,
    InvalidCalendar,
    InvalidField,
    InvalidTrigger,
    NotFound,
    PreconditionFailed,
    TooLarge,
    WrongState,
)
from schedule_zero.model import MAX_SKIPS, JobOptions, Policies, Schedule, ScheduleState, new_id
from schedule_zero.rules.options import options_said
from schedule_zero.rules.policies import is_tracked, policies_of, skips_of, stored_policies, stored_skips
from schedule_zero.service.executions import ExecutionService
from schedule_zero.service.idempotency import idempotency_record
from schedule_zero.service.params import check_params
from schedule_zero.service.specs import (
    IdemKey,
    PreviewSpec,
    Principal,
    ScheduleSpec,
    SchedulesWritten,
    SubmitItem,
    Submitted,
)
from schedule_zero.store import Store, Verb, fire_audit
from schedule_zero.store import calendars as store_calendars
from schedule_zero.store import schedules as store_schedules
from schedule_zero.store.idempotency import IdempotentReplay
from schedule_zero.store.schedules import etag
from schedule_zero.store.tx import Page
from schedule_zero.timing import Timer, Trigger, first_fire, load_trigger, parse_trigger
from schedule_zero.timing.handover import handover_with, settle_with
from schedule_zero.timing.no_fire import never_fires, why_no_fire
from schedule_zero.timing.previews import Preview, preview_of
from schedule_zero.timing.spacing import refuse_too_close
from schedule_zero.timing.zones import iana_zone

C = TypeVar("C")

MAX_PREVIEW = 1000
# Snoozed schedules that are resumed in one go, and who is said to have done it.
WAKE = 500
SNOOZE = "snooze"
# Schedules that follow a changed calendar, read at once.
REPIN = 200
# How often a change is decided anew because somebody else was faster.
CHANGE_ATTEMPTS = 5


class ScheduleService:
    """Everything that can be done with schedules."""

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        timer: Timer,
        executions: ExecutionService,
        clock: Clock,
        limits: LimitsConfig,
        timing: TimingConfig,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._timer = timer
        self._executions = executions
        self._clock = clock
        self._limits = limits
        self._timing = timing
        self._handover = handover_with(timer.resolver, clock)
        self._settle = settle_with(timer.resolver, clock)

    def now_us(self) -> int:
        """The server's wall clock."""
        return self._clock.wall_us()

    # --- write ------------------------------------------------------------------------------------

    async def create(
        self, principal: Principal, specs: Sequence[ScheduleSpec], idem: IdemKey | None = None
    ) -> SchedulesWritten:
        """Create schedules, all or none. Raises AlreadyExists with the id that is taken."""
        if len(specs) > self._limits.bulk:
            raise TooLarge(
                f"at most {self._limits.bulk} schedules in one request, got {len(specs)}", pointer="/schedules"
            )
        now_us = self._clock.wall_us()
        rows = []
        for index, spec in enumerate(specs):
            try:
                rows.append(self._row(principal, spec, now_us))
            except (BadRequest, NotFound, TooLarge) as error:
                if len(specs) != 1:
                    error.pointer = f"/schedules/{index}{error.pointer or ''}"
                raise
        record = idempotency_record(principal, idem, [row.id for row in rows], self._clock)
        outcome: list[Schedule] | IdempotentReplay = await self._store.write(
            store_schedules.create, store_schedules.Create(rows=rows, idem=record)
        )
        if isinstance(outcome, IdempotentReplay):
            ids = msgspec.json.decode(outcome.response, type=list[str])
            return SchedulesWritten(schedules=[await self.get(id_) for id_ in ids], replayed=True)
        self._timer.changed()
        return SchedulesWritten(schedules=outcome)

    async def put(
        self,
        principal: Principal,
        schedule_id: str,
        spec: ScheduleSpec,
        if_match: str | None = None,
        *,
        create_only: bool = False,
    ) -> tuple[Schedule, bool]:
        """Replace or create in one transaction; returns the schedule and whether it was created."""
        if spec.id is not None and spec.id != schedule_id:
            raise InvalidField(f"the id in the body is {spec.id!r}, in the path {schedule_id!r}", pointer="/id")
        old = await self._store.read(lambda conn: store_schedules.get(conn, schedule_id))
        row = self._row(principal, msgspec.structs.replace(spec, id=schedule_id), self._clock.wall_us(), old)
        written: store_schedules.PutAnswer | IdempotentReplay = await self._store.write(
            store_schedules.put,
            store_schedules.Put(row=row, handover=self._handover, if_match=if_match, create_only=create_only),
        )
        self._timer.changed()
        assert isinstance(written, store_schedules.PutAnswer)  # no Idempotency-Key was given: PUT needs none
        return written.schedule, written.created

    async def patch(
        self, principal: Principal, schedule_id: str, patch: dict[str, Any], if_match: str | None = None
    ) -> Schedule:
        """RFC 7386 merge patch of the schedule as the API shows it. A change meanwhile is a PreconditionFailed.

        What is no schedule any more is a ``msgspec.ValidationError``: whoever has the patch can say where in it.
        """
        old = await self.get(schedule_id)
        document = msgspec.to_builtins(spec_of(old), builtin_types=(msgspec.Raw,))
        document["job_params"] = msgspec.json.decode(old.params)
        unknown = sorted(set(patch) - set(document))
        if unknown:
            raise InvalidField(f"a schedule has no field {unknown[0]!r}", pointer=f"/{unknown[0]}")
        merged = merge_patch(document, patch)
        merged["job_params"] = msgspec.Raw(msgspec.json.encode(merged.get("job_params") or {}))
        spec = msgspec.convert(merged, ScheduleSpec)
        try:
            # Without If-Match, what was read is what has to be there still: a patch never loses another's change.
            row, _ = await self.put(principal, schedule_id, spec, if_match or etag(old))
        except InvalidTrigger as error:
            change, old_type = patch.get("trigger"), document["trigger"]["type"]
            if isinstance(change, dict) and change.get("type", old_type) != old_type:
                error.hint = "a patch is merged into the trigger: null takes a key out of it, PUT replaces all of it"
            raise
        return row

    async def delete(self, principal: Principal, schedule_id: str, if_match: str | None = None) -> None:
        """Forget a schedule; its ledger and executions stay."""
        deleted = await self._store.write(
            store_schedules.delete,
            store_schedules.Delete(ids=[schedule_id], handover=self._handover, if_match=if_match, by=principal.name),
        )
        if not deleted:
            raise _unknown(schedule_id)
        self._timer.changed()

    async def delete_many(self, principal: Principal, ids: Sequence[str]) -> list[str]:
        """Forget schedules in one transaction; returns the ids that were there."""
        if len(ids) > self._limits.bulk:
            raise TooLarge(f"at most {self._limits.bulk} ids in one request, got {len(ids)}", pointer="/ids")
        deleted = await self._store.write(
            store_schedules.delete,
            store_schedules.Delete(ids=list(ids), handover=self._handover, by=principal.name),
        )
        self._timer.changed()
        return deleted

    async def pause(
        self, principal: Principal, schedule_id: str, note: str | None = None, until_us: int | None = None
    ) -> Schedule:
        """Stop executing; due fires go on being recorded, as skipped. With ``until_us`` it goes on by itself then.

        WrongState: it is finished or quarantined, and doesn't fire anyway.
        """
        if until_us is not None and until_us <= self._clock.wall_us():
            raise InvalidField(f"expected a moment to come, got {rfc3339(until_us)}", pointer="/until")

        async def change(old: Schedule) -> store_schedules.SetState:
            if old.state not in (ScheduleState.ACTIVE, ScheduleState.PAUSED):
                raise WrongState(f"schedule {schedule_id!r} is {old.state}: there is nothing to pause")
            return store_schedules.SetState(
                id=schedule_id,
                state=ScheduleState.PAUSED,
                note=note or f"paused by {principal.name}",
                resume_us=until_us,
                if_match=etag(old),
                by=principal.name,
            )

        return await self._change(schedule_id, store_schedules.set_state, change)

    async def resume(self, principal: Principal, schedule_id: str) -> Schedule:
        """Execute again from the next nominal time on; also releases a quarantined schedule.

        WrongState, InvalidTrigger: it has no fire left.
        """

        async def change(old: Schedule) -> store_schedules.SetState:
            return await self._resumption(old, principal.name)

        return await self._change(schedule_id, store_schedules.set_state, change)

    async def wake(self) -> int:
        """Resume those whose snooze is over; how many."""
        now_us = self._clock.wall_us()
        snoozed = await self._store.read(lambda conn: store_schedules.snoozed(conn, now_us, WAKE))
        woken = 0
        for row in snoozed:
            try:
                change = await self._resumption(row, SNOOZE)
            except (InvalidTrigger, WrongState) as error:
                # Nothing is left to resume. Said once, in its note, rather than found again at every look.
                change = store_schedules.SetState(
                    id=row.id,
                    state=ScheduleState.FINISHED,
                    note=error.message,
                    if_match=etag(row),
                    by=SNOOZE,
                )
            with suppress(NotFound, PreconditionFailed):
                await self._store.write(store_schedules.set_state, change)
                woken += 1
        if woken:
            self._timer.changed()
        return woken

    async def _resumption(self, old: Schedule, by: str) -> store_schedules.SetState:
        change = store_schedules.SetState(
            id=old.id, state=ScheduleState.ACTIVE, settle=self._settle, if_match=etag(old), by=by
        )
        if old.next_fire_us is None and old.waits_for is None:
            # Finished, or quarantined without a next time: see whether the trigger has one now. All until now are
            # decided, so that a date which has passed is none; and more than that, if the clock was set back.
            trigger = self._timer.resolver.trigger(old)
            most = policies_of(old.policies).max_fires
            if most is not None and old.runs >= most:
                raise WrongState(f"schedule {old.id!r} has run {old.runs} times, and may run {most} times")
            now_us = self._clock.wall_us()
            decided_us = await self._store.read(lambda conn: fire_audit.decided_upto(conn, old.id, old.generation))
            next_us = trigger.next_after(max(now_us, old.updated_us, decided_us or 0))
            # One that follows its runs begins as if one had ended now.
            change.next_fire_us = trigger.after_run(now_us) if next_us is None else next_us
            if change.next_fire_us is None and not trigger.endless:
                raise InvalidTrigger(f"schedule {old.id!r} has no fire left: its trigger has run out")
            # There was nothing to become due in a pause.
            change.settle = None
        return change

    async def _change(
        self, schedule_id: str, verb: Verb[C, Schedule], change: Callable[[Schedule], Awaitable[C]]
    ) -> Schedule:
        """Write what follows from the schedule as it is; decided anew if somebody else changes it meanwhile."""
        attempt = 1
        while True:
            old = await self.get(schedule_id)
            try:
                changed = await self._store.write(verb, await change(old))
            except PreconditionFailed:
                if attempt == CHANGE_ATTEMPTS:
                    raise
                attempt += 1
            else:
                self._timer.changed()
                return changed

    async def skip(self, principal: Principal, schedule_id: str, count: int = 1) -> Schedule:
        """Leave out the next ``count`` nominal times that are not left out already. Zero: leave out none any more."""

        async def change(old: Schedule) -> store_schedules.Update:
            skips = self._skips(old, count) if count else []
            return store_schedules.Update(
                id=schedule_id, changes={"skips": stored_skips(skips)}, if_match=etag(old), by=principal.name
            )

        return await self._change(schedule_id, store_schedules.update, change)

    def _skips(self, old: Schedule, count: int) -> list[int]:
        """What is left out after ``count`` more. WrongState: there are not so many to come."""
        skips = skips_of(old.skips)
        at_us = max(skips, default=None)
        if at_us is None:
            at_us = old.next_fire_us
            if at_us is not None:
                skips.append(at_us)
                count -= 1
        trigger = self._timer.resolver.trigger(old)
        for _ in range(count):
            at_us = None if at_us is None else trigger.next_after(at_us)
            if at_us is None:
                raise WrongState(f"schedule {old.id!r} has only {len(skips)} fires to come that could be skipped")
            skips.append(at_us)
        if len(skips) > MAX_SKIPS:
            raise InvalidField(f"expected at most {MAX_SKIPS} skipped fires in all, got {len(skips)}", pointer="/count")
        return skips

    async def run(self, principal: Principal, schedule_id: str, idem: IdemKey | None = None) -> Submitted:
        """One execution of the schedule's job now, beside its fires; the ledger is not touched."""
        schedule = await self.get(schedule_id)
        item = SubmitItem(
            handler_id=schedule.handler_id,
            job_method=schedule.job_method,
            job_params=msgspec.Raw(schedule.params),
            options=options_said(schedule.options),
        )
        return await self._executions.submit_for(principal, schedule_id, item, idem)

    def _row(self, principal: Principal, spec: ScheduleSpec, now_us: int, old: Schedule | None = None) -> Schedule:
        params = bytes(spec.job_params)
        check_params(self._dispatcher.registry, self._limits, spec.handler_id, spec.job_method, params)
        id_ = spec.id or new_id()
        parse = partial(parse_trigger, spec.trigger, zone=_zone(spec.timezone), now_us=now_us, seed=id_)
        least_ms = self._timing.min_interval_ms
        if old is not None and parse().encoded() == old.trigger:
            # What fires already may go on, although the setting was changed since.
            least_ms = 1
        trigger = parse(min_interval_ms=least_ms)
        policies = self._pinned(spec.policies)
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
            misfire_grace_s=self._timing.misfire_grace_s if spec.misfire_grace_s is None else spec.misfire_grace_s,
            tracked=is_tracked(policies) or trigger.after_run(now_us) is not None,
            created_us=now_us,
            updated_us=now_us,
            updated_by=principal.name,
        )
        trigger = self._bound(trigger, policies, now_us, least_ms)
        row.next_fire_us = first_fire(trigger, now_us)
        # A date that passed just now is late, not wrong: it is caught up. One from before that can only be a mistake.
        too_old_us = now_us - round(self._timing.catch_up_window_s * 1e6)
        late = row.next_fire_us is not None and row.next_fire_us >= too_old_us
        if not late and never_fires(trigger, now_us):
            why = why_no_fire(trigger, now_us)
            raise InvalidTrigger(f"the trigger has no fire after now: {why}", pointer="/trigger")
        return row

    def _bound(self, trigger: Trigger, policies: Policies, now_us: int, least_ms: int) -> Trigger:
        """The trigger with what it stands on. InvalidTrigger, if its days can't be moved, or come too close by that."""
        try:
            bound = self._timer.resolver.bind(trigger, policies)
        except InvalidTrigger as error:
            error.pointer = "/policies/business_days"
            raise
        if policies.business_days is not None:
            refuse_too_close(bound, now_us, least_ms, "/policies/business_days")
        return bound

    def _pinned(self, policies: Policies) -> Policies:
        """The policies with the calendars that they name found, and their business days bound to a version."""
        resolver, business = self._timer.resolver, policies.business_days
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

    async def calendar_changed(self, name: str) -> None:
        """Named calendar ``name`` has a new version: schedules whose days it moves get their times from that one."""
        await self._repin_all(await self._store.read(partial(store_calendars.users, name=name)))

    async def calendars_loaded(self) -> None:
        """At the start: a change may have been stored without that its schedules got to know of it."""
        await self._repin_all(await self._store.read(store_calendars.business_users))

    async def _repin_all(self, ids: list[str]) -> None:
        for at in range(0, len(ids), REPIN):
            for row in await self._store.read(partial(store_schedules.get_many, ids=ids[at : at + REPIN])):
                await self._repin(row)
        self._timer.changed()

    async def _repin(self, row: Schedule) -> None:
        """A change by somebody else meanwhile has bound it to the newest version already."""
        policies = policies_of(row.policies)
        if policies.business_days is None:
            return
        name = policies.business_days.calendar
        try:
            pinned = self._pinned(policies)
        except InvalidCalendar:
            # It was deleted at the moment when this schedule was written. The timer puts it into quarantine.
            return
        if pinned == policies:
            return
        now_us = self._clock.wall_us()
        trigger = self._timer.resolver.bind(load_trigger(row.trigger), pinned)
        new = replace(
            row,
            policies=stored_policies(pinned),
            updated_us=now_us,
            updated_by=f"calendar {name}",
            next_fire_us=None if row.next_fire_us is None else first_fire(trigger, now_us),
        )
        put = store_schedules.Put(row=new, handover=self._handover, if_match=etag(row))
        with suppress(PreconditionFailed):
            await self._store.write(store_schedules.put, put)

    # --- look -------------------------------------------------------------------------------------

    async def get(self, schedule_id: str) -> Schedule:
        found = await self._store.read(lambda conn: store_schedules.get(conn, schedule_id))
        if found is None:
            raise _unknown(schedule_id)
        return found

    async def find(
        self,
        *,
        handler_id: str | None = None,
        state: ScheduleState | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> tuple[Page[Schedule], int]:
        """A page of schedules by id, and how many there are on all pages."""
        return await self._store.read(
            lambda conn: (
                store_schedules.find(conn, cursor=cursor, limit=limit, handler_id=handler_id, state=state),
                store_schedules.count(conn, handler_id=handler_id, state=state),
            )
        )

    async def preview(self, spec: PreviewSpec) -> Preview:
        """What a trigger means, when it will fire next, and what is special about that; nothing is stored."""
        if not 1 <= spec.count <= MAX_PREVIEW:
            raise InvalidField(f"expected 1 to {MAX_PREVIEW}, got {spec.count}", pointer="/n")
        after_us = self._clock.wall_us() if spec.after_us is None else spec.after_us
        named = parse_trigger(
            spec.trigger,
            zone=_zone(spec.timezone),
            min_interval_ms=self._timing.min_interval_ms,
            now_us=after_us,
            seed=spec.id or "preview",
        )
        policies = self._pinned(spec.policies)
        resolver = self._timer.resolver
        return await asyncio.to_thread(
            preview_of,
            self._bound(named, policies, after_us, self._timing.min_interval_ms),
            after_us,
            spec.count,
            named=named,
            exclusions=resolver.exclusions(policies, named),
            max_fires=policies.max_fires,
        )


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


def _zone(key: str | None) -> str:
    """The zone of triggers that name none. InvalidTrigger."""
    if key is not None and iana_zone(key) is None:
        raise InvalidTrigger(f"timezone: expected an IANA zone such as Europe/Berlin, got {key!r}", pointer="/timezone")
    return key or "UTC"


def _unknown(schedule_id: str) -> NotFound:
    return NotFound(f"there is no schedule {schedule_id!r}")
