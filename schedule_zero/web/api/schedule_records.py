"""Schedules, their ledger and their triggers as the API shows them."""

from __future__ import annotations

from typing import Any

from msgspec import Raw, field

from schedule_zero.clock import rfc3339
from schedule_zero.model import (
    Backfill,
    BackfillState,
    Fire,
    FireOutcome,
    Freeze,
    Policies,
    Schedule,
    ScheduleState,
    SkipReason,
)
from schedule_zero.rules.policies import policies_of, skips_of
from schedule_zero.service.specs import BackfillCount
from schedule_zero.timing.previews import Preview
from schedule_zero.web.api.records import Count, Moment, Record, moment, raw

# --- shapes ---------------------------------------------------------------------------------------


class ScheduleRecord(Record, kw_only=True):
    """One schedule. ``args`` is what the earlier ScheduleZero showed: handler, method, parameters."""

    id: str
    handler_id: str
    job_method: str
    job_params: Raw
    args: list[Any]
    trigger: Raw
    options: Raw
    policies: Policies
    state: ScheduleState
    # Why it is paused or quarantined.
    note: str | None
    # Snoozed: when it goes on by itself.
    paused_until: Moment | None
    misfire_grace_s: float
    next_fire_time: Moment | None
    # The last that ran.
    last_fire_time: Moment | None
    # Fires to come that are left out, as somebody asked.
    skips: list[Moment]
    # The execution whose end its next fire follows (an interval that is anchored at the end).
    waits_for: str | None
    # How often it has run.
    runs: int
    generation: int
    version: int
    created_at: Moment | None
    updated_at: Moment | None
    updated_by: str | None


class SchedulePage(Record, kw_only=True):
    """``count`` is that of all pages: of all schedules that the filters let through."""

    schedules: list[ScheduleRecord]
    count: Count
    limit: int
    next_cursor: str | None


class SchedulesCreated(Record, kw_only=True):
    status: str
    ids: list[str]
    schedules: list[ScheduleRecord]


class Scheduled(Record, kw_only=True):
    status: str
    job_id: str


class Deleted(Record, kw_only=True):
    status: str
    message: str
    schedule_id: str


class DeletedMany(Record, kw_only=True):
    """The ids that were there."""

    status: str
    count: Count
    deleted: list[str]


class FireRecord(Record, kw_only=True):
    """One row of the ledger; with ``count`` > 1 the fires from ``nominal_time`` to ``last_nominal_time``."""

    schedule_id: str
    generation: int
    nominal_time: Moment | None
    outcome: FireOutcome
    reason: SkipReason | None
    # What ran: an execution, or where the schedule says ``broadcast`` or ``shards``, a group of them.
    execution_id: str | None
    group_id: str | None
    count: int
    last_nominal_time: Moment | None
    decided_at: Moment | None
    # How long after its nominal time it was decided.
    lateness_s: float
    # More about the reason: which calendar, and what in it. With a group: what it is made of.
    detail: str | None


class FirePage(Record, kw_only=True):
    count: Count
    limit: int
    records: list[FireRecord]
    next_cursor: str | None


class FreezeRecord(Record, kw_only=True):
    """A time in which no schedule fired."""

    id: str
    from_: Moment | None = field(name="from")
    to: Moment | None
    note: str | None
    by: str | None
    # What became of its fires: `none`, `latest`, `all`, or `policy` (each schedule's own).
    catch_up: str
    # Who ended it; none if its own end came.
    thawed_by: str | None


class Freezes(Record, kw_only=True):
    """The freeze in force, and all that there were, the newest first."""

    current: FreezeRecord | None
    freezes: list[FreezeRecord]


class BackfillCounted(Record, kw_only=True):
    """What a backfill would run."""

    count: Count
    first_time: Moment | None
    last_time: Moment | None
    takes_s: float


class BackfillRecord(Record, kw_only=True):
    """A past range that is run. Its executions have the origin `backfill`, and its id as `group_id`."""

    id: str
    schedule_id: str
    from_: Moment | None = field(name="from")
    to: Moment | None
    next_time: Moment | None
    rate_per_s: float
    count: Count
    created: Count
    state: BackfillState
    created_at: Moment | None
    by: str | None


class BackfillPage(Record, kw_only=True):
    count: Count
    limit: int
    backfills: list[BackfillRecord]
    next_cursor: str | None


class PreviewFire(Record, kw_only=True):
    """A fire to come. Marks: `dst_gap`, `dst_fold`, `shifted`, and `holiday` or `blackout` (it will be skipped)."""

    time: Moment
    # On the wall of the trigger's zone.
    local: str
    marks: list[str]
    # Which named calendar, and what in it.
    detail: str | None


class LeftOutRecord(Record, kw_only=True):
    """A local time that the trigger names, and that a change of the clock leaves out."""

    local: str
    after: Moment


class PreviewRecord(Record, kw_only=True):
    """A trigger in words, as it is understood, when it fires next, and what may be meant otherwise."""

    words: str
    trigger: dict[str, Any]
    zone: str
    fires: list[PreviewFire]
    left_out: list[LeftOutRecord]
    warnings: list[str]


# --- making them ------------------------------------------------------------------------------------


def schedule_record(schedule: Schedule) -> ScheduleRecord:
    params = Raw(schedule.params)
    return ScheduleRecord(
        id=schedule.id,
        handler_id=schedule.handler_id,
        job_method=schedule.job_method,
        job_params=params,
        args=[schedule.handler_id, schedule.job_method, params],
        trigger=Raw(schedule.trigger),
        options=raw(schedule.options),
        policies=policies_of(schedule.policies),
        state=schedule.state,
        note=schedule.note,
        paused_until=rfc3339(schedule.resume_us),
        misfire_grace_s=schedule.misfire_grace_s,
        next_fire_time=rfc3339(schedule.next_fire_us),
        last_fire_time=rfc3339(schedule.last_fire_us),
        skips=[moment(us) for us in skips_of(schedule.skips)],
        waits_for=schedule.waits_for,
        runs=schedule.runs,
        generation=schedule.generation,
        version=schedule.version,
        created_at=rfc3339(schedule.created_us),
        updated_at=rfc3339(schedule.updated_us),
        updated_by=schedule.updated_by,
    )


def fire_record(fire: Fire) -> FireRecord:
    return FireRecord(
        schedule_id=fire.schedule_id,
        generation=fire.generation,
        nominal_time=rfc3339(fire.nominal_us),
        outcome=fire.outcome,
        reason=fire.reason,
        execution_id=None if fire.is_group else fire.execution_id,
        group_id=fire.execution_id if fire.is_group else None,
        count=fire.count,
        last_nominal_time=rfc3339(fire.last_nominal_us),
        decided_at=rfc3339(fire.decided_us),
        lateness_s=(fire.decided_us - fire.nominal_us) / 1e6,
        detail=fire.detail,
    )


def freeze_record(freeze: Freeze) -> FreezeRecord:
    return FreezeRecord(
        id=freeze.id,
        from_=rfc3339(freeze.from_us),
        to=rfc3339(freeze.to_us),
        note=freeze.note,
        by=freeze.by,
        catch_up="policy" if freeze.catch_up is None else freeze.catch_up.value,
        thawed_by=freeze.thawed_by,
    )


def backfill_counted(counted: BackfillCount) -> BackfillCounted:
    return BackfillCounted(
        count=counted.total,
        first_time=rfc3339(counted.first_us),
        last_time=rfc3339(counted.last_us),
        takes_s=counted.takes_s,
    )


def backfill_record(backfill: Backfill) -> BackfillRecord:
    return BackfillRecord(
        id=backfill.id,
        schedule_id=backfill.schedule_id,
        from_=rfc3339(backfill.from_us),
        to=rfc3339(backfill.to_us),
        next_time=rfc3339(backfill.next_us),
        rate_per_s=backfill.rate_per_s,
        count=backfill.total,
        created=backfill.created,
        state=backfill.state,
        created_at=rfc3339(backfill.created_us),
        by=backfill.by,
    )


def preview_record(preview: Preview) -> PreviewRecord:
    return PreviewRecord(
        words=preview.words,
        trigger=preview.document,
        zone=preview.zone,
        fires=[
            PreviewFire(time=moment(time.at_us), local=time.local, marks=time.marks, detail=time.detail)
            for time in preview.times
        ],
        left_out=[LeftOutRecord(local=time.local, after=moment(time.after_us)) for time in preview.left_out],
        warnings=preview.warnings,
    )
