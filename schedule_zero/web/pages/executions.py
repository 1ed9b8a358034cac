"""The list of executions: a search, what it finds and when that was, and what can be done to all of it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta, Struct

from schedule_zero.errors import InvalidField, InvalidSearch
from schedule_zero.model import Batch, BatchKind, BatchState
from schedule_zero.rules.search_parse import MAX_TEXT
from schedule_zero.service.search import Asked
from schedule_zero.service.views import EXECUTIONS
from schedule_zero.store.batches import what_of
from schedule_zero.store.execution_lists import Filter
from schedule_zero.store.executions import FoundPage
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages import executions_view as view
from schedule_zero.web.pages.executions_view import LIST
from schedule_zero.web.pages.job_form import idem_key, once
from schedule_zero.web.pages.preferences import preferences
from schedule_zero.web.pages.render import CLOCK, done, page, part, url
from schedule_zero.web.pages.words import zone_for

TOPICS = ["execution", "batch"]
ROWS = 50
# Batches that are shown beside the one that somebody has begun here.
BATCHES = 5

SearchText = Annotated[str, Meta(max_length=MAX_TEXT)]
Id = Annotated[str, Meta(pattern=r"^[0-9a-hjkmnp-tv-z]{26}(?!\n)$")]
Ids = Annotated[list[Id], Meta(max_length=ROWS)]
Kind = Literal["cancel", "retry"]


class ListQuery(Struct, frozen=True, forbid_unknown_fields=True):
    q: SearchText = ""
    cursor: Annotated[str, Meta(max_length=40)] = ""
    # One that was begun here: how far it is.
    batch: Annotated[str, Meta(max_length=26)] = ""


class BulkQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be done to those of ``id``, or to all that the search finds."""

    kind: Kind
    q: SearchText = ""
    id: Ids = []


class BulkForm(BulkQuery, frozen=True, forbid_unknown_fields=True):
    """That it is to be done. ``once``: which form this is; sent twice, it is obeyed once."""

    once: Annotated[str, Meta(max_length=64, pattern=r"^[0-9a-z]*(?!\n)$")] = ""


class ViewForm(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+(?!\n)$")]
    q: SearchText = ""


async def index(request: ApiRequest) -> Response:
    """What a search finds, newest first."""
    query: ListQuery = request.query
    facts: dict[str, Any] = {"rows": None, "chart": None, "chips": [], "batches": [], "slip": None}
    try:
        asked = ask(request, query.q, query.cursor)
    except InvalidSearch as error:
        facts |= _state(request, query, query.q) | await _views(request)
        facts["slip"] = view.slip(query.q, error)
        return page(request, "executions.html", title="Executions", status=400, topics=[], **facts)
    parts = {
        "rows": partial(_rows, request, asked),
        "states": partial(_states, request, asked),
        "histogram": partial(_histogram, request, asked),
        "batches": partial(_batches, request, query),
        "views": partial(_views, request),
    }
    wanted = part(request)
    chosen = [parts[wanted]] if wanted in parts else parts.values()
    for found in await asyncio.gather(*(read() for read in chosen)):
        facts |= found
    facts |= _state(request, query, asked.said)
    title = f"{asked.said} – Executions" if asked.said else "Executions"
    return page(request, "executions.html", title=title, topics=TOPICS, **facts)


def ask(request: ApiRequest, text: str, cursor: str = "") -> Asked:
    """What a search means in the viewer's zone. InvalidSearch."""
    also = Filter(limit=ROWS, cursor=cursor or None)
    return request.service.search.ask(text, viewers_zone(request), also)


def viewers_zone(request: ApiRequest) -> str:
    """In which zone the viewer's days begin."""
    zone = zone_for(preferences(request.headers), None)
    return zone.key if isinstance(zone, ZoneInfo) else "UTC"


def _state(request: ApiRequest, query: ListQuery, text: str) -> dict[str, Any]:
    """What the address says, for what leads on from here."""
    here = url(LIST, q=text, cursor=query.cursor, batch=query.batch)
    return {"q": text, "address": here, "cursor": query.cursor, "zone_key": viewers_zone(request)}


# --- parts ------------------------------------------------------------------------------------------


async def _rows(request: ApiRequest, asked: Asked) -> dict[str, Any]:
    found: FoundPage = await request.service.search.find(asked)
    executions, now_us = request.service.executions, CLOCK.wall_us()
    rows = [
        view.row_of(row, now_us, waits_for=executions.waits_for, progress=executions.progress) for row in found.rows
    ]
    older = url(LIST, q=asked.said, cursor=found.next_cursor) if found.next_cursor else ""
    return {"rows": rows, "older": older, "searched_us": found.searched_us}


async def _states(request: ApiRequest, asked: Asked) -> dict[str, Any]:
    stats = await request.service.executions.stats()
    return {"chips": view.chips(asked.search, stats.by_state), "stored": stats.total}


async def _histogram(request: ApiRequest, asked: Asked) -> dict[str, Any]:
    found = await request.service.search.histogram(asked, viewers_zone(request))
    return {"chart": view.chart(found, asked.search)}


async def _views(request: ApiRequest) -> dict[str, Any]:
    return {"views": await request.service.views.find(EXECUTIONS)}


async def _batches(request: ApiRequest, query: ListQuery) -> dict[str, Any]:
    found = (await request.service.batches.find(limit=BATCHES)).rows
    shown = [batch for batch in found if batch.state is BatchState.RUNNING or batch.id == query.batch]
    return {"batches": [progress_of(batch) for batch in shown]}


class BatchProgress(Struct, frozen=True, kw_only=True):
    """How far a batch is. ``made``: a search for the executions that it created."""

    it: Batch
    q: str
    ids: int
    over: int
    reasons: str
    made: str


_REASONS = {
    "over": "over already",
    "began": "had begun",
    "gone": "cleared",
    "unique": "one with its unique key is open",
}


def progress_of(batch: Batch) -> BatchProgress:
    what = what_of(batch)
    reasons = ", ".join(f"{count:,} {_REASONS.get(name, name)}" for name, count in batch.reasons.items())
    return BatchProgress(
        it=batch,
        q=what.q,
        ids=len(what.ids),
        over=batch.done + batch.skipped + batch.failed,
        reasons=reasons,
        made=url(LIST, q=f"group:{batch.id}") if batch.kind is BatchKind.RETRY else "",
    )


# --- all of them ------------------------------------------------------------------------------------


async def bulk(request: ApiRequest) -> Response:
    """How many it would be done to, before it is done."""
    query: BulkQuery = request.query
    asked = ask(request, "" if query.id else query.q)
    kind = BatchKind(query.kind)
    counted = await request.service.batches.count(kind, asked, query.id or None)
    back = url(LIST, q=query.q)
    return page(
        request,
        "executions_bulk.html",
        title=f"{query.kind.capitalize()} executions",
        kind=kind.value,
        counted=counted,
        ids=query.id,
        q=query.q,
        once=once(),
        back=back,
    )


async def begin(request: ApiRequest) -> Response:
    """Do it, from now on, whoever goes on looking."""
    body: BulkForm = request.body
    asked = ask(request, "" if body.id else body.q)
    idem = idem_key(request, body.once, msgspec.json.encode(body))
    kind, ids = BatchKind(body.kind), body.id or None
    batch, _ = await request.service.batches.begin(request.principal, kind, asked, ids, idem)
    doing = "Cancelling" if batch.kind is BatchKind.CANCEL else "Retrying"
    many = f"{batch.total:,}" if batch.exact else f"{batch.total:,} or more"
    return done(request, f"{doing} {many}", to=url(LIST, q=body.q, batch=batch.id), go=True)


async def stop(request: ApiRequest) -> Response:
    """Do no more of a batch; what was done stays."""
    batch = await request.service.batches.stop(request.principal, request.id)
    return done(request, f"Stopped; {batch.done:,} were done", to=url(LIST, batch=batch.id))


# --- saved views ------------------------------------------------------------------------------------


async def save_view(request: ApiRequest) -> Response:
    """Keep this search by a name, for everybody."""
    body: ViewForm = request.body
    name = body.name.strip()
    if not name:
        raise InvalidField("expected a name that can be seen", pointer="/name")
    view_ = await request.service.views.save(request.principal, EXECUTIONS, name, body.q)
    return done(request, f"Saved as {view_.name}", to=url(LIST, q=view_.query), go=True)


async def delete_view(request: ApiRequest) -> Response:
    """Forget a search that was kept."""
    gone = await request.service.views.delete(request.principal, request.id)
    undo = url("/views", gone.id, "undelete")
    return done(request, f"{gone.name} is no longer kept", to=url(LIST, q=gone.query), undo=undo, go=True)


async def undelete_view(request: ApiRequest) -> Response:
    """Keep it again."""
    view_ = await request.service.views.restore(request.principal, request.id)
    return done(request, f"{view_.name} is kept again", to=url(LIST, q=view_.query), go=True)
