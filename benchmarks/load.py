"""The load generator: raw HTTP/1.1 over keep-alive sockets, so cheap that it is never what is measured.

Requests are encoded before the clock starts and replies are cut at their Content-Length without being decoded.
``Connection`` is one caller that blocks; ``closed_loop`` is many callers in one thread, each with one request under
way (the next is sent when its reply is complete). ``ceilings.client_ceiling`` measures how far this goes by itself.
"""

from __future__ import annotations

import select
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Self

import msgspec
from msgspec import Struct


class LoadError(Exception):
    """The server answered what the benchmark did not expect, or hung up."""


class Target(Struct, frozen=True, kw_only=True):
    """Where requests go, and as whom."""

    host: str
    port: int
    token: str = ""

    def encode(self, method: str, path: str, body: bytes | None = None, *, headers: str = "") -> bytes:
        """One request, ready for the socket. ``headers``: more of them, each with its line end."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n{headers}"
        if self.token:
            head += f"Authorization: Bearer {self.token}\r\n"
        if body is None:
            return (head + "\r\n").encode()
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


class Reply(Struct, frozen=True):
    status: int
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def parse_reply(buffer: bytes | bytearray) -> tuple[int, int, int] | None:
    """``(status, start of body, end of body)`` once a whole reply is in ``buffer``, else None.

    Understands what our server sends: Content-Length, or no body (204, 304). Anything else raises LoadError.
    """
    head_end = buffer.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    status = int(buffer[9:12])
    start = head_end + 4
    if status in (204, 304):
        return status, start, start
    head = bytes(buffer[:head_end]).lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise LoadError(f"a reply without Content-Length: {bytes(buffer[:200])!r}")
    line_end = head.find(b"\r\n", at + 2)
    end = start + int(head[at + 17 : line_end if line_end > 0 else len(head)])
    return (status, start, end) if len(buffer) >= end else None


class Connection:
    """One caller with one keep-alive connection; blocks until the reply is there."""

    def __init__(self, target: Target, *, timeout_s: float = 60.0) -> None:
        self.target = target
        self._socket = socket.create_connection((target.host, target.port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes) -> Reply:
        """Send an encoded request and wait for its reply."""
        self._socket.sendall(request)
        buffer = bytearray()
        while True:
            chunk = self._socket.recv(1 << 18)
            if not chunk:
                raise LoadError(f"the server closed the connection after {len(buffer)} bytes of its reply")
            buffer += chunk
            if found := parse_reply(buffer):
                status, start, end = found
                return Reply(status, bytes(buffer[start:end]))

    def call(
        self, method: str, path: str, document: Any = None, *, expect: Sequence[int] = (200, 201, 202, 204)
    ) -> Any:
        """Encode, send, check the status, decode. For everything that is not being timed."""
        body = None if document is None else msgspec.json.encode(document)
        reply = self.send(self.target.encode(method, path, body))
        if reply.status not in expect:
            raise LoadError(f"{method} {path} answered {reply.status}: {reply.body[:500]!r}")
        return reply.json() if reply.body else None

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LoadResult(Struct, frozen=True, kw_only=True):
    """What a closed loop saw. ``latencies_s`` in order of completion; ``odd`` is the first reply outside ``expect``."""

    seconds: float
    latencies_s: list[float]
    statuses: dict[int, int]
    odd: str = ""
    # The reply that completed last.
    last_body: bytes = b""

    @property
    def per_second(self) -> float:
        return len(self.latencies_s) / self.seconds


class _Caller:
    """One of many: its socket, the requests it still has to send, and the reply that is coming in."""

    __slots__ = ("buffer", "requests", "sent_at", "sock")

    def __init__(self, sock: socket.socket, requests: Iterator[bytes]) -> None:
        self.sock = sock
        self.requests = requests
        self.buffer = bytearray()
        self.sent_at = 0.0


def closed_loop(
    target: Target,
    streams: Sequence[Iterator[bytes]],
    *,
    expect: Sequence[int] = (200, 201, 202),
    timeout_s: float = 60.0,
) -> LoadResult:
    """Run one caller per stream until all streams are exhausted; a silence of ``timeout_s`` is a LoadError."""
    callers: dict[int, _Caller] = {}
    epoll = select.epoll()
    for stream in streams:
        sock = socket.create_connection((target.host, target.port), timeout=timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        callers[sock.fileno()] = _Caller(sock, stream)
        epoll.register(sock.fileno(), select.EPOLLIN)
    try:
        return _drive(callers, epoll, frozenset(expect), timeout_s)
    finally:
        epoll.close()
        for caller in callers.values():
            caller.sock.close()


def _drive(callers: dict[int, _Caller], epoll: select.epoll, expect: frozenset[int], timeout_s: float) -> LoadResult:
    clock = time.perf_counter
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    odd = ""
    last_body = b""
    begin = clock()
    active = 0
    for caller in callers.values():
        active += _send_next(caller, clock())
    while active:
        ready = epoll.poll(timeout_s)
        if not ready:
            raise LoadError(f"no reply for {timeout_s} s, {active} callers waiting")
        for fd, _ in ready:
            caller = callers[fd]
            chunk = caller.sock.recv(1 << 18)
            if not chunk:
                raise LoadError("the server closed a connection that waited for a reply")
            caller.buffer += chunk
            found = parse_reply(caller.buffer)
            if found is None:
                continue
            now = clock()
            latencies.append(now - caller.sent_at)
            status, start, end = found
            statuses[status] += 1
            if status not in expect and not odd:
                odd = f"{status}: {bytes(caller.buffer[start : min(end, start + 500)])!r}"
            sent = _send_next(caller, now)
            if not sent:
                active -= 1
                last_body = bytes(caller.buffer[start:end])
            del caller.buffer[:end]
    return LoadResult(
        seconds=clock() - begin, latencies_s=latencies, statuses=dict(statuses), odd=odd, last_body=last_body
    )


def _send_next(caller: _Caller, now: float) -> bool:
    """Send the caller's next request; False when it has none left."""
    request = next(caller.requests, None)
    if request is None:
        return False
    caller.sent_at = now
    caller.sock.sendall(request)
    return True


def deal(requests: Sequence[bytes], callers: int) -> list[Iterator[bytes]]:
    """Share requests out among callers, one to each in turn."""
    return [iter(requests[n::callers]) for n in range(callers)]
