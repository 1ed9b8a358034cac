"""A bare scheduler in this very process, where an installation of ours would be: client, clock, ledger, its end."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from apscheduler import AsyncScheduler, SchedulerRole, SchedulerStarted

from schedule_zero.clock import SystemClock
from schedule_zero.testbed.bare.client import BareClient
from schedule_zero.testbed.bare.executions import Executions
from schedule_zero.testbed.bare.order import NODE, Order
from schedule_zero.testbed.bare.stores import stock_store
from schedule_zero.testbed.installation import Installation
from schedule_zero.testbed.processes import Process
from schedule_zero.testbed.scenario import CLIENT

START_S = 30.0
# APScheduler's own defaults, by the machine's clock.
LEASE_S, CLEANUP_S = 30.0, 900.0
# Of what it ended with; its log has the rest.
MOST_CHARS = 120


class SchedulerEnded(ChildProcessError):
    """Nobody stopped it."""


class Bare(Installation):
    """``start``, one scenario, ``close``."""

    bare = True

    def __init__(self, folder: Path, order: Order) -> None:
        super().__init__(folder, nodes=[NODE], targets=[])
        self.subject = order.subject
        # (The process has the clock already, where it is a fast one.)
        self.clock = SystemClock()
        self.speedup = order.speedup
        self._order = order
        self._scheduler: AsyncScheduler | None = None
        self._bare_client: BareClient | None = None
        self._running: asyncio.Task[None] | None = None
        self._open = AsyncExitStack()

    @property
    def client(self) -> Any:
        assert self._bare_client is not None, "it was not started"
        return self._bare_client

    async def start(self) -> None:
        """Returns once it runs. SchedulerEnded, TimeoutError: it does not."""
        if self.speedup != 1.0:
            self._go_fast()
        store = await self._open.enter_async_context(stock_store(self._order.store, self.folder, self._order.database))
        scheduler = AsyncScheduler(
            store,
            role=SchedulerRole.both,
            identity=NODE,
            lease_duration=timedelta(seconds=LEASE_S * self.speedup),
            cleanup_interval=timedelta(seconds=CLEANUP_S * self.speedup),
        )
        await self._open.enter_async_context(scheduler)
        executions = Executions()
        executions.listen(scheduler)
        self._bare_client = BareClient(scheduler, executions)
        # Jobs get it from here: their tasks are made from this one's context.
        CLIENT.set(self._bare_client)
        self.processes["scheduler"] = _Myself()
        started = asyncio.create_task(scheduler.get_next_event(SchedulerStarted))
        await asyncio.sleep(0)
        # Not in its task group: its end would take this task along.
        self._running = asyncio.create_task(scheduler.run_until_stopped(), name="scheduler")
        done, _ = await asyncio.wait((started, self._running), timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        if started not in done:
            started.cancel()
            self._raise_if_over()
            raise TimeoutError(f"the scheduler did not start within {START_S:g} s")
        self._scheduler = scheduler

    async def ended(self) -> None:
        """SchedulerEnded, when it is over though nobody stopped it."""
        assert self._running is not None, "it was not started"
        await asyncio.wait((self._running,))
        self._raise_if_over()

    async def close(self) -> None:
        if self._scheduler is not None:
            await self._scheduler.stop()
        if self._running is not None:
            await asyncio.wait((self._running,), timeout=5.0)
        await self._open.aclose()

    async def bring_back(self, target: str) -> None:
        """It is there as long as this process."""

    def _raise_if_over(self) -> None:
        if self._running is not None and self._running.done():
            raise SchedulerEnded(f"the scheduler ended: {_why(self._running)}")

    def _go_fast(self) -> None:
        from schedule_zero.testbed.bare import fast

        if self._order.store == "memory":
            fast.install(self.speedup)
            return
        from apscheduler.datastores import sqlalchemy

        fast.install(self.speedup, sqlalchemy)


class _Myself(Process):
    """This process, for whoever measures it."""

    def __init__(self) -> None:
        pass

    @property
    def pid(self) -> int:
        return os.getpid()

    def alive(self) -> bool:
        return True


def _why(task: asyncio.Task[None]) -> str:
    if task.cancelled():
        return "it was cancelled"
    error = task.exception()
    return "it stopped by itself" if error is None else in_a_line(error)


def in_a_line(error: BaseException) -> str:
    """What was raised, and the beginning and end of what it says."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    first = str(error).partition("\n")[0]
    if len(first) > MOST_CHARS:
        first = f"{first[: MOST_CHARS // 2]} … {first[-MOST_CHARS // 2 :]}"
    return f"{type(error).__name__}: {first}"
