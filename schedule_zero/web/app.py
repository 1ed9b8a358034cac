"""The HTTP server: what every request shares, and listening and stopping."""

from __future__ import annotations

import asyncio
import os
import re
from email.utils import formatdate
from functools import cache
from typing import Any, cast

from msgspec import Struct
from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPServerConnectionDelegate
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets

from schedule_zero import descriptors
from schedule_zero.clock import Clock, SystemClock
from schedule_zero.config import ServerConfig
from schedule_zero.errors import AddressInUse
from schedule_zero.service import Service
from schedule_zero.web.api.decode import BodyDecoder, FormDecoder, QueryDecoder
from schedule_zero.web.api.routing import Match, NoBody, RouteTable
from schedule_zero.web.exchange import Exchange
from schedule_zero.web.guard import Guard
from schedule_zero.web.pages import session_cookie
from schedule_zero.web.routes import TABLE

# A connection is closed when no request came, or its headers aren't complete, in this time.
IDLE_S = 60.0
MAX_HEADER_BYTES = 32 << 10
# No more connections than this, and than half the descriptors. Beyond, those that are asked nothing are closed.
MOST_CONNECTIONS = 4_096
# What one object may take; a bulk route takes http.max_body_bytes.
MAX_OBJECT_BYTES = 1 << 20
# Exchange bounds bodies itself, per route and with an answer.
NO_LIMIT = 1 << 60

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Prepared(Struct, frozen=True):
    """What is made once for a route: its decoders, and how large its body may be."""

    query: QueryDecoder
    body: BodyDecoder
    form: FormDecoder
    body_required: bool
    max_body: int


# Many routes have the same shape, and a process of tests has many servers.
_query_decoder = cache(QueryDecoder)
_body_decoder = cache(BodyDecoder)
_form_decoder = cache(FormDecoder)


class HttpStats(Struct):
    """Counted since the start, by (method, path of the route, status); seconds by (method, path)."""

    requests: dict[tuple[str, str, int], int] = {}
    seconds: dict[tuple[str, str], float] = {}


class Api(HTTPServerConnectionDelegate):
    """What every request shares. Tornado asks it for a delegate per request."""

    def __init__(self, service: Service, config: ServerConfig, table: RouteTable, clock: Clock) -> None:
        self.service = service
        self.config = config
        self.table = table
        self.clock = clock
        self.guard = Guard(
            host=config.http.host,
            allowed_hosts=config.http.allowed_hosts,
            authenticate=service.access.authenticate,
            session=service.sessions.find,
        )
        limit = config.http.max_body_bytes
        self.prepared = {
            (route.method, route.path): Prepared(
                query=_query_decoder(route.query),
                body=_body_decoder(NoBody if route.page else route.body or NoBody, config.http.max_depth),
                form=_form_decoder((route.page and route.body) or NoBody),
                body_required=route.body is not None and route.body_required,
                max_body=limit if route.bulk else min(limit, MAX_OBJECT_BYTES),
            )
            for route in table.routes
        }
        self.stats = HttpStats()
        # Every request that is being answered, with whether it may be ended at any time.
        self.running: dict[asyncio.Task[None], bool] = {}
        self._boot = os.urandom(4).hex()
        self._requests = 0
        self._date = (0, "")

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> Exchange:
        del server_conn
        return Exchange(self, cast("HTTP1Connection", request_conn))

    def request_id(self, given: str | None) -> str:
        """The client's, if it looks like one, else a new one."""
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        self._requests += 1
        return f"{self._boot}-{self._requests:x}"

    def http_date(self) -> str:
        second = self.clock.wall_us() // 1_000_000
        if second != self._date[0]:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]

    def count(self, match: Match | None, status: int, started_s: float) -> None:
        """Count one answer; what has no route is counted as one."""
        method, path = (match.route.method, match.route.path) if match is not None else ("", "")
        requests, seconds = self.stats.requests, self.stats.seconds
        requests[method, path, status] = requests.get((method, path, status), 0) + 1
        seconds[method, path] = seconds.get((method, path), 0.0) + self.clock.mono_s() - started_s


class Listener(HTTPServer):
    """Keeps the number of connections bounded: who sits on them without asking must not keep others out.

    (Without descriptors, an accept fails at once, again and again, each time with a line in the log; and SQLite needs
    some as well.)
    """

    def initialize(self, *args: Any, most: int = MOST_CONNECTIONS, **kwargs: Any) -> None:
        super().initialize(*args, **kwargs)
        self._most = most
        # In the order in which they began to wait for a request, with what reads it.
        self._open: dict[IOStream, Exchange | None] = {}

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        self._open[stream] = None
        super().handle_stream(stream, address)
        if len(self._open) > self._most:
            self._make_room()

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> Exchange:
        """A connection is new, or has had its answer: from now on it waits for a request."""
        exchange = cast("Exchange", super().start_request(server_conn, request_conn))
        stream = cast("HTTP1ServerConnection", server_conn).stream
        self._open.pop(stream, None)
        self._open[stream] = exchange
        return exchange

    def on_close(self, server_conn: object) -> None:
        self._open.pop(cast("HTTP1ServerConnection", server_conn).stream, None)
        super().on_close(server_conn)

    def _make_room(self) -> None:
        """Close the one that has been waiting for the longest; a request that is being answered is not waiting."""
        for stream, exchange in self._open.items():
            if exchange is None or not exchange.answering:
                del self._open[stream]
                stream.close()
                return


class HttpServer:
    """Listens and answers until it is stopped."""

    def __init__(
        self, service: Service, config: ServerConfig, *, clock: Clock | None = None, table: RouteTable = TABLE
    ) -> None:
        self._config = config
        self._api = Api(service, config, table, clock or SystemClock())
        self._server = Listener(
            self._api,
            most=min(MOST_CONNECTIONS, descriptors.limit() // 2),
            idle_connection_timeout=IDLE_S,
            max_header_size=MAX_HEADER_BYTES,
            max_body_size=NO_LIMIT,
        )

    @property
    def stats(self) -> HttpStats:
        return self._api.stats

    @property
    def in_flight(self) -> int:
        """Requests being answered now, event streams included."""
        return len(self._api.running)

    def listen(self) -> int:
        """Bind and start answering; returns the port. Raises AddressInUse."""
        http = self._config.http
        try:
            sockets = bind_sockets(http.port, http.host, reuse_port=False, backlog=1024)
        except OSError as error:
            raise AddressInUse(f"cannot listen on {http.host}:{http.port}: {error.strerror or error}") from error
        port = int(sockets[0].getsockname()[1])
        self._api.guard.cookie = session_cookie.name(port)
        self._server.add_sockets(sockets)
        return port

    async def stop(self, deadline_s: float) -> None:
        """Take no new connections, end long polls and event streams, let writes finish, then close what is left."""
        self._server.stop()
        for task, waits in list(self._api.running.items()):
            if waits:
                task.cancel()
        if self._api.running:
            await asyncio.wait(list(self._api.running), timeout=deadline_s)
        for task in list(self._api.running):
            task.cancel()
        if self._api.running:
            await asyncio.wait(list(self._api.running))
        await self._server.close_all_connections()
