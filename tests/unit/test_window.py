"""Which schedules are in memory: those that are due within the horizon, whatever is read and written at a time."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from schedule_zero.model import ScheduleState
from schedule_zero.timing.window import Window

pytestmark = pytest.mark.anyio
S = 1_000_000


class Source:
    """A store of one schedule. A read sees it as it was when it began, and answers when it may."""

    def __init__(self, due_us: int) -> None:
        self.due_us = due_us
        self.begun = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    def _alarm(self, due_us: int) -> Any:
        row = SimpleNamespace(id="a", next_fire_us=due_us, state=ScheduleState.ACTIVE)
        return SimpleNamespace(row=row, queued_us=None)

    async def changed(self, ids: Any) -> list[Any]:
        return [self._alarm(self.due_us)]

    async def due(self, after_us: int, upto_us: int) -> list[Any]:
        seen_us = self.due_us
        self.begun.set()
        await self.may_answer.wait()
        return [self._alarm(seen_us)] if after_us < seen_us <= upto_us else []


async def test_c2_a_schedule_that_is_given_back_while_the_horizon_moves_past_it_is_not_forgotten() -> None:
    source = Source(100 * S)
    window = Window(source)
    await window.refresh(95 * S)
    horizon_us = window.horizon_us
    [(_, alarm)] = window.take_due(100 * S)
    source.begun.clear()
    source.may_answer.clear()
    moving = asyncio.create_task(window.refresh(horizon_us - 4 * S))
    await source.begun.wait()

    # Its release is committed while the read, which saw it due at 100 s, is not back: next time behind the horizon.
    source.due_us = alarm.row.next_fire_us = horizon_us + 2 * S
    window.put(alarm)
    source.may_answer.set()
    await moving

    assert window.horizon_us > source.due_us
    assert window.next_us() == source.due_us
