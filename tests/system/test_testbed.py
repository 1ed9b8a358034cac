"""``schedule-zero-testbed`` with real processes: a run to its end, one that is interrupted, one at another's server."""

from __future__ import annotations

import signal
from pathlib import Path
from xml.etree import ElementTree as ET

import psutil
import pytest

from schedule_zero.reports import record
from schedule_zero.reports.record import Outcome
from tests.support import eventually_sync
from tests.system.processes import BIN, Process

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("testbed")]

NAME = "temporal_resolution"
# One interval that any machine keeps.
SETTINGS = f"testbed: {{scenarios: {{{NAME}: {{intervals_ms: [500], seconds: 2.5}}}}}}"


class Testbed(Process):
    """``schedule-zero-testbed run`` of the one scenario."""

    __test__ = False

    def __init__(self, folder: Path, *args: str, env=None) -> None:
        (folder / "bed.yaml").write_text(SETTINGS)
        self.out = folder / "out"
        command = [str(BIN / "schedule-zero-testbed"), "run", NAME, "--quick", "--nodes", "2", "--out", str(self.out)]
        super().__init__([*command, "--config", str(folder / "bed.yaml"), *args], folder / "testbed.log", env)

    def report(self) -> record.RunReport:
        return record.read(self.out)


def left(folder: Path) -> list[int]:
    """Processes that have something to do with this folder."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in w for w in process.info["cmdline"] or ())
    ]


def test_a_run_ends_with_a_verdict_and_pages(tmp_path, own):
    # A shell's own settings are for other servers.
    testbed = own(Testbed(tmp_path, env={"SCHEDULE_ZERO_STORE__URL": "postgresql://nobody@127.0.0.1:1/none"}))
    assert testbed.popen.wait(90) == 0, testbed.output()
    assert "Everything held in 1 of 1 scenarios, and the checker found no promise broken." in testbed.output()
    assert "left out, for a run has settings of its own: SCHEDULE_ZERO_STORE__URL" in testbed.output()
    report = testbed.report()
    one = report.scenarios[0]
    assert (one.scenario, one.outcome, report.promises_ok, report.nodes) == (NAME, Outcome.KEPT, True, 2)
    assert one.figures.executions == sum(one.figures.by_node.values()) >= 4
    assert {process.target for process in one.figures.processes} == {"server", "node:n1", "node:n2"}
    assert report.promises["C1"] > 0
    assert ET.parse(testbed.out / "junit.xml").getroot().find(".//testcase").get("name") == NAME
    assert "<svg" in (testbed.out / "report.html").read_text()
    assert left(tmp_path) == []


def test_ctrl_c_ends_its_processes_and_writes_what_is_there(tmp_path, own):
    testbed = own(Testbed(tmp_path))
    eventually_sync(lambda: f"runs    {NAME}" in testbed.output(), within_s=60)
    testbed.signal(signal.SIGINT)
    assert testbed.popen.wait(30) == 130
    assert "interrupted: ending its processes, and writing the report of what there is" in testbed.output()
    report = testbed.report()
    assert report.interrupted
    assert [one.outcome for one in report.scenarios] == [Outcome.FAILED]
    assert left(tmp_path) == []


def test_ctrl_c_ends_the_process_of_a_bare_scheduler(tmp_path, own):
    testbed = own(Testbed(tmp_path, "--subject", "apscheduler"))
    eventually_sync(lambda: f"runs    {NAME}" in testbed.output(), within_s=60)
    eventually_sync(lambda: left(tmp_path / "out"), within_s=60)
    testbed.signal(signal.SIGINT)
    assert testbed.popen.wait(30) == 130
    report = testbed.report()
    assert [(one.subject, one.outcome) for one in report.scenarios][:2] == [
        ("apscheduler (memory)", Outcome.FAILED),
        ("apscheduler (sqlite)", Outcome.SKIPPED),
    ]
    assert left(tmp_path) == []


def test_killed_the_test_bed_takes_the_process_of_a_bare_scheduler_along(tmp_path, own):
    testbed = own(Testbed(tmp_path, "--subject", "apscheduler"))
    eventually_sync(lambda: list(tmp_path.rglob("ledger.jsonl")), within_s=60)
    testbed.kill()
    eventually_sync(lambda: not left(tmp_path), within_s=10)


def test_at_a_server_that_runs_already_its_nodes_come_and_go(tmp_path, own, bed):
    bed.start_server()
    token = (bed.server.state_dir / "admin.token").read_text().strip()
    testbed = own(Testbed(tmp_path, "--server", bed.server.addresses["http"], env={"SCHEDULE_ZERO_TOKEN": token}))
    assert testbed.popen.wait(90) == 0, testbed.output()
    report = testbed.report()
    assert set(report.scenarios[0].figures.by_node) <= {"testbed-n1", "testbed-n2"}
    assert report.promises_ok is None
    assert bed.server.alive()
    nodes = bed.client.get("/api/nodes").json()["nodes"]
    assert [node["id"] for node in nodes if node["state"] == "online"] == []
    assert bed.client.get("/api/schedules").json()["schedules"] == []
