"""A wall clock of its own for a process, by libfaketime: it is set by writing a file.

The process keeps the machine's monotonic clocks: those of its leases and its sleeps.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from functools import cache
from pathlib import Path

import pytest

# The file is read again after a second.
READ_S = 1


class WallClock:
    """The clock of one process, so many seconds ahead of the machine's."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)
        self.env = {
            "LD_PRELOAD": library(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(READ_S),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # The server looks at the clock that often.
            "SCHEDULE_ZERO_TIMING__MAX_SLEEP_S": "0.2",
        }

    def set(self, ahead_s: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s:+d}\n")
        new.replace(self._file)
        self._ahead_s = ahead_s
        self._set_s = time.monotonic()

    def is_read(self) -> bool:
        """Whether its process has had the time to notice."""
        return time.monotonic() > self._set_s + READ_S + 0.1

    def is_now(self, moment_us: int) -> bool:
        """Whether a moment that the server has just told is about now, by this clock."""
        return abs(moment_us / 1e6 - time.time() - self._ahead_s) < 1800


@cache
def library() -> str:
    """What is to be preloaded. The test is skipped where it is not installed."""
    command = shutil.which("faketime")
    if command is None:
        pytest.skip("no faketime (Debian: apt-get install -y faketime)")
    told = subprocess.run(
        [command, "-m", "2030-01-01", "printenv", "LD_PRELOAD"], check=True, capture_output=True, text=True, timeout=20
    )
    return told.stdout.strip()
