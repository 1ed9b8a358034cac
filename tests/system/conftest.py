"""Fixtures that own real processes and end every one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.bed import Bed
from tests.system.processes import Process
from tests.system.wall_clock import WallClock


@pytest.fixture
def own() -> Iterator[Callable[[Process], Process]]:
    """Registers a process so that it never outlives its test."""
    owned: list[Process] = []

    def register(process: Process) -> Process:
        owned.append(process)
        return process

    yield register
    for process in reversed(owned):
        process.kill()


@pytest.fixture
def bed(tmp_path: Path, own: Callable[[Process], Process]) -> Iterator[Bed]:
    """A folder for one server and its nodes; whatever was started there ends with the test."""
    made = Bed(tmp_path, own)
    yield made
    made.close()


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    """A clock to be given to a process, at first the machine's."""
    return WallClock(tmp_path / "clock")
