"""Changes in the very moment when something is due: no hole, and nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from schedule_zero.model import (
    FireOutcome,
    Schedule,
    ScheduleState,
)
from schedule_zero.store import fires, schedules
from schedule_zero.timing import parse_trigger
from schedule_zero.timing.handover import handover_with
from schedule_zero.timing.resolve import Resolver
from tests.integration.story_bed import (
    CHANGED,
    EVERY_TEN,
    PAST,
    PAUSED,
    RAN,
    decide,
    row,
    story,
)
from tests.integration.timing_bed import Bed, S, bed_in, write
from tests.support import ManualClock

pytestmark = pytest.mark.anyio

Lives = Callable[[], Any]


@pytest.fixture
def life(tmp_path: Path, clock: ManualClock) -> Lives:
    """One life of a server on the test's store: a second one comes after a restart."""
    return lambda: bed_in(tmp_path / "state", clock)


@pytest.fixture
async def bed(life: Lives) -> AsyncIterator[Bed]:
    async with life() as made:
        yield made


def put_verb(bed: Bed, new: Schedule) -> schedules.Put:
    return schedules.Put(row=new, handover=handover_with(Resolver(bed.clock.wall_us()), bed.clock))


async def replace(bed: Bed, trigger: dict[str, Any], **fields: Any) -> None:
    """As ``PUT /api/schedules/a`` does it."""
    await bed.store.write(schedules.put, put_verb(bed, row(bed, trigger, **fields)))


async def delete(bed: Bed) -> None:
    handover = handover_with(Resolver(bed.clock.wall_us()), bed.clock)
    await bed.store.write(schedules.delete, schedules.Delete(ids=["a"], handover=handover))


async def assert_totals_are_right(bed: Bed) -> None:
    counted = Counter[str]()
    for fire in await bed.ledger("a"):
        counted[fire.outcome.value] += fire.count
    totals = await bed.store.read(lambda conn: fires.counts(conn, "a"))
    assert {outcome.value: getattr(totals, outcome.value) for outcome in FireOutcome} == {
        outcome.value: counted[outcome.value] for outcome in FireOutcome
    }


async def test_new_times_begin_where_the_old_ones_end(bed: Bed, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    await bed.create(row(bed))
    clock.advance(10)
    await decide(bed)
    # Due at this very moment, and the moment before.
    clock.advance(20)
    await replace(bed, {"type": "interval", "seconds": 7})
    await decide(bed)
    clock.advance(7)
    await decide(bed)

    assert await story(bed, start_us) == [(10, RAN), (20, CHANGED), (30, CHANGED), (37, RAN)]
    await assert_totals_are_right(bed)


async def test_a_change_of_something_else_takes_nothing_from_what_is_due(bed: Bed, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    await bed.create(row(bed))
    clock.advance(10)
    same = parse_trigger(EVERY_TEN, now_us=start_us).encoded()
    new = bed.row("a", same, due_us=clock.wall_us() + 10 * S, params=b'{"n":2}')
    await bed.store.write(schedules.put, put_verb(bed, new))
    await decide(bed)

    assert await story(bed, start_us) == [(10, RAN)]
    assert (await bed.executions("a"))[0].params == b'{"n":2}'
    await assert_totals_are_right(bed)


async def test_a_schedule_that_is_deleted_leaves_no_hole(bed: Bed, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    await bed.create(row(bed))
    clock.advance(10)
    await decide(bed)
    clock.advance(20)
    await delete(bed)
    await decide(bed)

    assert await story(bed, start_us) == [(10, RAN), (20, CHANGED), (30, CHANGED)]
    await assert_totals_are_right(bed)


@pytest.mark.parametrize("change", ["times", "other", "delete"])
async def test_a_change_while_a_round_is_on_its_way_leaves_no_hole_and_nothing_twice(
    bed: Bed, clock: ManualClock, change: str
) -> None:
    start_us = clock.wall_us()
    await bed.create(row(bed))
    clock.advance(20)
    rounds = bed.rounds()
    taken = await rounds.take()
    if change == "times":
        await replace(bed, {"type": "interval", "seconds": 7})
    elif change == "other":
        same = parse_trigger(EVERY_TEN, now_us=start_us).encoded()
        other = bed.row("a", same, due_us=clock.wall_us() + 10 * S, note="other")
        await bed.store.write(schedules.put, put_verb(bed, other))
    else:
        await delete(bed)

    await write(rounds, taken)
    await decide(bed, rounds)

    # Decided by whoever was first; the round that came too late is abandoned.
    expected = [(10, RAN), (20, RAN)] if change == "other" else [(10, CHANGED), (20, CHANGED)]
    assert await story(bed, start_us) == expected
    assert len(await bed.executions("a")) == (2 if change == "other" else 0)
    assert len(bed.dispatcher.told("abandoned")) == 2
    await assert_totals_are_right(bed)


async def test_a_change_after_the_decision_repeats_nothing(bed: Bed, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    await bed.create(row(bed))
    clock.advance(10)
    await decide(bed)
    await replace(bed, {"type": "interval", "seconds": 5})
    clock.advance(5)
    await decide(bed)

    assert await story(bed, start_us) == [(10, RAN), (15, RAN)]
    await assert_totals_are_right(bed)


async def test_a_clock_set_back_and_a_change_repeat_no_nominal_time(bed: Bed, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    await bed.create(row(bed, PAST, due_us=start_us // (10 * S) * 10 * S + 10 * S))
    clock.advance(30)
    await decide(bed)
    before = await bed.nominal_times("a")
    clock.step_wall(-20)
    await replace(bed, {"type": "cron", "expression": "*/5 * * * * *"})
    clock.advance(40)
    await decide(bed)

    times = await bed.nominal_times("a")
    assert times == sorted(set(times))
    assert times[: len(before)] == before
    await assert_totals_are_right(bed)


async def test_a_new_trigger_that_ends_within_what_was_decided_is_finished(bed: Bed, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    await bed.create(row(bed))
    for _ in range(3):
        clock.advance(10)
        await decide(bed)
    clock.step_wall(-20)

    await replace(bed, {"type": "interval", "seconds": 3, "end": start_us / 1e6 + 25}, due_us=start_us + 13 * S)

    ended = await bed.get("a")
    assert (ended.state, ended.next_fire_us) == (ScheduleState.FINISHED, None)
    assert "all was decided up to 2023-11-14T22:13:50" in (ended.note or "")
    assert await story(bed, start_us) == [(10, RAN), (20, RAN), (30, RAN)]


async def test_a_snooze_that_is_over_explains_no_more_than_its_own_time(bed: Bed, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    await bed.create(row(bed, state=ScheduleState.PAUSED, resume_us=start_us + 25 * S))
    clock.advance(40)

    await delete(bed)

    assert await story(bed, start_us) == [(10, PAUSED), (20, PAUSED), (30, CHANGED), (40, CHANGED)]


async def test_a_schedule_deleted_while_paused_says_so_of_all_that_was_due(bed: Bed, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    await bed.create(row(bed, state=ScheduleState.PAUSED))
    clock.advance(2000)

    await delete(bed)

    assert await story(bed, start_us) == [(10 * n, PAUSED) for n in range(1, 201)]
