"""Jobs that wait for the test, in its own process."""

from __future__ import annotations

import asyncio
import threading

from schedule_zero import BaseHandler, current_job

GATE = threading.Event()


class SlowHandler(BaseHandler):
    """Runs until the test lets it go."""

    handler_id = "slow"

    def __init__(self) -> None:
        GATE.clear()

    def held(self) -> str:
        while not GATE.wait(0.01):
            if current_job().cancelled:
                return "stopped"
        return "done"

    async def aheld(self) -> str:
        while not GATE.is_set():
            await asyncio.sleep(0.01)
        return "done"

    async def beats(self, beats: int, every_s: float) -> str:
        for _ in range(beats):
            await asyncio.sleep(every_s)
            current_job().heartbeat()
        await asyncio.sleep(60)
        return "too late"
