"""What the simulated nodes run: jobs that behave and misbehave, and write the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from schedule_zero import BaseHandler, current_job
from schedule_zero.clock import to_us
from schedule_zero.node.handler import job
from schedule_zero.testbed.history import JobLine, Side
from tests.simulation.loop import PROCESS

if TYPE_CHECKING:
    from tests.simulation.world import World


class SimHandler(BaseHandler):
    """All ``async``: they run in turns of the loop."""

    handler_id = "sim"

    def __init__(self, world: World) -> None:
        self._world = world

    async def ok(self, value: int = 0) -> int:
        """Succeed at once."""
        with self._ledger("ok") as returns:
            return returns(value)

    async def nap(self, seconds: float = 0.5) -> str:
        """Take a while, and look up now and then."""
        with self._ledger("nap") as returns:
            until_s = self._world.loop.now_s + seconds
            while self._world.loop.now_s < until_s:
                if current_job().cancelled:
                    return returns("stopped early")
                await asyncio.sleep(min(0.25, until_s - self._world.loop.now_s))
            return returns("slept")

    @job(idempotent=False)
    async def once(self, seconds: float = 0.5) -> str:
        """Something that must not be done twice."""
        with self._ledger("once") as returns:
            await asyncio.sleep(seconds)
            return returns("done")

    async def flaky(self, odds: int = 3) -> int:
        """Fail one time in ``odds``, by the attempt's own name."""
        with self._ledger("flaky") as returns:
            await asyncio.sleep(0.05)
            ctx = current_job()
            if crc32(f"{ctx.execution_id}/{ctx.attempt}".encode()) % odds == 0:
                raise RuntimeError("bad luck")
            return returns(ctx.attempt)

    async def exit(self) -> None:
        """End the whole node process at once."""
        with self._ledger("exit"):
            process = PROCESS.get()
            assert process is not None
            await asyncio.sleep(0.2)
            self._world.node_crashed(process)
            await self._world.loop.create_future()

    @contextmanager
    def _ledger(self, action: str) -> Iterator[_Returns]:
        process = PROCESS.get()
        assert process is not None
        returns = _Returns()
        self._note(process.pid, action, Side.START)
        try:
            yield returns
        except GeneratorExit:
            # The process is dead, and this its body being cleared away.
            raise
        except BaseException as error:
            self._note(process.pid, action, Side.END, outcome="error", error=type(error).__name__)
            raise
        self._note(process.pid, action, Side.END, outcome="ok", result=returns.result)

    def _note(self, pid: int, action: str, side: Side, **end: Any) -> None:
        ctx, world = current_job(), self._world
        world.ledger.append(
            JobLine(
                event=side,
                action=action,
                execution_id=ctx.execution_id,
                attempt=ctx.attempt,
                token=ctx.fence_token,
                node_id=ctx.node_id,
                pid=pid,
                schedule_id=ctx.schedule_id,
                nominal_us=None if ctx.nominal_time is None else to_us(ctx.nominal_time),
                wall_us=world.wall_us(),
                mono_ns=world.mono_ns(),
                **end,
            )
        )
        world.trace("job", side.value, ctx.execution_id, ctx.fence_token, ctx.node_id, end.get("outcome"))


class _Returns:
    def __init__(self) -> None:
        self.result: int | None = None

    def __call__(self, value: Any) -> Any:
        self.result = crc32(msgspec.json.encode(value))
        return value
