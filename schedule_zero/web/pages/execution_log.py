"""The log of an execution as a page: some lines at first, then (by log.js) the others, and what comes.

Lines are counted from 1 here, as in an editor; the API counts from 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import tzinfo
from typing import Annotated, Literal

from markupsafe import Markup
from msgspec import Meta, Struct
from msgspec.structs import replace
from tornado.iostream import StreamClosedError

from schedule_zero.errors import NotFound, ScheduleZeroError
from schedule_zero.model import Execution
from schedule_zero.service.deliveries import deliveries
from schedule_zero.service.logs import LogView
from schedule_zero.store.logs import Wanted
from schedule_zero.web.api.request import ApiRequest, EventStream, Response
from schedule_zero.web.pages import log_text
from schedule_zero.web.pages.preferences import preferences
from schedule_zero.web.pages.render import HTML, page, part, url
from schedule_zero.web.pages.words import zone_for

# Lines of a page as it comes, and of each part that is asked for afterwards.
FIRST, MORE = log_text.CHUNK, 4 * log_text.CHUNK
# So many come by themselves; then one has to ask.
MOST = 100_000
# Looks without anything new at the log of an attempt that is over: then its node is taken to have died with the rest.
IDLE_LOOKS = 15
DOWNLOAD_LINES = 5_000

Level = Literal["debug", "info", "warning", "error"]
Stream = Literal["stdout", "stderr", "log", "node"]
_Line = Annotated[int, Meta(ge=1, le=2**53)]


class LogQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which lines. ``line`` is looked at; ``first`` and ``before`` bound a part; ``error`` goes to the first one."""

    tab: Literal["", "log"] = ""
    attempt: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    line: _Line | None = None
    first: _Line | None = None
    before: _Line | None = None
    grep: Annotated[str, Meta(max_length=1000)] = ""
    level: Literal["", Level] = ""
    stream: Literal["", Stream] = ""
    wrap: bool = False
    error: bool = False
    # How many are there already, and how often nothing new was.
    n: Annotated[int, Meta(ge=0, le=2**53)] = 0
    idle: Annotated[int, Meta(ge=0, le=1000)] = 0

    @property
    def filtered(self) -> bool:
        return bool(self.grep or self.level or self.stream)


class LogPage(Struct, kw_only=True):
    """Lines as they are shown, and how to come to the others. Empty addresses: there are none."""

    execution_id: str
    attempt: int
    attempts: list[int]
    query: LogQuery
    text: Markup
    count: int
    total: int
    earlier: str
    later: str
    # ``earlier`` and ``later`` are asked for without a click.
    goes_on: bool
    # More may come.
    follows: bool
    # There is a newer attempt.
    newer: bool
    begun: bool
    zone: str
    missing_line: bool
    no_error: bool = False
    full_page: bool = False


async def show(request: ApiRequest) -> Response:
    """The whole page, or the part that comes before or after what is there."""
    query: LogQuery = request.query
    if query.error:
        return await to_first_error(request, query)
    known = await request.service.executions.get(request.id)
    log = await read(request, query)
    log.attempts = [one.attempt for one in deliveries(known)]
    log.full_page = True
    it = known.execution
    is_part = part(request) is not None
    return page(
        request, "execution_log.html", title=title_of(it), topics=["execution"], log=log, it=it, is_part=is_part
    )


def title_of(it: Execution) -> str:
    """What the tab of one execution is called."""
    return f"{it.handler_id}.{it.job_method} {it.state.value.replace('_', ' ')}"


async def to_first_error(request: ApiRequest, query: LogQuery) -> Response:
    """Go to the first line that looks like an error, if there is one."""
    logs = request.service.logs
    view = await logs.read(request.id, Wanted(token=0, limit=0), attempt=query.attempt)
    number = await logs.first_error(request.id, view.token) if view.token else None
    seen = replace(query, error=False, line=None if number is None else number + 1, grep="", level="", stream="")
    to = url("/executions", request.id, tab="log", **_filters(seen)) if query.tab else address(request.id, seen)
    to = f"{to}#L{number + 1}" if number is not None else f"{to}#no-error"
    return Response(status=303, headers=(("Location", to),), content_type=HTML)


async def read(request: ApiRequest, query: LogQuery) -> LogPage:
    """The lines that a query asks for. NotFound."""
    wanted = _wanted(query)
    view = await request.service.logs.read(request.id, wanted, attempt=query.attempt)
    found = view.found
    zone = zone_for(preferences(request.headers), None)
    pinned = view.attempt or None
    there = query.n + len(found.lines)
    first = found.lines[0][0] + 1 if found.lines else None
    after = found.lines[-1][0] + 2 if found.lines else query.first or 1
    earlier = later = ""
    if not query.filtered and first is not None and first > 1 and query.first is None:
        earlier = address(request.id, query, attempt=pinned, before=first, n=there)
    more = found.following is not None or (not query.filtered and after <= found.total)
    idle = 0 if found.lines or not view.over else query.idle + 1
    follows = not more and not view.complete and idle <= IDLE_LOOKS
    if (more or follows) and query.before is None:
        on = max(after, found.total + 1) if query.filtered else after
        on = on if found.following is None else found.following + 1
        later = address(request.id, query, attempt=pinned, first=on, n=there, idle=idle)
    return LogPage(
        execution_id=request.id,
        attempt=view.attempt,
        attempts=[],
        query=query,
        text=_text(request, query, view, zone, pinned),
        count=len(found.lines),
        total=found.total,
        earlier=earlier,
        later=later,
        goes_on=there < MOST,
        follows=follows,
        newer=view.next_token is not None,
        begun=bool(view.token),
        zone=str(zone),
        missing_line=query.line is not None and query.line > found.total,
    )


def _wanted(query: LogQuery) -> Wanted:
    wanted = Wanted(
        token=0, grep=query.grep or None, ignore_case=True, level=query.level or None, stream=query.stream or None
    )
    if query.before is not None:
        wanted.first = max(0, query.before - 1 - MORE)
        wanted.limit = query.before - 1 - wanted.first
    elif query.first is not None:
        wanted.first, wanted.limit = query.first - 1, MORE
    elif query.line is not None and not query.filtered:
        wanted.first, wanted.limit = max(0, query.line - 1 - FIRST // 2), FIRST
    elif query.filtered:
        wanted.limit = FIRST
    else:
        wanted.tail = FIRST
    return wanted


def _text(request: ApiRequest, query: LogQuery, view: LogView, zone: tzinfo, attempt: int | None) -> Markup:
    tab = "" if request.path.endswith("/log") and query.tab != "log" else "log"
    # (Only what leads to the line: how much is shown of the others is not its business.)
    link = url("", tab=tab, attempt=attempt) or "?"
    link += "line=" if link.endswith("?") else "&line="
    marked = None if query.line is None else query.line - 1
    return log_text.markup(view.found.lines, zone, link=link, marked=marked, needle=query.grep)


def address(execution_id: str, query: LogQuery, **other: int | None) -> str:
    """A part, or the page, of these filters."""
    of = _filters(query) | {"tab": query.tab} | {name: value or None for name, value in other.items()}
    if {"first", "before"} & other.keys():
        of["line"] = None
    return url("/executions", execution_id, "log", **of)


def _filters(query: LogQuery) -> dict[str, object]:
    return {
        "attempt": query.attempt,
        "line": query.line,
        "grep": query.grep,
        "level": query.level,
        "stream": query.stream,
        "wrap": query.wrap and 1,
    }


# --- as a file --------------------------------------------------------------------------------------


async def download(request: ApiRequest) -> EventStream:
    """All of an attempt's log, as its job wrote it."""
    query: DownloadQuery = request.query
    logs = request.service.logs
    view = await logs.read(request.id, Wanted(token=0, limit=0), attempt=query.attempt)
    if not view.token:
        raise NotFound(f"execution {request.id} has not begun: there is no log")

    async def parts() -> AsyncGenerator[bytes, None]:
        wanted: Wanted | None = Wanted(token=view.token, limit=DOWNLOAD_LINES)
        while wanted is not None:
            try:
                found = (await logs.read(request.id, wanted)).found
            except ScheduleZeroError as error:
                # Cleared meanwhile: an end that is cut off is the only way to say that it is not all.
                raise StreamClosedError from error
            yield "".join([f"{line.text}\n" for _, line in found.lines]).encode("utf-8", "replace")
            wanted = None if found.following is None else replace(wanted, first=found.following)
            # Others have their turn.
            await asyncio.sleep(0)

    name = f'attachment; filename="{request.id}-{view.attempt}.log"'
    return EventStream(parts(), content_type="text/plain; charset=utf-8", headers=(("Content-Disposition", name),))


class DownloadQuery(Struct, frozen=True, forbid_unknown_fields=True):
    attempt: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
