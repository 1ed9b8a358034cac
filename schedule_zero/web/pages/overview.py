"""The overview: first a sentence with the verdict, then what it rests on.

Four parts renew themselves at their own pace: how it stands (``now``), the charts, the lists (``more``), and who
changed what (``changes``, for those who may read the audit log). None has a form in it, so that one rendering is for
all who look.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct

from schedule_zero.errors import StoreUnavailable
from schedule_zero.service.overview import AHEAD_US, Failures, Standing, renewed_s
from schedule_zero.service.series import SeriesView
from schedule_zero.store.changes import Change
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.routing import Access, allowed
from schedule_zero.web.pages import audit
from schedule_zero.web.pages import overview_view as shown
from schedule_zero.web.pages.overview_view import RANGE_WORDS, RANGES, Range
from schedule_zero.web.pages.preferences import preferences
from schedule_zero.web.pages.render import page, part
from schedule_zero.web.pages.shared_parts import shared_part
from schedule_zero.web.pages.verdict import verdict
from schedule_zero.web.pages.words import zone_for

TOPICS = ["execution", "node", "schedule", "schedules", "dead_letters"]
# Executions end all the time: what somebody did to them is looked for now and then.
CHANGE_TOPICS = [topic for topic in audit.TOPICS if topic not in ("execution", "session")]
TEMPLATE, TITLE = "overview.html", "Overview"
# From nothing to a first job.
FIRST_STEPS = (
    ("Start a node with the demo handler", "schedule-zero-handler schedule_zero.handlers.demo:DemoHandler"),
    ("Run a job on it", "schedule-zero run demo.hello name=World"),
    ("Schedule it", "schedule-zero schedule demo.hello name=World --every 10s --id my-first"),
)


class OverviewQuery(Struct, frozen=True, forbid_unknown_fields=True):
    range: Range = Range.HOUR
    # The figures of the charts as a table.
    figures: bool = False


async def index(request: ApiRequest) -> Response:
    """How everything is; or one part of that, which is the same for all who look."""
    query: OverviewQuery = request.query
    asked = part(request)
    if asked in PARTS:
        sources, facts = PARTS[asked]
        found = await sources(request, query)

        def render() -> Response:
            return page(request, TEMPLATE, title=TITLE, **_common(query), **facts(request, *found))

        return shared_part(request, asked, found, render, query)
    whole = {**_common(query), "figures": None}
    topics = list(dict.fromkeys(TOPICS + CHANGE_TOPICS)) if _may_see_changes(request) else TOPICS
    for name, (sources, facts) in PARTS.items():
        if name != "figures" or query.figures:
            whole |= facts(request, *await sources(request, query))
    return page(request, TEMPLATE, title=TITLE, topics=topics, **whole)


def _common(query: OverviewQuery) -> dict[str, Any]:
    """What each part may ask for."""
    return {
        "query": query,
        "ranges": list(Range),
        "range_words": RANGE_WORDS[query.range],
        "change_topics": CHANGE_TOPICS,
        "renewed_s": round(renewed_s(RANGES[query.range][1])),
    }


# --- what parts rest on -----------------------------------------------------------------------------


async def _standing(request: ApiRequest, _: OverviewQuery) -> tuple[object, ...]:
    return (await request.service.overview.standing(),)


async def _series(request: ApiRequest, query: OverviewQuery) -> tuple[object, ...]:
    try:
        return (await request.service.overview.chart(*RANGES[query.range]),)
    except StoreUnavailable:
        return (None,)


async def _lists(request: ApiRequest, _: OverviewQuery) -> tuple[object, ...]:
    standing = await request.service.overview.standing()
    try:
        return standing, await request.service.overview.failures()
    except StoreUnavailable:
        return standing, None


def _may_see_changes(request: ApiRequest) -> bool:
    return allowed(request.principal.role, Access.OPERATOR)


async def _changes(request: ApiRequest, _: OverviewQuery) -> tuple[object, ...]:
    try:
        return (await request.service.overview.changes() if _may_see_changes(request) else None,)
    except StoreUnavailable:
        return (None,)


# --- what is shown of it ------------------------------------------------------------------------------


def _now(_: ApiRequest, standing: Standing) -> Mapping[str, Any]:
    fresh = standing.stored is not None and standing.stored.unused
    steps = [
        (words, command, place == 0 and standing.handlers > 0) for place, (words, command) in enumerate(FIRST_STEPS)
    ]
    return {"verdict": verdict(standing), "tiles": shown.tiles(standing), "steps": steps if fresh else []}


def _charts(request: ApiRequest, view: SeriesView | None) -> Mapping[str, Any]:
    zone = str(zone_for(preferences(request.headers), None))
    return {"charts": None if view is None else shown.charts(view, zone), "zone": zone}


def _figures(_: ApiRequest, view: SeriesView | None) -> Mapping[str, Any]:
    names, rows = ([], []) if view is None else shown.figures(view)
    return {"figures": rows, "end_names": names}


def _more(_: ApiRequest, standing: Standing, failures: Failures | None) -> Mapping[str, Any]:
    nodes, more_nodes = shown.nodes_shown(standing.nodes)
    return {
        "nodes": nodes,
        "more_nodes": more_nodes,
        "stored": standing.stored,
        "frozen": standing.freeze is not None,
        "ahead_s": AHEAD_US // 1_000_000,
        "failures": failures,
    }


def _changed(_: ApiRequest, changes: list[Change] | None) -> Mapping[str, Any]:
    return {"changes": None if changes is None else [(one, audit.place_of(one)) for one in changes]}


Sources = Callable[[ApiRequest, OverviewQuery], Awaitable[tuple[object, ...]]]
Shown = Callable[..., Mapping[str, Any]]
PARTS: dict[str, tuple[Sources, Shown]] = {
    "now": (_standing, _now),
    "charts": (_series, _charts),
    "figures": (_series, _figures),
    "more": (_lists, _more),
    "changes": (_changes, _changed),
}
