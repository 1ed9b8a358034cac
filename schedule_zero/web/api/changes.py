"""Endpoints on the change log, which users know as the audit log: who changed what."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import msgspec
from msgspec import UnsetType, structs

from schedule_zero.rules.change_csv import head
from schedule_zero.store.changes import Change, Filter
from schedule_zero.web.api import change_records as records
from schedule_zero.web.api.request import ApiRequest, EventStream, Response
from schedule_zero.web.api.schemas import ChangesQuery, ChangesWanted, given, moment_us

_encode = msgspec.json.Encoder().encode


async def search(request: ApiRequest) -> Response:
    """Who changed what, newest first. A page may be short and still have a next one."""
    query: ChangesQuery = request.query
    wanted = structs.replace(_filter(query), cursor=given(query.cursor), limit=query.limit)
    page = await request.service.changes.find(wanted)
    return Response(
        records.ChangePage(
            count=len(page.rows),
            limit=query.limit,
            records=[records.change_record(change) for change in page.rows],
            next_cursor=page.next_cursor,
        )
    )


async def as_csv(request: ApiRequest) -> EventStream:
    """All changes that fit, newest first, as CSV with a head (RFC 4180).

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    return _export(request, "text/csv; charset=utf-8", "csv", lambda one: records.change_csv(one).encode(), head())


async def as_json_lines(request: ApiRequest) -> EventStream:
    """All changes that fit, newest first, one JSON object to a line."""
    return _export(request, "application/jsonl", "jsonl", lambda one: _encode(records.change_record(one)) + b"\n")


def _export(
    request: ApiRequest, content_type: str, ending: str, line: Callable[[Change], bytes], first: str = ""
) -> EventStream:
    # Here and not in the generator: what is wrong with the request is said before the answer begins.
    pages = request.service.changes.pages(_filter(request.query))
    disposition = (("Content-Disposition", f'attachment; filename="audit-log.{ending}"'),)
    return EventStream(_lines(pages, line, first), content_type=content_type, headers=disposition)


async def _lines(
    pages: AsyncGenerator[list[Change], None], line: Callable[[Change], bytes], first: str
) -> AsyncGenerator[bytes, None]:
    if first:
        yield first.encode()
    async for page in pages:
        if page:
            yield b"".join(map(line, page))


def _filter(query: ChangesWanted) -> Filter:
    return Filter(
        noun=given(query.noun),
        verb=None if isinstance(query.verb, UnsetType) else query.verb.value,
        subject=given(query.subject),
        by=given(query.by),
        since_us=moment_us(query.since),
        until_us=moment_us(query.until),
    )
