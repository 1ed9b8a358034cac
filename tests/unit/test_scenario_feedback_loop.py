"""The verdicts of ``feedback_loop``: nothing of a clean loop, and each invariant named where it is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs
from schedule_zero.handlers.testbed.feedback_loop import ROLES, FeedbackLoop, value_after

from schedule_zero.model import State
from schedule_zero.testbed.graph import violated
from schedule_zero.testbed.scenario import Seen
from tests.unit.scenario_bed import broken, crc, execution, run, seen_of

LOOPS, DEPTH = 2, 6
PIDS = {"n1": 1, "n2": 2, "n3": 3}


def clean() -> Seen:
    """Two loops of six hops, each hop a second long. In the first, the node of hop 4 is killed and comes back."""
    runs, executions = [], []
    for loop in range(LOOPS):
        for hop in range(DEPTH):
            id_, action = f"{loop}.{hop}", f"feedback_loop.{ROLES[hop % 3]}"
            result = {"loop": loop, "hop": hop, "value": value_after(loop, hop)}
            node_id = f"n{1 + hop % 3}"
            executions.append(execution(id_, action, result=result))
            if id_ == "0.4":
                runs.append(run(id_, action, hop, None, node_id="n2", pid=2))
                runs.append(run(id_, action, hop + 0.7, hop + 0.9, node_id="n2", pid=22, token=2, value=result))
            else:
                pid = PIDS[node_id]
                runs.append(run(id_, action, hop + loop / 10, hop + 0.8, node_id=node_id, pid=pid, value=result))
    return seen_of(FeedbackLoop, runs=runs, executions=executions, kept={"nodes": ["n1", "n2", "n3"]})


def judged(seen: Seen) -> set[str]:
    return broken(FeedbackLoop, seen, loops=LOOPS, depth=DEPTH)


def run_of(seen: Seen, id_: str) -> int:
    return next(number for number, one in enumerate(seen.runs) if one.execution_id == id_)


def doubled(seen: Seen) -> None:
    seen.executions["again"] = structs.replace(seen.executions["1.3"], id="again")


def lost(seen: Seen) -> None:
    del seen.executions["1.5"]


def failed(seen: Seen) -> None:
    seen.executions["1.5"] = structs.replace(seen.executions["1.5"], status=State.FAILED)


def one_too_many(seen: Seen) -> None:
    seen.executions["more"] = structs.replace(seen.executions["1.5"], id="more", result={"loop": 1, "hop": 6})


def another_value(seen: Seen) -> None:
    seen.runs[run_of(seen, "1.2")].result = crc({"loop": 1, "hop": 2, "value": 0})


def overtaking(seen: Seen) -> None:
    seen.runs[run_of(seen, "1.3")].start_ns = 0


def elsewhere(seen: Seen) -> None:
    seen.runs[run_of(seen, "1.3")].node_id = "n3"


def again_in_its_process(seen: Seen) -> None:
    seen.runs.append(run("1.1", "feedback_loop.transform", 1.5, node_id="n2", pid=2, token=3))


def again_long_after_it_was_over(seen: Seen) -> None:
    seen.runs.append(run("1.1", "feedback_loop.transform", 5.5, node_id="n2", pid=22, token=3))


def test_a_clean_loop_holds_also_where_a_killed_node_ran_a_hop_again() -> None:
    assert judged(clean()) == set()


@pytest.mark.parametrize(
    ("tamper", "name"),
    [
        (doubled, "each_hop_once"),
        (lost, "each_hop_once"),
        (failed, "each_hop_once"),
        (one_too_many, "each_hop_once"),
        (another_value, "values_exact"),
        (overtaking, "in_order"),
        (elsewhere, "own_node"),
        (again_in_its_process, "again_only_if_killed"),
        (again_long_after_it_was_over, "again_only_if_killed"),
    ],
)
def test_what_is_broken_is_named(tamper: Callable[[Seen], None], name: str) -> None:
    seen = clean()
    tamper(seen)
    assert judged(seen) == {name}
    assert seen.held[name].evidence[0]


def test_each_invariant_is_shown_to_break() -> None:
    names = {"each_hop_once", "values_exact", "in_order", "own_node", "again_only_if_killed"}
    assert names == set(FeedbackLoop.holds)


def test_the_hops_are_drawn_with_what_ran_again() -> None:
    seen = clean()
    judged(seen)
    (graph,) = seen.graphs
    assert len(graph.steps) == LOOPS * DEPTH + 1
    assert [step.end_s for step in graph.steps if step.name.startswith("loop 0, hop 4")] == [None, 4.9]
    assert ("loop 0, hop 4", "loop 0, hop 5") in graph.edges
    assert violated(graph) == []
    seen = clean()
    overtaking(seen)
    judged(seen)
    assert violated(seen.graphs[0]) == [("loop 1, hop 2", "loop 1, hop 3")]
