"""One schedule: its past and its future, what it is made of, and everything that can be done with it."""

from __future__ import annotations

import json
from datetime import tzinfo
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct

from schedule_zero.clock import rfc3339
from schedule_zero.errors import BadRequest, Conflict, InvalidField, NotFound, WrongState
from schedule_zero.model import BackfillState, Fire, FireOutcome, Schedule
from schedule_zero.rules.facts import Ruling
from schedule_zero.rules.policies import policies_of
from schedule_zero.service.groups import GroupView
from schedule_zero.service.schedule_views import ShownSchedule
from schedule_zero.service.versions import VersionView
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages import moments, schedule_policies, words
from schedule_zero.web.pages.preferences import preferences
from schedule_zero.web.pages.render import done, message_of, page, part, url
from schedule_zero.web.pages.schedule_month import LEGEND, WEEKDAYS, day_of, midnight_us, month_of
from schedule_zero.web.pages.schedules import Cursor, Note, Text, row_of

TOPICS = ["schedule", "schedules", "execution", "backfill", "calendar"]
PATH = "/schedules"
COMING = 20
PAGE = 50
VERSIONS = 25
RATE_PER_S = 10.0
DAY_US = 86_400_000_000
Day = Annotated[str, Meta(pattern=r"^(\d{4}-\d{2}-\d{2})?$")]


class Tab(StrEnum):
    OVERVIEW = "overview"
    LEDGER = "ledger"
    VERSIONS = "versions"
    DEFINITION = "definition"
    BACKFILLS = "backfills"


class OutcomeWord(StrEnum):
    """What became of a fire, or any."""

    ANY = ""
    EXECUTED = "executed"
    CAUGHT_UP = "caught_up"
    SKIPPED = "skipped"
    MISSED = "missed"


class ShowQuery(Struct, frozen=True, forbid_unknown_fields=True):
    tab: Tab = Tab.OVERVIEW
    # Overview: the month of the calendar.
    month: Annotated[str, Meta(pattern=r"^(\d{4}-\d{2})?$")] = ""
    # Ledger: what is shown of it, and the moment that is to be explained.
    outcome: OutcomeWord = OutcomeWord.ANY
    day: Day = ""
    at: Text = ""
    # Ledger, versions.
    cursor: Cursor = ""
    # Versions: two that are compared.
    before: Annotated[int, Meta(ge=1)] | None = None
    after: Annotated[int, Meta(ge=1)] | None = None
    generation: Annotated[int, Meta(ge=1)] | None = None
    # Backfills: what is to be counted.
    since: Text = ""
    until: Text = ""
    rate: Text = ""


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


class LedgerRow(Struct, frozen=True):
    """A row of the ledger with what became of its run, and where to read on."""

    fire: Fire
    state: str | None
    href: str | None
    explain: str
    late_s: float


class VersionRow(Struct, frozen=True):
    view: VersionView
    ruling: Ruling
    diff: str | None


# --- looking ------------------------------------------------------------------------------------------


async def show(request: ApiRequest) -> Response:
    """One schedule; of one that was deleted, its ledger and its versions. NotFound."""
    return await _shown(request, request.query)


async def _shown(
    request: ApiRequest,
    query: ShowQuery,
    *,
    problems: dict[str, str] | None = None,
    typed: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    id_ = request.id
    try:
        shown: ShownSchedule | None = await request.service.schedule_views.one(id_)
    except NotFound:
        shown = None
        if not await _was_there(request, id_):
            raise
    row = None if shown is None else row_of(shown.listed)
    zone = words.zone_for(preferences(request.headers), None if row is None else row.zone)
    tab = query.tab
    if shown is None and tab in (Tab.OVERVIEW, Tab.DEFINITION, Tab.BACKFILLS):
        tab = Tab.LEDGER
    facts: dict[str, Any] = {}
    if part(request) not in ("summary", "pause_form"):
        facts = await _TABS[tab](request, query, shown, zone)
    return page(
        request,
        "schedule.html",
        title=id_,
        topics=TOPICS,
        status=status,
        id=id_,
        path=url(PATH, id_),
        here=here_url(id_, query),
        tab=tab.value,
        tabs=[
            (one.value, url(PATH, id_, tab="" if one is Tab.OVERVIEW else one.value), one is tab)
            for one in Tab
            if shown is not None or one in (Tab.LEDGER, Tab.VERSIONS)
        ],
        shown=shown,
        row=row,
        one=None if shown is None else shown.listed.schedule,
        zone=None if row is None else row.zone,
        wall=str(zone),
        grouped="" if shown is None else _grouped(shown.listed.schedule),
        freeze=request.service.freezes.current(),
        problems=problems or {},
        typed=typed or {},
        **facts,
    )


def _grouped(row: Schedule) -> str:
    """What each run is, where it is not one execution."""
    policies = policies_of(row.policies)
    if policies.shards is not None:
        return f"a group of {words.plural(policies.shards, 'part')}"
    return "a group: one execution on each node that matches" if policies.broadcast else ""


async def _was_there(request: ApiRequest, id_: str) -> bool:
    if await request.service.schedule_views.has_ledger(id_):
        return True
    try:
        await request.service.versions.find(id_, limit=1)
    except NotFound:
        return False
    return True


def here_url(id_: str, query: ShowQuery, **changes: Any) -> str:
    """The page with its state, changed."""
    values = {name: getattr(query, name) for name in query.__struct_fields__} | changes
    if values["tab"] is Tab.OVERVIEW:
        values["tab"] = ""
    return url(PATH, id_, **values)


async def _overview(request: ApiRequest, query: ShowQuery, shown: ShownSchedule | None, zone: tzinfo) -> dict[str, Any]:
    assert shown is not None  # a deleted one has no overview
    now_us = request.service.schedules.now_us()
    month = month_of(query.month, now_us, zone)
    days = await request.service.schedule_views.days(request.id, month.bounds)
    row = shown.listed.schedule
    coming = await request.service.schedule_views.coming(row, COMING)
    before, after = month.beside(-1), month.beside(1)
    return {
        "coming": coming,
        "late_us": row.next_fire_us if row.next_fire_us is not None and row.next_fire_us < now_us - 1_000_000 else None,
        "month": month,
        "weeks": month.weeks(days, now_us),
        "weekdays": WEEKDAYS,
        "legend": LEGEND,
        "month_before": here_url(request.id, query, month=before) if before else None,
        "month_after": here_url(request.id, query, month=after) if after else None,
        "month_now": here_url(request.id, query, month="") if query.month else None,
        "ledger_url": url(PATH, request.id, tab="ledger"),
    }


async def _ledger(request: ApiRequest, query: ShowQuery, shown: ShownSchedule | None, zone: tzinfo) -> dict[str, Any]:
    low_us = high_us = None
    if query.day:
        day = day_of(query.day, parameter="day")
        low_us, high_us = midnight_us(day, zone), midnight_us(day.fromordinal(day.toordinal() + 1), zone)
    found = await request.service.schedule_views.ledger(
        request.id,
        outcome=FireOutcome(query.outcome.value) if query.outcome else None,
        low_us=low_us,
        high_us=high_us,
        cursor=query.cursor or None,
        limit=PAGE,
    )
    page_ = found.page
    return {
        "rows": [_ledger_row(request.id, query, fire, found.states) for fire in page_.rows],
        "outcomes": [
            (word.value.replace("_", " ") or "all", here_url(request.id, query, outcome=word, cursor="", at=""), word is query.outcome)
            for word in OutcomeWord
        ],
        "query": query,
        "no_day": here_url(request.id, query, day="", cursor="", at="") if query.day else None,
        "first_url": here_url(request.id, query, cursor="") if query.cursor else "",
        "next_url": here_url(request.id, query, cursor=page_.next_cursor) if page_.next_cursor else "",
        **await _explained(request, query, zone),
    }


def _ledger_row(id_: str, query: ShowQuery, fire: Fire, states: dict[str, str]) -> LedgerRow:
    href = None
    if fire.execution_id is not None:
        href = url("/groups" if fire.is_group else "/executions", fire.execution_id)
    return LedgerRow(
        fire=fire,
        state=None if fire.execution_id is None else states.get(fire.execution_id),
        href=href,
        explain=here_url(id_, query, at=rfc3339(fire.nominal_us)),
        late_s=(fire.decided_us - fire.nominal_us) / 1e6,
    )


async def _explained(request: ApiRequest, query: ShowQuery, zone: tzinfo) -> dict[str, Any]:
    """The story of the moment that was asked about, or what is wrong with it."""
    if not query.at:
        return {"story": None, "story_at": "", "story_problem": ""}
    said = query.at.strip()
    try:
        at_us = moments.moment_us(said, request.service.schedules.now_us(), zone, field="at")
        story = await request.service.explain.explain(request.id, at_us)
    except BadRequest as error:
        return {"story": None, "story_at": said, "story_problem": message_of(error)}
    facts = story.facts
    return {
        "story": story,
        "story_at": said,
        "story_problem": "",
        "story_before": None if facts.before_us is None else here_url(request.id, query, at=rfc3339(facts.before_us)),
        "story_after": None if facts.after_us is None else here_url(request.id, query, at=rfc3339(facts.after_us)),
        "story_policy": [(name, str(value)) for name, value in story.said.policy.items()],
    }


async def _versions(request: ApiRequest, query: ShowQuery, shown: ShownSchedule | None, zone: tzinfo) -> dict[str, Any]:
    service, id_ = request.service.versions, request.id
    found = await service.find(id_, cursor=query.cursor or None, limit=VERSIONS)
    diff = None
    if query.before is not None or query.after is not None:
        diff = await service.diff(id_, query.before, query.after, query.generation)
    return {
        "versions": [_version_row(id_, query, view) for view in found.rows],
        "diff": diff,
        "changes": [] if diff is None else [(one.op.value, one.pointer, _json(one.before), _json(one.after)) for one in diff.differences],
        "query": query,
        "newest": found.rows[0].ruling.schedule if found.rows else None,
        "first_url": here_url(id_, query, cursor="") if query.cursor else "",
        "next_url": here_url(id_, query, cursor=found.next_cursor) if found.next_cursor else "",
    }


def _version_row(id_: str, query: ShowQuery, view: VersionView) -> VersionRow:
    row = view.ruling.schedule
    diff = None
    if row.version > 1:
        diff = here_url(id_, query, before=row.version - 1, after=row.version, generation=row.generation)
    return VersionRow(view, view.ruling, diff)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


async def _definition(request: ApiRequest, query: ShowQuery, shown: ShownSchedule | None, zone: tzinfo) -> dict[str, Any]:
    assert shown is not None  # a deleted one has none
    row = shown.listed.schedule
    return {
        "policies": schedule_policies.policies(row, request.config.timing),
        "options": schedule_policies.options(request.service.schedule_views.options(row)),
    }


async def _backfills(request: ApiRequest, query: ShowQuery, shown: ShownSchedule | None, zone: tzinfo) -> dict[str, Any]:
    service, id_ = request.service.backfills, request.id
    found = await service.find(id_, cursor=query.cursor or None, limit=PAGE)
    return {
        "backfills": found.rows,
        "running": any(one.state is BackfillState.RUNNING for one in found.rows),
        "query": query,
        "first_url": here_url(id_, query, cursor="") if query.cursor else "",
        "next_url": here_url(id_, query, cursor=found.next_cursor) if found.next_cursor else "",
        **await _counted(request, query, zone),
    }


async def _counted(request: ApiRequest, query: ShowQuery, zone: tzinfo) -> dict[str, Any]:
    """What the backfill that is asked about would run, or what is wrong with it."""
    wrong: dict[str, str] = {}
    nothing = {"counted": None, "wrong": wrong}
    if not (query.since or query.until):
        return nothing
    now_us = request.service.schedules.now_us()
    us: dict[str, int] = {}
    for name, text in (("since", query.since), ("until", query.until or "now")):
        try:
            us[name] = moments.moment_us(text, now_us, zone, field=name)
        except InvalidField as error:
            wrong[name] = error.message
    try:
        rate = float(query.rate or RATE_PER_S)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        wrong["rate"] = f"expected a number from 0.001 to 1000, got {query.rate[:20]!r}"
    if wrong:
        return nothing
    try:
        counted = await request.service.backfills.count(request.id, us["since"], us["until"], rate)
    except (BadRequest, Conflict) as error:
        wrong["until" if error.pointer == "/to" else "since"] = message_of(error)
        return nothing
    return {"counted": counted, "wrong": wrong, "from_us": us["since"], "to_us": us["until"], "rate": rate}


_TABS = {
    Tab.OVERVIEW: _overview,
    Tab.LEDGER: _ledger,
    Tab.VERSIONS: _versions,
    Tab.DEFINITION: _definition,
    Tab.BACKFILLS: _backfills,
}


# --- doing --------------------------------------------------------------------------------------------


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
        return await _shown(
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
