"""Snoozes, skips, freezes, maxima and jitter on a whole server, also over its restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from schedule_zero.errors import Conflict, InvalidTrigger, WrongState
from schedule_zero.model import CatchUp, Origin, Overlap, ScheduleState, SkipReason, Spread, State
from schedule_zero.rules.policies import skips_of
from schedule_zero.store import events
from schedule_zero.store import schedules as store_schedules
from schedule_zero.timing import Timer
from tests.integration.policy_bed import (
    ANN,
    CAUGHT_UP,
    EVERY_SECOND,
    EXECUTED,
    MINUTE,
    MISSED,
    SKIPPED,
    Life,
    S,
    life,
)
from tests.support import ManualClock, eventually, nothing_owed

pytestmark = pytest.mark.anyio

PAUSED, REQUESTED, FROZEN = (SKIPPED, SkipReason.PAUSED), (SKIPPED, SkipReason.REQUESTED), (SKIPPED, SkipReason.FROZEN)
RAN, MADE_UP, GONE = (EXECUTED, None), (CAUGHT_UP, None), (MISSED, None)
EVERY_MINUTE = {"type": "interval", "minutes": 1}


async def kinds(run: Life, id_: str = "a") -> list[str]:
    rows = await run.server.store.read(lambda conn: events.read_after(conn, 0, 10_000))
    return [event.kind for _, row in rows for event in row if event.id == id_]


# --- snooze ------------------------------------------------------------------------------------------


async def test_a_snoozed_schedule_goes_on_by_itself(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a")
        await run.pass_(1)
        await run.schedules.pause(ANN, "a", "maintenance", clock.wall_us() + 2 * S + 1)
        await run.pass_(4, step_s=1)
        await run.schedules.wake()

        row = await run.get()
        assert await run.outcomes() == [RAN, PAUSED, PAUSED, RAN, RAN]
        assert (row.state, row.note, row.resume_us) == (ScheduleState.ACTIVE, None, None)
        assert (await kinds(run)).count("schedule.resumed") == 1


async def test_a_schedule_that_ran_out_while_it_was_snoozed_is_finished_and_wakes_nobody(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", {"type": "date", "run_date": (clock.wall_us() + 5 * S) / 1e6})
        await run.put("b", {"type": "interval", "days": 1})
        for id_ in ("a", "b"):
            await run.schedules.pause(ANN, id_, None, clock.wall_us() + MINUTE)
        await run.pass_(10)
        row = await run.get()
        assert (row.state, row.note, row.resume_us) == (ScheduleState.FINISHED, None, None)

        await run.pass_(60)
        await run.schedules.wake()

        assert (await run.get("b")).state is ScheduleState.ACTIVE
        assert await run.outcomes() == [PAUSED]


async def test_what_is_over_or_broken_can_not_be_paused(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", {"type": "date", "run_date": (clock.wall_us() + S) / 1e6})
        await run.pass_(2)

        with pytest.raises(WrongState, match="finished"):
            await run.schedules.pause(ANN, "a", None, clock.wall_us() + MINUTE)
        with pytest.raises(InvalidTrigger, match="no fire left"):
            await run.schedules.resume(ANN, "a")

        assert (await run.get()).state is ScheduleState.FINISHED


async def test_whoever_pauses_a_snoozed_schedule_again_is_not_woken_by_the_old_snooze(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", {"type": "interval", "days": 1})
        await run.schedules.pause(ANN, "a", None, clock.wall_us() + S)
        await run.schedules.pause(ANN, "a", "for good")
        await run.pass_(5)
        await run.schedules.wake()

        row = await run.get()
        assert (row.state, row.note, row.resume_us) == (ScheduleState.PAUSED, "for good", None)


async def test_a_snoozed_schedule_that_can_not_be_read_keeps_no_other_from_waking(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as run:
        for id_ in ("a", "b", "c"):
            await run.put(id_)
            await run.schedules.pause(ANN, id_, None, clock.wall_us() + S)
        await run.freezes.freeze(ANN)
        broken = store_schedules.Put(
            handover=nothing_owed, row=replace(await run.get("b"), trigger=b'{"type":"lunar"}')
        )
        await run.server.store.write(store_schedules.put, broken)
        clock.advance(5)

        await run.schedules.wake()

        states = [(await run.get(id_)).state for id_ in ("a", "b", "c")]
        assert states == [ScheduleState.ACTIVE, ScheduleState.QUARANTINED, ScheduleState.ACTIVE]
        assert "lunar" in ((await run.get("b")).note or "")


async def test_a_version_that_was_paused_for_good_is_restored_for_good(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", {"type": "interval", "days": 1}, paused=True)
        await run.schedules.pause(ANN, "a", "five hours", clock.wall_us() + 300 * MINUTE)

        row, _ = await run.server.service.versions.restore(ANN, "a", 1)

        assert (row.state, row.resume_us) == (ScheduleState.PAUSED, None)


@pytest.mark.parametrize("over", [False, True])
async def test_a_version_that_was_snoozed_is_restored_with_its_snooze_unless_that_is_over(
    tmp_path: Path, clock: ManualClock, over: bool
) -> None:
    until_us = clock.wall_us() + MINUTE
    async with life(tmp_path, clock) as run:
        await run.put("a", {"type": "interval", "days": 1})
        await run.schedules.pause(ANN, "a", "lunch", until_us)
        await run.schedules.resume(ANN, "a")
        await run.pass_(61 if over else 1)

        row, _ = await run.server.service.versions.restore(ANN, "a", 2)

        paused = (ScheduleState.PAUSED, until_us, "lunch")
        assert (row.state, row.resume_us, row.note) == ((ScheduleState.ACTIVE, None, None) if over else paused)


# --- what is over --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trigger",
    [
        {"type": "date", "run_date": "+5s"},
        {"type": "interval", "seconds": 5, "end": "+5s"},
        {"type": "interval", "seconds": 5, "max_fires": 1},
    ],
)
async def test_what_is_over_can_be_edited_and_stays_over(
    tmp_path: Path, clock: ManualClock, trigger: dict[str, Any]
) -> None:
    max_fires = trigger.pop("max_fires", None)
    async with life(tmp_path, clock) as run:
        await run.put("a", trigger, max_fires=max_fires)
        await run.pass_(6)
        assert (await run.get()).state is ScheduleState.FINISHED

        edited = await run.schedules.patch(ANN, "a", {"note": "kept for the record"})
        await run.pass_(60)

        assert (edited.state, edited.note) == (ScheduleState.FINISHED, "kept for the record")
        assert await run.get() == edited
        assert await run.outcomes() == [RAN]
        assert edited.next_fire_us is None


# --- backfill ------------------------------------------------------------------------------------------


async def test_a_backfill_up_to_now_leaves_out_what_is_due_at_this_moment(tmp_path: Path, clock: ManualClock) -> None:
    """Its own fire runs that; and whoever asks can't know which moment that is."""
    async with life(tmp_path, clock) as run:
        await run.put("a", {"type": "interval", "seconds": 10})
        begin_us = clock.wall_us()
        await run.pass_(20)
        row = replace(await run.get(), next_fire_us=begin_us + 20 * S)
        times = await run.backfills._times(row, begin_us + 1, clock.wall_us())

        assert times == [begin_us + 10 * S]


async def test_what_is_not_decided_yet_is_not_backfilled(tmp_path: Path, clock: ManualClock) -> None:
    """After a thaw it may run anyway."""
    async with life(tmp_path, clock) as run:
        await run.put("a", {"type": "interval", "seconds": 10})
        begin_us = clock.wall_us()
        await run.pass_(20)
        await run.freezes.freeze(ANN)
        clock.advance(30)

        with pytest.raises(
            Conflict,
            match=r"nothing is decided yet from .* expected a range that ends before that, got",
        ):
            await run.backfills.begin(ANN, "a", begin_us, clock.wall_us(), 1.0)
        assert (await run.backfills.count("a", begin_us + 1, begin_us + 29 * S, 1.0)).total == 2


# --- skip --------------------------------------------------------------------------------------------


async def test_a_skip_after_a_snooze_leaves_out_what_is_to_come_and_not_what_the_snooze_has_decided(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as run:
        begin_us = clock.wall_us()
        await run.put("a", {"type": "interval", "seconds": 10})
        await run.schedules.skip(ANN, "a")
        await run.schedules.pause(ANN, "a", None, begin_us + 25 * S)
        await run.freezes.freeze(ANN)
        clock.advance(30)
        await run.schedules.wake()

        row = await run.schedules.skip(ANN, "a")

        assert skips_of(row.skips) == [begin_us + 30 * S]


async def test_the_next_fires_are_skipped_on_request_and_no_others(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a")
        await run.schedules.skip(ANN, "a")
        row = await run.schedules.skip(ANN, "a", 1)
        assert skips_of(row.skips) == [clock.wall_us() + S, clock.wall_us() + 2 * S]
        await run.pass_(3, step_s=1)

        assert await run.outcomes() == [REQUESTED, REQUESTED, RAN]
        assert (await run.get()).skips is None


# --- freeze ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (CatchUp.NONE, [RAN, FROZEN, FROZEN, FROZEN, RAN]),
        (CatchUp.LATEST, [RAN, FROZEN, FROZEN, MADE_UP, RAN]),
        (CatchUp.ALL, [RAN, MADE_UP, MADE_UP, MADE_UP, RAN]),
        (None, [RAN, GONE, GONE, MADE_UP, RAN]),
    ],
)
@pytest.mark.parametrize("restart", [False, True])
async def test_a_freeze_stops_everything_and_whoever_thaws_chooses_what_is_made_up_for(
    tmp_path: Path, clock: ManualClock, choice: CatchUp | None, expected: list[object], restart: bool
) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", EVERY_MINUTE)
        await run.pass_(60)
        await run.freezes.freeze(ANN, "release")
        if not restart:
            clock.advance(200)
            assert await run.freezes_hold()
            await run.freezes.thaw(ANN, choice)
            await run.decided()
    if restart:
        clock.advance(200)
        async with life(tmp_path, clock) as run:
            assert await run.freezes_hold()
            await run.freezes.thaw(ANN, choice)
            await run.decided()
    async with life(tmp_path, clock) as run:
        await run.pass_(40)

        assert await run.outcomes() == expected
        [frozen] = (await run.freezes.all())[1]
        assert (frozen.note, frozen.by, frozen.catch_up) == ("release", "ann", choice)


async def test_a_freeze_is_known_and_holds_back_backfills_before_the_timer_has_begun(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", {**EVERY_SECOND, "start": clock.wall_us() / 1e6 - 10})
        frozen = await run.freezes.freeze(ANN)
        await run.backfills.begin(ANN, "a", clock.wall_us() - 5 * S, clock.wall_us(), 1000.0)
    monkeypatch.setattr(Timer, "run", lambda _: asyncio.Event().wait())
    async with life(tmp_path, clock) as run:
        assert (await run.freezes.all())[0] == frozen
        await run.server.timer.backfills.run_once()
        assert await run.executions() == []


async def test_a_freeze_holds_although_the_clock_is_set_back(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", EVERY_MINUTE)
        await run.freezes.freeze(ANN)
        clock.advance(61)
        clock.step_wall(-90)

        current, _ = await run.freezes.all()
        assert current is not None
        with pytest.raises(WrongState):
            await run.freezes.freeze(ANN)


async def test_there_is_one_freeze_at_a_time(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as run:
        with pytest.raises(WrongState):
            await run.freezes.thaw(ANN, None)
        first = await run.freezes.freeze(ANN, None, clock.wall_us() + S)
        with pytest.raises(WrongState) as caught:
            await run.freezes.freeze(ANN)
        assert caught.value.data == {"id": first.id}

        clock.advance(1)
        with pytest.raises(WrongState):
            await run.freezes.thaw(ANN, None)
        await run.freezes.freeze(ANN)


async def test_what_came_due_in_a_pause_stays_skipped_if_the_pause_ends_before_the_thaw(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", EVERY_MINUTE)
        await run.freezes.freeze(ANN)
        await run.schedules.pause(ANN, "a")
        clock.advance(130)
        resumed = await run.schedules.resume(ANN, "a")
        assert (resumed.state, resumed.next_fire_us) == (ScheduleState.ACTIVE, clock.wall_us() + 50 * S)
        clock.advance(60)
        await run.freezes.thaw(ANN, CatchUp.ALL)
        await run.decided()

        assert await run.outcomes() == [PAUSED, PAUSED, MADE_UP]
        counts = await run.server.service.ledger.counts("a")
        assert (counts.skipped, counts.caught_up) == (2, 1)


async def test_a_pause_that_ends_behind_the_last_fire_leaves_the_schedule_finished(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", {"type": "date", "run_date": (clock.wall_us() + S) / 1e6})
        await run.freezes.freeze(ANN)
        await run.schedules.pause(ANN, "a")
        clock.advance(5)

        resumed = await run.schedules.resume(ANN, "a")

        assert (resumed.state, resumed.next_fire_us) == (ScheduleState.FINISHED, None)
        assert await run.outcomes() == [PAUSED]


# --- maxima ------------------------------------------------------------------------------------------


async def test_a_schedule_is_finished_after_its_maximum_of_runs_also_over_a_restart(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", max_fires=3)
        await run.pass_(1)
        await run.schedules.skip(ANN, "a")
        await run.pass_(1)
    async with life(tmp_path, clock) as run:
        await run.pass_(3, step_s=1)

        row = await run.get()
        assert await run.outcomes() == [RAN, REQUESTED, RAN, RAN]
        assert (row.state, row.note, row.next_fire_us) == (ScheduleState.FINISHED, "finished after 3 runs", None)
        with pytest.raises(WrongState, match="may run 3 times"):
            await run.schedules.resume(ANN, "a")


async def test_what_is_skipped_because_of_overlap_is_not_one_of_its_runs(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", max_fires=2, overlap=Overlap.SKIP)
        await run.pass_(3, step_s=1)
        assert (await run.get()).state is ScheduleState.ACTIVE
        await run.end((await run.executions())[0])
        await run.pass_(1)

        overlap = (SKIPPED, SkipReason.OVERLAP)
        assert await run.outcomes() == [RAN, overlap, overlap, RAN]
        assert (await run.get()).state is ScheduleState.FINISHED


async def test_more_runs_can_be_granted_afterwards(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", max_fires=1)
        await run.pass_(1)
        row = await run.schedules.patch(ANN, "a", {"policies": {"max_fires": 2}, "note": None})
        assert (row.state, row.note) == (ScheduleState.ACTIVE, None)
        await run.pass_(1)

        assert await run.outcomes() == [RAN, RAN]
        assert (await run.get()).state is ScheduleState.FINISHED


async def paused_by_failures(run: Life) -> bool:
    return (await run.get()).state is ScheduleState.PAUSED


async def fire_and_end(run: Life, state: State) -> None:
    await run.pass_(1)
    await run.end((await run.executions())[-1], state)


async def test_after_a_resume_failures_are_counted_anew(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", max_failures=2)
        await fire_and_end(run, State.FAILED)
        await fire_and_end(run, State.DEAD)
        await eventually(lambda: paused_by_failures(run))
        await run.schedules.resume(ANN, "a")

        await fire_and_end(run, State.FAILED)
        await fire_and_end(run, State.COMPLETED)
        await fire_and_end(run, State.FAILED)
        assert not await paused_by_failures(run)
        await fire_and_end(run, State.FAILED)

        await eventually(lambda: paused_by_failures(run))


async def test_a_cancelled_execution_neither_counts_as_a_failure_nor_ends_a_row_of_them(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", max_failures=2)
        await fire_and_end(run, State.FAILED)
        await run.pass_(1)
        await run.server.service.executions.cancel(ANN, (await run.executions())[-1].id)
        await fire_and_end(run, State.FAILED)

        await eventually(lambda: paused_by_failures(run))


async def test_failures_that_nobody_followed_up_pause_the_schedule_at_the_next_start(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", max_failures=1)
        await run.pass_(1)
        [row] = await run.executions()
        # As if the server had died between the commit of the failure and what follows from it.
        run.server.timer._rounds = None
        await run.end(row, State.FAILED)
        assert (await run.get()).state is ScheduleState.ACTIVE

    async with life(tmp_path, clock) as run:
        await eventually(lambda: paused_by_failures(run))


# --- jitter ------------------------------------------------------------------------------------------


async def test_what_has_to_wait_its_turn_keeps_its_jitter(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", EVERY_MINUTE, jitter_s=3600, jitter=Spread.HASH, overlap=Overlap.BUFFER_ALL)
        await run.pass_(120, step_s=60)
        await run.until(State.SCHEDULED, State.BLOCKED)
        first, second = await run.executions()
        assert second.not_before_us is not None

        await run.end(first)
        await run.until(State.COMPLETED, State.SCHEDULED)


# --- beside the fires ----------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.BUFFER_ONE])
async def test_a_run_by_hand_counts_as_open(tmp_path: Path, clock: ManualClock, overlap: Overlap) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", overlap=overlap)
        await run.schedules.run(ANN, "a")
        await run.pass_(1)

        if overlap is Overlap.SKIP:
            assert await run.outcomes() == [(SKIPPED, SkipReason.OVERLAP)]
        else:
            await run.until(State.PENDING, State.BLOCKED)


async def backfilled(run: Life, n: int) -> None:
    """The last ``n`` seconds once more, all of them created."""
    now_us = run.clock.wall_us()
    await run.backfills.begin(ANN, "a", now_us - (n - 1) * S, now_us, 1000.0)

    async def created() -> bool:
        run.clock.advance(0.001)
        return sum(row.origin is Origin.BACKFILL for row in await run.executions()) == n

    await eventually(created)


@pytest.mark.parametrize("overlap", [one for one in Overlap if one is not Overlap.ALLOW])
@pytest.mark.parametrize("restart", [False, True])
async def test_fires_neither_wait_for_a_backfill_nor_end_it(
    tmp_path: Path, clock: ManualClock, overlap: Overlap, restart: bool
) -> None:
    async with life(tmp_path, clock) as run:
        # There were times before the schedule was made.
        await run.put("a", {**EVERY_SECOND, "start": clock.wall_us() / 1e6 - 10}, overlap=overlap)
        await backfilled(run, 5)
        if not restart:
            await run.pass_(1)
    if restart:
        clock.advance(1)
    async with life(tmp_path, clock) as run:
        await run.decided()

        assert await run.outcomes() == [RAN]
        assert await run.states() == [State.PENDING] * 6


async def test_failures_of_a_backfill_do_not_pause_its_schedule(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a", max_failures=2)
        await run.pass_(3, step_s=1)
        await backfilled(run, 3)
        for row in await run.executions():
            await run.end(row, State.FAILED if row.origin is Origin.BACKFILL else State.COMPLETED)
        await run.pass_(1)

        assert (await run.outcomes())[-1] == RAN
        assert (await run.get()).state is ScheduleState.ACTIVE


# --- at the same time ----------------------------------------------------------------------------------


async def test_those_who_pause_skip_and_resume_at_once_all_succeed(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as run:
        await run.put("a")

        await asyncio.gather(
            run.schedules.pause(ANN, "a", "one"),
            run.schedules.skip(ANN, "a"),
            run.schedules.pause(ANN, "a", "two"),
            run.schedules.skip(ANN, "a"),
        )

        row = await run.get()
        assert (row.state, len(skips_of(row.skips)), row.version) == (ScheduleState.PAUSED, 2, 5)
