"""Fixtures that own real processes and end every one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.system.processes import Process


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
