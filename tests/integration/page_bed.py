"""What tests of pages share: a browser without JavaScript, and counting what a page reads."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx

from schedule_zero.server import Server
from tests.integration.conftest import api_client


@asynccontextmanager
async def browser(server: Server, role: str = "admin") -> AsyncIterator[httpx.AsyncClient]:
    """A browser that is signed in; its forms are sent by ``submit``."""
    async with api_client(server) as api:
        link = (await api.post("/api/login-links", json={"role": role})).json()["path"]
    async with httpx.AsyncClient(
        base_url=server.addresses.http, headers={"Accept": "text/html"}, timeout=30, verify=False
    ) as client:
        answer = await client.post("/login", data={"link": link.partition("t=")[2]})
        assert answer.status_code == 303
        yield client


async def submit(client: httpx.AsyncClient, path: str, data: dict[str, str] | None = None, **headers: str):
    """Send a form of ours."""
    page = await client.get("/settings")
    word = re.search(r'name="xsrf" content="([^"]+)"', page.text)[1]
    return await client.post(path, data={"_xsrf": word, **(data or {})}, headers=headers)


def part(name: str) -> dict[str, str]:
    """The headers by which htmx asks for one part of a page."""
    return {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Target": f"section#{name}"}


@contextmanager
def counted_reads(server: Server, monkeypatch) -> Iterator[list[object]]:
    """The queries that requests ask the store meanwhile; the server's own loops read, too."""
    asked: list[object] = []
    read = server.store.read

    async def counting(query):
        if asyncio.current_task().get_coro().__qualname__ == "Exchange._run":
            asked.append(query)
        return await read(query)

    with monkeypatch.context() as patch:
        patch.setattr(server.store, "read", counting)
        yield asked
