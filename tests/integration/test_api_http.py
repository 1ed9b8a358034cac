"""The HTTP layer on a real socket, whatever service is behind it: limits, refusals, malformed requests, stopping."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import msgspec
import pytest

from schedule_zero.config import HttpConfig, ServerConfig
from schedule_zero.errors import StoreUnavailable, Unauthenticated
from schedule_zero.model import Role
from schedule_zero.service.specs import Principal
from schedule_zero.web import app, exchange
from schedule_zero.web.api.request import ApiRequest, EventStream, Response
from schedule_zero.web.api.routing import Access, Route, RouteTable
from schedule_zero.web.app import MAX_OBJECT_BYTES, HttpServer
from tests.support import eventually

pytestmark = pytest.mark.anyio

MAX_BODY = 2 << 20


class Note(msgspec.Struct, forbid_unknown_fields=True):
    text: str = ""
    more: dict = {}


class Endpoints:
    """Endpoints that do what the test wants to see from outside."""

    def __init__(self) -> None:
        self.calls: list[ApiRequest] = []
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.chunk = b"data: 1\n\n"

    async def take(self, request: ApiRequest) -> Response:
        """Take a note."""
        self.calls.append(request)
        return Response({"length": len(request.body.text)}, status=201)

    async def bulk(self, request: ApiRequest) -> Response:
        """Take a large note."""
        self.calls.append(request)
        return Response({"length": len(request.body.text)})

    async def bare(self, request: ApiRequest) -> Response:
        """Do something without a body."""
        self.calls.append(request)
        return Response({"id": request.id})

    async def wait(self, request: ApiRequest) -> Response:
        """A long poll."""
        try:
            self.waiting.set()
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Response({"waited": True})

    async def write_slowly(self, request: ApiRequest) -> Response:
        """A write that takes its time."""
        self.waiting.set()
        await self.go_on.wait()
        self.calls.append(request)
        return Response({"written": True})

    async def broken(self, request: ApiRequest) -> Response:
        """A bug."""
        raise RuntimeError("secret internals")

    async def no_store(self, request: ApiRequest) -> Response:
        """A full disk."""
        raise StoreUnavailable

    async def stream(self, request: ApiRequest) -> EventStream:
        """A stream."""

        async def chunks():
            try:
                self.waiting.set()
                yield self.chunk
                await self.go_on.wait()
                yield b"data: 2\n\n"
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()

        return EventStream(chunks())

    def table(self) -> RouteTable:
        viewer, operator = Access.VIEWER, Access.OPERATOR
        return RouteTable(
            [
                Route("POST", "/api/notes", operator, self.take, "", {201: dict}, body=Note),
                Route("POST", "/api/bulk", operator, self.bulk, "", {200: dict}, body=Note, bulk=True),
                Route("POST", "/api/notes/{id}/bare", operator, self.bare, "", {200: dict}),
                Route("GET", "/api/wait", viewer, self.wait, "", {200: dict}),
                Route("POST", "/api/slow", operator, self.write_slowly, "", {200: dict}),
                Route("GET", "/api/broken", viewer, self.broken, "", {200: dict}),
                Route("POST", "/api/no-store", operator, self.no_store, "", {200: dict}),
                Route("GET", "/api/stream", viewer, self.stream, "", {200: "text/event-stream"}),
            ]
        )


class Answer:
    """One response as it came over the wire."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> dict:
        return json.loads(self.body)


class Wire:
    """A connection on which a test writes whatever bytes it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, head: bool = False) -> Answer:
        async with asyncio.timeout(10):
            status_line, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            headers = dict(line.lower().split(": ", 1) for line in lines)
            length = 0 if head else int(headers.get("content-length", 0))
            return Answer(int(status_line.split()[1]), headers, await self.reader.readexactly(length))

    async def closed(self) -> bool:
        """Whether the server closes the connection, having sent nothing more."""
        async with asyncio.timeout(10):
            return await self.reader.read(1) == b""

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, token: str = "admin", **headers: str | None
    ) -> Answer:
        said = {
            "Host": "localhost",
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json" if body else None,
            "Content-Length": str(len(body)) if body else None,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in said.items() if value is not None)
        self.send(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        return await self.answer(head=method == "HEAD")


Connect = Callable[[], Awaitable[Wire]]


class Site(SimpleNamespace):
    endpoints: Endpoints
    server: HttpServer
    service: SimpleNamespace
    connect: Connect


@asynccontextmanager
async def serving(max_depth: int = 16) -> AsyncIterator[Site]:
    def authenticate(token: str) -> Principal:
        if token not in set(Role):
            raise Unauthenticated
        return Principal(name=token, role=Role(token), token_id=token)

    endpoints = Endpoints()
    service = SimpleNamespace(
        access=SimpleNamespace(authenticate=authenticate),
        sessions=SimpleNamespace(find=lambda _: None),
        system=SimpleNamespace(draining=False),
    )
    config = ServerConfig(http=HttpConfig(port=0, max_body_bytes=MAX_BODY, max_depth=max_depth))
    server = HttpServer(service, config, table=endpoints.table())
    port = server.listen()
    writers = []

    async def connect() -> Wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return Wire(reader, writer)

    try:
        yield Site(endpoints=endpoints, server=server, service=service, connect=connect)
    finally:
        await server.stop(0)
        for writer in writers:
            writer.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as site:
        yield site


@pytest.fixture
async def wire(site: Site) -> Wire:
    return await site.connect()


def note(length: int) -> bytes:
    return b'{"text":"%s"}' % (b"a" * (length - len(b'{"text":""}')))


# --- plain requests -------------------------------------------------------------------------------


async def test_a_write_is_answered_with_json_and_the_connection_goes_on(wire, site):
    for _ in range(3):
        answer = await wire.ask("POST", "/api/notes", b'{"text":"hello"}')

        assert answer.status == 201
        assert answer.json == {"length": 5}
    assert len(site.endpoints.calls) == 3


async def test_every_answer_carries_the_security_headers(wire):
    for path in ("/api/wait?x=1", "/nothing", "/api/broken"):
        headers = (await wire.ask("GET", path)).headers

        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["date"].endswith("gmt")
        assert "server" not in headers


async def test_a_problem_says_what_and_where_in_both_forms(wire):
    answer = await wire.ask("POST", "/api/notes", b'{"txet":"hello"}')

    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["type"] == "urn:schedule-zero:error:invalid_field"
    assert problem["status"] == 400
    assert problem["title"]
    assert problem["instance"] == "/api/notes"
    assert problem["errors"] == [{"pointer": "/txet", "detail": problem["detail"]}]
    assert problem["hint"] == "did you mean 'text'?"
    assert problem["error"] == {"code": "invalid_field", "message": problem["detail"]}
    assert problem["request_id"] == answer.headers["x-request-id"]


async def test_a_request_id_is_kept_if_it_looks_like_one(wire):
    assert (await wire.ask("GET", "/nothing", X_Request_Id="abc-1")).headers["x-request-id"] == "abc-1"
    assert (await wire.ask("GET", "/nothing", X_Request_Id="a b<")).headers["x-request-id"] != "a b<"


async def test_request_ids_differ(wire):
    ids = [(await wire.ask("GET", "/nothing")).headers["x-request-id"] for _ in range(3)]

    assert len(set(ids)) == 3


async def test_head_has_the_headers_of_get_and_no_body(wire):
    get = await wire.ask("GET", "/api/broken")
    head = await wire.ask("HEAD", "/api/broken")

    assert head.status == get.status
    assert head.headers["content-length"]
    assert (await wire.ask("GET", "/nothing")).status == 404


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "OPTIONS", "PUT", "BREW"])
async def test_a_wrong_method_gets_405_and_allow(wire, method):
    answer = await wire.ask(method, "/api/notes")

    assert answer.status == 405
    assert answer.headers["allow"] == "post"


async def test_a_bug_is_a_500_without_internals(wire):
    answer = await wire.ask("GET", "/api/broken")

    assert answer.status == 500
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    assert answer.json["error"]["code"] == "error"


async def test_a_store_that_can_not_write_is_a_503_to_be_tried_again(wire):
    answer = await wire.ask("POST", "/api/no-store")

    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"


async def test_requests_are_counted_by_route_and_status(wire, site):
    await wire.ask("POST", "/api/notes/1/bare")
    await wire.ask("POST", "/api/notes/2/bare")
    await wire.ask("GET", "/nothing")

    assert site.server.stats.requests["POST", "/api/notes/{id}/bare", 200] == 2
    assert site.server.stats.requests["", "", 404] == 1


# --- who and from where -----------------------------------------------------------------------------


async def test_without_a_token_401_names_the_scheme(wire):
    answer = await wire.ask("POST", "/api/notes", note(20), Authorization=None)

    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("bearer")


async def test_a_lesser_role_is_forbidden(wire, site):
    assert (await wire.ask("POST", "/api/notes", note(20), token="viewer")).status == 403
    assert (await wire.ask("POST", "/api/notes", note(20), token="operator")).status == 201
    assert len(site.endpoints.calls) == 1


async def test_another_hosts_name_is_misdirected(wire):
    assert (await wire.ask("GET", "/api/health", Host="evil.example")).status == 421


async def test_the_address_of_the_connection_is_a_good_host(wire):
    assert (await wire.ask("POST", "/api/notes", note(20), Host="127.0.0.1:1234")).status == 201


async def test_two_hosts_are_no_host(wire):
    wire.send(b"GET /api/wait HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n")
    assert (await wire.answer()).status == 400


async def test_no_host_is_refused(wire):
    assert (await wire.ask("GET", "/api/wait", Host=None)).status == 400


@pytest.mark.parametrize("headers", [{"Sec_Fetch_Site": "cross-site"}, {"Origin": "https://evil.example"}])
async def test_a_page_of_another_site_changes_nothing(wire, site, headers):
    answer = await wire.ask("POST", "/api/notes", note(20), **headers)

    assert answer.status == 403
    assert answer.json["error"]["code"] == "cross_origin"
    assert not site.endpoints.calls


async def test_a_server_that_drains_takes_no_writes(wire, site):
    site.service.system.draining = True

    assert (await wire.ask("POST", "/api/notes", note(20))).status == 503
    assert not site.endpoints.calls


# --- bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
async def test_json_in_utf_8_is_taken(wire, content_type):
    assert (await wire.ask("POST", "/api/notes", note(20), Content_Type=content_type)).status == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": None},
        {"Content_Type": ""},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Content_Type": "application/json; charset=latin-1"},
        {"Content_Type": "application/jsonp"},
        {"Content_Encoding": "gzip"},
    ],
)
async def test_another_content_type_gets_415(wire, site, headers):
    answer = await wire.ask("POST", "/api/notes", note(20), **headers)

    assert answer.status == 415
    assert answer.json["errors"][0]["header"] in ("Content-Type", "Content-Encoding")
    assert not site.endpoints.calls


async def test_an_empty_body_is_refused_where_one_is_needed(wire):
    assert (await wire.ask("POST", "/api/notes")).status == 400


async def test_a_body_where_none_is_taken_may_only_be_an_empty_object(wire, site):
    assert (await wire.ask("POST", "/api/notes/7/bare", b"{}")).status == 200
    answer = await wire.ask("POST", "/api/notes/7/bare", b'{"force":true}')

    assert answer.status == 400
    assert answer.json["errors"][0]["pointer"] == "/force"
    assert len(site.endpoints.calls) == 1


@pytest.mark.parametrize(("path", "limit"), [("/api/notes", MAX_OBJECT_BYTES), ("/api/bulk", MAX_BODY)])
async def test_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(wire, site, path, limit):
    assert (await wire.ask("POST", path, note(limit))).status in (200, 201)

    answer = await wire.ask("POST", path, note(limit + 1))

    assert answer.status == 413
    assert answer.json["errors"][0]["pointer"] == ""
    assert len(site.endpoints.calls) == 1


async def test_a_body_that_is_announced_as_too_large_is_refused_before_it_comes(wire):
    wire.send(
        b"POST /api/notes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer admin\r\n"
        b"Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
    )

    answer = await wire.answer()

    assert answer.status == 413
    assert answer.headers["connection"] == "close"


async def test_a_sender_who_asks_first_is_not_told_to_go_on(wire):
    head = (
        b"POST /api/notes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\nExpect: 100-continue\r\n"
    )
    wire.send(head + b"\r\n")
    assert (await wire.answer()).status == 401
    assert await wire.closed()


async def test_a_sender_who_asks_first_and_may_is_told_to_go_on(wire):
    wire.send(
        b"POST /api/notes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer admin\r\n"
        b"Content-Type: application/json\r\nContent-Length: 14\r\nExpect: 100-continue\r\n\r\n"
    )
    assert (await wire.answer()).status == 100
    wire.send(b'{"text":"abc"}')
    assert (await wire.answer()).status == 201


CHUNKED = (
    b"POST /api/notes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer admin\r\n"
    b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)


async def test_a_chunked_body_is_put_together(wire):
    wire.send(CHUNKED + b'8\r\n{"text":\r\n5\r\n"abc"\r\n1\r\n}\r\n0\r\n\r\n')

    assert (await wire.answer()).json == {"length": 3}


async def test_a_chunked_body_without_end_is_refused_when_it_is_too_large(wire, site):
    wire.send(CHUNKED)
    chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    for _ in range(MAX_OBJECT_BYTES // 0x10000 + 1):
        wire.send(chunk)

    answer = await wire.answer()

    assert answer.status == 413
    assert not site.endpoints.calls


async def test_the_sender_of_a_refused_body_gets_to_read_the_answer(wire):
    # 8 MB without a token: written as a whole before the answer is read, as clients do it.
    body = b"a" * (8 << 20)
    wire.send(
        b"POST /api/notes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )
    async with asyncio.timeout(10):
        await wire.writer.drain()

    assert (await wire.answer()).status == 401


async def test_too_deep_is_refused(wire, site):
    for levels in (16, 200_000):
        body = b'{"more":{"a":' + b"[" * levels + b"]" * levels + b"}}"
        answer = await wire.ask("POST", "/api/notes", body)

        assert answer.status == 400
        assert answer.json["error"]["code"] == "too_deep"
    assert not site.endpoints.calls


# --- malformed HTTP ---------------------------------------------------------------------------------

MALFORMED = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100 + b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n",
    b"POST /api/notes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /api/notes HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /api/notes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1_0\r\n\r\n",
    b"POST /api/notes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /api/notes HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    CHUNKED + b"zz\r\n",
    CHUNKED + b"3\r\nabcdef\r\n",
    b"GET http://evil.example/api/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(10_000)) + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
    b"GET /api/notes/%zz/bare?%zz=%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\r\n" * 1000,
    bytes(range(256)) * 20,
]


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
async def test_malformed_http_is_refused_and_survived(site, data):
    wire = await site.connect()
    wire.send(data)
    wire.writer.write_eof()
    async with asyncio.timeout(10):
        try:
            received = await wire.reader.read()
        except ConnectionResetError:
            received = b""
    assert received == b"" or received.split(b" ", 2)[1].startswith(b"4")

    assert (await (await site.connect()).ask("POST", "/api/notes", note(20))).status == 201
    assert len(site.endpoints.calls) == 1


async def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing(site):
    wire = await site.connect()
    wire.send(CHUNKED + b"5\r\nab")
    await wire.writer.drain()
    wire.writer.transport.abort()

    assert (await (await site.connect()).ask("POST", "/api/notes", note(20))).status == 201
    assert len(site.endpoints.calls) == 1
    assert site.server.in_flight == 0


async def test_a_body_that_trickles_in_is_cut_off(monkeypatch):
    monkeypatch.setattr(exchange, "BODY_S", 0.02)
    async with serving() as site:
        wire = await site.connect()
        wire.send(CHUNKED + b"5\r\nab")

        assert await wire.closed()
        assert not site.endpoints.calls


async def test_a_head_that_never_ends_is_cut_off(monkeypatch):
    monkeypatch.setattr(app, "IDLE_S", 0.02)
    async with serving() as site:
        wire = await site.connect()
        wire.send(b"POST /api/notes HTTP/1.1\r\nHost: localhost\r\nX-Slow")

        assert await wire.closed()


async def test_a_stream_whose_client_takes_nothing_is_ended(monkeypatch):
    monkeypatch.setattr(exchange, "WRITE_S", 0.05)
    async with serving() as site:
        wire = await site.connect()
        wire.writer.transport.pause_reading()
        site.endpoints.chunk = b"a" * (32 << 20)
        wire.send(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer viewer\r\n\r\n")

        async with asyncio.timeout(10):
            await site.endpoints.cancelled.wait()
        await eventually(lambda: site.server.in_flight == 0)


async def test_pipelined_requests_are_answered_in_order(wire):
    one = b"POST /api/notes/%d/bare HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer admin\r\n\r\n"
    wire.send(b"".join(one % n for n in range(5)))

    assert [(await wire.answer()).json["id"] for _ in range(5)] == ["0", "1", "2", "3", "4"]


async def test_http_1_0_is_answered_and_closed(wire):
    wire.send(b"GET /nothing HTTP/1.0\r\nHost: localhost\r\n\r\n")

    assert (await wire.answer()).status == 404
    assert await wire.closed()


# --- long polls and streams -------------------------------------------------------------------------


async def test_a_long_poll_ends_with_its_client(site):
    wire = await site.connect()
    asking = asyncio.create_task(wire.ask("GET", "/api/wait"))
    await site.endpoints.waiting.wait()
    wire.writer.transport.abort()

    async with asyncio.timeout(10):
        await site.endpoints.cancelled.wait()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await asking
    await eventually(lambda: site.server.in_flight == 0)


async def test_a_write_goes_on_without_its_client(site):
    wire = await site.connect()
    asking = asyncio.create_task(wire.ask("POST", "/api/slow"))
    await site.endpoints.waiting.wait()
    wire.writer.transport.abort()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await asking
    site.endpoints.go_on.set()

    await eventually(lambda: len(site.endpoints.calls) == 1)


async def test_a_stream_comes_in_chunks_and_ends_with_its_client(site):
    wire = await site.connect()
    answer = await wire.ask("GET", "/api/stream")

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert await wire.reader.readuntil(b"data: 1\n\n\r\n")
    site.endpoints.go_on.set()
    assert await wire.reader.readuntil(b"data: 2\n\n\r\n")
    wire.writer.transport.abort()
    async with asyncio.timeout(10):
        await site.endpoints.cancelled.wait()


async def test_head_of_a_stream_has_no_body(wire, site):
    assert (await wire.ask("HEAD", "/api/stream")).status == 200
    assert (await wire.ask("POST", "/api/notes", note(20))).status == 201


# --- stopping ---------------------------------------------------------------------------------------


async def test_stopping_wakes_long_polls_and_ends_streams():
    async with serving() as site:
        poll, stream = await site.connect(), await site.connect()
        asking = asyncio.create_task(poll.ask("GET", "/api/wait"))
        assert (await stream.ask("GET", "/api/stream")).status == 200
        await eventually(lambda: site.server.in_flight == 2)

        await site.server.stop(5)

        answer = await asking
        assert answer.status == 503
        assert answer.json["error"]["code"] == "draining"
        assert (await stream.reader.read()).endswith(b"0\r\n\r\n")


async def test_stopping_lets_a_write_finish():
    async with serving() as site:
        wire = await site.connect()
        asking = asyncio.create_task(wire.ask("POST", "/api/slow"))
        await site.endpoints.waiting.wait()
        stopping = asyncio.create_task(site.server.stop(10))
        await asyncio.sleep(0)
        site.endpoints.go_on.set()

        assert (await asking).status == 200
        await stopping
        with pytest.raises(ConnectionError):
            await site.connect()


async def test_stopping_twice_is_safe():
    async with serving() as site:
        await site.server.stop(1)
        await site.server.stop(1)
