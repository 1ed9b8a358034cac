"""The timer as it runs in the server: APScheduler's own loop, the real store, the real clock."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from uuid import uuid4

import pytest

from schedule_zero.clock import SystemClock, to_us
from schedule_zero.config import TimingConfig
from schedule_zero.errors import StoreUnavailable
from schedule_zero.model import FireOutcome, ScheduleState
from schedule_zero.timing import rounds
from schedule_zero.timing.datastore import TimerDataStore
from tests.integration.timing_bed import HOUR, Bed, S, bed_in, running
from tests.support import ManualClock, eventually

pytestmark = pytest.mark.anyio

# Nothing in these tests may be due to the timer looking again by itself, unless they say so.
SLEEPY = TimingConfig(max_sleep_s=60)
# A wake-up that was lost would be made up for only when the window moves on, after 5 s at the earliest. Without load
# "at once" is a few milliseconds.
AT_ONCE_S = 2.5


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with bed_in(tmp_path / "state", SystemClock()) as made:
        yield made


@pytest.fixture
async def still(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Bed]:
    """A bed whose clock only the test moves."""
    async with bed_in(tmp_path / "state", clock) as made:
        yield made


def due_in(bed: Bed, id_: str, seconds: float) -> Awaitable[None]:
    due_us = bed.clock.wall_us() + round(seconds * 1e6)
    return bed.create(bed.row(id_, {"type": "interval", "hours": 1}, due_us=due_us))


async def lateness_s(bed: Bed, id_: str) -> float:
    """How long after its nominal time the first fire was decided."""

    async def first() -> object:
        return await bed.ledger(id_)

    await eventually(first)
    (fire, *_) = await bed.ledger(id_)
    return (fire.decided_us - fire.nominal_us) / 1e6


async def test_it_fires_on_time_and_goes_on(bed: Bed) -> None:
    await bed.create(bed.row("a", {"type": "interval", "milliseconds": 50}))

    async with running(bed.timer(SLEEPY)):
        await eventually(lambda: len(bed.dispatcher.told("committed")) >= 5)

    ledger = await bed.ledger("a")
    assert [fire.nominal_us - ledger[0].nominal_us for fire in ledger] == [i * 50_000 for i in range(len(ledger))]
    assert {fire.outcome for fire in ledger} == {FireOutcome.EXECUTED}


async def test_a_schedule_created_while_the_timer_sleeps_wakes_it(bed: Bed) -> None:
    timer = bed.timer(SLEEPY)
    async with running(timer):
        await due_in(bed, "first", 0)
        await lateness_s(bed, "first")
        await due_in(bed, "second", 0.005)

        assert await lateness_s(bed, "second") < AT_ONCE_S


@pytest.mark.parametrize("moment", ["take", "write", "wait_us"])
@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_schedule_that_arrives_at_the_worst_moment_is_not_missed(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, moment: str, side: str
) -> None:
    """Right before or after each step of the loop, in particular between reading the next due time and sleeping."""
    arrived = asyncio.Event()
    original = getattr(rounds.Rounds, moment)

    async def with_an_arrival(self: rounds.Rounds, *arguments: object) -> object:
        if arrived.is_set():
            return await original(self, *arguments)
        arrived.set()
        if side == "before":
            await due_in(bed, "late", 0.005)
            return await original(self, *arguments)
        result = await original(self, *arguments)
        await due_in(bed, "late", 0.005)
        return result

    await due_in(bed, "early", 0)
    monkeypatch.setattr(rounds.Rounds, moment, with_an_arrival)
    async with running(bed.timer(SLEEPY)):
        await asyncio.wait_for(arrived.wait(), 10)

        assert await lateness_s(bed, "late") < AT_ONCE_S


async def test_many_changes_at_once_are_all_seen(bed: Bed) -> None:
    async with running(bed.timer(SLEEPY)):
        await due_in(bed, "first", 0)
        await lateness_s(bed, "first")
        due_us = bed.clock.wall_us() + S // 5
        trigger = {"type": "interval", "hours": 1}
        await asyncio.gather(*(bed.create(bed.row(f"s{i}", trigger, due_us=due_us)) for i in range(200)))

        await eventually(lambda: len(bed.dispatcher.told("committed")) == 201)


async def test_a_paused_and_resumed_schedule_is_known_at_once(bed: Bed) -> None:
    await bed.create(bed.row("a", {"type": "interval", "milliseconds": 20}))
    async with running(bed.timer(SLEEPY)):
        await eventually(lambda: len(bed.dispatcher.told("committed")) >= 3)
        await bed.set_state("a", ScheduleState.PAUSED)
        stood_at = len(await bed.executions("a"))

        async def skipped() -> bool:
            return sum(fire.outcome is FireOutcome.SKIPPED for fire in await bed.ledger("a")) >= 3

        await eventually(skipped)
        assert len(await bed.executions("a")) == stood_at
        await bed.set_state("a", ScheduleState.ACTIVE)
        await eventually(lambda: len(bed.dispatcher.told("committed")) > stood_at)

    nominal_times = await bed.nominal_times("a")
    steps = {later - earlier for earlier, later in itertools.pairwise(nominal_times)}
    assert steps == {20_000}


async def test_a_step_of_the_wall_clock_is_noticed_within_the_longest_sleep(still: Bed, clock: ManualClock) -> None:
    await still.create(still.row("a", {"type": "interval", "hours": 1}))
    async with running(still.timer(TimingConfig(max_sleep_s=0.05))):
        await eventually(lambda: still.dispatcher.calls == [])
        clock.step_wall(3600)

        await eventually(lambda: len(still.dispatcher.told("committed")) == 1)


async def test_a_manual_clock_drives_it_through_days(still: Bed, clock: ManualClock) -> None:
    await still.create(still.row("a", {"type": "cron", "expression": "@hourly"}))
    timer = still.timer(SLEEPY)
    async with running(timer):
        for hour in range(1, 49):
            clock.advance(3600)
            timer.changed()
            await eventually(lambda hour=hour: len(still.dispatcher.told("committed")) == hour)

    nominal_times = await still.nominal_times("a")
    assert len(nominal_times) == 48
    assert nominal_times[-1] - nominal_times[0] == 47 * HOUR


async def test_the_time_that_a_commit_took_is_not_slept_too_little(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait counts from when it was found out, not from before: else the loop wakes early, and for nothing."""
    found_out_us = 0

    async def slow_wait(_: rounds.Rounds) -> int:
        nonlocal found_out_us
        began_us = found_out_us = bed.clock.wall_us()
        while found_out_us < began_us + 2000:
            found_out_us = bed.clock.wall_us()
        return S

    monkeypatch.setattr(rounds.Rounds, "wait_us", slow_wait)

    answer = await TimerDataStore(bed.rounds()).get_next_schedule_run_time()

    assert answer is not None
    assert to_us(answer) >= found_out_us + S


# --- failures --------------------------------------------------------------------------------------


async def test_a_full_disk_is_survived_and_nothing_is_lost(bed: Bed) -> None:
    await bed.create(bed.row("a", {"type": "interval", "milliseconds": 50}))
    timer = bed.timer(SLEEPY)
    async with running(timer) as task:
        await eventually(lambda: bed.dispatcher.told("committed"))
        bed.faults.failing_writes, bed.faults.failing_reads = 2, 1
        await eventually(lambda: bed.faults.failing_writes == 0)
        stood_at = len(bed.dispatcher.told("committed"))
        await eventually(lambda: len(bed.dispatcher.told("committed")) > stood_at + 5)
        assert not task.done()

    nominal_times = await bed.nominal_times("a")
    assert nominal_times == list(range(nominal_times[0], nominal_times[-1] + 1, 50_000))
    assert timer.stats.store_failures >= 2


async def test_after_a_crash_the_next_run_goes_on_where_the_last_one_stood(bed: Bed) -> None:
    await bed.create(bed.row("a", {"type": "interval", "milliseconds": 20}))
    timer = bed.timer(SLEEPY)
    bed.faults.error = RuntimeError("a bug")
    bed.faults.failing_writes = 1

    with pytest.raises(RuntimeError, match="a bug"):
        await timer.run()
    async with running(timer):
        await eventually(lambda: len(bed.dispatcher.told("committed")) >= 3)

    nominal_times = await bed.nominal_times("a")
    assert nominal_times == list(range(nominal_times[0], nominal_times[-1] + 1, 20_000))


async def test_stopped_in_the_middle_of_a_commit_the_dispatcher_still_hears_of_it(bed: Bed) -> None:
    """The rows are committed: who placed them must be told, or they would wait for ever."""
    await due_in(bed, "a", 0)
    submitted = asyncio.Event()
    bed.dispatcher.on_place = lambda _: submitted.set()
    task = asyncio.create_task(bed.timer(SLEEPY).run())
    await asyncio.wait_for(submitted.wait(), 10)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    placed = bed.dispatcher.told("place")
    await eventually(lambda: bed.dispatcher.told("committed") == placed)
    assert len(placed) == 1


async def test_the_store_being_away_at_start_only_delays_it(bed: Bed) -> None:
    await due_in(bed, "a", 0)
    bed.faults.error = StoreUnavailable("unable to open database file")
    bed.faults.failing_reads = 2

    async with running(bed.timer(SLEEPY)):
        await eventually(lambda: len(bed.dispatcher.told("committed")) == 1)


async def test_what_the_loop_does_not_need_says_plainly_that_it_is_not_there(bed: Bed) -> None:
    store = TimerDataStore(bed.rounds())

    for call in (
        store.get_tasks(),
        store.get_schedules(),
        store.get_job_result(uuid4()),
        store.reap_abandoned_jobs(""),
    ):
        with pytest.raises(NotImplementedError, match=r"kept by schedule_zero\.store"):
            await call
