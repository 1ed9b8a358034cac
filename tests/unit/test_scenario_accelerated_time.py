from __future__ import annotations

import random
from datetime import datetime

import pytest
from schedule_zero.handlers.testbed.accelerated_time import CHANGE, AcceleratedTime

from schedule_zero.clock import rfc3339, to_us
from schedule_zero.model import FireOutcome
from schedule_zero.testbed.accounts import nominal_times
from schedule_zero.testbed.fast_clock import change_after, changed_hour
from schedule_zero.testbed.scenario import Seen
from tests.unit.scenario_bed import BEGAN_US, broken, fire, run, seen_of, us

SPRING, AUTUMN = (to_us(datetime.fromisoformat(text)) for text in ("2027-03-28T01:00:00Z", "2027-10-31T01:00:00Z"))
HOURLY, CHANGED = "accelerated_time.hourly.0", f"{CHANGE}berlin.0"


def clean(change_us: int = SPRING, expression: str = "30 2 * * *") -> Seen:
    span = {"type": "cron", "start": rfc3339(change_us - 3_600_000_000), "end": rfc3339(change_us + 7_200_000_000)}
    triggers = {
        HOURLY: {**span, "expression": "10 * * * *", "timezone": "UTC"},
        CHANGED: {**span, "expression": expression, "timezone": "Europe/Berlin"},
    }
    runs, fires = [], []
    for name, trigger in triggers.items():
        for at_us in nominal_times(trigger):
            at_s = (at_us - BEGAN_US) / 1e6
            start_s = at_s + random.Random(at_us).uniform(1, 200)
            fires.append(fire(name, at_s))
            runs.append(
                run(f"{name}/{at_us}", "accelerated_time.tick", start_s, start_s, schedule_id=name, nominal_s=at_s)
            )
    kept = {"follow": list(triggers), "triggers": triggers, "there_us": 0}
    return seen_of(AcceleratedTime, runs=runs, fires=fires, kept=kept)


def of_schedule(seen: Seen, name: str) -> list[str]:
    return [str(rfc3339(one.nominal_us))[11:16] for one in seen.runs if one.schedule_id == name]


@pytest.mark.parametrize(
    ("change_us", "expression", "ran"),
    [
        (SPRING, "30 2 * * *", ["01:00"]),
        (SPRING, "*/20 2,3 * * *", ["01:00", "01:20", "01:40"]),
        (AUTUMN, "30 2 * * *", ["00:30"]),
        (AUTUMN, "*/20 2 * * *", ["00:00", "00:20", "00:40", "01:00", "01:20", "01:40"]),
    ],
)
def test_a_run_in_which_all_went_well_is_not_accused(change_us: int, expression: str, ran: list[str]) -> None:
    seen = clean(change_us, expression)
    assert of_schedule(seen, CHANGED) == ran
    assert broken(AcceleratedTime, seen) == set()
    assert seen.measures["due"] == seen.measures["executed"] == 3 + len(ran)


def test_the_change_is_where_it_is() -> None:
    assert change_after(SPRING - 1, "Europe/Berlin") == SPRING
    assert change_after(SPRING, "Europe/Berlin") == AUTUMN
    for change_us in SPRING, AUTUMN:
        assert changed_hour(change_us, "Europe/Berlin") == 2
        assert changed_hour(change_us, "Atlantic/Azores") == 0
    with pytest.raises(ValueError, match="UTC"):
        change_after(SPRING, "UTC")


def test_a_fire_of_which_nothing_tells_is_told() -> None:
    seen = clean()
    seen.runs.remove(next(one for one in seen.runs if one.schedule_id == HOURLY))
    assert broken(AcceleratedTime, seen) == {"every_fire_accounted"}


def test_what_is_missed_on_record_is_accounted_for() -> None:
    seen = clean()
    lost = next(one for one in seen.runs if one.schedule_id == HOURLY)
    seen.runs.remove(lost)
    seen.fires[HOURLY][0] = fire(HOURLY, ((lost.nominal_us or 0) - BEGAN_US) / 1e6, FireOutcome.MISSED)
    assert broken(AcceleratedTime, seen) == set()
    assert seen.measures["missed"] == 1


def test_a_fire_that_ran_twice_is_told() -> None:
    seen = clean()
    seen.runs.append(seen.runs[-1])
    assert broken(AcceleratedTime, seen) == {"none_twice"}


def test_a_run_that_was_never_due_is_told() -> None:
    seen = clean()
    at_s = (SPRING - BEGAN_US) / 1e6 + 60
    seen.runs.append(run("e", "accelerated_time.tick", at_s, at_s, schedule_id=HOURLY, nominal_s=at_s))
    assert broken(AcceleratedTime, seen) == {"no_other"}


def test_a_local_time_that_comes_twice_and_ran_twice_is_told() -> None:
    seen = clean(AUTUMN)
    at_s = (AUTUMN - BEGAN_US) / 1e6 + 1800
    seen.runs.append(run("e", "accelerated_time.tick", at_s, at_s, schedule_id=CHANGED, nominal_s=at_s))
    assert broken(AcceleratedTime, seen) == {"no_other", "change_as_said"}


def test_a_local_time_that_is_left_out_and_not_made_up_for_is_told() -> None:
    seen = clean()
    seen.runs = [one for one in seen.runs if one.schedule_id != CHANGED]
    assert broken(AcceleratedTime, seen) == {"every_fire_accounted", "change_as_said"}


@pytest.mark.parametrize("off_s", [-1, 100 * 86_400])
def test_a_job_that_sees_another_time_than_the_simulated_one_is_told(off_s: int) -> None:
    seen = clean()
    seen.runs[0].start_us = (seen.runs[0].nominal_us or 0) + off_s * 1_000_000
    assert broken(AcceleratedTime, seen) == {"simulated_time"}


def test_microseconds_of_the_bed_are_exact() -> None:
    assert us((SPRING - BEGAN_US) / 1e6) == SPRING
