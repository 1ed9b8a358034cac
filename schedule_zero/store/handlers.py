"""Handlers and their methods as nodes declare them (C19)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from sqlalchemy import delete, insert, select, update

from schedule_zero.job_options import JobOptions
from schedule_zero.model import Event, Handler, JobMethod
from schedule_zero.store import tables
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

H = tables.handlers.c
M = tables.handler_methods.c

_METHODS = (M.name, M.version, M.gone, M.options, M.doc, M.schema, M.position)
_HANDLERS = Query(select(H.handler_id, H.registered_us, H.updated_us).order_by(H.handler_id))
_ALL_METHODS = Query(select(M.handler_id, *_METHODS).where(M.gone == 0).order_by(M.handler_id, M.position))


class Declare(Struct, kw_only=True):
    handler_id: str
    methods: list[JobMethod]
    # The node that declares it; "" for an operator (handler_registry.yaml).
    node_id: str
    now_us: int


class Touch(Struct, kw_only=True):
    handler_ids: list[str]
    now_us: int


def touch(tx: Tx, args: list[Touch]) -> list[None]:
    """Note that what these handlers show has changed: who serves them, and so whether they are connected."""
    for arg in args:
        tx.execute(update(tables.handlers).where(H.handler_id.in_(arg.handler_ids)).values(updated_us=arg.now_us))
    return [None] * len(args)


def declare(tx: Tx, args: list[list[Declare]]) -> list[list[Handler]]:
    """Register what a node serves; the handlers as stored, with the methods' versions, in order.

    The declaration replaces the handler's methods. A changed schema is a new version of the method; a method that
    went and comes back goes on counting. Unchanged: nothing is written. Emits
    ``handler.registered``/``handler.changed``.
    """
    return [[_declare(tx, declaration) for declaration in arg] for arg in args]


def _declare(tx: Tx, declared: Declare) -> Handler:
    id_ = declared.handler_id
    handler = tx.execute(select(H.registered_us, H.updated_us).where(H.handler_id == id_)).one_or_none()
    known = {row.name: row for row in tx.execute(select(*_METHODS).where(M.handler_id == id_)).all()}
    methods: list[JobMethod] = []
    changes: list[dict[str, Any]] = []
    for position, method in enumerate(declared.methods):
        stored = known.get(method.name)
        version = 1
        if stored is not None:
            version = stored.version + (stored.schema != method.schema.decode())
        row = {
            "name": method.name,
            "version": version,
            "gone": 0,
            "options": msgspec.json.encode(method.options).decode(),
            "doc": method.doc,
            "schema": method.schema.decode(),
            "position": position,
        }
        if stored is None or row != stored._asdict():
            changes.append({"handler_id": id_, **row})
        methods.append(msgspec.structs.replace(method, version=version))
    named = {method.name for method in methods}
    gone = [name for name, row in known.items() if name not in named and not row.gone]
    if handler is not None and not changes and not gone:
        return Handler(
            handler_id=id_, methods=methods, registered_us=handler.registered_us, updated_us=handler.updated_us
        )
    _write(tx, declared, new=handler is None, changes=changes, gone=gone)
    return Handler(
        handler_id=id_,
        methods=methods,
        registered_us=declared.now_us if handler is None else handler.registered_us,
        updated_us=declared.now_us,
    )


def _write(tx: Tx, declared: Declare, *, new: bool, changes: list[dict[str, Any]], gone: list[str]) -> None:
    id_, now_us = declared.handler_id, declared.now_us
    if new:
        tx.execute(insert(tables.handlers).values(handler_id=id_, registered_us=now_us, updated_us=now_us))
    else:
        tx.execute(update(tables.handlers).where(H.handler_id == id_).values(updated_us=now_us))
    for row in changes:
        tx.execute(delete(tables.handler_methods).where(M.handler_id == id_, M.name == row["name"]))
        tx.execute(insert(tables.handler_methods).values(**row))
    for name in gone:
        tx.execute(update(tables.handler_methods).where(M.handler_id == id_, M.name == name).values(gone=1))
    kind = "handler.registered" if new else "handler.changed"
    tx.emit(Event(kind, id_, {"node_id": declared.node_id, "methods": [method.name for method in declared.methods]}))


def all(conn: Connection) -> list[Handler]:  # noqa: A001 - read as handlers.all(conn)
    """Every handler ever declared, by id, with the methods of its newest declaration in their order."""
    handlers = {
        row[0]: Handler(handler_id=row[0], methods=[], registered_us=row[1], updated_us=row[2])
        for row in _HANDLERS.rows(conn)
    }
    for handler_id, name, version, _, options, doc, schema, _ in _ALL_METHODS.rows(conn):
        handlers[handler_id].methods.append(
            JobMethod(
                name=name,
                schema=schema.encode(),
                options=msgspec.json.decode(options, type=JobOptions),
                doc=doc,
                version=version,
            )
        )
    return list(handlers.values())
