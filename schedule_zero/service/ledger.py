"""The ledger: what became of each nominal time."""

from __future__ import annotations

from schedule_zero.errors import NotFound
from schedule_zero.model import Fire, FireOutcome
from schedule_zero.store import Store
from schedule_zero.store import fires as store_fires
from schedule_zero.store import schedules as store_schedules
from schedule_zero.store.tx import Page


class LedgerService:
    """Reads only: the timer writes it."""

    def __init__(self, *, store: Store) -> None:
        self._store = store

    async def find(
        self,
        schedule_id: str | None = None,
        *,
        outcome: FireOutcome | None = None,
        since_us: int | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Fire]:
        """A page, newest first, of one schedule or of all; it outlives its schedule. NotFound: there never was one."""
        page = await self._store.read(
            lambda conn: store_fires.find(
                conn, schedule_id=schedule_id, outcome=outcome, since_us=since_us, cursor=cursor, limit=limit
            )
        )
        if schedule_id is not None and not page.rows and cursor is None:
            known = await self._store.read(lambda conn: store_schedules.get(conn, schedule_id))
            if known is None:
                raise NotFound(f"there is no schedule {schedule_id!r}")
        return page

    async def counts(self, schedule_id: str) -> store_fires.FireCounts:
        """How many nominal times had which outcome."""
        return await self._store.read(lambda conn: store_fires.counts(conn, schedule_id))
