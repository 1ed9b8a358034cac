"""Sessions of browsers: only the hashes of their cookies are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct
from sqlalchemy import delete, insert, select, update

from schedule_zero.model import Event, Role
from schedule_zero.rules.change_log import ChangeVerb
from schedule_zero.store import tables
from schedule_zero.store.changes import record
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

S = tables.browser_sessions.c
_FIELDS = (
    "id", "hash", "before_hash", "xsrf", "token_id", "role", "created_us", "rotated_us", "seen_us", "expires_us",
    "agent", "address",
)  # fmt: skip
_ALL = Query(select(*(S[name] for name in _FIELDS)).order_by(S.created_us.desc(), S.id.desc()))


class BrowserSession(Struct, kw_only=True):
    """One browser that has signed in."""

    id: str
    # Hex SHA-256 of the cookie; and of the one before, until the browser has shown that it has the new one.
    hash: str
    before_hash: str | None = None
    # What a form of this session has to carry.
    xsrf: str
    # The API token by which it came, and by whose end it ends.
    token_id: str
    # What it may do: never more than the token.
    role: Role
    created_us: int
    rotated_us: int
    seen_us: int
    expires_us: int
    # What the browser calls itself, and from where it came.
    agent: str
    address: str


class Seen(Struct):
    """What a session did last: its cookies as they are now, and when it was used."""

    id: str
    hash: str
    before_hash: str | None
    rotated_us: int
    seen_us: int


class LinkMade(Struct):
    """A link by which one browser may sign in; its secret is nowhere but with who made it."""

    id: str
    role: Role


def link_made(tx: Tx, args: list[LinkMade]) -> list[None]:
    """Emits ``session.link_created``. Nothing else is kept of it."""
    for n, link in enumerate(args):
        tx.emit(Event("session.link_created", link.id, {"role": link.role}))
        record(tx, tx.actor(n), ChangeVerb.SESSION_LINK_CREATED, link.id, after={"role": link.role.value})
    return [None] * len(args)


def create(tx: Tx, args: list[BrowserSession]) -> list[None]:
    """Emits ``session.created``."""
    for n, session in enumerate(args):
        values = {name: getattr(session, name) for name in _FIELDS}
        values["role"] = session.role.value
        tx.execute(insert(tables.browser_sessions).values(**values))
        tx.emit(Event("session.created", session.id, {"role": session.role, "token_id": session.token_id}))
        record(tx, tx.actor(n), ChangeVerb.SESSION_CREATED, session.id, after=_said(session.role.value, session.agent))
    return [None] * len(args)


def seen(tx: Tx, args: list[Seen]) -> list[None]:
    """Write down what changes while a session is used; nothing if it is gone."""
    for arg in args:
        tx.execute(
            update(tables.browser_sessions)
            .where(S.id == arg.id)
            .values(hash=arg.hash, before_hash=arg.before_hash, rotated_us=arg.rotated_us, seen_us=arg.seen_us)
        )
    return [None] * len(args)


def end(tx: Tx, args: list[str]) -> list[bool]:
    """Whether there was such a session. Emits ``session.ended``. What nobody asked for (it is over) isn't recorded."""
    answers = []
    for n, session_id in enumerate(args):
        gone = delete(tables.browser_sessions).where(S.id == session_id).returning(S.role, S.agent)
        row = tx.execute(gone).one_or_none()
        answers.append(row is not None)
        if row is not None:
            tx.emit(Event("session.ended", session_id))
            if (actor := tx.actor(n)) is not None:
                record(tx, actor, ChangeVerb.SESSION_ENDED, session_id, before=_said(*row))
    return answers


def _said(role: str, agent: str) -> dict[str, Any]:
    """For the change log."""
    return {"role": role, "agent": agent}


def all(conn: Connection) -> list[BrowserSession]:  # noqa: A001 - read as sessions.all(conn)
    """Newest first."""
    found = []
    for row in _ALL.rows(conn):
        values = dict(zip(_FIELDS, row, strict=True))
        values["role"] = Role(values["role"])
        found.append(BrowserSession(**values))
    return found
