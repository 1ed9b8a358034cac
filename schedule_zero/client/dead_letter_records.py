"""What the client gives back about dead letters."""

from __future__ import annotations

from datetime import datetime

from schedule_zero.client.records import ExecutionRecord, Record
from schedule_zero.model import RequeueState


class DeadLetterGroup(Record, frozen=True):
    """Executions of one job that failed alike; error and message are the newest's."""

    id: str
    handler_id: str
    job_method: str
    count: int
    first_seen: datetime
    last_seen: datetime
    error_type: str | None = None
    message: str | None = None
    sample_ids: tuple[str, ...] = ()


class DeadLetterGroups(Record, frozen=True):
    """One page, by job; ``next_cursor`` None on the last."""

    groups: list[DeadLetterGroup]
    next_cursor: str | None = None


class DeadLetterPage(Record, frozen=True):
    """The executions of one group, newest first; ``next_cursor`` None on the last page."""

    records: list[ExecutionRecord]
    next_cursor: str | None = None


class RequeueRecord(Record, frozen=True):
    """Dead letters that are run again at a rate; the executions have its id as ``group_id``."""

    id: str
    state: RequeueState
    rate_per_s: float
    count: int
    created: int = 0
    # Those that their job would not take any more; they stay dead letters. ``note``: why the first of them.
    refused: int = 0
    note: str | None = None
    group: str | None = None
    handler_id: str | None = None
    job_method: str | None = None
    created_at: datetime | None = None
    by: str | None = None


class RequeuePage(Record, frozen=True):
    """The newest first; ``next_cursor`` None on the last page."""

    requeues: list[RequeueRecord]
    next_cursor: str | None = None
