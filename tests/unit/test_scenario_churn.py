"""The verdicts of ``churn``: nothing of a clean run, and each invariant named where it is broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs
from schedule_zero.handlers.testbed.churn import Churn

from schedule_zero.testbed.scenario import Seen
from tests.unit.scenario_bed import broken, run, seen_of, us

PARAMS: dict[str, Any] = {
    "interval_s": 0.5, "grace_s": 1.0, "others": 1, "others_interval_s": 0.5, "harm_ms": 100.0, "leak_mib": 8.0,
}  # fmt: skip
OTHER, LONG, SHORT = "churn.other-0", "churn.0", "churn.1"


def fired(schedule_id: str, nominal_s: float, late_s: float = 0.01) -> Any:
    began_s = nominal_s + late_s
    id_ = f"{schedule_id}@{nominal_s}"
    return run(id_, "churn.tick", began_s, began_s, schedule_id=schedule_id, nominal_s=nominal_s)


def clean() -> Seen:
    """One schedule that stays, two seconds alone and four beside two that come and go."""
    runs = [fired(OTHER, half / 2) for half in range(1, 13)]
    runs += [fired(LONG, half / 2 + 0.1) for half in range(6, 10)]
    lives = {LONG: [us(2.5), us(4.8), us(4.85)], SHORT: [us(3), us(3.1), us(3.2)]}
    kept = {"follow": [OTHER], "lives": lives, "spans_us": [us(0), us(2), us(6)], "remaining": [OTHER]}
    seen = seen_of(Churn, runs=runs, kept=kept)
    seen.memory = [(tenth / 10, 100.0) for tenth in range(60)]
    return seen


def drop(seen: Seen, schedule_id: str, from_s: float, to_s: float) -> None:
    seen.runs = [
        one for one in seen.runs if one.schedule_id != schedule_id or not us(from_s) <= (one.nominal_us or 0) < us(to_s)
    ]


def not_deleted(seen: Seen) -> None:
    seen.kept["remaining"].append(SHORT)


def left_at_the_end(seen: Seen) -> None:
    seen.left.append(SHORT)


def fired_when_deleted(seen: Seen) -> None:
    seen.runs.append(fired(SHORT, 3.5))


def never_fired(seen: Seen) -> None:
    drop(seen, LONG, 0, 9)


def fired_twice(seen: Seen) -> None:
    seen.runs.append(fired(LONG, 3.1, 0.02))


def left_out_one(seen: Seen) -> None:
    drop(seen, OTHER, 3, 3.5)


def stopped(seen: Seen) -> None:
    drop(seen, OTHER, 4, 9)


def late(seen: Seen) -> None:
    seen.runs = [
        structs.replace(one, start_us=one.start_us + 300_000)
        if one.schedule_id == OTHER and one.start_us > us(3)
        else one
        for one in seen.runs
    ]


def leaking(seen: Seen) -> None:
    seen.memory = [(at_s, 100 + 10 * at_s) for at_s, _ in seen.memory]


@pytest.mark.parametrize(
    ("tamper", "name"),
    [
        (not_deleted, "none_left"),
        (left_at_the_end, "none_left"),
        (fired_when_deleted, "silent_when_deleted"),
        (never_fired, "ran_while_there"),
        (fired_twice, "each_fire_once"),
        (left_out_one, "others_complete"),
        (stopped, "others_complete"),
        (late, "others_on_time"),
        (leaking, "no_leak"),
    ],
)
def test_what_is_broken_is_named(tamper: Callable[[Seen], None], name: str) -> None:
    seen = clean()
    tamper(seen)
    assert broken(Churn, seen, **PARAMS) == {name}


def test_a_clean_run_holds() -> None:
    seen = clean()
    assert broken(Churn, seen, **PARAMS) == set()
    assert seen.measures["calm_lateness_p99_ms"] == pytest.approx(10)
    assert seen.measures["growth_mib"] == 0


def test_a_leak_is_not_denied_where_no_memory_was_read() -> None:
    seen = clean()
    seen.memory = []
    assert broken(Churn, seen, **PARAMS) == {"no_leak?"}
