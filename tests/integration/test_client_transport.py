"""Both clients over httpx: what its errors and answers become. The server's own tests are in ``test_client_server``."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio
import httpx
import pytest

from schedule_zero.client import AsyncClient, Client
from schedule_zero.errors import BadRequest, ServerUnreachable, Unauthenticated

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sync", "async"])
def call(request):
    """Call a verb of either client on a transport whose answers are given."""

    async def call(answer, verb, *args, url="http://127.0.0.1:1", retry_s=5.0, **kwargs):
        transport = httpx.MockTransport(answer)
        settings = {"transport": transport, "retry_s": retry_s, "timeout_s": 2.0}
        if request.param == "sync":
            with Client(url, "sz_token", **settings) as client:
                return await anyio.to_thread.run_sync(lambda: getattr(client, verb)(*args, **kwargs))
        async with AsyncClient(url, "sz_token", **settings) as client:
            return await getattr(client, verb)(*args, **kwargs)

    return call


async def test_a_request_carries_token_key_and_body(call):
    seen = []

    def answer(request):
        seen.append(request)
        return httpx.Response(202, json={"ids": ["e1"]})

    assert await call(answer, "submit", "demo", "add", {"a": 1}) == "e1"
    (request,) = seen
    assert (request.method, request.url.path) == ("POST", "/api/executions")
    assert request.headers["authorization"] == "Bearer sz_token"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("schedule-zero/")
    assert len(request.headers["idempotency-key"]) == 26
    assert json.loads(request.content) == {"handler_id": "demo", "job_method": "add", "job_params": {"a": 1}}


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout(""),
        httpx.ReadError("reset"),
        httpx.ReadTimeout(""),
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        httpx.DecodingError("Error -3 while decompressing data: incorrect header check"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_what_breaks_on_the_way_is_tried_again_with_the_same_key(call, failure):
    keys = []

    def answer(request):
        keys.append(request.headers["idempotency-key"])
        if len(keys) < 3:
            raise failure
        return httpx.Response(202, json={"ids": ["e1"]})

    assert await call(answer, "submit", "demo", "noop") == "e1"
    assert len(keys) == 3
    assert len(set(keys)) == 1


async def test_an_end_to_trying_is_a_typed_error(call):
    def answer(request):
        raise httpx.ConnectError("refused")

    with pytest.raises(ServerUnreachable, match=r"http://127\.0\.0\.1:1: cannot connect: refused"):
        await call(answer, "nodes", retry_s=0)


async def test_query_parameters_are_encoded(call):
    def answer(request):
        assert dict(request.url.params) == {"status": "failed,dead", "handler_id": "a b", "limit": "3"}
        return httpx.Response(200, json={"records": [], "next_cursor": None})

    page = await call(answer, "executions", handler_id="a b", status=["failed", "dead"], limit=3)
    assert page.records == []


async def test_a_path_before_the_api_is_kept(call):
    def answer(request):
        assert request.url.path == "/scheduler/api/nodes"
        return httpx.Response(200, json={"nodes": []})

    assert await call(answer, "nodes", url="http://proxy.example/scheduler/") == []


async def test_a_redirect_is_not_followed_with_the_token(call):
    with pytest.raises(Exception, match="HTTP 302"):
        await call(lambda _: httpx.Response(302, headers={"location": "http://evil/"}), "nodes")


async def test_an_impossible_url_is_said_at_once(call):
    def answer(request):
        raise httpx.UnsupportedProtocol("no scheme")

    with pytest.raises(BadRequest, match="no scheme"):
        await call(answer, "nodes")


STREAMS = [
    b'retry: 10\n\nid: 1-0\nevent: a.x\ndata: {"kind":"a.x","id":"1","data":{}}\n\nid: 2-0\nevent: a.x\ndata: {"ki',
    b'id: 2-0\nevent: a.x\ndata: {"kind":"a.x","id":"2","data":{"n":2}}\n\n',
]


@pytest.fixture
def streaming():
    """A server whose first event stream breaks off in the middle of an event, and whose second one completes it."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers.get("Last-Event-ID"), self.headers.get("Accept")))
            self.send_response(200 if len(seen) <= 2 else 401)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            if len(seen) <= 2:
                self.wfile.write(STREAMS[len(seen) - 1])
            else:
                self.wfile.write(b'{"error": {"code": "unauthenticated", "message": "revoked"}}')

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.seen = seen
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def url_of(server):
    return f"http://127.0.0.1:{server.server_port}"


EXPECTED = [
    ("/api/events?topics=a", None, "text/event-stream"),
    ("/api/events?topics=a", "1-0", "text/event-stream"),
    ("/api/events?topics=a", "2-0", "text/event-stream"),
]


FOUND = [("1-0", "1", {}), ("2-0", "2", {"n": 2})]


async def test_events_continue_on_a_new_connection_and_a_refusal_ends_them(streaming):
    found = []

    async def follow(client):
        async for event in client.events(topics=["a"]):
            found.append((event.event_id, event.id, event.data))  # noqa: PERF401 - what came before the error counts

    async with AsyncClient(url_of(streaming), "t") as client:
        with pytest.raises(Unauthenticated, match="revoked"):
            await follow(client)
    assert found == FOUND
    assert streaming.seen == EXPECTED


def test_events_do_so_for_code_that_blocks_too(streaming):
    found = []

    def follow(client):
        for event in client.events(topics=["a"]):
            found.append((event.event_id, event.id, event.data))  # noqa: PERF401 - what came before the error counts

    with Client(url_of(streaming), "t") as client, pytest.raises(Unauthenticated):
        follow(client)
    assert found == FOUND
    assert streaming.seen == EXPECTED


def test_a_client_in_many_threads_is_one_client():
    answers = []
    with Client(
        "http://127.0.0.1:1", "t", transport=httpx.MockTransport(lambda _: httpx.Response(200, json={"nodes": []}))
    ) as client:
        threads = [threading.Thread(target=lambda: answers.append(client.nodes())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [[]] * 8


def test_a_port_where_nobody_listens_is_noticed_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with Client(f"http://127.0.0.1:{free.getsockname()[1]}", retry_s=0) as client, pytest.raises(ServerUnreachable):
            client.nodes()
