"""Groups of executions: born with their members, counted on with the end of each, in the same transaction.

``settle`` has to be called by every verb that ends executions, with those of them that have a ``group_id``. (Those of
backfills have one as well; there is no group of that id, and nothing happens.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, exists, func, select, text

from schedule_zero.model import Event, Group, GroupKind, GroupState, State
from schedule_zero.rules.grouping import COUNTED_AS, outcome
from schedule_zero.store import tables
from schedule_zero.store.statements import Query, bulk_insert, bulk_select, bulk_update
from schedule_zero.store.tx import Page, Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

G = tables.execution_groups.c
E = tables.executions.c
_NUMBERS = ("completed", "failed", "cancelled")
_FIELDS = (
    "id", "kind", "handler_id", "job_method", "schedule_id", "total", "completed", "failed", "cancelled", "state",
    "created_us", "finished_us", "by",
)  # fmt: skip
_COLUMNS = tuple(G[name] for name in _FIELDS)
_INSERT = bulk_insert(tables.execution_groups, _FIELDS)
_LOAD = bulk_select(tables.execution_groups, ("id",), _FIELDS)
_COUNT = bulk_update(
    tables.execution_groups, ("id",), _NUMBERS, how={name: f"execution_groups.{name} + {{v}}" for name in _NUMBERS}
)
_FINISH = bulk_update(
    tables.execution_groups, ("id",), ("state", "finished_us"), where="execution_groups.state = 'running'"
)
_GET = Query(select(*_COLUMNS).where(G.id == bindparam("wanted")))
_NEWEST = select(*_COLUMNS).order_by(G.id.desc()).limit(bindparam("most"))
_FIND = Query(_NEWEST)
_FIND_BELOW = Query(_NEWEST.where(G.id < bindparam("below")))
_OPEN_MEMBERS = Query(
    select(E.id)
    .where(text(tables.IS_GROUPED), E.group_id == bindparam("wanted"), text(f"executions.{tables.IS_OPEN}"))
    .order_by(E.seq)
)
_STARTED = Query(select(E.id).where(text(tables.IS_GROUPED), E.group_id == bindparam("wanted"), E.attempt > 0).limit(1))
_MEMBERS = Query(
    select(E.id).where(text(tables.IS_GROUPED), E.group_id == bindparam("wanted")).order_by(E.seq).limit(
        bindparam("most")
    )
)  # fmt: skip
_STATES = Query(
    select(E.state, func.count()).where(text(tables.IS_GROUPED), E.group_id == bindparam("wanted")).group_by(E.state)
)
PRUNE_ROWS = 1_000


def insert(tx: Tx, rows: Sequence[Group]) -> None:
    """For the verbs that give birth to their members. Emits ``group.created``."""
    tx.bulk(_INSERT, [tuple(getattr(row, name) for name in _FIELDS) for row in rows])
    for row in rows:
        tx.emit(Event("group.created", row.id, {**_told(row), "total": row.total}))


def settle(tx: Tx, ended: Iterable[tuple[str, State]]) -> None:
    """These members (their groups, and how they ended) are over. Emits ``group.finished`` for the last of each."""
    numbers: dict[str, dict[str, int]] = {}
    for group_id, state in ended:
        counts = numbers.setdefault(group_id, dict.fromkeys(_NUMBERS, 0))
        counts[COUNTED_AS[state]] += 1
    if not numbers:
        return
    if not tx.bulk(_COUNT, [(id_, *(counts[name] for name in _NUMBERS)) for id_, counts in numbers.items()]):
        return
    for row in tx.lookup(_LOAD, [(id_,) for id_ in numbers]):
        group = _group(row)
        group.state = outcome(group)
        if group.state is not GroupState.RUNNING and tx.bulk(_FINISH, [(group.id, group.state.value, tx.now_us)]):
            counts = {name: getattr(group, name) for name in _NUMBERS}
            tx.emit(Event("group.finished", group.id, {**_told(group), "total": group.total, **counts}))


def _told(row: Group) -> dict[str, Any]:
    told: dict[str, Any] = {"kind": row.kind, "handler_id": row.handler_id, "job_method": row.job_method,
                            "state": row.state}  # fmt: skip
    if row.schedule_id is not None:
        told["schedule_id"] = row.schedule_id
    return told


def prune(tx: Tx, args: list[str]) -> list[str | None]:
    """Delete groups that are over and have no members any more, of the next thousand after this id; the last one
    looked at, None at the end.
    """
    answers: list[str | None] = []
    for after in args:
        ids = tx.execute(select(G.id).where(G.id > after).order_by(G.id).limit(PRUNE_ROWS)).scalars().all()
        if ids:
            member = exists().where(text(tables.IS_GROUPED), E.group_id == G.id)
            over = [G.id > after, G.id <= ids[-1], G.state != GroupState.RUNNING.value, ~member]
            tx.execute(delete(tables.execution_groups).where(*over))
        answers.append(ids[-1] if len(ids) == PRUNE_ROWS else None)
    return answers


def get(conn: Connection, group_id: str) -> Group | None:
    row = _GET.one(conn, wanted=group_id)
    return None if row is None else _group(row)


def find(conn: Connection, *, cursor: str | None = None, limit: int = 50) -> Page[Group]:
    """Newest first."""
    found = _FIND.rows(conn, most=limit + 1) if cursor is None else _FIND_BELOW.rows(conn, below=cursor, most=limit + 1)
    page = [_group(row) for row in found[:limit]]
    return Page(page, page[-1].id if len(found) > limit else None)


def open_members(conn: Connection, group_id: str) -> list[str]:
    """The members that are not over."""
    return [row[0] for row in _OPEN_MEMBERS.rows(conn, wanted=group_id)]


def unstarted_members(conn: Connection, group_id: str) -> list[str] | None:
    """The open members of a group of which nothing has started yet; None: something has."""
    return None if _STARTED.one(conn, wanted=group_id) is not None else open_members(conn, group_id)


def members(conn: Connection, group_id: str, most: int) -> list[str]:
    """The first members, in order."""
    return [row[0] for row in _MEMBERS.rows(conn, wanted=group_id, most=most)]


def states(conn: Connection, group_id: str) -> dict[State, int]:
    """How many members are in each state, of those that were not cleared. (A group has at most ``limits.bulk``.)"""
    return {State(row[0]): row[1] for row in _STATES.rows(conn, wanted=group_id)}


def _group(row: Sequence[Any]) -> Group:
    values = dict(zip(_FIELDS, row, strict=True))
    values["kind"] = GroupKind(values["kind"])
    values["state"] = GroupState(values["state"])
    return Group(**values)
