"""The chaos handler: jobs that behave, misbehave, and kill their node, for tests, drills and the test bed.

Each job writes the jobs' own ledger (``job_ledger``). An ``exit``, ``segfault``, ``hang`` or ``oom`` leaves only the
line of its start.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import time
from typing import Any

from schedule_zero import BaseHandler, current_job
from schedule_zero.testbed.job_ledger import entered

# Starts a process, says its id, and waits for it.
_PARENT = (
    "import subprocess, sys; child = subprocess.Popen(['sleep', sys.argv[1]]); "
    "print(child.pid, flush=True); child.wait()"
)


class ChaosHandler(BaseHandler):
    """Each method is one way for a job to go. None is retried unless the submission says so."""

    handler_id = "chaos"

    def ok(self, value: Any = None) -> Any:
        """Succeed with ``value``."""
        with entered("ok") as returns:
            return returns(value)

    def error(self, message: str = "chaos") -> None:
        """Raise an error."""
        with entered("error"):
            raise RuntimeError(message)

    def sleep(self, seconds: float = 1.0) -> str:
        """Block a worker thread; stop early when asked to."""
        with entered("sleep") as returns:
            return returns("stopped early" if current_job().wait_cancelled(seconds) else "slept")

    def exit(self, code: int = 1, after_s: float = 0.0) -> None:
        """End the whole node process at once, as a crash would."""
        with entered("exit"):
            time.sleep(after_s)
            os._exit(code)

    def segfault(self) -> None:
        """Read what isn't there, in C: the whole process ends."""
        with entered("segfault"):
            ctypes.string_at(0)

    def spin(self, seconds: float = 3600.0) -> str:
        """Take CPU time, in Python, and take no notice of anything."""
        with entered("spin") as returns:
            until = time.process_time() + seconds
            while time.process_time() < until:
                pass
            return returns("tired")

    def hog(self, seconds: float = 3600.0) -> str:
        """Take CPU time in one long call that lets no other thread of its process have a turn."""
        with entered("hog") as returns:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                # A regular expression that backtracks holds the interpreter's lock: about a second for these.
                re.match(r"(a|a)*b", "a" * 24)
            return returns("tired")

    def family(self, seconds: float = 3600.0, *, own_session: bool = False, wait: bool = True) -> list[int]:
        """Start a process that starts another; with ``own_session`` they leave the group. Returns their ids."""
        with entered("family") as returns:
            child = subprocess.Popen(  # noqa: S603 - this interpreter, the text below
                [sys.executable, "-S", "-c", _PARENT, str(seconds)],
                stdout=subprocess.PIPE,
                start_new_session=own_session,
            )
            assert child.stdout is not None
            pids = [child.pid, int(child.stdout.readline())]
            current_job().progress(50, f"{pids[0]} {pids[1]}")
            if wait:
                child.wait()
            return returns(pids)

    def hang(self, seconds: float = 3600.0) -> str:
        """Block a worker thread, and take no notice of anything."""
        with entered("hang") as returns:
            time.sleep(seconds)
            return returns("woke up")

    def big(self, size: int = 1_000_000) -> str:
        """Return a result of about ``size`` bytes."""
        with entered("big") as returns:
            return returns("x" * size)

    def log(self, lines: int = 10, text: str = "chaos") -> int:
        """Write log lines."""
        with entered("log") as returns:
            for number in range(lines):
                current_job().log.info("chaos_line", number=number, text=text)
            return returns(lines)

    def oom(self, mib: int = 1024, hold_s: float = 0.0) -> int:
        """Take this much memory, and keep it for a while: enough of it, and the kernel kills the node."""
        with entered("oom") as returns:
            # Written to, or the kernel would only promise it.
            hoard = [bytearray(os.urandom(4096) * 256) for _ in range(mib)]
            time.sleep(hold_s)
            return returns(len(hoard))
