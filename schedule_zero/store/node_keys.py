"""CURVE public keys of nodes, each bound to the node id and handlers it may speak for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, field
from sqlalchemy import insert, or_, select, update

from schedule_zero.errors import AlreadyExists, ScheduleZeroError
from schedule_zero.model import Event
from schedule_zero.rules.change_log import ChangeVerb, listed
from schedule_zero.store import tables
from schedule_zero.store.changes import record
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

ANY = "*"
K = tables.node_keys.c
_FIELDS = ("id", "public_key", "node_id", "handlers", "created_us", "revoked_us")
_ALL = Query(select(*(K[name] for name in _FIELDS)).order_by(K.created_us.desc(), K.id.desc()))


class NodeKey(Struct, kw_only=True):
    id: str
    # Z85, 40 characters.
    public_key: str
    # ``*``: any node id.
    node_id: str = ANY
    # ``["*"]``: any handler.
    handlers: list[str] = field(default_factory=lambda: [ANY])
    created_us: int
    revoked_us: int | None = None


class Revoke(Struct):
    id: str
    now_us: int


def create(tx: Tx, args: list[NodeKey]) -> list[ScheduleZeroError | None]:
    """``AlreadyExists`` if the id or the public key is known (a revoked key never comes back)."""
    answers: list[ScheduleZeroError | None] = []
    for n, key in enumerate(args):
        taken = or_(K.id == key.id, K.public_key == key.public_key)
        if tx.execute(select(K.id).where(taken)).first() is not None:
            answers.append(AlreadyExists(f"the node key {key.id!r}, or its public key, is known already"))
            continue
        values = {name: getattr(key, name) for name in _FIELDS}
        values["handlers"] = msgspec.json.encode(key.handlers).decode()
        tx.execute(insert(tables.node_keys).values(**values))
        tx.emit(Event("node_key.created", key.id, {"node_id": key.node_id, "handlers": key.handlers}))
        record(tx, tx.actor(n), ChangeVerb.NODE_KEY_CREATED, key.id, after=_said(key))
        answers.append(None)
    return answers


def revoke(tx: Tx, args: list[Revoke]) -> list[NodeKey | None]:
    """The key, if it was in force until now. Emits ``node_key.revoked``."""
    answers: list[NodeKey | None] = []
    for n, arg in enumerate(args):
        query = select(*(K[name] for name in _FIELDS)).where(K.id == arg.id, K.revoked_us.is_(None))
        row = tx.execute(query).one_or_none()
        if row is None:
            answers.append(None)
            continue
        tx.execute(update(tables.node_keys).where(K.id == arg.id).values(revoked_us=arg.now_us))
        key = _key(row)
        key.revoked_us = arg.now_us
        tx.emit(Event("node_key.revoked", arg.id, {"node_id": key.node_id}))
        record(tx, tx.actor(n), ChangeVerb.NODE_KEY_REVOKED, arg.id, before=_said(key))
        answers.append(key)
    return answers


def all(conn: Connection) -> list[NodeKey]:  # noqa: A001 - read as node_keys.all(conn)
    """Revoked ones too, newest first."""
    return [_key(row) for row in _ALL.rows(conn)]


def active(conn: Connection) -> dict[str, NodeKey]:
    """Those in force, by public key."""
    return {key.public_key: key for key in all(conn) if key.revoked_us is None}


def _said(key: NodeKey) -> dict[str, Any]:
    """For the change log: what it is for."""
    return {"node_id": key.node_id, "handlers": listed(key.handlers)}


def _key(row: Sequence[Any]) -> NodeKey:
    values = dict(zip(_FIELDS, row, strict=True))
    values["handlers"] = msgspec.json.decode(values["handlers"], type=list[str])
    return NodeKey(**values)
