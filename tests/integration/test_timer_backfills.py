"""Past ranges of a schedule that are run afterwards: by the clock, over restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from schedule_zero.errors import StoreUnavailable
from schedule_zero.model import (
    Backfill,
    BackfillState,
    Freeze,
    Origin,
    State,
)
from schedule_zero.store import backfills, freezes
from schedule_zero.timing.backfills import Backfills
from schedule_zero.timing.resolve import Resolver
from tests.integration.story_bed import (
    PAST,
    row,
)
from tests.integration.timing_bed import HOUR, Bed, S, bed_in
from tests.support import ManualClock

if TYPE_CHECKING:
    from schedule_zero.dispatch.dispatcher import Dispatcher

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
