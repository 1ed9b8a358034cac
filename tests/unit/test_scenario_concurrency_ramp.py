"""The verdicts of ``concurrency_ramp``: the rate before the bend, and each invariant named where it is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs
from schedule_zero.handlers.testbed.concurrency_ramp import ConcurrencyRamp

from schedule_zero.testbed.history import Run
from schedule_zero.testbed.scenario import Seen
from tests.unit.scenario_bed import broken, fire, run, seen_of, us

FIRST = "concurrency_ramp.0"


def fired(number: int, nominal_s: float, late_s: float) -> Run:
    id_ = f"concurrency_ramp.{number}"
    began_s = nominal_s + late_s
    return run(f"{number}@{nominal_s}", "concurrency_ramp.tick", began_s, began_s, schedule_id=id_, nominal_s=nominal_s)


def clean(late_s: tuple[float, float] = (0.01, 0.01)) -> Seen:
    """Two steps of two seconds: one schedule, then two."""
    runs = [fired(0, at, late_s[at // 2]) for at in range(4)] + [fired(1, at, late_s[1]) for at in (2, 3)]
    fires = [fire(one.schedule_id or "", ((one.nominal_us or 0) - us(0)) / 1e6) for one in runs]
    steps = [
        {"rate": 1, "from_us": us(0), "to_us": us(2)},
        {"rate": 2, "from_us": us(2), "to_us": us(4)},
    ]
    return seen_of(ConcurrencyRamp, runs=runs, fires=fires, kept={"steps": steps, "follow": [FIRST]})


def twice(seen: Seen) -> None:
    seen.runs.append(fired(0, 1, 0.1))


def early(seen: Seen) -> None:
    seen.runs[0] = structs.replace(seen.runs[0], start_us=us(-0.001))


def off_the_record(seen: Seen) -> None:
    del seen.fires[FIRST][1]


def twice_on_record(seen: Seen) -> None:
    seen.fires[FIRST].append(seen.fires[FIRST][0])


def ran_off_the_record(seen: Seen) -> None:
    del seen.fires[FIRST][3]


def slow_from_the_start(seen: Seen) -> None:
    seen.runs[0] = structs.replace(seen.runs[0], start_us=us(1.2))


@pytest.mark.parametrize(
    ("tamper", "name"),
    [
        (twice, "each_fire_once"),
        (early, "in_order"),
        (off_the_record, "accounted"),
        (twice_on_record, "accounted"),
        (ran_off_the_record, "accounted"),
        (slow_from_the_start, "lowest_kept"),
    ],
)
def test_what_is_broken_is_named(tamper: Callable[[Seen], None], name: str) -> None:
    seen = clean()
    tamper(seen)
    assert broken(ConcurrencyRamp, seen) == {name}


def test_a_ramp_without_a_bend_gives_its_highest_rate() -> None:
    seen = clean()
    assert broken(ConcurrencyRamp, seen) == set()
    assert (seen.measures["kept_per_s"], "bent_per_s" in seen.measures) == (2, False)


def test_a_bend_is_no_broken_promise_but_the_figure() -> None:
    seen = clean(late_s=(0.02, 0.8))
    assert broken(ConcurrencyRamp, seen) == set()
    assert (seen.measures["kept_per_s"], seen.measures["bent_per_s"]) == (1, 2)
    assert seen.measures["kept_lateness_p99_ms"] == pytest.approx(20)


def test_fires_that_never_ran_are_a_bend_as_well() -> None:
    seen = clean()
    seen.runs = [one for one in seen.runs if one.schedule_id == FIRST]
    assert broken(ConcurrencyRamp, seen) == set()
    assert seen.measures["bent_per_s"] == 2


def test_without_a_ledger_a_gap_in_what_ran_is_named() -> None:
    seen = clean()
    seen.fires = {}
    assert broken(ConcurrencyRamp, seen) == set()
    seen = clean()
    seen.fires = {}
    seen.runs = [one for one in seen.runs if one.nominal_us != us(1)]
    assert "accounted" in broken(ConcurrencyRamp, seen)
