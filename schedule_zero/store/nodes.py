"""Nodes as the store remembers them; who is connected is the dispatcher's to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from sqlalchemy import delete, insert, select, update

from schedule_zero.model import Event, Node, NodeState
from schedule_zero.store import tables
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

N = tables.nodes.c

# Both attribute and column names.
_FIELDS = (
    "node_id", "instance", "epoch", "state", "handlers", "slots", "draining", "version", "host", "pid", "identity",
    "first_seen_us", "last_seen_us", "labels", "facts",
)  # fmt: skip
_ALL = Query(select(*(N[name] for name in _FIELDS)).order_by(N.node_id))


class SetState(Struct, kw_only=True):
    node_id: str
    state: NodeState
    now_us: int
    # None leaves it as it is.
    draining: bool | None = None
    # Only if the node is still this instance; None: any.
    instance: str | None = None


def upsert(tx: Tx, args: list[Node]) -> list[None]:
    """Write the node; ``first_seen_us`` stays if it was known. Emits ``node.<state>`` if state or instance changed."""
    for node in args:
        known = tx.execute(select(N.state, N.instance, N.first_seen_us).where(N.node_id == node.node_id)).one_or_none()
        values: dict[str, Any] = {name: getattr(node, name) for name in _FIELDS}
        values["state"] = node.state.value
        values["handlers"] = msgspec.json.encode(node.handlers).decode()
        values["draining"] = int(node.draining)
        values["labels"] = msgspec.json.encode(node.labels).decode()
        values["facts"] = msgspec.json.encode(node.facts).decode()
        if known is None:
            tx.execute(insert(tables.nodes).values(**values))
        else:
            values["first_seen_us"] = known.first_seen_us
            tx.execute(update(tables.nodes).where(N.node_id == node.node_id).values(**values))
        if known is None or (known.state, known.instance) != (node.state.value, node.instance):
            tx.emit(Event(f"node.{node.state.value}", node.node_id, {"instance": node.instance, "host": node.host}))
    return [None] * len(args)


def set_state(tx: Tx, args: list[SetState]) -> list[bool]:
    """Change state and ``last_seen_us``; whether there was such a node. Emits ``node.<state>`` if the state changed."""
    answers = []
    for arg in args:
        known = tx.execute(select(N.state, N.instance).where(N.node_id == arg.node_id)).one_or_none()
        found = known is not None and arg.instance in (None, known.instance)
        answers.append(found)
        if known is None or not found:
            continue
        values: dict[str, Any] = {"state": arg.state.value, "last_seen_us": arg.now_us}
        if arg.draining is not None:
            values["draining"] = int(arg.draining)
        tx.execute(update(tables.nodes).where(N.node_id == arg.node_id).values(**values))
        if known.state != arg.state.value:
            tx.emit(Event(f"node.{arg.state.value}", arg.node_id, {"instance": known.instance}))
    return answers


def forget(tx: Tx, args: list[str]) -> list[bool]:
    """Delete; whether there was such a node. Emits ``node.forgotten``."""
    answers = []
    for node_id in args:
        found = tx.execute(delete(tables.nodes).where(N.node_id == node_id)).rowcount > 0
        answers.append(found)
        if found:
            tx.emit(Event("node.forgotten", node_id))
    return answers


def all(conn: Connection) -> list[Node]:  # noqa: A001 - read as nodes.all(conn)
    """Every node that is remembered, by id."""
    nodes = []
    for row in _ALL.rows(conn):
        values = dict(zip(_FIELDS, row, strict=True))
        values["state"] = NodeState(values["state"])
        values["handlers"] = msgspec.json.decode(values["handlers"], type=list[str])
        values["draining"] = bool(values["draining"])
        for name in ("labels", "facts"):
            values[name] = msgspec.json.decode(values[name], type=dict[str, str])
        nodes.append(Node(**values))
    return nodes
