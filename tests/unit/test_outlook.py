"""What a schedule is expected to run is what its rounds then decide, one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedule_zero.model import BusinessDays, DayRule, Policies, Schedule, ScheduleState
from schedule_zero.rules.catchup import Circumstances, Policy, decide
from schedule_zero.rules.policies import stored_policies, stored_skips
from schedule_zero.timing import parse_trigger
from schedule_zero.timing.calendar_parse import parse_calendar
from schedule_zero.timing.calendars import Exclusions, NamedCalendar
from schedule_zero.timing.outlook import Outlooks
from schedule_zero.timing.resolve import Resolver

S = 1_000_000
MINUTE = 60 * S
HOUR = 60 * MINUTE
DAY = 24 * HOUR
# A Thursday.
START = 1_767_225_600 * S

CALENDARS = {
    "nights": parse_calendar({"weekly": [{"days": ["THU", "FRI"], "from": "20:00", "to": "06:30"}]}, "nights"),
    "office": parse_calendar({"weekly": [{"days": ["THU", "FRI", "SUN"], "from": "08:00", "to": "17:00"}]}, "office"),
    "closed": parse_calendar({"weekly": [{"days": ["FRI"]}], "timezone": "Europe/Berlin"}, "closed"),
}
TRIGGERS: list[dict[str, Any]] = [
    {"type": "cron", "expression": "0 * * * *"},
    {"type": "cron", "expression": "*/20 6-9 * * *", "timezone": "America/New_York"},
    {"type": "interval", "minutes": 7},
    {"type": "or", "triggers": [{"type": "interval", "hours": 5}, {"type": "cron", "expression": "30 7 * * *"}]},
]


class Book:
    def __init__(self) -> None:
        self.asked = 0

    def get(self, name: str) -> NamedCalendar | None:
        self.asked += 1
        return CALENDARS[name]

    def current_version(self, name: str) -> int | None:
        return 1

    def known_version(self, name: str, version: int) -> NamedCalendar | None:
        return CALENDARS[name]


def row(document: dict[str, Any], policies: Policies, **fields: Any) -> Schedule:
    trigger = parse_trigger(document, now_us=START)
    made = Schedule(id="a", handler_id="demo", job_method="noop", trigger=trigger.encoded(), **fields)
    made.policies = stored_policies(policies)
    made.next_fire_us = trigger.next_after(START)
    return made


def decided(one: Schedule, policies: Policies, skips: list[int], upto_us: int) -> list[int]:
    """What a server that is never late runs, decided nominal time by nominal time."""
    resolver = Resolver(START, Book())
    trigger = resolver.trigger(one)
    exclusions: Exclusions | None = resolver.exclusions(policies, trigger)
    due_us, runs, ran = one.next_fire_us, one.runs, []
    while due_us is not None and due_us < upto_us:
        around = Circumstances(
            paused=one.state is ScheduleState.PAUSED,
            resume_us=one.resume_us,
            skips=frozenset(skips),
            exclusions=exclusions,
            runs_left=None if policies.max_fires is None else policies.max_fires - runs,
        )
        plan = decide(trigger, due_us, due_us, Policy(grace_us=S, window_us=HOUR), around)
        now = [decision.nominal_us for decision in plan.decisions if decision.runs]
        ran += now
        runs += len(now)
        due_us = plan.next_us
    return ran


@given(
    document=st.sampled_from(TRIGGERS),
    exclude=st.lists(st.sampled_from(sorted(CALENDARS)), max_size=2, unique=True),
    require=st.lists(st.just("office"), max_size=1),
    rule=st.sampled_from([None, DayRule.SKIP]),
    most=st.none() | st.integers(1, 60),
    runs=st.integers(0, 30),
    resume_h=st.none() | st.integers(0, 60),
    skips=st.lists(st.integers(0, 100), max_size=4),
    from_h=st.integers(0, 100),
)
@settings(max_examples=150, deadline=None)
def test_what_is_expected_to_run_is_what_the_rounds_decide(
    document: dict[str, Any],
    exclude: list[str],
    require: list[str],
    rule: DayRule | None,
    most: int | None,
    runs: int,
    resume_h: int | None,
    skips: list[int],
    from_h: int,
) -> None:
    business = None if rule is None else BusinessDays(calendar="closed", rule=rule)
    policies = Policies(
        exclude=tuple(exclude),
        require=tuple(require),
        business_days=business,
        max_fires=None if most is None else most + runs,
    )
    one = row(document, policies, runs=runs)
    times = decided(row(document, Policies()), Policies(), [], START + 5 * DAY)
    asked = sorted({times[place % len(times)] for place in skips})
    one.skips = stored_skips(asked)
    if resume_h is not None:
        one.state, one.resume_us = ScheduleState.PAUSED, START + resume_h * HOUR

    outlook = Outlooks(Resolver(START, Book()), START).of(one)

    assert outlook is not None
    from_us, to_us = START + from_h * HOUR, START + 5 * DAY
    expected = [us for us in decided(one, policies, asked, to_us) if us >= from_us]
    assert list(outlook.times(from_us, to_us)) == expected
    assert outlook.runs(from_us, to_us) == len(expected)


@pytest.mark.parametrize("state", [ScheduleState.PAUSED, ScheduleState.FINISHED, ScheduleState.QUARANTINED])
def test_nothing_is_expected_of_what_does_not_go_on_by_itself(state: ScheduleState) -> None:
    assert Outlooks(Resolver(START, Book()), START).of(row(TRIGGERS[0], Policies(), state=state)) is None


def test_the_last_of_very_many_runs_is_found_without_walking_there() -> None:
    outlook = Outlooks(Resolver(START, Book()), START).of(
        row({"type": "interval", "seconds": 1}, Policies(max_fires=10_000_000))
    )

    assert outlook is not None
    assert outlook.runs(START, START + 300 * DAY) == 10_000_000
    assert outlook.runs(START + 115 * DAY, START + 300 * DAY) == 10_000_000 - 115 * 86_400 + 1


def test_no_calendar_is_asked_for_a_schedule_that_has_none_and_once_for_all_that_share_one() -> None:
    book = Book()
    outlooks = Outlooks(Resolver(START, book), START)

    for _ in range(10):
        outlooks.of(row(TRIGGERS[0], Policies()))
    assert book.asked == 0
    made = [outlooks.of(row(TRIGGERS[0], Policies(exclude=("closed",)))) for _ in range(10)]
    assert book.asked == 1
    assert len(set(made)) == 1
