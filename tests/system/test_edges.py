"""Edges with real processes: retries used up while the server is away, a registry read again while jobs run."""

from __future__ import annotations

import signal
import time

import pytest

from schedule_zero.clock import EPOCH
from tests.support import eventually_sync
from tests.system.bed import Bed

pytestmark = pytest.mark.slow


def submit(bed: Bed, count: int, method: str, params: dict, **options) -> list[str]:
    item = {"handler_id": "chaos", "job_method": method, "job_params": params, "options": options}
    answer = bed.client.post("/api/executions", json={"executions": [item] * count})
    assert answer.status_code == 202, answer.text
    return list(answer.json()["ids"])


def test_the_last_attempt_that_fails_while_the_server_is_away_ends_it_once_the_server_is_back(bed: Bed) -> None:
    bed.start_server(env={})
    bed.start_node()
    # Longer than its timeout, so it fails while nobody hears of it.
    [id_] = submit(bed, 1, "sleep", {"seconds": 1.6}, max_attempts=2, retry_delay_s=0.0, timeout_s=0.8)
    eventually_sync(lambda: bed.starts()[id_] == 2, within_s=20)
    bed.server.kill()
    outbox = bed.folder / "nodes" / "nodes" / "n1" / "outbox"
    eventually_sync(lambda: id_.encode() in outbox.read_bytes(), within_s=20)

    bed.restart_server()

    done = bed.execution(id_, wait_s=20)
    assert (done["status"], done["attempt"]) == ("timeout", 2)
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["timeout", "timeout"]
    # Nothing of it is left, on either side; it is one dead letter.
    eventually_sync(lambda: outbox.stat().st_size == 0, within_s=20)
    assert [group["count"] for group in bed.client.get("/api/dead-letters").json()["groups"]] == [1]
    [ok] = bed.submit(1, "ok")
    assert bed.execution(ok, wait_s=20)["status"] == "completed"
    assert bed.starts()[id_] == 2


def test_a_retry_that_becomes_due_while_the_server_is_away_runs_once_when_it_is_back(bed: Bed) -> None:
    bed.start_server(env={})
    bed.start_node()
    [id_] = submit(bed, 1, "error", {}, max_attempts=2, retry_delay_s=2.5)
    eventually_sync(lambda: bed.execution(id_)["status"] == "retry_scheduled", within_s=20)
    due_s = EPOCH.fromisoformat(bed.execution(id_)["not_before"]).timestamp()
    bed.server.kill()
    away_s = time.time()
    eventually_sync(lambda: time.time() > due_s, within_s=5)
    bed.restart_server()

    assert away_s < due_s, "too slow a machine: it was due before the server was away"
    done = bed.execution(id_, wait_s=20)

    assert (done["status"], done["attempt"]) == ("failed", 2)
    assert bed.starts()[id_] == 2


def test_a_sighup_changes_limits_up_and_down_while_jobs_run_and_a_broken_file_changes_nothing(bed: Bed) -> None:
    registry = bed.folder / "limits.yaml"

    def declare(text: str, said: str) -> None:
        before = bed.server.output().count(said)
        registry.write_text(text)
        bed.server.signal(signal.SIGHUP)
        eventually_sync(lambda: bed.server.output().count(said) > before, within_s=20)

    def running() -> int:
        return bed.states()["running"]

    registry.write_text("chaos:\n  limits: {max_running: 1}\n")
    bed.start_server(env={"SCHEDULE_ZERO_HANDLER_REGISTRY": str(registry)})
    bed.start_node(slots=8)
    ids = bed.submit(6, "sleep", seconds=60)
    eventually_sync(lambda: running() == 1, within_s=20)

    declare("chaos:\n  limits: {max_running: 4}\n", "registry_reloaded")
    eventually_sync(lambda: running() == 4, within_s=20)
    declare("chaos:\n  limits: {max_running: lots}\n", "registry_not_reloaded")
    assert (running(), bed.server.alive()) == (4, True)

    # Down: what runs goes on, and counts; a place that becomes free is not taken until fewer run than may.
    declare("chaos:\n  limits: {max_running: 2}\n", "registry_reloaded")
    assert running() == 4
    # (They run as soon as their node has them; their bodies begin a little later.)
    eventually_sync(lambda: len(bed.starts()) == 4, within_s=20)
    began = list(bed.starts())
    for id_ in began[:2]:
        bed.client.post(f"/api/executions/{id_}/cancel")
        bed.execution(id_, wait_s=20)
    waiting = next(id_ for id_ in ids if id_ not in began)
    reason = bed.execution(waiting)["waiting_for"]
    assert (reason["reason"], reason["running"], reason["limit"]) == ("handler", 2, 2)
    assert running() == 2
    bed.client.post(f"/api/executions/{began[2]}/cancel")
    eventually_sync(lambda: len(bed.starts()) == 5, within_s=20)
    assert running() == 2

    bed.client.post("/api/executions/cancel", json={"handler_id": "chaos"})
    eventually_sync(lambda: bed.states().keys() <= {"cancelled", "completed"}, within_s=30)
    assert max(bed.starts().values()) == 1
