"""Named calendars: what they cover, month by month, their versions, who uses them; writing and importing them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from schedule_zero import yaml_document
from schedule_zero.errors import BadRequest, NotFound, PreconditionFailed, ScheduleZeroError
from schedule_zero.model import Calendar
from schedule_zero.service.calendars import CalendarWritten
from schedule_zero.store.calendars import etag
from schedule_zero.timing.zones import iana_zone
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages import calendars_view as shown
from schedule_zero.web.pages.days import month_of
from schedule_zero.web.pages.moments import moment_us
from schedule_zero.web.pages.render import CLOCK, done, message_of, page, part, url
from schedule_zero.web.pages.settings import tabs

TOPICS = ["calendar", "schedule"]
PER_PAGE = 50
MOST_USERS = 100
# What a new calendar begins with.
SAMPLE = """\
timezone: Europe/Berlin
description: Public holidays, closing days, and the nightly backup
holidays:
  - {country: DE, subdivision: BE}
dates:
  - 2026-12-24
  - {from: 2026-12-27, to: 2026-12-31, label: works holidays}
weekly:
  - days: [SAT, SUN]
  - {days: [FRI], from: 22:00, to: 06:00, label: maintenance}
cron:
  - {expression: 0 2 * * *, duration_s: 7200, label: backup}
"""


class CalendarsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    cursor: Annotated[str, Meta(max_length=200)] = ""


class CalendarQuery(Struct, frozen=True, forbid_unknown_fields=True):
    # 2026-12; the present one in the calendar's zone unless said.
    month: Annotated[str, Meta(pattern=r"^(\d{4}-\d{2})?$")] = ""
    # As it was in this version.
    version: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    # A moment to ask about.
    at: Annotated[str, Meta(max_length=50)] = ""


class NewQuery(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(max_length=128)] = ""


class EditForm(Struct, frozen=True, forbid_unknown_fields=True):
    document: str = ""
    # What it was when the form was made; empty: there was none.
    etag: Annotated[str, Meta(max_length=100)] = ""
    # Only of a new one.
    name: Annotated[str, Meta(max_length=200)] = ""


class ImportForm(Struct, frozen=True, forbid_unknown_fields=True):
    ical: str = ""
    add: bool = False


class VersionForm(Struct, frozen=True, forbid_unknown_fields=True):
    version: Annotated[int, Meta(ge=1, le=2**53)]


# --- look -----------------------------------------------------------------------------------------------


async def index(request: ApiRequest) -> Response:
    """All calendars by name."""
    query: CalendarsQuery = request.query
    service = request.service.calendars
    found, count = await service.find(cursor=query.cursor or None, limit=PER_PAGE)
    return page(
        request,
        "calendars.html",
        title="Calendars",
        topics=TOPICS,
        tabs=tabs(request),
        calendars=found.rows,
        uses=await service.use_counts() if found.rows else {},
        count=count,
        query=query,
        next_url=url("/calendars", cursor=found.next_cursor) if found.next_cursor else "",
    )


async def show(request: ApiRequest) -> Response:
    """One calendar: a month of it, its document, its versions, who uses it. NotFound."""
    query: CalendarQuery = request.query
    service, name = request.service.calendars, request.id
    versions = await service.versions(name, limit=PER_PAGE)
    try:
        calendar: Calendar | None = await service.get(name)
    except NotFound:
        # Its versions outlive it.
        calendar = None
    chosen = None
    if query.version is not None or calendar is None:
        chosen = await service.version(name, query.version or versions.rows[0].version)
    facts: dict[str, Any] = {"month": None, "check": None, "asked": query.at, "users": [], "more_users": 0}
    if calendar is not None:
        zone = iana_zone(_timezone(calendar.document)) or iana_zone("UTC")
        assert zone is not None
        now_us = CLOCK.wall_us()
        month = month_of(query.month, now_us, zone, last=shown.LAST)
        days = await service.days(name, *shown.span(month))
        before, after = month.beside(-1), month.beside(1)
        users = await service.users(name)
        facts |= {
            "month": month,
            "weeks": shown.weeks(month, days, now_us),
            "month_before": url("/calendars", name, month=before) if before else "",
            "month_after": url("/calendars", name, month=after) if after else "",
            "zone": zone,
            "users": users[:MOST_USERS],
            "more_users": max(0, len(users) - MOST_USERS),
        }
        if query.at:
            facts["check"] = await service.check(name, moment_us(query.at, now_us, zone, field="at"))
    document = calendar.document if calendar is not None and chosen is None else (chosen and chosen.document) or b"{}"
    return page(
        request,
        "calendar.html",
        title=name,
        topics=TOPICS,
        calendar=calendar,
        name=name,
        document=as_yaml(document),
        chosen=chosen,
        versions=versions.rows,
        query=query,
        here=url("/calendars", name, month=query.month, version=query.version, at=query.at),
        **facts,
    )


def _timezone(document: bytes) -> str:
    return str(msgspec.json.decode(document)["timezone"])


def as_yaml(document: bytes) -> str:
    """A stored document as people write it."""
    return yaml_document.dump(msgspec.json.decode(document))


# --- write ----------------------------------------------------------------------------------------------


async def new(request: ApiRequest) -> Response:
    """The form for a new calendar."""
    query: NewQuery = request.query
    return _form(request, query.name, SAMPLE, "", is_new=True)


async def edit(request: ApiRequest) -> Response:
    """The form with a calendar's document. NotFound."""
    calendar = await request.service.calendars.get(request.id)
    return _form(request, calendar.name, as_yaml(calendar.document), etag(calendar), is_new=False)


async def create(request: ApiRequest) -> Response:
    """Make a calendar of what was typed."""
    form: EditForm = request.body
    return await _save(request, form, form.name.strip(), is_new=True)


async def save(request: ApiRequest) -> Response:
    """Replace a calendar by what was typed, if nobody else has meanwhile."""
    return await _save(request, request.body, request.id, is_new=False)


async def _save(request: ApiRequest, form: EditForm, name: str, *, is_new: bool) -> Response:
    read: yaml_document.YamlDocument | None = None
    try:
        read = yaml_document.parse(form.document)
        document = {} if read.value is None else read.value
        if is_new:
            check_name(name)
            written = await request.service.calendars.create(request.principal, name, document)
        else:
            written = await request.service.calendars.put(request.principal, name, document, form.etag or None)
    except ScheduleZeroError as error:
        wrong = _wrong(error, read, form.document)
        return _form(request, name, form.document, form.etag, is_new=is_new, status=error.http_status, wrong=wrong)
    return done(request, _told(written), to=url("/calendars", name), go=True)


def check_name(name: str) -> None:
    """Refuse what can't be a calendar's name. InvalidField."""
    from schedule_zero.web.api.calendar_schemas import CalendarBody
    from schedule_zero.web.api.decode import BodyDecoder

    BodyDecoder(CalendarBody, 4).decode(msgspec.json.encode({"name": name}))


def _told(written: CalendarWritten) -> str:
    """What happened, with what may not be meant as it is."""
    calendar = written.calendar
    return ". ".join([f"{calendar.name} is version {calendar.version}", *written.warnings])


class Wrong(Struct, frozen=True):
    """What is wrong with what was typed: with its name, or at a line of the document."""

    message: str
    is_name: bool = False
    line: int | None = None
    text: str = ""


def _wrong(error: ScheduleZeroError, read: yaml_document.YamlDocument | None, typed: str) -> Wrong:
    if isinstance(error, PreconditionFailed):
        return Wrong("somebody else has changed it since this form was opened; open it again to see that")
    if error.pointer == "/name" or error.code == "already_exists":
        return Wrong(message_of(error), is_name=True)
    line = error.data.get("line")
    if line is None and read is not None and error.pointer is not None:
        line = read.line(error.pointer)
    lines = typed.splitlines()
    text = lines[line - 1] if line is not None and line <= len(lines) else ""
    return Wrong(message_of(error), line=line, text=text)


def _form(
    request: ApiRequest,
    name: str,
    document: str,
    tag: str,
    *,
    is_new: bool,
    status: int = 200,
    wrong: Wrong | None = None,
) -> Response:
    return page(
        request,
        "calendar_edit.html",
        title="New calendar" if is_new else f"Edit {name}",
        status=status,
        name=name,
        document=document,
        etag=tag,
        is_new=is_new,
        wrong=wrong,
        part=part(request),
    )


async def import_ical(request: ApiRequest) -> Response:
    """Put an iCalendar file into a calendar."""
    form: ImportForm = request.body
    if not form.ical.strip():
        raise BadRequest("expected the text of an iCalendar file (.ics)")
    written = await request.service.calendars.import_ical(request.principal, request.id, form.ical, add=form.add)
    return done(request, _told(written), to=url("/calendars", request.id), go=True)


async def delete(request: ApiRequest) -> Response:
    """Forget a calendar that no schedule uses; its versions stay."""
    await request.service.calendars.delete(request.principal, request.id)
    return done(request, f"{request.id} is deleted", to="/calendars", go=True)


async def restore(request: ApiRequest) -> Response:
    """Bring an old version back, as a new one."""
    form: VersionForm = request.body
    service = request.service.calendars
    old = await service.version(request.id, form.version)
    document = msgspec.json.decode(old.document or b"{}")
    try:
        before = etag(await service.get(request.id))
    except NotFound:
        written = await service.create(request.principal, request.id, document)
    else:
        written = await service.put(request.principal, request.id, document, before)
    told = f"{_told(written)}, the same as {form.version}"
    return done(request, told, to=url("/calendars", request.id), go=True)
