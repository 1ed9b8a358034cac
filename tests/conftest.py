"""Fixtures for every tier."""

from __future__ import annotations

import pytest

from tests.support import ManualClock


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    """A clock that only the test moves."""
    return ManualClock()
