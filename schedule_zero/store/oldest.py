"""Deleting the oldest rows of a table that only grows: by age and by number, in steps. The newest row always stays.

(It stays so that ``seq`` is never given out twice: SQLite begins anew in an empty table.)
"""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Table, delete

from schedule_zero.store.statements import Seek, ends
from schedule_zero.store.tx import Tx


class Prune(Struct, kw_only=True):
    """Delete rows older than ``before_us`` or beyond the newest ``keep_rows``; None: whatever their age, or number."""

    before_us: int | None
    keep_rows: int | None
    limit: int = 1000


class Oldest:
    """Prunes one table, whose ``column`` is when each row was written."""

    def __init__(self, table: Table, column: str) -> None:
        self._table = table
        self.ends = ends(table)
        self.written = Seek(table, column)

    def prune(self, tx: Tx, arg: Prune) -> int:
        """How many rows were deleted. Repeat until it is 0."""
        found = self.ends.one(tx.conn)
        if found is None or found[0] is None:
            return 0
        oldest, latest = int(found[0]), int(found[1])
        keep = 0
        if arg.before_us is not None:
            young = self.written.first(tx.conn, arg.before_us)
            keep = latest if young is None else young
        if arg.keep_rows is not None:
            keep = max(keep, latest - arg.keep_rows + 1)
        upto = min(keep, latest, oldest + arg.limit)
        return tx.execute(delete(self._table).where(self._table.c.seq < upto)).rowcount
