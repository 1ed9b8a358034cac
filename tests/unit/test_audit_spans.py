"""What the versions of a schedule had to decide: the spans and chains that the audit compares with the ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schedule_zero.model import Schedule, ScheduleState, ServerRun
from schedule_zero.rules.audit import expected_times, joined
from schedule_zero.timing.combined import OrTrigger
from schedule_zero.timing.instants import DateTrigger, IntervalTrigger
from schedule_zero.timing.occasions import DelayTrigger, StartupTrigger
from schedule_zero.timing.resolve import Resolver
from schedule_zero.timing.spans import Owed, Version, owed
from schedule_zero.timing.trigger import Span as TriggerSpan
from schedule_zero.timing.trigger import Trigger

S = 1_000_000


class Fixed(Resolver):
    """Triggers by the word that stands for them."""

    def __init__(self, **triggers: Trigger) -> None:
        super().__init__(0)
        self._triggers = triggers

    def trigger(self, row: Schedule) -> Trigger:
        return self._triggers[row.trigger.decode()]


RESOLVER = Fixed(
    tens=IntervalTrigger(10 * S, TriggerSpan(0)),
    sevens=IntervalTrigger(7 * S, TriggerSpan(0)),
    date=DateTrigger(42 * S),
    start=StartupTrigger(),
    both=OrTrigger((StartupTrigger(), IntervalTrigger(100 * S, TriggerSpan(5 * S)))),
    delay=DelayTrigger(10 * S, TriggerSpan(10 * S)),
)


def version(word: str, from_s: int, to_s: int | None, number: int = 1, **fields: Any) -> Version:
    next_s = fields.pop("next_s", None)
    row = Schedule(
        id="a", handler_id="h", job_method="m", trigger=word.encode(), version=number,
        next_fire_us=None if next_s is None else next_s * S, updated_us=from_s * S, **fields,
    )  # fmt: skip
    return Version(row, from_s * S, None if to_s is None else to_s * S)


def ask(*versions: Version, until_s: int = 1000, lives: list[int] | None = None, decided_s: int | None = None) -> Owed:
    return owed(
        versions,
        -1,
        until_s * S,
        trigger_of=RESOLVER.trigger,
        lives=[ServerRun(epoch=n, started_us=s * S, alive_us=s * S) for n, s in enumerate(lives or [0])],
        decided_upto=lambda _: None if decided_s is None else decided_s * S,
    )


def times(found: Owed) -> list[float]:
    return [us / S for us in expected_times(joined(found.spans))]


def test_each_version_answers_for_its_own_time():
    found = ask(version("tens", 5, 31), version("sevens", 31, None, 2, next_s=63), until_s=62)

    assert times(found) == [10, 20, 30, 35, 42, 49, 56]
    assert found.undecided_us is None


def test_what_is_not_decided_yet_is_not_expected_yet_of_any_version():
    found = ask(version("tens", 5, 41), version("tens", 41, None, 2, next_s=30), until_s=62)

    assert times(found) == [10, 20]
    assert found.undecided_us == 30 * S


def test_a_date_is_expected_although_it_had_passed():
    assert times(ask(version("date", 50, None))) == [42]
    assert times(ask(version("date", 5, 30))) == []


@pytest.mark.parametrize(
    ("state", "policies", "expected"),
    [
        (ScheduleState.FINISHED, b'{"max_fires":3}', [10, 20, 30]),
        (ScheduleState.QUARANTINED, None, [10, 20, 30]),
        (ScheduleState.PAUSED, None, [10, 20, 30]),
        # Nothing says why it should have ended.
        (ScheduleState.FINISHED, None, [10, 20, 30, 40, 50]),
        (ScheduleState.ACTIVE, None, [10, 20, 30, 40, 50]),
    ],
)
def test_what_has_ended_has_nothing_to_decide_after_its_last_row(state, policies, expected):
    found = ask(version("tens", 5, None, state=state, policies=policies), until_s=55, decided_s=30)

    assert times(found) == expected
    assert found.spans[0].may_us == 55 * S


def test_a_start_of_the_server_is_expected_once_and_only_while_the_schedule_is_there():
    versions = version("start", 15, 300), version("start", 300, None, 2)

    found = ask(*versions, lives=[0, 100, 200, 400], until_s=350)

    assert times(found) == [100, 200]


def test_what_else_such_a_trigger_has_is_expected_through_all_lives():
    found = ask(version("both", 15, None), lives=[0, 100, 130, 420], until_s=450)

    assert times(found) == [100, 105, 130, 205, 305, 405, 420]


def test_who_ends_a_schedule_right_after_a_start_may_come_before_its_fire():
    found = ask(version("start", 15, 103), lives=[0, 100], until_s=350)

    assert times(found) == []
    assert found.spans[-1].may_us == 103 * S


def test_without_a_life_on_record_no_start_is_expected():
    assert times(ask(version("start", 15, None), lives=[])) == []


def start_of(found: Owed) -> list[tuple[float, float | None]]:
    [chain] = found.chains
    return [(us / S, None if first is None else first / S) for us, first in chain.starts]


def test_versions_of_a_fixed_delay_that_go_on_are_one_chain():
    first, second = version("delay", 3, 40, next_s=44), version("delay", 40, None, 2, next_s=50)

    found = ask(first, second, until_s=60)

    assert found.spans == []
    assert start_of(found) == [(3, 10)]
    assert (found.chains[0].after_us, found.chains[0].upto_us) == (3 * S, 60 * S)
    assert found.chains[0].current is second.schedule


def test_a_chain_that_had_ended_begins_anew_somewhere():
    found = ask(version("delay", 3, 40), version("delay", 40, None, 2, next_s=50), until_s=60)

    assert start_of(found) == [(3, 10), (40, None)]


def test_a_chain_whose_beginning_is_not_known_has_none():
    assert start_of(ask(version("delay", 3, None, 7))) == []


def test_a_fixed_delay_between_other_triggers_is_a_chain_of_its_own():
    found = ask(
        version("tens", 3, 30), version("delay", 30, 60, 2, next_s=70), version("sevens", 60, None, 3, next_s=77),
        until_s=75,
    )  # fmt: skip

    assert times(found) == [10, 20, 30, 63, 70]
    assert start_of(found) == [(30, 30)]
    # It begins with the moment at which it comes into force.
    assert (found.chains[0].after_us, found.chains[0].upto_us) == (30 * S - 1, 60 * S)
    assert found.chains[0].current is None


def test_decided_upto_is_asked_only_of_what_has_ended():
    def never(us: int) -> int:
        raise AssertionError

    asked: Callable[[int], int | None] = never
    found = owed(
        [version("tens", 5, None, next_s=60)], -1, 55 * S, trigger_of=RESOLVER.trigger, lives=[], decided_upto=asked
    )

    assert times(found) == [10, 20, 30, 40, 50]
