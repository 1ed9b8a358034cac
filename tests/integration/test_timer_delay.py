"""A fixed delay: the next nominal time follows the recorded end of the last run, whatever happens in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schedule_zero.job_options import JobOptions
from schedule_zero.model import Execution, FireOutcome, Policies, Schedule, ScheduleState, SkipReason, State
from schedule_zero.rules.birth import outfit
from schedule_zero.rules.options import Source
from schedule_zero.rules.policies import stored_policies
from schedule_zero.store import executions
from schedule_zero.timing.resolve import Resolver
from schedule_zero.timing.trigger import Trigger
from tests.integration.test_timer_overlap import timer_over
from tests.integration.timing_bed import Bed, S, bed_in
from tests.support import ManualClock, eventually

pytestmark = pytest.mark.anyio

EVERY_SECOND = {"type": "interval", "seconds": 1}
DELAY_US = 30 * S
EXECUTED = FireOutcome.EXECUTED


class Delay(Trigger):
    """30 seconds after each run's end; ``last_us``: no later than that."""

    last_us: int | None = None
    broken = False

    def next_after(self, us: int) -> int | None:
        return None

    def last_before(self, us: int) -> int | None:
        return None

    def count(self, after_us: int, upto_us: int) -> int:
        return 0

    def after_run(self, ended_us: int) -> int | None:
        if self.broken:
            raise ZeroDivisionError("a trigger's bug")
        next_us = ended_us + DELAY_US
        return next_us if self.last_us is None or next_us <= self.last_us else None

    def document(self) -> dict[str, Any]:
        return {}

    def words(self) -> str:
        return "30 seconds after each run's end"


@pytest.fixture
def delay(monkeypatch: pytest.MonkeyPatch) -> Delay:
    """The trigger of the schedule ``a``; all others have their own."""
    trigger, stored = Delay(), Resolver.trigger

    def resolved(resolver: Resolver, row: Schedule) -> Trigger:
        return trigger if row.id == "a" else stored(resolver, row)

    monkeypatch.setattr(Resolver, "trigger", resolved)
    return trigger


@pytest.fixture
async def bed(tmp_path: Path, clock: ManualClock, delay: Delay) -> AsyncIterator[Bed]:
    async with bed_in(tmp_path / "state", clock) as made:
        yield made


async def create(bed: Bed, clock: ManualClock, **fields: Any) -> None:
    await bed.create(bed.row("a", EVERY_SECOND, due_us=clock.wall_us() + S, tracked=True, **fields))


async def rearmed(bed: Bed) -> int:
    async def due() -> int:
        return (await bed.get("a")).next_fire_us or 0

    return await eventually(due)


async def only(bed: Bed) -> Execution:
    [row] = await bed.executions("a")
    return row


async def test_the_next_time_is_not_known_before_the_run_is_over(bed: Bed, clock: ManualClock) -> None:
    await create(bed, clock)
    async with timer_over(bed, clock) as run:
        await run.fire()
        row = await bed.get("a")
        assert (row.state, row.next_fire_us, row.waits_for) == (ScheduleState.ACTIVE, None, (await only(bed)).id)
        await run.start()
        clock.advance(100)
        ended_us = clock.wall_us()
        await run.end(0)

        assert await rearmed(bed) == ended_us + DELAY_US
        assert (await bed.get("a")).waits_for is None
        clock.advance(29)
        await run.fire()
        assert await bed.nominal_times("a") == [ended_us - 100 * S, ended_us + DELAY_US]


@pytest.mark.parametrize("state", [State.FAILED, State.TIMEOUT, State.DEAD])
async def test_a_run_that_failed_is_followed_by_the_next_as_well(bed: Bed, clock: ManualClock, state: State) -> None:
    await create(bed, clock)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.start()
        await run.end(0, state)

        assert await rearmed(bed) == clock.wall_us() + DELAY_US


async def test_a_run_that_is_cancelled_before_it_starts_is_over(bed: Bed, clock: ManualClock) -> None:
    await create(bed, clock)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await bed.store.write(executions.cancel, [(await only(bed)).id])

        assert await rearmed(bed) == clock.wall_us() + DELAY_US


async def test_an_end_that_no_timer_saw_is_followed_up_at_the_next_start(bed: Bed, clock: ManualClock) -> None:
    await create(bed, clock)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.start()
    await run.end(0)
    ended_us = clock.wall_us()
    clock.advance(10)

    async with timer_over(bed, clock):
        assert await rearmed(bed) == ended_us + DELAY_US


async def test_an_end_that_is_no_longer_on_record_counts_as_now(bed: Bed, clock: ManualClock) -> None:
    await create(bed, clock)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.start()
    await run.end(0)
    await executions.clear_all(bed.store)
    clock.advance(10)

    async with timer_over(bed, clock):
        assert await rearmed(bed) == clock.wall_us() + DELAY_US


async def test_a_time_that_does_not_run_is_followed_by_the_next_after_the_delay(bed: Bed, clock: ManualClock) -> None:
    await create(bed, clock, state=ScheduleState.PAUSED)
    async with timer_over(bed, clock) as run:
        await run.fire()

        row = await bed.get("a")
        assert (row.next_fire_us, row.waits_for) == (clock.wall_us() + DELAY_US, None)
        [fire] = await bed.ledger("a")
        assert fire.reason is SkipReason.PAUSED


async def test_behind_its_end_it_is_finished(bed: Bed, clock: ManualClock, delay: Delay) -> None:
    delay.last_us = clock.wall_us() + 40 * S
    await create(bed, clock)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.start()
        clock.advance(20)
        await run.end(0)

        async def finished() -> bool:
            return (await bed.get("a")).state is ScheduleState.FINISHED

        await eventually(finished)


async def test_its_maximum_of_runs_holds(bed: Bed, clock: ManualClock) -> None:
    await create(bed, clock, policies=stored_policies(Policies(max_fires=1)))
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.start()
        await run.end(0)

        row = await bed.get("a")
        assert (row.state, row.next_fire_us, row.waits_for) == (ScheduleState.FINISHED, None, None)


async def test_a_trigger_that_fails_behind_a_run_quarantines_its_schedule_and_no_other(
    bed: Bed, clock: ManualClock, delay: Delay
) -> None:
    await create(bed, clock)
    await bed.create(bed.row("b", EVERY_SECOND))
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.start()
        delay.broken = True
        await run.end(0)

        async def quarantined() -> bool:
            return (await bed.get("a")).state is ScheduleState.QUARANTINED

        await eventually(quarantined)
        assert "ZeroDivisionError: a trigger's bug" in ((await bed.get("a")).note or "")
        # Again at a start: nothing dies of it.
    async with timer_over(bed, clock) as run:
        clock.advance(3)

        async def goes_on() -> bool:
            return len(await bed.ledger("b")) >= 4

        await eventually(goes_on)


async def test_once_it_is_mended_and_resumed_it_goes_on(bed: Bed, clock: ManualClock, delay: Delay) -> None:
    await create(bed, clock)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.start()
        delay.broken = True
        await run.end(0)

        async def quarantined() -> bool:
            return (await bed.get("a")).state is ScheduleState.QUARANTINED

        await eventually(quarantined)
        delay.broken = False
        await bed.set_state("a", ScheduleState.ACTIVE)

        assert await rearmed(bed) == clock.wall_us() + DELAY_US


async def test_a_pause_of_the_store_postpones_what_follows(bed: Bed, clock: ManualClock) -> None:
    await create(bed, clock)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.start()
        bed.faults.failing_reads = 1
        await run.end(0)

        assert await rearmed(bed) == clock.wall_us() + DELAY_US
        assert (await bed.get("a")).state is ScheduleState.ACTIVE
        assert [fire.outcome for fire in await bed.ledger("a")] == [EXECUTED]


async def test_after_a_skip_for_a_taken_key_it_goes_on(bed: Bed, clock: ManualClock) -> None:
    """It does not wait for ever for the end of one that it never hears of."""
    options = msgspec.json.encode(JobOptions(unique_key="k"))
    mine = outfit(JobOptions(unique_key="k"), JobOptions(), Source.SUBMISSION).options
    stranger = Execution(id="x", handler_id="demo", job_method="hello", unique_key="demo.hello:k", options=mine)
    await bed.store.write(executions.insert, executions.Insert(rows=[stranger]))
    await create(bed, clock, options=options)
    async with timer_over(bed, clock) as run:
        await run.fire()
        fired_us = clock.wall_us()

        assert await rearmed(bed) == fired_us + DELAY_US

    [fire] = await bed.ledger("a")
    assert (fire.outcome, fire.reason, fire.detail) == (FireOutcome.SKIPPED, SkipReason.DUPLICATE, "x")
