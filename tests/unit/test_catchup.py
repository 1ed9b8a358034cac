"""Every nominal time gets exactly one outcome (C2), bounded in work and rows (C3)."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.model import FireOutcome, SkipReason
from schedule_zero.rules.catchup import ORDINARY, Circumstances, Decision, Plan, Policy, decide
from schedule_zero.timing import parse_trigger

EXECUTED, CAUGHT_UP, SKIPPED, MISSED = (
    FireOutcome.EXECUTED,
    FireOutcome.CAUGHT_UP,
    FireOutcome.SKIPPED,
    FireOutcome.MISSED,
)
S = 1_000_000
HOUR = 3600 * S
PAUSED = Circumstances(paused=True)
DEFAULT = Policy(grace_us=10 * S, window_us=HOUR)


class Listed:
    """Nominal times given one by one: as slow and as simple as can be."""

    def __init__(self, times: list[int]) -> None:
        self.times = sorted(times)

    def next_after(self, us: int) -> int | None:
        return next((nominal for nominal in self.times if nominal > us), None)

    def last_before(self, us: int) -> int | None:
        return next((nominal for nominal in reversed(self.times) if nominal < us), None)

    def count(self, after_us: int, upto_us: int) -> int:
        return bisect_right(self.times, upto_us) - bisect_right(self.times, after_us)

    def reach(self, after_us: int, upto_us: int) -> int | None:
        return None


def outcomes(plan: Plan) -> list[tuple[int, FireOutcome, int]]:
    return [(decision.nominal_us, decision.outcome, decision.count) for decision in plan.decisions]


def timed(decision: Callable[[], Plan]) -> tuple[Plan, float]:
    """The plan, and the CPU seconds that it takes: the least of three, as a collection may come between."""
    taken_s = []
    for _ in range(3):
        before = time.process_time()
        plan = decision()
        taken_s.append(time.process_time() - before)
    return plan, min(taken_s)


def covered(times: Listed, decision: Decision) -> list[int]:
    """The nominal times that a ledger row stands for."""
    last_us = decision.nominal_us if decision.last_nominal_us is None else decision.last_nominal_us
    return times.times[bisect_left(times.times, decision.nominal_us) : bisect_right(times.times, last_us)]


# --- by example ------------------------------------------------------------------------------------


def test_a_fire_on_time_is_executed() -> None:
    times = Listed([0, 60 * S, 120 * S])

    plan = decide(times, 60 * S, 60 * S + 1500, DEFAULT)

    assert outcomes(plan) == [(60 * S, EXECUTED, 1)]
    assert (plan.last_us, plan.next_us) == (60 * S, 120 * S)


def test_each_fire_within_the_grace_is_executed() -> None:
    times = Listed([second * S for second in range(100)])

    plan = decide(times, 40 * S, 50 * S, DEFAULT)

    assert outcomes(plan) == [(second * S, EXECUTED, 1) for second in range(40, 51)]
    assert plan.next_us == 51 * S


def test_of_older_fires_the_latest_is_caught_up_and_the_others_are_missed() -> None:
    times = Listed([minute * 60 * S for minute in range(100)])

    plan = decide(times, 10 * 60 * S, (13 * 60 + 30) * S, DEFAULT)

    assert outcomes(plan) == [
        (600 * S, MISSED, 1),
        (660 * S, MISSED, 1),
        (720 * S, MISSED, 1),
        (780 * S, CAUGHT_UP, 1),
    ]
    assert plan.next_us == 840 * S


def test_beyond_the_window_nothing_is_caught_up() -> None:
    times = Listed([0, 10 * HOUR])

    plan = decide(times, 0, 2 * HOUR, DEFAULT)

    assert outcomes(plan) == [(0, MISSED, 1)]
    assert plan.next_us == 10 * HOUR


def test_a_long_run_of_missed_fires_is_a_hundred_rows_and_one_with_the_count() -> None:
    times = Listed([minute * 60 * S for minute in range(1000)])

    plan = decide(times, 0, 900 * 60 * S + 20 * S, DEFAULT)

    first, *details, last = plan.decisions
    # 900 missed (0 … 899): the oldest 800 as one row, the newest 100 with a row each.
    assert first == Decision(0, MISSED, None, 800, 799 * 60 * S)
    assert [decision.nominal_us for decision in details] == [minute * 60 * S for minute in range(800, 900)]
    assert last == Decision(900 * 60 * S, CAUGHT_UP)


def test_the_fires_of_a_paused_schedule_are_skipped_whatever_their_lateness() -> None:
    times = Listed([minute * 60 * S for minute in range(10)])

    plan = decide(times, 60 * S, 180 * S, DEFAULT, PAUSED)

    assert plan.decisions == [Decision(minute * 60 * S, SKIPPED, SkipReason.PAUSED) for minute in (1, 2, 3)]
    assert plan.next_us == 240 * S


def test_a_full_round_leaves_the_rest_due() -> None:
    times = Listed([S * second for second in range(10)])

    plan = decide(times, 0, 9 * S, Policy(grace_us=10 * S, window_us=HOUR, max_runs=4))

    assert outcomes(plan) == [(second * S, EXECUTED, 1) for second in range(4)]
    assert (plan.last_us, plan.next_us) == (3 * S, 4 * S)


def test_a_due_time_that_the_trigger_no_longer_gives_is_decided_all_the_same() -> None:
    """A new tzdata moved the trigger's times; what was promised stays in the ledger."""
    times = Listed([0, 7 * S, 60 * S])

    assert outcomes(decide(times, 5 * S, 6 * S, DEFAULT)) == [(5 * S, EXECUTED, 1)]
    late = decide(times, 5 * S, 50 * S, DEFAULT)
    assert outcomes(late) == [(5 * S, MISSED, 1), (7 * S, CAUGHT_UP, 1)]


@pytest.mark.parametrize(
    "document",
    [
        {"type": "interval", "milliseconds": 10},
        {"type": "interval", "seconds": 1},
        {"type": "cron", "expression": "* * * * * *"},
        {"type": "cron", "expression": "*/5 * * * *", "timezone": "America/New_York"},
        {"type": "calendar", "days": 1, "at": "02:30", "timezone": "Europe/Berlin"},
    ],
)
@pytest.mark.parametrize("paused", [False, True])
def test_a_due_time_ten_years_back_is_decided_at_once(document: dict[str, object], paused: bool) -> None:
    trigger = parse_trigger(document)
    now_us = 1_800_000_000 * S
    due_us = trigger.next_after(now_us - 10 * 365 * 86_400 * S)
    assert due_us is not None

    plan, taken_s = timed(lambda: decide(trigger, due_us, now_us, DEFAULT, PAUSED if paused else ORDINARY))

    decided = sum(decision.count for decision in plan.decisions)
    assert decided == 1 + trigger.count(due_us, plan.last_us)
    assert plan.next_us == trigger.next_after(plan.last_us)
    # The count, a hundred details, the one caught up, and a round of those within the grace.
    assert len(plan.decisions) <= 1 + 100 + 1 + 1000
    assert taken_s < 0.1


# --- against brute force ---------------------------------------------------------------------------


def by_definition(
    nominal_us: int, latest_old_us: int | None, now_us: int, policy: Policy, *, paused: bool
) -> FireOutcome:
    if paused:
        return SKIPPED
    if nominal_us >= now_us - policy.grace_us:
        return EXECUTED
    if nominal_us == latest_old_us and nominal_us >= now_us - policy.window_us:
        return CAUGHT_UP
    return MISSED


@given(
    nominal_times=st.lists(st.integers(0, 500), min_size=1, unique=True),
    now_us=st.integers(0, 520),
    grace_us=st.integers(0, 200),
    window_us=st.integers(0, 600),
    max_rows=st.integers(1, 8),
    max_runs=st.integers(1, 8),
    paused=st.booleans(),
)
def test_expected_is_executed_caught_up_skipped_and_missed_together(
    nominal_times: list[int], now_us: int, grace_us: int, window_us: int, max_rows: int, max_runs: int, paused: bool
) -> None:
    times = Listed(nominal_times)
    policy = Policy(grace_us=grace_us, window_us=window_us, max_rows=max_rows, max_runs=max_runs)
    expected = [nominal for nominal in times.times if nominal <= now_us]
    if not expected:
        return
    latest_old_us = max((nominal for nominal in expected if nominal < now_us - grace_us), default=None)

    decisions: list[Decision] = []
    due_us: int | None = expected[0]
    while due_us is not None and due_us <= now_us:
        plan = decide(times, due_us, now_us, policy, PAUSED if paused else ORDINARY)
        ran = sum(decision.outcome is EXECUTED for decision in plan.decisions)
        assert ran <= max_runs
        assert len(plan.decisions) - ran <= max_rows + 2
        assert plan.last_us >= due_us
        assert plan.next_us == times.next_after(plan.last_us)
        decisions += plan.decisions
        due_us = plan.next_us

    decided: dict[int, FireOutcome] = {}
    for decision in decisions:
        nominals = covered(times, decision)
        assert len(nominals) == decision.count
        assert not decided.keys() & nominals
        decided.update(dict.fromkeys(nominals, decision.outcome))
    assert decided == {
        nominal: by_definition(nominal, latest_old_us, now_us, policy, paused=paused) for nominal in expected
    }


@given(
    period_us=st.integers(1000, 50_000),
    due=st.integers(0, 1000),
    late_us=st.integers(0, 3 * HOUR),
    grace_us=st.integers(0, 20 * S),
)
def test_the_sum_holds_for_intervals_however_long_the_outage(
    period_us: int, due: int, late_us: int, grace_us: int
) -> None:
    trigger = parse_trigger({"type": "interval", "milliseconds": period_us / 1000})
    due_us = due * period_us
    now_us = due_us + late_us

    plan = decide(trigger, due_us, now_us, Policy(grace_us=grace_us, window_us=HOUR))

    assert sum(decision.count for decision in plan.decisions) == 1 + trigger.count(due_us, plan.last_us)
    assert plan.next_us == trigger.next_after(plan.last_us)
    old_us = trigger.last_before(now_us - grace_us)
    owed = old_us is not None and old_us >= due_us and old_us >= now_us - HOUR
    assert sum(decision.outcome is CAUGHT_UP for decision in plan.decisions) == owed
