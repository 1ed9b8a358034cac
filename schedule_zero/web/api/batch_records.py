"""Batches as the API shows them."""

from __future__ import annotations

from schedule_zero.clock import rfc3339
from schedule_zero.model import Batch, BatchKind, BatchState
from schedule_zero.store.batches import what_of
from schedule_zero.web.api.records import Count, Moment, Record, moment


class Matched(Record, kw_only=True):
    """How many there are, nothing was done; not ``exact``: at least so many."""

    matched: Count
    exact: bool
    dry_run: bool = True


class BatchRecord(Record, kw_only=True):
    """What is done to all that a search found; executions that it creates have its id as ``group_id``."""

    id: str
    kind: BatchKind
    state: BatchState
    # The search, as it was understood; other filters, and ids, may have narrowed it.
    q: str
    # How many there were when it began; not ``exact``: at least so many.
    matched: Count
    exact: bool
    # Cancelled, told to end, or created anew.
    done: Count
    # What had changed meanwhile, and what could not be done.
    skipped: Count
    failed: Count
    # How many for each reason: ``over``, ``began``, ``gone``, ``unique``, or the code of an error.
    reasons: dict[str, int]
    # The first of those that were skipped or failed, in words; or why the batch ended early.
    note: str | None
    created_at: Moment
    ended_at: Moment | None
    by: str | None


class BatchPage(Record, kw_only=True):
    count: Count
    limit: int
    batches: list[BatchRecord]
    next_cursor: str | None


def batch_record(row: Batch) -> BatchRecord:
    return BatchRecord(
        id=row.id,
        kind=row.kind,
        state=row.state,
        q=what_of(row).q,
        matched=row.total,
        exact=row.exact,
        done=row.done,
        skipped=row.skipped,
        failed=row.failed,
        reasons=row.reasons,
        note=row.note,
        created_at=moment(row.created_us),
        ended_at=rfc3339(row.ended_us),
        by=row.by,
    )
