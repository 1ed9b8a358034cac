"""What tests of pages share: asking for pages and parts, sending forms, counting what is read."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import walk_stack
from typing import Any

import httpx
import pytest

from schedule_zero.server import Server
from schedule_zero.store.statements import Query

HTMX = {"HX-Request": "true"}


async def seen(api: httpx.AsyncClient, path: str, status: int = 200, **query: Any) -> str:
    """The text of a page."""
    answer = await api.get(path, params=query or None)
    assert answer.status_code == status, answer.text
    return answer.text


async def part_of(api: httpx.AsyncClient, path: str, block: str, **query: Any) -> str:
    """What htmx gets for one part of a page."""
    headers = {**HTMX, "HX-Request-Type": "partial", "HX-Target": f"section#{block}"}
    answer = await api.get(path, params=query or None, headers=headers)
    assert answer.status_code == 200, answer.text
    assert "<html" not in answer.text
    return answer.text


async def send(api: httpx.AsyncClient, path: str, status: int = 204, **fields: Any) -> dict[str, Any]:
    """Send a form as htmx does; what was said: ``text``, ``undo``."""
    answer = await api.post(path, data=fields, headers=HTMX)
    assert answer.status_code == status, answer.text
    said = json.loads(answer.headers.get("HX-Trigger", "{}"))
    return {**said.get("sz:done", {}), **said.get("sz:problem", {}), "html": answer.text, "headers": answer.headers}


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, server: Server) -> Iterator[list[int]]:
    """How many queries pages made, in the one element. (What the server's own chores read meanwhile is not counted.)"""
    number, here = [0], threading.local()
    rows, read = Query.rows, server.store.read

    def count(self: Query, *args: Any, **values: Any) -> Any:
        number[0] += getattr(here, "counts", False)
        return rows(self, *args, **values)

    async def of_page(function: Callable[[Any], Any]) -> Any:
        def watched(conn: Any) -> Any:
            here.counts = True
            try:
                return function(conn)
            finally:
                here.counts = False

        asked_by_page = any("/web/pages/" in frame.f_code.co_filename for frame, _ in walk_stack(sys._getframe()))
        return await read(watched if asked_by_page else function)

    with monkeypatch.context() as patch:
        patch.setattr(Query, "rows", count)
        patch.setattr(server.store, "read", of_page)
        yield number


async def token_of(api: httpx.AsyncClient, role: str) -> dict[str, str]:
    """The headers of somebody with this role."""
    answer = await api.post("/api/tokens", json={"name": f"a {role}", "role": role})
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}
