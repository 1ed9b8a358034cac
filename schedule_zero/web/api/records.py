"""What the API gives: one Struct per record, made from what the service returns. Moments are RFC 3339, UTC.

Payloads (parameters, results, errors) are spliced in as they are stored, never decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Raw, Struct

from schedule_zero.clock import rfc3339
from schedule_zero.model import (
    Attempt,
    AttemptOutcome,
    Execution,
    Fire,
    FireOutcome,
    Origin,
    Role,
    Schedule,
    ScheduleState,
    SkipReason,
    State,
)
from schedule_zero.service.specs import ExecutionView, Preview
from schedule_zero.store.execution_reads import HandlerStats, Stats
from schedule_zero.store.executions import CancelAnswer, CancelOutcome

if TYPE_CHECKING:
    from schedule_zero.dispatch.dispatcher import NodeView
    from schedule_zero.dispatch.registry import HandlerView
    from schedule_zero.store.node_keys import NodeKey
    from schedule_zero.store.tokens import ApiToken

# A list leaves out payloads larger than this (and says so): a page must not grow with what jobs return.
MAX_LISTED_BYTES = 16 << 10

NULL = Raw(b"null")
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Count = Annotated[int, Meta(ge=0)]


def raw(payload: bytes | None) -> Raw:
    return NULL if payload is None else Raw(payload)


class Record(Struct, kw_only=True):
    """A JSON object that the server answers with."""


# --- executions -----------------------------------------------------------------------------------


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
    nominal_time: Moment | None
    not_before: Moment | None
    created_at: Moment | None
    dispatched_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    stored_at: Moment | None
    # From started_at to finished_at.
    duration_ms: float | None
    cancel_requested: bool
    result: Raw
    error: Raw
    # Payloads left out of a list because of their size; the execution itself shows them.
    omitted: list[str] = []


class AttemptRecord(Record, kw_only=True):
    """One delivery to a node; ``outcome`` is null while it runs."""

    attempt: int
    token: int
    node_id: str | None
    outcome: AttemptOutcome | None
    dispatched_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    error: Raw


class ExecutionDetail(ExecutionRecord, kw_only=True):
    """One execution with everything that is known about it."""

    job_params: Raw
    options: Raw
    idempotency_key: str | None
    fence_token: int
    lost_count: int
    # Every delivery to a node, oldest first; the last one may still run.
    attempts: list[AttemptRecord]
    progress: Any


class ExecutionPage(Record, kw_only=True):
    count: Count
    limit: int
    records: list[ExecutionRecord]
    next_cursor: str | None


class ErrorPage(Record, kw_only=True):
    count: Count
    limit: int
    errors: list[ExecutionRecord]


class Ids(Record, kw_only=True):
    """Ids in the order of the request; what they name is committed."""

    ids: list[str]


class Cleared(Record, kw_only=True):
    status: str
    cleared: Count


class Created(Record, kw_only=True):
    """The id of the new execution; it is committed."""

    id: str
    execution_id: str
    status: str = "success"


class Cancelled(Record, kw_only=True):
    """``outcome`` is ``cancelled``, ``requested`` (its node is told, and confirms) or ``terminal`` (it was over)."""

    id: str
    outcome: CancelOutcome
    status: State | None


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


def execution_record(execution: Execution, *, listed: bool = True) -> ExecutionRecord:
    """The record of a list; one that stands alone has ``listed`` False and leaves nothing out."""
    fields = _execution_fields(execution)
    if listed:
        for name in ("result", "error"):
            payload = getattr(execution, name)
            if payload is not None and len(payload) > MAX_LISTED_BYTES:
                fields[name] = NULL
                fields.setdefault("omitted", []).append(name)
    return ExecutionRecord(**fields)


def execution_detail(view: ExecutionView) -> ExecutionDetail:
    execution = view.execution
    return ExecutionDetail(
        **_execution_fields(execution),
        job_params=Raw(execution.params),
        options=raw(execution.options),
        idempotency_key=execution.idempotency_key,
        fence_token=execution.token,
        lost_count=execution.lost_count,
        attempts=_attempts(view),
        progress=view.progress,
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
        "nominal_time": rfc3339(execution.nominal_us),
        "not_before": rfc3339(execution.not_before_us),
        "created_at": rfc3339(execution.created_us),
        "dispatched_at": rfc3339(execution.dispatched_us),
        "started_at": rfc3339(started_us),
        "finished_at": rfc3339(finished_us),
        "stored_at": rfc3339(execution.stored_us),
        "duration_ms": None if started_us is None or finished_us is None else (finished_us - started_us) / 1000,
        "cancel_requested": execution.cancel_requested,
        "result": raw(execution.result),
        "error": raw(execution.error),
    }


def _attempts(view: ExecutionView) -> list[AttemptRecord]:
    """The archived attempts, and the one that is part of the execution itself unless it was archived with its end."""
    records = [_attempt_record(attempt) for attempt in view.attempts]
    current = view.execution
    if current.token and not any(record.token == current.token for record in records):
        records.append(
            AttemptRecord(
                attempt=current.attempt,
                token=current.token,
                node_id=current.node_id,
                outcome=_OUTCOMES.get(current.state),
                dispatched_at=rfc3339(current.dispatched_us),
                started_at=rfc3339(current.started_us),
                finished_at=rfc3339(current.finished_us),
                error=raw(current.error),
            )
        )
    return records


# What the state of an execution says about its last attempt.
_OUTCOMES = {
    State.COMPLETED: AttemptOutcome.COMPLETED,
    State.FAILED: AttemptOutcome.FAILED,
    State.TIMEOUT: AttemptOutcome.TIMEOUT,
    State.CANCELLED: AttemptOutcome.CANCELLED,
}


def _attempt_record(attempt: Attempt) -> AttemptRecord:
    return AttemptRecord(
        attempt=attempt.attempt,
        token=attempt.token,
        node_id=attempt.node_id,
        outcome=attempt.outcome,
        dispatched_at=rfc3339(attempt.dispatched_us),
        started_at=rfc3339(attempt.started_us),
        finished_at=rfc3339(attempt.finished_us),
        error=raw(attempt.error),
    )


# --- schedules ------------------------------------------------------------------------------------


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


# --- the earlier ScheduleZero's -------------------------------------------------------------------


class Scheduled(Record, kw_only=True):
    status: str
    job_id: str


class Ran(Record, kw_only=True):
    """``status`` is ``success``, ``error`` (the job's own, see ``error``) or ``accepted`` (not finished in time)."""

    status: str
    message: str
    execution_id: str
    result: Raw
    # {type, message, traceback} where the job failed.
    error: Raw


# --- nodes, handlers, system ----------------------------------------------------------------------


class MethodRecord(Record, kw_only=True):
    """One job method; ``schema`` is the JSON schema of its parameters."""

    name: str
    # Called so on the wire and in the store as well.
    schema: Raw
    options: Any
    doc: str
    version: int


class HandlerRecord(Record, kw_only=True):
    """One handler. ``address``, ``methods`` (names) and ``status`` are the earlier ScheduleZero's."""

    id: str
    address: str
    methods: list[str]
    status: str
    nodes: list[str]
    job_methods: list[MethodRecord]
    registered_at: Moment | None
    last_updated: Moment | None


class Handlers(Record, kw_only=True):
    handlers: list[HandlerRecord]
    count: Count


class NodeRecord(Record, kw_only=True):
    """One node and its live session."""

    id: str
    node_id: str
    state: str
    handlers: list[str]
    slots: int
    running: int
    window: int
    draining: bool
    heartbeat_age_s: float | None
    version: str
    host: str
    pid: int
    instance: str
    connected_at: Moment | None


class Nodes(Record, kw_only=True):
    nodes: list[NodeRecord]
    count: Count


class TokenRecord(Record, kw_only=True):
    id: str
    name: str
    role: Role
    created_at: Moment | None
    revoked_at: Moment | None


class Tokens(Record, kw_only=True):
    tokens: list[TokenRecord]


class TokenCreated(TokenRecord, kw_only=True):
    """``token`` is shown this once."""

    token: str


class NodeKeyRecord(Record, kw_only=True):
    id: str
    node_id: str
    handlers: list[str]
    public_key: str
    created_at: Moment | None
    revoked_at: Moment | None


class NodeKeys(Record, kw_only=True):
    node_keys: list[NodeKeyRecord]


class NodeKeyCreated(NodeKeyRecord, kw_only=True):
    """``secret_key`` is shown this once."""

    secret_key: str


class Revoked(Record, kw_only=True):
    status: str
    id: str


class Live(Record, kw_only=True):
    status: str


class Ready(Record, kw_only=True):
    """``checks``: name → ``ok``, or what is the matter."""

    status: str
    checks: dict[str, str]


class Version(Record, kw_only=True):
    service: str
    version: str


class Health(Struct, kw_only=True):
    """``status`` is ``ok`` or ``degraded``; ``checks`` says what is the matter."""

    status: str
    service: str
    instance_name: str
    version: str
    started_at: Moment
    uptime_s: float
    checks: dict[str, str]


def handler_record(handler: HandlerView) -> HandlerRecord:
    return HandlerRecord(
        id=handler.handler_id,
        address=", ".join(handler.node_ids),
        methods=[method.name for method in handler.methods],
        status="Connected" if handler.node_ids else "Disconnected",
        nodes=handler.node_ids,
        job_methods=[
            MethodRecord(
                name=method.name,
                schema=Raw(method.schema),
                options=method.options,
                doc=method.doc,
                version=method.version,
            )
            for method in handler.methods
        ],
        registered_at=rfc3339(handler.registered_us),
        last_updated=rfc3339(handler.updated_us),
    )


def node_record(node: NodeView) -> NodeRecord:
    return NodeRecord(
        id=node.node_id,
        node_id=node.node_id,
        state=node.state,
        handlers=node.handlers,
        slots=node.slots,
        running=node.running,
        window=node.window,
        draining=node.draining,
        heartbeat_age_s=node.heartbeat_age_s,
        version=node.version,
        host=node.host,
        pid=node.pid,
        instance=node.instance,
        connected_at=rfc3339(node.connected_us),
    )


def token_record(token: ApiToken) -> TokenRecord:
    return TokenRecord(**_token_fields(token))


def token_created(token: ApiToken, secret: str) -> TokenCreated:
    return TokenCreated(**_token_fields(token), token=secret)


def _token_fields(token: ApiToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "role": token.role,
        "created_at": rfc3339(token.created_us),
        "revoked_at": rfc3339(token.revoked_us),
    }


def node_key_record(key: NodeKey) -> NodeKeyRecord:
    return NodeKeyRecord(**_node_key_fields(key))


def node_key_created(key: NodeKey, secret: str) -> NodeKeyCreated:
    return NodeKeyCreated(**_node_key_fields(key), secret_key=secret)


def _node_key_fields(key: NodeKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "node_id": key.node_id,
        "handlers": key.handlers,
        "public_key": key.public_key,
        "created_at": rfc3339(key.created_us),
        "revoked_at": rfc3339(key.revoked_us),
    }


# --- events ---------------------------------------------------------------------------------------


class EventRecord(Record, kw_only=True):
    """The ``data:`` of a server-sent event: what happened, to what (its id), and the details."""

    kind: str
    id: str
    data: dict[str, Any]


class Resync(Record, kw_only=True):
    """The ``data:`` of ``event: resync``: events were missed, so read the state again."""

    reason: str
