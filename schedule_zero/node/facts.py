"""What a node tells of the machine and the process that it is, for jobs that ask for certain nodes (``conditions``)."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from schedule_zero.conditions import MAX_LABEL_VALUE


def gather(version: str, host: str) -> dict[str, str]:
    """Facts by name; what can't be found out is left out. Read once, at the start."""
    found = {
        "host": host,
        "os": platform.system().lower(),
        "arch": platform.machine().lower(),
        "python": platform.python_version(),
        "cores": str(_cores()),
        "version": version,
    }
    memory = _memory_bytes()
    if memory is not None:
        found["memory_gb"] = f"{memory / (1 << 30):.1f}"
    return {name: value[:MAX_LABEL_VALUE] for name, value in found.items() if value}


def _cores() -> int:
    """Those that this process may use: a container's or a CPU set's limit counts."""
    affinity = getattr(os, "sched_getaffinity", None)
    return (os.cpu_count() or 1) if affinity is None else len(affinity(0))


def _memory_bytes() -> int | None:
    """Of the machine, or of the cgroup where that is less."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal():
            return min(machine, int(text)) if machine > 0 else int(text)
    return machine if machine > 0 else None
