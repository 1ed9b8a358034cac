"""Endpoints on executions."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from msgspec.structs import replace
from tornado.iostream import StreamClosedError

from schedule_zero.clock import rfc3339
from schedule_zero.errors import InvalidField, WrongState
from schedule_zero.model import BatchKind, State
from schedule_zero.service.search import Asked
from schedule_zero.store.executions import CancelOutcome
from schedule_zero.web.api import batches
from schedule_zero.web.api import execution_records as records
from schedule_zero.web.api.request import JSON, ApiRequest, EventStream, Response, pointing_into, replayed
from schedule_zero.web.api.schemas import (
    ClearBody,
    ErrorsQuery,
    SubmitBody,
    SubmitManyBody,
    WaitQuery,
    given,
    moment_us,
)
from schedule_zero.web.api.search_schemas import CancelManyBody, ExecutionsQuery, FoundQuery


async def submit(request: ApiRequest) -> Response:
    """Create one execution or many; they are committed before this answers."""
    body: SubmitBody | SubmitManyBody = request.body
    many = isinstance(body, SubmitManyBody)
    items = [one.item() for one in body.executions] if isinstance(body, SubmitManyBody) else [body.item()]
    with pointing_into("/executions/0", when=many and len(items) == 1):
        submitted = await request.service.executions.submit(request.principal, items, request.idempotency_key())
    ids = records.Submitted(ids=submitted.ids, existing=submitted.existing)
    return Response(ids, status=202, headers=replayed(submitted.replayed))


async def search(request: ApiRequest) -> Response:
    """Executions, newest first."""
    query: ExecutionsQuery = request.query
    asked = ask(request, query, cursor=given(query.cursor), limit=query.limit)
    page = await request.service.search.find(asked)
    return Response(
        records.ExecutionPage(
            count=len(page.rows),
            limit=query.limit,
            records=[records.execution_record(execution) for execution in page.rows],
            next_cursor=page.next_cursor,
            searched_back_to=rfc3339(page.searched_us),
            q=asked.said,
        )
    )


def ask(request: ApiRequest, query: FoundQuery, *, cursor: str | None = None, limit: int = 50) -> Asked:
    """What a query string asks for."""
    also = replace(query.filter(), cursor=cursor, limit=limit)
    return request.service.search.ask(query.q, given(query.timezone), also)


async def show(request: ApiRequest) -> Response:
    """One execution; with ``wait_s`` not before it is over, or the time is up."""
    query: WaitQuery = request.query
    view = await request.service.executions.get(request.id, request.wait_s(query.wait_s))
    return Response(records.execution_detail(view))


async def result(request: ApiRequest) -> Response | EventStream:
    """What the job of a completed execution returned, as JSON, whatever its size."""
    execution = (await request.service.executions.get(request.id)).execution
    if execution.state is not State.COMPLETED:
        raise WrongState(f"execution {execution.id} is {execution.state}; only one that is completed has a result")
    if not execution.result_bytes:
        return Response(execution.result or b"null")
    size = execution.result_bytes

    async def parts() -> AsyncGenerator[bytes, None]:
        sent = 0
        while sent < size:
            part = await request.service.executions.result_part(execution, sent)
            if not part:
                # It was cleared meanwhile. The length was said: the client sees that something is missing.
                raise StreamClosedError
            sent += len(part)
            yield part

    return EventStream(parts(), content_type=JSON, length=size)


async def stats(request: ApiRequest) -> Response:
    """How many executions there are, by state and by handler."""
    return Response(records.stats_record(await request.service.executions.stats()))


async def errors(request: ApiRequest) -> Response:
    """The newest executions that failed, timed out or died."""
    query: ErrorsQuery = request.query
    found = await request.service.executions.errors(query.limit)
    return Response(
        records.ErrorPage(
            count=len(found), limit=query.limit, errors=[records.execution_record(execution) for execution in found]
        )
    )


async def clear(request: ApiRequest) -> Response:
    """Forget executions that are over."""
    body: ClearBody | None = request.body
    before_us = None if body is None else moment_us(body.before)
    return Response(
        records.Cleared(status="success", cleared=await request.service.executions.clear(request.principal, before_us))
    )


async def cancel(request: ApiRequest) -> Response:
    """End it: at once where it waits; where it runs its node is told, and confirms."""
    result = await request.service.executions.cancel(request.principal, request.id)
    return Response(records.cancelled(result), status=202 if result.outcome is CancelOutcome.REQUESTED else 200)


async def cancel_many(request: ApiRequest) -> Response:
    """End many: by their ids, or all that is open and fits."""
    body: CancelManyBody = request.body
    wanted = replace(body.filter(), cursor=body.cursor)
    if body.q is not None:
        return await _cancel_found(request, body)
    done = await request.service.executions.cancel_many(request.principal, body.ids, wanted, dry_run=body.dry_run)
    return Response(
        records.CancelledMany(
            matched=done.matched,
            cancelled=done.cancelled,
            requested=done.requested,
            left=done.left,
            dry_run=body.dry_run,
            next_cursor=done.next_cursor,
        )
    )


async def _cancel_found(request: ApiRequest, body: CancelManyBody) -> Response:
    """By a search: counted, or done by the server from now on."""
    if body.cursor is not None:
        raise InvalidField("with q all is done by one request: there is no next page", pointer="/cursor")
    asked = batches.asked_for(request, body)
    if not body.dry_run:
        return await batches.begin(request, BatchKind.CANCEL, asked)
    counted = await request.service.batches.count(BatchKind.CANCEL, asked)
    return Response(
        records.CancelledMany(
            matched=counted.matched,
            cancelled=0,
            requested=0,
            left=0,
            dry_run=True,
            next_cursor=None,
            exact=counted.exact,
        )
    )


async def retry(request: ApiRequest) -> Response:
    """A new execution of the same work."""
    submitted = await request.service.executions.retry(request.principal, request.id, request.idempotency_key())
    return Response(
        records.Created(id=submitted.ids[0], execution_id=submitted.ids[0], existing=bool(submitted.existing)),
        status=201,
        headers=(("Location", f"/api/executions/{submitted.ids[0]}"), *replayed(submitted.replayed)),
    )
