"""A round that can't see to the end decides what it can, and what it leaves comes out the same (C2, C3)."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schedule_zero.model import CatchUp, SkipReason
from schedule_zero.rules import catchup
from schedule_zero.rules.catchup import Circumstances, Frozen, Policy, decide, skip_all
from schedule_zero.timing import parse_trigger
from tests.unit.test_catchup import HOUR, Listed, S
from tests.unit.test_catchup_policies import (
    CAUGHT_UP,
    EXECUTED,
    MISSED,
    SKIPPED,
    Forbidden,
    Outcome,
    Short,
    Windows,
    by_definition,
)

policies = st.builds(
    Policy,
    grace_us=st.integers(0, 150),
    window_us=st.integers(0, 400),
    catch_up=st.sampled_from(CatchUp),
    catch_up_max=st.integers(1, 5),
    coalesce=st.booleans(),
    max_rows=st.integers(1, 6),
    max_runs=st.integers(1, 8),
)


@st.composite
def freezes(draw: st.DrawFn) -> list[Frozen]:
    """One after the other, as they are in a store."""
    edges = sorted(draw(st.lists(st.integers(0, 300), max_size=6, unique=True)))
    return [
        Frozen(from_us=low, to_us=high, catch_up=draw(st.none() | st.sampled_from(CatchUp)))
        for low, high in zip(edges[::2], edges[1::2], strict=False)
    ]


def rounds(
    times: Listed, first_us: int, now_us: int, policy: Policy, around: Circumstances
) -> tuple[dict[int, Outcome], dict[Outcome, int]]:
    """What round after round decides: the outcome of each row's first nominal time, and how many have which."""
    decided: dict[int, Outcome] = {}
    sums: dict[Outcome, int] = {}
    due_us: int | None = first_us
    while due_us is not None and due_us <= now_us:
        plan = decide(times, due_us, now_us, policy, around)
        assert plan.last_us >= due_us
        for decision in plan.decisions:
            assert decision.nominal_us not in decided
            outcome = (decision.outcome, decision.reason, decision.detail)
            decided[decision.nominal_us] = outcome
            sums[outcome] = sums.get(outcome, 0) + decision.count
        if around.runs_left is not None:
            left = around.runs_left - sum(decision.runs for decision in plan.decisions)
            assert left >= 0
            assert plan.finished == (left == 0)
            around = replace(around, runs_left=left)
        due_us = plan.next_us
    return decided, sums


@given(
    nominal_times=st.lists(st.integers(0, 300), min_size=1, unique=True),
    now_us=st.integers(0, 320),
    policy=policies,
    period=st.integers(2, 30),
    frozen=freezes(),
    stretches=st.integers(1, 12),
    step=st.none() | st.integers(12, 40),
)
@settings(max_examples=300, deadline=None)
def test_a_round_cut_short_by_a_calendar_of_many_windows_changes_no_outcome(
    nominal_times: list[int],
    now_us: int,
    policy: Policy,
    period: int,
    frozen: list[Frozen],
    stretches: int,
    step: int | None,
) -> None:
    times = Listed(nominal_times) if step is None else Short(nominal_times, step)
    expected = [us for us in times.times if us <= now_us]
    if not expected:
        return
    nightly = Windows(*((at, at + period // 2, SkipReason.BLACKOUT) for at in range(0, 320, period)))
    around = Circumstances(exclusions=nightly, freezes=frozen)
    wanted = by_definition(expected, now_us, policy, around)

    with patch.object(catchup, "MAX_STRETCHES", stretches):
        decided, sums = rounds(times, expected[0], now_us, policy, around)

    assert decided.items() <= wanted.items()
    assert sums == {fate: list(wanted.values()).count(fate) for fate in set(wanted.values())}


@given(
    nominal_times=st.lists(st.integers(0, 300), min_size=1, unique=True),
    now_us=st.integers(0, 320),
    policy=policies,
    frozen=freezes(),
    skips=st.frozensets(st.integers(0, 300), max_size=3),
    runs_left=st.integers(0, 6),
    step=st.none() | st.integers(12, 40),
)
@settings(max_examples=300, deadline=None)
def test_a_schedule_with_a_maximum_of_runs_ends_with_the_last_of_them(
    nominal_times: list[int],
    now_us: int,
    policy: Policy,
    frozen: list[Frozen],
    skips: frozenset[int],
    runs_left: int,
    step: int | None,
) -> None:
    times = Listed(nominal_times) if step is None else Short(nominal_times, step)
    expected = [us for us in times.times if us <= now_us]
    if not expected:
        return
    around = Circumstances(freezes=frozen, skips=skips, runs_left=runs_left)
    wanted: dict[int, Outcome] = {}
    left = runs_left
    for us, outcome in sorted(by_definition(expected, now_us, policy, around).items()):
        if left == 0:
            break
        wanted[us] = outcome
        left -= outcome[0] in (EXECUTED, CAUGHT_UP)

    decided, sums = rounds(times, expected[0], now_us, policy, around)

    assert decided.items() <= wanted.items()
    assert sums == {fate: list(wanted.values()).count(fate) for fate in set(wanted.values())}


class Hourly:
    """The first half of every hour is forbidden."""

    def verdict(self, us: int) -> Forbidden | None:
        return Forbidden(SkipReason.BLACKOUT, "h") if us % HOUR < HOUR // 2 else None

    def segments(self, from_us: int, to_us: int) -> Iterator[tuple[int, int, Forbidden | None]]:
        low = from_us
        while low < to_us:
            high = min(to_us, low - low % (HOUR // 2) + HOUR // 2)
            yield low, high, self.verdict(low)
            low = high


def test_the_latest_is_the_latest_although_a_round_does_not_reach_the_next_one() -> None:
    monthly = parse_trigger({"type": "cron", "expression": "45 3 1 * *"})
    now_us = 1_767_225_600 * S
    first_us = monthly.next_after(now_us - 100 * 24 * HOUR)
    assert first_us is not None
    policy = Policy(grace_us=S, window_us=365 * 24 * HOUR)
    found = []

    due_us: int | None = first_us
    while due_us is not None and due_us <= now_us:
        plan = decide(monthly, due_us, now_us, policy, Circumstances(exclusions=Hourly()))
        found += [decision.outcome for decision in plan.decisions]
        due_us = plan.next_us

    assert found == [MISSED, MISSED, CAUGHT_UP]


def test_skip_all_gives_everything_up_to_a_moment_one_reason() -> None:
    times = Short([S * n for n in range(500)], 40)

    decisions = skip_all(times, 3 * S, 400 * S, SkipReason.CHANGED, max_rows=10)

    assert sum(decision.count for decision in decisions) == 398
    assert {(decision.outcome, decision.reason) for decision in decisions} == {(SKIPPED, SkipReason.CHANGED)}
    assert [decision.nominal_us for decision in decisions] == sorted({one.nominal_us for one in decisions})
    assert skip_all(times, 401 * S, 400 * S, SkipReason.CHANGED) == []
