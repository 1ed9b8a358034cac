"""A server that is killed in the middle of a requeue goes on with it, and does nothing twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.support import eventually_sync
from tests.system.bed import Bed

COUNT = 300


def records(bed: Bed) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query = {"limit": "500"} | ({"cursor": cursor} if cursor else {})
        page = bed.client.get("/api/executions", params=query).json()
        found += page["records"]
        cursor = page.get("next_cursor")
        if not cursor:
            return found


@pytest.mark.parametrize("kills", [3])
def test_a_server_killed_while_it_requeues_makes_one_execution_of_each_letter(bed: Bed, kills: int) -> None:
    bed.start_server(env={})
    node = bed.start_node(slots=8)
    old = set(bed.submit(COUNT, "error"))
    eventually_sync(lambda: bed.states() == Counter(failed=COUNT), within_s=60)
    # What is requeued waits, so that nothing fails again.
    node.kill()

    begun = bed.client.post("/api/dead-letters/requeue", json={"all": True, "rate_per_s": 100})
    assert (begun.status_code, begun.json()["count"]) == (202, COUNT)
    path = f"/api/requeues/{begun.json()['id']}"
    for number in range(1, kills + 1):
        least = number * COUNT // (kills + 2)
        eventually_sync(lambda least=least: bed.client.get(path).json()["created"] >= least, within_s=60)
        bed.server.kill()
        bed.restart_server()
    eventually_sync(lambda: bed.client.get(path).json()["state"] == "completed", within_s=60)

    parents = Counter(record["parent_id"] for record in records(bed) if record["parent_id"])
    assert set(parents) == old
    assert set(parents.values()) == {1}
    assert bed.client.get("/api/dead-letters").json()["groups"] == []
