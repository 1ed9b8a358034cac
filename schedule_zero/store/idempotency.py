"""Idempotency keys: written in the transaction of the request they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from sqlalchemy import bindparam, delete, select

from schedule_zero.errors import IdempotencyMismatch
from schedule_zero.store.statements import Query, bulk_insert, bulk_select
from schedule_zero.store.tables import idempotency
from schedule_zero.store.tx import IdempotencyRecord, IdempotentReplay, Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["IdempotencyRecord", "IdempotentReplay", "Keys", "Prune", "get", "prune"]

_FIELDS = ("key", "fingerprint", "status", "response", "created_us")
_LOOKUP = bulk_select(idempotency, ("key",), _FIELDS)
_INSERT = bulk_insert(idempotency, _FIELDS)
_GET = Query(select(*(idempotency.c[name] for name in _FIELDS)).where(idempotency.c.key == bindparam("wanted")))


class Prune(Struct):
    before_us: int
    limit: int = 5000


class Keys:
    """The keys of a batch of requests, in order: the second of two with the same key is a replay of the first."""

    def __init__(self, tx: Tx, records: Iterable[IdempotencyRecord | None]) -> None:
        self._tx = tx
        self._new: list[IdempotencyRecord] = []
        wanted = dict.fromkeys((record.key,) for record in records if record is not None)
        self._known = {row[0]: _record(row) for row in tx.lookup(_LOOKUP, list(wanted))} if wanted else {}

    def answer(self, record: IdempotencyRecord | None) -> IdempotentReplay | IdempotencyMismatch | None:
        """None if the request is to be done, else the earlier answer, or the mismatch."""
        first = None if record is None else self._known.get(record.key)
        if record is None or first is None:
            return None
        if first.fingerprint != record.fingerprint:
            return IdempotencyMismatch(
                "this Idempotency-Key was used with a different request; take a new key for a new request"
            )
        return IdempotentReplay(status=first.status, response=first.response)

    def accept(self, record: IdempotencyRecord | None) -> None:
        """The request is done in this transaction."""
        if record is not None:
            self._known[record.key] = record
            self._new.append(record)

    def write(self) -> None:
        self._tx.bulk(_INSERT, [(r.key, r.fingerprint, r.status, r.response.decode(), r.created_us) for r in self._new])


def _record(row: Sequence[Any]) -> IdempotencyRecord:
    return IdempotencyRecord(key=row[0], fingerprint=row[1], status=row[2], response=row[3].encode(), created_us=row[4])


def get(conn: Connection, key: str) -> IdempotencyRecord | None:
    row = _GET.one(conn, wanted=key)
    return None if row is None else _record(row)


def prune(tx: Tx, args: list[Prune]) -> list[int]:
    """Forget keys older than ``before_us``; how many. Repeat until it is 0."""
    deleted: list[int] = []
    for arg in args:
        old = (
            select(idempotency.c.key)
            .where(idempotency.c.created_us < arg.before_us)
            .order_by(idempotency.c.created_us)
            .limit(arg.limit)
        )
        deleted.append(tx.execute(delete(idempotency).where(idempotency.c.key.in_(old))).rowcount)
    return deleted
