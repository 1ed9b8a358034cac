"""Fixtures for every tier."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.support import ManualClock

# No example fails because the machine was busy with something else just then.
settings.register_profile("schedule-zero", deadline=None)
settings.load_profile("schedule-zero")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    """A clock that only the test moves."""
    return ManualClock()
