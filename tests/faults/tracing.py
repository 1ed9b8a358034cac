"""strace puts a fault at a chosen system call: the n-th of its kind that a thread of the process makes.

It counts for each thread by itself. A point that has to stand for *every* such call therefore says which thread makes
them: the main one, those beside it, or the only one that writes to a file.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable
from enum import Enum, auto
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import eventually_sync
from tests.system.processes import Process

# With or without the id of a thread before it. (A call that its process died at has no value.)
_ENDED = re.compile(r"(?:(?P<thread>\d+) +)?(?:<\.\.\. )?(?P<name>\w+)(?: resumed>|\().* = -?\d")
# The file is that of a descriptor; a call that is given a name has none here.
_MADE = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\((?:\d+<(?P<file>[^>]*)>)?")
# A process's first socket of ZeroMQ starts it; the store's thread, which has no name of its own, is there before.
_LAST_OF_A_START = "ZMQbg/IO/0"
# It leaves nothing outside of its process: one thread wakes another of the same process.
_EVENTFD = "anon_inode:[eventfd]"


class Thread(Enum):
    """Whose calls are counted."""

    MAIN = auto()
    # Not the main one, of those that are there before the first message; there is one that makes these calls.
    BESIDE = auto()
    # There is one in all that makes these calls, whichever it is.
    ONE = auto()
    # The first of several that comes to its n-th: they do the same work.
    FIRST = auto()


class Calls(NamedTuple):
    """What is counted: calls of a kind that a thread makes; on one file, if it is named (from the bed's folder)."""

    name: str
    by: Thread
    on: str = ""

    def __str__(self) -> str:
        return "-".join((self.name, self.by.name.lower(), *filter(None, [Path(self.on).name])))

    def cover(self, made: Made) -> bool:
        """Whether it is one of these. (Which of the threads beside the main one it was, is not asked.)"""
        theirs = {Thread.MAIN: made.by_main, Thread.BESIDE: not made.by_main}.get(self.by, True)
        return theirs and self.name == made.name and (not self.on or made.file.endswith(self.on))


class Point(NamedTuple):
    """The n-th of these calls."""

    calls: Calls
    n: int


class Made(NamedTuple):
    """A call that a process made."""

    name: str
    file: str
    by_main: bool


@cache
def strace() -> str:
    """The command. The test is skipped where there is none, or where it may not trace."""
    command = shutil.which("strace")
    if command is None:
        pytest.skip("no strace (Debian: apt-get install -y strace)")
    tracing = [command, "-f", "-o", "/dev/null", "-e", "trace=none", "true"]
    tried = subprocess.run(tracing, capture_output=True, text=True, timeout=20, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip()}")
    return command


class Killer:
    """strace, that has one process die of SIGKILL as it enters the call at a point.

    (With ``--seccomp-bpf`` all other calls would go at full speed; it injects errors, and no signals: strace 6.1.)
    """

    def __init__(self, point: Point, folder: Path) -> None:
        """``folder`` is the bed's; what strace saw is written there."""
        self.point = point
        self._log = folder / "strace.out"
        self._log.unlink(missing_ok=True)
        self._tracer: subprocess.Popen[str] | None = None
        calls = point.calls
        self._options = [
            "-qq", "-o", str(self._log), *(("-P", str(folder / calls.on)) if calls.on else ()),
            "-e", f"trace={calls.name}", "-e", f"inject={calls.name}:signal=SIGKILL:when={point.n}",
        ]  # fmt: skip

    @property
    def under(self) -> tuple[str, ...]:
        """What runs a command that dies there, and becomes it: the process id is the command's own."""
        if self.point.calls.by is Thread.BESIDE:
            return ()
        follow = () if self.point.calls.by is Thread.MAIN else ("-f",)
        return (strace(), "-D", *follow, *self._options)

    def attach(self, process: Process) -> None:
        """Threads beside the main one can be told apart only once they are there: then strace comes to them."""
        if self.point.calls.by is not Thread.BESIDE:
            return
        eventually_sync(lambda: _LAST_OF_A_START in threads(process.pid).values(), within_s=30, every_s=0.001)
        # So that none of their calls goes by before that.
        os.kill(process.pid, signal.SIGSTOP)
        beside = [thread for thread in threads(process.pid) if thread != process.pid]
        command = [strace(), *self._options, *(word for thread in beside for word in ("-p", str(thread)))]
        self._tracer = tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            eventually_sync(lambda: tracer.poll() is not None or traced(process.pid, beside, tracer.pid))
            assert tracer.poll() is None, f"strace could not attach: {tracer.communicate()[1]}"
        finally:
            os.kill(process.pid, signal.SIGCONT)

    def over(self) -> None:
        """The process is dead; with it strace ends."""
        if self._tracer is not None:
            self._tracer.communicate(timeout=10)

    def missed(self) -> None:
        """The process came through. Then there is no n-th such call, in any thread, or strace kills no more."""
        made = Counter(call["thread"] for call in map(_ENDED.match, self._lines()) if call)
        most = max(made.values(), default=0) if self.point.calls.by is Thread.FIRST else made.total()
        assert most < self.point.n, f"{self.point} was passed: strace saw {dict(made)}"

    def _lines(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()


def threads(pid: int) -> dict[int, str]:
    """The ids and names of a process's threads."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        # (One may end meanwhile.)
        if (name := task / "comm").exists():
            found[int(task.name)] = name.read_text().rstrip("\n")
    return found


def traced(pid: int, tids: Iterable[int], by: int) -> bool:
    """Whether these threads of it are all traced by this process."""
    return all(f"TracerPid:\t{by}\n" in Path(f"/proc/{pid}/task/{tid}/status").read_text() for tid in tids)


# Whatever leaves something behind outside of the process.
WRITING = (
    "write", "pwrite64", "writev", "pwritev", "pwritev2", "sendto", "sendmsg", "sendmmsg", "sendfile", "splice",
    "copy_file_range", "fsync", "fdatasync", "sync_file_range", "msync", "ftruncate", "truncate", "fallocate",
    "rename", "renameat", "renameat2", "unlink", "unlinkat", "link", "linkat", "symlink", "symlinkat", "mkdir",
    "mkdirat", "rmdir",
)  # fmt: skip


def written_to(log: Path) -> tuple[str, ...]:
    """What runs a command and writes down its calls that write."""
    return (strace(), "-D", "-f", "-y", "-qq", "-o", str(log), "-e", f"trace={','.join(WRITING)}")


def calls_in(log: Path, main: int) -> set[Made]:
    """The calls that stand in what ``written_to`` wrote down of the process with this id."""
    found = map(_MADE.match, log.read_text(errors="replace").splitlines())
    made = {Made(call["name"], call["file"] or "", int(call["thread"]) == main) for call in found if call}
    return {call for call in made if call.by_main or call.file != _EVENTFD}
