"""The times in which nothing fires, in memory: the one in force, and the past ones that what is due may lie in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from schedule_zero.rules.catchup import Frozen
from schedule_zero.store import freezes as store_freezes

if TYPE_CHECKING:
    from schedule_zero.model import Freeze
    from schedule_zero.store import Store

CHANGES = frozenset({"schedules.frozen", "schedules.thawed"})


def in_force(freezes: Sequence[Freeze], now_us: int) -> Freeze | None:
    """The newest one of ``freezes`` (the oldest first) that holds now."""
    return next((freeze for freeze in reversed(freezes) if freeze.in_force(now_us)), None)


class FreezeBook:
    """All freezes, as committed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._all: list[Freeze] = []
        # Before that, nothing is known.
        self.loaded = False
        # The end of the latest one that is over, or in force with an end.
        self._last_to_us = 0
        self._loading = asyncio.Lock()

    async def load(self) -> None:
        """Read them; to be called at the start and after each change."""
        # One after the other: of two at once, the one that read before a freeze could come back after the one that
        # read it, and what fires would know nothing of it.
        async with self._loading:
            self._all = await self._store.read(store_freezes.all_freezes)
            self.loaded = True
            self._last_to_us = max((freeze.to_us for freeze in self._all if freeze.to_us is not None), default=0)

    def at(self, now_us: int) -> Freeze | None:
        """The one in force."""
        return in_force(self._all, now_us)

    def any_since(self, us: int) -> bool:
        """Whether any ended after that."""
        return self._last_to_us > us

    def since(self, us: int, now_us: int) -> list[Frozen]:
        """Those that ended after that; not one that was thawed later than it is now: the clock was set back since."""
        return [
            Frozen(from_us=freeze.from_us, to_us=freeze.to_us, catch_up=freeze.catch_up)
            for freeze in self._all
            if freeze.to_us is not None and freeze.to_us > us and (freeze.thawed_by is None or freeze.to_us <= now_us)
        ]
