"""Hot statements that move many rows in one step, and reads that come back in one step.

Why not ``executemany`` and ``fetchall``: sqlite3 lets go of the interpreter lock around every row, and takes it back
from a busy event loop only after the switch interval. Measured with such a loop beside it, 500-row batches:
executemany 1,300 µs a row, one statement of 256 rows 33 µs (alone: 5.4 and 3.0 µs). Reading 1,000 rows: fetchall 99
µs a row, one JSON array 18 µs. The SQL is the same for SQLite and PostgreSQL but for placeholders and casts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, Table, bindparam, func, select

# A batch of n rows becomes its binary digits: at most 9 steps, and few enough shapes to stay in sqlite3's statement
# cache.
CHUNKS = (256, 128, 64, 32, 16, 8, 4, 2, 1)


class Bulk:
    """One statement over a list of rows. ``columns`` names what a row's values are, in order."""

    def __init__(self, table: Table, columns: Sequence[str], head: str, tail: str) -> None:
        self.columns = tuple(columns)
        self._table = table
        self._head = head
        self._tail = tail
        self._sql: dict[tuple[str, int], str] = {}

    def sql(self, dialect: str, rows: int) -> str:
        """The text for exactly ``rows`` rows."""
        key = (dialect, rows)
        text = self._sql.get(key)
        if text is None:
            if dialect == "sqlite":
                values = ", ".join(["(" + ", ".join("?" * len(self.columns)) + ")"] * rows)
            else:
                # PostgreSQL settles the type of a VALUES column by its rows: the casts of the first one are enough.
                first = "(" + ", ".join(f"%s::{kind}" for kind in self._postgres_types) + ")"
                other = "(" + ", ".join(["%s"] * len(self.columns)) + ")"
                values = ", ".join([first] + [other] * (rows - 1))
            text = self._sql[key] = f"{self._head}{values}{self._tail}"
        return text

    @cached_property
    def _postgres_types(self) -> list[str]:
        # Not at the top: with SQLite the other dialect's 3 MB stay on the disk.
        from sqlalchemy.dialects import postgresql

        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
        return [self._table.c[name].type.compile(dialect).split(" COLLATE")[0] for name in self.columns]


def bulk_insert(table: Table, columns: Sequence[str], on_conflict: str = "") -> Bulk:
    """``on_conflict`` is the text after ``ON CONFLICT``."""
    names = ", ".join(f'"{name}"' for name in columns)
    return Bulk(
        table, columns, f"INSERT INTO {table.name} ({names}) VALUES ", on_conflict and f" ON CONFLICT {on_conflict}"
    )


def bulk_update(
    table: Table,
    by: Sequence[str],
    assign: Sequence[str],
    *,
    also: str = "",
    how: Mapping[str, str] = {},
    where: str = "",
) -> Bulk:
    """Rows are (values of ``by``, values of ``assign``). ``how``: expressions of ``{v}``; ``also``: constants."""
    settings = [
        f"{name} = " + how.get(name, "{v}").format(v=f"v.column{number}")
        for number, name in enumerate(assign, len(by) + 1)
    ]
    matches = [f"{table.name}.{name} = v.column{number}" for number, name in enumerate(by, 1)]
    return Bulk(
        table,
        [*by, *assign],
        f"UPDATE {table.name} SET {', '.join(settings + ([also] if also else []))} FROM (VALUES ",
        f") AS v WHERE {' AND '.join(matches + ([where] if where else []))}",
    )


def bulk_delete(table: Table, by: str, where: str = "") -> Bulk:
    return Bulk(
        table,
        [by],
        f"DELETE FROM {table.name} WHERE {by} IN (SELECT column1 FROM (VALUES ",
        ") AS v)" + (f" AND {where}" if where else ""),
    )


def bulk_select(table: Table, by: Sequence[str], columns: Sequence[str]) -> Bulk:
    """Look rows up by their key ``by``, for ``Tx.lookup``; keys without a row are absent from the answer."""
    names = ", ".join(f'{table.name}."{name}"' for name in columns)
    matches = " AND ".join(f'{table.name}."{name}" = v.column{number}' for number, name in enumerate(by, 1))
    return Bulk(table, by, f"SELECT {names} FROM (VALUES ", f") AS v JOIN {table.name} ON {matches}")


_decode_rows = msgspec.json.Decoder(list[list[Any]]).decode


class Query:
    """A read, compiled once per dialect, whose rows come back in one step."""

    def __init__(self, query: Select[Any]) -> None:
        self._query = query
        self._compiled: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {}

    def rows(self, conn: Connection, **values: Any) -> Sequence[Sequence[Any]]:
        """The rows for these values of the query's bind parameters."""
        dialect = conn.dialect.name
        known = self._compiled.get(dialect)
        if known is None:
            known = self._compiled[dialect] = self._compile(conn)
        sql, order, constants = known
        values = {**constants, **values}
        if dialect != "sqlite":
            return conn.exec_driver_sql(sql, values).fetchall()
        row = conn.exec_driver_sql(sql, tuple([values[name] for name in order])).fetchone()
        return _decode_rows(row[0]) if row is not None else []

    def one(self, conn: Connection, **values: Any) -> Sequence[Any] | None:
        """The first row."""
        rows = self.rows(conn, **values)
        return rows[0] if rows else None

    def _compile(self, conn: Connection) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        """The text, the order of its parameters, and the values of those that never change."""
        query: Select[Any] = self._query
        if conn.dialect.name == "sqlite":
            inner = query.subquery()
            # The aggregate takes the rows in the order of the sub-query.
            query = select(func.json_group_array(func.json_array(*inner.c)))
        compiled = query.compile(conn)
        return str(compiled), tuple(compiled.positiontup or ()), dict(compiled.params)


def ends(table: Table) -> Query:
    """The smallest and the greatest ``seq``, None in an empty table. (Both in one select would be a scan.)"""
    return Query(
        select(
            select(func.min(table.c.seq)).scalar_subquery().label("smallest"),
            select(func.max(table.c.seq)).scalar_subquery().label("greatest"),
        )
    )


class Seek:
    """Finds the first ``seq`` of a moment by bisection, where ``column`` (a time) grows with ``seq``, more or less.

    A wall clock that was set back blurs this for rows of that time.
    """

    def __init__(self, table: Table, column: str) -> None:
        seq = table.c.seq
        self._ends = ends(table)
        self._at = Query(select(seq, table.c[column]).where(seq >= bindparam("at")).order_by(seq).limit(1))

    def first(self, conn: Connection, us: int) -> int | None:
        """The first seq at or after ``us``; None if all is older."""
        ends = self._ends.one(conn)
        if ends is None or ends[0] is None:
            return None
        low, high = int(ends[0]), int(ends[1]) + 1
        while low < high:
            middle = (low + high) // 2
            row = self._at.one(conn, at=middle)
            if row is None or row[1] >= us:
                high = middle
            else:
                low = row[0] + 1
        row = self._at.one(conn, at=low)
        return None if row is None else int(row[0])
