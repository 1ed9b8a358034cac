"""One round at a time, on a clock that only the test moves: what is due becomes ledger rows and executions (C1, C2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from schedule_zero.config import TimingConfig
from schedule_zero.errors import StoreUnavailable
from schedule_zero.job_options import JobOptions
from schedule_zero.model import FireOutcome, Origin, ScheduleState, SkipReason, State
from schedule_zero.store import schedules
from schedule_zero.timing import parse_trigger, preview, window
from tests.integration.timing_bed import DAY, MINUTE, Bed, S, bed_in, one_round, write
from tests.support import ManualClock

pytestmark = pytest.mark.anyio

MINUTELY = {"type": "interval", "minutes": 1}


@pytest.fixture
async def bed(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Bed]:
    async with bed_in(tmp_path / "state", clock) as made:
        yield made


async def test_a_due_schedule_becomes_one_ledger_row_and_one_execution(bed: Bed, clock: ManualClock) -> None:
    rounds = bed.rounds()
    due_us = clock.wall_us() + MINUTE
    await bed.create(bed.row("a", MINUTELY, params=b'{"name":"Ada"}'))

    assert await one_round(rounds) == []
    clock.advance(60.25)
    assert await one_round(rounds) == ["a"]
    assert await one_round(rounds) == []

    (fire,) = await bed.ledger("a")
    (execution,) = await bed.executions("a")
    assert (fire.nominal_us, fire.outcome, fire.generation) == (due_us, FireOutcome.EXECUTED, 1)
    assert (fire.execution_id, fire.decided_us) == (execution.id, clock.wall_us())
    assert (execution.origin, execution.schedule_id, execution.nominal_us) == (Origin.FIRE, "a", due_us)
    assert (execution.state, execution.params, execution.options) == (State.PENDING, b'{"name":"Ada"}', None)
    row = await bed.get("a")
    assert (row.last_fire_us, row.next_fire_us, row.version) == (due_us, due_us + MINUTE, 1)
    assert bed.dispatcher.calls == [("place", [execution.id]), ("committed", [execution.id])]


async def test_the_schedules_options_win_over_the_methods(bed: Bed, clock: ManualClock) -> None:
    bed.dispatcher.registry.said = JobOptions(priority=7, timeout_s=30, idempotent=False)
    await bed.create(bed.row("a", MINUTELY, options=b'{"priority":9}'))
    clock.advance(60)

    await one_round(bed.rounds())

    (execution,) = await bed.executions("a")
    assert execution.priority == 9
    assert execution.options is not None
    said = msgspec.json.decode(execution.options)
    assert (said["timeout_s"], said["on_lost"], said["priority"]) == (30, "fail", 9)


async def test_what_the_dispatcher_placed_is_stored_as_running(bed: Bed, clock: ManualClock) -> None:
    def born_running(rows: object) -> None:
        for row in rows:  # type: ignore[attr-defined]
            row.state, row.attempt, row.token, row.node_id, row.dispatched_us = State.RUNNING, 1, 77, "n", 5

    bed.dispatcher.on_place = born_running
    await bed.create(bed.row("a", MINUTELY))
    clock.advance(60)

    await one_round(bed.rounds())

    (execution,) = await bed.executions("a")
    assert (execution.state, execution.token, execution.node_id) == (State.RUNNING, 77, "n")


async def test_a_trigger_that_has_run_out_finishes_its_schedule(bed: Bed, clock: ManualClock) -> None:
    await bed.create(bed.row("once", {"type": "date", "run_date": clock.wall_us() / 1e6 + 60}))
    clock.advance(61)
    rounds = bed.rounds()

    assert await one_round(rounds) == ["once"]
    assert await one_round(rounds) == []

    row = await bed.get("once")
    assert (row.state, row.next_fire_us) == (ScheduleState.FINISHED, None)
    assert [fire.outcome for fire in await bed.ledger("once")] == [FireOutcome.EXECUTED]


async def test_a_paused_schedule_goes_on_coming_due_and_says_skipped(bed: Bed, clock: ManualClock) -> None:
    await bed.create(bed.row("a", MINUTELY, state=ScheduleState.PAUSED))
    rounds = bed.rounds()
    for _ in range(3):
        clock.advance(60)
        await one_round(rounds)

    assert [(fire.outcome, fire.reason) for fire in await bed.ledger("a")] == [
        (FireOutcome.SKIPPED, SkipReason.PAUSED)
    ] * 3
    assert await bed.executions("a") == []
    assert (await bed.get("a")).state is ScheduleState.PAUSED


async def test_an_outage_is_caught_up_with_the_latest_and_the_ledger_is_complete(bed: Bed, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    await bed.create(bed.row("a", MINUTELY))
    clock.advance(3 * 86_400 + 30)

    await one_round(bed.rounds())

    ledger = await bed.ledger("a")
    assert [fire.outcome for fire in ledger[:-1]] == [FireOutcome.MISSED] * 101
    assert ledger[-1].outcome is FireOutcome.CAUGHT_UP
    assert sum(fire.count for fire in ledger) == 3 * 24 * 60
    assert (ledger[0].nominal_us, ledger[-1].nominal_us) == (start_us + MINUTE, start_us + 3 * DAY)
    assert len(await bed.executions("a")) == 1


async def test_a_full_round_leaves_the_rest_for_the_next(bed: Bed, clock: ManualClock) -> None:
    await bed.create(bed.row("fast", {"type": "interval", "milliseconds": 5}))
    clock.advance(9)
    rounds = bed.rounds()

    assert await one_round(rounds) == ["fast"]
    assert await rounds.wait_us() == 0
    assert await one_round(rounds) == ["fast"]
    assert await one_round(rounds) == []

    ledger = await bed.ledger("fast")
    assert len(ledger) == 1800
    assert {fire.outcome for fire in ledger} == {FireOutcome.EXECUTED}


@pytest.mark.parametrize(
    "trigger",
    [
        {"type": "interval", "milliseconds": 1500},
        {"type": "cron", "expression": "*/7 * * * * *", "timezone": "America/New_York"},
        {"type": "cron", "minute": "*/5", "timezone": "Asia/Kathmandu"},
        {"type": "calendar", "days": 1, "at": "02:30", "timezone": "Europe/Berlin"},
    ],
)
async def test_what_the_preview_promises_is_what_fires(
    bed: Bed, clock: ManualClock, trigger: dict[str, object]
) -> None:
    expected = preview(parse_trigger(trigger, now_us=clock.wall_us()), clock.wall_us(), 10)
    await bed.create(bed.row("a", trigger))
    rounds = bed.rounds()
    for nominal_us in expected:
        clock.advance((nominal_us - clock.wall_us() - 1) / 1e6)
        assert await one_round(rounds) == []
        clock.advance(1e-6)
        assert await one_round(rounds) == ["a"]

    assert await bed.nominal_times("a") == expected
    assert {fire.outcome for fire in await bed.ledger("a")} == {FireOutcome.EXECUTED}


# --- the clock -------------------------------------------------------------------------------------


async def test_a_clock_set_back_repeats_no_nominal_time(bed: Bed, clock: ManualClock) -> None:
    await bed.create(bed.row("a", MINUTELY))
    start_us = clock.wall_us()
    rounds = bed.rounds()
    for _ in range(5):
        clock.advance(60)
        await one_round(rounds)
    clock.step_wall(-3600)
    for _ in range(65):
        clock.advance(60)
        await one_round(rounds)

    nominal_times = await bed.nominal_times("a")
    assert nominal_times == [start_us + minute * MINUTE for minute in range(1, 11)]


async def test_a_clock_set_forward_leaves_no_hole(bed: Bed, clock: ManualClock) -> None:
    await bed.create(bed.row("a", MINUTELY))
    rounds = bed.rounds()
    await one_round(rounds)
    clock.step_wall(10 * 365 * 86_400)

    await one_round(rounds)

    ledger = await bed.ledger("a")
    assert sum(fire.count for fire in ledger) == 10 * 365 * 24 * 60
    # The count, a hundred details, the one caught up, the one on time.
    assert len(ledger) == 103


async def test_a_nominal_time_that_is_in_the_ledger_already_is_stepped_over(bed: Bed, clock: ManualClock) -> None:
    """Its due time was set back by a change: the unique key refuses the repetition, and the timer goes on."""
    await bed.create(bed.row("a", MINUTELY))
    start_us = clock.wall_us()
    rounds = bed.rounds()
    clock.advance(60)
    await one_round(rounds)
    await bed.store.write(schedules.update, schedules.Update(id="a", changes={"next_fire_us": start_us + MINUTE}))
    rounds.window.changed(["a"])

    for _ in range(4):
        await one_round(rounds)
    clock.advance(60)
    await one_round(rounds)

    assert await bed.nominal_times("a") == [start_us + MINUTE, start_us + 2 * MINUTE]
    assert len(await bed.executions("a")) == 2
    assert bed.dispatcher.told("abandoned")


# --- the window ------------------------------------------------------------------------------------


async def test_only_what_is_due_soon_is_held_in_memory(bed: Bed, clock: ManualClock) -> None:
    tomorrow = clock.wall_us() + DAY
    await bed.create(*(bed.row(f"later{i}", MINUTELY, due_us=tomorrow) for i in range(50)))
    await bed.create(*(bed.row(f"soon{i}", MINUTELY, due_us=clock.wall_us() + S) for i in range(3)))
    rounds = bed.rounds()

    assert await rounds.wait_us() == S
    assert len(rounds.window) == 3
    clock.advance(1)
    assert sorted(await one_round(rounds)) == ["soon0", "soon1", "soon2"]
    assert len(rounds.window) == 0
    clock.advance(86_400)
    assert len(await one_round(rounds)) == 53


async def test_more_due_at_one_moment_than_one_read_takes(
    bed: Bed, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "ROWS", 10)
    due_us = clock.wall_us() + S
    ids = [f"s{i:02}" for i in range(35)]
    await bed.create(*(bed.row(id_, {"type": "interval", "hours": 1}, due_us=due_us) for id_ in ids))
    rounds = bed.rounds()
    clock.advance(1)

    fired: list[str] = []
    for _ in range(20):
        fired += await one_round(rounds)

    assert sorted(fired) == ids


async def test_one_that_is_always_due_starves_nobody_beyond_the_horizon(bed: Bed, clock: ManualClock) -> None:
    beyond_us = clock.wall_us() + window.SPAN_US + 2 * S
    await bed.create(bed.row("busy", {"type": "interval", "milliseconds": 1}))
    await bed.create(bed.row("other", MINUTELY, due_us=beyond_us))
    rounds = bed.rounds()
    await one_round(rounds)
    fired: set[str] = set()
    while clock.wall_us() <= beyond_us + S:
        # A round takes 1000 of its fires: something is due whenever it looks.
        clock.advance(1.5)
        fired.update(await one_round(rounds))

    assert fired == {"busy", "other"}


async def test_a_fire_waits_for_no_read(bed: Bed, clock: ManualClock) -> None:
    """Its row was read ahead: at the due time nothing but the write stands between it and the ledger."""
    await bed.create(bed.row("a", MINUTELY, due_us=clock.wall_us() + 2 * S))
    rounds = bed.rounds()
    await rounds.wait_us()
    clock.advance(2)
    bed.faults.failing_reads = 100

    assert await one_round(rounds) == ["a"]

    assert len(await bed.ledger("a")) == 1
    assert bed.faults.failing_reads == 100


# --- the fence -------------------------------------------------------------------------------------


async def test_a_schedule_paused_while_it_is_being_decided_does_not_run(bed: Bed, clock: ManualClock) -> None:
    await bed.create(bed.row("a", MINUTELY), bed.row("b", MINUTELY))
    rounds = bed.rounds()
    clock.advance(60)
    alarms = await rounds.take()
    await bed.set_state("a", ScheduleState.PAUSED)

    await write(rounds, alarms)

    assert await bed.ledger("a") == []
    assert len(await bed.ledger("b")) == 1
    assert len(bed.dispatcher.told("abandoned")) == len(bed.dispatcher.told("committed")) == 1
    # It is decided again, with what is true now.
    assert await one_round(rounds) == ["a"]
    assert [fire.reason for fire in await bed.ledger("a")] == [SkipReason.PAUSED]


async def test_a_schedule_deleted_while_it_is_being_decided_leaves_nothing(bed: Bed, clock: ManualClock) -> None:
    await bed.create(bed.row("a", MINUTELY))
    rounds = bed.rounds()
    clock.advance(60)
    alarms = await rounds.take()
    await bed.delete("a")

    await write(rounds, alarms)

    assert await bed.ledger("a") == []
    assert await bed.executions("a") == []
    assert await one_round(rounds) == []


async def test_an_id_created_again_is_a_new_generation_with_its_own_ledger(bed: Bed, clock: ManualClock) -> None:
    due_us = clock.wall_us() + MINUTE
    rounds = bed.rounds()
    await bed.create(bed.row("a", MINUTELY, due_us=due_us))
    clock.advance(60)
    await one_round(rounds)
    await bed.delete("a")
    await bed.create(bed.row("a", MINUTELY, due_us=due_us))
    rounds.window.changed(["a"])

    await one_round(rounds)

    assert [(fire.generation, fire.nominal_us) for fire in await bed.ledger("a")] == [(1, due_us), (2, due_us)]


# --- what can't be fired ---------------------------------------------------------------------------


async def test_a_schedule_that_cannot_be_read_is_quarantined_visibly(bed: Bed, clock: ManualClock) -> None:
    due_us = clock.wall_us() + S
    await bed.create(
        bed.row("bad", b'{"type":"sundial"}', due_us=due_us),
        bed.row("worse", b"gASVDAAAAAAAAACMBXBvc2l4", due_us=due_us),
        bed.row("worst", MINUTELY, due_us=due_us, options=b'{"priority":"high"}'),
        bed.row("good", MINUTELY, due_us=due_us),
    )
    clock.advance(1)
    rounds = bed.rounds()

    await one_round(rounds)
    assert await one_round(rounds) == []

    for id_ in ("bad", "worse", "worst"):
        row = await bed.get(id_)
        assert (row.state, row.next_fire_us) == (ScheduleState.QUARANTINED, None)
        assert "can't be read" in (row.note or "")
        (fire,) = await bed.ledger(id_)
        assert (fire.nominal_us, fire.outcome, fire.reason) == (due_us, FireOutcome.SKIPPED, SkipReason.QUARANTINED)
    assert [fire.outcome for fire in await bed.ledger("good")] == [FireOutcome.EXECUTED]
    assert bed.stats.quarantined == 3


# --- the store is away -----------------------------------------------------------------------------


async def test_what_could_not_be_written_is_decided_again_after_a_pause(bed: Bed, clock: ManualClock) -> None:
    await bed.create(bed.row("a", MINUTELY))
    rounds = bed.rounds()
    clock.advance(60)
    bed.faults.failing_writes = 2

    assert await one_round(rounds) == ["a"]
    assert await one_round(rounds) == []
    assert 0 < await rounds.wait_us() <= 100_000
    clock.advance(0.1)
    assert await one_round(rounds) == ["a"]
    assert 100_000 < await rounds.wait_us() <= 200_000
    clock.advance(0.2)
    assert await one_round(rounds) == ["a"]

    assert [fire.outcome for fire in await bed.ledger("a")] == [FireOutcome.EXECUTED]
    assert len(await bed.executions("a")) == 1
    assert len(bed.dispatcher.told("abandoned")) == 2
    assert len(bed.dispatcher.told("committed")) == 1
    assert bed.stats.store_failures == 2


async def test_a_failed_read_is_survived_and_no_change_is_forgotten(bed: Bed, clock: ManualClock) -> None:
    rounds = bed.rounds()
    await one_round(rounds)
    await bed.create(bed.row("a", MINUTELY, due_us=clock.wall_us() + S))
    rounds.window.changed(["a"])
    bed.faults.failing_reads = 1

    assert await one_round(rounds) == []
    clock.advance(1)
    assert await one_round(rounds) == ["a"]


async def test_an_error_that_is_not_the_stores_being_away_is_raised(bed: Bed, clock: ManualClock) -> None:
    await bed.create(bed.row("a", MINUTELY))
    rounds = bed.rounds()
    clock.advance(60)
    bed.faults.error = ValueError("a bug")
    bed.faults.failing_writes = 1

    with pytest.raises(ValueError, match="a bug"):
        await one_round(rounds)

    assert len(bed.dispatcher.told("abandoned")) == 1


async def test_a_dispatcher_that_raises_does_not_leave_the_timer_waiting(bed: Bed, clock: ManualClock) -> None:
    def broken(_: object) -> None:
        raise KeyError("a bug in dispatch")

    await bed.create(bed.row("a", MINUTELY))
    clock.advance(60)
    bed.dispatcher.committed = broken  # type: ignore[method-assign]

    with pytest.raises(KeyError, match="a bug in dispatch"):
        await one_round(bed.rounds())


async def test_a_long_pause_is_the_most_there_is_between_two_tries(bed: Bed, clock: ManualClock) -> None:
    await bed.create(bed.row("a", MINUTELY))
    clock.advance(60)
    rounds = bed.rounds(TimingConfig(max_sleep_s=60))
    bed.faults.error = StoreUnavailable("read-only file system")
    bed.faults.failing_writes = 50
    waits = []
    for _ in range(10):
        await one_round(rounds)
        waits.append(await rounds.wait_us())
        clock.advance(waits[-1] / 1e6)

    assert waits[-1] == 5 * S
    assert waits == sorted(waits)
