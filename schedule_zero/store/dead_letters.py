"""Dead letters: executions that failed for good, until somebody deals with them, in groups of what failed alike.

``executions.dead_letter`` is the group (``rules.signature``), NULL once it is dealt with. It is set by
``executions.end`` alone, and taken away here alone, in the transaction of whatever deals with it, so that nothing is
dealt with twice. Lists go from group to group along one index; how many wait in all is counted as it changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct
from sqlalchemy import BigInteger, bindparam, func, literal_column, select, text

from schedule_zero.model import Event, Execution
from schedule_zero.rules.signature import LETTER_STATES
from schedule_zero.store import tables
from schedule_zero.store.changes import record_deed
from schedule_zero.store.execution_lists import PAGE_BYTES
from schedule_zero.store.execution_rows import COLUMNS, execution
from schedule_zero.store.statements import Query, bulk_select, bulk_update, ends
from schedule_zero.store.tx import LETTERS, STORED_NOW, Page, Tx, parse_seq

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

E = tables.executions.c
# Of one page, groups that are looked at; and executions of a group that stand for it.
GROUPS_LOOKED_AT = 1_000
SAMPLES = 3
# After every name.
_END = "~"


class Which(Struct, frozen=True, kw_only=True):
    """Some dead letters: one group, or those of a job, of a handler, or all."""

    dead_letter: str | None = None
    handler_id: str | None = None
    job_method: str | None = None

    def bounds(self) -> tuple[str, str]:
        """The groups from the first text on, up to the second, hold all of them, and perhaps others."""
        if self.dead_letter is not None:
            return self.dead_letter, self.dead_letter
        if self.handler_id is None:
            return "", _END
        prefix = f"{self.handler_id}." if self.job_method is None else f"{self.handler_id}.{self.job_method}:"
        return prefix, prefix + _END


class Group(Struct, kw_only=True):
    """What failed alike."""

    id: str
    handler_id: str
    job_method: str
    count: int
    # When the oldest and the newest of them were recorded.
    first_us: int
    last_us: int
    # Of the newest.
    error: bytes | None
    # The newest few.
    sample_ids: list[str]


class Discard(Struct, kw_only=True):
    """Dead letters that nobody waits for any more; ``id`` names the deed in its event."""

    id: str
    ids: list[str]
    by: str
    # Why.
    note: str = ""

    def __len__(self) -> int:
        return len(self.ids)


class Restore(Struct, kw_only=True):
    """What was discarded is to wait again: execution → the group that it was in. ``id`` names the deed."""

    id: str
    letters: dict[str, str]
    by: str

    def __len__(self) -> int:
        return len(self.letters)


_LETTER = text(tables.IS_DEAD_LETTER)
_OF_GROUP = E.dead_letter == bindparam("letter")
_NEXT_GROUP = Query(
    select(E.dead_letter, E.handler_id, E.job_method)
    .where(_LETTER, E.dead_letter > bindparam("after"))
    .order_by(E.dead_letter, E.seq)
    .limit(1)
)
_FIRST_GROUP = Query(
    select(E.dead_letter, E.handler_id, E.job_method)
    .where(_LETTER, E.dead_letter >= bindparam("after"))
    .order_by(E.dead_letter, E.seq)
    .limit(1)
)
# Grouped by what is the same in all of them, it has no row for a group that isn't there.
_SIZE = Query(
    select(E.dead_letter, func.min(E.seq), func.count())
    .where(_LETTER, _OF_GROUP, E.seq <= bindparam("up_to"))
    .group_by(E.dead_letter)
)
_STORED = Query(select(E.stored_us, E.created_us).where(E.seq == bindparam("wanted")))
_NEWEST = Query(
    select(E.id, E.error, E.stored_us, E.created_us).where(_LETTER, _OF_GROUP).order_by(E.seq.desc()).limit(SAMPLES)
)
_BYTES = (
    func.length(E.params) + func.coalesce(func.length(E.result), 0) + func.coalesce(func.length(E.error), 0)
).label("bytes")
_SIZED = select(E.seq, _BYTES).where(_LETTER, _OF_GROUP).limit(bindparam("most"))
_PAGE = Query(_SIZED.where(E.seq < bindparam("below")).order_by(E.seq.desc()))
_ONWARD = Query(_SIZED.where(E.seq > bindparam("above"), E.seq <= bindparam("up_to")).order_by(E.seq))
_IDS_ONWARD = Query(
    select(E.seq, E.id)
    .where(_LETTER, _OF_GROUP, E.seq > bindparam("above"), E.seq <= bindparam("up_to"))
    .order_by(E.seq)
    .limit(bindparam("most"))
)
_ROWS_DOWN = Query(
    select(E.seq, *COLUMNS)
    .where(_LETTER, _OF_GROUP, E.seq.between(bindparam("low"), bindparam("high")))
    .order_by(E.seq.desc())
)
_ENDS = ends(tables.executions)
_WAITING = Query(
    select(tables.execution_counts.c.handler_id, tables.execution_counts.c.n).where(
        tables.execution_counts.c.bucket_us == literal_column(str(STORED_NOW), BigInteger),
        tables.execution_counts.c.state == LETTERS,
    )
)
_LOOK = bulk_select(tables.executions, ("id",), ("id", "handler_id", "dead_letter"))
_TAKE = bulk_update(
    tables.executions, ("id",), (), also="dead_letter = NULL", where=f"executions.{tables.IS_DEAD_LETTER}"
)
_STILL_OVER = bulk_select(tables.executions, ("id",), ("id", "handler_id", "state", "dead_letter"))
_GIVE_BACK = bulk_update(tables.executions, ("id",), ("dead_letter",), where="executions.dead_letter IS NULL")
MAX_SEQ = (1 << 63) - 1


# --- writes -----------------------------------------------------------------------------------------


def take_letters(tx: Tx, ids: Iterable[str]) -> dict[str, str]:
    """For the verbs that deal with dead letters: they are none any more; those of ``ids`` that were still waiting, with
    the groups that they were in.
    """
    found = tx.lookup(_LOOK, [(id_,) for id_ in dict.fromkeys(ids)])
    waiting = [(id_, handler_id, letter) for id_, handler_id, letter in found if letter is not None]
    tx.bulk(_TAKE, [(id_,) for id_, _, _ in waiting])
    for handler_id, n in Counter(handler_id for _, handler_id, _ in waiting).items():
        tx.count_letters(handler_id, -n)
    return {id_: letter for id_, _, letter in waiting}


def discard(tx: Tx, args: list[Discard]) -> list[dict[str, str]]:
    """They are dead letters no more, and stay as executions; those that were, with their groups.

    Emits ``dead_letters.discarded``.
    """
    answers: list[dict[str, str]] = []
    for n, arg in enumerate(args):
        taken = take_letters(tx, arg.ids)
        answers.append(taken)
        if taken:
            tx.emit(Event("dead_letters.discarded", arg.id, {"count": len(taken), "by": arg.by, "note": arg.note}))
            record_deed(tx, tx.actor(n), len(taken), ids=[id_ for id_ in arg.ids if id_ in taken])
    return answers


def restore(tx: Tx, args: list[Restore]) -> list[int]:
    """They wait again, in the groups that they were in; how many of them still could. Emits ``dead_letters.restored``.

    What was deleted meanwhile stays away.
    """
    answers = []
    for n, arg in enumerate(args):
        found = tx.lookup(_STILL_OVER, [(id_,) for id_ in arg.letters])
        free = [(id_, handler_id) for id_, handler_id, state, now in found if now is None and state in LETTER_STATES]
        tx.bulk(_GIVE_BACK, [(id_, arg.letters[id_]) for id_, _ in free])
        for handler_id, count in Counter(handler_id for _, handler_id in free).items():
            tx.count_letters(handler_id, count)
        answers.append(len(free))
        if free:
            tx.emit(Event("dead_letters.restored", arg.id, {"count": len(free), "by": arg.by}))
            record_deed(tx, tx.actor(n), len(free), ids=[id_ for id_, _ in free])
    return answers


# --- reads ------------------------------------------------------------------------------------------


def waiting(conn: Connection) -> dict[str, int]:
    """How many dead letters each handler has that ever had one."""
    return {row[0]: row[1] for row in _WAITING.rows(conn)}


def newest_seq(conn: Connection) -> int:
    """What is created from now on comes after this."""
    row = _ENDS.one(conn)
    return 0 if row is None or row[1] is None else int(row[1])


def groups(conn: Connection, which: Which, *, cursor: str | None = None, limit: int = 50) -> Page[Group]:
    """By job, then by signature. A page may be short and still have a cursor."""
    found: list[Group] = []
    last = None
    for looked_at, (letter, handler_id, job_method) in enumerate(_groups(conn, which, cursor)):
        if looked_at == GROUPS_LOOKED_AT or len(found) == limit:
            return Page(found, last)
        last = letter
        if _is_of(which, handler_id, job_method):
            found.append(_group(conn, letter, handler_id, job_method))
    return Page(found)


def count(conn: Connection, which: Which, up_to_seq: int) -> int:
    """How many there are, but for those created later."""
    return sum(
        row[2]
        for letter, handler_id, job_method in _groups(conn, which, None)
        if _is_of(which, handler_id, job_method)
        for row in _SIZE.rows(conn, letter=letter, up_to=up_to_seq)
    )


def find(conn: Connection, dead_letter: str, *, cursor: str | None = None, limit: int = 50) -> Page[Execution]:
    """The executions of a group, newest first. A malformed cursor raises ``InvalidField``."""
    below = parse_seq(cursor)
    sized = _PAGE.rows(conn, letter=dead_letter, below=MAX_SEQ if below is None else below, most=limit + 1)
    fits = _fitting(sized, limit)
    if not fits:
        return Page([])
    rows = _ROWS_DOWN.rows(conn, letter=dead_letter, low=fits[-1], high=fits[0])
    return Page([execution(row[1:]) for row in rows], str(fits[-1]) if len(sized) > len(fits) else None)


def onward(
    conn: Connection, which: Which, at: tuple[str, int], up_to_seq: int, limit: int
) -> list[tuple[tuple[str, int], Execution]]:
    """The next ones after ``at``, group by group, the oldest first, each with its place; empty: that was all.

    All of one group: fewer than ``limit`` doesn't mean that there are no more.
    """
    return _onward(conn, which, at, lambda letter, above: _next_rows(conn, letter, above, up_to_seq, limit))


def onward_ids(
    conn: Connection, which: Which, at: tuple[str, int], up_to_seq: int, limit: int
) -> list[tuple[tuple[str, int], str]]:
    """The same, of their ids only."""

    def ids(letter: str, above: int) -> list[tuple[tuple[str, int], str]]:
        rows = _IDS_ONWARD.rows(conn, letter=letter, above=above, up_to=up_to_seq, most=limit)
        return [((letter, row[0]), row[1]) for row in rows]

    return _onward(conn, which, at, ids)


def _onward(conn: Connection, which: Which, at: tuple[str, int], next_in: Callable[[str, int], list[T]]) -> list[T]:
    letter, seq = at
    if letter and (found := next_in(letter, seq)):
        return found
    for next_letter, handler_id, job_method in _groups(conn, which, letter or None):
        if _is_of(which, handler_id, job_method) and (found := next_in(next_letter, 0)):
            return found
    return []


def _next_rows(
    conn: Connection, letter: str, above: int, up_to_seq: int, limit: int
) -> list[tuple[tuple[str, int], Execution]]:
    fits = _fitting(_ONWARD.rows(conn, letter=letter, above=above, up_to=up_to_seq, most=limit), limit)
    if not fits:
        return []
    rows = _ROWS_DOWN.rows(conn, letter=letter, low=fits[0], high=fits[-1])
    return [((letter, row[0]), execution(row[1:])) for row in reversed(rows)]


def _fitting(sized: Sequence[Sequence[int]], limit: int) -> list[int]:
    """The seqs of as many rows as one answer may hold: a thousand payloads of 1 MB are none."""
    fits: list[int] = []
    held = 0
    for seq, size in sized:
        if len(fits) == limit or (fits and held + size > PAGE_BYTES):
            break
        fits.append(seq)
        held += size
    return fits


def _groups(conn: Connection, which: Which, after: str | None) -> Iterator[tuple[str, str, str]]:
    """(group, handler, method) of all that may hold some of them, in order: one step down the index for each."""
    low, high = which.bounds()
    query, at = (_FIRST_GROUP, low) if after is None or after < low else (_NEXT_GROUP, after)
    while (row := query.one(conn, after=at)) is not None and row[0] <= high:
        yield row[0], row[1], row[2]
        query, at = _NEXT_GROUP, row[0]


def _is_of(which: Which, handler_id: str, job_method: str) -> bool:
    """Names may have dots in them: what begins alike isn't always of the same handler."""
    return which.handler_id in (None, handler_id) and which.job_method in (None, job_method)


def _group(conn: Connection, letter: str, handler_id: str, job_method: str) -> Group:
    [(_, oldest, n)] = _SIZE.rows(conn, letter=letter, up_to=MAX_SEQ)
    newest = _NEWEST.rows(conn, letter=letter)
    first = _STORED.one(conn, wanted=oldest)
    assert first is not None  # all in one read transaction
    return Group(
        id=letter,
        handler_id=handler_id,
        job_method=job_method,
        count=n,
        # The one that was created first may have been recorded last.
        first_us=min(first[0] or first[1], newest[0][2] or newest[0][3]),
        last_us=max(first[0] or first[1], newest[0][2] or newest[0][3]),
        error=None if newest[0][1] is None else newest[0][1].encode(),
        sample_ids=[row[0] for row in newest],
    )
