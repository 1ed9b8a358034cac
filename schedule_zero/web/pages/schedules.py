"""All schedules: found, sorted, and changed one by one or many at once; and the switch that stops them all."""

from __future__ import annotations

import re
from datetime import tzinfo
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from schedule_zero.errors import InvalidField
from schedule_zero.model import ScheduleState
from schedule_zero.rules.policies import skips_of
from schedule_zero.service.schedule_bulk import BulkDone, BulkVerb
from schedule_zero.service.schedule_views import ListedSchedule, ScheduleList
from schedule_zero.store.schedule_lists import Order, Wanted
from schedule_zero.timing.zones import iana_zone
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.schemas import catch_up_of
from schedule_zero.web.pages import words
from schedule_zero.web.pages.moments import moment_us
from schedule_zero.web.pages.preferences import preferences
from schedule_zero.web.pages.render import done, page, url

TOPICS = ["schedule", "schedules", "execution"]
PAGE = 50
PATH = "/schedules"

Text = Annotated[str, Meta(max_length=200)]
Cursor = Annotated[str, Meta(max_length=500)]
Note = Annotated[str, Meta(max_length=1000)]
Id = Annotated[str, Meta(max_length=128)]


class StateWord(StrEnum):
    """A state, or any."""

    ANY = ""
    ACTIVE = "active"
    PAUSED = "paused"
    FINISHED = "finished"
    QUARANTINED = "quarantined"


class ListQuery(Struct, frozen=True, forbid_unknown_fields=True):
    q: Text = ""
    handler: Id = ""
    state: StateWord = StateWord.ANY
    sort: Order = Order.ID
    cursor: Cursor = ""


class BulkForm(Struct, frozen=True, forbid_unknown_fields=True):
    verb: BulkVerb
    # The ticked ones, or with ``all`` what the filter finds: as many as ``expected``.
    id: list[Id] = []
    all: bool = False
    expected: Annotated[int, Meta(ge=0)] | None = None
    q: Text = ""
    handler: Id = ""
    state: StateWord = StateWord.ANY


class FreezeForm(Struct, frozen=True, forbid_unknown_fields=True):
    note: Note | None = None
    until: Text = ""


class ThawWord(StrEnum):
    """What to make up for."""

    POLICY = "policy"
    NONE = "none"
    LATEST = "latest"
    ALL = "all"


class ThawForm(Struct, frozen=True, forbid_unknown_fields=True):
    catch_up: ThawWord = ThawWord.POLICY


class Row(Struct, frozen=True):
    """A line of the list."""

    listed: ListedSchedule
    # Its trigger, without the moment from which its intervals are counted.
    words: str
    zone: tzinfo | None
    # Somebody has asked to leave its next fire out.
    skips_next: bool
    strip: str
    # Of the runs that are over and say something about the job; None: there is none.
    success: str | None
    success_kind: str


ORDER_WORDS = {Order.ID: "Name", Order.NEXT: "Next fire", Order.HANDLER: "Handler"}
VERB_WORDS = {
    BulkVerb.PAUSE: "paused",
    BulkVerb.RESUME: "resumed",
    BulkVerb.RUN: "run now",
    BulkVerb.SKIP: "asked to skip a fire",
    BulkVerb.DELETE: "deleted",
}
_ANCHOR = re.compile(r", from \d{4}-\d\d-\d\d(T[0-9:.]+Z)?")
GOOD = frozenset({"completed", "executed", "caught_up"})
BAD = frozenset({"failed", "timeout", "dead", "misfired"})


async def index(request: ApiRequest) -> Response:
    """Schedules that a filter finds, in an order."""
    query: ListQuery = request.query
    views = request.service.schedule_views
    found = await views.page(wanted_of(query), order=query.sort, cursor=query.cursor or None, limit=PAGE)
    return page(
        request,
        "schedules.html",
        title="Schedules",
        topics=TOPICS,
        query=query,
        here=_url(query),
        first_url=_url(query, cursor="") if query.cursor else "",
        next_url=_url(query, cursor=found.next_cursor) if found.next_cursor else "",
        rows=[row_of(listed) for listed in found.rows],
        states=_states(query, found),
        sorts=[(label, _url(query, sort=one, cursor=""), one is query.sort) for one, label in ORDER_WORDS.items()],
        matching=_matching(query, found),
        handlers=found.handlers,
        filtered=bool(query.q or query.handler or query.state),
        freeze=request.service.freezes.current(),
    )


async def bulk(request: ApiRequest) -> Response:
    """Do one thing with the schedules that were ticked, or with all that the filter finds."""
    body: BulkForm = request.body
    service = request.service.schedule_bulk
    if body.all:
        answer = await service.do_all(request.principal, body.verb, wanted_of(body), body.expected)
    elif body.id:
        answer = await service.do(request.principal, body.verb, list(dict.fromkeys(body.id)))
    else:
        raise InvalidField("no schedule is ticked", parameter="id")
    return done(request, _told(body.verb, answer), to=PATH)


async def freeze(request: ApiRequest) -> Response:
    """Let no schedule fire until further notice, or until a moment."""
    body: FreezeForm = request.body
    schedules = request.service.schedules
    zone = words.zone_for(preferences(request.headers), None)
    until_us = moment_us(body.until, schedules.now_us(), zone, field="until") if body.until else None
    await request.service.freezes.freeze(request.principal, body.note, until_us)
    return done(request, "All schedules are frozen", to=PATH, undo=url(PATH, "thaw"))


async def thaw(request: ApiRequest) -> Response:
    """Let schedules fire again; what was due meanwhile is made up for as asked."""
    body: ThawForm = request.body
    await request.service.freezes.thaw(request.principal, catch_up_of(body.catch_up))
    return done(request, "Schedules fire again", to=PATH)


def wanted_of(query: ListQuery | BulkForm) -> Wanted:
    return Wanted(
        text=query.q,
        handler_id=query.handler or None,
        state=ScheduleState(query.state.value) if query.state else None,
    )


def row_of(listed: ListedSchedule) -> Row:
    """A schedule with its strip in words."""
    names = [outcome.word for outcome in listed.outcomes]
    told = {name: names.count(name) for name in names}
    good, bad = sum(name in GOOD for name in names), sum(name in BAD for name in names)
    share = good / (good + bad) if good + bad else None
    return Row(
        listed=listed,
        words=words.sentence(_ANCHOR.sub("", listed.words)),
        zone=iana_zone(listed.zone) if listed.zone else None,
        skips_next=listed.schedule.next_fire_us in skips_of(listed.schedule.skips),
        strip=", ".join(f"{count} {name.replace('_', ' ')}" for name, count in told.items()),
        success=None if share is None else f"{share:.0%}",
        success_kind="" if share is None else "completed" if bad == 0 else "failed" if share < 0.5 else "warning",
    )


def _states(query: ListQuery, found: ScheduleList) -> list[tuple[str, int, str, bool]]:
    """(label, count, address, whether it is this one) of each state."""
    total = sum(found.counts.values())
    rows = [("all", total, _url(query, state=StateWord.ANY, cursor=""), not query.state)]
    for state, count in found.counts.items():
        word = StateWord(state.value)
        if count or query.state is word:
            rows.append((state.value, count, _url(query, state=word, cursor=""), query.state is word))
    return rows


def _matching(query: ListQuery, found: ScheduleList) -> int:
    return found.counts[ScheduleState(query.state.value)] if query.state else sum(found.counts.values())


def _url(query: ListQuery, **changes: object) -> str:
    sort = changes.get("sort", query.sort)
    values = {"q": query.q, "handler": query.handler, "state": query.state, "cursor": query.cursor, **changes}
    return url(PATH, **{**values, "sort": "" if sort is Order.ID else sort})


def _told(verb: BulkVerb, answer: BulkDone) -> str:
    """What happened, and why not where it did not."""
    text = f"{words.plural(answer.done, 'schedule')} {VERB_WORDS[verb]}"
    if answer.left:
        text += f", {answer.left:,} left as they are"
    if answer.refused:
        text += f", {answer.refused:,} refused"
    if answer.told:
        text += ": " + "; ".join(message for _, message in answer.told[:2])
    return text
