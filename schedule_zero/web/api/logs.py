"""Endpoints on the logs of executions. What jobs say is hostile text: it leaves as JSON, or as plain text.

The id of an event of the stream is ``<token>-<line>``: what comes next of which attempt. Who connects again with it
misses nothing and gets nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from schedule_zero.dispatch.views import ProgressView
from schedule_zero.errors import InvalidField
from schedule_zero.service.logs import LogService, LogView
from schedule_zero.store.logs import Wanted
from schedule_zero.web.api.log_records import FollowQuery, LogsQuery, end_data, line_record, log_page
from schedule_zero.web.api.request import ApiRequest, EventStream, Response
from schedule_zero.web.api.schemas import given

RETRY_MS = 2000
KEEPALIVE_S = 15.0
# How often a follower looks although nobody told it that there is more: a new attempt is told by nothing.
LOOK_S = 1.0
# Lines of an attempt that is over may be on their way for so long; then its node is taken to have died with them.
LINGER_S = 10.0
PAGE = 1000

_encode = msgspec.json.Encoder().encode


async def read(request: ApiRequest) -> Response:
    """Some lines of the log of one attempt: a range, the last ones, or those with a text in them."""
    query: LogsQuery = request.query
    if query.tail is not UNSET and query.from_ is not UNSET:
        raise InvalidField("give either from or tail", parameter="tail")
    wanted = Wanted(
        token=0,
        first=given(query.from_) or 0,
        limit=query.limit,
        tail=given(query.tail),
        grep=given(query.grep),
        ignore_case=query.ignore_case,
        level=given(query.level),
        stream=given(query.stream),
    )
    view = await request.service.logs.read(request.id, wanted, attempt=given(query.attempt))
    if query.format == "json":
        return Response(log_page(view))
    text = "".join(f"{line.text}\n" for _, line in view.found.lines)
    following = () if view.found.following is None else (("X-Log-Next", str(view.found.following)),)
    return Response(text.encode("utf-8", "replace"), content_type="text/plain; charset=utf-8", headers=following)


async def follow(request: ApiRequest) -> EventStream:
    """The log of an execution as it grows, attempt after attempt, until it is over (server-sent events)."""
    query: FollowQuery = request.query
    token, first = 0, given(query.from_) or 0
    if last := request.headers.get("Last-Event-ID"):
        token, first = position(last)
    wanted = Wanted(
        token=token,
        first=first,
        limit=PAGE,
        # Only at the first connection.
        tail=None if token else given(query.tail),
        grep=given(query.grep),
        ignore_case=query.ignore_case,
        level=given(query.level),
        stream=given(query.stream),
    )
    attempt = None if token else given(query.attempt)
    # What is wrong with the request is said before the stream begins.
    probe = replace(wanted, limit=1, tail=None)
    view = await request.service.logs.read(request.id, probe, attempt=attempt)
    if attempt is not None:
        wanted.token = view.token
    return EventStream(frames(request.service.logs, request.id, wanted))


def position(text: str) -> tuple[int, int]:
    """``<token>-<line>`` of an event's id; ``<token>`` stands for the first line of that attempt."""
    token, dash, line = text.partition("-")
    if not (_is_number(token) and (_is_number(line) or not dash)):
        raise InvalidField("expected the id of an event of this stream, such as 4711-100", header="Last-Event-ID")
    return int(token), int(line or 0)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


async def frames(
    logs: LogService,
    execution_id: str,
    wanted: Wanted,
    *,
    linger_s: float = LINGER_S,
    look_s: float = LOOK_S,
    keepalive_s: float = KEEPALIVE_S,
) -> AsyncGenerator[bytes, None]:
    """The chunks of one stream."""
    yield b"retry: %d\n\n" % RETRY_MS
    loop = asyncio.get_running_loop()
    told: ProgressView | None = None
    spoke_s = grew_s = loop.time()
    with logs.listening(execution_id) as more:
        while True:
            more.clear()
            view = await logs.read(execution_id, wanted)
            said = bool(view.found.lines)
            if said:
                yield _lines(view)
            behind = _advance(wanted, view)
            progress = view.progress
            if progress is not None and (told is None or progress.at_us != told.at_us):
                told, said = progress, True
                yield _event("progress", None, execution_id, msgspec.to_builtins(progress))
            now_s = loop.time()
            if said or behind:
                spoke_s, grew_s = now_s, now_s if behind or view.found.lines else grew_s
            if behind:
                continue
            if view.over and (view.complete or now_s - grew_s > linger_s):
                if view.next_token is not None:
                    wanted.token, wanted.first, grew_s = view.next_token, 0, now_s
                    continue
                if view.finished:
                    yield _event("end", f"{view.token}-{wanted.first}", execution_id, end_data(view))
                    return
            elif not view.token and view.finished:
                yield _event("end", None, execution_id, end_data(view))
                return
            elif not view.over:
                grew_s = now_s
            try:
                async with asyncio.timeout(look_s):
                    await more.wait()
            except TimeoutError:
                if loop.time() - spoke_s >= keepalive_s:
                    spoke_s = loop.time()
                    yield b": keep-alive\n\n"


def _advance(wanted: Wanted, view: LogView) -> bool:
    """Go on after what was read. Whether there is more already."""
    found = view.found
    if view.token:
        # From now on it is this attempt that is followed, until the next one begins.
        wanted.token = view.token
    wanted.tail = None
    if found.following is not None:
        wanted.first = found.following
        return True
    wanted.first = max(wanted.first, found.total)
    return False


def _lines(view: LogView) -> bytes:
    lines = [line_record(number, line) for number, line in view.found.lines]
    data = {"attempt": view.attempt, "lines": lines}
    return _event("log", f"{view.token}-{view.found.lines[-1][0] + 1}", view.execution_id, data)


def _event(kind: str, id_: str | None, execution_id: str, data: Any) -> bytes:
    head = b"" if id_ is None else b"id: %s\n" % id_.encode()
    body = _encode({"kind": kind, "id": execution_id, "data": data})
    return head + b"event: %s\ndata: %s\n\n" % (kind.encode(), body)
