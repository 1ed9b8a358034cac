"""Executions as the API shows them: in lists, alone with everything that is known, and in numbers."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from schedule_zero.clock import rfc3339
from schedule_zero.dispatch.views import ProgressView
from schedule_zero.dispatch.waiting import Reason, WaitingFor
from schedule_zero.model import AttemptOutcome, Execution, Origin, State
from schedule_zero.rules.options import shown
from schedule_zero.service.deliveries import Delivery, deliveries
from schedule_zero.service.specs import ExecutionView
from schedule_zero.store.execution_reads import HandlerStats, Stats
from schedule_zero.store.executions import CancelAnswer, CancelOutcome
from schedule_zero.web.api.records import NULL, Count, Moment, Record, raw

# A list leaves out payloads larger than this (and says so): a page must not grow with what jobs return.
MAX_LISTED_BYTES = 16 << 10


# --- shapes ---------------------------------------------------------------------------------------


class ExecutionRecord(Record, kw_only=True):
    """One execution. ``job_id`` is the earlier name of ``schedule_id``."""

    id: str
    schedule_id: str | None
    job_id: str | None
    handler_id: str
    job_method: str
    status: State
    priority: int
    attempt: int
    node_id: str | None
    origin: Origin
    # The execution that this one retries.
    parent_id: str | None
    # The backfill that it belongs to.
    group_id: str | None
    # ``2/8``: part 2, counted from 0, of 8.
    shard: str | None
    nominal_time: Moment | None
    not_before: Moment | None
    created_at: Moment | None
    dispatched_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    stored_at: Moment | None
    # From started_at to finished_at.
    duration_ms: float | None
    # What its last attempt used, where that ran in a process of its own.
    cpu_ms: float | None
    peak_rss_bytes: int | None
    cancel_requested: bool
    # The group of its failure, until somebody deals with it.
    dead_letter: str | None
    result: Raw
    # Of a result that is stored aside, because of its size: ``…/result`` has it.
    result_bytes: int | None
    error: Raw
    # Payloads left out because of their size: the execution itself, or ``…/result``, shows them.
    omitted: list[str]


class ExportRecord(ExecutionRecord, kw_only=True):
    """One execution in a file: whole, but for a result that is stored aside."""

    job_params: Raw


class AttemptRecord(Record, kw_only=True):
    """One delivery to a node; ``outcome`` is null while it runs."""

    attempt: int
    token: int
    node_id: str | None
    outcome: AttemptOutcome | None
    dispatched_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    # What its process used, where it had one of its own.
    cpu_ms: float | None
    peak_rss_bytes: int | None
    # How far it is, or was when it ended; null if it never said so.
    progress: ProgressView | None
    error: Raw


class WaitingForRecord(Record, kw_only=True):
    """What is in the way of a pending execution; ``until`` where a rate says when the next one may start."""

    reason: Reason
    detail: str
    running: Count | None
    limit: Count | None
    until: Moment | None


class ExecutionDetail(ExecutionRecord, kw_only=True):
    """One execution with everything that is known about it."""

    job_params: Raw
    options: Raw
    idempotency_key: str | None
    fence_token: int
    lost_count: int
    # Every delivery to a node, oldest first; the last one may still run.
    attempts: list[AttemptRecord]
    # Of the last of them.
    progress: ProgressView | None
    # While it is pending: why it has not started.
    waiting_for: WaitingForRecord | None


class ExecutionPage(Record, kw_only=True):
    count: Count
    limit: int
    records: list[ExecutionRecord]
    next_cursor: str | None
    # The page is short because enough was looked at, back to this moment; `next_cursor` goes on from there.
    searched_back_to: Moment | None
    # The search as it was understood.
    q: str


class ErrorPage(Record, kw_only=True):
    count: Count
    limit: int
    errors: list[ExecutionRecord]


class Ids(Record, kw_only=True):
    """Ids in the order of the request; what they name is committed."""

    ids: list[str]


class Submitted(Ids, kw_only=True):
    """``existing``: those of the ids that were there before, and have the unique keys of what was submitted."""

    existing: list[str]


class Cleared(Record, kw_only=True):
    status: str
    cleared: Count


class Created(Record, kw_only=True):
    """The id of the new execution, or (of a schedule whose runs are groups) of the new group; it is committed."""

    id: str
    execution_id: str | None
    group_id: str | None = None
    status: str = "success"
    # It was there before, and has the unique key.
    existing: bool = False


class Cancelled(Record, kw_only=True):
    """``outcome`` is ``cancelled``, ``requested`` (its node is told, and confirms) or ``terminal`` (it was over)."""

    id: str
    outcome: CancelOutcome
    status: State | None


class CancelledMany(Record, kw_only=True):
    """How many were found, and what became of them; `next_cursor` where there may be more."""

    matched: Count
    # They waited, and are over.
    cancelled: Count
    # They run: their nodes are told, and confirm.
    requested: Count
    # They were over, began meanwhile, or don't exist.
    left: Count
    dry_run: bool
    next_cursor: str | None
    # Of ``matched``: no more than that.
    exact: bool = True


class Ran(Record, kw_only=True):
    """``status`` is ``success``, ``error`` (the job's own, see ``error``) or ``accepted`` (not finished in time)."""

    status: str
    message: str
    execution_id: str
    result: Raw
    # {type, message, traceback} where the job failed.
    error: Raw
    # Of a result that is too large to stand here: the execution's ``…/result`` has it.
    result_bytes: int | None = None


class HandlerCounts(Record, kw_only=True):
    """The executions of one handler."""

    total: Count
    by_status: dict[str, int]
    success_count: Count
    error_count: Count
    avg_duration_ms: float | None


class StatsRecord(Record, kw_only=True):
    """Executions stored now; ``lifetime_executions`` also counts those that were cleared."""

    total_executions: Count
    lifetime_executions: Count
    by_status: dict[str, int]
    success_count: Count
    error_count: Count
    # Of those that completed, failed, timed out or died; None before the first.
    success_rate: float | None
    # Of those that completed.
    avg_duration_ms: float | None
    handler_stats: dict[str, HandlerCounts]


# --- making them ------------------------------------------------------------------------------------


def execution_record(execution: Execution) -> ExecutionRecord:
    """The record for a list."""
    fields = _execution_fields(execution)
    for name in ("result", "error"):
        payload = getattr(execution, name)
        if payload is not None and len(payload) > MAX_LISTED_BYTES:
            fields[name] = NULL
            fields["omitted"].append(name)
    return ExecutionRecord(**fields)


def export_record(execution: Execution) -> ExportRecord:
    return ExportRecord(**_execution_fields(execution), job_params=Raw(execution.params))


def execution_detail(view: ExecutionView) -> ExecutionDetail:
    execution = view.execution
    return ExecutionDetail(
        **_execution_fields(execution),
        job_params=Raw(execution.params),
        options=Raw(shown(execution.options)),
        idempotency_key=execution.idempotency_key,
        fence_token=execution.token,
        lost_count=execution.lost_count,
        attempts=[_attempt_record(one) for one in deliveries(view)],
        progress=view.progress,
        waiting_for=None if view.waiting_for is None else _waiting_for(view.waiting_for),
    )


def _waiting_for(waits: WaitingFor) -> WaitingForRecord:
    return WaitingForRecord(
        reason=waits.reason,
        detail=waits.detail,
        running=waits.running,
        limit=waits.limit,
        until=rfc3339(waits.until_us),
    )


def cancelled(answer: CancelAnswer) -> Cancelled:
    return Cancelled(id=answer.id, outcome=answer.outcome, status=answer.state)


def stats_record(stats: Stats) -> StatsRecord:
    success, error = _success_and_error(stats.by_state)
    return StatsRecord(
        total_executions=stats.total,
        lifetime_executions=stats.lifetime,
        by_status=stats.by_state,
        success_count=success,
        error_count=error,
        success_rate=success / (success + error) if success + error else None,
        avg_duration_ms=stats.completed_run_us / success / 1000 if success else None,
        handler_stats={id_: _handler_counts(handler) for id_, handler in stats.handlers.items()},
    )


def _handler_counts(handler: HandlerStats) -> HandlerCounts:
    success, error = _success_and_error(handler.by_state)
    return HandlerCounts(
        total=sum(handler.by_state.values()),
        by_status=handler.by_state,
        success_count=success,
        error_count=error,
        avg_duration_ms=handler.completed_run_us / success / 1000 if success else None,
    )


def _success_and_error(by_state: dict[str, int]) -> tuple[int, int]:
    errors = sum(by_state.get(state, 0) for state in (State.FAILED, State.TIMEOUT, State.DEAD))
    return by_state.get(State.COMPLETED, 0), errors


def _execution_fields(execution: Execution) -> dict[str, Any]:
    started_us, finished_us = execution.started_us, execution.finished_us
    return {
        "id": execution.id,
        "schedule_id": execution.schedule_id,
        "job_id": execution.schedule_id,
        "handler_id": execution.handler_id,
        "job_method": execution.job_method,
        "status": execution.state,
        "priority": execution.priority,
        "attempt": execution.attempt,
        "node_id": execution.node_id,
        "origin": execution.origin,
        "parent_id": execution.parent_id,
        "group_id": execution.group_id,
        "shard": execution.shard,
        "nominal_time": rfc3339(execution.nominal_us),
        "not_before": rfc3339(execution.not_before_us),
        "created_at": rfc3339(execution.created_us),
        "dispatched_at": rfc3339(execution.dispatched_us),
        "started_at": rfc3339(started_us),
        "finished_at": rfc3339(finished_us),
        "stored_at": rfc3339(execution.stored_us),
        "duration_ms": None if started_us is None or finished_us is None else (finished_us - started_us) / 1000,
        "cpu_ms": _ms(execution.cpu_us),
        "peak_rss_bytes": execution.peak_rss_bytes,
        "cancel_requested": execution.cancel_requested,
        "dead_letter": execution.dead_letter,
        "result": raw(execution.result),
        "result_bytes": execution.result_bytes,
        "error": raw(execution.error),
        "omitted": ["result"] if execution.result_bytes else [],
    }


def _ms(us: int | None) -> float | None:
    return None if us is None else us / 1000


def _attempt_record(one: Delivery) -> AttemptRecord:
    return AttemptRecord(
        attempt=one.attempt,
        token=one.token,
        node_id=one.node_id,
        outcome=one.outcome,
        dispatched_at=rfc3339(one.dispatched_us),
        started_at=rfc3339(one.started_us),
        finished_at=rfc3339(one.finished_us),
        cpu_ms=_ms(one.cpu_us),
        peak_rss_bytes=one.peak_rss_bytes,
        progress=one.progress,
        error=raw(one.error),
    )
