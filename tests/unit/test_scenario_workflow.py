"""The verdicts of ``workflow``: nothing of a clean diamond, and each invariant named where it is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs
from schedule_zero.handlers.testbed.workflow import Workflow

from schedule_zero.testbed.graph import violated
from schedule_zero.testbed.scenario import Seen
from tests.unit.scenario_bed import broken, execution, run, seen_of

STEPS = {"d.a": [], "d.b": ["d.a"], "d.c": ["d.a"], "d.d": ["d.b", "d.c"]}
WAYS = {"d.a": 1, "d.b": 1, "d.c": 1, "d.d": 2}
BEGAN_S = {"d.a": 0.0, "d.b": 2.0, "d.c": 2.1, "d.d": 4.0}


def clean() -> Seen:
    """One diamond; each step takes a second."""
    runs = [run(f"x-{name}", f"workflow.step:{name}", at_s, at_s + 1) for name, at_s in BEGAN_S.items()]
    executions = [
        execution(f"x-{name}", "workflow.step", result={"step": name, "ways": ways}) for name, ways in WAYS.items()
    ]
    kept = {"steps": dict(STEPS), "ids": {name: [f"x-{name}"] for name in STEPS}}
    return seen_of(Workflow, runs=runs, executions=executions, kept=kept)


def change(seen: Seen, at: int, **fields: object) -> None:
    seen.runs[at] = structs.replace(seen.runs[at], **fields)


def cut_short(seen: Seen) -> None:
    change(seen, 3, outcome="error")


def ran_twice(seen: Seen) -> None:
    seen.runs.append(run("x-d.b", "workflow.step:d.b", 5, 6, token=2, attempt=2))


def stored_twice(seen: Seen) -> None:
    seen.kept["ids"]["d.c"].append("y-d.c")


def before_its_time(seen: Seen) -> None:
    change(seen, 3, start_ns=3_050_000_000)


def before_what_never_ended(seen: Seen) -> None:
    change(seen, 2, end_ns=None)


def wrong_input(seen: Seen) -> None:
    seen.executions["x-d.d"] = structs.replace(seen.executions["x-d.d"], result={"step": "d.d", "ways": 1})


def gone(seen: Seen) -> None:
    del seen.executions["x-d.b"]


def foreign_execution(seen: Seen) -> None:
    seen.executions["z"] = execution("z", "workflow.step")


def foreign_run(seen: Seen) -> None:
    seen.runs.append(run("x-d.b", "workflow.step:d.e", 5, 6))


@pytest.mark.parametrize(
    ("tamper", "name"),
    [
        (cut_short, "complete"),
        (ran_twice, "each_once"),
        (stored_twice, "each_once"),
        (before_its_time, "in_order"),
        (before_what_never_ended, "in_order"),
        (wrong_input, "results_passed_on"),
        (gone, "results_passed_on"),
        (foreign_execution, "nothing_else"),
        (foreign_run, "nothing_else"),
    ],
)
def test_what_is_broken_is_named(tamper: Callable[[Seen], None], name: str) -> None:
    seen = clean()
    tamper(seen)
    assert broken(Workflow, seen) == {name}


def test_a_clean_diamond_holds() -> None:
    seen = clean()
    assert broken(Workflow, seen) == set()
    assert seen.measures["step_gap_p50_ms"] == pytest.approx(1000)
    assert seen.measures["span_s"] == pytest.approx(5)


def test_the_steps_are_drawn_as_they_ran_and_what_began_too_early_is_marked() -> None:
    seen = clean()
    broken(Workflow, seen)
    (graph,) = seen.graphs
    assert [(step.name, step.start_s, step.end_s) for step in graph.steps] == [
        (name, pytest.approx(at_s), pytest.approx(at_s + 1)) for name, at_s in BEGAN_S.items()
    ]
    assert graph.edges == [("d.a", "d.b"), ("d.a", "d.c"), ("d.b", "d.d"), ("d.c", "d.d")]
    assert violated(graph) == []
    seen = clean()
    before_its_time(seen)
    broken(Workflow, seen)
    assert violated(seen.graphs[0]) == [("d.c", "d.d")]
