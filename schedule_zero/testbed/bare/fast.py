"""A bare APScheduler on the fast clock: what its loop takes for now, and how long it sleeps until then.

The wall clock goes fast as for servers and nodes (``fast_clock``, ``site``). A server's loop looks at it ten times a
second, which a stock one does not: so its sleeps are as much shorter. Leases are as much longer (``Bare``): they go by
the machine's clock, as ours do.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from types import ModuleType
from typing import Any

import anyio
import apscheduler._schedulers.async_ as engine
import apscheduler._structures as structures
from apscheduler.datastores import memory

from schedule_zero.clock import SystemClock


class Moment(datetime):
    """``datetime.now`` for APScheduler."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        us = SystemClock().wall_us()
        return datetime.fromtimestamp(us // 1_000_000, tz or UTC).replace(microsecond=us % 1_000_000)


def install(speedup: float, *more: ModuleType) -> None:
    """From now on, in this process. ``more``: modules of other stores than the one in memory."""

    async def sleep(seconds: float) -> None:
        await anyio.sleep(seconds / speedup)

    def move_on_after(seconds: float | None, **said: Any) -> anyio.CancelScope:
        return anyio.move_on_after(None if seconds is None else seconds / speedup, **said)

    for module in (engine, structures, memory, *more):
        module.datetime = Moment  # type: ignore[attr-defined]
    engine.sleep = sleep  # type: ignore[attr-defined, assignment]
    engine.move_on_after = move_on_after  # type: ignore[attr-defined, assignment]
