"""The stream that an open page listens to, over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from schedule_zero.web.pages import live
from tests.integration.conftest import api_client

pytestmark = pytest.mark.anyio

CALENDAR = {"name": "c", "timezone": "UTC", "weekly": [{"days": ["SAT"]}]}


async def events(answer: httpx.Response) -> AsyncIterator[tuple[str, str, str]]:
    """(id, event, data) of each frame, comments left out."""
    frame: dict[str, str] = {}
    lines = answer.aiter_lines()
    while True:
        async with asyncio.timeout(10):
            line = await anext(lines, None)
        if line is None:
            return
        if not line:
            if "event" in frame or "id" in frame:
                yield frame.get("id", ""), frame.get("event", ""), frame.get("data", "")
            frame = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            frame[name] = value


async def test_a_commit_is_a_hint_for_the_pages_of_its_topic(server):
    async with api_client(server) as api, api.stream("GET", "/live", params={"topics": "calendar,node"}) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        heard = events(answer)
        assert (await anext(heard))[1] == ""

        made = await api.post("/api/calendars", json=CALENDAR)

        assert made.is_success, made.text
        _, event, data = await anext(heard)
        assert (event, json.loads(data)) == ("sz-hint", {"calendar": 1})


async def test_a_page_that_comes_back_is_told_if_it_may_have_missed_something(server):
    async with api_client(server) as api:
        async with api.stream("GET", "/live", params={"topics": "calendar"}) as answer:
            seen = (await anext(events(answer)))[0]
        async with api.stream("GET", "/live", params={"topics": "calendar"}, headers={"Last-Event-ID": seen}) as same:
            heard = events(same)
            await anext(heard)
            await api.post("/api/calendars", json=CALENDAR)
            assert json.loads((await anext(heard))[2]) == {"calendar": 1}
        async with api.stream("GET", "/live", params={"topics": "calendar"}, headers={"Last-Event-ID": seen}) as late:
            heard = events(late)
            await anext(heard)
            assert json.loads((await anext(heard))[2]) == {"calendar": 0}


async def test_a_page_hears_of_what_happened_while_it_was_made(server):
    async with api_client(server) as api:
        page = await api.get("/nodes")
        since = re.search(r"since=(\d+)", page.text)[1]
        await api.post("/api/calendars", json=CALENDAR)
        async with api.stream("GET", "/live", params={"topics": "calendar", "since": since}) as late:
            heard = events(late)
            await anext(heard)
            assert json.loads((await anext(heard))[2]) == {"calendar": 0}


async def test_the_end_of_its_session_ends_the_stream(server, monkeypatch):
    monkeypatch.setattr(live, "KEEPALIVE_S", 0.01)
    sessions = server.service.sessions
    admin = server.service.access.authenticate((server.state_dir / "admin.token").read_text().strip())
    cookie = await sessions.sign_in_by_link(await sessions.link(admin), agent="", address="")
    session_id = sessions.find(cookie).session.id
    name = f"sz_session_{httpx.URL(server.addresses.http).port}"
    async with (
        httpx.AsyncClient(base_url=server.addresses.http, timeout=10) as client,
        client.stream("GET", "/live", headers={"Cookie": f"{name}={cookie}"}) as answer,
    ):
        heard = events(answer)
        await anext(heard)

        await sessions.end(admin, session_id)

        assert (await anext(heard))[1] == "sz-signed-out"
        with pytest.raises(StopAsyncIteration):
            await anext(heard)
    assert server.hints.watchers == 0


@pytest.mark.parametrize("query", ["topics=" + ",".join("abcdefghijklmnopqrstuvwxyz"), "tropics=node"])
async def test_what_it_can_not_listen_to_is_refused(server, query):
    async with api_client(server) as api:
        assert (await api.get(f"/live?{query}")).status_code == 400
