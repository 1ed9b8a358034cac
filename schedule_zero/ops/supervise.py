"""Keeps the server's loops alive: one that dies is restarted with back-off, counted, and shown by ``/readyz``.

It never hides a death: each is logged with its error and stays visible until the loop has run well for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from msgspec import Struct

from schedule_zero.clock import Clock

log = structlog.get_logger(__name__)

FIRST_DELAY_S = 0.1
MAX_DELAY_S = 30.0
# After this long without a death the loop counts as well again, and the back-off starts anew.
WELL_AFTER_S = 60.0


class LoopStatus(Struct):
    """What became of one supervised loop so far."""

    name: str
    running: bool = False
    restarts: int = 0
    last_error: str | None = None
    started_s: float = 0.0


def innermost(error: BaseException) -> BaseException:
    """The one error inside task groups' wrappings; a group of several stays a group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class Supervisor:
    """Runs named loops until they are cancelled."""

    def __init__(self, clock: Clock, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self.loops: dict[str, LoopStatus] = {}

    async def keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run ``run`` again and again: it is meant never to return, so returning is a death as well."""
        status = self.loops.setdefault(name, LoopStatus(name))
        delay_s = FIRST_DELAY_S
        while True:
            status.running, status.started_s = True, self._clock.mono_s()
            try:
                await run()
                status.last_error = "returned"
            except asyncio.CancelledError:
                raise
            except Exception as error:  # whatever killed it, the server goes on without hiding it
                cause = innermost(error)
                status.last_error = f"{type(cause).__name__}: {cause}"[:500]
                log.error("loop_died", loop=name, restarts=status.restarts, exc_info=cause)
            finally:
                status.running = False
            if self._clock.mono_s() - status.started_s > WELL_AFTER_S:
                delay_s = FIRST_DELAY_S
            status.restarts += 1
            log.warning("loop_restarting", loop=name, delay_s=delay_s, error=status.last_error)
            await self._sleep(delay_s)
            delay_s = min(delay_s * 2, MAX_DELAY_S)

    def unwell(self) -> dict[str, str]:
        """The loops that are down, or died within the last minute, with their last error."""
        now_s = self._clock.mono_s()
        return {
            status.name: status.last_error or "not running"
            for status in self.loops.values()
            if not status.running or (status.restarts and now_s - status.started_s < WELL_AFTER_S)
        }
