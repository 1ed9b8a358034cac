"""Endpoints for bots: nodes that speak HTTP. They translate; what happens is decided by the dispatcher."""

from __future__ import annotations

import msgspec
from msgspec import UnsetType

from schedule_zero.clock import rfc3339
from schedule_zero.errors import InvalidField
from schedule_zero.model import AttemptOutcome, JobError, JobMethod
from schedule_zero.service.jobs import ANY_PARAMS, ClaimSpec, LogLine, LogPart, ResultPart
from schedule_zero.web.api.job_records import (
    ClaimBody,
    ClaimRecord,
    ErrorBody,
    HeartbeatBody,
    HeartbeatRecord,
    JobRecord,
    LogBody,
    LogLineBody,
    LogRecord,
    LogStream,
    MethodBody,
    ProgressBody,
    ResultBody,
    ResultPartBody,
    ResultPartRecord,
    ResultRecord,
    ResultStatus,
)
from schedule_zero.web.api.records import moment, raw
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.schemas import moment_us
from schedule_zero.wire.log_lines import code_of
from schedule_zero.wire.messages import DispatchItem, LastProgress, ResultItem


async def claim(request: ApiRequest) -> Response:
    """Take up to ``batch_size`` jobs; with ``wait_s`` not before there is one, or a cancel, or the time is up."""
    body: ClaimBody = request.body
    given = await request.service.jobs.claim(
        request.principal,
        ClaimSpec(
            bot_id=body.bot_id,
            operations=_operations(body),
            batch_size=body.batch_size,
            wait_s=request.wait_s(body.wait_s),
            instance=None if isinstance(body.instance, UnsetType) else body.instance,
            epoch=body.epoch,
            state_key=None if isinstance(body.state_key, UnsetType) else body.state_key,
            running=None if isinstance(body.running, UnsetType) else frozenset(body.running),
            leaving=body.leaving,
            outbox=body.outbox,
            slots=body.slots,
            version=body.version,
            host=body.host,
            pid=body.pid,
            labels=body.labels,
            facts=body.facts,
        ),
    )
    lease = request.service.jobs.lease()
    return Response(
        ClaimRecord(
            jobs=[job_record(item) for item in given.items],
            count=len(given.items),
            cancel=given.cancel,
            drain=given.draining,
            drain_s=given.drain_s,
            lease_s=lease.lease_s,
            heartbeat_s=lease.heartbeat_s,
            server_time=moment(lease.now_us),
            waited_s=round(given.waited_s, 6),
            log_bytes=request.config.limits.log_bytes,
            result_bytes=request.config.limits.result_bytes,
            big_result_bytes=request.config.limits.big_result_bytes,
        )
    )


async def heartbeat(request: ApiRequest) -> Response:
    """Extend the lease of a claimed job, and hear whether it is to be ended."""
    body: HeartbeatBody = request.body
    told = body.percent is not None or body.text
    beat = await request.service.jobs.heartbeat(
        request.principal, body.bot_id, request.id, body.token, (body.percent, body.text) if told else None
    )
    lease = request.service.jobs.lease()
    return Response(
        HeartbeatRecord(
            cancel=beat.cancel, drain=beat.draining, lease_s=lease.lease_s, server_time=moment(lease.now_us)
        )
    )


async def result(request: ApiRequest) -> Response:
    """Say how a claimed job ended; answered when it is committed. A repetition is a duplicate, and changes nothing."""
    body: ResultBody = request.body
    jobs = request.service.jobs
    if body.status is ResultStatus.REJECTED:
        status = await jobs.reject(request.principal, body.bot_id, request.id, body.token, body.reason)
        return Response(ResultRecord(status=status))
    outcome = AttemptOutcome(body.status)
    _check_sent_before(body)
    item = ResultItem(
        id=request.id,
        token=body.token,
        outcome=outcome,
        result=_result(body, outcome),
        error=_error(body, outcome),
        started_us=moment_us(body.started_at),
        finished_us=moment_us(body.finished_at),
        retry_after_s=body.retry_after_s,
        give_up=body.give_up,
        log_lines=body.log_lines,
        result_bytes=body.result_bytes,
        cpu_us=body.cpu_us,
        peak_rss_bytes=body.peak_rss_bytes,
        progress=_progress(body.progress),
    )
    return Response(ResultRecord(status=await jobs.result(request.principal, body.bot_id, item)))


async def result_part(request: ApiRequest) -> Response:
    """Send a part of a large result before saying that the job has completed. A repetition changes nothing."""
    body: ResultPartBody = request.body
    part = ResultPart(id=request.id, token=body.token, offset=body.offset, total=body.total, body=body.body)
    return Response(ResultPartRecord(upto=await request.service.jobs.result_part(request.principal, body.bot_id, part)))


async def log(request: ApiRequest) -> Response:
    """Add lines to the log of a claimed job, while it runs and after. A repetition changes nothing."""
    body: LogBody = request.body
    part = LogPart(
        id=request.id,
        token=body.token,
        line=body.line,
        lines=[_log_line(line) for line in body.lines],
        last=body.last,
        left_out=body.left_out,
        acked=body.acked,
    )
    line, last = await request.service.jobs.log(request.principal, body.bot_id, part)
    return Response(LogRecord(line=line, last=last))


def _progress(body: ProgressBody | None) -> LastProgress | None:
    if body is None:
        return None
    return LastProgress(percent=body.percent, text=body.text, at_us=moment_us(body.at))


def job_record(item: DispatchItem) -> JobRecord:
    """An attempt as a bot is told of it."""
    return JobRecord(
        id=item.id,
        token=item.token,
        attempt=item.attempt,
        handler_id=item.handler_id,
        job_method=item.job_method,
        job_params=raw(item.params),
        timeout_s=item.timeout_s,
        idempotency_key=item.idempotency_key,
        schedule_id=item.schedule_id,
        nominal_time=rfc3339(item.nominal_us),
        shard=item.shard,
        weight=item.weight,
        heartbeat_timeout_s=item.heartbeat_timeout_s,
        start_by=rfc3339(item.start_by_us),
        isolation=item.isolation,
        memory_mb=item.memory_mb,
        cpu_percent=item.cpu_percent,
        cpu_s=item.cpu_s,
    )


def _operations(body: ClaimBody) -> dict[str, list[str | JobMethod]]:
    operations: dict[str, list[str | JobMethod]] = {}
    for operation in body.operations:
        if isinstance(operation, str):
            handler_id, _, name = operation.rpartition(".")
            named: list[str | JobMethod] = [name]
        else:
            handler_id = operation.handler_id
            named = [method if isinstance(method, str) else _method(method) for method in operation.methods]
        operations.setdefault(handler_id, []).extend(named)
    return operations


def _method(body: MethodBody) -> JobMethod:
    schema = ANY_PARAMS if isinstance(body.schema, UnsetType) else msgspec.json.encode(body.schema)
    return JobMethod(name=body.name, schema=schema, options=body.options, doc=body.doc)


def _log_line(line: str | LogLineBody) -> LogLine:
    if isinstance(line, str):
        return LogLine(line.removesuffix("\n"), code_of(LogStream.STDOUT, None), None)
    return LogLine(line.text.removesuffix("\n"), code_of(line.stream, line.level), moment_us(line.at))


def _check_sent_before(body: ResultBody) -> None:
    """A result comes in one piece or in parts, and only of what has completed."""
    if not body.result_bytes:
        return
    if body.status is not ResultStatus.COMPLETED:
        raise InvalidField(f"only a completed job has a result; this one is {body.status}", pointer="/result_bytes")
    if not isinstance(body.result, UnsetType):
        raise InvalidField(
            "the result was sent in parts (result_bytes), and stands here as well (result)", pointer="/result_bytes"
        )


def _result(body: ResultBody, outcome: AttemptOutcome) -> bytes | None:
    if isinstance(body.result, UnsetType):
        return b"null" if outcome is AttemptOutcome.COMPLETED and not body.result_bytes else None
    return bytes(body.result)


def _error(body: ResultBody, outcome: AttemptOutcome) -> JobError | None:
    error = body.error
    if isinstance(error, ErrorBody):
        return JobError(
            type=error.type,
            message=error.message,
            traceback=error.traceback,
            category=error.category,
            bases=tuple(error.bases),
        )
    if error is not None:
        return JobError(type="Error", message=error)
    if outcome in (AttemptOutcome.FAILED, AttemptOutcome.TIMEOUT):
        return JobError(type="Error", message=f"the bot said no more than that it ended as {outcome}")
    return None
