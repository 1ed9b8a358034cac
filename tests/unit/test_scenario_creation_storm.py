"""The verdicts of ``creation_storm``: nothing of clean bursts, and each invariant named where it is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from schedule_zero.handlers.testbed.creation_storm import CreationStorm

from schedule_zero.testbed.scenario import Seen
from tests.unit.scenario_bed import broken, run, seen_of


def clean() -> Seen:
    """Two bursts of four; one of each is due."""
    bursts, runs = [], []
    for number in range(2):
        ids = [f"creation_storm.{number}-{one}" for one in range(4)]
        due = ids[number]
        bursts.append(
            {"ids": ids, "due": [due], "bulk": bool(number), "create_s": 0.2, "delete_s": 0.1, "listed": ids,
             "remaining": []}
        )  # fmt: skip
        runs.append(run(due, "creation_storm.work", number + 0.1, number + 0.2, schedule_id=due, nominal_s=number))
    return seen_of(CreationStorm, runs=runs, kept={"bursts": bursts})


def lost(seen: Seen) -> None:
    seen.kept["bursts"][0]["listed"] = seen.kept["bursts"][0]["listed"][:-1]


def foreign(seen: Seen) -> None:
    seen.kept["bursts"][1]["listed"] = [*seen.kept["bursts"][1]["listed"], "creation_storm.0-3"]


def not_run(seen: Seen) -> None:
    seen.runs.pop()


def run_twice(seen: Seen) -> None:
    seen.runs.append(seen.runs[0])


def run_undue(seen: Seen) -> None:
    seen.runs.append(run("x", "creation_storm.work", 2, 2.1, schedule_id="creation_storm.0-3"))


def not_deleted(seen: Seen) -> None:
    seen.kept["bursts"][0]["remaining"] = ["creation_storm.0-2"]


def left_at_the_end(seen: Seen) -> None:
    seen.left.append("creation_storm.1-2")


@pytest.mark.parametrize(
    ("tamper", "name"),
    [
        (lost, "all_there"),
        (foreign, "all_there"),
        (not_run, "due_ran_once"),
        (run_twice, "due_ran_once"),
        (run_undue, "others_silent"),
        (not_deleted, "none_left"),
        (left_at_the_end, "none_left"),
    ],
)
def test_what_is_broken_is_named(tamper: Callable[[Seen], None], name: str) -> None:
    seen = clean()
    tamper(seen)
    assert broken(CreationStorm, seen) == {name}
    assert "creation_storm." in seen.held[name].evidence[0]


def test_clean_bursts_hold_and_give_both_rates() -> None:
    seen = clean()
    assert broken(CreationStorm, seen) == set()
    assert seen.measures["created_per_s"] == seen.measures["bulk_created_per_s"] == 20
    assert seen.measures["deleted_per_s"] == pytest.approx(30)
    assert seen.measures["lateness_max_ms"] == pytest.approx(100)


def test_what_was_due_may_be_gone_by_itself() -> None:
    seen = clean()
    burst = seen.kept["bursts"][0]
    burst["listed"] = [id_ for id_ in burst["ids"] if id_ not in burst["due"]]
    assert broken(CreationStorm, seen) == set()
