"""One schedule: its past and its future, what it is made of, and everything that can be done with it."""

from __future__ import annotations

from typing import Any

from schedule_zero.errors import NotFound
from schedule_zero.model import Schedule
from schedule_zero.rules.policies import policies_of
from schedule_zero.service.schedule_views import ShownSchedule
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages import words
from schedule_zero.web.pages.preferences import preferences
from schedule_zero.web.pages.render import page, part, url
from schedule_zero.web.pages.schedule_state import Seen, ShowQuery, Tab
from schedule_zero.web.pages.schedule_tabs import OF_DELETED, TABS
from schedule_zero.web.pages.schedules import PATH, row_of

TOPICS = ["schedule", "schedules", "execution", "backfill", "calendar"]
# Parts that need nothing of a tab.
ABOVE_TABS = frozenset({"summary", "pause_form"})


async def show(request: ApiRequest) -> Response:
    """One schedule; of one that was deleted, its ledger and its versions. NotFound."""
    return await shown_with(request, request.query)


async def shown_with(
    request: ApiRequest,
    query: ShowQuery,
    *,
    problems: dict[str, str] | None = None,
    typed: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    """The page; with what is wrong with what was typed into its form, by field."""
    id_ = request.id
    shown = await _found(request)
    row = None if shown is None else row_of(shown.listed)
    zone = words.zone_for(preferences(request.headers), None if row is None else row.zone)
    seen = Seen(request=request, query=query, shown=shown, zone=zone)
    tabs = list(Tab) if shown is not None else list(OF_DELETED)
    tab = query.tab if query.tab in tabs else tabs[0]
    facts: dict[str, Any] = {} if part(request) in ABOVE_TABS else await TABS[tab](seen)
    return page(
        request,
        "schedule.html",
        title=id_,
        topics=TOPICS,
        status=status,
        id=id_,
        path=url(PATH, id_),
        here=seen.url(),
        tab=tab.value,
        tabs=[(one.value, url(PATH, id_, tab="" if one is Tab.OVERVIEW else one), one is tab) for one in tabs],
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


async def _found(request: ApiRequest) -> ShownSchedule | None:
    """The schedule; None if it is deleted. NotFound: there never was one."""
    try:
        return await request.service.schedule_views.one(request.id)
    except NotFound:
        if not await request.service.schedule_views.has_ledger(request.id):
            await request.service.versions.find(request.id, limit=1)
        return None


def _grouped(row: Schedule) -> str:
    """What each run is, where it is not one execution."""
    policies = policies_of(row.policies)
    if policies.shards is not None:
        return f"a group of {words.plural(policies.shards, 'part')}"
    return "a group: one execution on each node that matches" if policies.broadcast else ""
