"""Bytes that are no HTTP, or nearly, to a whole server on a plain socket: refused or read, and nothing stays behind."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from random import Random

import psutil
import pytest
import structlog.testing

from tests.fuzz.mutator import Mutator, chosen_seed
from tests.integration.conftest import api_client, running_server
from tests.sizes import SIZE
from tests.support import eventually

SEED = chosen_seed()
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60 if SIZE.requests < 50 else 3600)]

COUNT = SIZE.requests * 10
# An answer comes at once, but the machine may be busy.
ANSWER_S = 20.0
# What a thousand connections may leave to allocators and caches.
MAX_GROWTH = 48 << 20

BODY = b'{"handler_id":"demo","job_method":"noop","job_params":{"a":1}}'


def head(line: bytes, *lines: bytes, token: bool = True) -> bytes:
    usual = [b"Host: localhost", b"Authorization: Bearer TOKEN"] if token else [b"Host: localhost"]
    return b"\r\n".join([line, *usual, *lines, b"", b""])


SUBMIT = head(
    b"POST /api/executions HTTP/1.1", b"Content-Type: application/json", b"Content-Length: %d" % len(BODY)
)  # fmt: skip
CHUNKED = head(b"POST /api/executions HTTP/1.1", b"Content-Type: application/json", b"Transfer-Encoding: chunked")
RIGHT = [
    head(b"GET /api/health HTTP/1.1"),
    head(b"GET /api/executions?limit=5&status=completed HTTP/1.1", b"X-Request-Id: a-1"),
    head(b"HEAD /api/schedules HTTP/1.1", b'If-None-Match: "x"'),
    head(b"DELETE /api/schedules/nobody HTTP/1.1", b'If-Match: "1"'),
    SUBMIT + BODY,
    CHUNKED + b"10\r\n" + BODY[:16] + b"\r\n%x\r\n" % len(BODY[16:]) + BODY[16:] + b"\r\n0\r\n\r\n",
    head(b"GET /api/health HTTP/1.1") + head(b"GET /api/nodes HTTP/1.1") + SUBMIT + BODY,
]  # fmt: skip
WORDS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00", b" ", b"\t", b":", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"BREW ", b"CONNECT ", b"OPTIONS * ", b"TRACE ", b"GET ", b"POST ", b"%",
    b"%00", b"%zz", b"%ff%fe", b"?", b"#", b"//", b"/../", b"http://evil.example/", b"\xff\xfe", b"\xc3\x28",
    b"\xe2\x80\xa8", b"xn--", b"localhost:99999",
    b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: 5, 5\r\n", b"Content-Length: 0x5\r\n", b"Content-Length: \xb2\r\n", b"Content-Length:\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding : chunked\r\n", b"Transfer-Encoding:\x0bchunked\r\n", b"Expect: 100-continue\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive, upgrade\r\n", b"Upgrade: websocket\r\n", b"Host: evil\r\n",
    b"Host: localhost\r\n", b" folded\r\n", b"ffffffffffffffff\r\n", b"-5\r\n", b"0\r\n\r\n", b"5;ext=1\r\n",
    b"X: " + b"x" * 40_000 + b"\r\n", b"X: y\r\n" * 2_000, b"Content-Encoding: gzip\r\n", b"Origin: null\r\n",
    b"Authorization: Bearer \xff\r\n", b"Authorization: \r\n", b"X-Request-Id: \x1b[31m\r\n", b"Accept: text/plain\r\n",
    b"Cookie: a=" + b"b" * 5_000 + b"\r\n", b"Idempotency-Key: \x00\r\n", b"Range: bytes=0-\r\n", b"{", b"[" * 200,
]  # fmt: skip
# Lies about lengths, and what smuggles a second request through a proxy that reads the first otherwise.
LIES = [
    SUBMIT.replace(b"Content-Length: %d" % len(BODY), b"Content-Length: " + said) + BODY + RIGHT[0]
    for said in (
        b"5", b"500", b"-5", b"+62", b"062", b"62 ", b"6 2", b"6_2", b"1e2", b"0x3e", b"18446744073709551616",
        b"99999999999999999999999999", b"", b"\xb2", b"62, 62", b"62\r\nContent-Length: 5",
        b"62\r\nTransfer-Encoding: chunked", b"62\r\nTransfer-Encoding: xchunked",
        b"62\r\nTransfer-Encoding:\r\n chunked",
    )
] + [
    CHUNKED + chunks + RIGHT[0]
    for chunks in (
        b"zz\r\n", b"-1\r\nx\r\n", b"5\r\nabcdefgh\r\n0\r\n\r\n", b"ffffffffffffffffffff\r\nx\r\n", b"\r\n", b"5",
        b"5\r\nab", b"0x5\r\nabcde\r\n0\r\n\r\n", b"5 \r\nabcde\r\n0\r\n\r\n", b'5;a="\r\n"\r\nabcde\r\n0\r\n\r\n',
        b"0\r\nX: y\r\n\r\n",
        b"0" * 100_000, b"1\r\n{\r\n" * 5_000,
    )
]  # fmt: skip


class Errors(logging.Handler):
    """What Python's loggers (tornado's, asyncio's) have to say that is an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(f"{record.name}: {record.getMessage()}"[:500])


async def exchange(port: int, data: bytes, dice: Random) -> bytes:
    """Say it in one of several ways; what was answered until the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        way = dice.random()
        if way < 0.15 and len(data) <= 2_000:
            for at in range(len(data)):
                writer.write(data[at : at + 1])
                await asyncio.sleep(0)
        elif way < 0.4:
            at = dice.randrange(len(data) + 1)
            writer.write(data[:at])
            await asyncio.sleep(0)
            writer.write(data[at:])
        else:
            writer.write(data)
        if way > 0.9:
            # Gone before the answer; half of the time with all of it on its way.
            if way > 0.95:
                await writer.drain()
            writer.transport.abort()
            return b""
        writer.write_eof()
        async with asyncio.timeout(ANSWER_S):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def statuses(received: bytes) -> list[int]:
    """Of all answers that came on one connection."""
    # Nothing else in an answer begins like that: bodies are JSON.
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3})", received)]


async def test_malformed_http_is_refused_or_read_others_are_served_and_nothing_stays_behind(tmp_path, tried):
    line = tried("7 fuzz", "malformed HTTP on a plain socket")
    print(f"FUZZ_SEED={SEED}")
    dice, errors = Random(SEED), Errors()
    logging.getLogger().addHandler(errors)
    try:
        with structlog.testing.capture_logs() as logs:
            async with running_server(tmp_path / "server") as server, api_client(server) as honest:
                await provoke(server, honest, dice, line)
    finally:
        logging.getLogger().removeHandler(errors)
    assert errors.seen == []
    bad = [entry for entry in logs if entry["log_level"] in ("error", "critical") or entry["event"] == "request_failed"]
    assert bad == []


async def provoke(server, honest, dice, line) -> None:
    port = int(server.addresses.http.rpartition(":")[2])
    token = (server.state_dir / "admin.token").read_text().strip().encode()
    broken = Mutator((SEED, "http"), [*RIGHT, *LIES], WORDS)
    process = psutil.Process()
    inputs = [*LIES, *(broken.broken(dice.choice(broken.samples)) for _ in range(COUNT))]
    # What the first requests leave in caches is not counted.
    for data in RIGHT:
        assert {400, 401, 404, 409, 412, 422, 200, 201, 202, 304}.issuperset(
            statuses(await exchange(port, data, Random(1)))
        )
    before, rss = await settled(honest), process.memory_info().rss
    seen: set[int] = set()
    for number, data in enumerate(inputs):
        received = await exchange(port, data.replace(b"TOKEN", token), dice)
        found = statuses(received)
        where = f"number {number}: {data[:3000].hex()}"
        assert not received or found, f"an answer that is none to {where}: {received[:200]!r}"
        assert all(status < 500 for status in found), f"{found} to {where}"
        assert b"Traceback" not in received, where
        seen.update(found)
        line.faults += 1
        if number % 20 == 0:
            assert (await honest.get("/api/nodes")).status_code == 200, where
    assert {400, 413} <= seen
    # Connections whose end was abrupt are noticed at the next look at them.
    await eventually(lambda: open_files() <= before, within_s=30)
    await eventually(lambda: server.http.in_flight == 0)
    assert process.memory_info().rss - rss <= MAX_GROWTH


async def settled(honest) -> int:
    """How many files are open when the honest client has its connections, and the store all its readers theirs."""
    await asyncio.gather(
        *(honest.get("/api/nodes") for _ in range(10)), *(honest.get("/api/executions") for _ in range(10))
    )
    return open_files()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # quicker, and it is asked for often


async def test_a_hundred_half_requests_keep_nobody_from_being_served(tmp_path, tried):
    line = tried("7 fuzz", "malformed HTTP on a plain socket")
    async with running_server(tmp_path / "server") as server, api_client(server) as honest:
        port = int(server.addresses.http.rpartition(":")[2])
        before = await settled(honest)
        halves = []
        for number in range(100):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            data = RIGHT[number % len(RIGHT)]
            writer.write(data[: 1 + number * (len(data) - 1) // 100])
            halves.append((reader, writer))
            line.faults += 1
        assert (await honest.get("/api/nodes")).status_code == 200
        for _, writer in halves:
            writer.transport.abort()
        await eventually(lambda: open_files() <= before, within_s=30)
        assert (await honest.get("/api/nodes")).status_code == 200
