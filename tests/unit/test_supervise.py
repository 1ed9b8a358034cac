"""A loop that dies is restarted with back-off, counted and shown; a chore survives a store that can't write."""

from __future__ import annotations

import asyncio

import pytest

from schedule_zero.errors import StoreUnavailable
from schedule_zero.ops.supervise import MAX_DELAY_S, WELL_AFTER_S, Supervisor
from schedule_zero.ops.upkeep import Chore, repeat
from tests.support import ManualClock

pytestmark = pytest.mark.anyio


class Sleeps:
    """Records what was asked for; ends the test's loop after ``at_most`` of them."""

    def __init__(self, at_most: int) -> None:
        self.asked: list[float] = []
        self._at_most = at_most

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        if len(self.asked) >= self._at_most:
            raise asyncio.CancelledError


async def test_a_loop_that_dies_is_restarted_with_growing_delays_up_to_a_bound(clock: ManualClock) -> None:
    sleeps = Sleeps(at_most=12)
    supervisor = Supervisor(clock, sleep=sleeps)

    async def dies() -> None:
        raise ValueError("broken")

    with pytest.raises(asyncio.CancelledError):
        await supervisor.keep("timer", dies)

    assert sleeps.asked[:4] == [0.1, 0.2, 0.4, 0.8]
    assert sleeps.asked[-1] == MAX_DELAY_S
    assert supervisor.loops["timer"].restarts == 12
    assert supervisor.unwell() == {"timer": "ValueError: broken"}


async def test_a_loop_that_returns_counts_as_dead(clock: ManualClock) -> None:
    supervisor = Supervisor(clock, sleep=Sleeps(at_most=1))

    async def returns() -> None:
        return

    with pytest.raises(asyncio.CancelledError):
        await supervisor.keep("timer", returns)

    assert supervisor.unwell() == {"timer": "returned"}


async def test_a_loop_that_ran_well_for_long_starts_its_back_off_anew(clock: ManualClock) -> None:
    sleeps = Sleeps(at_most=3)
    supervisor = Supervisor(clock, sleep=sleeps)
    lives = iter([0.0, 0.0, WELL_AFTER_S + 1])

    async def dies_after_a_while() -> None:
        clock.advance(next(lives))
        raise ValueError("broken")

    with pytest.raises(asyncio.CancelledError):
        await supervisor.keep("timer", dies_after_a_while)

    assert sleeps.asked == [0.1, 0.2, 0.1]


async def test_a_loop_is_well_again_a_minute_after_its_restart(clock: ManualClock) -> None:
    supervisor = Supervisor(clock)
    started = asyncio.Event()
    first = True

    async def dies_once() -> None:
        nonlocal first
        if first:
            first = False
            raise ValueError("broken")
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(supervisor.keep("timer", dies_once))
    await started.wait()
    assert supervisor.unwell() == {"timer": "ValueError: broken"}
    clock.advance(WELL_AFTER_S + 1)
    assert supervisor.unwell() == {}
    task.cancel()
    await asyncio.wait([task])


async def test_a_chore_goes_on_when_the_store_could_not_write() -> None:
    calls = 0

    async def prune() -> None:
        nonlocal calls
        calls += 1
        raise StoreUnavailable

    with pytest.raises(asyncio.CancelledError):
        await repeat(Chore(name="prune", every_s=60, run_once=prune), sleep=Sleeps(at_most=3))

    assert calls == 2
