"""Which machine and which software a result belongs to: a figure without them is worth nothing."""

from __future__ import annotations

import os
import platform
import resource
import sqlite3
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import zmq

_PACKAGES = (
    "schedule-zero",
    "tornado",
    "pyzmq",
    "msgpack",
    "msgspec",
    "sqlalchemy",
    "apscheduler",
    "uvloop",
    "jsonschema-rs",
)


def machine_facts(folder: Path) -> dict[str, Any]:
    """CPU, memory, kernel, load before the run, and the file system under ``folder``."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_mb": psutil.virtual_memory().total // 1_000_000,
        "kernel": platform.release(),
        "platform": platform.platform(),
        "file_system": _file_system(folder),
        "load_1m": os.getloadavg()[0],
    }


class Neighbours:
    """How much of the machine others use while we measure: what is busy, less what we and our children spent."""

    def __init__(self) -> None:
        self._wall_s = time.perf_counter()
        self._busy_s = _busy_s()
        self._own_s = _own_s()

    def share(self) -> float:
        """From 0 to 1 of all cores, since the beginning. Counts children that have ended and been waited for."""
        busy_s, own_s = _busy_s() - self._busy_s, _own_s() - self._own_s
        cores = os.cpu_count() or 1
        return max(0.0, (busy_s - own_s) / (cores * (time.perf_counter() - self._wall_s)))


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _own_s() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def versions() -> dict[str, str]:
    """The interpreter, the libraries and ourselves."""
    found = {"python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version, "libzmq": zmq.zmq_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _file_system(folder: Path) -> str:
    resolved = str(folder.resolve())
    mounts = [part for part in psutil.disk_partitions(all=True) if resolved.startswith(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"
