"""Real processes, killed at the worst moments: nothing acknowledged is lost, nothing runs twice without cause.

The evidence is the chaos handler's own ledger file: one fsynced line when a method is entered and one when it
is left, written by the job itself.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import eventually_sync
from tests.system.processes import NodeProcess, Process, ServerProcess

CHAOS = "schedule_zero.testbed.chaos:ChaosHandler"
Own = Callable[[Process], Process]

# Short leases, so that a lost node is replaced within a test's patience. Where the server is away instead, the
# default of 15 s holds: an outage shorter than the lease is none of the job's business.
FAST = {
    "SCHEDULE_ZERO_DISPATCH__HEARTBEAT_S": "0.3",
    "SCHEDULE_ZERO_DISPATCH__SUSPECT_S": "0.9",
    "SCHEDULE_ZERO_DISPATCH__LOST_S": "1.5",
    "SCHEDULE_ZERO_DISPATCH__LEASE_S": "2",
    "SCHEDULE_ZERO_DISPATCH__LEASE_MARGIN_S": "0.3",
}


class Bed:
    """A server and its nodes in one folder, with the ledger that their jobs write."""

    def __init__(self, folder: Path, own: Own) -> None:
        self.folder = folder
        self.own = own
        self.ledger_file = folder / "ledger.jsonl"
        self._client: httpx.Client | None = None

    def start_server(self, *, env: dict[str, str] = FAST, **ports: int) -> None:
        self._env = env
        self.server = ServerProcess(self.folder, env=env, **ports)
        self.own(self.server)
        self.server.wait_ready()
        self.close()
        self._client = self.server.client()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    @property
    def client(self) -> httpx.Client:
        assert self._client is not None
        return self._client

    def restart_server(self) -> None:
        self.start_server(env=self._env, **self.server.ports)

    def start_node(self, node_id: str = "n1", slots: int = 4, *, wait: bool = True) -> NodeProcess:
        node = NodeProcess(
            self.folder,
            self.server.addresses["zmq"],
            CHAOS,
            node_id=node_id,
            slots=slots,
            env={"SCHEDULE_ZERO_CHAOS_LEDGER": str(self.ledger_file)},
        )
        self.own(node)
        if wait:
            eventually_sync(lambda: self.node_state(node_id) == "online", within_s=15)
        return node

    def node_state(self, node_id: str) -> str | None:
        nodes = self.client.get("/api/nodes").json()["nodes"]
        return next((node["state"] for node in nodes if node["id"] == node_id), None)

    def submit(self, count: int, method: str, **params: Any) -> list[str]:
        item = {"handler_id": "chaos", "job_method": method, "job_params": params}
        answer = self.client.post("/api/executions", json={"executions": [item] * count})
        assert answer.status_code == 202, answer.text
        return list(answer.json()["ids"])

    def execution(self, execution_id: str, wait_s: float = 0) -> dict[str, Any]:
        answer = self.client.get(f"/api/executions/{execution_id}", params={"wait_s": wait_s})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def states(self) -> Counter[str]:
        """Every execution's state, by walking all pages."""
        states: Counter[str] = Counter()
        cursor: str | None = None
        while True:
            query = {"limit": "500"} | ({"cursor": cursor} if cursor else {})
            page = self.client.get("/api/executions", params=query).json()
            states.update(record["status"] for record in page["records"])
            cursor = page.get("next_cursor")
            if not cursor:
                return states

    def ledger(self) -> list[dict[str, Any]]:
        if not self.ledger_file.exists():
            return []
        return [json.loads(line) for line in self.ledger_file.read_text().splitlines()]

    def starts(self) -> Counter[str]:
        """How often each execution's method was entered."""
        return Counter(line["execution_id"] for line in self.ledger() if line["event"] == "start")


@pytest.fixture
def bed(tmp_path: Path, own: Own) -> Iterator[Bed]:
    """A folder for one server and its nodes; whatever was started there ends with the test."""
    made = Bed(tmp_path, own)
    yield made
    made.close()


def test_a_server_killed_during_1000_bulk_jobs_loses_none_and_runs_none_twice(bed: Bed) -> None:
    bed.start_server(env={})
    bed.start_node(slots=8)

    ids = bed.submit(1000, "ok")
    eventually_sync(lambda: len(bed.starts()) >= 100)
    bed.server.kill()
    bed.restart_server()

    eventually_sync(lambda: bed.states() == Counter(completed=1000), within_s=60)
    starts = bed.starts()
    assert set(starts) == set(ids)
    assert max(starts.values()) == 1


def test_jobs_running_while_the_server_restarts_are_re_attached_not_rerun(bed: Bed) -> None:
    bed.start_server(env={})
    bed.start_node()

    [execution_id] = bed.submit(1, "sleep", seconds=4)
    eventually_sync(lambda: bed.starts()[execution_id] == 1)
    bed.server.kill()
    bed.restart_server()

    done = bed.execution(execution_id, wait_s=20)
    assert (done["status"], done["attempt"]) == ("completed", 1)
    assert bed.starts()[execution_id] == 1


def test_a_result_waits_in_the_outbox_while_the_server_is_away(bed: Bed) -> None:
    bed.start_server(env={})
    bed.start_node()

    [execution_id] = bed.submit(1, "sleep", seconds=1)
    eventually_sync(lambda: bed.starts()[execution_id] == 1)
    bed.server.kill()
    eventually_sync(lambda: any(line["event"] == "end" for line in bed.ledger()))
    bed.restart_server()

    done = bed.execution(execution_id, wait_s=20)
    assert (done["status"], done["attempt"]) == ("completed", 1)


def test_a_result_survives_the_node_s_own_death(bed: Bed) -> None:
    bed.start_server(env={})
    node = bed.start_node()

    [execution_id] = bed.submit(1, "sleep", seconds=1)
    eventually_sync(lambda: bed.starts()[execution_id] == 1)
    bed.server.kill()
    eventually_sync(lambda: any(line["event"] == "end" for line in bed.ledger()))
    outbox = bed.folder / "nodes"
    eventually_sync(lambda: any(path.stat().st_size for path in outbox.rglob("outbox*") if path.is_file()))
    node.kill()
    bed.restart_server()
    bed.start_node()

    done = bed.execution(execution_id, wait_s=20)
    assert (done["status"], done["attempt"]) == ("completed", 1)
    assert bed.starts()[execution_id] == 1


def test_a_killed_node_s_attempts_run_again_elsewhere_after_the_lease(bed: Bed) -> None:
    bed.start_server()
    first = bed.start_node("n1")
    [execution_id] = bed.submit(1, "sleep", seconds=3)
    eventually_sync(lambda: bed.starts()[execution_id] == 1)
    bed.start_node("n2")
    first.kill()

    eventually_sync(lambda: bed.node_state("n1") == "lost", within_s=5)
    done = bed.execution(execution_id, wait_s=30)

    assert (done["status"], done["attempt"], done["node_id"]) == ("completed", 2, "n2")
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["lost", "completed"]
    assert bed.starts()[execution_id] == 2


def test_a_job_that_kills_its_node_three_times_is_dead(bed: Bed) -> None:
    bed.start_server()
    node = bed.start_node()
    [poison] = bed.submit(1, "exit")
    for _ in range(2):
        eventually_sync(lambda: not node.alive(), within_s=20)
        # It may be dead again before anybody sees it online.
        node = bed.start_node(wait=False)
    eventually_sync(lambda: not node.alive(), within_s=20)
    bed.start_node()

    assert bed.execution(poison, wait_s=20)["status"] == "dead"
    [ok] = bed.submit(1, "ok")
    assert bed.execution(ok, wait_s=20)["status"] == "completed"


def test_a_second_node_of_the_same_name_is_denied_and_the_incumbent_works_on(bed: Bed) -> None:
    bed.start_server()
    bed.start_node("n1")
    (bed.folder / "other").mkdir()
    newcomer = NodeProcess(bed.folder / "other", bed.server.addresses["zmq"], CHAOS, node_id="n1")
    bed.own(newcomer)

    assert newcomer.popen.wait(20) != 0
    assert "n1" in newcomer.output()
    [ok] = bed.submit(1, "ok")
    assert bed.execution(ok, wait_s=20)["status"] == "completed"


def test_sigterm_drains_a_node_its_running_job_finishes_and_the_waiting_ones_go_elsewhere(
    bed: Bed,
) -> None:
    bed.start_server()
    node = bed.start_node("n1", slots=1)
    ids = bed.submit(3, "sleep", seconds=1.5)
    eventually_sync(lambda: len(bed.starts()) == 1)
    bed.start_node("n2", slots=2)

    assert node.terminate() == 0

    for execution_id in ids:
        done = bed.execution(execution_id, wait_s=20)
        assert (done["status"], done["attempt"]) == ("completed", 1), done
    assert max(bed.starts().values()) == 1


def test_sigterm_stops_the_server_in_order_with_exit_code_0(bed: Bed) -> None:
    bed.start_server(env={})
    bed.start_node()
    bed.submit(200, "ok")

    assert bed.server.terminate() == 0
    assert not bed.server.server_json.exists()

    bed.restart_server()
    eventually_sync(lambda: bed.states() == Counter(completed=200), within_s=30)
    assert max(bed.starts().values()) == 1


def test_a_node_and_its_server_killed_together_lose_nothing(bed: Bed) -> None:
    bed.start_server()
    node = bed.start_node(slots=8)
    ids = bed.submit(300, "ok")
    eventually_sync(lambda: len(bed.starts()) >= 30)
    bed.server.kill()
    node.kill()
    bed.restart_server()
    bed.start_node(slots=8)

    eventually_sync(lambda: bed.states() == Counter(completed=300), within_s=60)
    # What was in the middle when its node died may run again (at-least-once); nothing else may.
    again = [count for count in bed.starts().values() if count > 1]
    assert set(bed.starts()) == set(ids)
    assert len(again) <= 8 + 300 - 30


def test_a_stopped_node_fences_itself_and_its_late_result_is_refused(bed: Bed) -> None:
    bed.start_server()
    node = bed.start_node("n1")
    [execution_id] = bed.submit(1, "sleep", seconds=1)
    eventually_sync(lambda: bed.starts()[execution_id] == 1)
    node.signal(signal.SIGSTOP)
    bed.start_node("n2")
    done = bed.execution(execution_id, wait_s=30)
    assert (done["status"], done["node_id"], done["attempt"]) == ("completed", "n2", 2)

    node.signal(signal.SIGCONT)
    eventually_sync(lambda: bed.node_state("n1") == "online", within_s=15)

    again = bed.execution(execution_id)
    assert (again["node_id"], again["attempt"], again["result"]) == ("n2", 2, done["result"])


def test_a_write_that_was_answered_is_there_after_kill_9(bed: Bed) -> None:
    bed.start_server()
    acknowledged: list[str] = []
    with bed.server.client() as client:
        for number in range(50):
            item = {"handler_id": "chaos", "job_method": "ok", "job_params": {"value": number}}
            answer = client.post("/api/executions", json=item)
            if number == 0 and answer.status_code == 404:
                bed.start_node().kill()
                answer = client.post("/api/executions", json=item)
            assert answer.status_code == 202, answer.text
            acknowledged += answer.json()["ids"]
    bed.server.kill()
    bed.restart_server()

    for execution_id in acknowledged:
        assert bed.execution(execution_id)["status"] in ("pending", "running")


def test_a_client_that_repeats_a_write_with_its_key_creates_nothing_twice(bed: Bed) -> None:
    bed.start_server()
    bed.start_node()
    item = {"handler_id": "chaos", "job_method": "ok", "job_params": {}}
    key = {"Idempotency-Key": "once"}
    first = bed.client.post("/api/executions", json=item, headers=key)
    bed.server.kill()
    bed.restart_server()
    second = bed.client.post("/api/executions", json=item, headers=key)

    assert first.json()["ids"] == second.json()["ids"]
    assert second.headers["Idempotent-Replayed"] == "true"
    assert sum(bed.states().values()) == 1
