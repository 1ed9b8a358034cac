"""Deleting executions that have been kept long enough: found on a reader, deleted by their number in small steps.

Finding goes along an index, oldest first, and is cut into steps; the writer only gets rows that are to go, by primary
key, and looks once more whether they still are there and over. ``rules.retention`` says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct
from sqlalchemy import ColumnElement, Table, bindparam, case, func, or_, select, text

from schedule_zero.model import Origin, State
from schedule_zero.rules.policies import policies_of
from schedule_zero.rules.retention import TELLING, Bounds, Keep, Past, has_own_age, keep_of, may_go
from schedule_zero.store import tables
from schedule_zero.store.belongings import forget, look
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import STORED_NOW, Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

E, S, C = tables.executions.c, tables.schedules.c, tables.execution_counts.c
# Rows that one step looks at.
LOOK_ROWS = 1_000
# Rows that one step counts: they are not handed over.
COUNT_ROWS = 10_000
MAX_SEQ = (1 << 63) - 1


def _size_in(chunks: Table) -> ColumnElement[int]:
    return select(func.coalesce(func.sum(chunks.c.bytes), 0)).where(chunks.c.execution_id == E.id).scalar_subquery()


_PAST = select(
    E.seq,
    E.state,
    E.schedule_id,
    E.created_us,
    E.stored_us,
    case((E.dead_letter.is_not(None), 1), else_=0),
    _size_in(tables.log_chunks) + _size_in(tables.result_chunks),
).where(E.seq > bindparam("after"))
_OLDEST = _PAST.order_by(E.seq).limit(bindparam("most"))
_ALL = Query(_OLDEST)
_OF_STATE = Query(_OLDEST.where(E.state == bindparam("state"), text(tables.NOT_COMPLETED)))
_OF_SCHEDULE = Query(_OLDEST.where(E.schedule_id == bindparam("schedule"), text("schedule_id IS NOT NULL")))
_BELOW = select(E.seq).where(E.seq < bindparam("below")).order_by(E.seq.desc()).limit(1).offset(bindparam("skip"))
_LAST_ROWS = (
    select(E.seq, E.state).where(E.seq < bindparam("below")).order_by(E.seq.desc()).limit(bindparam("most")).subquery()
)
_IS_COMPLETED = case((_LAST_ROWS.c.state == State.COMPLETED.value, 1), else_=0)
_COMPLETED_BACK = Query(select(func.min(_LAST_ROWS.c.seq), func.sum(_IS_COMPLETED)))
_NTH_COMPLETED = Query(_BELOW.where(E.state == State.COMPLETED.value))
_STATE_BACK = Query(_BELOW.where(E.state == bindparam("state"), text(tables.NOT_COMPLETED)))
_SCHEDULE_BACK = Query(_BELOW.where(E.schedule_id == bindparam("schedule"), text("schedule_id IS NOT NULL")))
_TELLING_BACK = Query(
    _BELOW.where(
        E.schedule_id == bindparam("schedule"),
        text("schedule_id IS NOT NULL"),
        text(tables.IS_TELLING),
        text(f"origin <> '{Origin.BACKFILL.value}'"),
    )
)
_STORED = Query(select(C.state, func.sum(C.n)).where(C.bucket_us == bindparam("bucket")).group_by(C.state))
# Policies are JSON text; what is found is decoded, and looked at once more.
_KEEPING = Query(select(S.id, S.policies).where(or_(S.policies.like('%"keep_%'), S.policies.like('%"max_failures"%'))))


class Prune(Struct):
    """Executions to be deleted, by their ``seq``; False: also those that are dead letters by now."""

    seqs: list[int]
    keep_letters: bool = True

    def __len__(self) -> int:
        return len(self.seqs)


class Walk(Struct, kw_only=True):
    """Along the executions in one state, or of one schedule, the oldest first: after ``after``."""

    state: State | None = None
    schedule_id: str | None = None
    bounds: Bounds
    after: int = 0


class Step(Struct, kw_only=True):
    """What one step of a walk found: what is to go (and how large each is), where the next one begins, whether there
    is more.
    """

    seqs: list[int]
    sizes: list[int]
    after: int
    more: bool


class Back(Struct):
    """How many of a state a step back has passed, and where it is; None: there are no more."""

    count: int
    seq: int | None


class Keepers:
    """Schedules with a word on their own executions, and where those begin that have to be kept for their sake."""

    def __init__(self, keeps: Mapping[str, Keep]) -> None:
        self.keeps = keeps
        self._from_seq: dict[str, int] = {}

    def holds(self, conn: Connection, row: Past) -> bool:
        """Whether its schedule has to look back on it."""
        keep = self.keeps.get(row.schedule_id or "")
        if keep is None or keep.max_failures is None or row.schedule_id is None or row.state not in TELLING:
            return False
        from_seq = self._from_seq.get(row.schedule_id)
        if from_seq is None:
            found = _TELLING_BACK.one(conn, schedule=row.schedule_id, below=MAX_SEQ, skip=keep.max_failures - 1)
            from_seq = self._from_seq[row.schedule_id] = 0 if found is None else int(found[0])
        return row.seq >= from_seq


def prune(tx: Tx, args: list[Prune]) -> list[int]:
    """Delete them, with all that hangs on them, where they are still over; how many."""
    deleted = []
    for arg in args:
        rows = [row for row in look(tx, arg.seqs) if not (arg.keep_letters and row.dead_letter is not None)]
        deleted.append(forget(tx, rows))
    return deleted


def keepers(conn: Connection) -> dict[str, Keep]:
    """The schedules whose policies say something about their executions."""
    found = ((row[0], keep_of(policies_of(row[1].encode()))) for row in _KEEPING.rows(conn))
    return {schedule_id: keep for schedule_id, keep in found if keep is not None}


def stored(conn: Connection) -> dict[str, int]:
    """How many executions there are in each terminal state."""
    return {row[0]: int(row[1]) for row in _STORED.rows(conn, bucket=STORED_NOW)}


def back(conn: Connection, state: State, below: int, count: int) -> Back:
    """One step on the way to the execution that is ``count`` of a state further back: at most ``COUNT_ROWS`` rows."""
    if state is not State.COMPLETED:
        count = min(count, COUNT_ROWS)
        found = _STATE_BACK.one(conn, state=state.value, below=below, skip=count - 1)
        return Back(count, None if found is None else int(found[0]))
    [(lowest, completed)] = _COMPLETED_BACK.rows(conn, below=below, most=COUNT_ROWS)
    if lowest is None or completed < count:
        return Back(int(completed or 0), lowest)
    found = _NTH_COMPLETED.one(conn, below=below, skip=count - 1)
    return Back(count, None if found is None else int(found[0]))


def newest_of_schedule(conn: Connection, schedule_id: str, count: int) -> int:
    """The ``seq`` of the oldest of a schedule's newest executions; 0: it has not so many."""
    found = _SCHEDULE_BACK.one(conn, schedule=schedule_id, below=MAX_SEQ, skip=count - 1)
    return 0 if found is None else int(found[0])


def step(conn: Connection, walk: Walk, keeping: Keepers, *, keep_letters: bool) -> Step:
    """Look at the next rows of a walk."""
    found = _rows(conn, walk)
    seqs: list[int] = []
    sizes: list[int] = []
    after = walk.after
    for row in found:
        if walk.bounds.reached(row):
            return Step(seqs=seqs, sizes=sizes, after=after, more=False)
        after = row.seq
        if (
            may_go(row, keep_letters=keep_letters)
            and (walk.schedule_id is not None or _is_the_servers(walk, keeping, row))
            and walk.bounds.takes(row)
            and not keeping.holds(conn, row)
        ):
            seqs.append(row.seq)
            sizes.append(row.size)
    return Step(seqs=seqs, sizes=sizes, after=after, more=len(found) == LOOK_ROWS)


def _is_the_servers(walk: Walk, keeping: Keepers, row: Past) -> bool:
    """Of the state that the walk is about, and its schedule says nothing else."""
    return row.state == walk.state and not has_own_age(keeping.keeps.get(row.schedule_id or ""))


def _rows(conn: Connection, walk: Walk) -> list[Past]:
    if walk.schedule_id is not None:
        found = _OF_SCHEDULE.rows(conn, after=walk.after, most=LOOK_ROWS, schedule=walk.schedule_id)
    elif walk.state is None or walk.state is State.COMPLETED:
        # They have no index of their own: nearly all rows are completed.
        found = _ALL.rows(conn, after=walk.after, most=LOOK_ROWS)
    else:
        found = _OF_STATE.rows(conn, after=walk.after, most=LOOK_ROWS, state=walk.state.value)
    return [Past(*row) for row in found]
