"""The verdicts of ``failover``: nothing of an outage that went by the policies, each invariant where it is broken."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs
from schedule_zero.handlers.testbed.failover import KINDS, Failover

from schedule_zero.clock import from_us
from schedule_zero.model import FireOutcome, SkipReason, State
from schedule_zero.testbed.scenario import Seen
from tests.unit.scenario_bed import broken, execution, fire, run, seen_of, us

# Due each second from 0 to 20; the server is away from 5.5 to 9.5, and the grace is one second.
LAST, DOWN_S, UP_S = 20, 5.5, 9.5
LATE = (6, 7, 8)


def clean() -> Seen:
    fires: list[Any] = []
    runs, executions = [], []
    for kind in KINDS:
        name = f"failover.{kind}"
        for at in range(LAST + 1):
            outcome = FireOutcome.EXECUTED
            decided_s = at + 0.001 if at not in (*LATE, 9) else UP_S
            if at in LATE:
                made_up = kind == "all" or (kind == "latest" and at == LATE[-1])
                outcome = FireOutcome.CAUGHT_UP if made_up else FireOutcome.MISSED
            fires.append(fire(name, at, outcome, decided_at=from_us(us(decided_s)), execution_id=f"{kind}{at}"))
            if outcome is not FireOutcome.MISSED:
                runs.append(run(f"{kind}{at}", "failover.tick", decided_s, schedule_id=name, nominal_s=at))
                executions.append(execution(f"{kind}{at}", "failover.tick", schedule_id=name))
    runs.append(run("job", "failover.across", 5, 10))
    executions.append(execution("job", "failover.across"))
    kept = {
        "follow": [f"failover.{kind}" for kind in KINDS],
        "outages": [(us(DOWN_S), us(UP_S))],
        "jobs": ["job"],
        "span": (us(0), us(LAST + 0.5)),
    }
    return seen_of(Failover, runs=runs, executions=executions, fires=fires, kept=kept)


def judged(seen: Seen) -> set[str]:
    return broken(Failover, seen, interval_ms=1000, misfire_grace_s=1.0)


def change(seen: Seen, kind: str, at: int, **fields: Any) -> None:
    rows = seen.fires[f"failover.{kind}"]
    rows[at] = structs.replace(rows[at], **fields)


def ran(seen: Seen, kind: str, at: int) -> None:
    """It ran as well, so that nothing else is wrong with it."""
    seen.runs.append(run(f"{kind}{at}", "failover.tick", UP_S, schedule_id=f"failover.{kind}", nominal_s=at))


def did_not_run(seen: Seen, kind: str, at: int) -> None:
    seen.runs[:] = [one for one in seen.runs if one.execution_id != f"{kind}{at}"]


def twice(seen: Seen) -> None:
    seen.runs.append(run("other", "failover.tick", 12, schedule_id="failover.all", nominal_s=8))


def no_row(seen: Seen) -> None:
    did_not_run(seen, "none", 12)
    del seen.fires["failover.none"][12]


def no_last_rows(seen: Seen) -> None:
    for at in (20, 19, 18):
        did_not_run(seen, "none", at)
        seen.fires["failover.none"].pop()


def two_rows(seen: Seen) -> None:
    rows = seen.fires["failover.none"]
    rows.insert(7, rows[7])


def a_row_that_was_not_due(seen: Seen) -> None:
    change(seen, "none", 12, nominal_time=from_us(us(12.3)))
    did_not_run(seen, "none", 12)
    seen.runs.append(run("none12", "failover.tick", 12.3, schedule_id="failover.none", nominal_s=12.3))


def all_misses(seen: Seen) -> None:
    change(seen, "all", 7, outcome=FireOutcome.MISSED)
    did_not_run(seen, "all", 7)


def none_makes_up(seen: Seen) -> None:
    change(seen, "none", 7, outcome=FireOutcome.CAUGHT_UP)
    ran(seen, "none", 7)


def latest_makes_up_for_an_older_one(seen: Seen) -> None:
    change(seen, "latest", 7, outcome=FireOutcome.CAUGHT_UP)
    ran(seen, "latest", 7)


def latest_makes_up_for_none(seen: Seen) -> None:
    change(seen, "latest", 8, outcome=FireOutcome.MISSED)
    did_not_run(seen, "latest", 8)


def missed_within_the_grace(seen: Seen) -> None:
    change(seen, "none", 9, outcome=FireOutcome.MISSED)
    did_not_run(seen, "none", 9)


def executed_beyond_the_grace(seen: Seen) -> None:
    change(seen, "none", 8, outcome=FireOutcome.EXECUTED)
    ran(seen, "none", 8)


def skipped(seen: Seen) -> None:
    change(seen, "all", 7, outcome=FireOutcome.SKIPPED, reason=SkipReason.BACKPRESSURE)
    did_not_run(seen, "all", 7)


def late_without_an_outage(seen: Seen) -> None:
    decided = seen.fires["failover.none"][15].decided_at + timedelta(seconds=2)
    change(seen, "none", 15, outcome=FireOutcome.MISSED, decided_at=decided)
    did_not_run(seen, "none", 15)


def told_and_did_not_run(seen: Seen) -> None:
    did_not_run(seen, "all", 7)


def ran_and_was_not_told(seen: Seen) -> None:
    ran(seen, "none", 7)


def job_again(seen: Seen) -> None:
    seen.runs.append(run("job", "failover.across", 10, 12, token=9))


def job_lost(seen: Seen) -> None:
    seen.executions["job"] = structs.replace(seen.executions["job"], status=State.DEAD)


def test_an_outage_that_went_by_the_policies_holds_and_is_measured() -> None:
    seen = clean()
    assert judged(seen) == set()
    assert seen.measures == {"outage_s": 4, "gap_s": pytest.approx(4.499), "caught_up": 4, "missed": 5}


def test_a_row_that_stands_for_several_times_counts_for_each() -> None:
    seen = clean()
    rows = seen.fires["failover.none"]
    rows[6:9] = [structs.replace(rows[6], count=3, last_nominal_time=rows[8].nominal_time)]
    assert judged(seen) == set()


@pytest.mark.parametrize(
    ("tamper", "name"),
    [
        (twice, "no_duplicate"),
        (no_row, "every_fire_accounted"),
        (no_last_rows, "every_fire_accounted"),
        (two_rows, "every_fire_accounted"),
        (a_row_that_was_not_due, "every_fire_accounted"),
        (all_misses, "missed_by_policy"),
        (none_makes_up, "missed_by_policy"),
        (latest_makes_up_for_an_older_one, "missed_by_policy"),
        (latest_makes_up_for_none, "missed_by_policy"),
        (missed_within_the_grace, "missed_by_policy"),
        (executed_beyond_the_grace, "missed_by_policy"),
        (skipped, "missed_by_policy"),
        (late_without_an_outage, "late_by_outage"),
        (told_and_did_not_run, "rows_are_true"),
        (ran_and_was_not_told, "rows_are_true"),
        (job_again, "jobs_survive"),
        (job_lost, "jobs_survive"),
    ],
)
def test_what_is_broken_is_named(tamper: Callable[[Seen], None], name: str) -> None:
    seen = clean()
    tamper(seen)
    assert judged(seen) == {name}
    assert seen.held[name].evidence[0]
