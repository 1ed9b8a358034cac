"""Worlds from seeds: whatever goes wrong in them, no promise is broken; and a seed is all that a failure needs.

``tests.sizes`` says how many there are (10,000 in a night), or ``SEEDS=500 pytest tests/simulation``. A failure prints
the command that runs it again, and the smallest plan of faults with which it still fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schedule_zero.dispatch.membership import HELD, Membership
from schedule_zero.node.delivery import Delivery
from tests.simulation import runner
from tests.simulation.faults import KINDS, Planned
from tests.simulation.world import DAY, QUICK, Scenario, World
from tests.sizes import SIZE
from tests.tried import Tried

SEEDS = int(os.environ.get("SEEDS", SIZE.seeds))
FIRST = int(os.environ.get("FIRST_SEED", "0"))
# So many worlds to one test, so that several workers share them.
AT_ONCE = 20
SIX_HOURS_S = 6 * 3600.0
ROOT = Path(__file__).parents[2]
# Worlds (seed, scenario) that once broke a promise.
CURED = {
    "what is over and waits as a dead letter was counted as not there: the tally went below zero": (0, Scenario()),
    "a lost attempt ended before it began, after the server's clock was set back": (87, Scenario()),
    "node and server died one after the other, and what had begun was given to the next process as the same attempt": (
        62,
        QUICK,
    ),
    "the same, of what had begun so shortly before that nobody had heard of it": (1817, QUICK),
    "a process had come while the disk failed, and what it ran was called lost by the next server": (2421, QUICK),
    "a start on a disk that failed for a moment was told to be damaged": (93, QUICK),
    "a loss that was decided before a cancel was known was counted, and its attempt not archived": (437, QUICK),
    "a node whose predecessor its own job had ended was stopped, and the checker took the rerun for too soon": (
        661,
        QUICK,
    ),
    "what had been given back was begun a second time after its first node was killed once more, as above": (
        570,
        QUICK,
    ),
}


def judge(seed: int, scenario: Scenario, line: Tried) -> None:
    outcome = runner.run(seed, scenario)
    line.faults += outcome.injected
    line.judged(outcome.report)
    if not outcome.ok:
        pytest.fail(runner.tell(outcome, scenario), pytrace=False)


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, AT_ONCE))
@pytest.mark.timeout(600)
def test_whatever_goes_wrong_no_promise_is_broken(first, tried):
    line = tried("9 simulation", "simulated worlds: whatever a seed says")
    for seed in range(first, min(first + AT_ONCE, FIRST + SEEDS)):
        judge(seed, QUICK, line)


@pytest.mark.parametrize(("seed", "scenario"), CURED.values(), ids=CURED)
def test_what_once_broke_a_promise_breaks_none(seed, scenario, tried):
    judge(seed, scenario, tried("9 simulation", "simulated worlds that once broke a promise"))


@pytest.mark.skipif(SIZE.sweep is not None, reason="six hours take half a minute")
@pytest.mark.parametrize(
    ("kind", "nodes"), [("cut", ("n1", "n2", "n3")), ("cut", ("n1",)), ("cut_up", ("n1",)), ("cut_down", ("n1",))]
)
@pytest.mark.timeout(600)
def test_after_a_partition_of_six_hours_each_result_is_there_and_nothing_is_run_twice(kind, nodes, tried):
    line = tried("9 simulation", "simulated partitions of six hours, of one node or of all")
    # (With heartbeats of 8 s and leases of a minute: fewer to be simulated.)
    scenario = Scenario(
        storm_s=SIX_HOURS_S + 60, calm_s=600, clients=0, schedules=30, fires_s=(60.0, 600.0), scale=4.0, steady=True
    )
    plan = [Planned(20.0, kind, node, SIX_HOURS_S, 0.5) for node in nodes]

    outcome = World(5, scenario, plan=plan).run()

    line.faults += len(plan)
    line.judged(outcome.report)
    assert outcome.ok, outcome.text()


def test_one_seed_is_one_run_to_the_byte_in_every_process():
    """Whatever the order of hashes in it, and whatever ran in it before."""
    code = (
        "import sys; from tests.simulation import runner; runner.run(1, runner.QUICK) if sys.argv[1] == '2' else None; "
    )
    code += "print(runner.run(7, runner.QUICK).trace_hash)"
    told = {
        subprocess.run(
            [sys.executable, "-c", code, hash_seed],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }

    assert told == {runner.run(7, QUICK).trace_hash + "\n"}


def test_other_seeds_are_other_runs():
    assert runner.run(7, QUICK).trace_hash != runner.run(8, QUICK).trace_hash


def test_a_world_that_never_comes_to_rest_is_not_well(monkeypatch):
    """Its nodes tell their results for ever."""
    monkeypatch.setattr(Delivery, "ack", lambda *_: ())

    outcome = runner.run(0)

    assert not outcome.ok
    assert "it did not come to rest" in outcome.text()


def test_a_world_sees_what_it_is_to_see():
    """The seeds as a whole: all kinds of faults, jobs that ran, fires that were caught up, losses, refusals."""
    kinds: set[str] = set()
    seen: dict[str, int] = {}
    for seed in range(30):
        outcome = runner.run(seed)
        kinds |= {planned.kind for planned in outcome.plan}
        for what, n in (*outcome.report.seen.items(), *outcome.report.checked.items()):
            seen[what] = seen.get(what, 0) + n
        assert outcome.ok, outcome.text()
    assert len(kinds) >= len(KINDS) - 4
    assert seen["executions"] > 500
    assert seen["attempts"] > 50
    promises = {f"C{number}" for number in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 16, 18, 20, 21, 22)}
    assert {promise for promise in promises if seen.get(promise, 0) == 0} == set()


def test_a_seeded_bug_is_found_replayed_to_the_byte_and_shrunk(monkeypatch):
    """The bug: what a node holds is given to others as soon as its connection closes, whatever its lease."""
    proper = Membership.disconnected

    def hasty(self, peer, now):
        session = self.sessions.get(peer)
        proper(self, peer, now)
        for att in [] if session is None else list(session.node.attempts.values()):
            if att.phase in HELD:
                self._endings.lose(att, now)
        self._placing.settle(now)

    monkeypatch.setattr(Membership, "disconnected", hasty)
    found = next(outcome for outcome in map(runner.run, range(60)) if not outcome.ok)
    again = runner.run(found.seed)
    only, plan = runner.smallest(found, QUICK)
    monkeypatch.undo()

    assert (again.trace_hash, again.report.counts) == (found.trace_hash, found.report.counts)
    assert len(plan) <= 2
    assert runner.run(found.seed, only=only).ok
    assert f"python -m tests.simulation {found.seed} --scenario quick" in runner.tell(found, QUICK, shrunk=False)


@pytest.mark.long
def test_a_day_of_fifty_schedules_on_three_nodes_takes_less_than_a_thousandth():
    """1,000 × real time; the time is this process's own, so that others on the machine don't matter."""
    import time

    began_s = time.process_time()
    outcome = runner.run(1, DAY)
    took_s = time.process_time() - began_s

    assert outcome.ok, outcome.text()
    assert outcome.virtual_s / took_s >= 1000, f"{outcome.virtual_s / took_s:.0f} ×"


# --- shrinking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("guilty", [{3}, {1, 8}, {2, 5, 7}, set(range(1, 9)), set()])
def test_the_smallest_plan_is_what_is_needed_and_no_more(guilty):
    assert set(runner.shrink(8, lambda only: guilty <= set(only))) == guilty
