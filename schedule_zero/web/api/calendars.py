"""Endpoints on named calendars. The ETag of a calendar is the version that If-Match takes."""

from __future__ import annotations

from urllib.parse import quote

from msgspec import UnsetType

from schedule_zero.errors import AlreadyExists, PreconditionFailed
from schedule_zero.model import Calendar
from schedule_zero.service.calendars import CalendarWritten
from schedule_zero.store.calendars import etag
from schedule_zero.web.api import calendar_records as records
from schedule_zero.web.api import etags
from schedule_zero.web.api.calendar_schemas import (
    CalendarBody,
    CalendarDocument,
    CalendarsQuery,
    CalendarVersionsQuery,
    CheckQuery,
    ImportBody,
    WindowsQuery,
)
from schedule_zero.web.api.request import ApiRequest, Response, replayed
from schedule_zero.web.api.schemas import bounded_us, given


async def create(request: ApiRequest) -> Response:
    """Create a calendar."""
    body: CalendarBody = request.body
    written = await request.service.calendars.create(
        request.principal, body.name, body.document(), request.idempotency_key()
    )
    return _written(written, status=201, location=True, headers=replayed(written.replayed))


async def search(request: ApiRequest) -> Response:
    """Calendars by name, without their documents."""
    query: CalendarsQuery = request.query
    page, count = await request.service.calendars.find(cursor=given(query.cursor), limit=query.limit)
    return Response(
        records.CalendarPage(
            calendars=[records.summary_record(summary) for summary in page.rows],
            count=count,
            limit=query.limit,
            next_cursor=page.next_cursor,
        )
    )


async def show(request: ApiRequest) -> Response:
    """One calendar, with its ETag."""
    calendar = await request.service.calendars.get(request.id)
    if etags.known(request, etag(calendar)):
        return Response(status=304, headers=_headers(calendar))
    return Response(records.calendar_record(calendar), headers=_headers(calendar))


async def put(request: ApiRequest) -> Response:
    """Replace or create a calendar. The same document again is no new version."""
    body: CalendarDocument = request.body
    create_only = etags.create_only(request)
    try:
        written = await request.service.calendars.put(
            request.principal, request.id, body.document(), await _if_match(request), create_only=create_only
        )
    except AlreadyExists:
        raise PreconditionFailed(f"there is a calendar {request.id!r} already", header="If-None-Match") from None
    return _written(written, status=201 if written.created else 200, location=written.created)


async def import_ical(request: ApiRequest) -> Response:
    """Put an iCalendar file into a calendar; one that isn't there is created, in the zone that the file names."""
    body: ImportBody = request.body
    written = await request.service.calendars.import_ical(
        request.principal, request.id, body.ical, await _if_match(request), add=body.add
    )
    return _written(written, status=201 if written.created else 200, location=written.created)


async def delete(request: ApiRequest) -> Response:
    """Forget a calendar; its versions stay. Refused while schedules use it."""
    await request.service.calendars.delete(request.principal, request.id, await _if_match(request))
    return Response(
        records.CalendarDeleted(status="success", message=f"calendar {request.id!r} deleted", name=request.id)
    )


async def windows(request: ApiRequest) -> Response:
    """What a calendar covers in a range, by start. Windows may overlap one another."""
    query: WindowsQuery = request.query
    from_us, to_us = bounded_us(query.from_, parameter="from"), bounded_us(query.to, parameter="to")
    page = await request.service.calendars.windows(
        request.id, from_us, to_us, cursor=given(query.cursor), limit=query.limit
    )
    return Response(
        records.WindowPage(
            records=[records.window_record(window) for window in page.rows],
            limit=query.limit,
            next_cursor=page.next_cursor,
        )
    )


async def check(request: ApiRequest) -> Response:
    """Whether a calendar covers a moment, and by what; whether its day is a business day."""
    query: CheckQuery = request.query
    at_us = bounded_us(query.at, parameter="at")
    return Response(records.check_record(await request.service.calendars.check(request.id, at_us)))


async def versions(request: ApiRequest) -> Response:
    """Every version that a calendar had, newest first; they outlive it."""
    query: CalendarVersionsQuery = request.query
    if not isinstance(query.version, UnsetType):
        one = await request.service.calendars.version(request.id, query.version)
        return Response(
            records.CalendarVersionPage(records=[records.version_record(one)], limit=query.limit, next_cursor=None)
        )
    page = await request.service.calendars.versions(request.id, cursor=given(query.cursor), limit=query.limit)
    return Response(
        records.CalendarVersionPage(
            records=[records.version_record(version) for version in page.rows],
            limit=query.limit,
            next_cursor=page.next_cursor,
        )
    )


def _written(
    written: CalendarWritten, *, status: int, location: bool, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    return Response(
        records.calendar_record(written.calendar, written.warnings),
        status=status,
        headers=(*_headers(written.calendar, location=location), *headers),
    )


def _headers(calendar: Calendar, *, location: bool = False) -> tuple[tuple[str, str], ...]:
    headers: tuple[tuple[str, str], ...] = (("ETag", f'"{etag(calendar)}"'),)
    if location:
        headers += (("Location", f"/api/calendars/{quote(calendar.name, safe='')}"),)
    return headers


async def _if_match(request: ApiRequest) -> str | None:
    """The version that the calendar has to have for this write; None if the client did not say."""

    async def current() -> str:
        return etag(await request.service.calendars.get(request.id))

    return await etags.if_match(request, current)
