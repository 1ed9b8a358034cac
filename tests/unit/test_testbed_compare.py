from __future__ import annotations

import msgspec
import pytest

from schedule_zero.errors import BadRequest
from schedule_zero.testbed.compare import THRESHOLDS, Threshold, Trend, compare, names, threshold_of, trend
from schedule_zero.testbed.record import Outcome
from schedule_zero.testbed.scenario import Measure
from tests.unit.testbed_reports import figures, run, scenario


def row(found, name):
    return next(row for row in found.rows if row.figure == name)


def test_a_report_is_like_itself():
    report = run(scenario(), scenario("failover", Outcome.SKIPPED))
    found = compare(report, report)
    assert found.ok
    assert found.rows
    assert {row.trend for row in found.rows} == {Trend.ALIKE}
    assert found.notes == []


@pytest.mark.parametrize(
    ("old", "new", "threshold", "expected"),
    [
        (1.0, 2.0, Threshold(2.0), Trend.ALIKE),
        (1.0, 2.01, Threshold(2.0), Trend.WORSE),
        (2.01, 1.0, Threshold(2.0), Trend.BETTER),
        (0.001, 0.09, Threshold(2.0, 0.1), Trend.ALIKE),
        (0.001, 0.2, Threshold(2.0, 0.1), Trend.WORSE),
        (0.0, 0.0, Threshold(2.0), Trend.ALIKE),
        (0.0, 0.1, Threshold(2.0), Trend.WORSE),
        (100.0, 71.0, Threshold(0.7), Trend.ALIKE),
        (100.0, 69.0, Threshold(0.7), Trend.WORSE),
        (69.0, 100.0, Threshold(0.7), Trend.BETTER),
        (2.0, 1.2, Threshold(0.7, 1.0), Trend.ALIKE),
        (10.0, 100.0, THRESHOLDS["smallest_interval_ms"], Trend.WORSE),
        (10.0, 10.0, THRESHOLDS["smallest_interval_ms"], Trend.ALIKE),
        (10.0, None, Threshold(2.0), Trend.WORSE),
        (None, 10.0, Threshold(2.0), Trend.BETTER),
        (None, None, Threshold(2.0), Trend.ALIKE),
    ],
)
def test_a_figure_is_worse_beyond_its_factor_and_its_slack(old, new, threshold, expected):
    assert trend(old, new, threshold) is expected


def test_a_figure_that_became_worse_ends_the_gate():
    found = compare(run(scenario()), run(scenario(figures=figures(lateness_p99_s=0.5))))
    assert not found.ok
    assert [row.figure for row in found.worse] == ["lateness_p99_s"]
    worse = row(found, "lateness_p99_s")
    assert (worse.old, worse.new, worse.limit) == (0.166, 0.5, 0.332)


def test_a_threshold_by_hand_holds_for_all_scenarios_or_for_one():
    old = run(scenario("a"), scenario("b"))
    new = run(*(scenario(name, figures=figures(lateness_p99_s=0.5)) for name in "ab"))
    assert compare(old, new, {"lateness_p99_s": Threshold(4.0)}).ok
    found = compare(old, new, {"a.lateness_p99_s": Threshold(4.0)})
    assert [row.scenario for row in found.worse] == ["b"]


def test_a_measure_is_compared_once_it_has_a_threshold():
    old, new = (run(scenario(measures=[Measure("jobs_per_s", "", value)])) for value in (100.0, 10.0))
    assert compare(old, new).ok
    known = names(old, new)
    assert not compare(old, new, {"jobs_per_s": threshold_of("jobs_per_s", 0.5, known)}).ok
    assert compare(old, new, {"jobs_per_s": threshold_of("jobs_per_s", 1.5, known)}).ok


@pytest.mark.parametrize(
    ("old", "new", "bad"),
    [
        (Outcome.KEPT, Outcome.KEPT, False),
        (Outcome.KEPT, Outcome.BROKEN, True),
        (Outcome.KEPT, Outcome.FAILED, True),
        (Outcome.KEPT, Outcome.SKIPPED, True),
        (Outcome.SKIPPED, Outcome.SKIPPED, False),
        (Outcome.BROKEN, Outcome.KEPT, False),
        # Broken before: broken nevertheless.
        (Outcome.BROKEN, Outcome.BROKEN, True),
    ],
)
def test_what_is_broken_now_or_nobody_knows_any_more_ends_the_gate(old, new, bad):
    assert compare(run(scenario(outcome=old)), run(scenario(outcome=new))).ok is not bad


def test_a_scenario_that_is_gone_ends_the_gate_and_a_new_one_does_not():
    assert not compare(run(scenario("a"), scenario("b")), run(scenario("a"))).ok
    assert compare(run(scenario("a")), run(scenario("a"), scenario("b"))).ok


def test_breaches_and_an_early_end_of_the_new_run_end_the_gate():
    kept = run(scenario())
    found = compare(kept, run(scenario(), breaches={"C1 missed": 2}, promises_ok=False))
    assert found.broken == ["the checker found C1 missed × 2"]
    assert compare(run(scenario(), breaches={"C1 missed": 2}, promises_ok=False), kept).ok
    assert not compare(kept, run(scenario(), interrupted=True)).ok


def test_what_makes_figures_hard_to_compare_is_told():
    other = msgspec.structs.replace(run(scenario(params={"a": 2})), quick=True, nodes=5)
    notes = compare(run(scenario(params={"a": 1})), other).notes
    assert "quick: False then, True now" in notes
    assert "nodes: 3 then, 5 now" in notes
    assert any("other parameters" in note for note in notes)


def test_an_unknown_figure_and_a_factor_of_the_wrong_side_are_refused():
    known = names(run(scenario()))
    with pytest.raises(BadRequest, match="did you mean lateness_p99_s"):
        threshold_of("latness_p99_s", 2.0, known)
    with pytest.raises(BadRequest, match="at least 1"):
        threshold_of("churn.lateness_p99_s", 0.5, known)
    with pytest.raises(BadRequest, match="below 1"):
        threshold_of("executions_per_s", 1.5, known)
    with pytest.raises(BadRequest, match=r"no figure 'storm\.lateness_p99_s'"):
        threshold_of("storm.lateness_p99_s", 2.0, known)
