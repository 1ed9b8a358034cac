"""The verdicts of ``chaos_mix``: nothing where all came right, and each invariant named where it is broken."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from msgspec import structs
from schedule_zero.handlers.testbed.chaos_mix import ChaosMix

from schedule_zero.model import State
from schedule_zero.testbed import harm
from schedule_zero.testbed.judging import descendants
from schedule_zero.testbed.scenario import Seen
from tests.unit.scenario_bed import broken, execution, fire, run, seen_of, us

TREES = ((2, 1), (1, 1))
KINDS = {"g": "good", "s": "slow", "f": "flaky", "p": "poisoned", "c": "crashing"}
FOLLOWED = "chaos_mix.0"


def clean() -> Seen:
    """n2 is killed from 10 to 12, and the slow job runs again; the poisoned one has a third try for that reason."""
    root = us(0)
    runs = [
        run("g", "chaos_mix.good", 1, 1.1),
        run("s", "chaos_mix.slow", 9, None, node_id="n2", pid=2),
        run("s", "chaos_mix.slow", 12, 13, node_id="n3", pid=3, token=2),
        run("f", "chaos_mix.flaky", 2, 2.1, outcome="error"),
        run("f", "chaos_mix.flaky", 3, 3.1, token=2),
        run("p", "chaos_mix.poisoned", 9.5, None, node_id="n2", pid=2),
        run("p", "chaos_mix.poisoned", 12, 12.1, node_id="n3", pid=3, token=2, outcome="error"),
        run("p", "chaos_mix.poisoned", 13, 13.1, node_id="n3", pid=3, token=3, outcome="error"),
        run("c", "chaos_mix.crashing", 1, None),
        run("c", "chaos_mix.crashing", 2, None, token=2),
    ]
    executions = [
        execution(id_, "chaos_mix.work", State.FAILED if id_ in "pc" else State.COMPLETED, origin="submit")
        for id_ in KINDS
    ]
    for number, widths in enumerate(TREES):
        for path in descendants(f"{root}.{number}", widths):
            runs.append(run(path, "chaos_mix.grow", 4, 4.1))
            executions.append(execution(path, "chaos_mix.grow", result=path))
    fires = []
    for at in range(21):
        fires.append(fire(FOLLOWED, at, execution_id=f"t{at}"))
        runs.append(run(f"t{at}", "chaos_mix.tick", at + 0.01, at + 0.02, schedule_id=FOLLOWED, nominal_s=at))
        executions.append(execution(f"t{at}", "chaos_mix.work", schedule_id=FOLLOWED))
    kept = {
        "asked": KINDS,
        "harm": [("node:n2", us(10), us(12))],
        "follow": [FOLLOWED],
        "span": (us(0), us(20.5)),
    }
    return seen_of(ChaosMix, runs=runs, executions=executions, fires=fires, kept=kept)


def judged(seen: Seen) -> set[str]:
    seen.runs.sort(key=lambda one: one.start_ns)
    return broken(ChaosMix, seen, trees=TREES, interval_ms=1000)


def ended(id_: str, status: State) -> Callable[[Seen], None]:
    def tamper(seen: Seen) -> None:
        seen.executions[id_] = structs.replace(seen.executions[id_], status=status)

    return tamper


def forgotten(seen: Seen) -> None:
    del seen.executions["g"]
    seen.runs[:] = [one for one in seen.runs if one.execution_id != "g"]


def never_ran(seen: Seen) -> None:
    seen.runs[:] = [one for one in seen.runs if one.execution_id != "g"]


def tried_too_often(seen: Seen) -> None:
    seen.runs.append(run("c", "chaos_mix.crashing", 3, None, token=3))


def tried_too_seldom(seen: Seen) -> None:
    seen.runs[:] = [one for one in seen.runs if (one.execution_id, one.token) != ("c", 2)]


def ran_again(seen: Seen) -> None:
    seen.runs.append(run("g", "chaos_mix.good", 2, 2.1, token=2))


def ran_again_where_another_was_harmed(seen: Seen) -> None:
    seen.runs.append(run("g", "chaos_mix.good", 11, 11.1, token=2))


def child_lost(seen: Seen) -> None:
    del seen.executions[f"{us(0)}.1.0.0"]
    seen.runs[:] = [one for one in seen.runs if one.execution_id != f"{us(0)}.1.0.0"]


def child_doubled(seen: Seen) -> None:
    child = seen.executions[f"{us(0)}.1.0.0"]
    seen.executions["twin"] = structs.replace(child, id="twin")


def child_too_many(seen: Seen) -> None:
    seen.executions["more"] = execution("more", "chaos_mix.grow", result=f"{us(0)}.1.1")


def no_row(seen: Seen) -> None:
    del seen.fires[FOLLOWED][7]


def two_executions(seen: Seen) -> None:
    seen.runs.append(run("other", "chaos_mix.tick", 7.5, 7.6, schedule_id=FOLLOWED, nominal_s=7))
    seen.executions["other"] = execution("other", "chaos_mix.work", schedule_id=FOLLOWED)


def nobody_asked(seen: Seen) -> None:
    seen.executions["x"] = execution("x", "chaos_mix.work")


def not_on_record(seen: Seen) -> None:
    seen.runs.append(run("x", "chaos_mix.good", 5, 5.1))


def left_over(seen: Seen) -> None:
    seen.left.append("chaos_mix.churned.0.3")


def test_all_that_came_right_holds_also_where_a_killed_node_cut_tries_off() -> None:
    seen = clean()
    assert judged(seen) == set()
    assert seen.measures["harmed"] == 1
    assert seen.measures["ran_again"] == 5


@pytest.mark.parametrize(
    ("tamper", "name"),
    [
        (ended("g", State.FAILED), "ends_as_it_must"),
        (ended("s", State.DEAD), "ends_as_it_must"),
        (ended("p", State.COMPLETED), "ends_as_it_must"),
        (forgotten, "ends_as_it_must"),
        (never_ran, "ends_as_it_must"),
        (tried_too_often, "tries_limited"),
        (tried_too_seldom, "tries_limited"),
        (ran_again, "again_only_with_cause"),
        (ran_again_where_another_was_harmed, "again_only_with_cause"),
        (child_lost, "each_descendant_once"),
        (child_doubled, "each_descendant_once"),
        (child_too_many, "each_descendant_once"),
        (no_row, "each_fire_once"),
        (two_executions, "each_fire_once"),
        (nobody_asked, "nothing_extra"),
        (not_on_record, "nothing_extra"),
        (left_over, "nothing_left"),
    ],
)
def test_what_is_broken_is_named(tamper: Callable[[Seen], None], name: str) -> None:
    seen = clean()
    tamper(seen)
    assert judged(seen) == {name}
    assert seen.held[name].evidence[0]


def test_the_same_dice_make_the_same_plan() -> None:
    params = harm.HarmParams(seconds=10, node_kills=2, node_stops=1, server_kills=1)
    plans = [harm.plan(random.Random(7), ("n1", "n2"), params) for _ in range(2)]
    assert plans[0] == plans[1]
    assert [(one.target.partition(":")[0], one.stop) for one in plans[0]] == [
        ("node", False),
        ("node", False),
        ("node", True),
        ("server", False),
    ]
    assert all(0 < one.at_s < 10 for one in plans[0])
