"""The verdicts of ``cascade``: nothing of a whole tree, and each invariant named where it is broken."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from msgspec import structs
from schedule_zero.handlers.testbed.cascade import Cascade

from schedule_zero.testbed.graph import violated
from schedule_zero.testbed.history import Run
from schedule_zero.testbed.scenario import Seen
from tests.unit.scenario_bed import broken, run, seen_of, us

TREE = {"r0": 0, "r1": 1, "r0.0": 2, "r0.1": 3, "r0.0.0": 4}


def began(path: str, at_s: float) -> Run:
    return run(path, "cascade.spawn", at_s, at_s + 0.01, schedule_id=f"cascade.{path}", nominal_s=at_s)


def clean() -> Seen:
    """Five jobs, one a second."""
    rule = {"began_us": us(0), "rate_per_s": 1.0, "max_depth": 2, "fertile": 0.5}
    runs = [began(path, slot + 0.1) for path, slot in TREE.items()]
    return seen_of(Cascade, runs=runs, kept={"tree": dict(TREE), "rule": rule})


def lost(seen: Seen) -> None:
    seen.runs.pop()


def twice(seen: Seen) -> None:
    seen.runs.append(began("r1", 6))


def uninvited(seen: Seen) -> None:
    seen.runs.append(began("r1.0", 6))


def before_its_parent(seen: Seen) -> None:
    first = seen.runs[0]
    seen.runs[0] = structs.replace(first, start_us=first.start_us + 2_500_000, start_ns=2_600_000_000)
    seen.runs.sort(key=lambda one: one.start_ns)


def too_fast(seen: Seen) -> None:
    seen.runs[4] = began("r0.0.0", 2.2)
    seen.runs[3] = began("r0.1", 2.15)


def left(seen: Seen) -> None:
    seen.left.append("cascade.r1")


@pytest.mark.parametrize(
    ("tamper", "name"),
    [
        (lost, "complete"),
        (twice, "nothing_else"),
        (uninvited, "nothing_else"),
        (before_its_parent, "no_orphan"),
        (too_fast, "rate_kept"),
        (left, "none_left"),
    ],
)
def test_what_is_broken_is_named(tamper: Callable[[Seen], None], name: str) -> None:
    seen = clean()
    tamper(seen)
    assert broken(Cascade, seen, max_depth=2) == {name}


def test_a_job_below_the_greatest_depth_is_named() -> None:
    seen = clean()
    seen.runs.append(began("r0.0.0.0", 6))
    # (It is no member of the tree, either.)
    assert broken(Cascade, seen, max_depth=2) == {"depth_kept", "nothing_else"}


def test_an_orphan_is_named() -> None:
    seen = clean()
    seen.runs = [one for one in seen.runs if one.schedule_id != "cascade.r0.0"]
    assert broken(Cascade, seen, max_depth=2) == {"complete", "no_orphan"}


def test_a_whole_tree_holds() -> None:
    seen = clean()
    assert broken(Cascade, seen, max_depth=2) == set()
    assert seen.measures["jobs"] == 5
    assert seen.measures["spawn_p99_ms"] == pytest.approx(100)


def test_the_same_dice_grow_the_same_tree_and_its_quota_has_something_to_cut() -> None:
    from schedule_zero.handlers.testbed.cascade import _member, _numbered

    params = Cascade.Params(max_depth=3)
    rule = {"max_depth": 3, "fertile": params.fertile}
    trees = [_numbered([_member(random.Random(7), params, 0, sure=True)], rule) for _ in range(2)]
    assert trees[0] == trees[1]
    assert max(path.count(".") for path in trees[0]) == 3
    unbounded = _numbered([_member(random.Random(7), params, 0, sure=True)], {**rule, "max_depth": 99})
    assert max(path.count(".") for path in unbounded) == 4


def test_the_tree_is_drawn_as_it_grew() -> None:
    seen = clean()
    lost(seen)
    broken(Cascade, seen, max_depth=2)
    (graph,) = seen.graphs
    assert {step.name: step.start_s for step in graph.steps} == {
        "r0": 0.1, "r1": 1.1, "r0.0": 2.1, "r0.1": 3.1, "r0.0.0": None,
    }  # fmt: skip
    assert graph.edges == [("r0", "r0.0"), ("r0", "r0.1"), ("r0.0", "r0.0.0")]
    assert violated(graph) == []
    seen = clean()
    before_its_parent(seen)
    broken(Cascade, seen, max_depth=2)
    assert violated(seen.graphs[0]) == [("r0", "r0.0")]
