"""API tokens: only their hashes are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, field
from sqlalchemy import insert, or_, select, update

from schedule_zero.clock import rfc3339
from schedule_zero.errors import AlreadyExists, ScheduleZeroError
from schedule_zero.model import Event, Role
from schedule_zero.rules.change_log import ChangeVerb, listed
from schedule_zero.store import tables
from schedule_zero.store.changes import record
from schedule_zero.store.node_keys import ANY
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = tables.api_tokens.c
_FIELDS = ("id", "name", "role", "hash", "bot_id", "handlers", "created_us", "expires_us", "revoked_us")
_ALL = Query(select(*(T[name] for name in _FIELDS)).order_by(T.created_us.desc(), T.id.desc()))


class ApiToken(Struct, kw_only=True):
    id: str
    name: str
    role: Role
    # Hex SHA-256 of the token.
    hash: str
    # Of a worker: which bot it may be, and of which handlers it may run jobs. ``*``: any.
    bot_id: str = ANY
    handlers: list[str] = field(default_factory=lambda: [ANY])
    created_us: int
    expires_us: int | None = None
    revoked_us: int | None = None

    def in_force(self, now_us: int) -> bool:
        return self.revoked_us is None and (self.expires_us is None or self.expires_us > now_us)


class Revoke(Struct):
    id: str
    now_us: int


def create(tx: Tx, args: list[ApiToken]) -> list[ScheduleZeroError | None]:
    """``AlreadyExists`` if the id, or the hash, or the name of a token that was not revoked is taken."""
    answers: list[ScheduleZeroError | None] = []
    for n, token in enumerate(args):
        taken = or_(T.id == token.id, T.hash == token.hash, (T.name == token.name) & T.revoked_us.is_(None))
        if tx.execute(select(T.id).where(taken)).first() is not None:
            answers.append(AlreadyExists(f"a token {token.name!r} exists already; revoke it or take another name"))
            continue
        values = {name: getattr(token, name) for name in _FIELDS}
        values["role"] = token.role.value
        values["handlers"] = msgspec.json.encode(token.handlers).decode()
        tx.execute(insert(tables.api_tokens).values(**values))
        tx.emit(Event("token.created", token.id, {"name": token.name, "role": token.role}))
        record(tx, tx.actor(n), ChangeVerb.TOKEN_CREATED, token.id, after=_said(token))
        answers.append(None)
    return answers


def revoke(tx: Tx, args: list[Revoke]) -> list[bool]:
    """Whether it was in force until now. Emits ``token.revoked``."""
    answers = []
    for n, arg in enumerate(args):
        in_force = select(*(T[name] for name in _FIELDS)).where(T.id == arg.id, T.revoked_us.is_(None))
        row = tx.execute(in_force).one_or_none()
        answers.append(row is not None)
        if row is not None:
            tx.execute(update(tables.api_tokens).where(T.id == arg.id).values(revoked_us=arg.now_us))
            tx.emit(Event("token.revoked", arg.id))
            record(tx, tx.actor(n), ChangeVerb.TOKEN_REVOKED, arg.id, before=_said(_token(row)))
    return answers


def all(conn: Connection) -> list[ApiToken]:  # noqa: A001 - read as tokens.all(conn)
    """Revoked ones too, newest first."""
    return [_token(row) for row in _ALL.rows(conn)]


def active(conn: Connection, now_us: int) -> dict[str, ApiToken]:
    """Those in force, by hash."""
    return {token.hash: token for token in all(conn) if token.in_force(now_us)}


def _said(token: ApiToken) -> dict[str, Any]:
    """For the change log: what it is good for, nothing of what it is."""
    return {
        "name": token.name,
        "role": token.role,
        "bot_id": token.bot_id,
        "handlers": listed(token.handlers),
        "expires": rfc3339(token.expires_us),
    }


def _token(row: Sequence[Any]) -> ApiToken:
    values = dict(zip(_FIELDS, row, strict=True))
    values["role"] = Role(values["role"])
    values["handlers"] = msgspec.json.decode(values["handlers"], type=list[str])
    return ApiToken(**values)
