"""The chaos handler: jobs that behave, misbehave, and kill their node, for tests, drills and the test bed.

Where the environment variable ``SCHEDULE_ZERO_CHAOS_LEDGER`` names a file, each job appends one line (``JobLine``) when
it starts and one when it ends, and has it on the disk before it goes on: evidence of what really ran that does
not depend on anything that ScheduleZero says. (An ``exit``, ``segfault``, ``hang`` or ``oom`` leaves only the first.)
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from zlib import crc32

import msgspec

from schedule_zero import BaseHandler, current_job
from schedule_zero.clock import SystemClock, to_us
from schedule_zero.testbed.history import JobLine, Side, append, mono_ns

T = TypeVar("T")

LEDGER = "SCHEDULE_ZERO_CHAOS_LEDGER"
# Starts a process, says its id, and waits for it.
_PARENT = (
    "import subprocess, sys; child = subprocess.Popen(['sleep', sys.argv[1]]); "
    "print(child.pid, flush=True); child.wait()"
)

_clock = SystemClock()


class ChaosHandler(BaseHandler):
    """Each method is one way for a job to go. None is retried unless the submission says so."""

    handler_id = "chaos"

    def ok(self, value: Any = None) -> Any:
        """Succeed with ``value``."""
        with _ledger("ok") as returns:
            return returns(value)

    def error(self, message: str = "chaos") -> None:
        """Raise an error."""
        with _ledger("error"):
            raise RuntimeError(message)

    def sleep(self, seconds: float = 1.0) -> str:
        """Block a worker thread; stop early when asked to."""
        with _ledger("sleep") as returns:
            return returns("stopped early" if current_job().wait_cancelled(seconds) else "slept")

    def exit(self, code: int = 1, after_s: float = 0.0) -> None:
        """End the whole node process at once, as a crash would."""
        with _ledger("exit"):
            time.sleep(after_s)
            os._exit(code)

    def segfault(self) -> None:
        """Read what isn't there, in C: the whole process ends."""
        with _ledger("segfault"):
            ctypes.string_at(0)

    def spin(self, seconds: float = 3600.0) -> str:
        """Take CPU time, in Python, and take no notice of anything."""
        with _ledger("spin") as returns:
            until = time.process_time() + seconds
            while time.process_time() < until:
                pass
            return returns("tired")

    def hog(self, seconds: float = 3600.0) -> str:
        """Take CPU time in one long call that lets no other thread of its process have a turn."""
        with _ledger("hog") as returns:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                # A regular expression that backtracks holds the interpreter's lock: about a second for these.
                re.match(r"(a|a)*b", "a" * 24)
            return returns("tired")

    def family(self, seconds: float = 3600.0, *, own_session: bool = False, wait: bool = True) -> list[int]:
        """Start a process that starts another; with ``own_session`` they leave the group. Returns their ids."""
        with _ledger("family") as returns:
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
        with _ledger("hang") as returns:
            time.sleep(seconds)
            return returns("woke up")

    def big(self, size: int = 1_000_000) -> str:
        """Return a result of about ``size`` bytes."""
        with _ledger("big") as returns:
            return returns("x" * size)

    def log(self, lines: int = 10, text: str = "chaos") -> int:
        """Write log lines."""
        with _ledger("log") as returns:
            for number in range(lines):
                current_job().log.info("chaos_line", number=number, text=text)
            return returns(lines)

    def oom(self, mib: int = 1024, hold_s: float = 0.0) -> int:
        """Take this much memory, and keep it for a while: enough of it, and the kernel kills the node."""
        with _ledger("oom") as returns:
            # Written to, or the kernel would only promise it.
            hoard = [bytearray(os.urandom(4096) * 256) for _ in range(mib)]
            time.sleep(hold_s)
            return returns(len(hoard))


class _Returns:
    """What a job is about to return, for the line of its end."""

    def __init__(self) -> None:
        self.result: int | None = None

    def __call__(self, value: T) -> T:
        self.result = crc32(msgspec.json.encode(value))
        return value


@contextmanager
def _ledger(action: str) -> Iterator[_Returns]:
    """Note the start and the end of a job in the ledger file, if there is one."""
    path = os.environ.get(LEDGER)
    returns = _Returns()
    if not path:
        yield returns
        return
    _note(path, action, Side.START)
    try:
        yield returns
    except BaseException as error:
        _note(path, action, Side.END, outcome="error", error=type(error).__name__)
        raise
    _note(path, action, Side.END, outcome="ok", result=returns.result)


def _note(path: str, action: str, side: Side, **end: Any) -> None:
    ctx = current_job()
    line = JobLine(
        event=side,
        action=action,
        execution_id=ctx.execution_id,
        attempt=ctx.attempt,
        token=ctx.fence_token,
        node_id=ctx.node_id,
        pid=os.getpid(),
        schedule_id=ctx.schedule_id,
        nominal_us=None if ctx.nominal_time is None else to_us(ctx.nominal_time),
        wall_us=_clock.wall_us(),
        mono_ns=mono_ns(_clock),
        **end,
    )
    append(path, line)
