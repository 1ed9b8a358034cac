"""Schedules, their ledger and their triggers as the API shows them."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from schedule_zero.clock import rfc3339
from schedule_zero.model import Fire, FireOutcome, Schedule, ScheduleState, SkipReason
from schedule_zero.service.specs import Preview
from schedule_zero.web.api.records import Count, Moment, Record, raw

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
    state: ScheduleState
    # Why it is paused or quarantined.
    note: str | None
    misfire_grace_s: float
    next_fire_time: Moment | None
    last_fire_time: Moment | None
    generation: int
    version: int
    created_at: Moment | None
    updated_at: Moment | None


class SchedulePage(Record, kw_only=True):
    """``count`` is that of all schedules, not of this page."""

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
    execution_id: str | None
    count: int
    last_nominal_time: Moment | None
    decided_at: Moment | None


class FirePage(Record, kw_only=True):
    count: Count
    limit: int
    records: list[FireRecord]
    next_cursor: str | None


class PreviewRecord(Record, kw_only=True):
    """A trigger in words, as it is understood, and when it fires next."""

    words: str
    trigger: dict[str, Any]
    fires: list[Moment]


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
        state=schedule.state,
        note=schedule.note,
        misfire_grace_s=schedule.misfire_grace_s,
        next_fire_time=rfc3339(schedule.next_fire_us),
        last_fire_time=rfc3339(schedule.last_fire_us),
        generation=schedule.generation,
        version=schedule.version,
        created_at=rfc3339(schedule.created_us),
        updated_at=rfc3339(schedule.updated_us),
    )


def fire_record(fire: Fire) -> FireRecord:
    return FireRecord(
        schedule_id=fire.schedule_id,
        generation=fire.generation,
        nominal_time=rfc3339(fire.nominal_us),
        outcome=fire.outcome,
        reason=fire.reason,
        execution_id=fire.execution_id,
        count=fire.count,
        last_nominal_time=rfc3339(fire.last_nominal_us),
        decided_at=rfc3339(fire.decided_us),
    )


def preview_record(preview: Preview) -> PreviewRecord:
    return PreviewRecord(
        words=preview.words, trigger=preview.trigger, fires=[rfc3339(us) or "" for us in preview.times_us]
    )
