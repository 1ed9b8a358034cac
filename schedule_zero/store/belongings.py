"""Deleting executions, with all that hangs on them: the one place that knows what that is.

A table whose rows belong to executions is named in ``BELONGINGS``, and is then emptied with them wherever executions
are deleted: when somebody clears them, and when they have been kept long enough. The ledger is not among them: a fire
keeps its row, and its ``execution_id`` then names one that is not stored any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from schedule_zero.rules.states import TERMINAL
from schedule_zero.store import tables
from schedule_zero.store.statements import bulk_delete, bulk_select
from schedule_zero.store.tx import Tx

# (table, the column that names the execution).
BELONGINGS = (
    (tables.attempts, "execution_id"),
    (tables.log_chunks, "execution_id"),
    (tables.result_chunks, "execution_id"),
)

FIELDS = ("seq", "id", "handler_id", "state", "started_us", "finished_us", "dead_letter")
IS_OVER = frozenset(state.value for state in TERMINAL)
_LOOK = bulk_select(tables.executions, ("seq",), FIELDS)
_DELETE = bulk_delete(tables.executions, "seq")
_DELETE_WITH = [bulk_delete(table, column) for table, column in BELONGINGS]


class Doomed(NamedTuple):
    """An execution to be deleted: what the counters have to know of it."""

    seq: int
    id: str
    handler_id: str
    state: str
    started_us: int | None
    finished_us: int | None
    dead_letter: str | None


def look(tx: Tx, seqs: Sequence[int]) -> list[Doomed]:
    """Those of ``seqs`` that are still there, and over."""
    found = [Doomed(*row) for row in tx.lookup(_LOOK, [(seq,) for seq in seqs])]
    return [row for row in found if row.state in IS_OVER]


def forget(tx: Tx, rows: Sequence[Doomed]) -> int:
    """Delete executions that are over, and all that hangs on them; how many."""
    if not rows:
        return 0
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    letters: dict[str, int] = {}
    for row in rows:
        n, run_us = counts.get((row.handler_id, row.state), (0, 0))
        ran_us = 0 if row.started_us is None or row.finished_us is None else row.finished_us - row.started_us
        counts[row.handler_id, row.state] = (n + 1, run_us + ran_us)
        if row.dead_letter is not None:
            letters[row.handler_id] = letters.get(row.handler_id, 0) + 1
    for (handler_id, state), (n, run_us) in counts.items():
        tx.count_cleared(handler_id, state, n, run_us)
        tx.count_cleared(handler_id, "created", n)
    for handler_id, n in letters.items():
        tx.count_letters(handler_id, -n)
    ids: list[tuple[Any, ...]] = [(row.id,) for row in rows]
    for statement in _DELETE_WITH:
        tx.bulk(statement, ids)
    return tx.bulk(_DELETE, [(row.seq,) for row in rows])
