"""``schedule-zero-testbed``: hostile schedules over several nodes, with a verdict."""

from __future__ import annotations

from schedule_zero.cli import testbed_reports, testbed_run  # noqa: F401 - their commands enter themselves at the root
from schedule_zero.cli.testbed_root import main

__all__ = ["main"]
