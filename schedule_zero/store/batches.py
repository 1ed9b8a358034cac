"""Batches: all that a search finds is cancelled, or retried, step by step; how far one is, is a row here.

Each step is one transaction with what it does: a server that is killed goes on where it was, and retries nothing twice.
It walks from the newest down, from what there was when it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from sqlalchemy import bindparam, insert, select, text, update

from schedule_zero.errors import NotFound, ScheduleZeroError, WrongState
from schedule_zero.model import Batch, BatchKind, BatchState, Event, Execution, State
from schedule_zero.rules.change_log import ChangeVerb, embedded
from schedule_zero.rules.search import Q, Term, states_of
from schedule_zero.rules.search_parse import parse
from schedule_zero.store import executions, tables
from schedule_zero.store.changes import record
from schedule_zero.store.dead_letters import take_letters
from schedule_zero.store.execution_lists import Filter
from schedule_zero.store.executions import CancelAnswer, CancelOutcome
from schedule_zero.store.idempotency import Keys
from schedule_zero.store.requeues import free_of
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import IdempotencyRecord, IdempotentReplay, Page, Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

B = tables.batches.c
_FIELDS = (
    "id", "kind", "what", "up_to_seq", "at_seq", "total", "exact", "done", "skipped", "failed", "reasons", "note",
    "state", "created_us", "ended_us", "by",
)  # fmt: skip
_COLUMNS = tuple(B[name] for name in _FIELDS)
_IS_RUNNING = f"state = '{BatchState.RUNNING.value}'"
_GET = Query(select(*_COLUMNS).where(B.id == bindparam("wanted")))
_RUNNING = Query(select(*_COLUMNS).where(text(_IS_RUNNING)).order_by(B.id))
_FIND = Query(select(*_COLUMNS).where(B.id < bindparam("below")).order_by(B.id.desc()).limit(bindparam("most")))
# After every id.
_TOP = "~"
MAX_NOTE = 500
# Why something was not done to one, in a word for ``reasons``.
OVER, BEGAN, GONE, UNIQUE = "over", "began", "gone", "unique"


class What(Struct, kw_only=True, omit_defaults=True):
    """Which executions, as it is kept: relative times have become moments."""

    q: str = ""
    # Of executions, whole.
    ids: list[str] = []
    handler_id: str | None = None
    schedule_id: str | None = None
    job_method: str | None = None
    node_id: str | None = None
    group_id: str | None = None
    states: list[State] = []
    since_us: int | None = None
    until_us: int | None = None

    def filter(self, kind: BatchKind, now_us: int) -> Filter:
        """Of those, what that can be done to: cancelling to what is open, retrying to what is over."""
        terms = parse(self.q).terms
        if self.ids:
            terms += (Term(qualifier=Q.ID, values=tuple((id_,) for id_ in self.ids)),)
        word = "open" if kind is BatchKind.CANCEL else "over"
        return Filter(
            handler_id=self.handler_id,
            schedule_id=self.schedule_id,
            job_method=self.job_method,
            node_id=self.node_id,
            group_id=self.group_id,
            states=self.states,
            since_us=self.since_us,
            until_us=self.until_us,
            terms=(*terms, Term(qualifier=Q.STATE, values=((word,),))),
            now_us=now_us,
        )


class Create(Struct, kw_only=True):
    """A batch to begin; with ``idem``, at most once for that key."""

    row: Batch
    idem: IdempotencyRecord | None = None


class Step(Struct, kw_only=True):
    """The next step of a batch. The fence is (id, ``at_seq``): where it stood when this was computed."""

    id: str
    at_seq: int
    next_seq: int
    # To be cancelled; what runs only if ``running``.
    ids: list[str] = []
    running: bool = True
    # To be created: each in the place of its ``parent_id``.
    rows: list[Execution] = []
    # What could not be done: reason → how many.
    failed: dict[str, int] = {}
    note: str | None = None
    finished: bool = False

    def __len__(self) -> int:
        return len(self.ids) + len(self.rows)


class Stop(Struct):
    """Do no more; with a note, because something is wrong with it."""

    id: str
    note: str | None = None


def create(tx: Tx, args: list[Create]) -> list[Batch | IdempotentReplay | ScheduleZeroError]:
    """Begin batches. ``IdempotencyMismatch``; ``NotFound``: there is nothing to do. Emits ``batch.created``."""
    keys = Keys(tx, (arg.idem for arg in args))
    answers: list[Batch | IdempotentReplay | ScheduleZeroError] = []
    for n, arg in enumerate(args):
        row = arg.row
        answer: IdempotentReplay | ScheduleZeroError | None = keys.answer(arg.idem)
        if answer is None and row.exact and not row.total:
            word = "open" if row.kind is BatchKind.CANCEL else "over"
            answer = NotFound(f"no execution that is {word} was found")
        answers.append(row if answer is None else answer)
        if answer is None:
            tx.execute(insert(tables.batches).values(_values(row)))
            tx.emit(Event("batch.created", row.id, {"kind": row.kind, "total": row.total, "by": row.by}))
            asked = {"kind": row.kind, "total": row.total, "asked": embedded(row.what)}
            record(tx, tx.actor(n), ChangeVerb.BATCH_CREATED, row.id, after=asked)
            keys.accept(arg.idem)
    keys.write()
    return answers


def retry(tx: Tx, args: list[Step]) -> list[set[str] | None]:
    """Create executions that take the place of others; the ids of those created. None (nothing written): it has moved.

    What was a dead letter is none any more. Emits ``execution.created`` and, at the end, ``batch.completed``.
    """
    answers: list[set[str] | None] = []
    for arg in args:
        batch = _standing(tx, arg)
        if batch is None:
            answers.append(None)
            continue
        born, holder = free_of(tx, arg.rows)
        executions.insert_born(tx, born)
        take_letters(tx, (row.parent_id or "" for row in born))
        taken = len(arg.rows) - len(born)
        note = None if holder is None else f"execution {holder} has the unique key of one that was to be retried"
        _advance(tx, batch, arg, done=len(born), skipped={UNIQUE: taken} if taken else {}, note=note)
        answers.append({row.id for row in born})
    return answers


def cancel(tx: Tx, args: list[Step]) -> list[list[CancelAnswer] | None]:
    """Cancel as ``executions.cancel`` does; one answer per id. None (nothing written): it has moved."""
    answers: list[list[CancelAnswer] | None] = []
    for arg in args:
        batch = _standing(tx, arg)
        if batch is None:
            answers.append(None)
            continue
        verb = executions.cancel if arg.running else executions.cancel_unstarted
        [found] = verb(tx, [arg.ids])
        skipped: dict[str, int] = {}
        for one in found:
            reason = _REASONS.get(one.outcome)
            if reason is not None:
                skipped[reason] = skipped.get(reason, 0) + 1
        _advance(tx, batch, arg, done=len(found) - sum(skipped.values()), skipped=skipped)
        answers.append(found)
    return answers


_REASONS = {CancelOutcome.TERMINAL: OVER, CancelOutcome.RUNNING: BEGAN, CancelOutcome.UNKNOWN: GONE}


def _standing(tx: Tx, arg: Step) -> Batch | None:
    """Where it is, if it is still there."""
    batch = get(tx.conn, arg.id)
    stands = batch is not None and batch.state is BatchState.RUNNING and batch.at_seq == arg.at_seq
    return batch if stands else None


def _advance(tx: Tx, batch: Batch, arg: Step, *, done: int, skipped: dict[str, int], note: str | None = None) -> None:
    batch.at_seq = arg.next_seq
    batch.done += done
    batch.skipped += sum(skipped.values())
    batch.failed += sum(arg.failed.values())
    for reason, n in (*skipped.items(), *arg.failed.items()):
        batch.reasons[reason] = batch.reasons.get(reason, 0) + n
    batch.note = (batch.note or arg.note or note or "")[:MAX_NOTE] or None
    if arg.finished:
        batch.state, batch.ended_us = BatchState.COMPLETED, tx.now_us
        told = {"kind": batch.kind, "done": batch.done, "skipped": batch.skipped, "failed": batch.failed}
        tx.emit(Event("batch.completed", batch.id, told))
    _write(tx, batch)


def stop(tx: Tx, args: list[Stop]) -> list[Batch | ScheduleZeroError]:
    """Do no more of them; what was done stays. ``NotFound``, ``WrongState``. Emits ``batch.cancelled``."""
    answers: list[Batch | ScheduleZeroError] = []
    for n, arg in enumerate(args):
        batch = get(tx.conn, arg.id)
        if batch is None:
            answers.append(NotFound(f"there is no batch {arg.id!r}", id=arg.id))
            continue
        if batch.state is not BatchState.RUNNING:
            answers.append(WrongState(f"batch {arg.id} is {batch.state} already", id=arg.id))
            continue
        batch.state, batch.ended_us = BatchState.CANCELLED, tx.now_us
        batch.note = arg.note[:MAX_NOTE] if arg.note else batch.note
        _write(tx, batch)
        tx.emit(Event("batch.cancelled", batch.id, {"kind": batch.kind, "done": batch.done}))
        told = {"kind": batch.kind, "total": batch.total, "done": batch.done}
        record(tx, tx.actor(n), ChangeVerb.BATCH_CANCELLED, batch.id, after=told, note=arg.note)
        answers.append(batch)
    return answers


def get(conn: Connection, batch_id: str) -> Batch | None:
    """One batch."""
    row = _GET.one(conn, wanted=batch_id)
    return None if row is None else _batch(row)


def running(conn: Connection) -> list[Batch]:
    """Those that are not over, oldest first."""
    return [_batch(row) for row in _RUNNING.rows(conn)]


def find(conn: Connection, *, cursor: str | None = None, limit: int = 50) -> Page[Batch]:
    """The newest first."""
    rows = [_batch(row) for row in _FIND.rows(conn, below=cursor or _TOP, most=limit + 1)]
    return Page(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)


def what_of(batch: Batch) -> What:
    """Which executions it is about."""
    return msgspec.json.decode(batch.what, type=What)


def touches_running(wanted: Filter) -> bool:
    """Whether what runs is meant as well: where states are named, only if it is one of them."""
    states = frozenset(wanted.states or State) & states_of(wanted.terms)
    return State.RUNNING in states


def _write(tx: Tx, batch: Batch) -> None:
    tx.execute(update(tables.batches).where(B.id == batch.id).values(_values(batch)))


def _values(batch: Batch) -> dict[str, Any]:
    values = {name: getattr(batch, name) for name in _FIELDS}
    reasons = msgspec.json.encode(batch.reasons).decode()
    return values | {"kind": batch.kind.value, "state": batch.state.value, "exact": int(batch.exact),
                     "what": batch.what.decode(), "reasons": reasons}  # fmt: skip


def _batch(row: Sequence[Any]) -> Batch:
    values = dict(zip(_FIELDS, row, strict=True))
    values.update(
        kind=BatchKind(values["kind"]),
        state=BatchState(values["state"]),
        exact=bool(values["exact"]),
        what=values["what"].encode(),
        reasons=msgspec.json.decode(values["reasons"], type=dict[str, int]),
    )
    return Batch(**values)
