"""The earlier ScheduleZero's two writes, with its names: a schedule, and a job to be run now and waited for."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct, UnsetType

from schedule_zero.errors import InvalidField
from schedule_zero.model import Execution, State
from schedule_zero.service.specs import ScheduleSpec, SubmitItem
from schedule_zero.web.api.execution_records import Ran
from schedule_zero.web.api.records import NULL, raw
from schedule_zero.web.api.request import ApiRequest, Response, replayed
from schedule_zero.web.api.schedule_records import Scheduled
from schedule_zero.web.api.schemas import DEFAULT_WAIT_S, EarlierScheduleBody, RunNowBody

T = TypeVar("T")


class _JobError(Struct):
    message: str = ""


_decode_error = msgspec.json.Decoder(_JobError).decode


async def schedule(request: ApiRequest) -> Response:
    """Create one schedule."""
    body: EarlierScheduleBody = request.body
    # mypy joins the two kinds of trigger to what they have in common.
    trigger: Any = _one_of("trigger", body.trigger, "trigger_config", body.trigger_config)
    spec = ScheduleSpec(
        id=body.job_id,
        handler_id=body.handler_id,
        job_method=_one_of("job_method", body.job_method, "method_name", body.method_name),
        job_params=body.job_params,
        trigger=trigger,
    )
    written = await request.service.schedules.create(request.principal, [spec], request.idempotency_key())
    return Response(
        Scheduled(status="success", job_id=written.schedules[0].id),
        status=201,
        headers=replayed(written.replayed),
    )


async def run_now(request: ApiRequest) -> Response:
    """Run a job and wait for its end; the job's own error is no error of this request."""
    body: RunNowBody = request.body
    item = SubmitItem(
        handler_id=body.handler_id,
        job_method=_one_of("job_method", body.job_method, "method_name", body.method_name),
        job_params=body.job_params,
        options=body.options,
        idempotency_key=body.idempotency_key,
    )
    ran = await request.service.executions.run_now(
        request.principal, item, request.wait_s(body.wait_s), request.idempotency_key(_work(body))
    )
    headers = replayed(ran.replayed)
    if ran.execution is not None:
        return Response(_over(item, ran.execution), headers=headers)
    return Response(
        Ran(
            status="accepted",
            message=f"{item.handler_id}.{item.job_method} has not finished yet; ask for the execution",
            execution_id=ran.execution_id,
            result=NULL,
            error=NULL,
        ),
        status=202,
        headers=(("Location", f"/api/executions/{ran.execution_id}"), *headers),
    )


def _work(body: RunNowBody) -> bytes:
    """What is to be run. How long its sender waits for it is no part of that: who repeats may be more patient."""
    return msgspec.json.encode(msgspec.structs.replace(body, wait_s=DEFAULT_WAIT_S))


def _over(item: SubmitItem, execution: Execution) -> Ran:
    job = f"{item.handler_id}.{item.job_method}"
    if execution.state is State.COMPLETED:
        return Ran(
            status="success",
            message=f"{job} completed",
            execution_id=execution.id,
            result=raw(execution.result),
            result_bytes=execution.result_bytes,
            error=NULL,
        )
    reason = _decode_error(execution.error).message if execution.error else ""
    return Ran(
        status="error",
        message=f"{job} ended as {execution.state}" + (f": {reason}" if reason else ""),
        execution_id=execution.id,
        result=NULL,
        error=raw(execution.error),
    )


def _one_of(name: str, value: T | UnsetType, earlier: str, alias: T | UnsetType) -> T:
    """What came under a name or under its earlier name."""
    if isinstance(value, UnsetType):
        if isinstance(alias, UnsetType):
            raise InvalidField(f"the field {name!r} is missing", pointer=f"/{name}")
        return alias
    if not isinstance(alias, UnsetType) and alias != value:
        raise InvalidField(f"{earlier!r} is the earlier name of {name!r}: give one of them", pointer=f"/{earlier}")
    return value
