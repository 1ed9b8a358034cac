"""The release of due schedules: the transaction of promise C1."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from schedule_zero.model import Event, Execution, Fire, FireOutcome, Group, ScheduleState, SkipReason
from schedule_zero.rules.grouping import unit_of
from schedule_zero.store import executions, groups, schedule_changes, tables
from schedule_zero.store import schedule_rows as rows
from schedule_zero.store.statements import bulk_insert, bulk_select, bulk_update
from schedule_zero.store.tx import Tx, Undo
from schedule_zero.store.uniqueness import Claims


class Otherwise(Struct, kw_only=True):
    """What a schedule is after a round in which not all ran that were to run: others had their unique keys."""

    last_fire_us: int | None
    # It is not finished yet: where it goes on. None: as in the item.
    next_fire_us: int | None = None
    state: ScheduleState | None = None
    resume_us: int | None = None


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
    # None leaves the note as it is; "" clears it.
    note: str | None = None
    # What is left of these after the round.
    resume_us: int | None = None
    skips: bytes | None = None
    # Its next fire follows the end of this execution.
    waits_for: str | None = None
    # Nothing of the four above is or was set: the common case.
    plain: bool = True
    fires: list[Fire]
    executions: list[Execution]
    # What the executions are members of, where each run is a group.
    groups: list[Group] = []
    # With executions that have unique keys.
    otherwise: Otherwise | None = None

    @property
    def runs(self) -> int:
        """How many of the fires run."""
        return len(self.executions) if not self.groups else len(self.groups)


class RearmItem(Struct, kw_only=True):
    """A schedule with a fixed delay whose execution is over."""

    id: str
    generation: int
    # The execution that it waited for.
    waits_for: str
    next_fire_us: int | None


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
    ("next_fire_us", "last_fire_us", "state", "note", "resume_us", "skips", "waits_for", *_TOTALS),
    how={
        "note": "nullif(coalesce({v}, schedules.note), '')",
        **{name: f"schedules.{name} + {{v}}" for name in _TOTALS},
    },
)
_WAITING = ("id", "generation", "waits_for")
_REARM = bulk_update(tables.schedules, _WAITING, ("next_fire_us",), also="waits_for = NULL")
_RUN_OUT = bulk_update(
    tables.schedules, _WAITING, ("next_fire_us",), also="waits_for = NULL, resume_us = NULL, state = 'finished'"
)
_ARM = bulk_update(
    tables.schedules,
    ("id", "generation"),
    ("next_fire_us",),
    also="state = CASE state WHEN 'finished' THEN 'active' ELSE state END",
    where="(schedules.next_fire_us IS NULL OR schedules.next_fire_us > v.column3)",
)
_OWE = bulk_update(
    tables.schedules, ("id", "generation"), _TOTALS, how={name: f"schedules.{name} + {{v}}" for name in _TOTALS}
)
_EXECUTED = bulk_insert(
    tables.fires,
    ("schedule_id", "generation", "nominal_us", "outcome", "execution_id", "decided_us"),
    "DO NOTHING",
)
_DECIDED = bulk_insert(
    tables.fires,
    ("schedule_id", "generation", "nominal_us", "outcome", "reason", "execution_id", "count", "last_nominal_us",
     "decided_us", "detail"),
    "DO NOTHING",
)  # fmt: skip
_IN_LEDGER = bulk_select(
    tables.fires, ("schedule_id", "generation", "nominal_us"), ("schedule_id", "generation", "nominal_us")
)


def release(tx: Tx, args: list[list[ReleaseItem]]) -> list[dict[str, ReleaseRefusal | ReleaseItem]]:
    """Ledger rows, executions and the schedules' new times in one transaction (C1); the ids refused, each with why.

    Nothing of a refused item is written. A fire whose execution's unique key is taken is skipped: the answer has what
    was written of such an item. Emits ``execution.created`` for each execution, ``schedule.skipped`` or
    ``schedule.missed`` for a fire without one, and ``schedule.finished``/``schedule.quarantined``.
    """
    asked = args[0] if len(args) == 1 else [item for arg in args for item in arg]
    answers: list[dict[str, ReleaseRefusal | ReleaseItem]] = [{} for _ in args]
    items, replaced = _settle_claims(tx, asked)
    if not _release_all(tx, items):
        asked = _sort_out(tx, args, answers)
        items, replaced = _settle_claims(tx, asked)
        if not _release_all(tx, items):
            raise AssertionError("a release was refused that the same transaction had found possible")
    made = [group for item in items for group in item.groups]
    if made:
        groups.insert(tx, made)
    executions.insert_born(tx, [execution for item in items for execution in item.executions])
    if replaced:
        executions.end_unstarted(tx, replaced)
    if items is not asked:
        written = {id(before): after for before, after in zip(asked, items, strict=True) if before is not after}
        for arg, answer in zip(args, answers, strict=True):
            answer |= {item.id: written[id(item)] for item in arg if id(item) in written}
    for item in items:
        if item.state in rows.ENDED:
            tx.emit(Event(rows.STATE_EVENT[item.state], item.id, {"note": item.note}))
            if item.state is ScheduleState.QUARANTINED:
                schedule_changes.quarantined(tx, item.id, item.note)
        _tell_fires(tx, item.fires)
    return answers


def _settle_claims(tx: Tx, items: list[ReleaseItem]) -> tuple[list[ReleaseItem], list[str]]:
    """The items as they can be written, given who has their unique keys; and whom they replace. ``items``: all as is.

    The items themselves stay as they are: this transaction may be run again.
    """
    unique = [row for item in items if item.otherwise is not None for row in item.executions]
    if not unique:
        return items, []
    claims = Claims(tx, unique)
    settled = []
    for item in items:
        taken = {}
        if item.otherwise is not None:
            # (Those of one group don't shut one another out: all of them are taken, or none.)
            taken = {unit_of(row): holder for row in item.executions if (holder := claims.one(row)) is not None}
        settled.append(_without(item, taken, item.otherwise) if taken and item.otherwise is not None else item)
    return settled, claims.replaced


def _without(item: ReleaseItem, taken: dict[str, str], otherwise: Otherwise) -> ReleaseItem:
    """The item without the runs whose keys are ``taken``: execution, or group → holder."""
    kept = [row for row in item.executions if unit_of(row) not in taken]
    less = replace(
        item,
        executions=kept,
        groups=[group for group in item.groups if group.id not in taken],
        fires=[fire if fire.execution_id not in taken else _skipped(fire, taken[fire.execution_id])
               for fire in item.fires],
        last_fire_us=kept[-1].nominal_us if kept else otherwise.last_fire_us,
        # A fixed delay follows the end of the one that runs instead.
        waits_for=taken.get(item.waits_for or "", item.waits_for),
    )  # fmt: skip
    if otherwise.state is not None:
        less.next_fire_us, less.state, less.resume_us, less.note = (
            otherwise.next_fire_us, otherwise.state, otherwise.resume_us, None
        )  # fmt: skip
    return less


def _skipped(fire: Fire, holder: str) -> Fire:
    return replace(fire, outcome=FireOutcome.SKIPPED, reason=SkipReason.DUPLICATE, execution_id=None, detail=holder)


def _tell_fires(tx: Tx, fires: list[Fire]) -> None:
    """Count and emit."""
    counted = tx.fires
    for fire in fires:
        counted[fire.outcome] = counted.get(fire.outcome, 0) + fire.count
        if fire.execution_id is None:
            data = {"nominal_us": fire.nominal_us, "reason": fire.reason, "count": fire.count}
            tx.emit(Event(f"schedule.{fire.outcome.value}", fire.schedule_id, data))


def write_owed(tx: Tx, fires: list[Fire]) -> None:
    """Ledger rows of what was due and nobody will decide any more. None of them ran; what is there stays as it is."""
    if not fires:
        return
    known = {tuple(row) for row in tx.lookup(_IN_LEDGER, list(dict.fromkeys(map(_key, fires))))}
    fires = [fire for fire in fires if _key(fire) not in known]
    tx.bulk(_DECIDED, [_decided(fire) for fire in fires])
    totals: dict[tuple[str, int], Counter[str]] = {}
    for fire in fires:
        totals.setdefault((fire.schedule_id, fire.generation), Counter())[fire.outcome.value] += fire.count
    tx.bulk(_OWE, [(*key, *(counts[outcome] for outcome in _TOTALS)) for key, counts in totals.items()])
    _tell_fires(tx, fires)


def rearm(tx: Tx, args: list[RearmItem]) -> list[None]:
    """Give schedules with a fixed delay their next time, unless they were changed meanwhile; without one: finished.

    Emits ``schedule.rearmed`` or ``schedule.finished``.
    """
    for item in args:
        statement = _RUN_OUT if item.next_fire_us is None else _REARM
        if tx.bulk(statement, [(item.id, item.generation, item.waits_for, item.next_fire_us)]):
            kind = "schedule.finished" if item.next_fire_us is None else "schedule.rearmed"
            tx.emit(Event(kind, item.id, {"next_fire_us": item.next_fire_us}))
    return [None] * len(args)


def arm(tx: Tx, args: list[list[tuple[str, int, int]]]) -> list[int]:
    """Make (id, generation) due at a moment, unless it is due before; how many are. Emits ``schedule.rearmed``."""
    answers = []
    for arg in args:
        answers.append(tx.bulk(_ARM, arg))
        tx.events.extend([Event("schedule.rearmed", id_, {"next_fire_us": us}) for id_, _, us in arg])
    return answers


def _release_all(tx: Tx, items: list[ReleaseItem]) -> bool:
    """Advance the schedules and write their ledger rows; or nothing (False), if a fence fails or a time is there."""
    simple: list[tuple[Any, ...]] = []
    others: list[tuple[Any, ...]] = []
    executed: list[tuple[Any, ...]] = []
    decided: list[tuple[Any, ...]] = []
    for i in items:
        fires = i.fires
        for f in fires:
            if f.outcome is FireOutcome.EXECUTED and f.execution_id is not None and f.count == 1 and f.detail is None:
                executed.append((f.schedule_id, f.generation, f.nominal_us, "executed", f.execution_id, f.decided_us))
            else:
                decided.append(_decided(f))
        fence = (i.id, i.generation, i.version, i.due_us)
        if (
            len(fires) == 1
            and fires[0].outcome is FireOutcome.EXECUTED
            and fires[0].count == 1
            and i.next_fire_us is not None
            and i.last_fire_us is not None
            and i.note is None
            and i.plain
        ):
            simple.append((*fence, i.next_fire_us, i.last_fire_us, i.state.value))
        else:
            totals = Counter[str]()
            for f in fires:
                totals[f.outcome.value] += f.count
            skips = None if i.skips is None else i.skips.decode()
            after = (i.next_fire_us, i.last_fire_us, i.state.value, i.note, i.resume_us, skips, i.waits_for)
            others.append((*fence, *after, *(totals[o] for o in _TOTALS)))
    with tx.attempt() as trial:
        if tx.bulk(_RELEASE_ONE, simple) + tx.bulk(_RELEASE, others) != len(items):
            raise Undo
        if tx.bulk(_EXECUTED, executed) + tx.bulk(_DECIDED, decided) != len(executed) + len(decided):
            raise Undo
    return trial.kept


def _key(fire: Fire) -> tuple[str, int, int]:
    return (fire.schedule_id, fire.generation, fire.nominal_us)


def _decided(f: Fire) -> tuple[Any, ...]:
    reason = None if f.reason is None else f.reason.value
    what = (f.execution_id, f.count, f.last_nominal_us, f.decided_us, f.detail)
    return (f.schedule_id, f.generation, f.nominal_us, f.outcome.value, reason, *what)


def _sort_out(
    tx: Tx, args: list[list[ReleaseItem]], refused: list[dict[str, ReleaseRefusal | ReleaseItem]]
) -> list[ReleaseItem]:
    """The slow way, item by item: which may be released. Fills ``refused``, one dict per operation."""
    now = {
        row[0]: tuple(row) for row in tx.lookup(rows.LOAD_FENCE, rows.unique(item.id for arg in args for item in arg))
    }
    ledger = {
        tuple(row)
        for row in tx.lookup(
            _IN_LEDGER,
            list(dict.fromkeys(_key(fire) for arg in args for item in arg for fire in item.fires)),
        )
    }
    accepted: list[ReleaseItem] = []
    for arg, refusals in zip(args, refused, strict=True):
        for item in arg:
            times = [_key(fire) for fire in item.fires]
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
