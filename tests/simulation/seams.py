"""Where the product meets the machine, and what it meets in a simulation: clocks, dice, threads, sockets, disks.

Everything that a run may depend on comes from its seed. What is replaced is named here and nowhere else.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import Context
from datetime import UTC, datetime, tzinfo
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import apscheduler._schedulers.async_ as scheduler_module
import structlog
import zmq

from schedule_zero import model
from schedule_zero import server as server_module
from schedule_zero.node import host as host_module
from schedule_zero.node import link as link_module
from schedule_zero.node import runner as runner_module
from schedule_zero.node import work as work_module
from schedule_zero.node.identity import Identity
from schedule_zero.store import store as store_module
from schedule_zero.timing import datastore as datastore_module
from tests.simulation.disks import DISKS, SimSqlite, TurnedOutbox, TurnedWriter
from tests.simulation.loop import EPOCH_US, PROCESS

if TYPE_CHECKING:
    from tests.simulation.world import World

# What may go wrong in a world where things go wrong; any other error that the product logs fails the run.
EXPECTED_ERRORS = frozenset({"store_unavailable"})
FACTS = {"os": "linux", "arch": "sim", "host": "sim", "python": "3", "cores": "4", "memory_gb": "8.0"}


class _ItsClock:
    """The clock of whatever process asks."""

    def __init__(self, world: World) -> None:
        self._world = world

    def wall_us(self) -> int:
        process = PROCESS.get()
        return self._world.wall_us() if process is None else process.wall_us()

    def mono_s(self) -> float:
        process = PROCESS.get()
        return self._world.loop.now_s if process is None else process.mono_s()


@contextmanager
def installed(world: World, rng: random.Random) -> Iterator[None]:
    """Within it the product runs in ``world``."""
    clock = _ItsClock(world)

    class Moment(datetime):
        """``datetime.now`` for APScheduler's loop."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            us = clock.wall_us()
            return datetime.fromtimestamp(us // 1_000_000, tz or UTC).replace(microsecond=us % 1_000_000)

    def take(state_dir: Any, node_id: str) -> Identity:
        identity = _take(state_dir, node_id)
        process = PROCESS.get()
        assert process is not None
        process.holds.append(identity.release)
        return identity

    _take = Identity.take
    ids = model.new_id.__self__  # type: ignore[attr-defined]
    with ExitStack() as stack:
        for target, name, value in (
            # Dice.
            (secrets, "token_hex", lambda n=32: rng.randbytes(n).hex()),
            (secrets, "token_bytes", lambda n=32: rng.randbytes(n)),
            (secrets, "token_urlsafe", lambda n=32: rng.randbytes(n).hex()),
            (link_module, "os", SimpleNamespace(urandom=rng.randbytes)),
            (link_module, "_uniform", rng.uniform),
            (ids, "_randbytes", rng.randbytes),
            (ids, "_clock", clock),
            (ids, "_ms", 0),
            # Clocks.
            (scheduler_module, "datetime", Moment),
            (datastore_module, "SystemClock", lambda: clock),
            # Threads and disks.
            (store_module, "Writer", TurnedWriter),
            (store_module, "SqliteBackend", SimSqlite),
            (work_module, "Outbox", TurnedOutbox),
            # Jobs start from nothing: but they are of their process.
            (runner_module, "empty_context", _context),
            # Sockets.
            (zmq, "Context", world.network.context),
            (server_module, "HttpServer", lambda *_: NoHttp(world)),
            # What the machine says of itself.
            (os, "getpid", _pid),
            (host_module, "gather", lambda *_: dict(FACTS)),
            (host_module, "platform", SimpleNamespace(node=lambda: "sim")),
            (host_module, "capture", SimpleNamespace(install=_nothing, uninstall=_nothing)),
            (Identity, "take", staticmethod(take)),
        ):
            stack.enter_context(patch.object(target, name, value))
        stack.enter_context(patch.dict(DISKS, {"server": world.disk}, clear=True))
        stack.enter_context(_logs(world))
        yield


def _nothing() -> None:
    """Streams and loggers stay as they are."""


def _context() -> Context:
    process = PROCESS.get()
    assert process is not None
    return process.context()


def _pid() -> int:
    process = PROCESS.get()
    return 100 if process is None else process.pid


@contextmanager
def _logs(world: World) -> Iterator[None]:
    def hear(_: Any, method: str, event: dict[str, Any]) -> Any:
        if method in ("error", "critical", "exception") and event.get("event") not in EXPECTED_ERRORS:
            world.complain(event)
        if world.wordy:
            world.remark("log", method, {name: str(value) for name, value in event.items()})
        raise structlog.DropEvent

    before = structlog.get_config()
    level = logging.DEBUG if world.wordy else logging.ERROR
    structlog.configure(
        processors=[hear],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        structlog.configure(**before)


class NoHttp:
    """Requests come straight to the service (``clients``)."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.stats = SimpleNamespace(requests=0)

    def listen(self) -> int:
        return 8888

    async def stop(self, deadline_s: float) -> None:
        """Requests in flight finish."""
        await self._world.clients.quiet(deadline_s)


__all__ = ["EPOCH_US", "installed"]
