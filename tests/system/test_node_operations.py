"""Real processes taken out of service: what ignores a deadline, a server that restarts, a node that is sick."""

from __future__ import annotations

from pathlib import Path

from tests.support import eventually_sync
from tests.system.bed import FAST, Bed


def operate(bed: Bed, operation: str, node_id: str = "n1", **body: object) -> dict:
    answer = bed.client.post(f"/api/nodes/{node_id}/{operation}", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def node(bed: Bed, node_id: str = "n1") -> dict:
    return dict(bed.client.get(f"/api/nodes/{node_id}").json())


def test_at_the_deadline_of_a_drain_a_job_that_ignores_it_is_handed_back_and_runs_elsewhere(bed: Bed) -> None:
    bed.start_server()
    process = bed.start_node("n1", slots=1)
    [running, waiting] = bed.submit(2, "hang", seconds=3600)
    eventually_sync(lambda: len(bed.starts()) == 1)

    drained = operate(bed, "drain", deadline_s=1.0, note="new disk")

    assert (drained["operation"]["kind"], drained["operation"]["note"]) == ("drain", "new disk")
    eventually_sync(lambda: node(bed)["running"] == 0)
    bed.start_node("n2", slots=2)
    eventually_sync(lambda: len(bed.starts()) == 2)
    for execution_id in (running, waiting):
        again = bed.execution(execution_id)
        assert (again["status"], again["node_id"], again["attempt"]) == ("running", "n2", 1)
    # It is drained and alive, and stays so.
    assert process.alive()
    assert (node(bed)["state"], node(bed)["operation"]["kind"]) == ("online", "drain")
    # Its method still holds the one slot; the record of the attempt says so.
    assert "job_does_not_stop" in process.output()
    process.kill()
    bed.start_node("n1", slots=1)
    [ok] = bed.submit(1, "ok")
    operate(bed, "cordon", "n2")
    operate(bed, "release")
    assert bed.execution(ok, wait_s=20)["status"] == "completed"


def test_a_drains_deadline_survives_a_server_that_is_killed(bed: Bed) -> None:
    # The default lease: the outage is shorter.
    bed.start_server(env={})
    bed.start_node("n1", slots=1)
    [execution_id] = bed.submit(1, "sleep", seconds=3600)
    eventually_sync(lambda: bed.starts()[execution_id] == 1)
    until = operate(bed, "drain", deadline_s=8.0)["operation"]["until"]

    bed.server.kill()
    bed.restart_server()

    assert node(bed)["operation"]["until"] == until
    # An async or watchful job stops when it is asked to: it is handed back, and waits, as no node takes work.
    eventually_sync(lambda: bed.execution(execution_id)["status"] == "pending", within_s=30)
    assert bed.execution(execution_id)["attempt"] == 0
    assert node(bed)["running"] == 0


def test_a_node_where_all_fails_is_quarantined_and_released_once_it_does_well(bed: Bed, tmp_path: Path) -> None:
    env = {
        **FAST,
        "SCHEDULE_ZERO_DISPATCH__QUARANTINE_FAILURES": "5",
        "SCHEDULE_ZERO_DISPATCH__QUARANTINE_S": "1",
    }
    bed.start_server(env=env)
    bed.start_node("well", slots=1)
    [ok] = bed.submit(1, "ok")
    assert bed.execution(ok, wait_s=20)["status"] == "completed"
    # Its ledger can't be written: every job fails there, as with a full disk.
    ledger, bed.ledger_file = bed.ledger_file, tmp_path / "nowhere" / "ledger.jsonl"
    sick = bed.start_node("sick", slots=4)
    bed.ledger_file = ledger

    bed.submit(400, "ok")

    seen = eventually_sync(lambda: node(bed, "sick")["operation"], within_s=30)
    assert seen["kind"] == "quarantine"
    assert "chaos.ok" in seen["note"] or "on probation" in seen["note"]
    assert seen["by"] is None
    assert "node_quarantined" in bed.server.output()
    eventually_sync(lambda: bed.states()["pending"] + bed.states()["running"] == 0, within_s=30)
    failed = bed.states()["failed"]
    assert 5 <= failed < 200
    # Repaired and started again, it proves itself with one job.
    sick.kill()
    bed.start_node("sick", slots=4)

    def released() -> bool:
        bed.submit(4, "ok")
        return node(bed, "sick")["operation"] is None

    eventually_sync(released, within_s=30, every_s=0.2)
