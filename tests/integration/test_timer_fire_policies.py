"""Snooze, skip, freeze, maxima, jitter and catch-up by the clock, over restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from schedule_zero.config import LimitsConfig, TimingConfig
from schedule_zero.model import (
    CatchUp,
    FireOutcome,
    Freeze,
    Policies,
    ScheduleState,
    SkipReason,
    Spread,
    State,
)
from schedule_zero.rules.policies import stored_skips
from schedule_zero.service.schedules import ScheduleService
from schedule_zero.store import freezes, schedule_history
from schedule_zero.timing import parse_trigger
from tests.integration.story_bed import (
    CAUGHT_UP,
    EVERY_TEN,
    FROZEN,
    PAUSED,
    RAN,
    REQUESTED,
    decide,
    row,
    skipped,
    story,
)
from tests.integration.timing_bed import HOUR, Bed, S, bed_in, one_round
from tests.support import ManualClock

if TYPE_CHECKING:
    from schedule_zero.dispatch.dispatcher import Dispatcher
    from schedule_zero.service.executions import ExecutionService
    from schedule_zero.service.groups import GroupService

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


# --- snooze -------------------------------------------------------------------------------------------


async def test_what_is_due_after_a_snooze_runs_although_nobody_has_ended_it_yet(bed: Bed, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    await bed.create(row(bed, state=ScheduleState.PAUSED, resume_us=start_us + 35 * S, note="holiday"))
    rounds = bed.rounds()

    clock.advance(30)
    await decide(bed, rounds)
    assert (await bed.get("a")).state is ScheduleState.PAUSED
    clock.advance(10)
    await decide(bed, rounds)

    assert await story(bed, start_us) == [(10, PAUSED), (20, PAUSED), (30, PAUSED), (40, RAN)]


async def test_what_lay_in_a_snooze_is_skipped_although_nobody_was_there_at_its_end(
    life: Lives, clock: ManualClock
) -> None:
    start_us = clock.wall_us()
    async with life() as bed:
        await bed.create(row(bed, state=ScheduleState.PAUSED, resume_us=start_us + 25 * S))
    clock.advance(45)

    async with life() as bed:
        await decide(bed)
        assert await story(bed, start_us) == [(10, PAUSED), (20, PAUSED), (30, CAUGHT_UP), (40, RAN)]


async def test_a_round_that_is_too_short_for_a_snooze_does_not_end_it(
    bed: Bed, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_us = clock.wall_us()
    await bed.create(row(bed, state=ScheduleState.PAUSED, resume_us=start_us + 45 * S))
    monkeypatch.setattr(type(parse_trigger(EVERY_TEN, now_us=0)), "reach", lambda _, after_us, __: after_us + 15 * S)
    clock.advance(50)

    await decide(bed)

    assert await story(bed, start_us) == [*[(10 * n, PAUSED) for n in range(1, 5)], (50, RAN)]


def service(bed: Bed) -> ScheduleService:
    return ScheduleService(
        store=bed.store,
        dispatcher=cast("Dispatcher", bed.dispatcher),
        timer=bed.timer(),
        executions=cast("ExecutionService", None),
        groups=cast("GroupService", None),
        clock=bed.clock,
        limits=LimitsConfig(),
        timing=TimingConfig(),
    )


async def test_a_snooze_ends_by_itself_although_nothing_is_due(life: Lives, clock: ManualClock) -> None:
    async with life() as bed:
        due_us = clock.wall_us() + HOUR
        await bed.create(
            row(bed, due_us=due_us, state=ScheduleState.PAUSED, resume_us=clock.wall_us() + 60 * S, note="x")
        )
        clock.advance(59)
        assert await service(bed).wake() == 0
    clock.advance(2)

    async with life() as bed:
        assert await service(bed).wake() == 1
        after = await bed.get("a")
        assert (after.state, after.resume_us, after.note) == (ScheduleState.ACTIVE, None, None)
        assert (after.next_fire_us, after.updated_by) == (due_us, "snooze")
        assert await service(bed).wake() == 0


@pytest.mark.parametrize("first", ["the snooze ends", "what is due is decided"])
async def test_a_snooze_is_on_record_with_its_end_whoever_comes_first(bed: Bed, clock: ManualClock, first: str) -> None:
    """Who paused it, why, and until when, is a version of its own: also of one that is due all the time."""
    start_us = clock.wall_us()
    await bed.create(row(bed, state=ScheduleState.PAUSED, resume_us=start_us + 15 * S, note="lunch"))
    clock.advance(20)

    if first == "the snooze ends":
        assert await service(bed).wake() == 1
        await decide(bed)
    else:
        await decide(bed)
        assert await service(bed).wake() == 1

    assert await story(bed, start_us) == [(10, PAUSED), (20, RAN)]
    woken = await bed.get("a")
    assert (woken.state, woken.note, woken.version) == (ScheduleState.ACTIVE, None, 2)
    [version] = (await bed.store.read(lambda conn: schedule_history.find(conn, "a"))).rows
    assert (version.schedule.state, version.schedule.note) == (ScheduleState.PAUSED, "lunch")
    assert (version.schedule.resume_us, version.ended_by) == (start_us + 15 * S, "snooze")


async def test_a_trigger_that_runs_out_in_a_snooze_leaves_no_snooze_behind(bed: Bed, clock: ManualClock) -> None:
    soon = {"type": "date", "run_date": clock.wall_us() / 1e6 + 10}
    await bed.create(row(bed, soon, state=ScheduleState.PAUSED, resume_us=clock.wall_us() + 60 * S))
    clock.advance(15)

    await decide(bed)

    after = await bed.get("a")
    assert (after.state, after.resume_us) == (ScheduleState.FINISHED, None)


# --- skip ---------------------------------------------------------------------------------------------


async def test_fires_that_somebody_asked_to_skip_are_skipped_and_the_next_runs(bed: Bed, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    await bed.create(row(bed, skips=stored_skips([start_us + 10 * S, start_us + 20 * S])))
    rounds = bed.rounds()

    clock.advance(10)
    await decide(bed, rounds)
    assert (await bed.get("a")).skips == stored_skips([start_us + 20 * S])
    clock.advance(20)
    await decide(bed, rounds)

    assert await story(bed, start_us) == [(10, REQUESTED), (20, REQUESTED), (30, RAN)]
    assert (await bed.get("a")).skips is None


async def test_skips_are_remembered_over_a_restart(life: Lives, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    async with life() as bed:
        await bed.create(row(bed, skips=stored_skips([start_us + 20 * S])))
    clock.advance(20)

    async with life() as bed:
        await decide(bed)
        assert await story(bed, start_us) == [(10, RAN), (20, REQUESTED)]


# --- freeze -------------------------------------------------------------------------------------------


THAWED = {
    CatchUp.NONE: [FROZEN, FROZEN, FROZEN],
    CatchUp.LATEST: [FROZEN, FROZEN, CAUGHT_UP],
    CatchUp.ALL: [CAUGHT_UP, CAUGHT_UP, CAUGHT_UP],
    # By the schedule's own policy they are late: all but the newest are missed.
    None: [(FireOutcome.MISSED, None), (FireOutcome.MISSED, None), CAUGHT_UP],
}


@pytest.mark.parametrize("catch_up", THAWED)
async def test_a_thaw_says_what_becomes_of_the_frozen_time_over_restarts(
    life: Lives, clock: ManualClock, catch_up: CatchUp | None
) -> None:
    start_us = clock.wall_us()
    async with life() as bed:
        await bed.create(row(bed, misfire_grace_s=0))
        await bed.store.write(freezes.freeze, Freeze(id="f", from_us=start_us))
        clock.advance(15)
        await decide(bed)
    async with life() as bed:
        clock.advance(20)
        await decide(bed)
        assert await bed.ledger("a") == []
        await bed.store.write(freezes.thaw, freezes.Thaw(now_us=clock.wall_us(), catch_up=catch_up, by="bob"))
    async with life() as bed:
        clock.advance(5)
        await decide(bed)
        clock.advance(10)
        await decide(bed)

        after = [(40, RAN), (50, RAN)]
        assert await story(bed, start_us) == [*zip((10, 20, 30), THAWED[catch_up], strict=True), *after]


async def test_a_freeze_with_an_end_thaws_by_the_clock(bed: Bed, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    await bed.create(row(bed))
    until = Freeze(id="f", from_us=start_us, to_us=start_us + 25 * S, catch_up=CatchUp.NONE)
    await bed.store.write(freezes.freeze, until)
    await bed.freezes.load()
    rounds = bed.rounds(TimingConfig(max_sleep_s=60))

    clock.advance(15)
    assert await one_round(rounds) == []
    assert await rounds.wait_us() == 10 * S
    clock.advance(15)
    await decide(bed, rounds)

    assert await story(bed, start_us) == [(10, FROZEN), (20, FROZEN), (30, RAN)]


# --- maxima, jitter, catch-up -------------------------------------------------------------------------


async def test_a_schedule_is_finished_after_as_many_runs_as_it_may(life: Lives, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    async with life() as bed:
        await bed.create(row(bed, policies=Policies(max_fires=2), skips=stored_skips([start_us + 20 * S])))
        clock.advance(10)
        await decide(bed)
    async with life() as bed:
        for _ in range(4):
            clock.advance(10)
            await decide(bed)

        # What was skipped is no run.
        assert await story(bed, start_us) == [(10, RAN), (20, REQUESTED), (30, RAN)]
        after = await bed.get("a")
        assert (after.state, after.runs, after.next_fire_us) == (ScheduleState.FINISHED, 2, None)
        assert after.note == "finished after 2 runs"


@pytest.mark.parametrize("spread", list(Spread))
async def test_jitter_delays_the_start_and_not_the_fire(bed: Bed, clock: ManualClock, spread: Spread) -> None:
    start_us = clock.wall_us()
    await bed.create(row(bed, policies=Policies(jitter_s=8, jitter=spread)))
    rounds = bed.rounds()
    for _ in range(5):
        clock.advance(10)
        await decide(bed, rounds)

    assert [fire.nominal_us - start_us for fire in await bed.ledger("a")] == [10 * S * n for n in range(1, 6)]
    made = await bed.executions("a")
    delays = [(one.not_before_us or 0) - (one.nominal_us or 0) for one in made]
    assert {one.state for one in made} == {State.SCHEDULED}
    assert all(0 < delay <= 8 * S for delay in delays)
    # By the hash of its id a schedule always starts equally late; otherwise each fire has a delay of its own.
    assert len(set(delays)) == (1 if spread is Spread.HASH else 5)


async def test_a_fire_that_is_decided_again_gets_the_same_jitter(bed: Bed, clock: ManualClock) -> None:
    await bed.create(row(bed, policies=Policies(jitter_s=8)))
    clock.advance(10)
    seen: list[int | None] = []
    bed.dispatcher.on_place = lambda rows: seen.extend(one.not_before_us for one in rows)
    rounds = bed.rounds()
    bed.faults.failing_writes = 1

    await one_round(rounds)
    clock.advance(1)
    await decide(bed, rounds)

    assert len(seen) == 2
    assert seen[0] == seen[1] == (await bed.executions("a"))[0].not_before_us


async def test_catch_up_of_all_runs_the_newest_up_to_its_maximum(life: Lives, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    async with life() as bed:
        await bed.create(row(bed, misfire_grace_s=0, policies=Policies(catch_up=CatchUp.ALL, catch_up_max=3)))
    clock.advance(105)

    async with life() as bed:
        await decide(bed)

        limit = skipped(SkipReason.CATCH_UP_LIMIT)
        assert await story(bed, start_us) == [
            *[(10 * n, limit) for n in range(1, 8)],
            *[(10 * n, CAUGHT_UP) for n in range(8, 11)],
        ]
        made = await bed.executions("a")
        assert [(one.nominal_us or 0) - start_us for one in made] == [10 * S * n for n in range(8, 11)]
        assert (await bed.get("a")).runs == 3
