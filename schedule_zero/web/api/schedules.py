"""Endpoints on schedules and their ledger. The ETag of a schedule is the version that If-Match takes."""

from __future__ import annotations

from urllib.parse import quote

import msgspec
from msgspec import UnsetType

from schedule_zero.errors import AlreadyExists, PreconditionFailed
from schedule_zero.model import Schedule
from schedule_zero.service.groups import GroupView
from schedule_zero.store.schedules import etag
from schedule_zero.web.api import etags
from schedule_zero.web.api import schedule_records as records
from schedule_zero.web.api.decode import explain
from schedule_zero.web.api.execution_records import Created
from schedule_zero.web.api.request import ApiRequest, Response, pointing_into, replayed
from schedule_zero.web.api.schemas import (
    DeleteBody,
    FiresQuery,
    PauseBody,
    RestoreBody,
    ScheduleBody,
    SchedulesBody,
    SchedulesQuery,
    SkipBody,
    bounded_us,
    given,
    moment_us,
)


async def create(request: ApiRequest) -> Response:
    """Create one schedule, or many in one transaction."""
    body: ScheduleBody | SchedulesBody = request.body
    many = isinstance(body, SchedulesBody)
    specs = [one.spec() for one in body.schedules] if isinstance(body, SchedulesBody) else [body.spec()]
    with pointing_into("/schedules/0", when=many and len(specs) == 1):
        written = await request.service.schedules.create(request.principal, specs, request.idempotency_key())
    headers = replayed(written.replayed)
    if not many:
        headers += _headers(written.schedules[0], location=True)
    return Response(
        records.SchedulesCreated(
            status="success",
            ids=[schedule.id for schedule in written.schedules],
            schedules=[records.schedule_record(schedule) for schedule in written.schedules],
        ),
        status=201,
        headers=headers,
    )


async def search(request: ApiRequest) -> Response:
    """Schedules by id."""
    query: SchedulesQuery = request.query
    page, count = await request.service.schedules.find(
        cursor=given(query.cursor),
        limit=query.limit,
        handler_id=given(query.handler_id),
        state=None if isinstance(query.state, UnsetType) else query.state,
    )
    return Response(
        records.SchedulePage(
            schedules=[records.schedule_record(schedule) for schedule in page.rows],
            count=count,
            limit=query.limit,
            next_cursor=page.next_cursor,
        )
    )


async def show(request: ApiRequest) -> Response:
    """One schedule, with its ETag."""
    schedule = await request.service.schedules.get(request.id)
    if etags.known(request, etag(schedule)):
        return Response(status=304, headers=_headers(schedule))
    return _one(schedule)


async def put(request: ApiRequest) -> Response:
    """Replace or create one schedule as a whole, in one transaction."""
    body: ScheduleBody = request.body
    create_only = etags.create_only(request)
    try:
        schedule, created = await request.service.schedules.put(
            request.principal,
            request.id,
            body.spec(),
            await _if_match(request),
            create_only=create_only,
        )
    except AlreadyExists:
        raise PreconditionFailed(f"there is a schedule {request.id!r} already", header="If-None-Match") from None
    return _one(schedule, status=201 if created else 200, location=created)


async def patch(request: ApiRequest) -> Response:
    """Change what the merge patch names, leave the rest."""
    # The Struct has said that names and types are right; null and absence are told apart in the document itself.
    document = msgspec.json.decode(request.raw_body, type=dict)
    if_match = await _if_match(request)
    try:
        schedule = await request.service.schedules.patch(request.principal, request.id, document, if_match)
    except msgspec.ValidationError as error:
        raise explain(error, request.raw_body, ScheduleBody) from None
    return _one(schedule)


async def delete(request: ApiRequest) -> Response:
    """Forget a schedule; its ledger and its executions stay."""
    await request.service.schedules.delete(request.principal, request.id, await _if_match(request))
    return Response(
        records.Deleted(status="success", message=f"schedule {request.id!r} deleted", schedule_id=request.id)
    )


async def delete_many(request: ApiRequest) -> Response:
    """Forget schedules in one transaction; ids that are unknown are passed over."""
    body: DeleteBody = request.body
    deleted = await request.service.schedules.delete_many(request.principal, body.ids)
    return Response(records.DeletedMany(status="success", count=len(deleted), deleted=deleted))


async def pause(request: ApiRequest) -> Response:
    """Stop executing; due fires go on being recorded, as skipped."""
    body: PauseBody | None = request.body
    note, until = (None, None) if body is None else (body.note, body.until)
    until_us = bounded_us(until, pointer="/until")
    return _one(await request.service.schedules.pause(request.principal, request.id, note, until_us))


async def resume(request: ApiRequest) -> Response:
    """Execute again, from the next nominal time on."""
    return _one(await request.service.schedules.resume(request.principal, request.id))


async def skip(request: ApiRequest) -> Response:
    """Leave out the next fires; the ledger will say so."""
    body: SkipBody | None = request.body
    count = 1 if body is None else body.count
    return _one(await request.service.schedules.skip(request.principal, request.id, count))


async def skip_none(request: ApiRequest) -> Response:
    """Leave out none of the fires to come any more."""
    return _one(await request.service.schedules.skip(request.principal, request.id, 0))


async def restore(request: ApiRequest) -> Response:
    """A new version with the content of an old one; a schedule that was deleted is made again."""
    body: RestoreBody = request.body
    schedule, created = await request.service.versions.restore(
        request.principal, request.id, body.version, body.generation, await _if_match(request)
    )
    return _one(schedule, status=201 if created else 200, location=created)


async def run(request: ApiRequest) -> Response:
    """Run a schedule's job once, now; its times stay as they are."""
    submitted = await request.service.schedules.run(request.principal, request.id, request.idempotency_key())
    if isinstance(submitted, GroupView):
        id_ = submitted.group.id
        return Response(
            Created(id=id_, execution_id=None, group_id=id_),
            status=202,
            headers=(("Location", f"/api/groups/{id_}"), *replayed(submitted.replayed)),
        )
    return Response(
        Created(id=submitted.ids[0], execution_id=submitted.ids[0], existing=bool(submitted.existing)),
        status=202,
        headers=(("Location", f"/api/executions/{submitted.ids[0]}"), *replayed(submitted.replayed)),
    )


async def fires(request: ApiRequest) -> Response:
    """The ledger of one schedule, newest first; it outlives the schedule."""
    return await _fires(request, request.id)


async def all_fires(request: ApiRequest) -> Response:
    """The ledger of all schedules, the newest decision first."""
    return await _fires(request, None)


async def _fires(request: ApiRequest, schedule_id: str | None) -> Response:
    query: FiresQuery = request.query
    page = await request.service.ledger.find(
        schedule_id,
        outcome=None if isinstance(query.outcome, UnsetType) else query.outcome,
        since_us=moment_us(query.since),
        cursor=given(query.cursor),
        limit=query.limit,
    )
    return Response(
        records.FirePage(
            count=len(page.rows),
            limit=query.limit,
            records=[records.fire_record(fire) for fire in page.rows],
            next_cursor=page.next_cursor,
        )
    )


def _one(schedule: Schedule, *, status: int = 200, location: bool = False) -> Response:
    return Response(records.schedule_record(schedule), status=status, headers=_headers(schedule, location=location))


def _headers(schedule: Schedule, *, location: bool = False) -> tuple[tuple[str, str], ...]:
    headers: tuple[tuple[str, str], ...] = (("ETag", f'"{etag(schedule)}"'),)
    if location:
        headers += (("Location", f"/api/schedules/{quote(schedule.id, safe='')}"),)
    return headers


async def _if_match(request: ApiRequest) -> str | None:
    """The version that the schedule has to have for this write; None if the client did not say."""

    async def current() -> str:
        return etag(await request.service.schedules.get(request.id))

    return await etags.if_match(request, current)
