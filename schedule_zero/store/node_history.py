"""What happened to each node: the newest comings, goings and operations, kept longer than the journal keeps anything.

Written in the transaction that emits the event. They are rare (a node that comes, goes, or is taken out of service), so
each node's rows are cut to ``KEPT`` at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from sqlalchemy import bindparam, delete, insert, select

from schedule_zero.model import Event
from schedule_zero.store import tables
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

H = tables.node_history.c
# Of one node.
KEPT = 200
_NEWEST = Query(
    select(H.at_us, H.kind, H.data)
    .where(H.node_id == bindparam("wanted"))
    .order_by(H.seq.desc())
    .limit(bindparam("most"))
)
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class NodeEvent(Struct, kw_only=True):
    """Something that happened to a node; ``kind`` and ``data`` are those of its event."""

    at_us: int
    kind: str
    data: dict[str, Any]


def tell(tx: Tx, event: Event) -> None:
    """Emit what happened to a node, and keep it. ``event.id`` is the node's."""
    tx.emit(event)
    data = msgspec.json.encode(event.data).decode()
    tx.execute(insert(tables.node_history).values(node_id=event.id, at_us=tx.now_us, kind=event.kind, data=data))
    newest = select(H.seq).where(H.node_id == event.id).order_by(H.seq.desc())
    first_kept = tx.execute(newest.offset(KEPT - 1).limit(1)).scalar_one_or_none()
    if first_kept is not None:
        tx.execute(delete(tables.node_history).where(H.node_id == event.id, H.seq < first_kept))


def forget(tx: Tx, node_id: str) -> None:
    """Nothing is kept of a node that nobody remembers."""
    tx.execute(delete(tables.node_history).where(H.node_id == node_id))


def newest(conn: Connection, node_id: str, limit: int) -> list[NodeEvent]:
    """The newest first."""
    rows = _NEWEST.rows(conn, wanted=node_id, most=limit)
    return [NodeEvent(at_us=row[0], kind=row[1], data=_decode(row[2])) for row in rows]
