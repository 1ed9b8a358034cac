"""Answers that somebody over HTTP waits for: what the store says of a write, in time or not at all."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from schedule_zero.errors import ScheduleZeroError, StoreUnavailable

T = TypeVar("T")

# The store has so long for a declaration, a result or a part of one.
ANSWER_S = 10.0


def settle(answer: asyncio.Future[T], outcome: T | Exception) -> None:
    """Give the answer, unless nobody waits for it any more."""
    if answer.done():
        return
    if not isinstance(outcome, Exception):
        answer.set_result(outcome)
    elif isinstance(outcome, ScheduleZeroError):
        answer.set_exception(outcome)
    else:
        answer.set_exception(StoreUnavailable())


async def within(seconds: float, answer: asyncio.Future[T], late: str) -> T:
    """The answer; StoreUnavailable, which says ``late``, if it does not come in time."""
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        raise StoreUnavailable(late) from None
