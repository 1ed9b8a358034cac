"""From the alarm to the recorded result, with everything real: server, dispatcher, sockets, node."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from schedule_zero.server import Server
from tests.integration.conftest import StartNode
from tests.support import eventually

pytestmark = pytest.mark.anyio


async def records(api: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """All pages, the oldest first."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        params = {"limit": "500"} | ({"cursor": cursor} if cursor else {})
        page = (await api.get(path, params=params)).raise_for_status().json()
        found += page["records"]
        cursor = page["next_cursor"]
        if not cursor:
            return found[::-1]


async def test_every_nominal_time_of_a_fast_interval_is_run_and_in_the_ledger(
    server: Server, api: httpx.AsyncClient, start_node: StartNode
) -> None:
    await start_node()
    spec = {"handler_id": "demo", "job_method": "noop", "trigger": {"type": "interval", "milliseconds": 20}}
    (await api.put("/api/schedules/fast", json=spec)).raise_for_status()
    await eventually(lambda: server.timer.stats.executions >= 25)
    (await api.post("/api/schedules/fast/pause")).raise_for_status()

    ledger = [fire for fire in await records(api, "/api/schedules/fast/fires") if fire["outcome"] == "executed"]

    async def all_completed() -> list[dict[str, Any]]:
        executions = await records(api, "/api/executions?job_id=fast")
        return executions if {execution["status"] for execution in executions} == {"completed"} else []

    executions = await eventually(all_completed)
    assert [fire["execution_id"] for fire in ledger] == [execution["id"] for execution in executions]
    assert [fire["nominal_time"] for fire in ledger] == [execution["nominal_time"] for execution in executions]
    assert len(ledger) >= 25


async def test_the_fires_of_a_known_handler_wait_for_its_node(
    server: Server, api: httpx.AsyncClient, start_node: StartNode
) -> None:
    node = await start_node()
    await node.stop()
    spec = {
        "handler_id": "demo",
        "job_method": "add",
        "job_params": {"a": 2, "b": 3},
        "trigger": {"type": "interval", "milliseconds": 50},
    }
    (await api.put("/api/schedules/waiting", json=spec)).raise_for_status()
    await eventually(lambda: server.timer.stats.executions >= 3)
    (await api.delete("/api/schedules/waiting")).raise_for_status()
    waiting = await records(api, "/api/executions?job_id=waiting")
    assert {execution["status"] for execution in waiting} == {"pending"}

    await start_node("n2")

    async def all_completed() -> bool:
        executions = await records(api, "/api/executions?job_id=waiting")
        return [(e["status"], e["result"]) for e in executions] == [("completed", 5)] * len(waiting)

    await eventually(all_completed)
