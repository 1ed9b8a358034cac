"""Nodes as the store remembers them; who is connected is the dispatcher's to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from sqlalchemy import delete, insert, select, update

from schedule_zero.clock import rfc3339
from schedule_zero.model import Event, Node, NodeOperation, NodeState, OperationKind
from schedule_zero.rules.change_log import ChangeVerb
from schedule_zero.store import node_history, tables
from schedule_zero.store.changes import record
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

N = tables.nodes.c

# Both attribute and column names; ``operation`` is changed by ``operate`` alone.
_FIELDS = (
    "node_id", "instance", "epoch", "state", "handlers", "slots", "version", "host", "pid", "identity",
    "since_token", "first_seen_us", "last_seen_us", "labels", "facts",
)  # fmt: skip
_READ = (*_FIELDS, "operation")
_ALL = Query(select(*(N[name] for name in _READ)).order_by(N.node_id))
_DONE = {
    OperationKind.CORDON: "node.cordoned",
    OperationKind.DRAIN: "node.drained",
    OperationKind.QUARANTINE: "node.quarantined",
}
_RECORDED = {
    OperationKind.CORDON: ChangeVerb.NODE_CORDONED,
    OperationKind.DRAIN: ChangeVerb.NODE_DRAINED,
    OperationKind.QUARANTINE: ChangeVerb.NODE_QUARANTINED,
}
_decode_operation = msgspec.json.Decoder(NodeOperation).decode


class Operate(Struct, kw_only=True):
    """Cordon, drain, quarantine or (None) release ``node``."""

    # As the server knows it: should the store not know it, it is written as it is.
    node: Node
    operation: NodeOperation | None
    # Who releases it, and why.
    by: str = ""
    note: str = ""
    # The server's own word: only where none of an operator's is in force.
    own: bool = False


def upsert(tx: Tx, args: list[Node]) -> list[None]:
    """Write the node; ``first_seen_us`` and ``operation`` stay if it was known.

    Emits ``node.<state>`` if state or instance changed.
    """
    for node in args:
        known = tx.execute(select(N.state, N.instance, N.first_seen_us).where(N.node_id == node.node_id)).one_or_none()
        values = _values(node)
        if known is None:
            tx.execute(insert(tables.nodes).values(**values, operation=_encode(node.operation)))
        else:
            values["first_seen_us"] = known.first_seen_us
            tx.execute(update(tables.nodes).where(N.node_id == node.node_id).values(**values))
        if known is None or (known.state, known.instance) != (node.state.value, node.instance):
            data = {"instance": node.instance, "host": node.host}
            node_history.tell(tx, Event(f"node.{node.state.value}", node.node_id, data))
    return [None] * len(args)


def operate(tx: Tx, args: list[Operate]) -> list[bool]:
    """Whether it was done: False if it was the server's own word, and an operator's is in force.

    Emits ``node.cordoned``, ``node.drained``, ``node.quarantined`` or ``node.released`` if anything changed.
    """
    answers = []
    for n, arg in enumerate(args):
        node_id, operation = arg.node.node_id, arg.operation
        known = tx.execute(select(N.operation).where(N.node_id == node_id)).one_or_none()
        before = None if known is None else _decode(known.operation)
        done = not arg.own or before is None or before.kind is OperationKind.QUARANTINE
        answers.append(done)
        if not done or before == operation:
            continue
        if known is None:
            tx.execute(insert(tables.nodes).values(**_values(arg.node), operation=_encode(operation)))
        else:
            tx.execute(update(tables.nodes).where(N.node_id == node_id).values(operation=_encode(operation)))
        verb = ChangeVerb.NODE_RELEASED if operation is None else _RECORDED[operation.kind]
        why = arg.note if operation is None else operation.note
        record(tx, tx.actor(n), verb, node_id, before=_said(before), after=_said(operation), note=why)
        if operation is None:
            data: dict[str, Any] = {"by": arg.by, "note": arg.note}
            node_history.tell(tx, Event("node.released", node_id, data))
        else:
            data = {"by": operation.by, "note": operation.note, "until_us": operation.until_us}
            node_history.tell(tx, Event(_DONE[operation.kind], node_id, data))
    return answers


def _said(operation: NodeOperation | None) -> dict[str, Any] | None:
    if operation is None:
        return None
    since, until = rfc3339(operation.since_us), rfc3339(operation.until_us)
    return {"kind": operation.kind, "since": since, "until": until, "note": operation.note, "by": operation.by}


def _values(node: Node) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(node, name) for name in _FIELDS}
    values["state"] = node.state.value
    for name in ("handlers", "labels", "facts"):
        values[name] = msgspec.json.encode(values[name]).decode()
    return values


def _encode(operation: NodeOperation | None) -> str | None:
    return None if operation is None else msgspec.json.encode(operation).decode()


def _decode(text: str | None) -> NodeOperation | None:
    return None if text is None else _decode_operation(text)


def forget(tx: Tx, args: list[str]) -> list[bool]:
    """Delete; whether there was such a node. Emits ``node.forgotten``."""
    answers = []
    for node_id in args:
        found = tx.execute(delete(tables.nodes).where(N.node_id == node_id)).rowcount > 0
        answers.append(found)
        if found:
            node_history.forget(tx, node_id)
            tx.emit(Event("node.forgotten", node_id))
    return answers


def all(conn: Connection) -> list[Node]:  # noqa: A001 - read as nodes.all(conn)
    """Every node that is remembered, by id."""
    nodes = []
    for row in _ALL.rows(conn):
        values = dict(zip(_READ, row, strict=True))
        values["state"] = NodeState(values["state"])
        values["handlers"] = msgspec.json.decode(values["handlers"], type=list[str])
        values["operation"] = _decode(values["operation"])
        for name in ("labels", "facts"):
            values[name] = msgspec.json.decode(values[name], type=dict[str, str])
        nodes.append(Node(**values))
    return nodes
