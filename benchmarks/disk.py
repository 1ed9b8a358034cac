"""What this disk charges for durability: the unit in which W2's budget is expressed."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from msgspec import Struct

from benchmarks.stats import percentile

# One WAL frame: a page and its header.
_FRAME = b"\xa5" * (4096 + 24)


class DiskFigures(Struct, frozen=True, kw_only=True):
    """Seconds. ``fdatasync_*``: one WAL frame over existing blocks (SQLite's steady state). ``commit_*``: one row."""

    fdatasync_p50_s: float
    fdatasync_p99_s: float
    commit_p50_s: float
    commit_p99_s: float


def measure_disk(folder: Path, *, samples: int = 500) -> DiskFigures:
    """Time ``samples`` syncs and as many one-row WAL commits with ``synchronous=FULL`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    syncs = _fdatasyncs(folder / "frames", samples)
    commits = _commits(folder / "commits.db", samples)
    return DiskFigures(
        fdatasync_p50_s=percentile(syncs, 50),
        fdatasync_p99_s=percentile(syncs, 99),
        commit_p50_s=percentile(commits, 50),
        commit_p99_s=percentile(commits, 99),
    )


def _fdatasyncs(path: Path, samples: int) -> list[float]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        # Written once beforehand: growing a file costs a journal commit too; a WAL pays it only until its first reset.
        os.write(fd, _FRAME * samples)
        os.fsync(fd)
        taken = []
        for n in range(samples):
            os.pwrite(fd, _FRAME, n * len(_FRAME))
            begin = time.perf_counter()
            os.fdatasync(fd)
            taken.append(time.perf_counter() - begin)
        return taken
    finally:
        os.close(fd)


def _commits(path: Path, samples: int) -> list[float]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, body TEXT)")
        taken = []
        for n in range(samples):
            begin = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO rows VALUES (?, ?)", (f"{n:026d}", "x" * 100))
            connection.execute("COMMIT")
            taken.append(time.perf_counter() - begin)
        return taken
    finally:
        connection.close()
