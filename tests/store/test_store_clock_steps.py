"""The wall clock is set while rows wait for a length of time: what is left of it stays what it was (C12)."""

from __future__ import annotations

import pytest

from schedule_zero.config import StoreConfig
from schedule_zero.errors import StoreUnavailable
from schedule_zero.model import State
from schedule_zero.store import Store, clock_steps, executions
from schedule_zero.store.clock_steps import ClockSteps
from schedule_zero.store.tx import Tx
from tests.store.builders import T0, end_item, execution, get, insert, running
from tests.support import ManualClock, eventually

pytestmark = pytest.mark.anyio

S = 1_000_000
DAY_S = 86_400


async def touch(store: Store) -> None:
    """Any write."""
    await store.write(clock_steps.look, None)


async def times(store: Store, id_: str) -> tuple[int | None, int | None]:
    row = await get(store, id_)
    return row.not_before_us, row.start_by_us


@pytest.mark.parametrize("by_s", [-DAY_S, -1, 1, 3600])
async def test_a_length_of_time_moves_with_the_clock_and_a_moment_does_not(
    store: Store, clock: ManualClock, by_s: int
) -> None:
    await insert(
        store,
        execution("pending", start_by_us=T0 + 10 * S),
        execution("retry", state=State.RETRY_SCHEDULED, not_before_us=T0 + 5 * S, start_by_us=T0 + 15 * S),
        running("running", 1, start_by_us=T0 + 20 * S),
        execution("later", state=State.SCHEDULED, not_before_us=T0 + 5 * S, start_by_us=T0 + 15 * S),
        execution("released", not_before_us=T0, start_by_us=T0 + 15 * S),
        execution("over", state=State.CANCELLED, not_before_us=T0 + 5 * S, start_by_us=T0 + 15 * S),
    )

    clock.step_wall(by_s)
    await touch(store)

    by_us = by_s * S
    assert await times(store, "pending") == (None, T0 + 10 * S + by_us)
    assert await times(store, "retry") == (T0 + 5 * S + by_us, T0 + 15 * S + by_us)
    assert await times(store, "running") == (None, T0 + 20 * S + by_us)
    assert await times(store, "released") == (T0, T0 + 15 * S + by_us)
    # Somebody named that moment; and nobody waits for the last one.
    assert await times(store, "later") == (T0 + 5 * S, T0 + 15 * S)
    assert await times(store, "over") == (T0 + 5 * S, T0 + 15 * S)


async def test_a_step_moves_once_and_what_is_reckoned_by_the_new_clock_is_right_already(
    store: Store, clock: ManualClock
) -> None:
    await insert(store, running("a", 1), execution("b", start_by_us=T0 + 10 * S))
    clock.step_wall(-DAY_S)

    # The transaction that sees the step also writes by the new clock.
    await store.write(executions.end, [end_item("a", 1, State.RETRY_SCHEDULED, delay_us=7 * S, archive=True)])
    await touch(store)
    await touch(store)

    assert await times(store, "a") == (T0 - DAY_S * S + 7 * S, None)
    assert await times(store, "b") == (None, T0 - DAY_S * S + 10 * S)


async def test_time_that_passes_and_a_clock_that_is_slewed_are_no_steps_until_they_are_a_second(
    store: Store, clock: ManualClock
) -> None:
    await insert(store, execution("a", start_by_us=T0 + 10 * S))
    told: list[int] = []
    store.on_clock_set(told.append)

    for _ in range(9):
        clock.advance(3600)
        clock.step_wall(0.1)
        await touch(store)
    assert (told, await times(store, "a")) == ([], (None, T0 + 10 * S))

    clock.step_wall(0.1)
    await touch(store)
    assert told == [S]
    assert await times(store, "a") == (None, T0 + 11 * S)


async def test_a_transaction_that_fails_moves_nothing_and_the_next_one_does(store: Store, clock: ManualClock) -> None:
    await insert(store, execution("a", start_by_us=T0 + 10 * S))
    told: list[int] = []
    store.on_clock_set(told.append)

    def fails(tx: Tx, args: list[None]) -> list[None]:
        raise StoreUnavailable("the disk is full")

    clock.step_wall(-60)
    with pytest.raises(StoreUnavailable):
        await store.write(fails, None)
    assert (told, await times(store, "a")) == ([], (None, T0 + 10 * S))

    await touch(store)
    assert told == [-60 * S]
    assert await times(store, "a") == (None, T0 - 50 * S)


async def test_a_step_is_noticed_where_nothing_is_written(store: Store, clock: ManualClock) -> None:
    await insert(store, execution("a", start_by_us=T0 + 10 * S))
    told: list[int] = []
    store.on_clock_set(told.append)

    store.look_at_clock()
    commits = store.stats.commits
    clock.step_wall(3600)
    store.look_at_clock()

    await eventually(lambda: told)
    assert (told, store.stats.commits) == ([3600 * S], commits + 1)


def test_a_thread_that_stood_still_between_two_readings_has_seen_no_step() -> None:
    class Slow(ManualClock):
        stands_s = 0.0

        def wall_us(self) -> int:
            self.advance(self.stands_s)
            return super().wall_us()

    clock = Slow()
    steps = ClockSteps(clock)
    clock.stands_s = 30.0
    assert steps.step_us() == 0
    clock.stands_s = 0.0
    assert steps.step_us() == 0
    clock.step_wall(2.0)
    assert steps.step_us() == 2 * S


async def test_a_closed_store_does_not_mind_the_clock(tmp_path, clock: ManualClock) -> None:
    store = Store.open(StoreConfig(durability="fast"), tmp_path, clock=clock)
    await store.close()
    clock.step_wall(3600)
    store.look_at_clock()
