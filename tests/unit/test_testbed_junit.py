from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from schedule_zero.reports.record import Held, Outcome
from schedule_zero.testbed.junit import junit
from tests.unit.testbed_reports import HOSTILE, run, scenario


def test_a_suite_for_each_subject_and_a_case_for_each_scenario():
    held = [Held("once", "each ran once", False, 9, 2, ["job 1 ran twice"])]
    report = run(
        scenario("a"),
        scenario("b", Outcome.BROKEN, why="once: 2 of 9", held=held),
        scenario("c", Outcome.FAILED, why="it raised ValueError: x\nTraceback"),
        scenario("d", Outcome.SKIPPED, why="not here"),
        scenario("a", subject="apscheduler"),
    )
    root = ET.fromstring(junit(report))
    own, bare, checker = root
    assert [suite.get("name") for suite in root] == ["schedulezero", "apscheduler", "checker"]
    assert [own.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["4", "1", "1", "1"]
    assert [case.get("name") for case in own.iter("testcase")] == ["a", "b", "c", "d"]
    failure, error, skipped = own.find(".//failure"), own.find(".//error"), own.find(".//skipped")
    assert failure.get("message") == "once: 2 of 9"
    assert "job 1 ran twice" in failure.text
    assert error.get("message") == "it raised ValueError: x"
    assert "Traceback" in error.text
    assert skipped.get("message") == "not here"
    assert bare.get("tests") == "1"
    assert checker.find(".//failure") is None


def test_what_the_checker_found_is_a_failure_of_its_own():
    report = run(scenario("a"), promises_ok=False, breaches={"C1 missed": 2}, violations=["C1 missed: schedule x"])
    failure = ET.fromstring(junit(report)).find(".//testsuite[@name='checker']//failure")
    assert failure.get("message") == "2 breaches"
    assert "2 × C1 missed" in failure.text
    assert "schedule x" in failure.text


def test_a_run_that_was_not_judged_has_no_suite_of_the_checker():
    assert "checker" not in junit(run(scenario("a"), promises_ok=None))


@pytest.mark.parametrize("outcome", list(Outcome))
def test_hostile_text_stays_text(outcome):
    held = [Held(HOSTILE, HOSTILE, False, 1, 1, [HOSTILE])]
    text = junit(run(scenario(HOSTILE, outcome, why=HOSTILE, held=held, subject=HOSTILE), violations=[HOSTILE]))
    root = ET.fromstring(text.encode())
    assert not list(root.iter("script"))
    assert root.find(".//testcase").get("name").startswith("<script>alert('x')</script>")


def test_an_empty_report_is_a_document():
    assert ET.fromstring(junit(run(promises_ok=None))).tag == "testsuites"
