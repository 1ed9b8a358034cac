from __future__ import annotations

from schedule_zero.handlers.testbed.adaptive_interval import SCHEDULE, AdaptiveInterval, interval_s

from schedule_zero.clock import from_us
from schedule_zero.model import FireOutcome, SkipReason
from schedule_zero.testbed.scenario import Seen
from tests.unit.scenario_bed import broken, execution, fire, run, seen_of, us

TOOK_S = (0.1, 0.1, 0.5, 0.1, 0.1, 0.5, 0.1)
LEAST_S = AdaptiveInterval.quick["least_s"]


def clean() -> Seen:
    runs, executions, fires, at_s = [], [], [], LEAST_S
    for step, took_s in enumerate(TOOK_S, 1):
        fires.append(fire(SCHEDULE, at_s))
        if took_s > LEAST_S:
            fires.append(fire(SCHEDULE, at_s + LEAST_S, FireOutcome.SKIPPED, reason=SkipReason.OVERLAP))
        begin_s = at_s + 0.005
        runs.append(
            run(
                f"e{step}", f"adaptive_interval.adapt.{step}", begin_s, begin_s + took_s,
                schedule_id=SCHEDULE, nominal_s=at_s,
            )
        )  # fmt: skip
        over = from_us(us(begin_s + took_s + 0.02))
        executions.append(execution(f"e{step}", "adaptive_interval.adapt", finished_at=over))
        at_s = begin_s + took_s + 0.01 + interval_s(list(TOOK_S[:step]), LEAST_S)
    return seen_of(AdaptiveInterval, runs=runs, executions=executions, fires=fires, kept={"follow": [SCHEDULE]})


def test_an_interval_follows_the_last_ten_run_times_and_has_a_least_one() -> None:
    assert interval_s([0.01], 0.5) == 0.5
    assert interval_s([1.0, 2.0], 0.5) == 3.0
    assert interval_s([100.0, *[1.0] * 10], 0.5) == 2.0


def test_a_run_in_which_all_went_well_is_not_accused() -> None:
    seen = clean()
    assert broken(AdaptiveInterval, seen) == set()
    assert seen.measures["skipped"] == 2


def test_a_run_beside_the_one_before_it_is_told() -> None:
    seen = clean()
    seen.runs[3].end_ns = seen.runs[4].start_ns + 1
    assert "never_overlaps" in broken(AdaptiveInterval, seen)
    seen = clean()
    seen.runs[3].end_ns = None
    assert "never_overlaps" in broken(AdaptiveInterval, seen)


def test_a_step_that_is_missing_or_ran_twice_is_told() -> None:
    seen = clean()
    del seen.runs[-1]
    assert broken(AdaptiveInterval, seen) == {"each_step_once"}
    seen = clean()
    seen.runs.insert(4, seen.runs[3])
    assert "each_step_once" in broken(AdaptiveInterval, seen)


def test_a_step_that_was_due_by_the_old_interval_is_told() -> None:
    seen = clean()
    # It takes 0.5 s, so that the next interval is longer than the least one.
    assert seen.runs[2].end_us is not None
    seen.runs[3].nominal_us = seen.runs[2].end_us + round(LEAST_S * 1e6)
    assert broken(AdaptiveInterval, seen) == {"interval_followed"}


def test_a_step_that_was_due_much_later_than_it_said_is_told() -> None:
    seen = clean()
    last = seen.runs[-1]
    last.nominal_us += 150_000
    last.start_us += 150_000
    last.end_us += 150_000
    assert broken(AdaptiveInterval, seen) == {"interval_followed"}


def test_a_step_that_began_too_soon_is_told() -> None:
    seen = clean()
    seen.runs[0].start_us -= 10_000
    assert broken(AdaptiveInterval, seen) == {"never_early"}


def test_a_schedule_that_is_still_there_is_told() -> None:
    seen = clean()
    seen.left.append(SCHEDULE)
    assert broken(AdaptiveInterval, seen) == {"nothing_left"}
