"""Triggers that wait for something: a start of the server, the end of a run, a person."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schedule_zero.model import FireOutcome, Schedule, ScheduleState, SkipReason, State
from schedule_zero.timing import first_fire, parse_trigger
from tests.integration.test_timer_overlap import timer_over
from tests.integration.timing_bed import HOUR, MINUTE, Bed, S, bed_in
from tests.support import ManualClock, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bed(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Bed]:
    async with bed_in(tmp_path / "state", clock) as made:
        yield made


async def create(bed: Bed, document: object, **fields: object) -> Schedule:
    """As the service does it."""
    now_us = bed.clock.wall_us()
    trigger = parse_trigger(document, now_us=now_us)
    row = bed.row("a", trigger.encoded(), due_us=first_fire(trigger, now_us), **fields)
    row.tracked = trigger.after_run(now_us) is not None
    await bed.create(row)
    return row


async def fires(bed: Bed, n: int) -> None:
    async def there() -> bool:
        return len(await bed.ledger("a")) == n

    await eventually(there)


async def test_a_startup_schedule_fires_once_at_each_start_and_never_between(bed: Bed, clock: ManualClock) -> None:
    await create(bed, {"type": "startup"})
    starts = []
    for _ in range(2):
        starts.append(clock.wall_us())
        async with timer_over(bed, clock) as run:
            await fires(bed, len(starts))
            clock.advance(3600)
            await run.until(*[State.PENDING] * len(starts))

    assert await bed.nominal_times("a") == starts
    assert (await bed.get("a")).state is ScheduleState.ACTIVE


async def test_a_schedule_made_while_the_server_runs_waits_for_the_next_start(bed: Bed, clock: ManualClock) -> None:
    async with timer_over(bed, clock):
        clock.advance(1)
        await create(bed, {"type": "startup"})
        await bed.create(bed.row("b", {"type": "interval", "seconds": 1}))
        clock.advance(1)

        async def other() -> bool:
            return len(await bed.ledger("b")) == 1

        await eventually(other)
        assert await bed.ledger("a") == []


async def test_at_start_and_every_hour_is_one_schedule(bed: Bed, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    await create(bed, [{"type": "startup"}, {"type": "interval", "hours": 1}])

    async with timer_over(bed, clock):
        await fires(bed, 1)
        clock.advance(3600)
        await fires(bed, 2)

    assert await bed.nominal_times("a") == [start_us, start_us + HOUR]


async def test_a_paused_startup_schedule_is_skipped_and_stays(bed: Bed, clock: ManualClock) -> None:
    await create(bed, {"type": "startup"}, state=ScheduleState.PAUSED)

    async with timer_over(bed, clock):
        await fires(bed, 1)

    (fire,) = await bed.ledger("a")
    assert (fire.outcome, fire.reason) == (FireOutcome.SKIPPED, SkipReason.PAUSED)
    assert (await bed.get("a")).state is ScheduleState.PAUSED


async def test_a_fixed_delay_counts_from_the_end_of_the_run(bed: Bed, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    await create(bed, {"type": "interval", "minutes": 10, "anchor": "end"})

    async with timer_over(bed, clock) as run:
        clock.advance(600)
        await fires(bed, 1)
        row = await bed.get("a")
        assert (row.next_fire_us, row.waits_for) == (None, (await bed.executions("a"))[0].id)

        await run.start()
        clock.advance(420)
        await run.end(0)

        async def rearmed() -> bool:
            return (await bed.get("a")).next_fire_us is not None

        await eventually(rearmed)
        clock.advance(600)
        await fires(bed, 2)

    assert await bed.nominal_times("a") == [start_us + 10 * MINUTE, start_us + 27 * MINUTE]


async def test_a_run_that_ended_while_the_server_was_down_is_followed_all_the_same(
    bed: Bed, clock: ManualClock
) -> None:
    await create(bed, {"type": "interval", "minutes": 10, "anchor": "end"})
    async with timer_over(bed, clock) as run:
        clock.advance(600)
        await fires(bed, 1)
        await run.start()
    clock.advance(60)
    ended_us = clock.wall_us()
    await run.end(0, State.FAILED)

    async with timer_over(bed, clock):

        async def rearmed() -> bool:
            return (await bed.get("a")).next_fire_us == ended_us + 10 * MINUTE

        await eventually(rearmed)


async def test_a_skipped_run_of_a_fixed_delay_is_followed_at_once(bed: Bed, clock: ManualClock) -> None:
    await create(bed, {"type": "interval", "minutes": 10, "anchor": "end"}, state=ScheduleState.PAUSED)

    async with timer_over(bed, clock):
        clock.advance(600)
        await fires(bed, 1)
        decided_us = clock.wall_us()

        assert (await bed.get("a")).next_fire_us == decided_us + 10 * MINUTE


async def test_a_fixed_delay_that_leads_beyond_its_end_is_finished(bed: Bed, clock: ManualClock) -> None:
    end_s = clock.wall_us() / S + 15 * 60
    await create(bed, {"type": "interval", "minutes": 10, "anchor": "end", "end": end_s})

    async with timer_over(bed, clock) as run:
        clock.advance(600)
        await fires(bed, 1)
        if (await bed.get("a")).state is ScheduleState.ACTIVE:
            await run.start()
            await run.end(0)

        async def finished() -> bool:
            return (await bed.get("a")).state is ScheduleState.FINISHED

        await eventually(finished)


async def test_a_manual_schedule_never_fires_by_itself(bed: Bed, clock: ManualClock) -> None:
    await create(bed, {"type": "manual"})
    await bed.create(bed.row("b", {"type": "interval", "hours": 24}))

    async with timer_over(bed, clock):
        clock.advance(86_400)

        async def other() -> bool:
            return len(await bed.ledger("b")) == 1

        await eventually(other)

    assert await bed.ledger("a") == []
    assert (await bed.get("a")).state is ScheduleState.ACTIVE
