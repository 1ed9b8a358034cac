"""strace in a process's way: errors instead of system calls, at the n-th call of a kind or from there on.

Only calls on the given files are counted and harmed. (strace counts for each thread by itself; the database, and a
node's outbox, have one thread each that writes.)
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import eventually_sync

INJECTED = b"(INJECTED)"


@pytest.fixture(scope="session")
def strace() -> str:
    """The command, where it is there and may trace."""
    command = shutil.which("strace")
    if command is None:
        pytest.skip("no strace (Debian: apt-get install -y strace)")
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        tracing = [command, "-o", "/dev/null", "-p", str(sleeper.pid)]
        with subprocess.Popen(tracing, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            said = tracer.stderr.readline()
            sleeper.kill()
    if "attached" not in said:
        pytest.skip(f"strace may not trace here: {said.strip()}")
    return command


class Point(NamedTuple):
    """The n-th call of a kind that a thread makes; ``sticky``: and all after it."""

    call: str
    n: int
    error: str = "EIO"
    sticky: bool = False

    def __str__(self) -> str:
        return f"{self.error} at {self.call} {self.n}{'+' if self.sticky else ''}"


def injection(strace: str, point: Point, files: Iterable[Path], output: Path) -> list[str]:
    """The command that harms: to be followed by ``-p PID``, or by a command that it runs and becomes (``-D``)."""
    when = f"{point.n}+" if point.sticky else str(point.n)
    only = [word for path in files for word in ("-P", str(path))]
    return [
        strace, "-f", "-qq", "-o", str(output), *only,
        "-e", f"trace={point.call}", "-e", f"inject={point.call}:error={point.error}:when={when}",
    ]  # fmt: skip


class Harm:
    """What is being done to a process."""

    def __init__(self, output: Path) -> None:
        self._output = output

    def hits(self) -> int:
        """How many calls were answered by the error so far."""
        return self._output.read_bytes().count(INJECTED) if self._output.exists() else 0


@contextmanager
def harmed(strace: str, pid: int, point: Point, files: Sequence[Path], output: Path) -> Iterator[Harm]:
    """While this lasts, the process's calls fail at that point. Its disk is well again after it."""
    output.unlink(missing_ok=True)
    tracer = subprocess.Popen(
        [*injection(strace, point, files, output), "-p", str(pid)], stderr=subprocess.PIPE, text=True
    )
    try:
        # It says nothing once it is attached (-qq): the kernel knows who traces.
        eventually_sync(lambda: tracer.poll() is not None or traced(pid, tracer.pid))
        assert tracer.poll() is None, f"strace could not attach: {tracer.communicate()[1]}"
        yield Harm(output)
    finally:
        # Detaches from every thread, and ends.
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=20)


def traced(pid: int, by: int) -> bool:
    """Whether all of its threads are traced by this process."""
    return all(
        f"TracerPid:\t{by}\n" in (thread / "status").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()
    )
