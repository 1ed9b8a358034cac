"""Every policy of a schedule, against a definition that goes through the nominal times one by one (C2, C3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schedule_zero.model import CatchUp, FireOutcome, SkipReason
from schedule_zero.rules.catchup import Circumstances, Decision, Frozen, Plan, Policy, decide
from schedule_zero.timing import parse_trigger
from tests.unit.test_catchup import HOUR, Listed, S, timed

EXECUTED, CAUGHT_UP, SKIPPED, MISSED = (
    FireOutcome.EXECUTED,
    FireOutcome.CAUGHT_UP,
    FireOutcome.SKIPPED,
    FireOutcome.MISSED,
)
Outcome = tuple[FireOutcome, SkipReason | None, str | None]


@dataclass(frozen=True)
class Forbidden:
    reason: SkipReason
    detail: str


class Windows:
    """A named calendar as slow and as simple as can be: windows with a reason each."""

    def __init__(self, *windows: tuple[int, int, SkipReason]) -> None:
        self.windows = windows

    def verdict(self, us: int) -> Forbidden | None:
        for from_us, to_us, reason in self.windows:
            if from_us <= us < to_us:
                return Forbidden(reason, f"from {from_us}")
        return None

    def segments(self, from_us: int, to_us: int) -> Iterator[tuple[int, int, Forbidden | None]]:
        edges = {from_us, to_us}
        for window in self.windows:
            edges.update(us for us in window[:2] if from_us < us < to_us)
        ordered = sorted(edges)
        for low, high in pairwise(ordered):
            yield low, high, self.verdict(low)


class Short(Listed):
    """Nominal times that have to be counted one by one, and so in steps."""

    def __init__(self, times: list[int], step: int) -> None:
        super().__init__(times)
        self.step = step

    def reach(self, after_us: int, upto_us: int) -> int | None:
        later = [us for us in self.times if us > after_us]
        return later[self.step - 1] if len(later) >= self.step else None


def outcomes(plan: Plan) -> list[tuple[int, FireOutcome, SkipReason | None]]:
    return [(decision.nominal_us, decision.outcome, decision.reason) for decision in plan.decisions]


def minutes(n: int) -> Listed:
    return Listed([minute * 60 * S for minute in range(n)])


# --- by example ------------------------------------------------------------------------------------


def test_catch_up_none_runs_none_of_the_late_ones() -> None:
    plan = decide(minutes(100), 0, 150 * S, Policy(grace_us=0, window_us=HOUR, catch_up=CatchUp.NONE))

    assert outcomes(plan) == [(us * 60 * S, MISSED, None) for us in (0, 1, 2)]


def test_catch_up_all_runs_the_newest_up_to_its_maximum_and_says_so_of_the_others() -> None:
    policy = Policy(grace_us=0, window_us=4 * 60 * S, catch_up=CatchUp.ALL, catch_up_max=2)

    plan = decide(minutes(100), 0, 390 * S, policy)

    assert outcomes(plan) == [
        # Before the window.
        (0, MISSED, None),
        (60 * S, MISSED, None),
        (120 * S, MISSED, None),
        (180 * S, SKIPPED, SkipReason.CATCH_UP_LIMIT),
        (240 * S, SKIPPED, SkipReason.CATCH_UP_LIMIT),
        (300 * S, CAUGHT_UP, None),
        (360 * S, CAUGHT_UP, None),
    ]


def test_coalesce_runs_the_latest_of_those_that_are_due_at_once() -> None:
    policy = Policy(grace_us=10 * S, window_us=HOUR, coalesce=True)

    plan = decide(Listed([S * n for n in range(20)]), 3 * S, 6 * S, policy)

    assert outcomes(plan) == [
        *((us * S, SKIPPED, SkipReason.COALESCED) for us in (3, 4, 5)),
        (6 * S, EXECUTED, None),
    ]


def test_a_snooze_that_is_over_skips_what_lay_in_it_and_no_more() -> None:
    policy = Policy(grace_us=10 * 60 * S, window_us=HOUR)

    plan = decide(minutes(100), 60 * S, 240 * S, policy, Circumstances(paused=True, resume_us=180 * S))

    assert outcomes(plan) == [
        (60 * S, SKIPPED, SkipReason.PAUSED),
        (120 * S, SKIPPED, SkipReason.PAUSED),
        (180 * S, EXECUTED, None),
        (240 * S, EXECUTED, None),
    ]


def test_what_an_operator_asked_to_skip_is_skipped_on_time_too() -> None:
    plan = decide(
        minutes(100), 60 * S, 60 * S, Policy(grace_us=S, window_us=HOUR), Circumstances(skips=frozenset({60 * S}))
    )

    assert outcomes(plan) == [(60 * S, SKIPPED, SkipReason.REQUESTED)]
    assert plan.next_us == 120 * S


def test_a_calendar_forbids_and_the_ledger_says_which() -> None:
    calendar = Windows((60 * S, 150 * S, SkipReason.HOLIDAY))

    plan = decide(
        minutes(100), 60 * S, 200 * S, Policy(grace_us=HOUR, window_us=HOUR), Circumstances(exclusions=calendar)
    )

    assert plan.decisions == [
        Decision(60 * S, SKIPPED, SkipReason.HOLIDAY, detail=f"from {60 * S}"),
        Decision(120 * S, SKIPPED, SkipReason.HOLIDAY, detail=f"from {60 * S}"),
        Decision(180 * S, EXECUTED),
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (CatchUp.NONE, [(SKIPPED, SkipReason.FROZEN)] * 3),
        (CatchUp.LATEST, [(SKIPPED, SkipReason.FROZEN)] * 2 + [(CAUGHT_UP, None)]),
        (CatchUp.ALL, [(CAUGHT_UP, None)] * 3),
        # As after an outage of that length.
        (None, [(MISSED, None)] * 2 + [(CAUGHT_UP, None)]),
    ],
)
def test_after_a_freeze_what_is_made_up_for_is_what_was_chosen(
    choice: CatchUp | None, expected: list[tuple[FireOutcome, SkipReason | None]]
) -> None:
    freeze = Frozen(from_us=30 * S, to_us=200 * S, catch_up=choice)

    plan = decide(minutes(100), 60 * S, 200 * S, Policy(grace_us=S, window_us=HOUR), Circumstances(freezes=[freeze]))

    assert [(decision.outcome, decision.reason) for decision in plan.decisions] == expected


def test_after_the_last_run_that_it_may_have_nothing_is_due_any_more() -> None:
    plan = decide(minutes(100), 60 * S, 240 * S, Policy(grace_us=HOUR, window_us=HOUR), Circumstances(runs_left=2))

    assert outcomes(plan) == [(60 * S, EXECUTED, None), (120 * S, EXECUTED, None)]
    assert (plan.next_us, plan.finished) == (None, True)


@pytest.mark.parametrize("period", [{"milliseconds": 10}, {"seconds": 1}, {"hours": 1}])
def test_ten_years_back_with_a_blackout_each_night_are_decided_in_bounded_rounds(period: dict[str, int]) -> None:
    day_us, now_us = 24 * HOUR, 1_800_000_000 * S
    start_us = now_us - 3650 * day_us

    class Nights:
        def verdict(self, us: int) -> Forbidden | None:
            return Forbidden(SkipReason.BLACKOUT, "night") if us % day_us < 4 * HOUR else None

        def segments(self, from_us: int, to_us: int) -> Iterator[tuple[int, int, Forbidden | None]]:
            low = from_us
            while low < to_us:
                midnight = low - low % day_us
                edge = midnight + 4 * HOUR
                high = min(to_us, edge if low < edge else midnight + day_us)
                yield low, high, self.verdict(low)
                low = high

    trigger = parse_trigger({"type": "interval", **period})
    due_us: int | None = trigger.next_after(start_us)
    assert due_us is not None
    expected = 1 + trigger.count(due_us, now_us)
    around = Circumstances(exclusions=Nights(), freezes=[Frozen(from_us=now_us - HOUR, to_us=now_us - 60 * S)])
    decided = rounds = slowest_s = 0

    while due_us is not None and due_us <= now_us:
        plan, taken_s = timed(partial(decide, trigger, due_us, now_us, Policy(grace_us=S, window_us=HOUR), around))
        slowest_s = max(slowest_s, taken_s)
        decided += sum(decision.count for decision in plan.decisions)
        rounds += 1
        due_us = plan.next_us

    assert decided == expected
    assert rounds < 20
    assert slowest_s < 0.1


# --- against brute force ---------------------------------------------------------------------------


def by_definition(expected: list[int], now_us: int, policy: Policy, around: Circumstances) -> dict[int, Outcome]:
    """The docstring of ``rules.catchup``, read aloud."""
    fates: dict[int, Outcome] = {}
    late: list[int] = []
    fresh: list[int] = []
    frozen: dict[int, list[int]] = {}
    for us in expected:
        verdict = None if around.exclusions is None else around.exclusions.verdict(us)
        freeze = next(
            (n for n, one in enumerate(around.freezes) if one.catch_up is not None and one.from_us <= us < one.to_us),
            None,
        )
        if us in around.skips:
            fates[us] = (SKIPPED, SkipReason.REQUESTED, None)
        elif around.paused and (around.resume_us is None or us < around.resume_us):
            fates[us] = (SKIPPED, SkipReason.PAUSED, None)
        elif verdict is not None:
            fates[us] = (SKIPPED, verdict.reason, verdict.detail)
        elif freeze is not None:
            frozen.setdefault(freeze, []).append(us)
        elif us >= now_us - policy.grace_us:
            fresh.append(us)
        elif us >= now_us - policy.window_us:
            late.append(us)
        else:
            fates[us] = (MISSED, None, None)

    def catch_up(times: list[int], how: CatchUp, others: Outcome) -> None:
        keep = {CatchUp.NONE: 0, CatchUp.LATEST: 1, CatchUp.ALL: policy.catch_up_max}[how]
        if how is CatchUp.ALL:
            others = (SKIPPED, SkipReason.CATCH_UP_LIMIT, None)
        for place, us in enumerate(reversed(times)):
            fates[us] = (CAUGHT_UP, None, None) if place < keep else others

    catch_up(late, policy.catch_up, (MISSED, None, None))
    for n, times in frozen.items():
        chosen = around.freezes[n].catch_up
        assert chosen is not None
        catch_up(times, chosen, (SKIPPED, SkipReason.FROZEN, None))
    for place, us in enumerate(reversed(fresh)):
        fates[us] = (EXECUTED, None, None) if not (policy.coalesce and place) else (SKIPPED, SkipReason.COALESCED, None)
    return fates


spans = st.tuples(st.integers(0, 300), st.integers(1, 120))


@given(
    nominal_times=st.lists(st.integers(0, 300), min_size=1, unique=True),
    now_us=st.integers(0, 320),
    policy=st.builds(
        Policy,
        grace_us=st.integers(0, 150),
        window_us=st.integers(0, 400),
        catch_up=st.sampled_from(CatchUp),
        catch_up_max=st.integers(1, 5),
        coalesce=st.booleans(),
        max_rows=st.integers(1, 6),
        max_runs=st.integers(1, 8),
    ),
    paused=st.booleans(),
    resume_us=st.none() | st.integers(0, 320),
    skips=st.frozensets(st.integers(0, 300), max_size=3),
    windows=st.lists(st.tuples(spans, st.sampled_from([SkipReason.HOLIDAY, SkipReason.BLACKOUT])), max_size=3),
    freeze=st.none() | st.tuples(spans, st.none() | st.sampled_from(CatchUp)),
    step=st.none() | st.integers(12, 40),
)
@settings(max_examples=400, deadline=None)
@example([0, 1], 1, Policy(grace_us=0, window_us=0), False, None, frozenset(), [], None, None)
def test_every_nominal_time_gets_the_outcome_of_the_definition(
    nominal_times: list[int],
    now_us: int,
    policy: Policy,
    paused: bool,
    resume_us: int | None,
    skips: frozenset[int],
    windows: list[tuple[tuple[int, int], SkipReason]],
    freeze: tuple[tuple[int, int], CatchUp | None] | None,
    step: int | None,
) -> None:
    times = Listed(nominal_times) if step is None else Short(nominal_times, step)
    expected = [us for us in times.times if us <= now_us]
    if not expected:
        return
    around = Circumstances(
        paused=paused,
        resume_us=resume_us,
        skips=skips,
        exclusions=Windows(*((at, at + length, reason) for (at, length), reason in windows)) if windows else None,
        freezes=[] if freeze is None else [Frozen(from_us=freeze[0][0], to_us=sum(freeze[0]), catch_up=freeze[1])],
    )
    wanted = by_definition(expected, now_us, policy, around)

    decided: dict[int, Outcome] = {}
    sums: dict[Outcome, int] = {}
    due_us: int | None = expected[0]
    rounds = 0
    while due_us is not None and due_us <= now_us:
        plan = decide(times, due_us, now_us, policy, around)
        assert plan.last_us >= due_us
        assert plan.next_us == times.next_after(plan.last_us)
        assert [decision.nominal_us for decision in plan.decisions] == sorted(
            {decision.nominal_us for decision in plan.decisions}
        )
        for decision in plan.decisions:
            outcome = (decision.outcome, decision.reason, decision.detail)
            assert decision.nominal_us not in decided
            decided[decision.nominal_us] = outcome
            if decision.count > 1:
                assert decision.last_nominal_us is not None
                assert due_us <= decision.nominal_us < decision.last_nominal_us <= plan.last_us
                assert wanted[decision.last_nominal_us] == outcome
            sums[outcome] = sums.get(outcome, 0) + decision.count
        due_us = plan.next_us
        rounds += 1
        assert rounds <= len(expected)

    # A row for itself, or as the first of a sum: each has the outcome that it should have …
    assert decided.items() <= wanted.items()
    # … what runs always has a row, and nothing is counted twice or not at all.
    assert {us for us, fate in wanted.items() if fate[0] in (EXECUTED, CAUGHT_UP)} <= decided.keys()
    assert sums == {fate: list(wanted.values()).count(fate) for fate in set(wanted.values())}
