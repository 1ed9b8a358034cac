"""The one handler of the benchmark's own: a job that says when it was entered, and one that never ends by itself.

``started_at`` of a record is the node's estimate of the server's time, which may be some milliseconds off. On one
machine there is one wall clock; a job that reads it itself tells the lateness without any estimate.
"""

from __future__ import annotations

import asyncio
import time

from schedule_zero import BaseHandler


class BenchHandler(BaseHandler):
    """Jobs for W4 and W9."""

    handler_id = "bench"

    def enter(self) -> int:
        """The wall clock at this moment, in microseconds."""
        return time.time_ns() // 1000

    async def hold(self) -> None:
        """Until it is cancelled."""
        await asyncio.Event().wait()
