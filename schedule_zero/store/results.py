"""Large results, stored aside in chunks: appended in order, read one after the other, deleted with their execution.

A chunk belongs to an attempt. Those of the attempt that completed its execution are its result; those of others are
left over (``sweep``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from sqlalchemy import and_, delete, exists, func, or_, select

from schedule_zero.model import State
from schedule_zero.store import tables
from schedule_zero.store.statements import Bulk, bulk_insert, bulk_select, bulk_update
from schedule_zero.store.tx import Tx
from schedule_zero.wire.messages import ResultChunk
from schedule_zero.wire.result_parts import unpack

if TYPE_CHECKING:
    from sqlalchemy import Connection

C = tables.result_chunks.c
# What is left over is looked for so many attempts at a time.
SWEEP = 100


class Append(Struct):
    """A chunk from this node; taken only where the one before it ends."""

    node_id: str
    chunk: ResultChunk
    limit_bytes: int


class Sweep(Struct):
    """Delete chunks stored before a time of attempts that are over and whose result they are not."""

    before_us: int


_INSERT = bulk_insert(
    tables.result_chunks, ("execution_id", "token", "first", "bytes", "created_us", "body"), "DO NOTHING"
)
_GIVEN = bulk_select(tables.executions, ("id", "token"), ("id", "token", "node_id", "state"))
_END = Bulk(
    tables.result_chunks,
    ("execution_id", "token"),
    "SELECT c.execution_id, c.token, c.first + c.bytes FROM (VALUES ",
    ") AS v JOIN result_chunks AS c ON c.execution_id = v.column1 AND c.token = v.column2 AND c.first = "
    "(SELECT max(m.first) FROM result_chunks AS m WHERE m.execution_id = v.column1 AND m.token = v.column2)",
)
_SIZE = bulk_update(tables.executions, ("id", "token"), ("result_bytes",))


def append(tx: Tx, args: list[Append]) -> list[int | None]:
    """How much of each result is stored then; None: no such attempt runs on this node."""
    keys = list(dict.fromkeys((arg.chunk.id, arg.chunk.token) for arg in args))
    given = {(row[0], row[1]): (row[2], row[3]) for row in tx.lookup(_GIVEN, keys)}
    ends = {(row[0], row[1]): int(row[2]) for row in tx.lookup(_END, keys)}
    answers: list[int | None] = []
    rows: list[tuple[object, ...]] = []
    for arg in args:
        chunk = arg.chunk
        key = (chunk.id, chunk.token)
        if given.get(key) != (arg.node_id, State.RUNNING.value):
            answers.append(None)
            continue
        end = ends.get(key, 0)
        if chunk.offset == end and end + chunk.bytes <= min(chunk.total, arg.limit_bytes):
            rows.append((*key, end, chunk.bytes, tx.now_us, chunk.body))
            ends[key] = end = end + chunk.bytes
        answers.append(end)
    tx.bulk(_INSERT, rows)
    return answers


def set_sizes(tx: Tx, sizes: list[tuple[str, int, int]]) -> None:
    """These executions (id, token) completed with a result of so many bytes that is stored here."""
    tx.bulk(_SIZE, sizes)


def state_of(conn: Connection, execution_id: str, token: int) -> tuple[int, bool]:
    """How much of this attempt's result is here, and whether the attempt runs."""
    size = conn.execute(select(func.sum(C.bytes)).where(C.execution_id == execution_id, C.token == token)).scalar_one()
    e = tables.executions.c
    runs = conn.execute(
        select(e.id).where(e.id == execution_id, e.token == token, e.state == State.RUNNING.value)
    ).first()
    return int(size or 0), runs is not None


def read(conn: Connection, execution_id: str, token: int, first: int) -> bytes:
    """The chunk that begins at byte ``first``; empty: there is none."""
    row = conn.execute(
        select(C.body, C.bytes).where(C.execution_id == execution_id, C.token == token, C.first == first)
    ).first()
    return b"" if row is None else unpack(bytes(row[0]), int(row[1]))


def sweep(tx: Tx, args: list[Sweep]) -> list[int]:
    """How many attempts had chunks that nobody will ask for. Repeat until it is 0."""
    return [_sweep(tx, arg) for arg in args]


def _sweep(tx: Tx, arg: Sweep) -> int:
    e = tables.executions.c
    wanted = exists().where(
        e.id == C.execution_id,
        e.token == C.token,
        or_(e.state == State.RUNNING.value, and_(e.state == State.COMPLETED.value, e.result_bytes.is_not(None))),
    )
    left = tx.execute(
        select(C.execution_id, C.token).where(C.first == 0, C.created_us < arg.before_us, ~wanted).limit(SWEEP)
    ).all()
    for execution_id, token in left:
        tx.execute(delete(tables.result_chunks).where(C.execution_id == execution_id, C.token == token))
    return len(left)
