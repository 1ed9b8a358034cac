"""A server killed amid the groups that its schedules make: real processes, three nodes, one combined outcome."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import eventually_sync
from tests.system.processes import NodeProcess, ServerProcess
from tests.system.test_kills import CHAOS, Own

NODES = ("n1", "n2", "n3")
SHARDS = 9
LEDGER = "SCHEDULE_ZERO_CHAOS_LEDGER"


def _schedule(client: httpx.Client, id_: str, **fields: Any) -> None:
    row = {"id": id_, "handler_id": "chaos", "trigger": {"type": "date", "run_date": time.time() + 0.3}, **fields}
    answer = client.post("/api/schedules", json=row)
    assert answer.status_code == 201, answer.text


def _group(client: httpx.Client, id_: str) -> dict[str, Any] | None:
    fires = client.get(f"/api/schedules/{id_}/fires").raise_for_status().json()["records"]
    assert len(fires) <= 1
    if not fires:
        return None
    found: dict[str, Any] = client.get(f"/api/groups/{fires[0]['group_id']}").raise_for_status().json()
    return found


def _members(client: httpx.Client, group_id: str) -> list[dict[str, Any]]:
    page = client.get("/api/executions", params={"group_id": group_id, "limit": 500}).raise_for_status()
    found: list[dict[str, Any]] = page.json()["records"]
    return found


@pytest.mark.slow
def test_groups_of_a_schedule_survive_a_killed_server_with_each_part_run_once_per_token(
    tmp_path: Path, own: Own
) -> None:
    lines = tmp_path / "lines"
    server = ServerProcess(tmp_path)
    own(server)
    server.wait_ready()
    ports = server.ports
    for node_id in NODES:
        own(NodeProcess(tmp_path, server.addresses["zmq"], CHAOS, node_id=node_id, slots=2, env={LEDGER: str(lines)}))
    with server.client() as client:
        eventually_sync(lambda: len(_connected(client)) == len(NODES), within_s=30)
        slow = {"job_method": "sleep", "job_params": {"seconds": 1.0}}
        _schedule(client, "parts", **slow, policies={"shards": SHARDS})
        # Due while the server is dead: whom it is for is decided when all are back.
        due_s = time.time() + 2.0
        trigger = {"type": "date", "run_date": due_s}
        _schedule(client, "late", job_method="ok", policies={"broadcast": True}, trigger=trigger)

        def midway() -> bool:
            group = _group(client, "parts")
            return group is not None and any(row["status"] == "running" for row in _members(client, group["id"]))

        eventually_sync(midway, within_s=20)
    server.kill()
    # Nothing is to be waited for but the moment that "late" is due.
    eventually_sync(lambda: time.time() > due_s, within_s=5)
    server = ServerProcess(tmp_path, **ports)
    own(server)
    server.wait_ready()
    with server.client() as client:
        for id_, total in (("parts", SHARDS), ("late", len(NODES))):
            over = eventually_sync(lambda id_=id_: _over(client, id_), within_s=60)
            assert (over["status"], over["total"], over["completed"]) == ("completed", total, total)
            audit = client.get(f"/api/schedules/{id_}/audit").raise_for_status().json()
            assert (audit["ok"], audit["expected"], audit["recorded"]) == (True, 1, 1)
        parts = _members(client, _over(client, "parts")["id"])
        assert sorted(row["shard"] for row in parts) == [f"{part}/{SHARDS}" for part in range(SHARDS)]
        late = _members(client, _over(client, "late")["id"])
        assert sorted(row["node_id"] for row in late) == list(NODES)
        groups = client.get("/api/groups").raise_for_status().json()["records"]
        assert len(groups) == 2
        everything = client.get("/api/executions", params={"limit": 500}).raise_for_status().json()["records"]
        assert {row["id"] for row in everything} == {row["id"] for row in (*parts, *late)}
    began = [json.loads(line) for line in lines.read_text().splitlines()]
    entered = Counter((line["execution"], line["token"]) for line in began if line["event"] == "start")
    assert set(entered.values()) == {1}, entered
    assert {id_ for id_, _ in entered} == {row["id"] for row in (*parts, *late)}


def _connected(client: httpx.Client) -> list[str]:
    nodes = client.get("/api/nodes").raise_for_status().json()["nodes"]
    return [node["id"] for node in nodes if node["state"] == "online"]


def _over(client: httpx.Client, id_: str) -> dict[str, Any] | None:
    group = _group(client, id_)
    return group if group is not None and group["status"] != "running" else None
