"""Connections to the HTTP port: bounded, and those that wait for a request give way to those that come."""

from __future__ import annotations

import asyncio

import pytest

from schedule_zero.web import app
from tests.integration.conftest import running_server
from tests.support import eventually

pytestmark = pytest.mark.anyio


class Connection:
    """A TCP connection to the API."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def ask(self, path: str) -> None:
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    async def answer(self) -> int:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
        await self.reader.readexactly(int(length.split()[1]))
        return int(head.split()[1])

    @property
    def gone(self) -> bool:
        return self.reader.at_eof() or self.reader.exception() is not None


@pytest.fixture
async def connect(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "MOST_CONNECTIONS", 4)
    made: list[Connection] = []
    async with running_server(tmp_path) as server:
        port = int(server.addresses.http.rpartition(":")[2])

        async def connect() -> Connection:
            made.append(Connection(*await asyncio.open_connection("127.0.0.1", port)))
            return made[-1]

        yield connect
        for one in made:
            one.writer.close()


async def test_c17_who_only_sits_on_a_connection_gives_way_to_who_comes_later(connect):
    silent = [await connect() for _ in range(4)]
    later = await connect()
    later.ask("/readyz")
    assert await later.answer() == 200
    await eventually(lambda: silent[0].gone)
    assert [one.gone for one in silent] == [True, False, False, False]


async def test_who_asked_lately_stays_and_the_one_that_waited_longest_goes(connect):
    first = await connect()
    others = [await connect() for _ in range(3)]
    first.ask("/readyz")
    assert await first.answer() == 200
    await connect()
    await eventually(lambda: others[0].gone)
    assert not first.gone
    first.ask("/readyz")
    assert await first.answer() == 200
