"""How many executions are not over: exact, and known without asking the database.

The counters that a transaction writes (``Tx.counts``) are added on the loop when it is committed, before anybody hears
of the commit. Where a lost connection leaves open what was committed, it is read anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct
from sqlalchemy import func, select

from schedule_zero.store import tables
from schedule_zero.store.tx import LETTERS, STORED_NOW

if TYPE_CHECKING:
    from sqlalchemy import Connection

_C = tables.execution_counts.c
# As ``Tx`` has them: (bucket, handler, state) → (number, run time).
Counts: TypeAlias = "dict[tuple[int, str, str], tuple[int, int]]"


class Open(Struct):
    """What is stored: handler → how many are not over."""

    by_handler: dict[str, int]


class Tally:
    """Counts since the database was made, less what is over."""

    def __init__(self) -> None:
        # By handler; all that is not terminal, what runs included.
        self.open: dict[str, int] = {}
        self.total = 0
        # Executions that came to their end since this process began.
        self.ended = 0

    @staticmethod
    def stored(conn: Connection) -> Open:
        """What the database says."""
        created = func.sum(_C.n).filter(_C.state == "created")
        over = func.sum(_C.n).filter(_C.state.not_in(("created", LETTERS)))
        found = conn.execute(
            select(_C.handler_id, func.coalesce(created, 0) - func.coalesce(over, 0))
            .where(_C.bucket_us == STORED_NOW)
            .group_by(_C.handler_id)
        ).all()
        return Open({handler_id: int(n) for handler_id, n in found})

    def follow(self, updates: Iterable[Open | Counts]) -> None:
        """What happened, in order."""
        for update in updates:
            if isinstance(update, Open):
                self.set(update)
            else:
                self.add(update)

    def set(self, found: Open) -> None:
        self.open = dict(found.by_handler)
        self.total = sum(self.open.values())

    def add(self, counts: Mapping[tuple[int, str, str], tuple[int, int]]) -> None:
        """A transaction's counters; it is committed."""
        for (bucket, handler_id, state), (n, _) in counts.items():
            # A dead letter is over already: it is counted by its state as well.
            if bucket == STORED_NOW and state != LETTERS:
                born = n if state == "created" else -n
                self.open[handler_id] = self.open.get(handler_id, 0) + born
                self.total += born
                # (What is forgotten is counted down in both, and was over before.)
                if state != "created" and n > 0:
                    self.ended += n
