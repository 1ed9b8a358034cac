"""The audit log: who changed what, from where, and what it was before. (In code it is the change log.)"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from schedule_zero.clock import rfc3339
from schedule_zero.errors import InvalidField
from schedule_zero.rules.change_log import NOUNS, ChangeVerb
from schedule_zero.store import Page
from schedule_zero.store.changes import Change, Filter
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages.moments import moment_us
from schedule_zero.web.pages.preferences import preferences
from schedule_zero.web.pages.render import CLOCK, page, url
from schedule_zero.web.pages.words import zone_for

PER_PAGE = 50
# What is done to them is told by events of these topics.
TOPICS = ["schedule", "schedules", "calendar", "execution", "group", "dead_letters", "requeue", "node", "token"]
TOPICS += ["node_key", "session", "backfill", "batch", "view"]
# Where a subject is looked at.
PLACES = {
    "schedule": "/schedules",
    "calendar": "/calendars",
    "node": "/nodes",
    "group": "/groups",
    "execution": "/executions",
    "requeue": "/requeues",
}
# A deed that was about many executions has an id of its own, which leads nowhere.
MANY = frozenset({ChangeVerb.EXECUTION_CLEARED.value})
MOST_SHOWN = 160
_object = msgspec.json.Decoder(dict[str, Raw])

Text = Annotated[str, Meta(max_length=200)]


class AuditQuery(Struct, frozen=True, forbid_unknown_fields=True):
    noun: Text = ""
    verb: Text = ""
    subject: Text = ""
    by: Text = ""
    # As people type them.
    since: Text = ""
    until: Text = ""
    cursor: Text = ""


class Difference(Struct, frozen=True):
    """One field, as JSON text; None: it was not there."""

    name: str
    before: str | None
    after: str | None


class Row(Struct, frozen=True):
    change: Change
    # "" if there is no place.
    href: str
    differences: list[Difference]


async def index(request: ApiRequest) -> Response:
    """A page of changes, newest first."""
    query: AuditQuery = request.query
    now_us, zone = CLOCK.wall_us(), zone_for(preferences(request.headers), None)
    us: dict[str, int | None] = {"since": None, "until": None}
    problem = None
    for name, text in (("since", query.since), ("until", query.until)):
        try:
            us[name] = moment_us(text, now_us, zone, field=name) if text else None
        except InvalidField as error:
            problem = error
    since_us, until_us = us["since"], us["until"]
    wanted = Filter(
        noun=query.noun or None,
        verb=query.verb or None,
        subject=query.subject or None,
        by=query.by or None,
        since_us=since_us,
        until_us=until_us,
        cursor=query.cursor or None,
        limit=PER_PAGE,
    )
    # (To show everything instead would be an answer to what nobody asked.)
    found = await request.service.changes.find(wanted) if problem is None else Page([], None)
    said = {name: getattr(query, name) for name in query.__struct_fields__ if name != "cursor"}
    exported = {**said, "since": rfc3339(since_us), "until": rfc3339(until_us)}
    return page(
        request,
        "audit.html",
        title="Audit log",
        status=problem.http_status if problem else 200,
        problem=problem,
        topics=TOPICS,
        rows=[_row(change) for change in found.rows],
        query=query,
        nouns=NOUNS,
        verbs=[verb.value for verb in ChangeVerb if not query.noun or verb.noun == query.noun],
        filtered=any(said.values()),
        here=url("/audit", **said, cursor=query.cursor),
        first_url=url("/audit", **said) if query.cursor else "",
        next_url=url("/audit", **said, cursor=found.next_cursor) if found.next_cursor else "",
        csv_url=url("/api/changes.csv", **exported),
        lines_url=url("/api/changes.jsonl", **exported),
        zone=zone,
    )


def _row(change: Change) -> Row:
    return Row(change, place_of(change), differences(change.before, change.after))


def place_of(change: Change) -> str:
    """Where its subject is looked at; "" if there is no place."""
    if change.noun == "batch":
        return url("/executions", batch=change.subject)
    place = PLACES.get(change.noun)
    one = place and change.count == 1 and change.verb not in MANY
    return url(place, change.subject) if place and one else ""


def differences(before: bytes | None, after: bytes | None) -> list[Difference]:
    """What differs, field by field, with values as they are written: no big integer is mangled. Null is left out."""
    old, new = (_object.decode(text) if text else {} for text in (before, after))
    both = [(name, _text(old.get(name)), _text(new.get(name))) for name in {**old, **new}]
    return [Difference(name, was, is_) for name, was, is_ in both if was != is_]


def _text(value: Raw | None) -> str | None:
    text = "null" if value is None else bytes(value).decode()
    if text == "null":
        return None
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
