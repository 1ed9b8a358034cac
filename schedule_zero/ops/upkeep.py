"""The table of periodic chores: each is one function with an interval, run as a supervised loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from msgspec import Struct

from schedule_zero.errors import StoreUnavailable

log = structlog.get_logger(__name__)


class Chore(Struct, frozen=True, kw_only=True):
    """Something to be done every ``every_s`` seconds; ``run_once`` may be called at any time."""

    name: str
    every_s: float
    run_once: Callable[[], Awaitable[object]]


async def until_done(step: Callable[[], Awaitable[int]]) -> None:
    """Repeat a step until it found nothing to do. Each is a transaction of its own: others' work goes in between."""
    while await step():
        pass


async def repeat(chore: Chore, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Run a chore for ever, first after one interval. A store that can't write now is not the chore's death."""
    while True:
        await sleep(chore.every_s)
        try:
            await chore.run_once()
        except StoreUnavailable as error:
            log.warning("chore_postponed", chore=chore.name, reason=error.message)
