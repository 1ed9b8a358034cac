"""What schedules were before they were changed: one row for each version that is over, kept when the next one begins.

The version in force is the row in ``schedules``; so creating a schedule costs nothing here. A version owns the nominal
times after its ``from_us`` up to and including its ``to_us``, which is the next one's ``from_us``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import bindparam, select, tuple_

from schedule_zero.model import Schedule, ScheduleState, ScheduleVersion
from schedule_zero.store import tables
from schedule_zero.store.statements import Query, bulk_insert
from schedule_zero.store.tx import Page, Tx, parse_pair

if TYPE_CHECKING:
    from sqlalchemy import Connection

V = tables.schedule_versions.c
# Documents inside the document: JSON in the database as everywhere, bytes in the struct.
_DOCUMENTS = frozenset({"params", "trigger", "options", "policies", "skips"})
# The totals are the ledger's, not a version's.
_KEPT = tuple(name for name in Schedule.__struct_fields__ if name != "runs")
_INSERT = bulk_insert(
    tables.schedule_versions,
    ("schedule_id", "generation", "version", "from_us", "to_us", "deleted", "document"),
    "DO NOTHING",
)


def keep(tx: Tx, over: Iterable[tuple[Schedule, int]], *, deleted: bool = False) -> None:
    """Keep versions that are over, each with the moment at which it ended."""
    tx.bulk(
        _INSERT,
        [
            (row.id, row.generation, row.version, row.updated_us, to_us, int(deleted), _encoded(row))
            for row, to_us in over
        ],
    )


def find(conn: Connection, schedule_id: str, *, cursor: str | None = None, limit: int = 50) -> Page[ScheduleVersion]:
    """The versions that are over, newest first; they outlive their schedule."""
    generation, version = parse_pair(cursor)
    values = {"schedule": schedule_id, "generation": generation, "version": version, "most": limit + 1}
    given = {name: value for name, value in values.items() if value is not None}
    rows = _find_query(cursor is not None).rows(conn, **given)
    page = [_version(row) for row in rows[:limit]]
    if len(rows) <= limit:
        return Page(page)
    last = page[-1].schedule
    return Page(page, f"{last.generation}.{last.version}")


def get(conn: Connection, schedule_id: str, generation: int, version: int) -> ScheduleVersion | None:
    """One version that is over."""
    row = _GET.one(conn, schedule=schedule_id, generation=generation, version=version)
    return None if row is None else _version(row)


_COLUMNS = (V.from_us, V.to_us, V.deleted, V.document)
_GET = Query(
    select(*_COLUMNS).where(
        V.schedule_id == bindparam("schedule"),
        V.generation == bindparam("generation"),
        V.version == bindparam("version"),
    )
)


@cache
def _find_query(below: bool) -> Query:
    query = select(*_COLUMNS).where(V.schedule_id == bindparam("schedule"))
    if below:
        query = query.where(tuple_(V.generation, V.version) < tuple_(bindparam("generation"), bindparam("version")))
    return Query(query.order_by(V.generation.desc(), V.version.desc()).limit(bindparam("most")))


def _encoded(row: Schedule) -> str:
    document: dict[str, Any] = {}
    for name in _KEPT:
        value = getattr(row, name)
        document[name] = msgspec.Raw(value) if name in _DOCUMENTS and value is not None else value
    return msgspec.json.encode(document).decode()


def _version(row: Sequence[Any]) -> ScheduleVersion:
    raw: dict[str, msgspec.Raw] = msgspec.json.decode(row[3], type=dict[str, msgspec.Raw])
    fields: dict[str, Any] = {}
    for name, value in raw.items():
        document = bytes(value)
        kept = name in _DOCUMENTS and document != b"null"
        fields[name] = document if kept else msgspec.json.decode(document)
    fields["state"] = ScheduleState(fields["state"])
    return ScheduleVersion(schedule=Schedule(**fields), from_us=row[0], to_us=row[1], deleted=bool(row[2]))
