"""A server killed amid the groups that its schedules make: real processes, three nodes, one combined outcome."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.support import eventually_sync
from tests.system.bed import Bed

NODES = ("n1", "n2", "n3")
SHARDS = 9


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


def _over(client: httpx.Client, id_: str) -> dict[str, Any] | None:
    group = _group(client, id_)
    return group if group is not None and group["status"] != "running" else None


def _members(client: httpx.Client, group_id: str) -> list[dict[str, Any]]:
    page = client.get("/api/executions", params={"group_id": group_id, "limit": 500}).raise_for_status()
    found: list[dict[str, Any]] = page.json()["records"]
    return found


@pytest.mark.slow
def test_groups_of_a_schedule_survive_a_killed_server_with_each_part_run_once_per_token(bed: Bed) -> None:
    bed.start_server(env={})
    for node_id in NODES:
        bed.start_node(node_id, slots=2, wait=False)
    for node_id in NODES:
        bed.wait_online(node_id)
    _schedule(bed.client, "parts", job_method="sleep", job_params={"seconds": 1.0}, policies={"shards": SHARDS})
    # Due while the server is dead: whom it is for is decided when all are back.
    due_s = time.time() + 2.0
    trigger = {"type": "date", "run_date": due_s}
    _schedule(bed.client, "late", job_method="ok", policies={"broadcast": True}, trigger=trigger)

    def midway() -> bool:
        group = _group(bed.client, "parts")
        return group is not None and any(row["status"] == "running" for row in _members(bed.client, group["id"]))

    eventually_sync(midway, within_s=20)
    bed.server.kill()
    # Nothing is to be waited for but the moment that "late" is due.
    eventually_sync(lambda: time.time() > due_s, within_s=5)
    bed.restart_server()

    members = {}
    for id_, total in (("parts", SHARDS), ("late", len(NODES))):
        over = eventually_sync(lambda id_=id_: _over(bed.client, id_), within_s=60)
        assert (over["status"], over["total"], over["completed"]) == ("completed", total, total)
        audit = bed.client.get(f"/api/schedules/{id_}/audit").raise_for_status().json()
        assert (audit["ok"], audit["expected"], audit["recorded"]) == (True, 1, 1)
        members[id_] = _members(bed.client, over["id"])
    assert sorted(row["shard"] for row in members["parts"]) == [f"{part}/{SHARDS}" for part in range(SHARDS)]
    assert sorted(row["node_id"] for row in members["late"]) == list(NODES)
    assert len(bed.client.get("/api/groups").raise_for_status().json()["records"]) == 2
    assert bed.starts() == dict.fromkeys((row["id"] for rows in members.values() for row in rows), 1)
    bed.judge()
