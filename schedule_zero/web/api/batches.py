"""Endpoints on batches: all that a search finds is cancelled or retried, by the server, step by step."""

from __future__ import annotations

from schedule_zero.model import BatchKind
from schedule_zero.service.search import Asked
from schedule_zero.web.api import batch_records as records
from schedule_zero.web.api.request import ApiRequest, Response, replayed
from schedule_zero.web.api.schemas import PageQuery, given
from schedule_zero.web.api.search_schemas import FoundBody, RetryManyBody


async def retry_many(request: ApiRequest) -> Response:
    """Run all of them again, as new executions; only count them with ``dry_run``."""
    body: RetryManyBody = request.body
    asked = asked_for(request, body)
    if body.dry_run:
        counted = await request.service.batches.count(BatchKind.RETRY, asked)
        return Response(records.Matched(matched=counted.matched, exact=counted.exact))
    return await begin(request, BatchKind.RETRY, asked, body.ids)


def asked_for(request: ApiRequest, body: FoundBody) -> Asked:
    """What a body asks for. InvalidSearch points into it."""
    return request.service.search.ask(body.q or "", body.timezone, body.filter())


async def begin(request: ApiRequest, kind: BatchKind, asked: Asked, ids: list[str] | None = None) -> Response:
    """The batch is stored before this answers; it goes on when the client has gone."""
    batch, again = await request.service.batches.begin(request.principal, kind, asked, ids, request.idempotency_key())
    headers = (("Location", f"/api/batches/{batch.id}"), *replayed(again))
    return Response(records.batch_record(batch), status=202, headers=headers)


async def search(request: ApiRequest) -> Response:
    """The newest first."""
    query: PageQuery = request.query
    page = await request.service.batches.find(cursor=given(query.cursor), limit=query.limit)
    return Response(
        records.BatchPage(
            count=len(page.rows),
            limit=query.limit,
            batches=[records.batch_record(row) for row in page.rows],
            next_cursor=page.next_cursor,
        )
    )


async def show(request: ApiRequest) -> Response:
    """How far it is."""
    return Response(records.batch_record(await request.service.batches.show(request.id)))


async def cancel(request: ApiRequest) -> Response:
    """What was done stays."""
    return Response(records.batch_record(await request.service.batches.stop(request.principal, request.id)))
