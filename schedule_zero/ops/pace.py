"""How many of something may be done by now, at a rate: for loops that create executions bit by bit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from schedule_zero.errors import StoreUnavailable

TICK_S = 0.25


class Pace:
    """Keeps what each of several pieces of work may still do. It forgets all with the process: that is no loss."""

    def __init__(self) -> None:
        # id → when it was last asked, and what was left over then.
        self._left: dict[str, tuple[float, float]] = {}

    def keep(self, ids: Iterable[str]) -> None:
        """Forget all but these."""
        self._left = {id_: self._left[id_] for id_ in ids if id_ in self._left}

    def take(self, id_: str, rate_per_s: float, now_s: float, most: int) -> int:
        """How many may be done now, up to ``most``: never more than a second's worth at once, or one."""
        then_s, left = self._left.get(id_, (now_s, 1.0))
        allowance = min(left + (now_s - then_s) * rate_per_s, max(1.0, rate_per_s))
        size = min(most, int(allowance))
        self._left[id_] = (now_s, allowance - size)
        return size


async def keep_going(
    bell: asyncio.Event, run_once: Callable[[], Awaitable[bool]], postponed: Callable[[StoreUnavailable], None]
) -> None:
    """Step by step while there is something to do, else when ``bell`` rings; for ever.

    ``postponed`` hears of a store that can't be written: the step is tried again.
    """
    while True:
        bell.clear()
        try:
            busy = await run_once()
        except StoreUnavailable as error:
            postponed(error)
            busy = True
        if busy:
            await asyncio.sleep(TICK_S)
        else:
            await bell.wait()
