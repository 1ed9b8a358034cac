"""The one handler of the benchmark's own: a job that says when it was entered, and one that never ends by itself.

``started_at`` of a record is the node's estimate of the server's time, which may be some milliseconds off. On one
machine there is one wall clock; a job that reads it itself tells the lateness without any estimate.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from schedule_zero import BaseHandler

# How often a job that talks does so.
BURST_S = 0.01
# As applications log: a moment, a level, a few words, an id or two.
LINE = "2026-01-01 00:00:00,000 INFO  orders.intake request={} customer={} path=/api/orders/{} status=200 took_ms={}"


class BenchHandler(BaseHandler):
    """Jobs for W4 and Wcancel."""

    handler_id = "bench"

    def enter(self) -> int:
        """The wall clock at this moment, in microseconds."""
        return time.time_ns() // 1000

    async def hold(self) -> None:
        """Until it is cancelled."""
        await asyncio.Event().wait()

    def talk(self, megabytes: float, seconds: float) -> int:
        """Print lines of about 150 bytes, so many megabytes in so many seconds; how many bytes that were."""
        noise = os.urandom(4096).hex()
        lines = [
            LINE.format(noise[n : n + 16], noise[n + 16 : n + 24], noise[n + 24 : n + 40], n % 97) + "\n"
            for n in range(0, 8_000, 8)
        ]
        size = sum(map(len, lines)) / len(lines)
        total = round(megabytes * 1e6 / size)
        begin = time.perf_counter()
        said = 0
        write = sys.stdout.write
        while said < total:
            due = min(total, round((time.perf_counter() - begin) / seconds * total) + 1)
            for number in range(said, due):
                write(lines[number % 1000])
            said = max(said, due)
            time.sleep(BURST_S)
        return round(said * size)
