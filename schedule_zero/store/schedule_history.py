"""What schedules were before they were changed: one row for each version that is over, kept when the next one begins.

The version in force is the row in ``schedules``; so creating a schedule costs nothing here. A version owns the nominal
times after its ``from_us`` up to and including its ``to_us``, which is the next one's ``from_us``. ``from_us`` never
falls within a generation, except where a schedule is replaced after the clock was set back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec import Struct
from sqlalchemy import bindparam, select, text, tuple_

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
    ("schedule_id", "generation", "version", "from_us", "to_us", "deleted", "ended_by", "document"),
    "DO NOTHING",
)
# Versions read in one step: their documents may be large.
STEP = 50

# A version that is over, when it ended, and who ended it.
Over: TypeAlias = "tuple[Schedule, int, str | None]"


class Deleted(Struct, frozen=True):
    """A generation of a schedule that ended with its deletion."""

    to_us: int
    schedule_id: str = ""
    generation: int = 0


def keep(tx: Tx, over: Iterable[Over], *, deleted: bool = False) -> None:
    """Keep versions that are over."""
    tx.bulk(
        _INSERT,
        [
            (row.id, row.generation, row.version, row.updated_us, to_us, int(deleted), by, _encoded(row))
            for row, to_us, by in over
        ],
    )


def find(conn: Connection, schedule_id: str, *, cursor: str | None = None, limit: int = 50) -> Page[ScheduleVersion]:
    """The versions that are over, newest first; they outlive their schedule."""
    generation, version = parse_pair(cursor)
    values = {"schedule": schedule_id, "generation": generation, "version": version, "most": limit + 1}
    given = {name: value for name, value in values.items() if value is not None}
    rows = _find_query(cursor is not None).rows(conn, **given)
    page = [version_of(row) for row in rows[:limit]]
    if len(rows) <= limit:
        return Page(page)
    last = page[-1].schedule
    return Page(page, f"{last.generation}.{last.version}")


def walk(conn: Connection, schedule_id: str) -> Iterator[ScheduleVersion]:
    """All versions that are over, newest first, read a few at a time."""
    cursor = None
    while True:
        page = find(conn, schedule_id, cursor=cursor, limit=STEP)
        yield from page.rows
        cursor = page.next_cursor
        if cursor is None:
            return


def get(conn: Connection, schedule_id: str, generation: int, version: int) -> ScheduleVersion | None:
    """One version that is over."""
    row = _GET.one(conn, schedule=schedule_id, generation=generation, version=version)
    return None if row is None else version_of(row)


def last_of(conn: Connection, schedule_id: str, generation: int) -> ScheduleVersion | None:
    """The version of a generation that ended last."""
    row = _LAST_OF.one(conn, schedule=schedule_id, generation=generation)
    return None if row is None else version_of(row)


def deleted(conn: Connection, after: Deleted, upto_us: int, *, limit: int) -> list[Deleted]:
    """What was deleted after another one and until ``upto_us``, in order of time."""
    place = {"to": after.to_us, "schedule": after.schedule_id, "generation": after.generation}
    return [Deleted(*row) for row in _DELETED.rows(conn, **place, upto=upto_us, most=limit)]


_COLUMNS = (V.from_us, V.to_us, V.deleted, V.ended_by, V.document)
_GET = Query(
    select(*_COLUMNS).where(
        V.schedule_id == bindparam("schedule"),
        V.generation == bindparam("generation"),
        V.version == bindparam("version"),
    )
)
_LAST_OF = Query(
    select(*_COLUMNS)
    .where(V.schedule_id == bindparam("schedule"), V.generation == bindparam("generation"))
    .order_by(V.version.desc())
    .limit(1)
)
_PLACE = (V.to_us, V.schedule_id, V.generation)
_DELETED = Query(
    select(*_PLACE)
    .where(
        text(tables.IS_DELETED),
        V.to_us <= bindparam("upto"),
        tuple_(*_PLACE) > tuple_(bindparam("to"), bindparam("schedule"), bindparam("generation")),
    )
    .order_by(*_PLACE)
    .limit(bindparam("most"))
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


def version_of(row: Sequence[Any]) -> ScheduleVersion:
    """From a row with from_us, to_us, deleted, ended_by and document."""
    raw: dict[str, msgspec.Raw] = msgspec.json.decode(row[4], type=dict[str, msgspec.Raw])
    fields: dict[str, Any] = {}
    for name, value in raw.items():
        document = bytes(value)
        kept = name in _DOCUMENTS and document != b"null"
        fields[name] = document if kept else msgspec.json.decode(document)
    fields["state"] = ScheduleState(fields["state"])
    return ScheduleVersion(
        schedule=Schedule(**fields), from_us=row[0], to_us=row[1], deleted=bool(row[2]), ended_by=row[3]
    )
