"""Backfills: a past range of nominal times, and how far its executions have been created.

Executions and progress are written in one transaction, so that a crash neither repeats nor leaves out any. The ledger
is not touched: it says what became of a nominal time when it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from sqlalchemy import bindparam, insert, select, text

from schedule_zero.clock import rfc3339
from schedule_zero.errors import Conflict, NotFound, ScheduleZeroError, WrongState
from schedule_zero.model import Backfill, BackfillState, Event, Execution
from schedule_zero.rules.change_log import ChangeVerb
from schedule_zero.store import executions, tables
from schedule_zero.store.changes import record
from schedule_zero.store.idempotency import Keys
from schedule_zero.store.statements import Query, bulk_select, bulk_update
from schedule_zero.store.tx import IdempotencyRecord, IdempotentReplay, Page, Tx
from schedule_zero.store.uniqueness import Claims

if TYPE_CHECKING:
    from sqlalchemy import Connection

B = tables.backfills.c
_FIELDS = (
    "id", "schedule_id", "generation", "version", "from_us", "to_us", "next_us", "rate_per_s", "total", "created",
    "state", "created_us", "by",
)  # fmt: skip
_COLUMNS = tuple(B[name] for name in _FIELDS)
_LOAD = bulk_select(tables.backfills, ("id",), _FIELDS)
_ADVANCE = bulk_update(
    tables.backfills,
    ("id", "next_us"),
    ("next_us", "created", "state"),
    how={"created": "backfills.created + {v}"},
    where="backfills.state = 'running'",
)
_STATE = bulk_update(tables.backfills, ("id",), ("state",), where="backfills.state = 'running'")
_GET = Query(select(*_COLUMNS).where(B.id == bindparam("wanted")))
_RUNNING = Query(select(*_COLUMNS).where(text("state = 'running'")).order_by(B.id))
_RUNNING_OVER = Query(
    select(B.id)
    .where(
        text("state = 'running'"),
        B.schedule_id == bindparam("schedule"),
        B.from_us <= bindparam("high"),
        B.to_us >= bindparam("low"),
    )
    .limit(1)
)
_OF_SCHEDULE = select(*_COLUMNS).where(B.schedule_id == bindparam("schedule"))
_FIND = Query(_OF_SCHEDULE.order_by(B.id.desc()).limit(bindparam("most")))
_FIND_BELOW = Query(_OF_SCHEDULE.where(B.id < bindparam("below")).order_by(B.id.desc()).limit(bindparam("most")))


class Create(Struct, kw_only=True):
    """A backfill to begin; with ``idem``, at most once for that key."""

    row: Backfill
    idem: IdempotencyRecord | None = None


class Advance(Struct, kw_only=True):
    """The next executions of a backfill. The fence is (id, ``at_us``): where it stood when they were computed."""

    id: str
    schedule_id: str
    at_us: int
    next_us: int | None
    executions: list[Execution]


def create(tx: Tx, args: list[Create]) -> list[Backfill | IdempotentReplay | ScheduleZeroError]:
    """Begin backfills. ``IdempotencyMismatch``; ``Conflict``: one runs over that range. Emits ``backfill.created``."""
    keys = Keys(tx, (arg.idem for arg in args))
    answers: list[Backfill | IdempotentReplay | ScheduleZeroError] = []
    for n, arg in enumerate(args):
        row = arg.row
        answer: IdempotentReplay | ScheduleZeroError | None = keys.answer(arg.idem)
        if answer is None:
            answer = overlap(tx.conn, row.schedule_id, row.from_us, row.to_us)
        answers.append(row if answer is None else answer)
        if answer is None:
            tx.execute(insert(tables.backfills).values({name: getattr(row, name) for name in _FIELDS}))
            told = {"schedule_id": row.schedule_id, "total": row.total, "by": row.by}
            tx.emit(Event("backfill.created", row.id, told))
            record(tx, tx.actor(n), ChangeVerb.SCHEDULE_BACKFILLED, row.schedule_id, after=_said(row), count=row.total)
            keys.accept(arg.idem)
    keys.write()
    return answers


def overlap(conn: Connection, schedule_id: str, from_us: int, to_us: int) -> Conflict | None:
    """What is against a backfill of a range: one that runs over a part of it."""
    found = _RUNNING_OVER.one(conn, schedule=schedule_id, low=from_us, high=to_us)
    if found is None:
        return None
    said = f"backfill {found[0]} of this schedule runs, and its range overlaps this one: wait for it, or cancel it"
    return Conflict(said, id=found[0])


def advance(tx: Tx, args: list[Advance]) -> list[int]:
    """Create the executions and remember how far it is; how many. 0 (nothing written) if it is not there any more.

    It stops before one whose unique key is taken, and goes on from there the next time: all that were asked for are
    run. Emits ``execution.created`` and, at its end, ``backfill.completed``.
    """
    done: list[int] = []
    for arg in args:
        born, next_us = arg.executions, arg.next_us
        if any(row.unique_key is not None for row in born):
            claims = Claims(tx, born)
            free = next((n for n, row in enumerate(born) if claims.one(row, wait=True) is not None), len(born))
            if free < len(born):
                born, next_us = born[:free], born[free].nominal_us
        state = BackfillState.COMPLETED if next_us is None else BackfillState.RUNNING
        # Without any there is nothing left; with none of those left, the first has to wait.
        waits = bool(arg.executions) and not born
        moved = not waits and tx.bulk(_ADVANCE, [(arg.id, arg.at_us, next_us, len(born), state.value)])
        done.append(len(born) if moved else 0)
        if moved:
            executions.insert_born(tx, born)
            if state is BackfillState.COMPLETED:
                tx.emit(Event("backfill.completed", arg.id, {"schedule_id": arg.schedule_id}))
    return done


def cancel(tx: Tx, args: list[str]) -> list[Backfill | ScheduleZeroError]:
    """Create no more executions; those that exist stay. ``NotFound``, ``WrongState`` if it is over."""
    found = {row[0]: _backfill(row) for row in tx.lookup(_LOAD, [(id_,) for id_ in dict.fromkeys(args)])}
    answers: list[Backfill | ScheduleZeroError] = []
    for n, id_ in enumerate(args):
        row = found.get(id_)
        if row is None:
            answers.append(NotFound(f"there is no backfill {id_!r}", id=id_))
        elif row.state is not BackfillState.RUNNING:
            answers.append(WrongState(f"backfill {id_} is {row.state} already", id=id_))
        else:
            before = {"state": row.state, "created": row.created}
            row.state = BackfillState.CANCELLED
            after = {**_said(row), "state": row.state}
            cancelled = ChangeVerb.SCHEDULE_BACKFILL_CANCELLED
            record(tx, tx.actor(n), cancelled, row.schedule_id, before=before, after=after)
            tx.bulk(_STATE, [(id_, row.state.value)])
            tx.emit(Event("backfill.cancelled", id_, {"schedule_id": row.schedule_id, "created": row.created}))
            answers.append(row)
    return answers


def get(conn: Connection, backfill_id: str) -> Backfill | None:
    """One backfill."""
    row = _GET.one(conn, wanted=backfill_id)
    return None if row is None else _backfill(row)


def running(conn: Connection) -> list[Backfill]:
    """Those that still have executions to create."""
    return [_backfill(row) for row in _RUNNING.rows(conn)]


def find(conn: Connection, schedule_id: str, *, cursor: str | None = None, limit: int = 50) -> Page[Backfill]:
    """The backfills of a schedule, the newest first."""
    if cursor is None:
        rows = _FIND.rows(conn, schedule=schedule_id, most=limit + 1)
    else:
        rows = _FIND_BELOW.rows(conn, schedule=schedule_id, below=cursor, most=limit + 1)
    page = [_backfill(row) for row in rows[:limit]]
    return Page(page, page[-1].id if len(rows) > limit else None)


def _said(row: Backfill) -> dict[str, Any]:
    return {
        "backfill_id": row.id,
        "from": rfc3339(row.from_us),
        "to": rfc3339(row.to_us),
        "total": row.total,
        "rate_per_s": row.rate_per_s,
    }


def _backfill(row: Sequence[Any]) -> Backfill:
    values = dict(zip(_FIELDS, row, strict=True))
    values["state"] = BackfillState(values["state"])
    return Backfill(**values)
