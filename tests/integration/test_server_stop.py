"""A server that stops keeps nobody waiting: neither for the end of a job, nor itself for those who wait."""

from __future__ import annotations

import asyncio

import pytest

from schedule_zero.server import Server
from tests.integration.conftest import TEST_CONFIG, api_client, know_demo
from tests.support import eventually

pytestmark = pytest.mark.anyio

NOOP = {"handler_id": "demo", "job_method": "noop"}
# Nobody is kept for so long: a request that held the stop would take half of it.
DRAIN_S = 600.0


@pytest.fixture
async def stopping(tmp_path):
    """A server whose handler has no node, an API client, and what stops it (once)."""
    (tmp_path / "server").mkdir(mode=0o700)
    server = Server(TEST_CONFIG, tmp_path / "server")
    await server.start()
    know_demo(server)
    async with api_client(server) as api:
        yield server, api


async def waiting(server, asked):
    """The request once it waits for the end of its execution."""
    request = asyncio.create_task(asked)
    await eventually(lambda: server.hub._waiters)
    return request


async def test_a_run_now_that_waits_is_told_at_once_that_its_job_goes_on(stopping):
    server, api = stopping
    request = await waiting(server, api.post("/api/run_now", json={**NOOP, "wait_s": 300}))

    await asyncio.wait_for(server.stop(DRAIN_S), 10)

    answer = await request
    assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
    assert answer.headers["Location"] == f"/api/executions/{answer.json()['execution_id']}"


async def test_who_comes_to_wait_after_the_stop_began_is_not_kept(stopping):
    server, api = stopping
    server.hub.close()
    ask = {"json": {**NOOP, "wait_s": 300}, "headers": {"Idempotency-Key": "k"}}

    first = await asyncio.wait_for(api.post("/api/run_now", **ask), 10)
    again = await asyncio.wait_for(api.post("/api/run_now", **ask), 10)

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    await server.stop(DRAIN_S)


async def test_a_long_poll_is_told_at_once_that_the_server_stops(stopping):
    server, api = stopping
    [id_] = (await api.post("/api/executions", json=NOOP)).json()["ids"]
    request = await waiting(server, api.get(f"/api/executions/{id_}", params={"wait_s": 300}))

    await asyncio.wait_for(server.stop(DRAIN_S), 10)

    assert (await request).status_code == 503
