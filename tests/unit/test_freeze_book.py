"""The freezes in memory are never older than what was read last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from schedule_zero.model import Freeze
from schedule_zero.store import Store
from schedule_zero.timing.freezes import FreezeBook

pytestmark = pytest.mark.anyio

NOW_US = 1_000_000


class SlowReaders:
    """A store that reads at once, and answers in the order that the test wants."""

    def __init__(self) -> None:
        self.rows: list[Freeze] = []
        self.held: list[asyncio.Future[None]] = []

    async def read(self, what: Callable[[Any], Any]) -> list[Freeze]:
        seen = list(self.rows)
        self.held.append(asyncio.get_running_loop().create_future())
        await self.held[-1]
        return seen


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_read_from_before_a_freeze_that_comes_back_late_does_not_undo_it() -> None:
    # What the server's start reads is under way while it answers requests already.
    store = SlowReaders()
    book = FreezeBook(cast("Store", store))
    starting = asyncio.create_task(book.load())
    await _settle()
    store.rows.append(Freeze(id="z", from_us=NOW_US, to_us=None, note=None, by="ann", catch_up=None))
    freezing = asyncio.create_task(book.load())
    await _settle()

    # The newer one first, as far as the book lets them be under way at once.
    while not (starting.done() and freezing.done()):
        next(answer for answer in reversed(store.held) if not answer.done()).set_result(None)
        await _settle()

    frozen = book.at(NOW_US)
    assert frozen is not None
    assert frozen.id == "z"
