"""strace answers a running process's system calls with an error: the n-th of a kind, or all from there on.

Only calls on the given files are counted and harmed. (strace counts for each thread by itself; the database, and a
node's outbox, have one thread each that writes.)
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.faults.tracing import strace, threads, traced
from tests.support import eventually_sync

INJECTED = b"(INJECTED)"


class BadCall(NamedTuple):
    """The n-th call of a kind that a thread makes; ``sticky``: and all after it."""

    call: str
    n: int
    error: str = "EIO"
    sticky: bool = False

    def __str__(self) -> str:
        return f"{self.error} at {self.call} {self.n}{'+' if self.sticky else ''}"


def injection(bad: BadCall, files: Iterable[Path], output: Path) -> list[str]:
    """The command that harms: to be followed by ``-p PID``, or by a command that it runs and becomes (``-D``)."""
    when = f"{bad.n}+" if bad.sticky else str(bad.n)
    only = [word for path in files for word in ("-P", str(path))]
    return [
        strace(), "-f", "-qq", "-o", str(output), *only,
        "-e", f"trace={bad.call}", "-e", f"inject={bad.call}:error={bad.error}:when={when}",
    ]  # fmt: skip


class Harm:
    """What is being done to a process."""

    def __init__(self, output: Path) -> None:
        self._output = output

    def hits(self) -> int:
        """How many calls were answered by the error so far."""
        return self._output.read_bytes().count(INJECTED) if self._output.exists() else 0


@contextmanager
def harmed(pid: int, bad: BadCall, files: Sequence[Path], output: Path) -> Iterator[Harm]:
    """While this lasts, the process's calls fail so. Its disk is well again after it."""
    output.unlink(missing_ok=True)
    tracer = subprocess.Popen([*injection(bad, files, output), "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    try:
        # It says nothing once it is attached (-qq): the kernel knows who traces.
        eventually_sync(lambda: tracer.poll() is not None or traced(pid, threads(pid), tracer.pid))
        assert tracer.poll() is None, f"strace could not attach: {tracer.communicate()[1]}"
        yield Harm(output)
    finally:
        # Detaches from every thread, and ends.
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=20)
