"""What the palette (Ctrl-K) shows for what is typed."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from schedule_zero.service.finding import Found
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages.render import url


class FindQuery(Struct, frozen=True, forbid_unknown_fields=True):
    q: Annotated[str, Meta(max_length=200)] = ""


class Option(Struct):
    label: str
    note: str
    href: str


_PLACES = {"schedule": "/schedules", "execution": "/executions", "node": "/nodes", "handler": "/handlers"}


async def find(request: ApiRequest) -> Response:
    """JSON for palette.js: ``[{label, note, href}]``."""
    query: FindQuery = request.query
    return Response([_option(one) for one in await request.service.finding.find(query.q)])


def _option(found: Found) -> Option:
    if found.kind == "job":
        return Option(f"Run {found.id}.{found.note}", "job", url("/handlers", found.id, "run", method=found.note))
    note = f"{found.kind}: {found.note}" if found.note else found.kind
    return Option(found.id, note, url(_PLACES[found.kind], found.id))
