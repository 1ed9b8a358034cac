"""Ours beside a bare APScheduler: what the run stands or falls by, and what a report says of both."""

from __future__ import annotations

import asyncio
from xml.etree import ElementTree as ET

import pytest

from schedule_zero.reports.compare import compare
from schedule_zero.reports.record import Finding, Held, Measure, Outcome, Verdict
from schedule_zero.testbed.answers import answers
from schedule_zero.testbed.bare.bare import Bare
from schedule_zero.testbed.bare.order import Order
from schedule_zero.testbed.catalogue import params_of
from schedule_zero.testbed.junit import junit
from schedule_zero.testbed.pages import page, verdict
from schedule_zero.testbed.runner import Limits, Planned, Watcher, judged, run_on
from schedule_zero.testbed.scenario import Seen
from schedule_zero.testbed.session import Plan, Session, subjects
from tests.unit import testbed_fakes as fakes
from tests.unit.testbed_reports import HOSTILE, run, scenario

BARE = "apscheduler (memory)"
ENDED = "the scheduler ended: KeyError: 'churn.37'"


def bare(outcome=Outcome.FAILED, **said):
    return scenario("churn", outcome, subject=BARE, why=ENDED if outcome is Outcome.FAILED else "", **said)


def finding(verdict=Verdict.CONFIRMED, seen="2 jobs for 1 fire time"):
    return Finding("a_crash_fires_twice", verdict, "1 job", seen, "/there/a_crash_fires_twice.py", 2.5)


def test_a_run_of_both_stands_or_falls_by_ours():
    assert run(scenario(), bare(), findings=[finding()]).ok
    assert not run(scenario(outcome=Outcome.BROKEN), bare(Outcome.KEPT)).ok


def test_a_run_of_a_bare_scheduler_alone_falls_by_what_broke_there():
    assert run(bare(Outcome.KEPT), findings=[finding(Verdict.REFUTED)]).ok
    assert not run(bare()).ok
    assert not run(bare(Outcome.KEPT), findings=[finding()]).ok


def test_the_sentence_says_ours_first_and_what_is_beside_it():
    both = run(scenario(), bare(), bare(Outcome.SKIPPED), findings=[finding(), finding(Verdict.REFUTED)])
    said = verdict(both)
    assert said == (
        "Everything held in 1 of 1 scenarios, and the checker found no promise broken."
        " Of a bare APScheduler 1 of 1 did not hold. Of 2 findings about APScheduler 1 are confirmed."
    )
    assert verdict(run(bare(), promises_ok=None)) == "1 of 1 scenarios did not hold: churn."


def test_the_page_shows_both_side_by_side_with_the_findings():
    found = page(run(scenario(), bare(), findings=[finding(seen=HOSTILE)]))
    table = found[: found.index("Six questions")] if "Six questions" in found else found
    head, row = table.index("<th>schedulezero</th>"), table.index(f"<th>{BARE}</th>")
    assert head < row < table.index(ENDED.replace("'", "&#x27;"))
    assert "Findings about APScheduler" in found
    assert "a crash fires twice" in found
    assert "/there/a_crash_fires_twice.py" in found
    assert "<script" not in found


def test_a_finding_is_a_case_with_how_to_reproduce_it():
    root = ET.fromstring(junit(run(scenario(), bare(), findings=[finding(), finding(Verdict.REFUTED)])))
    names = [suite.get("name") for suite in root]
    assert names == ["schedulezero", BARE, "checker", "findings about apscheduler"]
    suite = root[3]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    failure = suite.find("testcase/failure")
    assert failure.get("message") == "2 jobs for 1 fire time"
    assert "reproduced by: /there/a_crash_fires_twice.py" in failure.text


def test_the_questions_are_answered_for_each():
    said = {(one.subject, one.question): one.answer for one in answers(run(scenario(), bare()))}
    assert ENDED in said[BARE, "What breaks?"]
    assert "server and nodes" in said["schedulezero", "What does it need of memory under stress?"]
    assert "the scheduler's process" in said[BARE, "What does it need of memory under stress?"]


def test_a_ramp_that_kept_no_rate_says_so():
    ramp = scenario("concurrency_ramp", Outcome.BROKEN, subject=BARE, measures=[Measure("bent_per_s", "…", 20.0)])
    said = {one.question: one.answer for one in answers(run(ramp))}
    assert said["How much can run at once before it gets late?"] == (
        "not even the lowest rate that was tried was kept: 20 per second"
    )


def test_where_no_interval_was_kept_that_is_the_answer():
    said = {one.question: one.answer for one in answers(run(scenario("temporal_resolution", subject=BARE)))}
    assert said["What is the smallest interval that is kept?"] == "none of those that were tried"


def test_two_runs_of_both_are_compared_by_ours():
    both = run(scenario(), bare())
    assert compare(both, both).ok
    assert compare(run(scenario(), bare(Outcome.KEPT)), both).ok
    assert not compare(run(bare(Outcome.KEPT)), run(bare())).ok


@pytest.mark.parametrize(
    ("oks", "ours", "theirs"),
    [
        ([True, True], Outcome.KEPT, Outcome.KEPT),
        ([True, None], Outcome.BROKEN, Outcome.KEPT),
        ([True, None, False], Outcome.BROKEN, Outcome.BROKEN),
        ([None, None], Outcome.BROKEN, Outcome.BROKEN),
    ],
)
def test_what_could_not_be_judged_breaks_ours_and_not_one_that_keeps_no_ledger(oks, ours, theirs):
    held = {str(number): Held(str(number), "", ok) for number, ok in enumerate(oks)}
    seen = Seen(runs=[], fires={}, executions={}, left=[], held=held)
    assert (judged(seen, strict=True), judged(seen, strict=False)) == (ours, theirs)


def test_the_subjects_are_ours_and_then_the_stores_that_are_there():
    names, notes = subjects(Plan(scenarios=[], subject="both", postgresql=None))
    assert names == ["schedulezero", BARE, "apscheduler (sqlite)"]
    assert len(notes) == 1
    assert subjects(Plan(scenarios=[], subject="schedulezero")) == (["schedulezero"], [])


def test_what_asks_for_more_than_a_bare_scheduler_has_is_skipped_there(tmp_path):
    planned = Planned(fakes.Fine, params_of(fakes.Fine, {}, quick=True))
    plan = Plan(scenarios=[planned], subject="apscheduler", findings=False)
    report = asyncio.run(Session(plan, tmp_path, Watcher()).run())
    assert {(one.outcome, one.why) for one in report.scenarios} == {
        (Outcome.SKIPPED, "it asks for what a bare APScheduler does not have")
    }
    assert [one.subject for one in report.scenarios] == [BARE, "apscheduler (sqlite)"]
    assert "apscheduler (postgresql) was left out" in report.notes[0]


class Waits(fakes.Fine):
    """Does its scheduler live?"""

    handler_id = "waits"

    @classmethod
    async def drive(cls, ground):
        ground.client._client._scheduler.data_store.acquire_schedules = _raises
        await ground.client.schedule("churn", "tick", trigger={"type": "date", "run_date": 1}, id="s")
        await asyncio.Event().wait()


async def _raises(*_):
    raise ValueError("no idea when\nand more")


def test_a_scheduler_that_ends_by_itself_is_what_became_of_the_scenario(tmp_path):
    order = Order(subject=BARE, store="memory", scenario="", params={}, seed=1, speedup=1.0, limits=Limits())

    async def play():
        installation = Bare(tmp_path, order)
        try:
            await installation.start()
            planned = Planned(Waits, params_of(Waits, {}, quick=True))
            return await run_on(installation, [planned], seed=1, limits=Limits(), watcher=Watcher())
        finally:
            await installation.close()

    [report] = asyncio.run(play())
    assert (report.outcome, report.subject) == (Outcome.FAILED, BARE)
    assert report.why == "the scheduler ended: ValueError: no idea when"
    assert report.seconds < 10
