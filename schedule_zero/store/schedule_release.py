"""The release of due schedules: the transaction of promise C1."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Any

from msgspec import Struct

from schedule_zero.model import Event, Execution, Fire, FireOutcome, ScheduleState
from schedule_zero.store import executions, tables
from schedule_zero.store import schedule_rows as rows
from schedule_zero.store.statements import bulk_insert, bulk_select, bulk_update
from schedule_zero.store.tx import Tx, Undo


class ReleaseItem(Struct, kw_only=True):
    """One schedule whose due fires were decided. The fence is (id, generation, version, ``due_us``)."""

    id: str
    generation: int
    version: int
    # Its ``next_fire_us`` when it was read.
    due_us: int
    next_fire_us: int | None
    last_fire_us: int | None
    state: ScheduleState
    # None leaves the note as it is.
    note: str | None = None
    fires: list[Fire]
    executions: list[Execution]


class ReleaseRefusal(StrEnum):
    """Why nothing of a release item was written."""

    # Deleted, changed or already released by somebody else since it was read.
    FENCE = "fence"
    # One of its nominal times is in the ledger already.
    DUPLICATE = "duplicate"


# The common release: one nominal time, executed.
_RELEASE_ONE = bulk_update(
    tables.schedules,
    rows.FENCE,
    ("next_fire_us", "last_fire_us", "state"),
    also="executed = schedules.executed + 1",
)
_TOTALS = tuple(outcome.value for outcome in FireOutcome)
_RELEASE = bulk_update(
    tables.schedules,
    rows.FENCE,
    ("next_fire_us", "last_fire_us", "state", "note", *_TOTALS),
    how={"note": "coalesce({v}, schedules.note)", **{name: f"schedules.{name} + {{v}}" for name in _TOTALS}},
)
_EXECUTED = bulk_insert(
    tables.fires,
    ("schedule_id", "generation", "nominal_us", "outcome", "execution_id", "decided_us"),
    "DO NOTHING",
)
_DECIDED = bulk_insert(
    tables.fires,
    ("schedule_id", "generation", "nominal_us", "outcome", "reason", "execution_id", "count", "last_nominal_us",
     "decided_us"),
    "DO NOTHING",
)  # fmt: skip
_IN_LEDGER = bulk_select(
    tables.fires, ("schedule_id", "generation", "nominal_us"), ("schedule_id", "generation", "nominal_us")
)


def release(tx: Tx, args: list[list[ReleaseItem]]) -> list[dict[str, ReleaseRefusal]]:
    """Ledger rows, executions and the schedules' new times in one transaction (C1); the ids refused, each with why.

    Nothing of a refused item is written. Emits ``execution.created`` for each execution, ``schedule.skipped`` or
    ``schedule.missed`` for a fire without one, and ``schedule.finished``/``schedule.quarantined``.
    """
    items = args[0] if len(args) == 1 else [item for arg in args for item in arg]
    refused: list[dict[str, ReleaseRefusal]] = [{} for _ in args]
    if not _release_all(tx, items):
        items = _sort_out(tx, args, refused)
        if not _release_all(tx, items):
            raise AssertionError("a release was refused that the same transaction had found possible")
    executions.insert_born(tx, [execution for item in items for execution in item.executions])
    for item in items:
        if item.state in rows.ENDED:
            tx.emit(Event(rows.STATE_EVENT[item.state], item.id, {"note": item.note}))
        for fire in item.fires:
            if fire.execution_id is None:
                data = {"nominal_us": fire.nominal_us, "reason": fire.reason, "count": fire.count}
                tx.emit(Event(f"schedule.{fire.outcome.value}", item.id, data))
    return refused


def _release_all(tx: Tx, items: list[ReleaseItem]) -> bool:
    """Advance the schedules and write their ledger rows; or nothing (False), if a fence fails or a time is there."""
    simple: list[tuple[Any, ...]] = []
    others: list[tuple[Any, ...]] = []
    executed: list[tuple[Any, ...]] = []
    decided: list[tuple[Any, ...]] = []
    for i in items:
        fires = i.fires
        for f in fires:
            if f.outcome is FireOutcome.EXECUTED and f.execution_id is not None and f.count == 1:
                executed.append((f.schedule_id, f.generation, f.nominal_us, "executed", f.execution_id, f.decided_us))
            else:
                why = (f.outcome.value, None if f.reason is None else f.reason.value)
                what = (f.execution_id, f.count, f.last_nominal_us, f.decided_us)
                decided.append((f.schedule_id, f.generation, f.nominal_us, *why, *what))
        fence = (i.id, i.generation, i.version, i.due_us)
        if (
            len(fires) == 1
            and fires[0].outcome is FireOutcome.EXECUTED
            and fires[0].count == 1
            and i.next_fire_us is not None
            and i.last_fire_us is not None
            and i.note is None
        ):
            simple.append((*fence, i.next_fire_us, i.last_fire_us, i.state.value))
        else:
            totals = Counter[str]()
            for f in fires:
                totals[f.outcome.value] += f.count
            others.append(
                (*fence, i.next_fire_us, i.last_fire_us, i.state.value, i.note, *(totals[o] for o in _TOTALS))
            )
    with tx.attempt() as trial:
        if tx.bulk(_RELEASE_ONE, simple) + tx.bulk(_RELEASE, others) != len(items):
            raise Undo
        if tx.bulk(_EXECUTED, executed) + tx.bulk(_DECIDED, decided) != len(executed) + len(decided):
            raise Undo
    return trial.kept


def _sort_out(tx: Tx, args: list[list[ReleaseItem]], refused: list[dict[str, ReleaseRefusal]]) -> list[ReleaseItem]:
    """The slow way, item by item: which may be released. Fills ``refused``, one dict per operation."""
    now = {
        row[0]: tuple(row) for row in tx.lookup(rows.LOAD_FENCE, rows.unique(item.id for arg in args for item in arg))
    }
    ledger = {
        tuple(row)
        for row in tx.lookup(
            _IN_LEDGER,
            list(
                dict.fromkeys((f.schedule_id, f.generation, f.nominal_us) for arg in args for i in arg for f in i.fires)
            ),
        )
    }
    accepted: list[ReleaseItem] = []
    for arg, refusals in zip(args, refused, strict=True):
        for item in arg:
            times = [(fire.schedule_id, fire.generation, fire.nominal_us) for fire in item.fires]
            if now.get(item.id) != (item.id, item.generation, item.version, item.due_us):
                refusals[item.id] = ReleaseRefusal.FENCE
            elif len(set(times)) < len(times) or not ledger.isdisjoint(times):
                refusals[item.id] = ReleaseRefusal.DUPLICATE
            else:
                accepted.append(item)
                ledger.update(times)
                # One release of a schedule in a batch: a second one was decided without knowing of the first.
                now.pop(item.id)
    return accepted
