from __future__ import annotations

import msgspec
import pytest

from schedule_zero.errors import BadRequest
from schedule_zero.reports.compare import THRESHOLDS, Threshold, Trend, compare, names, threshold_of, trend
from schedule_zero.reports.compare import figures as figures_of
from schedule_zero.reports.record import Measure, Outcome
from schedule_zero.testbed.catalogue import scenarios
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
        (1.0, 100.0, THRESHOLDS["smallest_interval_ms"], Trend.ALIKE),
        (1.0, 1000.0, THRESHOLDS["smallest_interval_ms"], Trend.WORSE),
        (10.0, None, Threshold(2.0), Trend.WORSE),
        (None, 10.0, Threshold(2.0), Trend.BETTER),
        (None, None, Threshold(2.0), Trend.ALIKE),
    ],
)
def test_a_figure_is_worse_beyond_its_factor_and_its_slack(old, new, threshold, expected):
    assert trend(old, new, threshold) is expected


def test_a_figure_that_became_worse_ends_the_gate():
    found = compare(run(scenario()), run(scenario(figures=figures(lateness_p99_s=0.9))))
    assert not found.ok
    assert [row.figure for row in found.worse] == ["lateness_p99_s"]
    worse = row(found, "lateness_p99_s")
    assert (worse.old, worse.new, worse.limit) == (0.166, 0.9, pytest.approx(0.664))


def test_a_threshold_by_hand_holds_for_all_scenarios_or_for_one():
    old = run(scenario("a"), scenario("b"))
    new = run(*(scenario(name, figures=figures(lateness_p99_s=0.9)) for name in "ab"))
    assert compare(old, new, {"lateness_p99_s": Threshold(6.0)}).ok
    found = compare(old, new, {"a.lateness_p99_s": Threshold(6.0)})
    assert [row.scenario for row in found.worse] == ["b"]


def measured(name, value, worse, **said):
    return run(scenario(measures=[Measure(name, "", value, worse)], seconds=60.0, **said))


@pytest.mark.parametrize(
    ("name", "worse", "old", "new", "expected"),
    [
        ("jobs_per_s", "less", 100.0, 50.0, Trend.WORSE),
        ("jobs_per_s", "less", 100.0, 70.0, Trend.ALIKE),
        ("jobs_per_s", "less", 50.0, 100.0, Trend.BETTER),
        ("executed", "less", 100.0, 50.0, Trend.WORSE),
        ("spawn_p99_ms", "more", 20.0, 200.0, Trend.WORSE),
        ("spawn_p99_ms", "more", 20.0, 60.0, Trend.ALIKE),
        ("spawn_p99_ms", "more", 200.0, 20.0, Trend.BETTER),
        ("lateness_max_ms", "more", 20.0, 900.0, Trend.ALIKE),
        ("lateness_max_ms", "more", 500.0, 5000.0, Trend.WORSE),
        ("gap_s", "more", 1.0, 10.0, Trend.WORSE),
        ("growth_mib", "more", 0.1, 12.0, Trend.ALIKE),
        ("growth_mib", "more", 0.1, 120.0, Trend.WORSE),
        ("streak", "more", 2.0, 9.0, Trend.WORSE),
        ("gap_s", "more", 1.0, None, Trend.WORSE),
    ],
)
def test_a_measure_is_judged_by_the_direction_that_its_scenario_tells(name, worse, old, new, expected):
    found = compare(measured(name, old, worse), measured(name, new, worse))
    assert row(found, name).trend is expected
    assert found.ok is (expected is not Trend.WORSE)


def test_a_measure_without_a_direction_is_compared_once_it_has_a_threshold():
    old, new = (measured("jobs", value, None) for value in (100.0, 10.0))
    assert compare(old, new).ok
    known = names(old, new)
    assert not compare(old, new, {"jobs": threshold_of("jobs", 0.5, known)}).ok
    assert compare(old, new, {"jobs": threshold_of("jobs", 1.5, known)}).ok


def test_a_threshold_by_hand_keeps_the_slack_and_the_direction_of_its_measure():
    known = names(measured("wait_ms", 1.0, "more"))
    assert threshold_of("wait_ms", 1.5, known) == Threshold(1.5, 150.0)
    assert threshold_of("churn.wait_ms", 1.5, known) == Threshold(1.5, 150.0)
    with pytest.raises(BadRequest, match="at least 1"):
        threshold_of("wait_ms", 0.5, known)


@pytest.mark.parametrize("of", ["lateness_p50_s", "lateness_p99_s", "lateness_max_s"])
def test_ten_times_the_lateness_is_caught(of):
    old = figures(lateness_p50_s=0.005, lateness_p99_s=0.05, lateness_max_s=0.3)
    new = msgspec.structs.replace(old, **{of: 10 * getattr(old, of)})
    found = compare(run(scenario(figures=old)), run(scenario(figures=new)))
    assert [row.figure for row in found.worse] == [of]


def test_half_the_throughput_is_caught_unless_a_few_seconds_more_are_the_reason():
    half = figures(executions_per_s=98.7 / 2)
    assert [row.figure for row in compare(run(scenario()), run(scenario(figures=half))).worse] == ["executions_per_s"]
    # Of what took 2 s, 5 s more are noise.
    short, shorter = (run(scenario(seconds=2.0, figures=figures(executions_per_s=value))) for value in (10.0, 5.0))
    assert compare(short, shorter).ok
    assert not compare(short, run(scenario(seconds=2.0, figures=figures(executions_per_s=2.0)))).ok


def test_the_99th_of_a_few_is_judged_as_the_longest_one():
    few, many = ({"executions": count, "lateness_p50_s": 0.005} for count in (20, 2000))
    for said, expected in ((few, True), (many, False)):
        old, new = (
            run(scenario(figures=figures(**said, lateness_p99_s=late_s), measures=[Measure("p99_ms", "", 0.0)]))
            for late_s in (0.1, 0.9)
        )
        assert compare(old, new).ok is expected
    old, new = (measured("spawn_p99_ms", ms, "more", figures=figures(executions=20)) for ms in (9.0, 900.0))
    assert compare(old, new).ok


def test_slack_is_of_the_machine_where_the_clock_of_a_scenario_is_fast():
    def fast(late_s, latency_s=0.01):
        own = figures(executions=20, lateness_p50_s=late_s, latency_p50_s=latency_s)
        return run(scenario(speedup=1440.0, figures=own, measures=[Measure("late_max_s", "", late_s, "more")]))

    assert compare(fast(3.0), fast(25.0)).ok
    worse = compare(fast(30.0), fast(3000.0)).worse
    assert {row.figure for row in worse} == {"lateness_p50_s", "late_max_s"}
    # (Latencies are taken by the machine's clock.)
    assert [row.figure for row in compare(fast(3.0), fast(3.0, 1.0)).worse] == ["latency_p50_s"]


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


def test_only_the_scenarios_that_are_named_are_compared():
    old = run(scenario("a"), scenario("b"), scenario("c"))
    new = run(scenario("a"), scenario("c", Outcome.BROKEN), breaches={"C1 missed": 2}, promises_ok=False)
    found = compare(old, new, only=["a"])
    assert [turn.scenario for turn in found.turns] == ["a"]
    assert {row.scenario for row in found.rows} == {"a"}
    assert found.broken == ["the checker found C1 missed × 2"], "that is of the run as a whole"
    assert [turn.scenario for turn in compare(old, new, only=["c", "b"]).turns if turn.bad] == ["b", "c"]
    with pytest.raises(BadRequest, match="neither report has a scenario 'd'"):
        compare(old, new, only=["d"])


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


@pytest.mark.parametrize("one", scenarios().values(), ids=list(scenarios()))
def test_a_scenario_says_what_is_worse_of_measures_that_it_has_and_that_no_figure_hides(one):
    directed = [name for names in one.worse.values() for name in names]
    assert set(one.worse) <= {"more", "less"}
    assert set(directed) <= set(one.measures)
    assert len(directed) == len(set(directed))
    assert not set(one.measures) & ({*figures_of(scenario(measures=[]))} - {"smallest_interval_ms"})


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
