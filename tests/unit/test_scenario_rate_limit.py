"""The verdicts of ``rate_limit``: nothing of a quota that was kept, and each invariant named where it is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs
from schedule_zero.handlers.testbed.rate_limit import RateLimit, beyond, jain

from schedule_zero.clock import from_us
from schedule_zero.model import State
from schedule_zero.testbed.scenario import Seen
from tests.unit.scenario_bed import broken, execution, run, seen_of, us

PER_S, BURST, FIRST, OTHER = 10, 2, 30, 5


def clean() -> Seen:
    """Two at once, then one each tenth of a second: first those of n1, then those of n2 and n3."""
    nodes = ["n1"] * FIRST + ["n2"] * OTHER + ["n3"] * OTHER
    runs, executions = [], []
    jobs: dict[str, list[str]] = {}
    for number, node_id in enumerate(nodes):
        id_, at_s = f"e{number}", max(0, number - BURST + 1) / PER_S
        jobs.setdefault(node_id, []).append(id_)
        asked_s = 0 if node_id == "n1" else 1
        times = {"created_at": from_us(us(asked_s)), "dispatched_at": from_us(us(at_s))}
        executions.append(execution(id_, "rate_limit.spend", node_id=node_id, **times))
        runs.append(run(id_, "rate_limit.spend", at_s + 0.01, at_s + 0.02, node_id=node_id))
    why = {"n2": {"reason": "rate"}, "n3": {"reason": "rate"}}
    return seen_of(RateLimit, runs=runs, executions=executions, kept={"jobs": jobs, "why": why})


def judged(seen: Seen) -> set[str]:
    return broken(RateLimit, seen, per_s=PER_S, burst=BURST, first_jobs=FIRST, other_jobs=OTHER)


def given_at(seen: Seen, id_: str, at_s: float) -> None:
    seen.executions[id_] = structs.replace(seen.executions[id_], dispatched_at=from_us(us(at_s)))


def one_too_soon(seen: Seen) -> None:
    given_at(seen, "e20", 1.8)


def a_node_begins_more(seen: Seen) -> None:
    for one in seen.runs[10:25]:
        one.start_us = us(1.0)


def a_pause(seen: Seen) -> None:
    for number in range(20, FIRST + 2 * OTHER):
        given_at(seen, f"e{number}", number / PER_S + 3)


def another_reason(seen: Seen) -> None:
    seen.kept["why"]["n3"] = {"reason": "slot"}


def no_reason(seen: Seen) -> None:
    seen.kept["why"]["n3"] = None


def twice(seen: Seen) -> None:
    seen.runs.append(run("e3", "rate_limit.spend", 30, 31, node_id="n1"))


def failed(seen: Seen) -> None:
    seen.executions["e3"] = structs.replace(seen.executions["e3"], status=State.FAILED)


def forgotten(seen: Seen) -> None:
    for id_ in seen.kept["jobs"]["n3"]:
        del seen.executions[id_]


def elsewhere(seen: Seen) -> None:
    seen.runs[3].node_id = "n2"


def test_a_quota_that_was_kept_holds_and_is_measured() -> None:
    seen = clean()
    assert judged(seen) == set()
    # All of it went to the one who came first.
    assert seen.measures["fairness"] == pytest.approx(1 / 3)
    assert seen.measures["highest_per_s"] == PER_S + BURST
    assert seen.measures["others_waited_s"] == pytest.approx((FIRST + OTHER - BURST + 1) / PER_S - 1)


@pytest.mark.parametrize(
    ("tamper", "name"),
    [
        (one_too_soon, "within_quota"),
        (a_node_begins_more, "nodes_within_quota"),
        (a_pause, "quota_used"),
        (another_reason, "others_back_off"),
        (no_reason, "others_back_off"),
        (twice, "each_once"),
        (failed, "each_once"),
        (forgotten, "each_once"),
        (elsewhere, "on_their_node"),
    ],
)
def test_what_is_broken_is_named(tamper: Callable[[Seen], None], name: str) -> None:
    seen = clean()
    tamper(seen)
    assert judged(seen) == {name}
    assert seen.held[name].evidence[0]


def test_any_window_is_looked_at_not_only_that_from_the_first() -> None:
    quiet_then_much = [0.0, *(100 + number / 1000 for number in range(5))]
    assert len(beyond(quiet_then_much, 10, 2, 0)) == 3
    assert beyond([0.0, 0.0, 0.1, 0.2, 0.3], 10, 2, 0.001) == []


def test_equal_shares_are_fair_and_one_who_has_all_is_not() -> None:
    assert jain([4, 4, 4]) == 1
    assert jain([12, 0, 0]) == pytest.approx(1 / 3)
    assert jain([0, 0]) == 1
