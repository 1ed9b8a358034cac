"""Endpoints on backfills: past ranges of a schedule's times that are run afterwards."""

from __future__ import annotations

from schedule_zero.web.api import schedule_records as records
from schedule_zero.web.api.request import ApiRequest, Response, replayed
from schedule_zero.web.api.schemas import BackfillBody, PageQuery, bounded_us, given


async def begin(request: ApiRequest) -> Response:
    """Count what a range holds (``dry_run``), or run it."""
    body: BackfillBody = request.body
    from_us, to_us = bounded_us(body.from_, pointer="/from") or 0, bounded_us(body.to, pointer="/to") or 0
    service = request.service.backfills
    if body.dry_run:
        counted = await service.count(request.id, from_us, to_us, body.rate_per_s)
        return Response(records.backfill_counted(counted))
    backfill, again = await service.begin(
        request.principal, request.id, from_us, to_us, body.rate_per_s, body.count, request.idempotency_key()
    )
    return Response(records.backfill_record(backfill), status=202, headers=replayed(again))


async def search(request: ApiRequest) -> Response:
    """The backfills of one schedule."""
    query: PageQuery = request.query
    page = await request.service.backfills.find(request.id, cursor=given(query.cursor), limit=query.limit)
    return Response(
        records.BackfillPage(
            count=len(page.rows),
            limit=query.limit,
            backfills=[records.backfill_record(row) for row in page.rows],
            next_cursor=page.next_cursor,
        )
    )


async def cancel(request: ApiRequest) -> Response:
    """What was created stays."""
    return Response(records.backfill_record(await request.service.backfills.cancel(request.principal, request.id)))
