"""The next pending executions of a lane, as many as are to be held in memory: bounded in number and in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedule_zero.model import Execution, LaneKey
from schedule_zero.rules.options import aged_us
from schedule_zero.store.execution_reads import NOTHING, Without, pending_window

__all__ = ["NOTHING", "Without", "fill_window"]

if TYPE_CHECKING:
    from sqlalchemy import Connection

STEP_ROWS = 1_000
STEP_BYTES = 16 << 20


def fill_window(
    conn: Connection, lane: LaneKey, limit: int, max_bytes: int, row_bytes: int, without: Without = NOTHING
) -> tuple[list[Execution], bool]:
    """The next ones until there are ``limit``, or ``max_bytes`` of parameters; and whether there may be more.

    At least one, however large. Read in steps of ``STEP_BYTES``, even where each row has ``row_bytes``: the database
    hands over each answer as one string, of which there are four copies in memory for a moment (and in SQLite none
    over 1 GB).
    """
    rows: list[Execution] = []
    size = 0
    after: tuple[int, str] | None = None
    while len(rows) < limit and size < max_bytes:
        wanted = min(STEP_ROWS, limit - len(rows), max(1, min(STEP_BYTES, max_bytes - size) // row_bytes))
        found = pending_window(conn, lane, wanted, after, without)
        rows += found
        size += sum(len(row.params) for row in found)
        if len(found) < wanted:
            return rows, False
        last = found[-1]
        after = (aged_us(last.priority, last.not_before_us or last.created_us), last.id)
    return rows, True
