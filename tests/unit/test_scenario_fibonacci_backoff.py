from __future__ import annotations

import pytest
from schedule_zero.handlers.testbed.fibonacci_backoff import SCHEDULE, FibonacciBackoff, delay_s

from schedule_zero.model import State
from schedule_zero.testbed.scenario import Seen
from tests.unit.scenario_bed import broken, execution, run, seen_of

# Eight failures reach the cap of a quick run.
FAILS = (True,) * 8 + (False, True, True, False, False, True, True, False)
UNIT_S, CAP_S = 60.0, FibonacciBackoff.quick["cap_s"]


def clean() -> Seen:
    runs, executions, at_s, failures = [], [], UNIT_S, 0
    for step, fails in enumerate(FAILS, 1):
        failures = failures + 1 if fails else 0
        begin_s = at_s + 50
        action = f"fibonacci_backoff.attempt.{step}"
        outcome = "error" if fails else "ok"
        runs.append(
            run(f"e{step}", action, begin_s, begin_s + 20, schedule_id=SCHEDULE, nominal_s=at_s, outcome=outcome)
        )
        state = State.FAILED if fails else State.COMPLETED
        executions.append(execution(f"e{step}", "fibonacci_backoff.attempt", state))
        at_s = begin_s + 10 + delay_s(failures, UNIT_S, CAP_S)
    return seen_of(FibonacciBackoff, runs=runs, executions=executions)


def test_delays_go_along_fibonacci_numbers_to_the_cap() -> None:
    assert [delay_s(n, 1, 3600) for n in range(9)] == [1, 1, 1, 2, 3, 5, 8, 13, 21]
    assert delay_s(17, 1, 3600) == 1597
    assert delay_s(19, 1, 3600) == 3600


def test_a_run_in_which_all_went_well_is_not_accused() -> None:
    seen = clean()
    assert broken(FibonacciBackoff, seen) == set()
    assert seen.measures["capped"] == 1
    assert seen.measures["longest_streak"] == 8


@pytest.mark.parametrize("at", [3, 15])
def test_a_step_that_is_missing_or_ran_twice_is_told(at: int) -> None:
    seen = clean()
    del seen.runs[at]
    assert "each_step_once" in broken(FibonacciBackoff, seen)
    seen = clean()
    seen.runs.insert(at, seen.runs[at])
    assert "each_step_once" in broken(FibonacciBackoff, seen)


@pytest.mark.parametrize("by_s", [-11, 11])
def test_a_step_that_was_due_at_another_time_than_was_said_is_told(by_s: int) -> None:
    seen = clean()
    seen.runs[4].nominal_us += by_s * 1_000_000
    assert broken(FibonacciBackoff, seen) == {"along_fibonacci"}


def test_a_delay_that_is_not_reset_by_a_success_is_told() -> None:
    seen = clean()
    after_success = seen.runs[9]
    after_success.nominal_us += round(CAP_S * 1e6)
    after_success.start_us += round(CAP_S * 1e6)
    assert "reset" in broken(FibonacciBackoff, seen)


def test_a_step_that_began_too_soon_is_told() -> None:
    seen = clean()
    seen.runs[0].start_us = seen.runs[0].nominal_us - 1
    assert broken(FibonacciBackoff, seen) == {"never_early"}


@pytest.mark.parametrize("at", [0, 8])
def test_an_outcome_that_is_not_what_the_job_did_is_told(at: int) -> None:
    seen = clean()
    id_ = f"e{at + 1}"
    wrong = State.COMPLETED if FAILS[at] else State.FAILED
    seen.executions[id_] = execution(id_, "fibonacci_backoff.attempt", wrong)
    assert broken(FibonacciBackoff, seen) == {"outcomes_on_record"}
    seen = clean()
    del seen.executions[id_]
    assert broken(FibonacciBackoff, seen) == {"outcomes_on_record"}


def test_a_schedule_that_is_still_there_is_told() -> None:
    seen = clean()
    seen.left.append(SCHEDULE)
    assert broken(FibonacciBackoff, seen) == {"nothing_left"}
