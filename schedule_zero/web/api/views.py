"""Endpoints on saved views: queries of a page that are kept by name, for everybody."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from schedule_zero.model import SavedView
from schedule_zero.rules.search_parse import MAX_TEXT
from schedule_zero.web.api.records import Moment, Record, moment
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.schemas import Body, Query, given

PageName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=40,
        pattern=r"^[a-z][a-z-]*(?!\n)$",
        description="Which page it is of; the query of `executions` is a search.",
    ),
]
ViewName = Annotated[
    str, Meta(min_length=1, max_length=80, pattern=r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?(?!\n)$")
]


class ViewBody(Body, frozen=True, kw_only=True):
    """A view to be kept; one of the same name on that page is replaced."""

    page: PageName = "executions"
    name: ViewName
    query: Annotated[str, Meta(max_length=MAX_TEXT, pattern=r"^[^\x00-\x1f\x7f]*(?!\n)$")]


class ViewsQuery(Query, frozen=True, kw_only=True):
    page: PageName | UnsetType = UNSET


class ViewRecord(Record, kw_only=True):
    id: str
    page: str
    name: str
    query: str
    created_at: Moment
    by: str | None


class Views(Record, kw_only=True):
    """By page and name."""

    views: list[ViewRecord]


def view_record(view: SavedView) -> ViewRecord:
    return ViewRecord(
        id=view.id,
        page=view.page,
        name=view.name,
        query=view.query,
        created_at=moment(view.created_us),
        by=view.by,
    )


async def search(request: ApiRequest) -> Response:
    """Those of a page, or of all."""
    query: ViewsQuery = request.query
    found = await request.service.views.find(given(query.page))
    return Response(Views(views=[view_record(view) for view in found]))


async def save(request: ApiRequest) -> Response:
    """Keep a query by a name; it replaces one that has that name."""
    body: ViewBody = request.body
    return Response(
        view_record(await request.service.views.save(request.principal, body.page, body.name, body.query)), status=201
    )


async def delete(request: ApiRequest) -> Response:
    """Forget it; the answer is what it was."""
    return Response(view_record(await request.service.views.delete(request.principal, request.id)))
