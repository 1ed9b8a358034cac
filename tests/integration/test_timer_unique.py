"""Fires of schedules that meet a taken key, a full backlog, or a start deadline: the ledger stays complete."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from schedule_zero.config import HandlerLimits, HandlerRule
from schedule_zero.job_options import JobOptions
from schedule_zero.model import FireOutcome, Policies, ScheduleState, SkipReason, State
from schedule_zero.ops.backlog import Backlog
from schedule_zero.rules.policies import stored_policies
from schedule_zero.store.execution_expiry import Expire, misfire_expired
from tests.integration.test_timer_backfills import PAST, begin, loop, row, state_of
from tests.integration.test_timer_overlap import Run, timer_over
from tests.integration.timing_bed import HOUR, Bed, bed_in
from tests.support import ManualClock

pytestmark = pytest.mark.anyio

EVERY_SECOND = {"type": "interval", "seconds": 1}
EXECUTED, DUPLICATE = (FireOutcome.EXECUTED, None), (FireOutcome.SKIPPED, SkipReason.DUPLICATE)
BACKPRESSURE = (FireOutcome.SKIPPED, SkipReason.BACKPRESSURE)


@pytest.fixture
async def bed(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Bed]:
    async with bed_in(tmp_path / "state", clock) as made:
        yield made


async def create(bed: Bed, options: dict[str, Any], **policies: Any) -> None:
    said = msgspec.json.encode(JobOptions(**options))
    tracked = "overlap" in policies
    kept = stored_policies(Policies(**policies))
    await bed.create(bed.row("a", EVERY_SECOND, options=said, policies=kept, tracked=tracked))


async def outcomes(bed: Bed) -> list[tuple[FireOutcome, SkipReason | None]]:
    return [(fire.outcome, fire.reason) for fire in await bed.ledger("a")]


async def complete(bed: Bed) -> None:
    """As many as were expected, and each execution of a fire is there."""
    ledger, made = await bed.ledger("a"), await bed.executions("a")
    counts = await bed.counts("a")
    assert counts.executed + counts.caught_up + counts.skipped + counts.missed == len(ledger)
    assert {fire.execution_id for fire in ledger if fire.execution_id} == {one.id for one in made}


async def test_fires_are_skipped_while_the_key_is_taken_and_run_when_it_is_free(bed: Bed, clock: ManualClock) -> None:
    await create(bed, {"unique_key": "k"})
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.fire()
        await run.start()
        await run.fire()
        await run.end(-1)
        await run.fire()

    assert await outcomes(bed) == [EXECUTED, DUPLICATE, DUPLICATE, EXECUTED]
    assert (await bed.ledger("a"))[1].detail == (await bed.executions("a"))[0].id
    await complete(bed)
    told = [id_ for call in ("committed", "abandoned") for id_ in bed.dispatcher.told(call)]
    assert sorted(told) == sorted(bed.dispatcher.told("place"))
    assert bed.dispatcher.backlog._taken_total == 0


async def test_fires_that_replace_leave_one_that_waits(bed: Bed, clock: ManualClock) -> None:
    await create(bed, {"unique_key": "k", "on_duplicate": "replace"})
    async with timer_over(bed, clock) as run:
        for _ in range(3):
            await run.fire()

    assert [one.state for one in await bed.executions("a")] == [State.CANCELLED, State.CANCELLED, State.PENDING]
    assert await outcomes(bed) == [EXECUTED] * 3
    await complete(bed)


async def test_what_was_skipped_as_a_duplicate_is_none_of_its_runs(bed: Bed, clock: ManualClock) -> None:
    await create(bed, {"unique_key": "k"}, max_fires=2)
    async with timer_over(bed, clock) as run:
        for _ in range(3):
            await run.fire()
        assert (await bed.get("a")).state is ScheduleState.ACTIVE
        await run.start()
        await run.end(-1)
        await run.fire()

    assert await outcomes(bed) == [EXECUTED, DUPLICATE, DUPLICATE, EXECUTED]
    assert (await bed.get("a")).state is ScheduleState.FINISHED
    assert (await bed.get("a")).runs == 2
    await complete(bed)


async def test_a_misfired_execution_is_not_in_the_way_of_the_next_fire(bed: Bed, clock: ManualClock) -> None:
    await create(bed, {"queue_timeout_s": 0.5}, overlap="skip")
    async with timer_over(bed, clock) as run:
        await run.fire()
        await bed.store.write(misfire_expired, Expire(clock.wall_us() + 500_000))
        await run.until(State.MISFIRED)
        await run.fire()

    assert await outcomes(bed) == [EXECUTED, EXECUTED]
    await complete(bed)


async def test_one_that_waited_for_its_turn_has_its_time_from_then(bed: Bed, clock: ManualClock) -> None:
    await create(bed, {"queue_timeout_s": 100.0}, overlap="buffer_all")
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.start()
        await run.fire()
        clock.advance(0.5)
        freed_us = clock.wall_us()
        await run.end(0)
        await run.until(State.COMPLETED, State.PENDING)

    assert (await bed.executions("a"))[1].start_by_us == freed_us + 100_000_000


def limited(bed: Bed, clock: ManualClock, limit: int, **rules: HandlerRule) -> None:
    bed.dispatcher.backlog = Backlog(bed.store.tally, limit=limit, rules=rules, clock=clock)


@pytest.mark.parametrize("policies", [{}, {"overlap": "buffer_all"}])
async def test_above_the_limit_fires_are_skipped_until_there_is_room(
    bed: Bed, clock: ManualClock, policies: dict[str, Any]
) -> None:
    limited(bed, clock, 2)
    await create(bed, {}, **policies)
    async with timer_over(bed, clock) as run:
        for _ in range(4):
            await run.fire()
        await run.start(0)
        await run.end(0)
        await run.fire()

    assert await outcomes(bed) == [EXECUTED, EXECUTED, BACKPRESSURE, BACKPRESSURE, EXECUTED]
    assert bed.dispatcher.backlog.skipped == 2
    await complete(bed)


async def test_the_limit_of_one_handler_is_no_other_ones(bed: Bed, clock: ManualClock) -> None:
    limited(bed, clock, 100, demo=HandlerRule(limits=HandlerLimits(backlog=1)))
    await create(bed, {})
    await bed.create(bed.row("b", EVERY_SECOND, handler_id="other"))
    async with timer_over(bed, clock) as run:
        for _ in range(3):
            await run.fire()

    assert await outcomes(bed) == [EXECUTED, BACKPRESSURE, BACKPRESSURE]
    assert [fire.outcome for fire in await bed.ledger("b")][:2] == [FireOutcome.EXECUTED] * 2


async def test_many_schedules_that_are_due_at_once_do_not_get_past_the_limit_together(
    bed: Bed, clock: ManualClock
) -> None:
    limited(bed, clock, 5)
    await bed.create(*(bed.row(f"s{n:02}", EVERY_SECOND) for n in range(50)))
    await create(bed, {})
    async with timer_over(bed, clock) as run:
        await run.fire()

    ran = [fire for n in range(50) for fire in await bed.ledger(f"s{n:02}") if fire.outcome is FireOutcome.EXECUTED]
    assert len(ran) + sum(outcome == EXECUTED for outcome in await outcomes(bed)) == 5
    assert bed.store.tally.total == 5


async def test_a_backfill_waits_for_room_and_leaves_nothing_out(bed: Bed, clock: ManualClock) -> None:
    limited(bed, clock, 3)
    await bed.create(row(bed, PAST, due_us=clock.wall_us() + HOUR))
    times = await begin(bed, 5, rate_per_s=100)
    backfill = loop(bed)
    run = Run(bed, clock)
    made = []
    for _ in range(4):
        for _ in range(3):
            clock.advance(1)
            await backfill.run_once()
        made.append((await state_of(bed)).created)
        for place, one in enumerate(await bed.executions("a")):
            if one.state is State.PENDING:
                await run.start(place)
                await run.end(place)

    assert made == [3, 5, 5, 5]
    assert [one.nominal_us for one in await bed.executions("a")] == times
    assert cast("Any", bed.dispatcher.backlog)._taken_total == 0
