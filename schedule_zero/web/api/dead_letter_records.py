"""Dead letters and requeues as the API shows them."""

from __future__ import annotations

import msgspec

from schedule_zero.clock import rfc3339
from schedule_zero.model import JobError, Requeue, RequeueState
from schedule_zero.store.dead_letters import Group
from schedule_zero.web.api.execution_records import ExecutionRecord
from schedule_zero.web.api.records import Count, Moment, Record, moment

# Of a message in a list of groups.
MAX_MESSAGE = 1_000
_decode_error = msgspec.json.Decoder(JobError).decode


# --- shapes ---------------------------------------------------------------------------------------


class DeadLetterGroup(Record, kw_only=True):
    """Executions of one job that failed alike."""

    id: str
    handler_id: str
    job_method: str
    count: Count
    # Of the newest.
    error_type: str | None
    message: str | None
    # When the oldest and the newest of them were recorded.
    first_seen: Moment
    last_seen: Moment
    # The newest few.
    sample_ids: list[str]


class DeadLetterGroups(Record, kw_only=True):
    count: Count
    limit: int
    groups: list[DeadLetterGroup]
    next_cursor: str | None


class DeadLetterPage(Record, kw_only=True):
    count: Count
    limit: int
    records: list[ExecutionRecord]
    next_cursor: str | None


class Counted(Record, kw_only=True):
    """How many there are; nothing was done."""

    count: Count


class Requeued(Record, kw_only=True):
    """``ids`` are the new executions, in order; null for a letter that was dealt with already."""

    id: str
    ids: list[str | None]


class Discarded(Record, kw_only=True):
    """``count``: how many there were; ``discarded``: how many are put aside (0 where that was only asked)."""

    count: Count
    discarded: Count


class RequeueRecord(Record, kw_only=True):
    """Dead letters that are run again at a rate; the executions have its id as ``group_id``."""

    id: str
    group: str | None
    handler_id: str | None
    job_method: str | None
    rate_per_s: float
    # Dead letters when it began; executions created so far; those that their job would not take (they stay).
    count: Count
    created: Count
    refused: Count
    # Why the first of those was refused.
    note: str | None
    state: RequeueState
    created_at: Moment
    by: str | None


class RequeuePage(Record, kw_only=True):
    count: Count
    limit: int
    requeues: list[RequeueRecord]
    next_cursor: str | None


# --- making them ------------------------------------------------------------------------------------


def group_record(group: Group) -> DeadLetterGroup:
    error = None if group.error is None else _decode_error(group.error)
    return DeadLetterGroup(
        id=group.id,
        handler_id=group.handler_id,
        job_method=group.job_method,
        count=group.count,
        error_type=None if error is None else error.type,
        message=None if error is None else error.message[:MAX_MESSAGE],
        first_seen=moment(group.first_us),
        last_seen=moment(group.last_us),
        sample_ids=group.sample_ids,
    )


def requeue_record(row: Requeue) -> RequeueRecord:
    return RequeueRecord(
        id=row.id,
        group=row.dead_letter,
        handler_id=row.handler_id,
        job_method=row.job_method,
        rate_per_s=row.rate_per_s,
        count=row.total,
        created=row.created,
        refused=row.refused,
        note=row.note,
        state=row.state,
        created_at=rfc3339(row.created_us) or "",
        by=row.by,
    )
