from __future__ import annotations

from typing import Annotated

import pytest
from msgspec import Meta

from schedule_zero.testbed import config
from schedule_zero.testbed.catalogue import scenarios
from schedule_zero.testbed.config import EARLIER, BadConfig, FileConfig
from schedule_zero.testbed.scenario import Scenario, ScenarioParams


class Storm(Scenario):
    """A storm."""

    handler_id = "creation_storm"

    class Params(ScenarioParams, frozen=True):
        bursts: int = 10
        schedules_per_burst: Annotated[int, Meta(ge=1)] = 1000
        seconds: float | None = None


class Resolution(Scenario):
    """An interval."""

    handler_id = "temporal_resolution"

    class Params(ScenarioParams, frozen=True):
        intervals_ms: tuple[int, ...] = (1000,)
        seconds: float = 10.0


KNOWN = {"creation_storm": Storm, "temporal_resolution": Resolution}


@pytest.fixture
def read(tmp_path):
    def read(text: str) -> FileConfig:
        path = tmp_path / "bed.yaml"
        path.write_text(text, encoding="utf-8")
        return config.read(path, KNOWN)

    return read


@pytest.fixture
def problems(read, tmp_path):
    def problems(text: str) -> list[str]:
        with pytest.raises(BadConfig) as raised:
            read(text)
        assert raised.value.exit_code == 2
        return [problem.removeprefix(f"{tmp_path}/") for problem in raised.value.data["problems"]]

    return problems


def test_an_empty_file_says_nothing(read):
    assert read("") == read("testbed:\n") == read("testbed:\n  limits:\n  scenarios: {}\n") == FileConfig()


def test_a_file_of_the_earlier_plan_says_the_same_with_our_names(read):
    found = read("""
testbed:
  mode: accelerated
  speedup: 60
  tests:
    temporal_resolution: {enabled: true, min_interval_ms: 5, duration_seconds: 3}
    self_modifying: {enabled: false, max_reschedules: 100}
    schedule_storms: {enabled: false, schedules_per_burst: 50, bursts: 2}
    distributed_loops: {nodes: 4, loop_depth: 9}
  limits: {max_schedules: 100, max_execution_time_seconds: 30, memory_limit_mb: 512}
  reporting: {output_dir: out, metrics_format: json, generate_graphs: false}
""")
    assert (found.mode, found.speedup, found.nodes) == ("accelerated", 60.0, 4)
    assert (found.max_schedules, found.max_execution_time_seconds, found.memory_limit_mb) == (100, 30.0, 512.0)
    assert (found.output_dir, found.metrics_format, found.generate_graphs) == ("out", "json", False)
    resolution, storm = found.scenarios["temporal_resolution"], found.scenarios["creation_storm"]
    assert (resolution.enabled, resolution.params) == (True, {"intervals_ms": (1000, 100, 10, 5), "seconds": 3.0})
    assert (storm.enabled, storm.params) == (False, {"schedules_per_burst": 50, "bursts": 2})
    assert set(found.scenarios) == set(KNOWN), "those that are not here are left out"


@pytest.mark.parametrize(
    ("smallest_ms", "intervals"), [(1, (1000, 100, 10, 1)), (10, (1000, 100, 10)), (5000, (5000,)), (700, (1000, 700))]
)
def test_a_smallest_interval_stands_for_those_above_it(read, smallest_ms, intervals):
    found = read(f"testbed: {{tests: {{temporal_resolution: {{min_interval_ms: {smallest_ms}}}}}}}")
    assert found.scenarios["temporal_resolution"].params == {"intervals_ms": intervals}


def test_our_own_names_win_wherever_they_stand(read):
    found = read("""
testbed:
  scenarios:
    creation_storm: {bursts: 3, enabled: true}
  nodes: 2
  tests:
    schedule_storms: {enabled: false, bursts: 9, schedules_per_burst: 7}
    distributed_loops: {nodes: 5}
""")
    assert found.nodes == 2
    storm = found.scenarios["creation_storm"]
    assert (storm.enabled, storm.params) == (True, {"bursts": 3, "schedules_per_burst": 7})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tests: {}", "bed.yaml:1: tests: unknown setting; did you mean testbed?"),
        ("testbed: []", "bed.yaml:1: testbed: expected a mapping, got a list"),
        ("testbed:\n  nodez: 3", "bed.yaml:2: testbed.nodez: unknown setting; did you mean nodes?"),
        ("testbed:\n  xyz: 3", "bed.yaml:2: testbed.xyz: unknown setting; expected one of mode, speedup, nodes,"),
        ("testbed:\n  5: 3", "bed.yaml:2: testbed.5: unknown setting"),
        ("testbed:\n  mode: fast", 'bed.yaml:2: testbed.mode: expected one of realtime, accelerated, got "fast"'),
        ("testbed:\n  mode:", "bed.yaml:2: testbed.mode: expected one of realtime, accelerated, got None"),
        ("testbed:\n  speedup: .nan", "bed.yaml:2: testbed.speedup: expected a number >= 1.0, got nan"),
        ("testbed:\n  speedup: .inf", "bed.yaml:2: testbed.speedup: expected a number <= 100000.0, got inf"),
        ("testbed:\n  nodes: '3'", 'bed.yaml:2: testbed.nodes: expected a whole number, got "3"'),
        ("testbed:\n  nodes: 0", "bed.yaml:2: testbed.nodes: expected a whole number >= 1, got 0"),
        ("testbed:\n  seed: -1", "bed.yaml:2: testbed.seed: expected a whole number >= 0, got -1"),
        ("testbed:\n  quick: 1", "bed.yaml:2: testbed.quick: expected true or false, got 1"),
        ("testbed:\n  nodes: 2\n  nodes: 3", "bed.yaml:3: testbed.nodes: stands here a second time"),
        (
            "testbed:\n  limits:\n    memory_limit_mb: true",
            "bed.yaml:3: testbed.limits.memory_limit_mb: expected a number, got True",
        ),
        (
            "testbed:\n  limits:\n    max_schedule: 1",
            "bed.yaml:3: testbed.limits.max_schedule: unknown setting; did you mean max_schedules?",
        ),
        (
            "testbed:\n  reporting: {metrics_format: csv}",
            'bed.yaml:2: testbed.reporting.metrics_format: expected one of json, got "csv"',
        ),
        (
            "testbed:\n  tests: {schedule_storm: {}}",
            "bed.yaml:2: testbed.tests.schedule_storm: unknown setting; did you mean schedule_storms?",
        ),
        (
            "testbed:\n  tests: {schedule_storms: {bursts: many}}",
            'bed.yaml:2: testbed.tests.schedule_storms.bursts: expected a whole number, got "many"',
        ),
        (
            "testbed:\n  tests: {schedule_storms: {enabled: maybe}}",
            'bed.yaml:2: testbed.tests.schedule_storms.enabled: expected true or false, got "maybe"',
        ),
        (
            "testbed:\n  scenarios: {creation_strom: {}}",
            "bed.yaml:2: testbed.scenarios.creation_strom: unknown setting; did you mean creation_storm?",
        ),
        (
            "testbed:\n  scenarios:\n    creation_storm:\n      burst: 1",
            "bed.yaml:4: testbed.scenarios.creation_storm.burst: unknown setting; did you mean bursts?",
        ),
        (
            "testbed:\n  scenarios:\n    creation_storm:\n      schedules_per_burst: 0",
            "bed.yaml:4: testbed.scenarios.creation_storm.schedules_per_burst: expected a whole number >= 1, got 0",
        ),
        (
            "testbed:\n  scenarios: {temporal_resolution: {seconds: .inf}}",
            "bed.yaml:2: testbed.scenarios.temporal_resolution.seconds: expected a finite number, got inf",
        ),
        ("testbed: {", "bed.yaml:2:1: not valid YAML"),
        ("- a", "bed.yaml:1: expected a mapping of keys, got a list"),
    ],
)
def test_each_mistake_is_told_with_its_place(read, tmp_path, text, expected):
    with pytest.raises(BadConfig) as raised:
        read(text)
    assert expected in raised.value.message.replace(f"{tmp_path}/", "")


def test_all_mistakes_are_told_at_once(problems):
    assert len(problems("testbed:\n  mode: a\n  nodes: 0\n  limits: {x: 1}\n")) == 3


def test_a_hostile_file_costs_little(problems):
    told = problems("testbed:\n" + "".join(f"  k{n}: 1\n" for n in range(5000)))
    assert len(told) <= 101
    assert len(problems(f"testbed:\n  {'x' * 900}: 1\n")[0]) < 400


def test_a_missing_file_is_a_mistake_of_the_input(tmp_path):
    with pytest.raises(BadConfig, match="No such file"):
        config.read(tmp_path / "none.yaml", KNOWN)


def test_every_row_of_the_table_names_a_parameter_that_is_there():
    known = scenarios()
    rows = [to for test in EARLIER.values() for key in test.keys.values() for to in key.to if to.scenario in known]
    assert rows
    assert [to for to in rows if to.param not in known[to.scenario].Params.__struct_fields__] == []
