"""strace puts a fault at a chosen system call: the n-th of its kind that a thread of the process makes."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

_CALL = re.compile(r"\d+ +(\w+)\(")


class Point(NamedTuple):
    """The n-th call of a kind that a thread makes (each thread counts by itself)."""

    call: str
    n: int


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


def killed_at(point: Point, log: Path) -> tuple[str, ...]:
    """What runs a command that dies of SIGKILL as it enters that call. Its process id is the command's own.

    (With ``--seccomp-bpf`` all other calls would go at full speed; it injects errors, and no signals: strace 6.1.)
    """
    return (
        strace(), "-D", "-f", "-qq", "-o", str(log),
        "-e", f"trace={point.call}", "-e", f"inject={point.call}:signal=SIGKILL:when={point.n}",
    )  # fmt: skip


# Whatever leaves something behind outside of the process.
WRITING = (
    "write", "pwrite64", "writev", "pwritev", "pwritev2", "sendto", "sendmsg", "sendmmsg", "sendfile", "splice",
    "copy_file_range", "fsync", "fdatasync", "sync_file_range", "msync", "ftruncate", "truncate", "fallocate",
    "rename", "renameat", "renameat2", "unlink", "unlinkat", "link", "linkat", "symlink", "symlinkat", "mkdir",
    "mkdirat", "rmdir",
)  # fmt: skip


def written_to(log: Path) -> tuple[str, ...]:
    """What runs a command and writes down its calls that write."""
    return (strace(), "-D", "-f", "-qq", "-o", str(log), "-e", f"trace={','.join(WRITING)}")


def calls_in(log: Path) -> set[str]:
    """The calls that stand in what ``written_to`` wrote down."""
    return {call[1] for line in log.read_text().splitlines() if (call := _CALL.match(line))}
