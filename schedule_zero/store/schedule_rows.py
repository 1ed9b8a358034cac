"""Schedules between rows and structs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from schedule_zero.model import Schedule, ScheduleState
from schedule_zero.store import tables
from schedule_zero.store.statements import Bulk, bulk_insert, bulk_select
from schedule_zero.store.tx import Tx

FIELDS = (
    "id", "handler_id", "job_method", "state", "note", "misfire_grace_us", "generation", "version", "next_fire_us",
    "last_fire_us", "created_us", "updated_us", "params", "trigger", "options", "policies", "resume_us", "skips",
    "waits_for", "tracked", "updated_by",
)  # fmt: skip
# Written by the ledger only, so a replace leaves them alone.
READ = (*FIELDS, "executed", "caught_up")
COLUMNS = tuple(tables.schedules.c[name] for name in READ)
FENCE = ("id", "generation", "version", "next_fire_us")

LOAD_FENCE = bulk_select(tables.schedules, ("id",), FENCE)

ENDED = frozenset({ScheduleState.FINISHED, ScheduleState.QUARANTINED})
STATE_EVENT = {
    ScheduleState.ACTIVE: "schedule.resumed",
    ScheduleState.PAUSED: "schedule.paused",
    ScheduleState.FINISHED: "schedule.finished",
    ScheduleState.QUARANTINED: "schedule.quarantined",
}


def schedule(row: Sequence[Any]) -> Schedule:
    return Schedule(
        id=row[0],
        handler_id=row[1],
        job_method=row[2],
        state=ScheduleState(row[3]),
        note=row[4],
        misfire_grace_s=row[5] / 1e6,
        generation=row[6],
        version=row[7],
        next_fire_us=row[8],
        last_fire_us=row[9],
        created_us=row[10],
        updated_us=row[11],
        params=row[12].encode(),
        trigger=row[13].encode(),
        options=None if row[14] is None else row[14].encode(),
        policies=None if row[15] is None else row[15].encode(),
        resume_us=row[16],
        skips=None if row[17] is None else row[17].encode(),
        waits_for=row[18],
        tracked=bool(row[19]),
        updated_by=row[20],
        runs=row[21] + row[22],
    )


def values(row: Schedule) -> tuple[Any, ...]:
    return (
        row.id,
        row.handler_id,
        row.job_method,
        row.state.value,
        row.note,
        # Whole microseconds: a float would not come back the same through JSON.
        round(row.misfire_grace_s * 1e6),
        row.generation,
        row.version,
        row.next_fire_us,
        row.last_fire_us,
        row.created_us,
        row.updated_us,
        row.params.decode(),
        row.trigger.decode(),
        None if row.options is None else row.options.decode(),
        None if row.policies is None else row.policies.decode(),
        row.resume_us,
        None if row.skips is None else row.skips.decode(),
        row.waits_for,
        int(row.tracked),
        row.updated_by,
    )


# What most schedules don't have: left out where no row of a batch has it, because a ``None`` costs sqlite3 half a
# microsecond (it looks for an adapter). The column's default is what ``values`` gives.
_RARE = frozenset({"note", "last_fire_us", "options", "policies", "resume_us", "skips", "waits_for", "tracked"})
_inserts: dict[tuple[str, ...], Bulk] = {}


def insert(tx: Tx, new: Sequence[Schedule]) -> None:
    """INSERT schedules as they are."""
    if not new:
        return
    names: list[str] = []
    columns: list[Sequence[Any]] = []
    for name, column in zip(FIELDS, zip(*map(values, new), strict=True), strict=True):
        if name not in _RARE or any(column):
            names.append(name)
            columns.append(column)
    shape = tuple(names)
    statement = _inserts.get(shape)
    if statement is None:
        statement = _inserts[shape] = bulk_insert(tables.schedules, shape)
    tx.bulk(statement, list(zip(*columns, strict=True)))


def unique(ids: Iterable[str]) -> list[tuple[str]]:
    return [(id_,) for id_ in dict.fromkeys(ids)]
