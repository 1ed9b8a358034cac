"""Which machine and which software a result belongs to: a figure without them is worth nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
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
        # What others use of all cores, from 0 to 1, while nothing of ours runs yet.
        "busy": psutil.cpu_percent(interval=1.0) / 100,
    }


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
