"""The event stream of a whole server: live, and replayed from the journal after a lost connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.integration.conftest import api_client, know_demo, running_server
from tests.support import eventually

pytestmark = pytest.mark.anyio

NOOP = {"handler_id": "demo", "job_method": "noop"}


class Told:
    """One event as a client gets it."""

    def __init__(self, block: str) -> None:
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        self.id = fields.get("id", "")
        self.kind = fields.get("event", "")
        self.data = json.loads(fields.get("data", "null"))


async def told(answer: httpx.Response) -> AsyncIterator[Told]:
    text = ""
    async for chunk in answer.aiter_text():
        text += chunk
        while "\n\n" in text:
            block, text = text.split("\n\n", 1)
            yield Told(block)


async def next_of(events: AsyncIterator[Told], kind: str) -> Told:
    async with asyncio.timeout(10):
        async for event in events:
            if event.kind == kind:
                return event
    raise AssertionError(f"the stream ended without {kind}")


async def test_what_is_committed_is_told_as_it_is_committed(api, start_node):
    await start_node("n1")
    async with api.stream("GET", "/api/events?topics=execution") as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert "content-encoding" not in answer.headers
        events = told(answer)
        assert (await anext(events)).kind == ""

        [id_] = (await api.post("/api/executions", json=NOOP)).json()["ids"]

        created = await next_of(events, "execution.created")
        finished = await next_of(events, "execution.finished")
    assert created.data["id"] == finished.data["id"] == id_
    assert finished.data["kind"] == "execution.finished"


async def test_who_comes_back_with_the_last_id_misses_nothing(api, known_demo):
    async with api.stream("GET", "/api/events?kinds=schedule.created") as answer:
        events = told(answer)
        await anext(events)
        await put(api, "s1")
        last = await next_of(events, "schedule.created")
    # While nobody listens …
    await put(api, "s2")
    await put(api, "s3")

    async with api.stream("GET", "/api/events?kinds=schedule.created", headers={"Last-Event-ID": last.id}) as answer:
        events = told(answer)
        missed = [(await next_of(events, "schedule.created")).data["id"] for _ in range(2)]
        await put(api, "s4")
        live = await next_of(events, "schedule.created")

    assert missed == ["s2", "s3"]
    assert live.data["id"] == "s4"


async def test_since_replays_from_the_beginning(api, known_demo):
    await put(api, "s1")

    async with api.stream("GET", "/api/events?since=0") as answer:
        assert (await next_of(told(answer), "schedule.created")).data["id"] == "s1"


async def test_who_comes_back_after_a_restart_of_the_server_misses_nothing_and_gets_nothing_twice(tmp_path):
    async with running_server(tmp_path / "server") as server, api_client(server) as api:
        await api.post("/api/tokens", json={"name": "one", "role": "viewer"})
        know_demo(server)
        await put(api, "s1")
        async with api.stream("GET", "/api/events?since=0") as answer:
            last = await next_of(told(answer), "schedule.created")
        await put(api, "s2")

    async with (
        running_server(tmp_path / "server") as server,
        api_client(server) as api,
        api.stream("GET", "/api/events?topics=schedule", headers={"Last-Event-ID": last.id}) as answer,
    ):
        events = told(answer)
        await anext(events)
        missed = await anext(events)
    assert (missed.kind, missed.data["id"]) == ("schedule.created", "s2")


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("since=x", {}),
        ("since=1-2-3", {}),
        ("topics=Exec%20ution", {}),
        ("topic=execution", {}),
        ("", {"Last-Event-ID": "x"}),
    ],
)
async def test_a_bad_position_or_filter_is_refused(api, query, headers):
    assert (await api.get(f"/api/events?{query}", headers=headers)).status_code == 400


async def test_a_client_that_goes_leaves_no_subscription(server, api, known_demo):
    async with api.stream("GET", "/api/events") as answer:
        await anext(told(answer))
    await eventually(lambda: server.hub.subscribers == 0 and server.http.in_flight == 0)


async def put(api: httpx.AsyncClient, id_: str) -> None:
    trigger = {"type": "cron", "expression": "0 0 1 1 *"}
    answer = await api.put(f"/api/schedules/{id_}", json={**NOOP, "trigger": trigger})
    assert answer.status_code == 201, answer.text
