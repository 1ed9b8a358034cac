"""Snooze, skip, freeze, maxima, jitter, catch-up and backfill by the clock, over restarts; and changes in the very
moment when something is due.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from schedule_zero.config import LimitsConfig, TimingConfig
from schedule_zero.errors import StoreUnavailable
from schedule_zero.model import (
    Backfill,
    BackfillState,
    CatchUp,
    FireOutcome,
    Freeze,
    Origin,
    Policies,
    Schedule,
    ScheduleState,
    SkipReason,
    Spread,
    State,
)
from schedule_zero.rules.policies import stored_policies, stored_skips
from schedule_zero.service.schedules import ScheduleService
from schedule_zero.store import backfills, fires, freezes, schedules
from schedule_zero.timing import parse_trigger
from schedule_zero.timing.backfills import Backfills
from schedule_zero.timing.handover import handover_with
from schedule_zero.timing.resolve import Resolver
from tests.integration.timing_bed import HOUR, Bed, S, bed_in, one_round, write
from tests.support import ManualClock

if TYPE_CHECKING:
    from schedule_zero.dispatch.dispatcher import Dispatcher
    from schedule_zero.service.executions import ExecutionService
    from schedule_zero.timing.rounds import Rounds

pytestmark = pytest.mark.anyio

EVERY_TEN = {"type": "interval", "seconds": 10}
RAN = (FireOutcome.EXECUTED, None)
CAUGHT_UP = (FireOutcome.CAUGHT_UP, None)
Lives = Callable[[], Any]


def skipped(reason: SkipReason) -> tuple[FireOutcome, SkipReason]:
    return (FireOutcome.SKIPPED, reason)


PAUSED, REQUESTED, FROZEN, CHANGED = (
    skipped(reason) for reason in (SkipReason.PAUSED, SkipReason.REQUESTED, SkipReason.FROZEN, SkipReason.CHANGED)
)


@pytest.fixture
def life(tmp_path: Path, clock: ManualClock) -> Lives:
    """One life of a server on the test's store: a second one comes after a restart."""
    return lambda: bed_in(tmp_path / "state", clock)


@pytest.fixture
async def bed(life: Lives) -> AsyncIterator[Bed]:
    async with life() as made:
        yield made


def row(
    bed: Bed, trigger: dict[str, Any] | None = None, *, policies: Policies | None = None, **fields: Any
) -> Schedule:
    stored = None if policies is None else stored_policies(policies)
    return bed.row("a", trigger or EVERY_TEN, policies=stored, **fields)


async def decide(bed: Bed, rounds: Rounds | None = None) -> None:
    """Decide all that is due now."""
    rounds = rounds or bed.rounds()
    await bed.freezes.load()
    while await one_round(rounds):
        pass


async def story(bed: Bed, start_us: int) -> list[tuple[float, tuple[FireOutcome, SkipReason | None]]]:
    """The ledger as (seconds after ``start_us``, what became of it); a summarising row as several."""
    told = []
    for fire in await bed.ledger("a"):
        step_us = 0 if fire.count == 1 else ((fire.last_nominal_us or 0) - fire.nominal_us) // (fire.count - 1)
        what = (fire.outcome, fire.reason)
        told += [((fire.nominal_us + n * step_us - start_us) / S, what) for n in range(fire.count)]
    return sorted(told, key=lambda one: one[0])


# --- snooze -------------------------------------------------------------------------------------------


async def test_a_snooze_ends_by_itself_when_something_is_due(bed: Bed, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    await bed.create(row(bed, state=ScheduleState.PAUSED, resume_us=start_us + 35 * S, note="holiday"))
    rounds = bed.rounds()

    clock.advance(30)
    await decide(bed, rounds)
    assert (await bed.get("a")).state is ScheduleState.PAUSED
    clock.advance(10)
    await decide(bed, rounds)

    assert await story(bed, start_us) == [(10, PAUSED), (20, PAUSED), (30, PAUSED), (40, RAN)]
    after = await bed.get("a")
    assert (after.state, after.resume_us, after.note) == (ScheduleState.ACTIVE, None, None)


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


async def test_what_is_due_is_left_to_the_timer_to_wake(bed: Bed, clock: ManualClock) -> None:
    await bed.create(row(bed, state=ScheduleState.PAUSED, resume_us=clock.wall_us() + 5 * S))
    clock.advance(10)

    assert await service(bed).wake() == 0
    assert (await bed.get("a")).state is ScheduleState.PAUSED


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
        await bed.store.write(freezes.thaw, freezes.Thaw(now_us=clock.wall_us(), catch_up=catch_up))
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


# --- backfill -----------------------------------------------------------------------------------------


def loop(bed: Bed) -> Backfills:
    return Backfills(
        store=bed.store if not bed.faults.failing_writes else cast("Any", bed.faults),
        dispatcher=cast("Dispatcher", bed.dispatcher),
        clock=bed.clock,
        resolver=Resolver(bed.clock.wall_us()),
        freezes=bed.freezes,
    )


async def begin(bed: Bed, total: int, rate_per_s: float) -> list[int]:
    """A backfill of ``total`` times of a schedule that was made just now; those times."""
    made = await bed.get("a")
    trigger = Resolver(0).trigger(made)
    end_us = bed.clock.wall_us()
    times: list[int] = []
    after_us = end_us - total * 10 * S - 1
    while (next_us := trigger.next_after(after_us)) is not None and len(times) < total:
        times.append(next_us)
        after_us = next_us
    await bed.store.write(
        backfills.create,
        backfills.Create(
            row=Backfill(
                id="b",
                schedule_id="a",
                generation=made.generation,
                version=made.version,
                from_us=times[0],
                to_us=times[-1],
                next_us=times[0],
                rate_per_s=rate_per_s,
                total=len(times),
            )
        ),
    )
    return times


async def state_of(bed: Bed) -> Backfill:
    [found] = (await bed.store.read(lambda conn: backfills.find(conn, "a"))).rows
    return found


async def finish(bed: Bed, clock: ManualClock) -> None:
    running = loop(bed)
    for _ in range(1000):
        if not await running.run_once():
            return
        clock.advance(1)
    raise AssertionError("it is never over")


# Anchored far back, so that it has nominal times in the past.
PAST = {"type": "cron", "expression": "*/10 * * * * *"}


async def test_a_backfill_creates_its_executions_at_its_rate_and_marks_them(bed: Bed, clock: ManualClock) -> None:
    await bed.create(row(bed, PAST, due_us=clock.wall_us() + HOUR, params=b'{"n":1}'))
    times = await begin(bed, 12, rate_per_s=5)
    running = loop(bed)

    created = []
    for _ in range(4):
        await running.run_once()
        created.append((await state_of(bed)).created)
        clock.advance(1)

    assert created == [1, 6, 11, 12]
    assert (await state_of(bed)).state is BackfillState.COMPLETED
    assert not await running.run_once()
    made = await bed.executions("a")
    assert [one.nominal_us for one in made] == times
    assert {(one.origin, one.group_id, one.params, one.state) for one in made} == {
        (Origin.BACKFILL, "b", b'{"n":1}', State.PENDING)
    }
    assert await bed.ledger("a") == []
    assert bed.dispatcher.told("committed") == [one.id for one in made]


async def test_time_that_passes_unused_is_not_saved_up(bed: Bed, clock: ManualClock) -> None:
    await bed.create(row(bed, PAST, due_us=clock.wall_us() + HOUR))
    await begin(bed, 50, rate_per_s=5)
    running = loop(bed)
    await running.run_once()
    clock.advance(1000)

    await running.run_once()

    assert (await state_of(bed)).created == 1 + 5


async def test_a_slow_rate_makes_one_when_its_time_has_come(bed: Bed, clock: ManualClock) -> None:
    await bed.create(row(bed, PAST, due_us=clock.wall_us() + HOUR))
    await begin(bed, 5, rate_per_s=0.125)
    running = loop(bed)

    created = []
    for _ in range(5):
        await running.run_once()
        created.append((await state_of(bed)).created)
        clock.advance(4)

    assert created == [1, 1, 2, 2, 3]


async def test_a_backfill_that_is_cancelled_creates_no_more(bed: Bed, clock: ManualClock) -> None:
    await bed.create(row(bed, PAST, due_us=clock.wall_us() + HOUR))
    await begin(bed, 12, rate_per_s=5)
    running = loop(bed)
    await running.run_once()

    await bed.store.write(backfills.cancel, "b")
    clock.advance(5)

    assert not await running.run_once()
    assert len(await bed.executions("a")) == 1
    assert (await state_of(bed)).state is BackfillState.CANCELLED


@pytest.mark.parametrize("meanwhile", ["nothing", "changed", "deleted"])
async def test_a_backfill_goes_on_after_a_restart_and_creates_each_time_exactly_once(
    life: Lives, clock: ManualClock, meanwhile: str
) -> None:
    async with life() as bed:
        await bed.create(row(bed, PAST, due_us=clock.wall_us() + HOUR, params=b'{"n":1}'))
        times = await begin(bed, 12, rate_per_s=2)
        running = loop(bed)
        for _ in range(3):
            await running.run_once()
            clock.advance(1)
    async with life() as bed:
        assert 0 < (await state_of(bed)).created < 12
        if meanwhile == "changed":
            await bed.replace(row(bed, {"type": "interval", "hours": 3}, params=b'{"n":2}'))
        elif meanwhile == "deleted":
            await bed.delete("a")
        await finish(bed, clock)

        made = await bed.executions("a")
        assert [one.nominal_us for one in made] == times
        # As the schedule was when the backfill was asked for.
        assert {one.params for one in made} == {b'{"n":1}'}
        assert (await state_of(bed)).created == 12


async def test_what_a_backfill_could_not_write_it_writes_later_and_once(bed: Bed, clock: ManualClock) -> None:
    await bed.create(row(bed, PAST, due_us=clock.wall_us() + HOUR))
    times = await begin(bed, 3, rate_per_s=1)
    bed.faults.failing_writes = 1
    running = loop(bed)

    with pytest.raises(StoreUnavailable):
        await running.run_once()
    assert len(bed.dispatcher.told("abandoned")) == 1
    for _ in range(4):
        clock.advance(1)
        await running.run_once()

    assert [one.nominal_us for one in await bed.executions("a")] == times


async def test_a_backfill_stands_still_in_a_freeze(bed: Bed, clock: ManualClock) -> None:
    await bed.create(row(bed, PAST, due_us=clock.wall_us() + HOUR))
    await begin(bed, 3, rate_per_s=1)
    await bed.store.write(freezes.freeze, Freeze(id="f", from_us=clock.wall_us()))
    await bed.freezes.load()

    assert await loop(bed).run_once()

    assert await bed.executions("a") == []


# --- a change in the very moment ----------------------------------------------------------------------


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
        await bed.store.write(schedules.put, put_verb(bed, bed.row("a", same, due_us=clock.wall_us() + 10 * S)))
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
