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
    AlreadyExists,
    BadRequest,
    Conflict,
    InvalidCalendar,
    InvalidField,
    InvalidTrigger,
    NotFound,
    PreconditionFailed,
    TooLarge,
    WrongState,
)
from schedule_zero.model import MAX_SKIPS, Schedule, ScheduleState
from schedule_zero.rules.change_log import Actor
from schedule_zero.rules.options import options_said
from schedule_zero.rules.policies import policies_of, skips_of, stored_policies, stored_skips
from schedule_zero.service.executions import ExecutionService
from schedule_zero.service.groups import GroupService, GroupView
from schedule_zero.service.idempotency import idempotency_record
from schedule_zero.service.schedule_rows import RowMaker, default_zone, merge_patch, spec_of
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
from schedule_zero.store.schedules import PutAnswer, etag
from schedule_zero.store.tx import Page
from schedule_zero.timing import Timer, first_fire, load_trigger, parse_trigger
from schedule_zero.timing.handover import handover_with, settle_with
from schedule_zero.timing.previews import Preview, preview_of

C = TypeVar("C")
A = TypeVar("A")

# By what a preview chooses the ``H`` of a schedule that has no name yet.
UNNAMED = "preview"
MAX_PREVIEW = 1000
# Snoozed schedules that are resumed in one go, and who is said to have done it.
WAKE = 500
SNOOZE = "snooze"
# Schedules that follow a changed calendar, read at once.
REPIN = 200
# How long the checks of many specs keep the event loop at a time.
AT_ONCE_S = 0.02
# How often a change is decided anew because somebody else was faster.
CHANGE_ATTEMPTS = 50


class ScheduleService:
    """Everything that can be done with schedules."""

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        timer: Timer,
        executions: ExecutionService,
        groups: GroupService,
        clock: Clock,
        limits: LimitsConfig,
        timing: TimingConfig,
    ) -> None:
        self._store = store
        self._timer = timer
        self._executions = executions
        self._groups = groups
        self._clock = clock
        self._limits = limits
        self._timing = timing
        self._rows = RowMaker(registry=dispatcher.registry, resolver=timer.resolver, limits=limits, timing=timing)
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
        now_us, looked_s = self._clock.wall_us(), self._clock.mono_s()
        rows = []
        for index, spec in enumerate(specs):
            if self._clock.mono_s() - looked_s > AT_ONCE_S:
                # A look at what many intricate triggers will do takes seconds; others are due meanwhile.
                await asyncio.sleep(0)
                looked_s = self._clock.mono_s()
            try:
                rows.append(self._rows.row(principal, spec, now_us))
            except (BadRequest, NotFound, TooLarge) as error:
                if len(specs) != 1:
                    error.pointer = f"/schedules/{index}{error.pointer or ''}"
                raise
        record = idempotency_record(principal, idem, [row.id for row in rows], self._clock)
        outcome: list[Schedule] | IdempotentReplay = await self._store.write(
            store_schedules.create, store_schedules.Create(rows=rows, idem=record), by=principal.actor
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
        row = await self._row_of(principal, schedule_id, spec)
        written = await self._put(row, if_match, principal.actor, create_only=create_only)
        return written.schedule, written.created

    async def restore(
        self,
        principal: Principal,
        schedule_id: str,
        spec: ScheduleSpec,
        if_match: str | None,
        resume_us: int | None,
        note: str,
    ) -> tuple[Schedule, bool]:
        """As ``put``; and a paused one goes on by itself at ``resume_us``, or not at all. ``note``: which it was."""
        row = await self._row_of(principal, schedule_id, spec)
        row.resume_us = resume_us
        written = await self._put(row, if_match, principal.doing(None, note=note), keep_snooze=False)
        return written.schedule, written.created

    async def _row_of(self, principal: Principal, schedule_id: str, spec: ScheduleSpec) -> Schedule:
        if spec.id is not None and spec.id != schedule_id:
            raise InvalidField(f"the id in the body is {spec.id!r}, in the path {schedule_id!r}", pointer="/id")
        old = await self._store.read(lambda conn: store_schedules.get(conn, schedule_id))
        return self._rows.row(principal, replace(spec, id=schedule_id), self._clock.wall_us(), old)

    async def patch(
        self, principal: Principal, schedule_id: str, patch: dict[str, Any], if_match: str | None = None
    ) -> Schedule:
        """RFC 7386 merge patch of the schedule as the API shows it: merged anew if somebody else changes it meanwhile.

        With ``if_match`` a change meanwhile is a PreconditionFailed. What is no schedule any more is a
        ``msgspec.ValidationError``: whoever has the patch can say where in it.
        """

        async def change(old: Schedule) -> store_schedules.Put:
            # What was read is what has to be there still: a patch never loses another's change.
            return self._as_put(self._patched(principal, old, patch), if_match or etag(old))

        written = await self._change(principal, schedule_id, store_schedules.put, change, once=if_match is not None)
        assert isinstance(written, PutAnswer)  # no Idempotency-Key was given: PATCH needs none
        return written.schedule

    def _patched(self, principal: Principal, old: Schedule, patch: dict[str, Any]) -> Schedule:
        document = msgspec.to_builtins(spec_of(old), builtin_types=(msgspec.Raw,))
        document["job_params"] = msgspec.json.decode(old.params)
        unknown = sorted(set(patch) - set(document))
        if unknown:
            raise InvalidField(f"a schedule has no field {unknown[0]!r}", pointer=f"/{unknown[0]}")
        merged = merge_patch(document, patch)
        merged["job_params"] = msgspec.Raw(msgspec.json.encode(merged.get("job_params") or {}))
        spec = msgspec.convert(merged, ScheduleSpec)
        if spec.id != old.id:
            raise InvalidField(f"the id in the body is {spec.id!r}, in the path {old.id!r}", pointer="/id")
        try:
            return self._rows.row(principal, spec, self._clock.wall_us(), old, may_be_over=True)
        except InvalidTrigger as error:
            change, old_type = patch.get("trigger"), document["trigger"]["type"]
            if isinstance(change, dict) and change.get("type", old_type) != old_type:
                error.hint = "a patch is merged into the trigger: null takes a key out of it, PUT replaces all of it"
            raise

    async def _put(
        self, row: Schedule, if_match: str | None, by: Actor, *, create_only: bool = False, keep_snooze: bool = True
    ) -> PutAnswer:
        put = self._as_put(row, if_match, create_only=create_only, keep_snooze=keep_snooze)
        written: PutAnswer | IdempotentReplay = await self._store.write(store_schedules.put, put, by=by)
        self._timer.changed()
        assert isinstance(written, PutAnswer)  # no Idempotency-Key was given: PUT needs none
        return written

    def _as_put(
        self, row: Schedule, if_match: str | None, *, create_only: bool = False, keep_snooze: bool = True
    ) -> store_schedules.Put:
        return store_schedules.Put(
            row=row, handover=self._handover, if_match=if_match, create_only=create_only, keep_snooze=keep_snooze
        )

    async def delete(self, principal: Principal, schedule_id: str, if_match: str | None = None) -> None:
        """Forget a schedule; its ledger and executions stay."""
        deleted = await self._store.write(
            store_schedules.delete,
            store_schedules.Delete(ids=[schedule_id], handover=self._handover, if_match=if_match, by=principal.name),
            by=principal.actor,
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
            by=principal.actor,
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
                note=note or (old.note if old.state is ScheduleState.PAUSED else None) or f"paused by {principal.name}",
                resume_us=until_us,
                if_match=etag(old),
                by=principal.name,
            )

        return await self._change(principal, schedule_id, store_schedules.set_state, change)

    async def resume(self, principal: Principal, schedule_id: str) -> Schedule:
        """Execute again from the next nominal time on; also releases a quarantined schedule.

        WrongState, InvalidTrigger: it has no fire left.
        """

        async def change(old: Schedule) -> store_schedules.SetState:
            return await self._resumption(old, principal.name)

        return await self._change(principal, schedule_id, store_schedules.set_state, change)

    async def wake(self) -> int:
        """Resume those whose snooze is over; how many."""
        now_us = self._clock.wall_us()
        snoozed = await self._store.read(lambda conn: store_schedules.snoozed(conn, now_us, WAKE))
        woken = 0
        for row in snoozed:
            try:
                change = await self._resumption(row, SNOOZE)
            except (InvalidTrigger, InvalidCalendar, WrongState) as error:
                # There is nothing to resume. Said once, in its note, rather than found again at every look.
                change = store_schedules.SetState(
                    id=row.id,
                    state=ScheduleState.FINISHED if self._is_readable(row) else ScheduleState.QUARANTINED,
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

    def _is_readable(self, row: Schedule) -> bool:
        try:
            self._timer.resolver.trigger(row)
        except (InvalidTrigger, InvalidCalendar):
            return False
        return True

    async def _resumption(self, old: Schedule, by: str) -> store_schedules.SetState:
        # What can't be read can't be settled either: said here, not in the midst of the transaction.
        trigger = self._timer.resolver.trigger(old)
        change = store_schedules.SetState(
            id=old.id, state=ScheduleState.ACTIVE, settle=self._settle, if_match=etag(old), by=by
        )
        if old.next_fire_us is None and old.waits_for is None:
            # Finished, or quarantined without a next time: see whether the trigger has one now. All until now are
            # decided, so that a date which has passed is none; and more than that, if the clock was set back.
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
        self,
        principal: Principal,
        schedule_id: str,
        verb: Verb[C, A],
        change: Callable[[Schedule], Awaitable[C]],
        *,
        once: bool = False,
    ) -> A:
        """Write what follows from the schedule as it is; decided anew if somebody else changes it meanwhile.

        With ``once`` that is a PreconditionFailed.
        """
        for _ in range(CHANGE_ATTEMPTS):
            old = await self.get(schedule_id)
            try:
                changed = await self._store.write(verb, await change(old), by=principal.actor)
            except PreconditionFailed:
                if once:
                    raise
            else:
                self._timer.changed()
                return changed
        raise Conflict(f"schedule {schedule_id!r} was changed by others {CHANGE_ATTEMPTS} times while this was tried")

    async def skip(self, principal: Principal, schedule_id: str, count: int = 1) -> Schedule:
        """Leave out the next ``count`` nominal times that are not left out already. Zero: leave out none any more."""

        async def change(old: Schedule) -> store_schedules.Update:
            skips = self._skips(old, count) if count else []
            return store_schedules.Update(
                id=schedule_id, changes={"skips": stored_skips(skips)}, if_match=etag(old), by=principal.name
            )

        return await self._change(principal, schedule_id, store_schedules.update, change)

    def _skips(self, old: Schedule, count: int) -> list[int]:
        """What is left out after ``count`` more. WrongState: there are not so many to come."""
        # A snooze that ended may have decided some of them.
        skips = [us for us in skips_of(old.skips) if old.next_fire_us is not None and us >= old.next_fire_us]
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

    async def run(self, principal: Principal, schedule_id: str, idem: IdemKey | None = None) -> Submitted | GroupView:
        """One run of the schedule's job now, beside its fires; the ledger is not touched. A group, if its runs are.

        Raises as a submission does, or the making of a group.
        """
        schedule = await self.get(schedule_id)
        item = SubmitItem(
            handler_id=schedule.handler_id,
            job_method=schedule.job_method,
            job_params=msgspec.Raw(schedule.params),
            options=options_said(schedule.options),
        )
        policies = policies_of(schedule.policies)
        if policies.shards is not None:
            return await self._groups.shards(principal, item, policies.shards, idem, schedule_id=schedule_id)
        if policies.broadcast:
            return await self._groups.broadcast(principal, item, idem, schedule_id=schedule_id)
        return await self._executions.submit_for(principal, schedule_id, item, idem)

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
            pinned = self._rows.pinned(policies)
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

    async def check(self, principal: Principal, spec: ScheduleSpec, *, replaces: bool) -> None:
        """Whether ``create``, or with ``replaces`` ``put``, would take it: raises as they do. Nothing is stored."""
        id_, old = spec.id, None
        if id_ is not None:
            old = await self._store.read(lambda conn: store_schedules.get(conn, id_))
        if old is not None and not replaces:
            raise AlreadyExists(f"a schedule {id_!r} exists already", pointer="/id", id=id_)
        self._rows.row(principal, spec, self._clock.wall_us(), old)

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
            zone=default_zone(spec.timezone),
            min_interval_ms=self._timing.min_interval_ms,
            now_us=after_us,
            seed=spec.id or UNNAMED,
        )
        policies = self._rows.pinned(spec.policies)
        resolver = self._timer.resolver
        return await asyncio.to_thread(
            preview_of,
            self._rows.bound(named, policies, after_us, self._timing.min_interval_ms),
            after_us,
            spec.count,
            named=named,
            exclusions=resolver.exclusions(policies, named),
            max_fires=policies.max_fires,
        )


def _unknown(schedule_id: str) -> NotFound:
    return NotFound(f"there is no schedule {schedule_id!r}")
