"""One answer for all who ask at about the same time: however many look, it is worked out once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from schedule_zero.clock import Clock

T = TypeVar("T")


class Shared(Generic[T]):
    """What ``read`` answered, for ``age_s``; who asks while it is being read waits for the same answer.

    Only the loop's thread may call it. An error is told to all that waited for it, and kept for nobody.
    """

    def __init__(self, clock: Clock, age_s: float, read: Callable[[], Awaitable[T]], *, name: str) -> None:
        self._clock = clock
        self._age_s = age_s
        self._read = read
        self._name = name
        self._answer: tuple[float, T] | None = None
        self._reading: asyncio.Task[T] | None = None
        # How often it was read.
        self.reads = 0

    async def get(self) -> T:
        """The answer: at most ``age_s`` old, or new."""
        if self._answer is not None and self._clock.mono_s() - self._answer[0] < self._age_s:
            return self._answer[1]
        if self._reading is None:
            self._reading = asyncio.create_task(self._renew(), name=self._name)
        # Whoever goes away takes nobody else's answer along.
        return await asyncio.shield(self._reading)

    async def _renew(self) -> T:
        self.reads += 1
        asked_s = self._clock.mono_s()
        try:
            answer = await self._read()
            self._answer = (asked_s, answer)
            return answer
        finally:
            self._reading = None
