"""What charts show of the past: a row for each minute, each ten of them and each hour that the server was there.

Rows only grow: what comes later in the same minute (after a restart, a write that failed, a clock that was set back) is
added to what is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import bindparam, delete, select

from schedule_zero.rules.series import UNITS_US, Stats, by_unit
from schedule_zero.store import tables
from schedule_zero.store.statements import Query, bulk_insert, bulk_select
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

S = tables.series.c
_KEY = ("step_s", "start_us")
_THERE = bulk_select(tables.series, _KEY, (*_KEY, "body"))
_PUT = bulk_insert(tables.series, (*_KEY, "body"), "(step_s, start_us) DO UPDATE SET body = excluded.body")
_BETWEEN = Query(
    select(S.start_us, S.body)
    .where(S.step_s == bindparam("step"), S.start_us >= bindparam("from_us"), S.start_us < bindparam("to_us"))
    .order_by(S.start_us)
)
_STEPS_S = {unit_us: unit_us // 1_000_000 for unit_us in UNITS_US}
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Stats).decode


def add(tx: Tx, args: list[dict[int, Stats]]) -> list[None]:
    """Add what was counted, by the beginnings of minutes, to the rows of these minutes and of what they are part of."""
    for minutes in args:
        more = {
            (step_s, start_us): stats
            for unit_us, step_s in _STEPS_S.items()
            for start_us, stats in by_unit(minutes, unit_us).items()
        }
        there = {(step_s, start_us): _decode(body) for step_s, start_us, body in tx.lookup(_THERE, list(more))}
        for key, stats in more.items():
            there.setdefault(key, Stats()).add(stats)
        tx.bulk(_PUT, [(*key, _encode(stats).decode()) for key, stats in there.items()])
    return [None] * len(args)


def between(conn: Connection, unit_us: int, from_us: int, to_us: int) -> list[tuple[int, Stats]]:
    """The stretches of one length (of ``UNITS_US``) that begin in ``[from_us, to_us)``, in order."""
    rows = _BETWEEN.rows(conn, step=_STEPS_S[unit_us], from_us=from_us, to_us=to_us)
    return [(start_us, _decode(body)) for start_us, body in rows]


def prune(tx: Tx, args: list[int]) -> list[int]:
    """Delete what began before a moment; how many rows. (They are few: one for each minute, whatever happened.)"""
    return [
        sum(
            tx.execute(delete(tables.series).where(S.step_s == step_s, S.start_us < before_us)).rowcount
            for step_s in _STEPS_S.values()
        )
        for before_us in args
    ]
