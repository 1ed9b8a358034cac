"""Real processes, as in tests/system; these have more done to them."""

from __future__ import annotations

from tests.system.conftest import bed, own

__all__ = ["bed", "own"]
