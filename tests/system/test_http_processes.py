"""Real processes that speak HTTP: a node of ours killed and drained, the server killed in the middle, a bot of curl."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import eventually_sync
from tests.system.bed import CHAOS, FAST, Bed, Own
from tests.system.processes import BIN, Process

pytestmark = pytest.mark.slow


class HttpBed(Bed):
    """Its nodes reach the server over HTTP, with a worker's token from a file."""

    def token_file(self) -> Path:
        path = self.folder / "worker.token"
        if not path.exists():
            made = self.client.post("/api/tokens", json={"name": "worker", "role": "worker"}).json()
            path.write_text(made["token"] + "\n")
        return path

    def start_node(self, node_id: str = "n1", slots: int = 4, *, wait: bool = True) -> Process:
        node = Process(
            [
                str(BIN / "schedule-zero-handler"), CHAOS,
                "--transport", "http",
                "--server", self.server.addresses["http"],
                "--token-file", str(self.token_file()),
                "--node-id", node_id,
                "--slots", str(slots),
                "--state-dir", str(self.folder / "nodes"),
            ],
            self.folder / f"{node_id}.log",
            {"SCHEDULE_ZERO_CHAOS_LEDGER": str(self.ledger_file)},
        )  # fmt: skip
        self.note(node, f"node:{node_id}")
        if wait:
            self.wait_online(node_id)
        return node


@pytest.fixture
def bed(tmp_path: Path, own: Own) -> Iterator[HttpBed]:
    made = HttpBed(tmp_path, own)
    yield made
    made.close()


def all_completed(bed: HttpBed, count: int) -> bool:
    return bed.states() == {"completed": count}


def test_the_server_is_killed_in_the_middle_and_every_job_is_recorded_and_ran_once(bed: HttpBed):
    bed.start_server(env={})
    bed.start_node(slots=4)
    ids = bed.submit(40, "sleep", seconds=0.1)
    eventually_sync(lambda: len(bed.ledger()) > 20, within_s=20)

    bed.server.kill()
    bed.restart_server()

    eventually_sync(lambda: all_completed(bed, len(ids)), within_s=60)
    assert set(bed.starts().values()) == {1}
    bed.judge()


def test_results_of_an_outage_wait_on_disk_and_a_restarted_node_reports_them(bed: HttpBed):
    bed.start_server(env={})
    node = bed.start_node(slots=4)
    ids = bed.submit(4, "sleep", seconds=1)
    eventually_sync(lambda: len(bed.starts()) == 4, within_s=20)
    bed.server.kill()
    eventually_sync(lambda: bed.ends() == 4, within_s=20)
    outbox = bed.folder / "nodes" / "nodes" / "n1" / "outbox"
    # All four are on disk, not only over.
    eventually_sync(lambda: all(id_.encode() in outbox.read_bytes() for id_ in ids))
    node.kill()

    bed.restart_server()
    bed.start_node(slots=4)

    eventually_sync(lambda: all_completed(bed, len(ids)), within_s=60)
    assert set(bed.starts().values()) == {1}
    eventually_sync(lambda: outbox.stat().st_size == 0, within_s=20)
    bed.judge()


def test_a_killed_node_is_lost_and_its_jobs_run_on_another_after_the_lease(bed: HttpBed):
    bed.start_server(env=FAST)
    node = bed.start_node("n1")
    ids = bed.submit(2, "sleep", seconds=2)
    eventually_sync(lambda: len(bed.starts()) == 2, within_s=20)

    node.kill()
    bed.start_node("n2")

    eventually_sync(lambda: all_completed(bed, len(ids)), within_s=60)
    assert set(bed.starts().values()) == {2}
    assert {bed.execution(id_)["node_id"] for id_ in ids} == {"n2"}
    bed.judge()


def test_sigterm_ends_what_runs_hands_the_rest_back_and_signs_off(bed: HttpBed):
    bed.start_server(env={})
    node = bed.start_node("n1", slots=1)
    ids = bed.submit(3, "sleep", seconds=1)
    eventually_sync(lambda: len(bed.starts()) == 1, within_s=20)

    node.signal(signal.SIGTERM)

    assert node.popen.wait(20) == 0, node.output()[-2000:]
    assert bed.node_state("n1") == "offline"
    [ran] = bed.starts()
    assert bed.execution(ran)["status"] == "completed"
    bed.start_node("n2")
    eventually_sync(lambda: all_completed(bed, len(ids)), within_s=60)
    assert set(bed.starts().values()) == {1}
    assert {bed.execution(id_)["attempt"] for id_ in ids} == {1}
    bed.judge()


def test_a_node_without_a_token_says_how_to_get_one(bed: HttpBed, own: Own):
    command = [str(BIN / "schedule-zero-handler"), CHAOS, "--transport", "http", "--server", "https://example.org"]
    node = own(Process([*command, "--state-dir", str(bed.folder / "nodes")], bed.folder / "n.log"))

    assert node.popen.wait(20) == 2
    assert "token create NAME --role worker" in node.output()
