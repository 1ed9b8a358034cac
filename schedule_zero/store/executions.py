"""Executions: the write verbs, each transition conditional on the prior state and token, and the door to the reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schedule_zero.errors import Duplicate, ScheduleZeroError
from schedule_zero.model import Event, Execution, Group, Origin, State
from schedule_zero.rules.birth import start_by_us
from schedule_zero.rules.grouping import unit_of
from schedule_zero.store import execution_rows as rows
from schedule_zero.store import groups, tables
from schedule_zero.store.changes import record_deed
from schedule_zero.store.dead_letters import take_letters
from schedule_zero.store.execution_clearing import Clear, Cleared, clear, clear_all
from schedule_zero.store.execution_ends import LOOK, EndItem, Refusal, classify, end, record_stale
from schedule_zero.store.execution_lists import Filter, FoundPage, errors, find
from schedule_zero.store.execution_reads import (
    Detail,
    Family,
    HandlerStats,
    Kin,
    Stats,
    due_rows,
    ended_of_schedule,
    ended_runs_of_schedule,
    family,
    get,
    handler_of,
    next_due_us,
    oldest_us,
    open_of_schedules,
    pending_counts,
    pending_window,
    run_times,
    running,
    stats,
)
from schedule_zero.store.idempotency import Keys
from schedule_zero.store.statements import bulk_update
from schedule_zero.store.tx import IdempotencyRecord, IdempotentReplay, Tx
from schedule_zero.store.uniqueness import Claims, Joined

__all__ = [
    "CancelAnswer",
    "CancelOutcome",
    "Clear",
    "Cleared",
    "Detail",
    "EndItem",
    "Family",
    "Filter",
    "FoundPage",
    "HandlerStats",
    "Insert",
    "Joined",
    "Kin",
    "Refusal",
    "ReleaseDue",
    "StartItem",
    "StartedItem",
    "Stats",
    "cancel",
    "cancel_unstarted",
    "cancel_unstarted_runs",
    "classify",
    "clear",
    "clear_all",
    "end",
    "end_unstarted",
    "ended_of_schedule",
    "ended_runs_of_schedule",
    "errors",
    "family",
    "find",
    "get",
    "handler_of",
    "insert",
    "insert_born",
    "mark_started",
    "next_due_us",
    "oldest_us",
    "open_of_schedules",
    "pending_counts",
    "pending_window",
    "record_stale",
    "release_due",
    "run_times",
    "running",
    "start",
    "stats",
    "unblock",
]  # fmt: skip


class Insert(Struct, kw_only=True):
    """Executions to be born in one transaction; with ``idem``, at most once for that key."""

    rows: list[Execution]
    idem: IdempotencyRecord | None = None
    # What the rows are members of.
    group: Group | None = None
    # Dead letters that are dealt with by this.
    settles: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)


class StartItem(Struct):
    """A waiting execution that becomes ``running`` on a node."""

    id: str
    attempt: int
    token: int
    node_id: str
    dispatched_us: int


class StartedItem(Struct):
    """The method of a running attempt was entered."""

    id: str
    token: int
    started_us: int


class CancelOutcome(StrEnum):
    """What a cancel found."""

    # It was waiting and is now terminal.
    CANCELLED = "cancelled"
    # It is running: flagged, and for the dispatcher to tell the node.
    REQUESTED = "requested"
    TERMINAL = "terminal"
    # It is running, and only what waits was to be ended.
    RUNNING = "running"
    UNKNOWN = "unknown"


class CancelAnswer(Struct, kw_only=True):
    id: str
    outcome: CancelOutcome
    # The state after the cancel; None if unknown.
    state: State | None = None
    # Of the running attempt.
    node_id: str | None = None
    token: int = 0


class ReleaseDue(Struct):
    now_us: int
    limit: int = 1000


# --- statements -------------------------------------------------------------------------------------

_RUNS = "executions.state = 'running'"
_STARTABLE = f"executions.{tables.IS_STARTABLE}"
_WAITING = f"executions.{tables.IS_WAITING}"

_START = bulk_update(
    tables.executions,
    ("id",),
    ("attempt", "token", "node_id", "dispatched_us"),
    also="state = 'running', started_us = NULL, finished_us = NULL",
    # (column5 is the moment in which it was decided.)
    where="executions.cancel_requested = 0 AND (executions.start_by_us IS NULL OR executions.start_by_us > v.column5)"
    f" AND {_STARTABLE}",
)
_STARTED = bulk_update(tables.executions, ("id", "token"), ("started_us",), where=_RUNS)
_CANCEL = bulk_update(tables.executions, ("id",), ("finished_us",), also="state = 'cancelled', stored_us = v.column2",
                      where=_WAITING)  # fmt: skip
_FLAG = bulk_update(tables.executions, ("id",), ("cancel_requested",), where=_RUNS)
_DUE = bulk_update(tables.executions, ("id",), ("state",), where="executions.state IN ('scheduled', 'retry_scheduled')")
_UNBLOCK = bulk_update(tables.executions, ("id",), ("state", "start_by_us"), where=f"executions.{tables.IS_BLOCKED}")
_handler_of = attrgetter("handler_id")

# --- verbs ------------------------------------------------------------------------------------------


def insert(tx: Tx, args: list[Insert]) -> list[IdempotentReplay | Joined | ScheduleZeroError | None]:
    """Write new executions and emit ``execution.created``. A row may be born ``running`` (attempt, token, node_id set).

    Answers None, or ``IdempotentReplay`` if the key was used for the same request (nothing written then), or
    ``Joined`` where rows were not written because others had their unique keys; fails with ``IdempotencyMismatch`` if
    the key was used for another, with ``Duplicate`` (its ``index`` among the rows) if a unique key is taken.
    """
    keys = Keys(tx, [arg.idem for arg in args])
    answers: list[IdempotentReplay | Joined | ScheduleZeroError | None] = []
    born: list[Execution] = []
    unique = [row for arg in args for row in arg.rows if row.unique_key is not None]
    claims = Claims(tx, unique) if unique else None
    for arg in args:
        answer: IdempotentReplay | Joined | ScheduleZeroError | None = keys.answer(arg.idem)
        if answer is None and claims is not None:
            answer = claims.request(arg.rows)
            if isinstance(answer, Joined) and arg.group is not None:
                # A group has all its members, or isn't.
                holder = next(iter(answer.instead.values()))
                answer = Duplicate(f"execution {holder} has the unique key of a member", index=0, execution_id=holder)
        answers.append(answer)
        if answer is None:
            born += arg.rows
            if arg.settles:
                take_letters(tx, arg.settles)
            keys.accept(arg.idem)
            if arg.group is not None:
                groups.insert(tx, [arg.group])
        elif isinstance(answer, Joined):
            born += [row for row in arg.rows if row.id not in answer.instead]
            keys.accept(_with_ids(arg.idem, answer))
    insert_born(tx, born)
    if any(tx.actors):
        _record_births(tx, args, answers)
    if claims is not None and claims.replaced:
        end_unstarted(tx, claims.replaced)
    keys.write()
    return answers


def _record_births(
    tx: Tx, args: list[Insert], answers: list[IdempotentReplay | Joined | ScheduleZeroError | None]
) -> None:
    """What is more than a submission: a retry, a run of a schedule."""
    for n, (arg, answer) in enumerate(zip(args, answers, strict=True)):
        if answer is None:
            group = arg.group
            made = {"execution_id": arg.rows[0].id} if group is None else {"group_id": group.id}
            record_deed(tx, tx.actor(n), len(arg.rows), after=made)


def _with_ids(idem: IdempotencyRecord | None, joined: Joined) -> IdempotencyRecord | None:
    """The answer that a repetition gets: not the ids that were to be."""
    if idem is None:
        return None
    return replace(idem, response=msgspec.json.encode({"ids": joined.ids, "existing": joined.existing}))


def insert_born(tx: Tx, born: Sequence[Execution]) -> None:
    """For the verbs that give birth to executions: write, count and tell."""
    rows.insert_rows(tx, born)
    for handler_id, n in Counter(map(_handler_of, born)).items():
        tx.count(handler_id, "created", n)
    tx.events.extend(
        [
            Event(
                "execution.created",
                row.id,
                {"handler_id": row.handler_id, "job_method": row.job_method, "state": row.state}
                if row.schedule_id is None
                else _told_of_schedule(row),
            )
            for row in born
        ]
    )


def _told_of_schedule(row: Execution) -> dict[str, Any]:
    told: dict[str, Any] = {"handler_id": row.handler_id, "job_method": row.job_method, "state": row.state,
                            "schedule_id": row.schedule_id}  # fmt: skip
    if row.origin is Origin.BACKFILL:
        told["origin"] = row.origin
    if unit_of(row) != row.id:
        told["group_id"] = row.group_id
    return told


def start(tx: Tx, args: list[list[StartItem]]) -> list[set[str]]:
    """What waits becomes ``running``; the ids that were *not* moved (gone on meanwhile, or to be cancelled)."""
    items = [item for arg in args for item in arg]
    # Of two for one execution the first wins; joined to both, the database would take either.
    firsts = {item.id: item for item in reversed(items)}.values()
    moved = tx.bulk(_START, [(i.id, i.attempt, i.token, i.node_id, i.dispatched_us) for i in firsts])
    if moved == len(items):
        return [set() for _ in args]
    # A token is never used twice: who carries it was moved just now.
    holders = {row[0]: row[2] for row in tx.lookup(LOOK, list(dict.fromkeys((item.id,) for item in items)))}
    return [{item.id for item in arg if holders.get(item.id) != item.token} for arg in args]


def mark_started(tx: Tx, args: list[list[StartedItem]]) -> list[None]:
    """Record when the method was entered, if the attempt still runs with that token."""
    tx.bulk(_STARTED, [(item.id, item.token, item.started_us) for arg in args for item in arg])
    return [None] * len(args)


def cancel_unstarted(tx: Tx, args: list[list[str]]) -> list[list[CancelAnswer]]:
    """End what waits, leave what runs alone (``CancelOutcome.RUNNING``); one answer per id, in order."""
    return _cancel_and_record(tx, args, flag=False)


def end_unstarted(tx: Tx, ids: list[str]) -> None:
    """The same for other verbs, in whose wake it happens."""
    _cancel(tx, [ids], flag=False)


def cancel_unstarted_runs(tx: Tx, args: list[list[str]]) -> list[None]:
    """``cancel_unstarted`` of runs of a schedule: executions, or groups. A group is left alone once a part of it has
    started: half a group is no use to anybody.
    """
    for arg in args:
        ids: list[str] = []
        for unit in arg:
            members = groups.unstarted_members(tx.conn, unit)
            if members is not None:
                # No members: it is no group.
                ids += members or [unit]
        end_unstarted(tx, ids)
    return [None] * len(args)


def cancel(tx: Tx, args: list[list[str]]) -> list[list[CancelAnswer]]:
    """End what waits, flag what runs; one answer per id, in order.

    Emits ``execution.finished`` or ``execution.cancel_requested``.
    """
    return _cancel_and_record(tx, args, flag=True)


def _cancel_and_record(tx: Tx, args: list[list[str]], *, flag: bool) -> list[list[CancelAnswer]]:
    answers, touched = _cancel(tx, args, flag=flag)
    for n, states in enumerate(touched):
        one = next(iter(states.values())) if len(states) == 1 else None
        before = None if one is None else {"state": one}
        after = {"cancel_requested": True} if one is State.RUNNING else None if one is None else {"state": "cancelled"}
        record_deed(tx, tx.actor(n), len(states), ids=list(states), before=before, after=after)
    return answers


def _cancel(tx: Tx, args: list[list[str]], *, flag: bool) -> tuple[list[list[CancelAnswer]], list[dict[str, State]]]:
    """The answers, and for each argument what it changed, with the states before."""
    found = {row[0]: row for row in tx.lookup(LOOK, list(dict.fromkeys((id_,) for arg in args for id_ in arg)))}
    states = {id_: State(row[1]) for id_, row in found.items()}
    waiting: list[tuple[Any, ...]] = []
    flagged: dict[tuple[Any, ...], None] = {}
    answers: list[list[CancelAnswer]] = []
    touched: list[dict[str, State]] = []
    for arg in args:
        answers.append([])
        touched.append({})
        for id_ in arg:
            row = found.get(id_)
            if row is None:
                answer = CancelAnswer(id=id_, outcome=CancelOutcome.UNKNOWN)
            elif states[id_] is State.RUNNING and not flag:
                answer = CancelAnswer(id=id_, outcome=CancelOutcome.RUNNING, state=State.RUNNING)
            elif states[id_] is State.RUNNING:
                answer = CancelAnswer(
                    id=id_, outcome=CancelOutcome.REQUESTED, state=State.RUNNING, node_id=row[4], token=row[2]
                )
                if not row[3] and (id_, 1) not in flagged:
                    flagged[id_, 1] = None
                    touched[-1][id_] = State.RUNNING
            elif states[id_] in tables.WAITING:
                touched[-1][id_] = states[id_]
                states[id_] = State.CANCELLED
                answer = CancelAnswer(id=id_, outcome=CancelOutcome.CANCELLED, state=State.CANCELLED)
                waiting.append((id_, tx.now_us))
            else:
                answer = CancelAnswer(id=id_, outcome=CancelOutcome.TERMINAL, state=states[id_])
            answers[-1].append(answer)
    tx.bulk(_CANCEL, waiting)
    tx.bulk(_FLAG, list(flagged))
    _tell_cancels(tx, [found[id_] for id_, _ in waiting], [found[id_] for id_, _ in flagged])
    return answers, touched


def _tell_cancels(tx: Tx, ended: list[tuple[Any, ...]], flagged: list[tuple[Any, ...]]) -> None:
    for kind, state, looked in (
        ("execution.finished", State.CANCELLED, ended),
        ("execution.cancel_requested", State.RUNNING, flagged),
    ):
        for row in looked:
            data: dict[str, Any] = {"handler_id": row[5], "job_method": row[6], "state": state}
            if row[7] is not None:
                data["schedule_id"] = row[7]
            tx.emit(Event(kind, row[0], data))
    for handler_id, n in Counter(row[5] for row in ended).items():
        tx.count(handler_id, State.CANCELLED.value, n)
    groups.settle(tx, [(row[8], State.CANCELLED) for row in ended if row[8] is not None])


def release_due(tx: Tx, args: list[ReleaseDue]) -> list[list[Execution]]:
    """``scheduled``/``retry_scheduled`` whose ``not_before_us`` has come → ``pending``; those rows, as they are now."""
    released: list[list[Execution]] = []
    for arg in args:
        due = due_rows(tx.conn, arg.now_us, arg.limit)
        tx.bulk(_DUE, [(execution.id, State.PENDING.value) for execution in due])
        for execution in due:
            execution.state = State.PENDING
        released.append(due)
    return released


def unblock(tx: Tx, args: list[str]) -> list[list[Execution]]:
    """``blocked`` → ``pending``, or ``scheduled`` where its time is still to come; the rows that were, as they are now.

    Of a group's id: all its members. Emits ``execution.unblocked``.
    """
    answers: list[list[Execution]] = []
    for unit in args:
        answers.append([])
        for id_ in groups.open_members(tx.conn, unit) or [unit]:
            found = get(tx.conn, id_)
            if found is None:
                continue
            row = found.execution
            later = row.not_before_us is not None and row.not_before_us > tx.now_us
            row.state = State.SCHEDULED if later else State.PENDING
            # While it had to wait for another one, it could not have been started.
            row.start_by_us = start_by_us(row, max(row.not_before_us or 0, tx.now_us))
            if tx.bulk(_UNBLOCK, [(id_, row.state.value, row.start_by_us)]):
                tx.emit(Event("execution.unblocked", id_, _told_of_schedule(row)))
                answers[-1].append(row)
    return answers
