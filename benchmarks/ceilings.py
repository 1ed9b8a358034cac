"""What the parts can do by themselves on this machine: nobody who uses them can be faster.

Run by ``python -m benchmarks ceilings``; the client's own ceiling is part of every run.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import psutil

from benchmarks.load import Target, closed_loop, deal

_REPLY = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"status":"ok"}'

_TORNADO = """
import asyncio, sys, tornado.httpserver, tornado.netutil, tornado.web
if "uvloop" in sys.argv: import uvloop; uvloop.install()
class Trivial(tornado.web.RequestHandler):
    def compute_etag(self): return None
    def get(self): self.set_header("Content-Type", "application/json"); self.finish(b'{"status":"ok"}')
    post = get
async def main():
    app = tornado.web.Application([(r"/api/x", Trivial)], log_function=lambda _: None)
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    app_server = tornado.httpserver.HTTPServer(app); app_server.add_sockets(sockets)
    print(sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """One measured limit: ``value`` in ``unit``."""

    name: str
    value: float
    unit: str


def echo_server() -> None:
    """Answer every request with the same bytes: the least an HTTP server can do. Prints its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    peers: dict[int, socket.socket] = {}
    epoll = select.epoll()
    epoll.register(listener.fileno(), select.EPOLLIN)
    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                peer, _ = listener.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[peer.fileno()] = peer
                epoll.register(peer.fileno(), select.EPOLLIN)
            elif peers[fd].recv(65536):
                peers[fd].sendall(_REPLY)
            else:
                peers.pop(fd).close()


@contextmanager
def _server(code: str, *arguments: str) -> Iterator[tuple[Target, int]]:
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        port = process.stdout.readline() if process.stdout else ""
        yield Target(host="127.0.0.1", port=int(port), token="x" * 40), process.pid
    finally:
        process.kill()
        process.wait()


def _requests_per_second(target: Target, *, callers: int, seconds: float, body: bytes | None) -> float:
    request = target.encode("GET" if body is None else "POST", "/api/x", body)
    closed_loop(target, deal([request] * 200, callers))
    sample = closed_loop(target, deal([request] * 1000, callers)).per_second
    return closed_loop(target, deal([request] * int(sample * seconds), callers)).per_second


def client_ceiling(*, seconds: float = 1.0, callers: int = 16) -> Ceiling:
    """Requests/s of the load generator against a server that does nothing."""
    with _server("from benchmarks.ceilings import echo_server; echo_server()") as (target, _):
        rate = _requests_per_second(target, callers=callers, seconds=seconds, body=b'{"n":1}' * 20)
    return Ceiling(
        name=f"load generator, {callers} callers, against a server that does nothing", value=rate, unit="requests/s"
    )


def http_ceilings(*, seconds: float = 2.0) -> list[Ceiling]:
    """Requests/s of a trivial Tornado endpoint, with asyncio's loop and with uvloop."""
    found = []
    for loop in ("asyncio", "uvloop"):
        for callers in (1, 16):
            with _server(_TORNADO, loop) as (target, pid):
                before = sum(psutil.Process(pid).cpu_times()[:2])
                rate = _requests_per_second(target, callers=callers, seconds=seconds, body=b'{"handler_id":"demo"}')
                cpu = sum(psutil.Process(pid).cpu_times()[:2]) - before
            name = f"trivial Tornado POST, {loop}, {callers} callers"
            found.append(Ceiling(name=name, value=rate, unit="requests/s"))
            found.append(Ceiling(name=f"{name}: CPU", value=cpu / (rate * seconds + 1200) * 1e6, unit="µs/request"))
    return found


def _best_of(work: Callable[[], object], *, rounds: int = 7) -> float:
    """Seconds of the fastest round: for pure computation the others only add the neighbours' noise."""
    gc.disable()
    try:
        times = []
        for _ in range(rounds):
            begin = time.perf_counter()
            work()
            times.append(time.perf_counter() - begin)
        return min(times)
    finally:
        gc.enable()


class _Item(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    handler_id: str
    job_method: str
    job_params: msgspec.Raw = msgspec.Raw(b"{}")
    priority: int | None = None


class _Bulk(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    executions: list[_Item]


def codec_ceilings(*, items: int = 10_000) -> list[Ceiling]:
    """What validation costs per job of a bulk of ``items``."""
    import jsonschema_rs

    document = {"handler_id": "demo", "job_method": "add", "job_params": {"a": 1, "b": 2}}
    body = msgspec.json.encode({"executions": [document] * items})
    decoder = msgspec.json.Decoder(_Bulk)
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    validator = jsonschema_rs.validator_for(schema)
    raw = [item.job_params for item in decoder.decode(body).executions]
    parsed = [{"a": 1, "b": 2} for _ in range(items)]
    decode = msgspec.json.decode

    def per_item(seconds: float) -> float:
        return seconds / items * 1e6

    timed: list[tuple[str, Callable[[], object]]] = [
        (
            f"msgspec decode of a {items:,}-item bulk ({len(body) / 1e6:.1f} MB), params as Raw",
            lambda: decoder.decode(body),
        ),
        ("msgspec decode of the params (Raw → dict)", lambda: [decode(value) for value in raw]),
        ("jsonschema-rs is_valid(dict of 2)", lambda: [validator.is_valid(value) for value in parsed]),
        ("jsonschema-rs validate(dict of 2)", lambda: list(map(validator.validate, parsed))),
    ]
    return [Ceiling(name=name, value=per_item(_best_of(work)), unit="µs/job") for name, work in timed]


def measurement_cost() -> list[Ceiling]:
    """What looking at a process costs (psutil), so that nobody polls it in a timed section."""
    process = psutil.Process(os.getpid())
    cost = _best_of(lambda: [process.cpu_times() for _ in range(200)]) / 200 * 1e6
    idle = subprocess.run(
        [sys.executable, "-c", "import psutil; print(psutil.Process().memory_info().rss)"],
        capture_output=True,
        check=True,
        text=True,
    )
    return [
        Ceiling(name="psutil cpu_times()", value=cost, unit="µs"),
        Ceiling(name="RSS of an idle Python that imported psutil", value=int(idle.stdout) / 1e6, unit="MB"),
    ]


def all_ceilings() -> list[Ceiling]:
    return [client_ceiling(), *http_ceilings(), *codec_ceilings(), *measurement_cost()]
