"""Endpoints on groups: a job on every matching node, or in parts."""

from __future__ import annotations

from schedule_zero.errors import InvalidField
from schedule_zero.model import GroupState
from schedule_zero.web.api import group_records as records
from schedule_zero.web.api.request import ApiRequest, Response, replayed
from schedule_zero.web.api.schemas import GroupBody, PageQuery, WaitQuery, given


async def create(request: ApiRequest) -> Response:
    """Its members are committed before this answers."""
    body: GroupBody = request.body
    if body.broadcast == (body.shards is not None):
        raise InvalidField("expected either broadcast: true or a number of shards", pointer="/shards")
    service, key = request.service.groups, request.idempotency_key()
    if body.shards is None:
        made = await service.broadcast(request.principal, body.item(), key)
    else:
        made = await service.shards(request.principal, body.item(), body.shards, key)
    headers = (("Location", f"/api/groups/{made.group.id}"), *replayed(made.replayed))
    return Response(records.group_created(made), status=202, headers=headers)


async def search(request: ApiRequest) -> Response:
    """Groups, newest first."""
    query: PageQuery = request.query
    page = await request.service.groups.find(cursor=given(query.cursor), limit=query.limit)
    return Response(
        records.GroupPage(
            count=len(page.rows),
            limit=query.limit,
            records=[records.group_record(row) for row in page.rows],
            next_cursor=page.next_cursor,
        )
    )


async def show(request: ApiRequest) -> Response:
    """One group; with ``wait_s`` not before it is over, or the time is up."""
    query: WaitQuery = request.query
    return Response(records.group_record(await request.service.groups.get(request.id, request.wait_s(query.wait_s))))


async def cancel(request: ApiRequest) -> Response:
    """End what waits at once, and what runs when its node confirms (202 until then)."""
    group = await request.service.groups.cancel(request.principal, request.id)
    return Response(records.group_record(group), status=202 if group.state is GroupState.RUNNING else 200)
