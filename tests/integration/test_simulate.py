"""A simulation decides what the timer would decide, and runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schedule_zero.config import TimingConfig
from schedule_zero.model import Fire, FireOutcome, Policies, Schedule, ScheduleState, SkipReason
from schedule_zero.rules.policies import stored_policies, stored_skips
from schedule_zero.timing import parse_trigger
from schedule_zero.timing.resolve import Resolver
from schedule_zero.timing.simulate import simulate
from tests.integration.timing_bed import DAY, HOUR, MINUTE, S, bed_in, one_round
from tests.support import ManualClock

pytestmark = pytest.mark.anyio

START = 1_767_225_600 * S


def row(id_: str, trigger: dict[str, Any], **fields: Any) -> Schedule:
    return Schedule(
        id=id_, handler_id="demo", job_method="noop", trigger=parse_trigger(trigger, now_us=START).encoded(), **fields
    )


async def fires(*rows: Schedule, from_us: int = START, upto_us: int = START + DAY, now_us: int = START) -> list[Fire]:
    found = simulate(list(rows), from_us, upto_us, now_us=now_us, resolver=Resolver(START), config=TimingConfig())
    return [fire async for fire in found]


def times(found: list[Fire]) -> list[int]:
    return [fire.nominal_us for fire in found]


async def test_every_nominal_time_of_the_range_fires_in_order() -> None:
    hourly = row("hourly", {"type": "cron", "expression": "0 * * * *"})
    often = row("often", {"type": "interval", "minutes": 7})

    found = await fires(hourly, often)

    times = [fire.nominal_us for fire in found]
    assert times == sorted(times)
    assert [fire.nominal_us for fire in found if fire.schedule_id == "hourly"] == list(
        range(START, START + DAY + 1, HOUR)
    )
    assert [fire.nominal_us for fire in found if fire.schedule_id == "often"] == list(
        range(START, START + DAY + 1, 7 * MINUTE)
    )


async def test_pauses_skips_and_maxima_are_what_they_are_now() -> None:
    paused = row("paused", {"type": "cron", "expression": "0 12 * * *"}, state=ScheduleState.PAUSED)
    snoozed = row(
        "snoozed",
        {"type": "cron", "expression": "0 */8 * * *"},
        state=ScheduleState.PAUSED,
        resume_us=START + 10 * HOUR,
        skips=stored_skips([START + 24 * HOUR]),
    )
    twice = row("twice", {"type": "interval", "hours": 1}, runs=1, policies=stored_policies(Policies(max_fires=3)))

    found = await fires(paused, snoozed, twice)

    assert [(fire.outcome, fire.reason) for fire in found if fire.schedule_id == "paused"] == [
        (FireOutcome.SKIPPED, SkipReason.PAUSED)
    ]
    assert [(fire.nominal_us - START, fire.reason) for fire in found if fire.schedule_id == "snoozed"] == [
        (0, SkipReason.PAUSED),
        (8 * HOUR, SkipReason.PAUSED),
        (16 * HOUR, None),
        (24 * HOUR, SkipReason.REQUESTED),
    ]
    assert len([fire for fire in found if fire.schedule_id == "twice"]) == 2


async def test_what_runs_before_a_range_to_come_counts_towards_the_maximum() -> None:
    def limited(most: int, **trigger: Any) -> Schedule:
        policies = stored_policies(Policies(max_fires=most))
        return row(f"at most {most}", trigger, runs=1, next_fire_us=START + HOUR, policies=policies)

    hourly: dict[str, Any] = {"type": "cron", "expression": "0 * * * *"}
    later = {"from_us": START + 3 * DAY, "upto_us": START + 4 * DAY}

    assert await fires(limited(5, **hourly), **later) == []
    assert times(await fires(limited(74, **hourly), **later)) == [START + 3 * DAY, START + 3 * DAY + HOUR]
    follower = {"type": "interval", "hours": 1, "anchor": "end"}
    assert await fires(limited(50, **follower), **later) == []
    assert times(await fires(limited(74, **follower), **later)) == [START + 3 * DAY, START + 3 * DAY + HOUR]


async def test_a_fixed_delay_goes_on_from_its_next_time_to_a_range_to_come() -> None:
    every = {"type": "interval", "minutes": 50, "anchor": "end"}

    whole = times(await fires(row("a", every, next_fire_us=START + HOUR)))
    later = times(await fires(row("a", every, next_fire_us=START + HOUR), from_us=START + 10 * HOUR))

    assert later == [us for us in whole if us >= START + 10 * HOUR]


async def test_a_range_of_the_past_begins_when_a_schedule_was_made() -> None:
    made_us = START + 5 * HOUR + MINUTE
    hourly = row("a", {"type": "cron", "expression": "0 * * * *"}, created_us=made_us)

    found = await fires(hourly, upto_us=START + 7 * HOUR, now_us=START + 10 * DAY)

    assert times(found) == [START + 6 * HOUR, START + 7 * HOUR]


async def test_a_schedule_that_is_over_or_broken_disturbs_no_other() -> None:
    broken = row("broken", {"type": "interval", "hours": 1})
    broken.trigger = b'{"type":"moon"}'
    over = row("over", {"type": "date", "run_date": "2020-01-01T00:00:00Z"})
    good = row("good", {"type": "cron", "expression": "0 0 * * *"})

    found = await fires(broken, over, good)

    assert [(fire.schedule_id, fire.reason) for fire in found] == [
        ("broken", SkipReason.QUARANTINED),
        ("good", None),
        ("good", None),
    ]


async def test_it_says_what_the_timer_then_does(tmp_path: Path) -> None:
    clock = ManualClock(START)
    documents: dict[str, dict[str, Any]] = {
        "a": {"type": "cron", "expression": "*/20 * * * *", "timezone": "Europe/Berlin"},
        "b": {"type": "interval", "minutes": 13},
        "c": {"type": "calendar", "days": 1, "at": "02:30", "timezone": "America/New_York"},
    }
    simulated = await fires(*(row(id_, document) for id_, document in documents.items()), upto_us=START + 5 * HOUR)

    async with bed_in(tmp_path / "state", clock) as bed:
        rounds = bed.rounds()
        for id_, document in documents.items():
            first_us = parse_trigger(document, now_us=START).next_after(START - 1)
            await bed.create(bed.row(id_, parse_trigger(document, now_us=START).encoded(), due_us=first_us))
        while clock.wall_us() <= START + 5 * HOUR:
            await one_round(rounds)
            clock.advance(60)
        real = [(fire.nominal_us, id_) for id_ in documents for fire in await bed.ledger(id_)]

    assert sorted((fire.nominal_us, fire.schedule_id) for fire in simulated) == sorted(real)
