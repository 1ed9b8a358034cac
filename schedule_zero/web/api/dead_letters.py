"""Endpoints on dead letters: executions that failed for good, until somebody deals with them."""

from __future__ import annotations

from schedule_zero.errors import InvalidField
from schedule_zero.store.dead_letters import Which
from schedule_zero.web.api import dead_letter_records as records
from schedule_zero.web.api.dead_letter_schemas import (
    DEFAULT_RATE,
    DiscardBody,
    GroupsQuery,
    LettersQuery,
    RequeueBody,
)
from schedule_zero.web.api.execution_records import execution_record
from schedule_zero.web.api.request import ApiRequest, Response, replayed
from schedule_zero.web.api.schemas import PageQuery, given


async def search(request: ApiRequest) -> Response:
    """What failed alike, by job."""
    query: GroupsQuery = request.query
    which = Which(handler_id=given(query.handler_id), job_method=given(query.job_method))
    if which.job_method is not None and which.handler_id is None:
        raise InvalidField("a method is one of a handler: expected handler_id as well", parameter="handler_id")
    page = await request.service.dead_letters.groups(which, cursor=given(query.cursor), limit=query.limit)
    return Response(
        records.DeadLetterGroups(
            count=len(page.rows),
            limit=query.limit,
            groups=[records.group_record(group) for group in page.rows],
            next_cursor=page.next_cursor,
        )
    )


async def executions(request: ApiRequest) -> Response:
    """The executions of one group, newest first."""
    query: LettersQuery = request.query
    group = given(query.group)
    if group is None:
        raise InvalidField("the query parameter 'group' is missing: expected the id of a group", parameter="group")
    page = await request.service.dead_letters.executions(group, cursor=given(query.cursor), limit=query.limit)
    return Response(
        records.DeadLetterPage(
            count=len(page.rows),
            limit=query.limit,
            records=[execution_record(execution) for execution in page.rows],
            next_cursor=page.next_cursor,
        )
    )


async def requeue(request: ApiRequest) -> Response:
    """Run a few again at once, or begin to run many at a rate."""
    body: RequeueBody = request.body
    which, edit = body.which(), body.edit()
    service = request.service.dead_letters
    if body.dry_run:
        return Response(records.Counted(count=await service.count(which)))
    key = request.idempotency_key()
    if isinstance(which, list):
        done = await service.requeue(request.principal, which, edit, body.rate_per_s, key)
        return Response(records.Requeued(id=done.id, ids=done.ids), status=201, headers=replayed(done.replayed))
    row, again = await service.begin(request.principal, which, edit, body.rate_per_s or DEFAULT_RATE, key)
    return Response(
        records.requeue_record(row),
        status=202,
        headers=(("Location", f"/api/requeues/{row.id}"), *replayed(again)),
    )


async def discard(request: ApiRequest) -> Response:
    """They stay in the history, and nobody waits for them any more."""
    body: DiscardBody = request.body
    which = body.which()
    if body.dry_run:
        return Response(records.Discarded(count=await request.service.dead_letters.count(which), discarded=0))
    done = await request.service.dead_letters.discard(request.principal, which, body.note or "")
    return Response(records.Discarded(count=done.count, discarded=done.count))


# --- requeues -------------------------------------------------------------------------------------


async def requeues(request: ApiRequest) -> Response:
    """The newest first."""
    query: PageQuery = request.query
    page = await request.service.dead_letters.find(cursor=given(query.cursor), limit=query.limit)
    return Response(
        records.RequeuePage(
            count=len(page.rows),
            limit=query.limit,
            requeues=[records.requeue_record(row) for row in page.rows],
            next_cursor=page.next_cursor,
        )
    )


async def show_requeue(request: ApiRequest) -> Response:
    """How far it is."""
    return Response(records.requeue_record(await request.service.dead_letters.show(request.id)))


async def cancel_requeue(request: ApiRequest) -> Response:
    """What was created stays; the rest stays dead letters."""
    return Response(records.requeue_record(await request.service.dead_letters.cancel(request.principal, request.id)))
