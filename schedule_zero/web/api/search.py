"""Endpoints on what a search finds: when it was created, all of it as a file, and what might be typed next."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from msgspec import UnsetType
from tornado.iostream import StreamClosedError

from schedule_zero.errors import ScheduleZeroError
from schedule_zero.service.search import Asked
from schedule_zero.web.api import search_records as records
from schedule_zero.web.api.executions import ask
from schedule_zero.web.api.exports import FORMATS
from schedule_zero.web.api.request import ApiRequest, EventStream, Response
from schedule_zero.web.api.schemas import given
from schedule_zero.web.api.search_schemas import ExportQuery, HistogramQuery, SuggestQuery


async def histogram(request: ApiRequest) -> Response:
    """How many, in up to 60 parts of the time: all that there are, or the newest of them, and then it says so."""
    query: HistogramQuery = request.query
    asked = ask(request, query)
    found = await request.service.search.histogram(asked, given(query.timezone))
    return Response(records.histogram_record(found, asked.said))


async def suggest(request: ApiRequest) -> Response:
    """Qualifiers, states, jobs, schedules, nodes: what fits what is being typed at the caret."""
    query: SuggestQuery = request.query
    caret = len(query.q) if isinstance(query.at, UnsetType) else query.at
    return Response(records.suggestions_record(await request.service.search.suggest(query.q, caret)))


async def export(request: ApiRequest) -> EventStream:
    """The newest first, in chunks while they are read; text in a CSV file is never a formula."""
    query: ExportQuery = request.query
    written = FORMATS[query.format]
    name = f'attachment; filename="executions.{query.format}"'
    return EventStream(
        _chunks(request, ask(request, query), query.format),
        content_type=written.content_type,
        headers=(("Content-Disposition", name),),
    )


async def _chunks(request: ApiRequest, asked: Asked, name: str) -> AsyncGenerator[bytes, None]:
    written = FORMATS[name]
    pages = request.service.search.export(asked.wanted)
    yield written.head
    first = True
    try:
        async for page in pages:
            if page:
                yield written.rows(page, first=first)
                first = False
    except ScheduleZeroError as error:
        # The answer was begun: an end that is cut off is the only way to say that it is not all.
        raise StreamClosedError from error
    finally:
        await pages.aclose()
    yield written.tail
