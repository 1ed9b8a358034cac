"""One HTTP request and its response on a Tornado connection.

What needs only the headers is decided when they are in: the body of a refused request is read past and never kept,
and one that is too large is answered before it is read. Tornado's ``HTTPMessageDelegate`` is used directly, because
a ``RequestHandler`` costs half as much again per request (measured: 305 µs of CPU against 190 µs).
"""

from __future__ import annotations

import asyncio
import gzip
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
import structlog
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import StreamClosedError

from schedule_zero.errors import (
    BadRequest,
    Draining,
    MalformedJson,
    ScheduleZeroError,
    TooLarge,
    UnsupportedMediaType,
)
from schedule_zero.web import problem
from schedule_zero.web.api.decode import explain, pairs_of
from schedule_zero.web.api.request import JSON, ApiRequest, EventStream, Response
from schedule_zero.web.api.routing import API, Match
from schedule_zero.web.guard import NOBODY, XSRF_FIELD, Caller, check_form
from schedule_zero.web.pages import refusals
from schedule_zero.web.pages.render import HTML
from schedule_zero.web.pages.session_cookie import set_cookie

if TYPE_CHECKING:
    from schedule_zero.service.sessions import Live
    from schedule_zero.web.app import Api, Prepared

log = structlog.get_logger(__name__)

# How long a client may take over its body, and over taking a part of an event stream.
BODY_S = 60.0
WRITE_S = 60.0
# Longer than any IP address with its zone.
MAX_ADDRESS = 64
# So much of a refused body is read past, so that its sender gets round to reading the answer.
READ_PAST_BYTES = 32 << 20
# A refused body that is larger than this is answered before it is read.
SMALL_BYTES = 64 << 10

PHRASES = {status.value: status.phrase for status in HTTPStatus}
SECURITY_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
# Of pages: nothing from elsewhere, nothing inline, in nobody's frame.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
PAGE_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", PAGE_POLICY),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
    ("Vary", "Cookie, HX-Request, HX-Target"),
)
MERGE_PATCH = "application/merge-patch+json"
FORM = "application/x-www-form-urlencoded"
# Smaller bodies are sent as they are.
GZIP_BYTES = 1_000
GZIP_LEVEL = 4

_encode = msgspec.json.Encoder().encode


class Exchange(HTTPMessageDelegate):
    """Reads one request, runs its endpoint, writes the response."""

    def __init__(self, api: Api, connection: HTTP1Connection) -> None:
        self._api = api
        self._connection = connection
        self._request_id = ""
        self._method = ""
        self._path = ""
        self._query = ""
        self._headers = HTTPHeaders()
        self._match: Match | None = None
        self._prepared: Prepared | None = None
        self._caller: Caller = NOBODY
        self._chunks: list[bytes] = []
        self._size = 0
        self._max_body = 0
        # Why the request is refused, once that is known; and whether it was told so already.
        self._refusal: ScheduleZeroError | None = None
        self._answered = False
        self._body_timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._set_cookie: tuple[str, str] | None = None
        self._started_s = 0.0

    # --- reading, called by Tornado -----------------------------------------------------------------

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        if not isinstance(start_line, RequestStartLine):
            raise TypeError("a server reads requests")
        self._started_s = self._api.clock.mono_s()
        self._request_id = self._api.request_id(headers.get("X-Request-Id"))
        self._method = start_line.method
        self._path, _, self._query = start_line.path.partition("?")
        self._headers = headers
        chunked = "Transfer-Encoding" in headers
        # Tornado refuses a length that is no number, after this.
        declared = headers.get("Content-Length", "0")
        length = int(declared) if declared.isascii() and declared.isdigit() else 0
        if length or chunked:
            self._body_timer = asyncio.get_running_loop().call_later(BODY_S, self._connection.close)
        try:
            self._admit(has_body=bool(length) or chunked, length=length)
        except ScheduleZeroError as error:
            self._refusal = error
            if chunked or length > SMALL_BYTES or "Expect" in headers:
                self._refuse_before_the_body()

    def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._refusal is None:
            if self._size <= self._max_body:
                self._chunks.append(chunk)
                return
            self._chunks.clear()
            self._refusal = _too_large(self._max_body, self._size)
            self._refuse_before_the_body()
        elif self._size > READ_PAST_BYTES:
            self._connection.finish()

    def finish(self) -> None:
        self._stop_body_timer()
        if self._answered:
            self._connection.finish()
        elif self._refusal is not None:
            self._write_problem(self._refusal)
            self._connection.finish()
        else:
            waits = self._match is not None and self._match.route.waits
            if waits:
                # A write goes on to its end, whoever hears of it; a long poll ends with its client.
                self._connection.set_close_callback(self._client_gone)
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._api.running[self._task] = waits

    def on_connection_close(self) -> None:
        self._stop_body_timer()
        self._chunks.clear()

    def _stop_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _client_gone(self) -> None:
        if self._task is not None:
            self._task.cancel()
            # A task that is cancelled before its first step never gets to its own end.
            self._api.running.pop(self._task, None)

    @property
    def answering(self) -> bool:
        """Whether the request is here, and its answer is not ready."""
        return self._task is not None and not self._task.done()

    @property
    def _unsafe(self) -> bool:
        return self._match is not None and self._match.route.unsafe

    # --- may it come in? ----------------------------------------------------------------------------

    def _admit(self, *, has_body: bool, length: int) -> None:
        """Everything that the headers tell. The order is part of the API: where, from where, who, what."""
        api, headers = self._api, self._headers
        if not self._path.startswith("/"):
            raise BadRequest("expected a path, such as /api/health")
        api.guard.check_host(headers.get("Host"), self._local_address)
        self._match = match = api.table.find(self._method, self._path)
        route = match.route
        if route.unsafe:
            api.guard.check_origin(headers)
        self._caller = api.guard.admit(route, headers, self._remote_address)
        if route.unsafe and api.service.system.draining:
            raise Draining
        self._prepared = prepared = api.prepared[route.method, route.path]
        self._max_body = prepared.max_body
        if length > self._max_body:
            raise _too_large(self._max_body, length)
        if has_body:
            _check_content_type(headers, patch=route.method == "PATCH", page=route.page)

    @property
    def _remote_address(self) -> str:
        return str(self._connection.context.remote_ip)[:MAX_ADDRESS]  # type: ignore[attr-defined]

    def _local_address(self) -> str:
        stream = self._connection.stream
        return "" if stream.closed() else str(stream.socket.getsockname()[0])

    # --- running ------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._respond()
        except asyncio.CancelledError:
            # The client has gone, or the server stops.
            self._fail(Draining("the server is shutting down; ask again"))
        except ScheduleZeroError as error:
            if error.pointer is not None and not self._unsafe:
                # There is no body to point into: what the service calls by a pointer came as a parameter.
                error.data["parameter"] = error.pointer.removeprefix("/")
                error.pointer = None
            self._fail(error)
        except Exception as error:
            # One request must not take the server down; the log has all of it, the client only the id.
            log.error(
                "request_failed", request_id=self._request_id, method=self._method, path=self._path, exc_info=error
            )
            self._fail(ScheduleZeroError(f"something went wrong; the server's log has it as {self._request_id}"))
        finally:
            if self._task is not None:
                self._api.running.pop(self._task, None)

    def _fail(self, error: ScheduleZeroError) -> None:
        """Answer with an error, or end an answer that was begun already."""
        if not self._answered:
            self._write_problem(error)
        self._connection.finish()

    async def _respond(self) -> None:
        match, prepared = self._match, self._prepared
        if match is None or prepared is None:
            raise AssertionError("only admitted requests are run")
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        page = match.route.page
        request = ApiRequest(
            service=self._api.service,
            config=self._api.config,
            caller=self._caller.principal,
            method=self._method,
            path=self._path,
            id=match.id,
            query=prepared.query.decode(self._query),
            body=self._form(prepared, body) if page else _decode(prepared, body),
            headers=self._headers,
            raw_body=body,
            live=self._caller.live,
            address=self._remote_address,
            since_seq=self._api.service.system.hints.last_seq if page else 0,
            cookie_name=self._api.guard.cookie,
            request_id=self._request_id,
        )
        if page and request.live is not None and not self._unsafe:
            await self._go_on(request.live)
        try:
            response = await match.route.endpoint(request)
        except msgspec.DecodeError as error:
            # A payload kept as it came turned out not to be sound (a number out of range).
            raise explain(error, body, dict) from error
        if isinstance(response, EventStream):
            await self._stream(response)
        else:
            self._write(response)
            self._connection.finish()

    def _form(self, prepared: Prepared, body: bytes) -> object:
        """The fields of a form, once it has said that it is ours."""
        if not self._unsafe:
            return None
        try:
            fields = pairs_of(body.decode("ascii"), "form", prepared.form.most)
        except UnicodeDecodeError:
            raise BadRequest("the form is not percent-encoded") from None
        check_form(self._caller, self._headers, dict(fields))
        return prepared.form.decode_fields([pair for pair in fields if pair[0] != XSRF_FIELD])

    async def _go_on(self, live: Live) -> None:
        """A signed-in browser looks at a page: its session goes on, now and then under a new cookie."""
        cookie = await self._api.service.sessions.touch(live)
        if cookie is not None:
            age_s = max(0, live.session.expires_us - self._api.clock.wall_us()) // 1_000_000
            self._set_cookie = set_cookie(self._api.guard.cookie, cookie, age_s, self._headers)

    async def _stream(self, stream: EventStream) -> None:
        live = stream.length is None
        headers = ("X-Accel-Buffering", "no") if live else ("Content-Length", str(stream.length))
        self._write_head(200, stream.content_type, (headers, *stream.headers))
        chunks = stream.chunks
        try:
            if self._method != "HEAD":
                async for chunk in chunks:
                    async with asyncio.timeout(WRITE_S):
                        await self._connection.write(chunk)
        except (StreamClosedError, TimeoutError):
            self._connection.close()
        else:
            self._connection.finish()
        finally:
            await chunks.aclose()

    # --- writing ------------------------------------------------------------------------------------

    def _refuse_before_the_body(self) -> None:
        """Answer now; then read past a bounded part of the body, so that its sender doesn't meet a reset instead."""
        if self._refusal is None:
            raise AssertionError("nothing to refuse")
        self._write_problem(self._refusal, close=True)
        if "Expect" in self._headers:
            # Its sender waits to be told to go on, and isn't.
            self._connection.finish()

    def _write_problem(self, error: ScheduleZeroError, *, close: bool = False) -> None:
        headers = problem.problem_headers(error)
        if close:
            headers.append(("Connection", "close"))
        if self._for_people:
            target = f"{self._path}?{self._query}" if self._query else self._path
            response = refusals.refusal(error, self._request_id, self._method, target, self._headers)
            response.headers += tuple(headers)
            self._write(response)
            return
        shown = problem.problem_of(error, self._request_id, self._path[:500])
        self._write(Response(shown, status=shown.status, headers=tuple(headers), content_type=problem.CONTENT_TYPE))

    @property
    def _for_people(self) -> bool:
        if self._match is not None:
            return self._match.route.page
        return not self._path.startswith(API) and "text/html" in self._headers.get("Accept", "")

    def _write(self, response: Response) -> None:
        body = response.body
        if body is None:
            body = b""
        elif not isinstance(body, bytes):
            body = _encode(body)
        if response.status == HTTPStatus.NOT_MODIFIED:
            self._write_head(response.status, None, response.headers)
            return
        headers = response.headers
        if response.compress and len(body) >= GZIP_BYTES and "gzip" in self._headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, GZIP_LEVEL)
            headers += (("Content-Encoding", "gzip"),)
        headers = (("Content-Length", str(len(body))), *headers)
        self._write_head(response.status, response.content_type, headers, b"" if self._method == "HEAD" else body)

    def _write_head(
        self, status: int, content_type: str | None, headers: tuple[tuple[str, str], ...], chunk: bytes = b""
    ) -> None:
        self._answered = True
        out = HTTPHeaders()
        if content_type is not None:
            out["Content-Type"] = content_type
        for name, value in PAGE_HEADERS if content_type == HTML else SECURITY_HEADERS:
            out[name] = value
        for name, value in headers:
            out[name] = value
        if self._set_cookie is not None:
            out.add(*self._set_cookie)
        out["Date"] = self._api.http_date()
        out["X-Request-Id"] = self._request_id
        # The future is for writers of large bodies in parts; an event stream awaits its own writes.
        _ = self._connection.write_headers(ResponseStartLine("", status, PHRASES[status]), out, chunk)
        self._api.count(self._match, status, self._started_s)


def _decode(prepared: Prepared, body: bytes) -> object:
    if body:
        return prepared.body.decode(body)
    if prepared.body_required:
        raise MalformedJson("the body is empty, expected a JSON object", pointer="")
    return None


def _check_content_type(headers: HTTPHeaders, *, patch: bool, page: bool) -> None:
    content_type = headers.get("Content-Type", "")
    if page:
        if content_type.partition(";")[0].strip().lower() != FORM:
            raise UnsupportedMediaType(
                f"expected Content-Type: {FORM}, got {content_type[:100] or 'none'}", header="Content-Type"
            )
    elif content_type != JSON:
        kind, _, parameters = content_type.partition(";")
        kind = kind.strip().lower()
        if kind != JSON and not (patch and kind == MERGE_PATCH):
            raise UnsupportedMediaType(
                f"expected Content-Type: {JSON}, got {content_type[:100] or 'none'}", header="Content-Type"
            )
        parameter = parameters.strip().lower().replace('"', "")
        if parameter not in ("", "charset=utf-8", "charset=utf8"):
            raise UnsupportedMediaType(f"expected JSON in UTF-8, got {parameters[:100].strip()}", header="Content-Type")
    if headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaType("compressed bodies are not taken", header="Content-Encoding")


def _too_large(limit: int, came: int) -> TooLarge:
    return TooLarge(f"the body has {came} bytes or more, at most {limit} bytes are taken here", pointer="")
