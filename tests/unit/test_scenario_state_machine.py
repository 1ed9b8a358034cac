from __future__ import annotations

import pytest
from schedule_zero.handlers.testbed.state_machine import StateMachine, expected

from schedule_zero.testbed.catalogue import params_of
from schedule_zero.testbed.history import Run
from schedule_zero.testbed.scenario import Seen
from tests.unit.scenario_bed import broken, run, seen_of

PARAMS = params_of(StateMachine, {}, quick=True)
MACHINES = [f"state_machine.{number}" for number in range(PARAMS.machines)]


def clean() -> Seen:
    runs = []
    for machine in MACHINES:
        at_s = 0.0
        for state in expected(PARAMS):
            kind = state.partition(".")[0]
            at_s += getattr(PARAMS, f"{kind}_s") + 0.01
            name = f"{machine}/{state}"
            runs.append(
                run(name, f"state_machine.{state}", at_s, at_s + 0.001, schedule_id=machine, nominal_s=at_s - 0.001)
            )
    return seen_of(StateMachine, runs=runs, kept={"follow": MACHINES})


def of_machine(seen: Seen) -> list[Run]:
    return [one for one in seen.runs if one.schedule_id == MACHINES[0]]


def test_a_run_in_which_all_went_well_is_not_accused() -> None:
    assert broken(StateMachine, clean()) == set()


def test_a_state_out_of_turn_is_illegal() -> None:
    seen = clean()
    first, second = of_machine(seen)[:2]
    first.action, second.action = second.action, first.action
    assert "legal" in broken(StateMachine, seen)


def test_a_task_that_never_ran_is_lost() -> None:
    seen = clean()
    seen.runs.remove(of_machine(seen)[5])
    assert "none_lost" in broken(StateMachine, seen)
    assert seen.held["none_lost"].evidence == ["state_machine.0: working.1.5"]


def test_a_task_that_ran_on_two_nodes_is_doubled() -> None:
    seen = clean()
    seen.runs.append(of_machine(seen)[-1])
    assert "none_doubled" in broken(StateMachine, seen)


def test_states_that_are_there_at_once_are_told() -> None:
    seen = clean()
    before, after = of_machine(seen)[3:5]
    before.end_ns = after.start_ns + 1
    assert broken(StateMachine, seen) == {"one_at_a_time"}


@pytest.mark.parametrize("field", ["nominal_us", "start_us"])
def test_a_state_that_is_left_too_soon_is_told(field: str) -> None:
    seen = clean()
    first_task = next(one for one in seen.runs if one.action == "state_machine.working.1.1")
    setattr(first_task, field, getattr(first_task, field) - 20_000)
    assert broken(StateMachine, seen) == {"none_cut_short"}


def test_a_machine_that_is_still_there_is_told() -> None:
    seen = clean()
    seen.left.append(MACHINES[0])
    assert broken(StateMachine, seen) == {"nothing_left"}
