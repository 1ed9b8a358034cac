"""How full token buckets are: those that take long to fill, so that a restart does not start them anew.

Written with the starts that take from them, so a slow rate costs a row now and then, and a fast one nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from sqlalchemy import bindparam, delete, select

from schedule_zero.store import tables
from schedule_zero.store.statements import Query, bulk_insert
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

B = tables.rate_buckets.c
_FIELDS = ("kind", "name", "full_us", "taken_us", "fill_us")
_KEEP = bulk_insert(
    tables.rate_buckets,
    _FIELDS,
    "(kind, name) DO UPDATE SET full_us = excluded.full_us, taken_us = excluded.taken_us, fill_us = excluded.fill_us",
)
_ALL = Query(select(*(B[name] for name in _FIELDS)).where(B.full_us > bindparam("now")).order_by(B.kind, B.name))


class BucketRow(Struct, frozen=True):
    """When it will be full, when the last start took from it, and how long it takes to fill when it is empty."""

    kind: str
    name: str
    full_us: int
    taken_us: int
    fill_us: int


def keep(tx: Tx, args: list[Sequence[BucketRow]]) -> list[None]:
    """Put these on record, each in the place of what was."""
    newest = {(row.kind, row.name): row for arg in args for row in arg}
    tx.bulk(_KEEP, [(row.kind, row.name, row.full_us, row.taken_us, row.fill_us) for row in newest.values()])
    return [None] * len(args)


def forget_full(tx: Tx, args: list[int]) -> list[int]:
    """Delete those that are full at a moment; how many."""
    return [tx.conn.execute(delete(tables.rate_buckets).where(B.full_us <= now_us)).rowcount for now_us in args]


def not_full(conn: Connection, now_us: int) -> list[BucketRow]:
    """Those that are not full at a moment."""
    rows: Sequence[Sequence[Any]] = _ALL.rows(conn, now=now_us)
    return [BucketRow(*row) for row in rows]
