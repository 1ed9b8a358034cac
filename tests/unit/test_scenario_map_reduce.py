"""The verdicts of ``map_reduce``: nothing of clean rounds, and each invariant named where it is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs
from schedule_zero.handlers.testbed.map_reduce import MapReduce

from schedule_zero.testbed.graph import violated
from schedule_zero.testbed.scenario import Seen
from tests.unit.scenario_bed import broken, execution, run, seen_of, us

ROUNDS, PARTS, SIZE = 2, 3, 10


def total(number: int) -> int:
    first = number * 1000 * SIZE
    return sum(range(first, first + PARTS * SIZE))


def clean() -> Seen:
    """Two rounds of three partitions, each on a node of its own. In the second, n2 is killed, and n3 takes over."""
    runs, executions = [], []
    for number in range(ROUNDS):
        for part in range(PARTS):
            id_, first = f"{number}.{part}", (number * 1000 + part) * SIZE
            result = {"part": part, "sum": sum(range(first, first + SIZE))}
            shard = f"{part}/{PARTS}"
            executions.append(execution(id_, "map_reduce.map", group_id=f"g{number}", shard=shard, result=result))
            action, begin_s = f"map_reduce.map:{number}/{part}", 10 * number + part / 10
            end_s = None if (number, part) == (1, 1) else begin_s + 1
            runs.append(run(id_, action, begin_s, end_s, node_id=f"n{part + 1}"))
        made = execution(f"{number}.r", "map_reduce.reduce", result={"round": number, "total": total(number)})
        executions.append(made)
        runs.append(run(f"{number}.r", f"map_reduce.reduce:{number}", 10 * number + 5, 10 * number + 5.1))
    runs.append(run("1.1", "map_reduce.map:1/1", 13, 14, node_id="n3", attempt=2, token=2))
    kept = {"groups": ["g0", "g1"], "lost": {"node": "n2", "round": 1, "at_us": us(11)}}
    return seen_of(MapReduce, runs=runs, executions=executions, kept=kept)


def judged(seen: Seen) -> set[str]:
    return broken(MapReduce, seen, rounds=ROUNDS, partitions=PARTS, size=SIZE)


def find(seen: Seen, action: str) -> int:
    return next(at for at, one in enumerate(seen.runs) if one.action == f"map_reduce.{action}")


def cut_short(seen: Seen) -> None:
    at = find(seen, "map:0/2")
    seen.runs[at] = structs.replace(seen.runs[at], outcome="error")


def begun_again(seen: Seen) -> None:
    seen.runs.append(run("0.2", "map_reduce.map:0/2", 3, 4, node_id="n1", attempt=2, token=9))


def begun_again_beside_the_loss(seen: Seen) -> None:
    seen.runs.append(run("1.0", "map_reduce.map:1/0", 13, 14, node_id="n3", attempt=2, token=9))


def mixed_up(seen: Seen) -> None:
    seen.executions["0.1"] = structs.replace(seen.executions["0.1"], result=seen.executions["0.2"].result)


def gone(seen: Seen) -> None:
    del seen.executions["0.1"]


def idle(seen: Seen) -> None:
    at = find(seen, "map:0/2")
    seen.runs[at] = structs.replace(seen.runs[at], node_id="n1")


def reduced_early(seen: Seen) -> None:
    at = find(seen, "reduce:1")
    seen.runs[at] = structs.replace(seen.runs[at], start_ns=13_500_000_000)


def reduced_again(seen: Seen) -> None:
    seen.runs.append(run("r2", "map_reduce.reduce:0", 6, 7))


def not_reduced(seen: Seen) -> None:
    del seen.runs[find(seen, "reduce:0")]


def wrong_total(seen: Seen) -> None:
    seen.executions["0.r"] = structs.replace(seen.executions["0.r"], result={"round": 0, "total": 1})


@pytest.mark.parametrize(
    ("tamper", "name"),
    [
        (cut_short, "each_partition_mapped"),
        (begun_again, "again_only_if_lost"),
        (begun_again_beside_the_loss, "again_only_if_lost"),
        (mixed_up, "result_intact"),
        (gone, "result_intact"),
        (idle, "on_all_nodes"),
        (reduced_early, "reduce_after_last"),
        (reduced_again, "reduced_once"),
        (not_reduced, "reduced_once"),
        (wrong_total, "total_right"),
    ],
)
def test_what_is_broken_is_named(tamper: Callable[[Seen], None], name: str) -> None:
    seen = clean()
    tamper(seen)
    assert judged(seen) == {name}


def test_clean_rounds_hold_and_the_loss_is_measured() -> None:
    seen = clean()
    assert judged(seen) == set()
    assert seen.measures["recovery_s"] == pytest.approx(2)
    assert seen.measures["map_s"] == pytest.approx(1.2)
    assert seen.measures["reduce_gap_ms"] == pytest.approx(3800)


def test_partitions_are_drawn_with_their_reduction_and_what_was_cut_off() -> None:
    seen = clean()
    judged(seen)
    (graph,) = seen.graphs
    assert len(graph.steps) == ROUNDS * (PARTS + 1) + 1
    cut_off = next(step for step in graph.steps if step.name == "partition 1 of round 1, cut off")
    assert (cut_off.node, cut_off.end_s, cut_off.outcome) == ("n2", None, "")
    assert [one for one, after in graph.edges if after == "reduction 1"] == [
        f"partition {part} of round 1" for part in range(PARTS)
    ]
    assert violated(graph) == []
    seen = clean()
    reduced_early(seen)
    judged(seen)
    assert violated(seen.graphs[0]) == [("partition 1 of round 1", "reduction 1")]
