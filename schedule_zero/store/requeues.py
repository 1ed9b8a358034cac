"""Requeueing dead letters: a few at once, or many at a rate, whose progress is a row here.

A letter is taken and the execution that takes its place is created in one transaction: two operators, a repeated
request or a crash in between never make two of one. What is created and how far it is are written together as well, so
that a server that is killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from sqlalchemy import bindparam, insert, select, text

from schedule_zero.errors import Duplicate, NotFound, ScheduleZeroError, WrongState
from schedule_zero.model import Event, Execution, Requeue, RequeueState
from schedule_zero.rules.change_log import ChangeVerb, listed
from schedule_zero.store import executions, tables
from schedule_zero.store.changes import record, record_deed
from schedule_zero.store.dead_letters import take_letters
from schedule_zero.store.execution_rows import document
from schedule_zero.store.execution_rows import text as document_text
from schedule_zero.store.idempotency import Keys
from schedule_zero.store.statements import Query, bulk_select, bulk_update
from schedule_zero.store.tx import IdempotencyRecord, IdempotentReplay, Page, Tx
from schedule_zero.store.uniqueness import Claims

if TYPE_CHECKING:
    from sqlalchemy import Connection

R = tables.requeues.c
_FIELDS = (
    "id", "dead_letter", "handler_id", "job_method", "up_to_seq", "at_letter", "at_seq", "rate_per_s", "patch",
    "options", "total", "created", "refused", "note", "state", "created_us", "by",
)  # fmt: skip
_COLUMNS = tuple(R[name] for name in _FIELDS)
_IS_RUNNING = f"state = '{RequeueState.RUNNING.value}'"
_LOAD = bulk_select(tables.requeues, ("id",), _FIELDS)
_ADVANCE = bulk_update(
    tables.requeues,
    ("id", "at_letter", "at_seq"),
    ("at_letter", "at_seq", "refused", "note", "state"),
    how={
        "refused": "requeues.refused + {v}",
        "note": "coalesce(requeues.note, {v})",
    },
    where=f"requeues.{_IS_RUNNING}",
)
_COUNT = bulk_update(
    tables.requeues,
    ("id",),
    ("created", "refused", "note"),
    how={
        "created": "requeues.created + {v}",
        "refused": "requeues.refused + {v}",
        "note": "coalesce(requeues.note, {v})",
    },
)
_STATE = bulk_update(tables.requeues, ("id",), ("state",), where=f"requeues.{_IS_RUNNING}")
_GET = Query(select(*_COLUMNS).where(R.id == bindparam("wanted")))
_RUNNING = Query(select(*_COLUMNS).where(text(_IS_RUNNING)).order_by(R.id))
_FIND = Query(select(*_COLUMNS).where(R.id < bindparam("below")).order_by(R.id.desc()).limit(bindparam("most")))
# After every id.
_TOP = "~"


class Again(Struct, kw_only=True):
    """Executions that take the place of their ``parent_id``, where that is a dead letter still."""

    # Names the deed in its event, and is their ``group_id`` where they are several.
    id: str
    rows: list[Execution]
    by: str
    idem: IdempotencyRecord | None = None

    def __len__(self) -> int:
        return len(self.rows)


class Create(Struct, kw_only=True):
    """A requeue to begin; with ``idem``, at most once for that key."""

    row: Requeue
    idem: IdempotencyRecord | None = None


class Advance(Struct, kw_only=True):
    """The next step of a requeue. The fence is (id, ``at``): where it stood when this was computed."""

    id: str
    at: tuple[str, int]
    next: tuple[str, int]
    rows: list[Execution]
    refused: int = 0
    note: str | None = None
    done: bool = False

    def __len__(self) -> int:
        return len(self.rows)


def again(tx: Tx, args: list[Again]) -> list[set[str] | IdempotentReplay | ScheduleZeroError]:
    """Create those whose letter still waits; the ids of these. ``WrongState`` (nothing written): none does.

    The answer kept for a repetition is ``{"id": …, "ids": [an id or null for each row]}``. Emits ``execution.created``
    and ``dead_letters.requeued``.
    """
    keys = Keys(tx, (arg.idem for arg in args))
    answers: list[set[str] | IdempotentReplay | ScheduleZeroError] = []
    for n, arg in enumerate(args):
        answer: set[str] | IdempotentReplay | ScheduleZeroError | None = keys.answer(arg.idem)
        if answer is None:
            free, holder = free_of(tx, arg.rows)
            born = _replace(tx, free)
            answer = {row.id for row in born} or (
                WrongState(_dealt_with(arg.rows))
                if holder is None
                else Duplicate(f"execution {holder} has the same unique key", execution_id=holder)
            )
            if born:
                tx.emit(Event("dead_letters.requeued", arg.id, {"count": len(born), "by": arg.by}))
                after = {"executions": listed([row.id for row in born])}
                record_deed(tx, tx.actor(n), len(born), ids=[row.parent_id or "" for row in born], after=after)
                if arg.idem is not None:
                    ids = [row.id if row.id in answer else None for row in arg.rows]  # type: ignore[operator]
                    arg.idem.response = msgspec.json.encode({"id": arg.id, "ids": ids})
                keys.accept(arg.idem)
        answers.append(answer)
    keys.write()
    return answers


def _dealt_with(rows: list[Execution]) -> str:
    named = f"execution {rows[0].parent_id} is" if len(rows) == 1 else f"of {len(rows)} executions, none is"
    return f"{named} no dead letter any more: it was requeued or discarded, or never was one"


def free_of(tx: Tx, rows: list[Execution]) -> tuple[list[Execution], str | None]:
    """For what is to take the place of others: those whose unique keys nobody has, and who has one of the rest."""
    if all(row.unique_key is None for row in rows):
        return rows, None
    claims = Claims(tx, rows)
    holders = [claims.one(row, wait=True) for row in rows]
    free = [row for row, holder in zip(rows, holders, strict=True) if holder is None]
    return free, next((holder for holder in holders if holder is not None), None)


def _replace(tx: Tx, rows: list[Execution]) -> list[Execution]:
    """Write those whose letter could be taken."""
    if not rows:
        return []
    taken = take_letters(tx, [row.parent_id or "" for row in rows])
    # One for each letter, even if it is named twice.
    born = [row for row in {row.parent_id: row for row in reversed(rows)}.values() if row.parent_id in taken][::-1]
    executions.insert_born(tx, born)
    return born


def create(tx: Tx, args: list[Create]) -> list[Requeue | IdempotentReplay | ScheduleZeroError]:
    """Begin requeues. ``IdempotencyMismatch``; ``NotFound``: there is nothing to requeue. Emits ``requeue.created``."""
    keys = Keys(tx, (arg.idem for arg in args))
    answers: list[Requeue | IdempotentReplay | ScheduleZeroError] = []
    for n, arg in enumerate(args):
        row = arg.row
        answer: IdempotentReplay | ScheduleZeroError | None = keys.answer(arg.idem)
        if answer is None and not row.total:
            answer = NotFound("no such dead letters wait")
        answers.append(row if answer is None else answer)
        if answer is None:
            values = {name: getattr(row, name) for name in _FIELDS}
            values.update(patch=document_text(row.patch), options=document_text(row.options), state=row.state.value)
            tx.execute(insert(tables.requeues).values(values))
            told = {"dead_letter": row.dead_letter, "handler_id": row.handler_id, "total": row.total, "by": row.by}
            told = {name: value for name, value in told.items() if value is not None}
            tx.emit(Event("requeue.created", row.id, told))
            record(tx, tx.actor(n), ChangeVerb.REQUEUE_CREATED, row.id, after=_said(row), count=row.total)
            keys.accept(arg.idem)
    keys.write()
    return answers


def advance(tx: Tx, args: list[Advance]) -> list[set[str] | None]:
    """Create the executions whose letter still waits and remember how far it is; the ids of those created.

    None (nothing written): it is not there any more. Emits ``execution.created`` and, at the end,
    ``requeue.completed``.
    """
    answers: list[set[str] | None] = []
    for arg in args:
        state = RequeueState.COMPLETED if arg.done else RequeueState.RUNNING
        # Moved first: who was overtaken takes no letter.
        if not tx.bulk(_ADVANCE, [(arg.id, *arg.at, *arg.next, arg.refused, arg.note, state.value)]):
            answers.append(None)
            continue
        free, holder = free_of(tx, arg.rows)
        born = _replace(tx, free)
        # (A letter that somebody else has dealt with meanwhile is neither.)
        taken = None if holder is None else f"execution {holder} has the unique key of a dead letter"
        tx.bulk(_COUNT, [(arg.id, len(born), len(arg.rows) - len(free), taken)])
        answers.append({row.id for row in born})
        if arg.done:
            tx.emit(Event("requeue.completed", arg.id))
    return answers


def cancel(tx: Tx, args: list[str]) -> list[Requeue | ScheduleZeroError]:
    """Requeue no more; what was created stays, the rest stays dead letters. ``NotFound``, ``WrongState``."""
    found = {row[0]: _requeue(row) for row in tx.lookup(_LOAD, [(id_,) for id_ in dict.fromkeys(args)])}
    answers: list[Requeue | ScheduleZeroError] = []
    for n, id_ in enumerate(args):
        row = found.get(id_)
        if row is None:
            answers.append(NotFound(f"there is no requeue {id_!r}", id=id_))
        elif row.state is not RequeueState.RUNNING:
            answers.append(WrongState(f"requeue {id_} is {row.state} already", id=id_))
        else:
            before = {"state": row.state, "created": row.created}
            row.state = RequeueState.CANCELLED
            record(tx, tx.actor(n), ChangeVerb.REQUEUE_CANCELLED, id_, before=before, after={"state": row.state})
            tx.bulk(_STATE, [(id_, row.state.value)])
            tx.emit(Event("requeue.cancelled", id_, {"created": row.created}))
            answers.append(row)
    return answers


def get(conn: Connection, requeue_id: str) -> Requeue | None:
    """One requeue."""
    row = _GET.one(conn, wanted=requeue_id)
    return None if row is None else _requeue(row)


def running(conn: Connection) -> list[Requeue]:
    """Those that are not done, oldest first."""
    return [_requeue(row) for row in _RUNNING.rows(conn)]


def find(conn: Connection, *, cursor: str | None = None, limit: int = 50) -> Page[Requeue]:
    """The newest first."""
    rows = [_requeue(row) for row in _FIND.rows(conn, below=cursor or _TOP, most=limit + 1)]
    return Page(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)


def _said(row: Requeue) -> dict[str, Any]:
    which = {"dead_letter": row.dead_letter, "handler_id": row.handler_id, "job_method": row.job_method}
    return {
        **{name: value for name, value in which.items() if value is not None},
        "total": row.total,
        "rate_per_s": row.rate_per_s,
        # What may be in them is the job's business.
        "edited": [name for name in ("patch", "options") if getattr(row, name) is not None],
    }


def _requeue(row: Sequence[Any]) -> Requeue:
    values = dict(zip(_FIELDS, row, strict=True))
    values.update(
        patch=document(values["patch"]), options=document(values["options"]), state=RequeueState(values["state"])
    )
    return Requeue(**values)
