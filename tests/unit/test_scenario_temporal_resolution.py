from __future__ import annotations

from typing import Any

from schedule_zero.handlers.testbed.temporal_resolution import TemporalResolution

from schedule_zero.clock import rfc3339
from schedule_zero.model import FireOutcome, SkipReason
from schedule_zero.testbed.scenario import Seen
from tests.unit.scenario_bed import broken, fire, run, seen_of, us

INTERVALS_MS = (500, 100, 10)
NAME = "temporal_resolution.10ms"


def clean(*, late_ms: int = 2, skipped: int = 0) -> Seen:
    """Of the shortest interval the first ``skipped`` fires were skipped for back-pressure."""
    triggers, runs, fires = {}, [], []
    for interval_ms in INTERVALS_MS:
        name = f"temporal_resolution.{interval_ms}ms"
        triggers[name] = {
            "type": "interval", "milliseconds": interval_ms, "start": rfc3339(us(1)), "end": rfc3339(us(2))
        }  # fmt: skip
        for number in range(1000 // interval_ms + 1):
            at_s = 1 + number * interval_ms / 1000
            if name == NAME and number < skipped:
                fires.append(fire(name, at_s, FireOutcome.SKIPPED, reason=SkipReason.BACKPRESSURE))
                continue
            fires.append(fire(name, at_s))
            start_s = at_s + late_ms / 1000
            runs.append(
                run(f"{name}/{number}", "temporal_resolution.tick", start_s, start_s, schedule_id=name, nominal_s=at_s)
            )
    kept = {"follow": list(triggers), "triggers": triggers, "there_us": dict.fromkeys(triggers, us(0.9))}
    return seen_of(TemporalResolution, runs=runs, fires=fires, kept=kept)


def judged(seen: Seen) -> set[str]:
    return broken(TemporalResolution, seen, intervals_ms=INTERVALS_MS)


def last_of(seen: Seen) -> Any:
    return next(one for one in reversed(seen.runs) if one.schedule_id == NAME)


def test_a_run_in_which_all_went_well_is_not_accused() -> None:
    seen = clean()
    assert judged(seen) == set()
    assert seen.measures["smallest_interval_ms"] == 10
    assert seen.measures["expected"] == seen.measures["executed"] == 3 + 11 + 101
    assert round(seen.measures["mean_ms"], 3) == 10
    assert round(seen.measures["late_p99_ms"], 3) == 2


def test_what_was_skipped_on_record_is_accounted_for_and_the_interval_not_kept() -> None:
    seen = clean(skipped=5)
    assert judged(seen) == set()
    assert seen.measures["smallest_interval_ms"] == 100
    assert seen.measures["backpressure"] == seen.measures["skipped"] == 5


def test_an_interval_whose_fires_are_late_is_not_kept() -> None:
    seen = clean(late_ms=80)
    assert judged(seen) == set()
    assert seen.measures["smallest_interval_ms"] == 100
    assert "smallest_interval_ms" not in _measured(clean(late_ms=900))


def _measured(seen: Seen) -> dict[str, float]:
    judged(seen)
    return seen.measures


def test_a_fire_that_ran_twice_is_told() -> None:
    seen = clean()
    seen.runs.append(last_of(seen))
    assert judged(seen) == {"each_fire_once"}


def test_a_fire_of_which_nothing_tells_is_told_though_the_server_says_that_it_ran() -> None:
    seen = clean()
    last = last_of(seen)
    seen.runs.remove(last)
    assert judged(seen) == {"every_fire_accounted"}
    assert seen.held["every_fire_accounted"].evidence == [f"{NAME}: {rfc3339(last.nominal_us)}"]


def test_a_run_at_a_time_that_is_none_of_the_schedule_s_is_told() -> None:
    seen = clean()
    seen.runs.append(run("e", "temporal_resolution.tick", 2.1, 2.1, schedule_id=NAME, nominal_s=2.0101))
    assert judged(seen) == {"no_other"}
    seen = clean()
    seen.fires[NAME].append(fire(NAME, 2.01))
    assert judged(seen) == {"no_other"}


def test_a_fire_that_began_too_soon_is_told() -> None:
    seen = clean()
    last_of(seen).start_us -= 2_001
    assert judged(seen) == {"never_early"}
