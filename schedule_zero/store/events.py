"""The journal: one row per transaction that has something to tell, its events as one JSON array."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import bindparam, select

from schedule_zero.model import Event
from schedule_zero.store import tables
from schedule_zero.store.oldest import Oldest, Prune
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["Prune", "latest_seq", "oldest_seq", "prune", "read_after"]

V = tables.events.c
_AFTER = Query(select(V.seq, V.body).where(V.seq > bindparam("after")).order_by(V.seq).limit(bindparam("most")))
_OLDEST = Oldest(tables.events, "created_us")
_decode = msgspec.json.Decoder(list[Event]).decode


def read_after(conn: Connection, seq: int, limit: int) -> list[tuple[int, list[Event]]]:
    """The rows after ``seq``, oldest first, at most ``limit`` rows."""
    return [(row[0], _decode(row[1])) for row in _AFTER.rows(conn, after=seq, most=limit)]


def latest_seq(conn: Connection) -> int:
    """0 if there is none."""
    return _ends(conn)[1]


def oldest_seq(conn: Connection) -> int:
    """The oldest row still there (0 if there is none): a client that asks for less has a gap."""
    return _ends(conn)[0]


def prune(tx: Tx, args: list[Prune]) -> list[int]:
    """How many rows were deleted. Repeat until it is 0."""
    return [_OLDEST.prune(tx, arg) for arg in args]


def _ends(conn: Connection) -> tuple[int, int]:
    row = _OLDEST.ends.one(conn) or (None, None)
    return int(row[0] or 0), int(row[1] or 0)
