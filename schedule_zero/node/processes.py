"""What processes use, and which belong together, as Linux tells it in ``/proc``. Reads and signals; decides nothing.

A worker's *tree* is its process group and everything that descends from it: a worker is a "subreaper", so that what
its descendants leave behind becomes its child, whatever session or group it made for itself.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterable
from typing import NamedTuple

_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class Usage(NamedTuple):
    """Of several processes together."""

    cpu_us: int
    rss_bytes: int


# --- from outside -----------------------------------------------------------------------------------


def tree(root: int) -> list[int]:
    """``root`` and all its living descendants, the parents first. A race with a fork leaves the newest out."""
    found = [root]
    for pid in found:
        found.extend(child for child in children(pid) if child not in found)
    return found


def children(pid: int) -> list[int]:
    """The children of a process; none if it is gone."""
    found: list[int] = []
    try:
        # No Path here and below: all this is done ten times a second and more.
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with open(f"/proc/{pid}/task/{task}/children", "rb", buffering=0) as file:  # noqa: PTH123
                found += map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        # It, or one of its threads, ended while we were looking.
        pass
    return found


def usage(pids: Iterable[int]) -> Usage:
    """What they use together: CPU with what their dead children had used, and resident memory.

    Pages that several of them share are counted for each.
    """
    cpu_ticks = pages = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123
                # The name may hold anything, also spaces and brackets.
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        cpu_ticks += sum(map(int, fields[11:15]))
        pages += int(fields[21])
    return Usage(cpu_ticks * _TICK_US, pages * _PAGE)


def signal_tree(root: int, number: int) -> bool:
    """Signal the group of ``root`` and what else descends from it; whether there was anything but ``root``."""
    members = tree(root)
    _quietly(os.killpg, root, number)
    for pid in members:
        if pid != root and _group(pid) != root:
            _quietly(os.kill, pid, number)
    return len(members) > 1


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _quietly(kill: object, target: int, number: int) -> None:
    try:
        kill(target, number)  # type: ignore[operator]
    except (ProcessLookupError, PermissionError):
        # Gone; or it became another user's (a set-uid program), and is not ours to end.
        return


# --- from inside ------------------------------------------------------------------------------------


def become_worker(parent: int) -> None:
    """End with ``parent``, adopt what descendants leave, and be what the kernel ends first if memory is short."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.getppid() != parent:
        # It died before the first of these.
        os.kill(os.getpid(), signal.SIGKILL)
    _write("/proc/self/oom_score_adj", "500")


def own_children() -> set[int]:
    """The children of this process. Mostly there are none, which one call of the system tells."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    return set(children(os.getpid()))


def forget_peak() -> None:
    """Let the peak of this process's memory be what it takes now."""
    _write("/proc/self/clear_refs", "5")


def own_memory() -> tuple[int, int, int]:
    """(resident now, its peak, private data) of this process, in bytes."""
    values = {b"VmRSS": 0, b"VmHWM": 0, b"VmData": 0}
    with open("/proc/self/status", "rb", buffering=0) as file:  # noqa: PTH123
        for line in file.read().splitlines():
            name, _, rest = line.partition(b":")
            if name in values:
                values[name] = int(rest.split()[0]) << 10
    return values[b"VmRSS"], values[b"VmHWM"], values[b"VmData"]


def own_cpu_us() -> int:
    """What this process and the children that it has waited for used so far."""
    return sum(cpu_us(resource.getrusage(who)) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def cpu_us(used: resource.struct_rusage) -> int:
    return round((used.ru_utime + used.ru_stime) * 1e6)


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(text)
    except OSError:
        # Not every kernel lets one; nothing but a better figure depends on it.
        return
