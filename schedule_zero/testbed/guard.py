"""Ends what the test bed started, should the test bed itself be killed: nobody else knows of those processes.

A process of its own that reads from a pipe which processes have been started, and which only its parent can write to.
However the parent ends, the pipe does; whatever of them is alive then is ended, with all that it started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import IO

import psutil


class Guard:
    """``watch`` each process; ``close`` once they are ended."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "schedule_zero.testbed.guard"],
            stdin=subprocess.PIPE,
            # Ctrl-C is for the test bed, which ends them in order.
            start_new_session=True,
        )

    def watch(self, pid: int) -> None:
        """Its process group is ended with the test bed."""
        pipe = self._popen.stdin
        assert pipe is not None
        # (A guard that somebody killed guards nobody; the run goes on.)
        with suppress(BrokenPipeError):
            pipe.write(f"{pid}\n".encode())
            pipe.flush()

    def close(self) -> None:
        """What is still alive of them is ended now."""
        self._popen.communicate()


def guard(pids: IO[str]) -> None:
    """Read them to the end of the pipe, and end their process groups."""
    watched: list[psutil.Process] = []
    for line in pids:
        # (One that is over already needs no guard. What has its id later is another process, and is_running says so.)
        with suppress(psutil.NoSuchProcess):
            watched.append(psutil.Process(int(line)))
    for process in watched:
        if process.is_running():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    guard(sys.stdin)
