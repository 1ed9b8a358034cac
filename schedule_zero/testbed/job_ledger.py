"""The jobs' own ledger: a line as a job is entered and one as it is left, on the disk before it goes on.

Evidence of what really ran that does not depend on anything that a scheduler says. Where the environment variable
``SCHEDULE_ZERO_CHAOS_LEDGER`` names no file, nothing is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Protocol, TypeVar
from zlib import crc32

import msgspec

from schedule_zero import current_job
from schedule_zero.clock import SystemClock, to_us
from schedule_zero.testbed.history import JobLine, Side, append, mono_ns

T = TypeVar("T")

LEDGER = "SCHEDULE_ZERO_CHAOS_LEDGER"

_clock = SystemClock()


class Attempt(Protocol):
    """What a line says of the attempt that writes it; ``JobContext`` has it."""

    node_id: str

    @property
    def execution_id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def fence_token(self) -> int: ...
    @property
    def schedule_id(self) -> str | None: ...
    @property
    def nominal_time(self) -> datetime | None: ...


# Set by a subject that is no node.
ATTEMPT: ContextVar[Attempt] = ContextVar("attempt")


class Returns:
    """What a job is about to return, for the line of its end."""

    def __init__(self) -> None:
        self.result: int | None = None

    def __call__(self, value: T) -> T:
        self.result = crc32(msgspec.json.encode(value))
        return value


@contextmanager
def entered(action: str, *, sync: bool = True) -> Iterator[Returns]:
    """Note the start and the end of a job, if there is a ledger.

    ``action``: what it does; of a scenario's method ``<handler_id>.<method>``. ``sync``: have it on the disk first.
    """
    path = os.environ.get(LEDGER)
    returns = Returns()
    if not path:
        yield returns
        return
    _note(path, action, Side.START, sync)
    try:
        yield returns
    except BaseException as error:
        _note(path, action, Side.END, sync, outcome="error", error=type(error).__name__)
        raise
    _note(path, action, Side.END, sync, outcome="ok", result=returns.result)


def _note(path: str, action: str, side: Side, sync: bool, **end: Any) -> None:
    try:
        ctx = ATTEMPT.get()
    except LookupError:
        ctx = current_job()
    line = JobLine(
        event=side,
        action=action,
        execution_id=ctx.execution_id,
        attempt=ctx.attempt,
        token=ctx.fence_token,
        node_id=ctx.node_id,
        pid=os.getpid(),
        schedule_id=ctx.schedule_id,
        nominal_us=None if ctx.nominal_time is None else to_us(ctx.nominal_time),
        wall_us=_clock.wall_us(),
        mono_ns=mono_ns(_clock),
        **end,
    )
    append(path, line, sync=sync)
