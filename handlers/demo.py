"""The demo handler: what a handler looks like. Start it with ``schedule-zero-handler handlers/demo.py``."""

from __future__ import annotations

import asyncio
from typing import Any

from schedule_zero import BaseHandler, current_job, job


class DemoHandler(BaseHandler):
    """Small jobs to try things with. Each public method is a job; its docstring and type hints are shown in the UI."""

    handler_id = "demo"

    def hello(self, name: str) -> str:
        """Greet somebody."""
        return f"Hello, {name}!"

    def add(self, a: float, b: float) -> float:
        """Add two numbers."""
        return a + b

    async def sleep(self, seconds: float = 1.0) -> str:
        """Sleep, and tell how far it is. As an ``async`` method it can be cancelled at any moment."""
        steps = max(1, min(100, round(seconds * 10)))
        for step in range(steps):
            current_job().progress(100 * step / steps, f"{seconds * step / steps:.1f} of {seconds:g} s")
            await asyncio.sleep(seconds / steps)
        return f"slept {seconds:g} s"

    def fail(self, message: str = "this job always fails") -> None:
        """Fail, to see what a failure looks like."""
        raise RuntimeError(message)

    @job(max_attempts=5, retry_delay_s=1.0)
    def flaky(self, fail_times: int = 2) -> str:
        """Fail in the first ``fail_times`` attempts, then succeed: a job that is worth retrying (up to 5 attempts)."""
        attempt = current_job().attempt
        if attempt <= fail_times:
            raise ConnectionError(f"attempt {attempt} of {fail_times} that fail")
        return f"succeeded in attempt {attempt}"

    def echo(self, **params: Any) -> dict[str, Any]:
        """Return whatever parameters it was given."""
        return params

    def noop(self) -> None:
        """Do nothing, as fast as possible."""
