"""What is true of every scenario there is, and will be of the next one."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from schedule_zero.testbed.catalogue import params_of, scenarios

HERE = Path(__file__).parent
EVERY = pytest.mark.parametrize("name", list(scenarios()))


@EVERY
def test_each_invariant_is_shown_to_break_on_a_record_that_was_tampered_with(name):
    tests = HERE / f"test_scenario_{name}.py"
    assert tests.exists()
    text = tests.read_text()
    assert [one for one in scenarios()[name].holds if f'"{one}"' not in text] == []


@EVERY
def test_it_is_one_file_that_one_can_read_at_once(name):
    source = Path(inspect.getfile(scenarios()[name])).read_text()
    assert len(source.splitlines()) <= 150


@EVERY
def test_it_says_what_it_asks_and_takes_its_own_quick_parameters(name):
    scenario = scenarios()[name]
    assert scenario.asks().endswith("?")
    assert scenario.holds
    assert scenario.measures
    assert params_of(scenario, {}, quick=True) != params_of(scenario, {}, quick=False)
