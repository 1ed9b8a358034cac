"""What can be done with one schedule: each a form that says what happened, and what takes it back."""

from __future__ import annotations

from datetime import tzinfo
from typing import Annotated

from msgspec import Meta, Struct

from schedule_zero.errors import InvalidField, WrongState
from schedule_zero.service.groups import GroupView
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages import moments, schedule, words
from schedule_zero.web.pages.preferences import preferences
from schedule_zero.web.pages.render import done, url
from schedule_zero.web.pages.schedule_state import ShowQuery
from schedule_zero.web.pages.schedules import PATH, Note, Text, row_of


class PauseForm(Struct, frozen=True, forbid_unknown_fields=True):
    note: Note | None = None
    until: Text = ""


class SkipForm(Struct, frozen=True, forbid_unknown_fields=True):
    count: Annotated[int, Meta(ge=1, le=100)] = 1


class RestoreForm(Struct, frozen=True, forbid_unknown_fields=True):
    version: Annotated[int, Meta(ge=1)]
    generation: Annotated[int, Meta(ge=1)] | None = None


class BackfillForm(Struct, frozen=True, forbid_unknown_fields=True):
    """As it was counted: microseconds, so that nothing is read twice."""

    from_us: Annotated[int, Meta(ge=0)]
    to_us: Annotated[int, Meta(ge=0)]
    rate: Annotated[float, Meta(gt=0, le=1000)]
    expected: Annotated[int, Meta(ge=1)]


async def pause(request: ApiRequest) -> Response:
    """Stop executing, until a moment or until somebody resumes it; due fires are recorded as skipped."""
    body: PauseForm = request.body
    service, until_us = request.service.schedules, None
    try:
        if body.until:
            zone = await _zone(request)
            until_us = moments.moment_us(body.until, service.now_us(), zone, field="until")
        await service.pause(request.principal, request.id, body.note, until_us)
    except InvalidField as error:
        return await schedule.shown_with(
            request,
            ShowQuery(),
            problems={"until": error.message},
            typed={"until": body.until, "note": body.note or ""},
            status=error.http_status,
        )
    return done(request, f"{request.id} is paused", to=url(PATH, request.id), undo=url(PATH, request.id, "resume"))


async def resume(request: ApiRequest) -> Response:
    """Execute again from the next fire on; a quarantined one is tried again."""
    await request.service.schedules.resume(request.principal, request.id)
    return done(request, f"{request.id} runs again", to=url(PATH, request.id), undo=url(PATH, request.id, "pause"))


async def run(request: ApiRequest) -> Response:
    """Run its job once, now; its times stay as they are."""
    made = await request.service.schedules.run(request.principal, request.id)
    if isinstance(made, GroupView):
        return done(request, f"{request.id} runs now, as a group", to=url("/groups", made.group.id))
    return done(request, f"{request.id} runs now", to=url("/executions", made.ids[0]))


async def skip(request: ApiRequest) -> Response:
    """Leave out the next fires."""
    body: SkipForm = request.body
    had = await request.service.schedules.get(request.id)
    await request.service.schedules.skip(request.principal, request.id, body.count)
    text = f"{request.id} will skip {'its next fire' if body.count == 1 else f'its next {body.count} fires'}"
    # Taking it back leaves out none: not what somebody else asked for before.
    undo = url(PATH, request.id, "skip-none") if had.skips is None else None
    return done(request, text, to=url(PATH, request.id), undo=undo)


async def skip_none(request: ApiRequest) -> Response:
    """Leave out none of the fires to come."""
    await request.service.schedules.skip(request.principal, request.id, 0)
    return done(request, f"{request.id} skips nothing any more", to=url(PATH, request.id))


async def delete(request: ApiRequest) -> Response:
    """Forget it; its ledger, versions and executions stay."""
    await request.service.schedules.delete(request.principal, request.id)
    return done(request, f"{request.id} is deleted", to=PATH, undo=url(PATH, request.id, "undelete"), go=True)


async def undelete(request: ApiRequest) -> Response:
    """Make a deleted one again as it was."""
    newest = (await request.service.versions.find(request.id, limit=1)).rows[0].ruling
    if not newest.deleted:
        raise WrongState(f"schedule {request.id!r} is not deleted")
    row = newest.schedule
    await request.service.versions.restore(request.principal, request.id, row.version, row.generation)
    return done(request, f"{request.id} is there again", to=url(PATH, request.id), go=True)


async def restore(request: ApiRequest) -> Response:
    """Make a new version with the content of an old one."""
    body: RestoreForm = request.body
    await request.service.versions.restore(request.principal, request.id, body.version, body.generation)
    text = f"{request.id} is as it was in version {body.version}"
    return done(request, text, to=url(PATH, request.id, tab="versions"), go=True)


async def backfill(request: ApiRequest) -> Response:
    """Run a past range of its times, as it was counted."""
    body: BackfillForm = request.body
    begun, _ = await request.service.backfills.begin(
        request.principal, request.id, body.from_us, body.to_us, body.rate, body.expected
    )
    text = f"{words.plural(begun.total, 'execution')} of {request.id} will be made"
    return done(request, text, to=url(PATH, request.id, tab="backfills"), go=True)


async def cancel_backfill(request: ApiRequest) -> Response:
    """Make no more of a backfill's executions."""
    cancelled = await request.service.backfills.cancel(request.principal, request.id)
    text = f"No more are made: {cancelled.created:,} of {cancelled.total:,} were"
    return done(request, text, to=url(PATH, cancelled.schedule_id, tab="backfills"))


async def _zone(request: ApiRequest) -> tzinfo:
    shown = await request.service.schedule_views.one(request.id)
    return words.zone_for(preferences(request.headers), row_of(shown.listed).zone)
