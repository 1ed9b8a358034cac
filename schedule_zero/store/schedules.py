"""Schedules: write verbs and reads. ``release`` is the transaction of promise C1."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import bindparam, func, select, text

from schedule_zero.errors import AlreadyExists, InvalidField, NotFound, PreconditionFailed, ScheduleZeroError
from schedule_zero.model import Event, Fire, Schedule, ScheduleState
from schedule_zero.rules.change_log import Actor
from schedule_zero.store import fire_audit, schedule_changes, tables
from schedule_zero.store import schedule_history as history
from schedule_zero.store import schedule_rows as rows
from schedule_zero.store.idempotency import Keys
from schedule_zero.store.schedule_release import (
    Otherwise,
    RearmItem,
    ReleaseItem,
    ReleaseRefusal,
    arm,
    rearm,
    release,
    write_owed,
)
from schedule_zero.store.statements import Query, bulk_delete, bulk_insert, bulk_select
from schedule_zero.store.tx import IdempotencyRecord, IdempotentReplay, Page, Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = [
    "CHANGEABLE",
    "UNSET_FIRE",
    "Create",
    "Delete",
    "Handover",
    "Otherwise",
    "Put",
    "PutAnswer",
    "RearmItem",
    "ReleaseItem",
    "ReleaseRefusal",
    "SetState",
    "Settle",
    "Settled",
    "Update",
    "arm",
    "count",
    "create",
    "delete",
    "due",
    "etag",
    "find",
    "followers",
    "get",
    "get_many",
    "next_due_us",
    "put",
    "rearm",
    "release",
    "set_state",
    "snoozed",
    "starting",
    "tracked",
    "update",
]  # fmt: skip

_S = tables.schedules.c


class Create(Struct, kw_only=True):
    """All or none of these. The store gives each its ``generation`` and ``version`` 1 (written into the rows)."""

    rows: list[Schedule]
    idem: IdempotencyRecord | None = None

    def __len__(self) -> int:
        return len(self.rows)


# What is owed when a version ends: given the version that ends and the one that follows (None: it is deleted), the
# ledger rows of what was due and not decided. It may move the new one's ``updated_us`` and ``next_fire_us`` behind
# what is decided already: the third argument is the newest nominal time in the ledger (0: none; not for a deletion).
Handover = Callable[[Schedule, Schedule | None, int], list[Fire]]


class Settled(Struct, kw_only=True):
    """What a pause leaves behind when it ends."""

    # The ledger rows of what came due in it and is not decided yet.
    fires: list[Fire]
    # The nominal time after those.
    next_fire_us: int | None
    # There is none any more, and none can come.
    finished: bool = False


Settle = Callable[[Schedule], Settled]


class Put(Struct, kw_only=True):
    """Replace or create one schedule as a whole."""

    row: Schedule
    handover: Handover
    # The ``etag`` that must be the current one (If-Match); None: any, or none at all.
    if_match: str | None = None
    # If-None-Match: *
    create_only: bool = False
    # A change of something else is no reason to wake a snoozed schedule at another time.
    keep_snooze: bool = True
    idem: IdempotencyRecord | None = None


class PutAnswer(Struct, kw_only=True):
    schedule: Schedule
    created: bool


class Update(Struct, kw_only=True):
    """Change the named fields (any of ``CHANGEABLE``) of one schedule; its nominal times stay the same."""

    id: str
    changes: dict[str, Any]
    if_match: str | None = None
    by: str | None = None


class SetState(Struct, kw_only=True):
    id: str
    state: ScheduleState
    note: str | None = None
    # With a pause: until when.
    resume_us: int | None = None
    # With a resume: the time it goes on from. ``UNSET_FIRE`` (default) leaves ``next_fire_us`` alone.
    next_fire_us: int | None = -1
    # With a resume of a paused one.
    settle: Settle | None = None
    if_match: str | None = None
    by: str | None = None


class Delete(Struct, kw_only=True):
    """Delete these; ``if_match`` makes sense with one id only."""

    ids: list[str]
    handover: Handover
    if_match: str | None = None
    by: str | None = None


UNSET_FIRE = -1

CHANGEABLE = frozenset({"job_method", "params", "options", "note", "misfire_grace_s", "skips", "next_fire_us"})


# --- statements -------------------------------------------------------------------------------------

# The ledger's totals are not among the fields: a replace keeps them.
_REPLACE = bulk_insert(
    tables.schedules,
    rows.FIELDS,
    "(id) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in rows.FIELDS if name != "id"),
)
_LOAD = bulk_select(tables.schedules, ("id",), rows.READ)
_DELETE = bulk_delete(tables.schedules, "id")
# --- verbs ------------------------------------------------------------------------------------------


def create(tx: Tx, args: list[Create]) -> list[list[Schedule] | IdempotentReplay | ScheduleZeroError]:
    """Write new schedules; ``AlreadyExists`` names the id (``data["id"]``) and nothing of that request is written."""
    keys = Keys(tx, (arg.idem for arg in args))
    taken = {row[0] for row in tx.lookup(rows.LOAD_FENCE, rows.unique(row.id for arg in args for row in arg.rows))}
    answers: list[list[Schedule] | IdempotentReplay | ScheduleZeroError] = []
    new: list[Schedule] = []
    makers: list[Actor | None] = []
    for n, arg in enumerate(args):
        answer = keys.answer(arg.idem)
        clash = None if answer is not None else _first_taken(arg.rows, taken)
        if answer is not None:
            answers.append(answer)
        elif clash is not None:
            answers.append(AlreadyExists(f"a schedule {clash!r} exists already", id=clash))
        else:
            answers.append(arg.rows)
            new += arg.rows
            makers += [tx.actor(n)] * len(arg.rows)
            taken.update(row.id for row in arg.rows)
            keys.accept(arg.idem)
    if new:
        generation = tx.next_generation()
        for row in new:
            row.generation, row.version = generation, 1
        rows.insert(tx, new)
        tx.events.extend([_told("schedule.created", row) for row in new])
        for row, actor in zip(new, makers, strict=True):
            schedule_changes.created(tx, actor, row)
    keys.write()
    return answers


def put(tx: Tx, args: list[Put]) -> list[PutAnswer | IdempotentReplay | ScheduleZeroError]:
    """Replace or create; what says the same as before is no new version.

    ``PreconditionFailed`` if ``if_match`` isn't its etag; ``AlreadyExists`` (``create_only``).
    """
    keys = Keys(tx, (arg.idem for arg in args))
    stored = _load(tx, (arg.row.id for arg in args))
    answers: list[PutAnswer | IdempotentReplay | ScheduleZeroError] = []
    changed: dict[str, Schedule] = {}
    over: list[history.Over] = []
    owed: list[Fire] = []
    generation = 0
    for n, arg in enumerate(args):
        row, there = arg.row, stored.get(arg.row.id)
        answer = keys.answer(arg.idem)
        refusal = _mismatch(row.id, there, arg.if_match)
        if answer is not None:
            answers.append(answer)
            continue
        if refusal is not None:
            answers.append(refusal)
            continue
        if there is not None and arg.create_only:
            answers.append(AlreadyExists(f"a schedule {row.id!r} exists already", id=row.id))
            continue
        if there is None:
            generation = generation or tx.next_generation()
            row.generation, row.version = generation, 1
        else:
            row.generation, row.version = there.generation, there.version + 1
            row.created_us, row.last_fire_us, row.runs = there.created_us, there.last_fire_us, there.runs
            paused = ScheduleState.PAUSED
            if arg.keep_snooze and row.state is paused and there.state is paused and row.resume_us is None:
                row.resume_us = there.resume_us
            left = arg.handover(there, row, _decided_us(tx, there))
            if not left and _says_the_same(row, there):
                answers.append(PutAnswer(schedule=copy(there), created=False))
                keys.accept(arg.idem)
                continue
            owed += left
            over.append((there, row.updated_us, row.updated_by))
        schedule_changes.put(tx, tx.actor(n), there, row)
        # A copy: the caller may go on changing what it handed in.
        stored[row.id] = changed[row.id] = copy(row)
        answers.append(PutAnswer(schedule=row, created=there is None))
        tx.emit(_told("schedule.created" if there is None else "schedule.updated", row))
        keys.accept(arg.idem)
    history.keep(tx, over)
    tx.bulk(_REPLACE, [rows.values(row) for row in changed.values()])
    write_owed(tx, owed)
    keys.write()
    return answers


def update(tx: Tx, args: list[Update]) -> list[Schedule | ScheduleZeroError]:
    """Change fields and bump the version, so that a release in flight fails its fence; if anything does change.

    ``NotFound``, ``PreconditionFailed``.
    """
    stored = _load(tx, (arg.id for arg in args))
    answers: list[Schedule | ScheduleZeroError] = []
    changed: dict[str, Schedule] = {}
    over: list[history.Over] = []
    for n, arg in enumerate(args):
        row = stored.get(arg.id)
        refusal = _mismatch(arg.id, row, arg.if_match)
        if row is None or refusal is not None:
            answers.append(refusal or _not_found(arg.id))
            continue
        unknown = arg.changes.keys() - CHANGEABLE
        if unknown:
            raise AssertionError(f"these fields of a schedule cannot be changed: {sorted(unknown)}")
        if all(getattr(row, name) == value for name, value in arg.changes.items()):
            answers.append(copy(row))
            continue
        now_us = _ended_us(tx, row)
        over.append((row, now_us, arg.by))
        old = row
        row = replace(row, **arg.changes, updated_us=now_us, updated_by=arg.by, version=row.version + 1)
        schedule_changes.updated(tx, tx.actor(n), old, row)
        stored[arg.id] = changed[arg.id] = row
        answers.append(copy(row))
        tx.emit(_told("schedule.updated", row))
    history.keep(tx, over)
    tx.bulk(_REPLACE, [rows.values(row) for row in changed.values()])
    return answers


def set_state(tx: Tx, args: list[SetState]) -> list[Schedule | ScheduleZeroError]:
    """Pause, resume, finish or quarantine; bumps the version unless it is so already. ``NotFound``."""
    stored = _load(tx, (arg.id for arg in args))
    answers: list[Schedule | ScheduleZeroError] = []
    changed: dict[str, Schedule] = {}
    over: list[history.Over] = []
    owed: list[Fire] = []
    for n, arg in enumerate(args):
        row = stored.get(arg.id)
        refusal = _mismatch(arg.id, row, arg.if_match)
        if row is None or refusal is not None:
            answers.append(refusal or _not_found(arg.id))
            continue
        state = arg.state
        next_fire_us = row.next_fire_us if arg.next_fire_us == UNSET_FIRE else arg.next_fire_us
        if arg.settle is not None and row.state is ScheduleState.PAUSED:
            settled = arg.settle(row)
            owed += settled.fires
            next_fire_us = settled.next_fire_us
            state = ScheduleState.FINISHED if settled.finished else state
        if (row.state, row.note, row.resume_us, row.next_fire_us) != (state, arg.note, arg.resume_us, next_fire_us):
            now_us = _ended_us(tx, row)
            over.append((row, now_us, arg.by))
            old = row
            row = replace(
                row, state=state, note=arg.note, resume_us=arg.resume_us, next_fire_us=next_fire_us,
                updated_us=now_us, updated_by=arg.by, version=row.version + 1,
            )  # fmt: skip
            schedule_changes.state_set(tx, tx.actor(n), old, row)
            stored[arg.id] = changed[arg.id] = row
            tx.emit(_told(rows.STATE_EVENT[state], row))
        answers.append(copy(row))
    history.keep(tx, over)
    tx.bulk(_REPLACE, [rows.values(row) for row in changed.values()])
    write_owed(tx, owed)
    return answers


def delete(tx: Tx, args: list[Delete]) -> list[list[str] | ScheduleZeroError]:
    """Delete schedules; the ids that existed. Ledger, versions and executions stay. ``PreconditionFailed``."""
    stored = _load(tx, (id_ for arg in args for id_ in arg.ids))
    answers: list[list[str] | ScheduleZeroError] = []
    over: list[history.Over] = []
    owed: list[Fire] = []
    for n, arg in enumerate(args):
        there = [stored[id_] for id_ in dict.fromkeys(arg.ids) if id_ in stored]
        if arg.if_match is not None and any(etag(row) != arg.if_match for row in there):
            answers.append(PreconditionFailed(f"it was changed meanwhile: its version is {etag(there[0])} now"))
            continue
        answers.append([row.id for row in there])
        for row in there:
            del stored[row.id]
            left = arg.handover(row, None, 0)
            owed += left
            # It answers for what it records now as well.
            recorded_us = max((fire.last_nominal_us or fire.nominal_us for fire in left), default=0)
            over.append((row, max(_ended_us(tx, row), recorded_us), arg.by))
            tx.emit(Event("schedule.deleted", row.id, {"by": arg.by}))
            schedule_changes.deleted(tx, tx.actor(n), row)
    history.keep(tx, over, deleted=True)
    tx.bulk(_DELETE, [(row.id,) for row, _, _ in over])
    write_owed(tx, owed)
    return answers


# --- reads ------------------------------------------------------------------------------------------

_GET = Query(select(*rows.COLUMNS).where(_S.id == bindparam("wanted")))
_DUE = Query(
    select(*rows.COLUMNS)
    .where(text(tables.IS_DUE_ABLE), _S.next_fire_us <= bindparam("now"), _S.next_fire_us > bindparam("after"))
    .order_by(_S.next_fire_us)
    .limit(bindparam("most"))
)
_NEXT_DUE = Query(
    select(_S.next_fire_us)
    .where(text(tables.IS_DUE_ABLE), _S.next_fire_us.is_not(None))
    .order_by(_S.next_fire_us)
    .limit(1)
)
_SNOOZED = Query(
    select(*rows.COLUMNS)
    .where(text(tables.IS_SNOOZED), _S.state == ScheduleState.PAUSED.value, _S.resume_us <= bindparam("now"))
    .order_by(_S.resume_us)
    .limit(bindparam("most"))
)
_TRACKED = Query(select(_S.id).where(text(tables.IS_TRACKED)))
_FOLLOWERS = Query(
    select(_S.id).where(text(tables.IS_TRACKED), _S.waits_for.is_not(None) | _S.policies.contains('"max_failures":'))
)
# The documents are canonical JSON; no other string in them can hold these characters unescaped.
_STARTING = Query(select(*rows.COLUMNS).where(_S.trigger.contains('"type":"startup"'), _S.state != "quarantined"))


def get(conn: Connection, schedule_id: str) -> Schedule | None:
    """One schedule."""
    row = _GET.one(conn, wanted=schedule_id)
    return None if row is None else rows.schedule(row)


def find(
    conn: Connection,
    *,
    cursor: str | None = None,
    limit: int = 50,
    handler_id: str | None = None,
    state: ScheduleState | None = None,
) -> Page[Schedule]:
    """By id, ascending."""
    given = {
        "cursor": None if cursor is None else _parse_cursor(cursor),
        "handler_id": handler_id,
        "state": None if state is None else state.value,
    }
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    found = [rows.schedule(row) for row in _find_query(tuple(values)).rows(conn, **values, most=limit + 1)]
    if len(found) <= limit:
        return Page(found)
    return Page(found[:limit], _cursor(found[limit - 1].id))


_IDS_FROM = Query(
    select(_S.id).where(_S.id >= bindparam("low"), _S.id < bindparam("high")).order_by(_S.id).limit(bindparam("most"))
)


def ids_from(conn: Connection, prefix: str, *, limit: int) -> list[str]:
    """The first ids that begin like that."""
    return [row[0] for row in _IDS_FROM.rows(conn, low=prefix, high=prefix + "~", most=limit)]


def _cursor(id_: str) -> str:
    return urlsafe_b64encode(id_.encode()).decode().rstrip("=")


def _parse_cursor(cursor: str) -> str:
    try:
        id_ = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (ValueError, UnicodeError):
        id_ = ""
    if not id_ or _cursor(id_) != cursor:
        raise InvalidField("the cursor is not one that a page came with", pointer="/cursor")
    return id_


@cache
def _find_query(given: tuple[str, ...]) -> Query:
    conditions = {
        "cursor": _S.id > bindparam("cursor"),
        "handler_id": _S.handler_id == bindparam("handler_id"),
        "state": _S.state == bindparam("state"),
    }
    return Query(
        select(*rows.COLUMNS).where(*(conditions[name] for name in given)).order_by(_S.id).limit(bindparam("most"))
    )


def due(conn: Connection, now_us: int, limit: int, *, after_us: int = -1) -> list[Schedule]:
    """``active`` and ``paused`` schedules with ``after_us`` < ``next_fire_us`` ≤ ``now_us``, the earliest first."""
    return [rows.schedule(row) for row in _DUE.rows(conn, now=now_us, after=after_us, most=limit)]


def get_many(conn: Connection, ids: Sequence[str]) -> list[Schedule]:
    """Those of ``ids`` that exist, in any state and order."""
    return [rows.schedule(row) for id_ in ids if (row := _GET.one(conn, wanted=id_)) is not None]


def snoozed(conn: Connection, now_us: int, limit: int) -> list[Schedule]:
    """Paused until a moment that has come."""
    return [rows.schedule(row) for row in _SNOOZED.rows(conn, now=now_us, most=limit)]


def tracked(conn: Connection) -> list[str]:
    """Those whose fires depend on what becomes of their executions."""
    return [row[0] for row in _TRACKED.rows(conn)]


def followers(conn: Connection) -> list[str]:
    """The tracked ones for which an end may matter although nothing is open: fixed delays, maxima of failures."""
    return [row[0] for row in _FOLLOWERS.rows(conn)]


def starting(conn: Connection) -> list[Schedule]:
    """Those that fire when a server starts. Reads all schedules: once, at a start."""
    return [rows.schedule(row) for row in _STARTING.rows(conn)]


def next_due_us(conn: Connection) -> int | None:
    """The earliest ``next_fire_us`` of the ``active`` and ``paused`` ones."""
    row = _NEXT_DUE.one(conn)
    return None if row is None else int(row[0])


def count(conn: Connection, *, handler_id: str | None = None, state: ScheduleState | None = None) -> int:
    """How many schedules there are of this handler, in this state. By state it reads them all: 0.1 ms per thousand."""
    given = {"handler_id": handler_id, "state": None if state is None else state.value}
    values = {name: value for name, value in given.items() if value is not None}
    row = _count_query(tuple(values)).one(conn, **values)
    return 0 if row is None else int(row[0])


@cache
def _count_query(given: tuple[str, ...]) -> Query:
    query = select(func.count()).select_from(tables.schedules)
    return Query(query.where(*(_S[name] == bindparam(name) for name in given)))


# --- what the verbs share ---------------------------------------------------------------------------


def _load(tx: Tx, ids: Iterable[str]) -> dict[str, Schedule]:
    return {row[0]: rows.schedule(row) for row in tx.lookup(_LOAD, rows.unique(ids))}


def _says_the_same(row: Schedule, there: Schedule) -> bool:
    """Whether nothing would change but when, and by whom, it was written."""
    written: dict[str, Any] = {"version": there.version, "updated_us": there.updated_us, "updated_by": there.updated_by}
    if row.params != there.params and _sorted(row.params) == _sorted(there.params):
        # Another client's spaces, and order of keys.
        written["params"] = there.params
    return rows.values(replace(row, **written)) == rows.values(there)


def _sorted(document: bytes) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(document), order="sorted")


def _ended_us(tx: Tx, row: Schedule) -> int:
    """When a version ends that ends now: not before it began, or before what it has decided, if the clock was set back.

    (What one with a next time has decided follows from that.)
    """
    ended_us = max(tx.now_us, row.updated_us)
    return ended_us if row.next_fire_us is not None else max(ended_us, _decided_us(tx, row))


def _decided_us(tx: Tx, row: Schedule) -> int:
    return fire_audit.decided_upto(tx.conn, row.id, row.generation) or 0


def _first_taken(wanted: list[Schedule], taken: set[str]) -> str | None:
    """The first id that exists, or comes twice in the request."""
    mine: set[str] = set()
    for row in wanted:
        if row.id in taken or row.id in mine:
            return row.id
        mine.add(row.id)
    return None


def etag(row: Schedule) -> str:
    """What If-Match compares: unique over deletion and re-creation as well, because generations only grow."""
    return f"{row.generation}-{row.version}"


def _mismatch(id_: str, there: Schedule | None, if_match: str | None) -> PreconditionFailed | None:
    if if_match is None or (there is not None and etag(there) == if_match):
        return None
    now = "it does not exist" if there is None else f"it is at version {etag(there)}"
    return PreconditionFailed(
        f"schedule {id_!r} is not at version {if_match} any more: {now}",
        version=None if there is None else etag(there),
    )


def _not_found(id_: str) -> NotFound:
    return NotFound(f"there is no schedule {id_!r}", id=id_)


def _told(kind: str, row: Schedule) -> Event:
    return Event(
        kind,
        row.id,
        {
            "handler_id": row.handler_id,
            "job_method": row.job_method,
            "state": row.state,
            "version": row.version,
            "next_fire_us": row.next_fire_us,
            "tracked": row.tracked,
            "by": row.updated_by,
        },
    )
