"""Scenarios on a bare APScheduler with its stock stores, each in a process of its own; three of the findings."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import msgspec
import pytest

from schedule_zero.reports.record import Outcome, Verdict
from schedule_zero.testbed.bare.order import ORDER, REPORT, STORES, Order
from schedule_zero.testbed.bare.run import COMMAND, BareRun
from schedule_zero.testbed.catalogue import chosen, params_of
from schedule_zero.testbed.finding_scripts import NAMED, FindingScripts, scripts
from schedule_zero.testbed.runner import Limits, Planned, Watcher

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("testbed-bare")]

MEMORY, SQLITE, POSTGRESQL = STORES


@pytest.fixture
def play(tmp_path):
    """Play a scenario on a store; its report."""

    def play(subject, name, *, speedup=1.0, watcher=None, **params):
        [scenario] = chosen([name])
        planned = Planned(scenario, params_of(scenario, params, quick=True))
        run = BareRun(tmp_path, seed=1, limits=Limits(max_execution_time_s=60))
        return asyncio.run(run.play(subject, planned, speedup, watcher or Watcher()))

    return play


@pytest.mark.parametrize("subject", [MEMORY, SQLITE])
def test_a_scenario_runs_on_a_stock_store_and_is_judged(play, subject):
    heard = []

    class Hears(Watcher):
        def goes_on(self, _, fraction, text, /):
            heard.append(fraction)

    report = play(subject, "creation_storm", bursts=2, schedules_per_burst=20, watcher=Hears())
    assert (report.outcome, report.why) == (Outcome.KEPT, "")
    assert report.subject == subject
    assert all(one.ok for one in report.held)
    assert report.figures.by_node == {"apscheduler": report.figures.executions}
    assert [one.target for one in report.figures.processes] == ["scheduler"]
    assert heard == [0.0, 0.5]


def test_a_simulated_day_passes_as_fast_as_on_ours(play):
    report = play(MEMORY, "fibonacci_backoff", speedup=1440.0, steps=2, streak=1, cap_s=60.0)
    assert report.speedup == 1440.0
    # (What became of it is APScheduler's: a replacement is often overwritten there.)
    assert report.outcome in (Outcome.KEPT, Outcome.BROKEN), report.why
    assert next(one.ok for one in report.held if one.name == "never_early")
    assert 0 < report.figures.lateness_max_s < 1440


def test_runs_pile_up_behind_a_limit_that_the_scenario_takes_for_a_skip(play):
    report = play(MEMORY, "adaptive_interval", steps=4, least_s=0.1, short_s=0.03, long_s=0.4)
    assert report.outcome is Outcome.BROKEN
    assert "each_step_once" in report.why


def test_the_process_ends_when_nobody_is_there_to_read_it(tmp_path):
    order = Order(subject=MEMORY, store="memory", scenario="temporal_resolution", params={"seconds": 60.0}, seed=1,
                  speedup=1.0, limits=Limits())  # fmt: skip
    (tmp_path / ORDER).write_bytes(msgspec.json.encode(order))
    process = subprocess.Popen([*COMMAND, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path)
    try:
        assert b"ready" in process.stdout.readline()
        process.stdin.close()
        assert process.wait(10) == 70
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
    assert not (tmp_path / REPORT).exists()


def test_a_database_that_does_not_answer_is_what_became_of_the_scenario(tmp_path):
    [scenario] = chosen(["cascade"])
    planned = Planned(scenario, params_of(scenario, {}, quick=True))
    run = BareRun(tmp_path, seed=1, limits=Limits(), database="postgresql://u:secret@127.0.0.1:1/none")
    report = asyncio.run(run.play(POSTGRESQL, planned, 1.0, Watcher()))
    assert report.outcome is Outcome.FAILED
    assert report.why.startswith("its scheduler did not start: OperationalError: ")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


def test_a_double_fire_a_dead_scheduler_and_an_unbounded_catch_up_are_shown():
    found = []
    paths = [path for path in scripts(quick=True) if path.stem in NAMED]
    asyncio.run(FindingScripts().run(paths, found.append))
    assert {one.name: one.verdict for one in found} == dict.fromkeys(NAMED, Verdict.CONFIRMED)
    seen = {one.name: one.seen for one in found}
    assert seen["crash_before_the_release_fires_twice"] == "2 jobs for 1 fire time"
    assert seen["raising_trigger_ends_the_scheduler"] == "UnboundLocalError ended the scheduler"
    assert seen["catch_up_asks_without_bound"].startswith("more than 60,000 calls")
    assert all(Path(one.script).is_file() for one in found)
