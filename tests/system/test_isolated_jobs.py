"""Isolated jobs with real servers and nodes: what crashes, hogs or grows takes nothing with it, and nothing is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import eventually_sync
from tests.system.bed import FAST, Bed
from tests.system.processes import Process

Own = Callable[[Process], Process]
PROCESS = {"isolation": "process"}


@pytest.fixture
def bed(tmp_path: Path, own: Own) -> Iterator[Bed]:
    """A server with short leases."""
    made = Bed(tmp_path, own)
    made.start_server(env=FAST)
    yield made
    made.close()


def submit(bed: Bed, method: str, options: dict[str, Any] = PROCESS, **params: Any) -> str:
    job = {"handler_id": "chaos", "job_method": method, "job_params": params, "options": options}
    answer = bed.client.post("/api/executions", json=job)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["ids"][0])


def family(bed: Bed, **params: Any) -> tuple[str, list[int]]:
    """A job with a child and a grandchild, once they are there; its id, and theirs with that of its own process."""
    execution_id = submit(bed, "family", **params)
    told = eventually_sync(lambda: bed.execution(execution_id)["progress"], within_s=20)
    pids = [int(pid) for pid in told["text"].split()]
    [own] = {line.pid for line in bed.ledger() if line.execution_id == execution_id}
    return execution_id, [own, *pids]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found[1:]


def test_crashes_and_hogs_leave_the_node_its_other_jobs_its_heartbeat_and_its_outbox(bed: Bed) -> None:
    node = bed.start_node(slots=6)
    beside = bed.submit(1, "sleep", seconds=4)[0]
    hog = submit(bed, "hog", seconds=60)
    spinner = submit(bed, "spin", {**PROCESS, "cpu_s": 1}, seconds=60)
    segfault, left, oom = (
        submit(bed, "segfault"),
        submit(bed, "exit", code=7),
        submit(bed, "oom", {"memory_mb": 120}, mib=400, hold_s=60),
    )

    errors = {id_: bed.execution(id_, wait_s=30)["error"] for id_ in (segfault, left, oom, spinner)}

    assert {id_: error["type"] for id_, error in errors.items()} == {
        segfault: "WorkerDied",
        left: "WorkerDied",
        oom: "MemoryLimitExceeded",
        spinner: "CpuLimitExceeded",
    }
    assert "SIGSEGV" in errors[segfault]["message"]
    assert "exit code 7" in errors[left]["message"]
    assert bed.execution(beside, wait_s=30)["result"] == "slept"
    # With a lease of 2 s, the node has never been suspected meanwhile.
    assert bed.node_state("n1") == "online"
    assert node.output().count("server_connected") == 1
    assert "lease_over" not in node.output()
    assert bed.execution(hog)["status"] == "running"
    bed.client.post(f"/api/executions/{hog}/cancel")
    assert bed.execution(hog, wait_s=30)["status"] == "cancelled"
    for id_ in (oom, spinner):
        record = bed.execution(id_)
        assert record["peak_rss_bytes"] > 5 << 20
        assert record["attempts"][-1]["cpu_ms"] > 0
    assert bed.execution(beside)["peak_rss_bytes"] is None


def test_each_attempt_shows_what_it_used(bed: Bed) -> None:
    bed.start_node()
    options = {"cpu_s": 0.3, "max_attempts": 2, "retry_delay_s": 0.1}
    execution_id = submit(bed, "spin", options, seconds=60)

    record = bed.execution(execution_id, wait_s=30)

    assert record["status"] == "failed"
    assert len(record["attempts"]) == 2
    for attempt in record["attempts"]:
        assert attempt["cpu_ms"] > 300
        assert attempt["peak_rss_bytes"] > 5 << 20
    assert record["options"]["isolation"] == "process"
    assert record["options"]["sources"]["isolation"] == "submission"


def test_a_node_that_is_killed_leaves_no_process(bed: Bed) -> None:
    node = bed.start_node()
    _, pids = family(bed)
    guard = set(descendants(node.pid)) - set(pids)

    node.kill()

    eventually_sync(lambda: not any(map(alive, [*pids, *guard])), within_s=5)


def test_a_drain_hands_isolated_jobs_back_and_leaves_no_process(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDULE_ZERO_DRAIN_S", "0.1")
    node = bed.start_node()
    execution_id, pids = family(bed)
    pids = [*pids, *descendants(node.pid)]
    bed.start_node("n2")

    assert node.terminate() == 0

    eventually_sync(lambda: not any(map(alive, pids)), within_s=5)
    eventually_sync(lambda: bed.execution(execution_id)["node_id"] == "n2", within_s=20)
    first, _ = bed.execution(execution_id)["attempts"]
    assert first["outcome"] == "handed_back"
    assert first["peak_rss_bytes"] > 5 << 20


def test_a_node_that_is_stopped_at_once_leaves_no_process(bed: Bed) -> None:
    node = bed.start_node()
    _, pids = family(bed)
    pids = [*pids, *descendants(node.pid)]
    node.signal(signal.SIGTERM)
    eventually_sync(lambda: "node_draining" in node.output())
    node.signal(signal.SIGTERM)

    node.popen.wait(10)

    eventually_sync(lambda: not any(map(alive, pids)), within_s=5)


def test_a_node_without_its_server_ends_isolated_jobs_with_its_lease(bed: Bed) -> None:
    node = bed.start_node()
    execution_id, pids = family(bed)
    os.kill(bed.server.pid, signal.SIGSTOP)
    try:
        eventually_sync(lambda: "lease_over" in node.output(), within_s=10)
        eventually_sync(lambda: not any(map(alive, pids)), within_s=3)
    finally:
        os.kill(bed.server.pid, signal.SIGCONT)
    # It is run again, as what was lost is.
    eventually_sync(lambda: bed.execution(execution_id)["attempts"][1:], within_s=20)


def test_a_cancel_ends_a_job_and_what_it_has_started(bed: Bed) -> None:
    bed.start_node()
    execution_id, pids = family(bed, own_session=True)

    answer = bed.client.post(f"/api/executions/{execution_id}/cancel")

    assert answer.json()["outcome"] == "requested"
    assert bed.execution(execution_id, wait_s=20)["status"] == "cancelled"
    eventually_sync(lambda: not any(map(alive, pids[1:])), within_s=5)


def test_a_timeout_kills_a_job_that_hangs_and_its_slot_is_free(bed: Bed) -> None:
    bed.start_node(slots=1)
    hang = submit(bed, "hang", {**PROCESS, "timeout_s": 0.5}, seconds=60)
    record = bed.execution(hang, wait_s=20)
    assert (record["status"], record["error"]["type"]) == ("timeout", "Timeout")
    assert bed.execution(submit(bed, "ok", {}), wait_s=20)["status"] == "completed"
