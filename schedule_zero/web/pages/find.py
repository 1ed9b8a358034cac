"""What the palette (Ctrl-K) shows for what is typed."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from schedule_zero.service.finding import Found
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.routing import Access, allowed
from schedule_zero.web.pages.render import url


class FindQuery(Struct, frozen=True, forbid_unknown_fields=True):
    q: Annotated[str, Meta(max_length=200)] = ""


class Option(Struct):
    label: str
    note: str
    href: str


# What the navigation does not name; the palette has that one itself.
PAGES = (
    ("New schedule", "/schedules/new", Access.OPERATOR),
    ("New calendar", "/new-calendar", Access.OPERATOR),
    ("Freeze all schedules", "/settings#freeze", Access.OPERATOR),
    ("Calendars", "/calendars", Access.VIEWER),
    ("Groups", "/groups", Access.VIEWER),
    ("Requeues", "/requeues", Access.VIEWER),
    ("Health and backup", "/settings", Access.VIEWER),
    ("Configuration", "/settings/configuration", Access.ADMIN),
    ("Access: tokens, browsers, keys of nodes", "/settings/access", Access.ADMIN),
    ("About: versions, licences", "/settings/about", Access.VIEWER),
)
_PLACES = {"schedule": "/schedules", "execution": "/executions", "node": "/nodes", "handler": "/handlers"}


async def find(request: ApiRequest) -> Response:
    """JSON for palette.js: ``[{label, note, href}]``."""
    query: FindQuery = request.query
    text, role = query.q.strip(), request.principal.role
    if not text:
        return Response([])
    pages = [
        Option(label, "page", href)
        for label, href, access in PAGES
        if text.lower() in label.lower() and allowed(role, access)
    ]
    may_run = allowed(role, Access.OPERATOR)
    found = [_option(one, may_run=may_run) for one in await request.service.finding.find(text)]
    return Response([*pages, *found, Option(f"Look for “{text}” in the documentation", "docs", url("/docs", q=text))])


def _option(found: Found, *, may_run: bool) -> Option:
    if found.kind == "job":
        if not may_run:
            return Option(f"{found.id}.{found.note}", "job", url("/handlers", found.id, method=found.note))
        return Option(f"Run {found.id}.{found.note}", "job", url("/handlers", found.id, "run", method=found.note))
    note = f"{found.kind}: {found.note}" if found.note else found.kind
    return Option(found.id, note, url(_PLACES[found.kind], found.id))
