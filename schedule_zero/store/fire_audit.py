"""What the audit asks of the ledger: its rows in the form in which they are compared, and their sums.

Nearly everything is of one generation of one schedule, in ``(after_us, upto_us]`` by nominal time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from msgspec import Struct
from sqlalchemy import bindparam, func, select, text

from schedule_zero.rules.audit import Entry, Link
from schedule_zero.store import migrations, tables
from schedule_zero.store.statements import CHUNKS, Bulk, Query
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

F, X = tables.fires.c, tables.executions.c

_SCHEDULE = (F.schedule_id == bindparam("schedule"), F.generation == bindparam("generation"))
_RANGE = (*_SCHEDULE, F.nominal_us > bindparam("after"), F.nominal_us <= bindparam("upto"))
_ENTRIES = Query(select(F.nominal_us, F.count, F.last_nominal_us).where(*_RANGE).order_by(F.nominal_us))
_TOTAL = Query(select(func.coalesce(func.sum(F.count), 0)).where(*_RANGE))
_NTH = Query(
    select(F.nominal_us)
    .where(*_SCHEDULE, F.nominal_us <= bindparam("upto"))
    .order_by(F.nominal_us.desc())
    .limit(1)
    .offset(bindparam("n"))
)
FOREVER_US = 2**63 - 1
_NEWEST = Query(
    select(F.nominal_us, F.last_nominal_us)
    .where(*_SCHEDULE, F.nominal_us <= bindparam("upto"))
    .order_by(F.nominal_us.desc())
    .limit(1)
)
_OVER = Query(
    select(F.nominal_us, F.last_nominal_us).where(
        text(tables.IS_SUMMED), *_SCHEDULE, F.last_nominal_us > bindparam("at"), F.nominal_us <= bindparam("at")
    )
)
_ENDED = func.coalesce(X.finished_us, X.stored_us, tables.execution_groups.c.finished_us)
_LINKS = Query(
    select(F.nominal_us, F.decided_us, F.execution_id, _ENDED)
    .select_from(
        tables.fires.outerjoin(tables.executions, X.id == F.execution_id).outerjoin(
            tables.execution_groups, tables.execution_groups.c.id == F.execution_id
        )
    )
    .where(*_RANGE)
    .order_by(F.nominal_us)
)
_NEXT_GENERATION = Query(
    select(F.generation)
    .where(F.schedule_id == bindparam("schedule"), F.generation > bindparam("after"))
    .order_by(F.generation)
    .limit(1)
)


class Expectation(Struct, frozen=True, gc=False):
    """How many nominal times have to be on record, and the first and the last of them (0: none)."""

    schedule_id: str
    generation: int
    after_us: int
    upto_us: int
    count: int
    first_us: int
    last_us: int


# A schedule is named if its rows are not as many as expected, or begin or end elsewhere.
_UNLIKE = Bulk(
    tables.fires,
    ("schedule_id", "generation", "nominal_us", "nominal_us", "count", "nominal_us", "nominal_us"),
    "SELECT v.column1 FROM (VALUES ",
    ") AS v LEFT JOIN fires f ON f.schedule_id = v.column1 AND f.generation = v.column2"
    " AND f.nominal_us > v.column3 AND f.nominal_us <= v.column4"
    " GROUP BY v.column1, v.column2, v.column5, v.column6, v.column7"
    " HAVING coalesce(sum(f.count), 0) <> v.column5 OR coalesce(min(f.nominal_us), 0) <> v.column6"
    " OR coalesce(max(f.nominal_us), 0) <> v.column7",
)


def entries(conn: Connection, schedule_id: str, generation: int, after_us: int, upto_us: int) -> list[Entry]:
    """The rows, in order. The caller knows that they are few."""
    rows = _ENTRIES.rows(conn, schedule=schedule_id, generation=generation, after=after_us, upto=upto_us)
    return [Entry(*row) for row in rows]


def links(conn: Connection, schedule_id: str, generation: int, after_us: int, upto_us: int) -> list[Link]:
    """The rows, in order, each with the end of its execution."""
    rows = _LINKS.rows(conn, schedule=schedule_id, generation=generation, after=after_us, upto=upto_us)
    return [Link(*row) for row in rows]


def total(conn: Connection, schedule_id: str, generation: int, after_us: int, upto_us: int) -> int:
    """How many nominal times the rows stand for."""
    row = _TOTAL.one(conn, schedule=schedule_id, generation=generation, after=after_us, upto=upto_us)
    return 0 if row is None else int(row[0])


def nth_newest(conn: Connection, schedule_id: str, generation: int, upto_us: int, n: int) -> int | None:
    """The nominal time of the row before which there are ``n`` newer ones, up to ``upto_us``."""
    row = _NTH.one(conn, schedule=schedule_id, generation=generation, upto=upto_us, n=n)
    return None if row is None else int(row[0])


def decided_upto(conn: Connection, schedule_id: str, generation: int, upto_us: int = FOREVER_US) -> int | None:
    """The newest nominal time on record that is not later than ``upto_us``."""
    row = _NEWEST.one(conn, schedule=schedule_id, generation=generation, upto=upto_us)
    return None if row is None else max(row[0], row[1] or 0)


def reaching_over(conn: Connection, schedule_id: str, generation: int, us: int) -> tuple[int, int] | None:
    """From where to where the summarising rows reach that begin at ``us`` or before, and end after it."""
    rows = _OVER.rows(conn, schedule=schedule_id, generation=generation, at=us)
    return (min(row[0] for row in rows), max(row[1] for row in rows)) if rows else None


def generations(conn: Connection, schedule_id: str) -> Iterator[int]:
    """Those that have rows at all, in order: one step of the index each."""
    last = -1
    while row := _NEXT_GENERATION.one(conn, schedule=schedule_id, after=last):
        last = row[0]
        yield last


def unlike(conn: Connection, expected: Sequence[Expectation]) -> list[str]:
    """The schedules whose rows are not what is expected, as far as sums and both ends tell."""
    found: list[str] = []
    at = 0
    for size in CHUNKS:
        while len(expected) - at >= size:
            part = [
                (e.schedule_id, e.generation, e.after_us, e.upto_us, e.count, e.first_us, e.last_us)
                for e in expected[at : at + size]
            ]
            sql = _UNLIKE.sql(conn.dialect.name, size)
            found += [row[0] for row in conn.exec_driver_sql(sql, tuple(chain.from_iterable(part)))]
            at += size
    return found


_MARK = "audited_us"


def mark(tx: Tx, args: list[int]) -> list[None]:
    """Keep up to which nominal time everything was audited."""
    migrations.put_meta(tx.conn, _MARK, str(args[-1]))
    return [None] * len(args)


def marked(conn: Connection) -> int | None:
    """Up to which nominal time everything was audited; None: nothing ever was."""
    found = migrations.get_meta(conn, _MARK)
    return None if found is None else int(found)
