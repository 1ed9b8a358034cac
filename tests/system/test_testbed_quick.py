"""Every scenario, on real processes, with its small parameters: the same as ``schedule-zero-testbed run --quick``."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from schedule_zero.reports import record
from schedule_zero.reports.record import Outcome
from schedule_zero.testbed.catalogue import scenarios
from tests.system.processes import BIN, Process

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("testbed_quick"), pytest.mark.timeout(400)]
# It takes under three minutes (two, on two cores, beside other tests); on a busy machine no verdict is worth less.
WITHIN_S = 360


def test_every_scenario_keeps_all_its_invariants_and_the_checker_finds_no_promise_broken(tmp_path, own):
    out = tmp_path / "out"
    testbed = own(
        Process([str(BIN / "schedule-zero-testbed"), "run", "--quick", "--out", str(out)], tmp_path / "testbed.log")
    )
    code = testbed.popen.wait(WITHIN_S)
    report = record.read(out)
    assert {one.scenario: (one.outcome, one.why) for one in report.scenarios} == dict.fromkeys(
        scenarios(), (Outcome.KEPT, "")
    )
    assert (report.breaches, report.violations, report.promises_ok) == ({}, [], True)
    assert code == 0
    # The six questions have answers with figures.
    assert len(report.answers) == 6
    assert all(any(letter.isdigit() for letter in answer.answer) for answer in report.answers[:5])
    # Every plot that was asked for is there: of intervals, lateness with the faults, throughput, memory, nodes, steps.
    page = (out / "report.html").read_text()
    assert page.count("<svg") >= 3 * len(report.scenarios)
    assert 'class="fault"' in page
    drawn = {one.scenario for one in report.scenarios for graph in one.graphs if graph.edges}
    assert drawn == {"cascade", "feedback_loop", "map_reduce", "workflow"}
    assert 'class="step ok"' in page
    assert len(ET.parse(out / "junit.xml").getroot().findall(".//testcase")) == len(report.scenarios) + 1
