"""Real processes, killed at the worst moments: nothing acknowledged is lost, nothing runs twice without cause.

Each test ends with ``judge``: the checker holds what clients were told, what was done to the processes and what the
jobs wrote themselves against the store of the dead server. What a test asserts besides is what it is about.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from schedule_zero import settings
from schedule_zero.clock import SystemClock
from schedule_zero.testbed import final
from schedule_zero.testbed.checker import check
from schedule_zero.testbed.history import (
    FAULTS,
    HISTORY,
    LEDGER,
    SERVER,
    FaultLog,
    JobLine,
    Op,
    Recorder,
    Side,
    read_evidence,
    read_lines,
    terms_of,
)
from schedule_zero.testbed.verdicts import Report
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
    """A server and its nodes in one folder, with what a checker needs: history, fault log, and the jobs' ledger."""

    def __init__(self, folder: Path, own: Own) -> None:
        self.folder = folder
        self.own = own
        self.ledger_file = folder / LEDGER
        self.faults = FaultLog(folder / FAULTS)
        self.history = Recorder(folder / HISTORY)
        self._client: httpx.Client | None = None

    def start_server(self, *, env: dict[str, str] = FAST, **ports: int) -> None:
        self._env = env
        self.server = ServerProcess(self.folder, env=env, **ports)
        self.note(self.server, SERVER)
        self.server.wait_ready()
        self.faults.works_again(SERVER)
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

    def note(self, process: Process, target: str) -> None:
        """What is done to it from now on is on record."""
        process.faults, process.target = self.faults, target
        self.own(process)

    def start_node(self, node_id: str = "n1", slots: int = 4, *, wait: bool = True) -> NodeProcess:
        node = NodeProcess(
            self.folder,
            self.server.addresses["zmq"],
            CHAOS,
            node_id=node_id,
            slots=slots,
            env={"SCHEDULE_ZERO_CHAOS_LEDGER": str(self.ledger_file)},
        )
        self.note(node, f"node:{node_id}")
        if wait:
            self.wait_online(node_id)
        return node

    def wait_online(self, node_id: str) -> None:
        eventually_sync(lambda: self.node_state(node_id) == "online", within_s=20)
        self.faults.works_again(f"node:{node_id}")

    def node_state(self, node_id: str) -> str | None:
        nodes = self.client.get("/api/nodes").json()["nodes"]
        return next((node["state"] for node in nodes if node["id"] == node_id), None)

    def submit(self, count: int, method: str, **params: Any) -> list[str]:
        item = {"handler_id": "chaos", "job_method": method, "job_params": params}
        return self.ask([item] * count)

    def ask(self, items: list[dict[str, Any]], key: str | None = None) -> list[str]:
        """Submit these, on record."""
        call = self.history.begin(Op.SUBMIT, count=len(items), key=key, mark=items[0].get("idempotency_key"))
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = self.client.post("/api/executions", json={"executions": items}, headers=headers)
        assert answer.status_code == 202, answer.text
        call.ok(ids=answer.json()["ids"])
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

    def ledger(self) -> list[JobLine]:
        return list(read_lines(self.ledger_file, JobLine))

    def starts(self) -> Counter[str]:
        """How often each execution's method was entered."""
        return Counter(line.execution_id for line in self.ledger() if line.event is Side.START)

    def ends(self) -> int:
        return sum(line.event is Side.END for line in self.ledger())

    def judge(self, **terms: Any) -> Report:
        """Kill the server; everything that was promised was kept, by all that is known from outside.

        What is open at the end was forgotten, unless ``settled`` is False.
        """
        until_us = SystemClock().wall_us()
        self.server.kill()
        self.faults.close()
        evidence = read_evidence(self.folder)
        config = settings.load(environ=self._env, cwd=self.folder).config
        evidence.terms = terms_of(config, until_us=until_us, **terms)
        report = check(evidence, final.load(self.server.state_dir))
        assert report.ok, report.text()
        return report


@pytest.fixture
def bed(tmp_path: Path, own: Own) -> Iterator[Bed]:
    """A folder for one server and its nodes; whatever was started there ends with the test."""
    made = Bed(tmp_path, own)
    yield made
    made.close()


def test_a_server_killed_during_1000_bulk_jobs_loses_none_and_runs_none_twice(bed: Bed) -> None:
    bed.start_server(env={})
    bed.start_node(slots=8)

    bed.submit(1000, "ok")
    eventually_sync(lambda: len(bed.starts()) >= 100)
    bed.server.kill()
    bed.restart_server()

    eventually_sync(lambda: bed.states() == Counter(completed=1000), within_s=60)
    assert sum(bed.starts().values()) == 1000
    bed.judge()


def test_jobs_running_while_the_server_restarts_are_re_attached_not_rerun(bed: Bed) -> None:
    bed.start_server(env={})
    bed.start_node()

    [execution_id] = bed.submit(1, "sleep", seconds=4)
    eventually_sync(lambda: bed.starts()[execution_id] == 1)
    bed.server.kill()
    bed.restart_server()

    done = bed.execution(execution_id, wait_s=20)
    assert (done["status"], done["attempt"]) == ("completed", 1)
    bed.judge()


def test_a_result_waits_in_the_outbox_while_the_server_is_away(bed: Bed) -> None:
    bed.start_server(env={})
    bed.start_node()

    [execution_id] = bed.submit(1, "sleep", seconds=1)
    eventually_sync(lambda: bed.starts()[execution_id] == 1)
    bed.server.kill()
    eventually_sync(bed.ends)
    bed.restart_server()

    done = bed.execution(execution_id, wait_s=20)
    assert (done["status"], done["attempt"]) == ("completed", 1)
    bed.judge()


def test_a_result_survives_the_node_s_own_death(bed: Bed) -> None:
    bed.start_server(env={})
    node = bed.start_node()

    [execution_id] = bed.submit(1, "sleep", seconds=1)
    eventually_sync(lambda: bed.starts()[execution_id] == 1)
    bed.server.kill()
    eventually_sync(bed.ends)
    outbox = bed.folder / "nodes"
    eventually_sync(lambda: any(path.stat().st_size for path in outbox.rglob("outbox*") if path.is_file()))
    node.kill()
    bed.restart_server()
    bed.start_node()

    done = bed.execution(execution_id, wait_s=20)
    assert (done["status"], done["attempt"]) == ("completed", 1)
    bed.judge()


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
    # Not before the lease and its margin were over, above all.
    bed.judge()


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
    bed.judge()


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
    bed.judge()


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
    bed.judge()


def test_sigterm_stops_the_server_in_order_with_exit_code_0(bed: Bed) -> None:
    bed.start_server(env={})
    bed.start_node()
    bed.submit(200, "ok")

    assert bed.server.terminate() == 0
    assert not bed.server.server_json.exists()

    bed.restart_server()
    eventually_sync(lambda: bed.states() == Counter(completed=200), within_s=30)
    assert max(bed.starts().values()) == 1
    bed.judge()


def test_a_node_and_its_server_killed_together_lose_nothing(bed: Bed) -> None:
    bed.start_server()
    node = bed.start_node(slots=8)
    bed.submit(300, "ok")
    eventually_sync(lambda: len(bed.starts()) >= 30)
    bed.server.kill()
    node.kill()
    bed.restart_server()
    bed.start_node(slots=8)

    eventually_sync(lambda: bed.states() == Counter(completed=300), within_s=60)
    # What its node had when it died may run again (at-least-once), nothing else: each loss has to have a cause.
    bed.judge()


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
    bed.judge()


def test_a_write_that_was_answered_is_there_after_kill_9(bed: Bed) -> None:
    bed.start_server()
    # Its methods are known, and there is nobody to run them.
    bed.start_node().kill()
    for _ in range(50):
        bed.submit(1, "ok")
    bed.server.kill()

    assert bed.judge(settled=False).checked["C4"] >= 50


def test_a_client_that_repeats_a_write_with_its_key_creates_nothing_twice(bed: Bed) -> None:
    bed.start_server()
    bed.start_node()
    item = {"handler_id": "chaos", "job_method": "ok", "job_params": {}, "idempotency_key": "mine"}
    first = bed.ask([item], key="once")
    bed.server.kill()
    bed.restart_server()
    second = bed.ask([item], key="once")

    assert first == second
    assert bed.execution(first[0], wait_s=20)["status"] == "completed"
    bed.judge()
