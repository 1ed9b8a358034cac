"""Python runs this at the start of each process that has this folder in PYTHONPATH: its wall clock goes fast.

``TESTBED_CLOCK`` has three numbers: at which second of CLOCK_BOOTTIME the clock showed which microsecond, and how many
times as fast it goes. Where a file is named after them, it goes as the machine's does until that is there, and fast
from the second on that stands in it. Replaced is what the product and APScheduler's loop ask for the time; see
testbed/fast_clock.py.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from schedule_zero import clock as product


def install(began_s: float, began_us: int, speedup: float, held: str | None = None) -> None:
    """From now on this process's wall clock is ``began_us`` plus what has passed since, so many times."""
    fast_from_s = began_s if held is None else None

    def wall_us(_self: object = None) -> int:
        nonlocal fast_from_s
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        if fast_from_s is None and held is not None and os.path.exists(held):  # noqa: PTH110 - at each look
            fast_from_s = float(Path(held).read_text())
        fast_s = 0.0 if fast_from_s is None else now_s - fast_from_s
        return began_us + round((now_s - began_s + fast_s * (speedup - 1)) * 1e6)

    product.SystemClock.wall_us = wall_us  # type: ignore[method-assign, assignment]

    if any("schedule-zero-server" in word for word in sys.orig_argv):
        import apscheduler._schedulers.async_ as scheduler_module

        class Moment(datetime):
            """``datetime.now`` for APScheduler's loop."""

            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                us = wall_us()
                return datetime.fromtimestamp(us // 1_000_000, tz or UTC).replace(microsecond=us % 1_000_000)

        scheduler_module.datetime = Moment  # type: ignore[attr-defined]

        from schedule_zero.store import clock_steps

        # It goes fast, and is not set.
        clock_steps.LEAST_US = sys.maxsize


if "TESTBED_CLOCK" in os.environ:
    _began_s, _began_us, _speedup, *_held = os.environ["TESTBED_CLOCK"].split(maxsplit=3)
    install(float(_began_s), int(_began_us), float(_speedup), *_held)
