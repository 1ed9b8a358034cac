"""The change log: a row for each change, in the transaction of the change itself; found newest first.

A verb of the store calls ``record`` (or ``record_deed``) beside what it changes. What has no write of its own in the
store (the registry is read anew, say) is written by the verb ``add``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from sqlalchemy import ColumnElement, bindparam, select, text, update

from schedule_zero.rules.change_log import MAX_NOTE, SERVER, Actor, ChangeVerb, bounded, listed
from schedule_zero.store import tables
from schedule_zero.store.oldest import Oldest, Prune
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import Page, Tx, parse_seq

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["Change", "Entry", "Filter", "Prune", "add", "find", "prune", "record", "record_deed"]

C = tables.changes.c
_FIELDS = (
    "seq", "at_us", "noun", "verb", "subject", "by", "token_id", "address", "request_id", "count", "note", "before",
    "after",
)  # fmt: skip
_COLUMNS = tuple(C[name] for name in _FIELDS)
_OLDEST = Oldest(tables.changes, "at_us")
# Looked at for one page, where no index answers.
SCAN_ROWS = 20_000
# ``at_us`` falls where the clock is set back; by more than this, rows of that time may be passed over.
AT_SLACK_US = 60_000_000
_BEYOND = (1 << 63) - 1


class Change(Struct, kw_only=True):
    """One row: ``by`` did ``verb`` to ``count`` things. What is not known, or was not, is None."""

    seq: int
    at_us: int
    noun: str
    verb: str
    # Of one thing its id; of many that of the deed.
    subject: str
    by: str
    token_id: str | None
    address: str | None
    request_id: str | None
    count: int
    note: str | None
    # JSON objects of what was changed, and of what describes it.
    before: bytes | None
    after: bytes | None


class Entry(Struct, kw_only=True):
    """A change that has no other write."""

    verb: ChangeVerb
    subject: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    note: str = ""


class Filter(Struct, kw_only=True):
    """Which changes; None means any. ``since_us`` and ``until_us`` are both included."""

    noun: str | None = None
    verb: str | None = None
    subject: str | None = None
    by: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    cursor: str | None = None
    limit: int = 50


# --- writes -----------------------------------------------------------------------------------------


def record(
    tx: Tx,
    actor: Actor | None,
    verb: ChangeVerb,
    subject: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    count: int = 1,
    note: str | None = None,
) -> None:
    """Add a row, to be written with the transaction. ``actor`` None: the server.

    Never hand it a secret, or what one can be computed from: it shows what it gets to operators, for a year.
    """
    who = actor or SERVER
    tx.changes.append(
        (
            tx.now_us,
            verb.noun,
            verb.value,
            subject,
            who.name,
            who.token_id,
            who.address,
            who.request_id,
            count,
            (note or who.note)[:MAX_NOTE],
            bounded(before),
            bounded(after),
        )
    )


def record_deed(
    tx: Tx,
    actor: Actor | None,
    count: int,
    *,
    ids: Sequence[str] = (),
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Record an operation as what its actor says that it is; without a deed, and where nothing was done: not at all.

    ``ids``: which things, where they are not the subject. Steps of one deed add up in the row of the first.
    """
    if actor is None or actor.deed is None or not count:
        return
    deed = actor.deed
    if deed.in_steps and _add_to(tx, deed.verb, deed.subject, count):
        return
    what = {**deed.asked, **(after or {})}
    if ids and list(ids) != [deed.subject]:
        what["ids"] = listed(ids)
    record(tx, actor, deed.verb, deed.subject, before=before, after=what or None, count=count)


def _add_to(tx: Tx, verb: ChangeVerb, subject: str, count: int) -> bool:
    """Whether an earlier transaction has begun the row."""
    begun = update(tables.changes).where(C.subject == subject, C.verb == verb.value)
    return tx.execute(begun.values(count=C.count + count)).rowcount > 0


def add(tx: Tx, args: list[Entry]) -> list[None]:
    """Write changes that have no other write."""
    for n, arg in enumerate(args):
        record(tx, tx.actor(n), arg.verb, arg.subject, before=arg.before, after=arg.after, note=arg.note)
    return [None] * len(args)


def prune(tx: Tx, args: list[Prune]) -> list[int]:
    """How many rows were deleted. Repeat until it is 0."""
    return [_OLDEST.prune(tx, arg) for arg in args]


# --- reads ------------------------------------------------------------------------------------------


def find(conn: Connection, wanted: Filter) -> Page[Change]:
    """Newest first. A malformed cursor raises ``InvalidField``.

    A page may be short, even empty, and still have a cursor: it looks at ``SCAN_ROWS`` rows at most.
    """
    below, above = parse_seq(wanted.cursor), 0
    if wanted.until_us is not None:
        beyond = _OLDEST.written.first(conn, wanted.until_us + AT_SLACK_US)
        below = beyond if below is None or (beyond is not None and beyond < below) else below
    if wanted.since_us is not None:
        first = _OLDEST.written.first(conn, wanted.since_us - AT_SLACK_US)
        if first is None:
            return Page([])
        above = first - 1
    given = {name: getattr(wanted, name) for name in _CHECKS if getattr(wanted, name) is not None}
    if wanted.verb is not None:
        # There is an index for it.
        given.setdefault("noun", wanted.verb.partition(".")[0])
    index = "subject" if wanted.subject is not None else "noun" if given.get("noun", "schedule") != "schedule" else ""
    page, stop = _queries(tuple(given), index)
    bounds = {"above": above, "below": _BEYOND if below is None else below}
    rows = [_change(row) for row in page.rows(conn, **given, **bounds, most=wanted.limit + 1)]
    if len(rows) > wanted.limit:
        return Page(rows[: wanted.limit], str(rows[wanted.limit - 1].seq))
    stopped = stop.one(conn, **{name: given[name] for name in given if name == index}, **bounds)
    return Page(rows, None if stopped is None else str(stopped[0]))


# What a filter says, and its column.
_CHECKS = {
    "subject": C.subject,
    "noun": C.noun,
    "verb": C.verb,
    "by": C.by,
    "since_us": C.at_us,
    "until_us": C.at_us,
}


@cache
def _queries(given: tuple[str, ...], index: str) -> tuple[Query, Query]:
    """The page, and where a walk that was cut short stopped. What the index does not answer is checked on the way."""
    checked = [name for name in given if name != index]
    columns = {_CHECKS[name].name: _CHECKS[name] for name in checked}
    seen = select(C.seq, *columns.values()).where(C.seq > bindparam("above"), C.seq < bindparam("below"))
    if index:
        seen = seen.where(_CHECKS[index] == bindparam(index))
    if index == "noun":
        seen = seen.where(text(tables.IS_SELDOM))
    seen = seen.order_by(C.seq.desc())
    walk = seen.limit(SCAN_ROWS).subquery("seen")
    conditions = [_holds(walk.c[_CHECKS[name].name], name) for name in checked]
    matching = select(walk.c.seq).where(*conditions).limit(bindparam("most"))
    page = select(*_COLUMNS).where(C.seq.in_(matching)).order_by(C.seq.desc())
    stop = seen.with_only_columns(C.seq).limit(1).offset(SCAN_ROWS - 1)
    return Query(page), Query(stop)


def _holds(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    if name == "since_us":
        return column >= bindparam(name)
    if name == "until_us":
        return column <= bindparam(name)
    return column == bindparam(name)


def _change(row: Sequence[Any]) -> Change:
    values = dict(zip(_FIELDS, row, strict=True))
    for name in ("token_id", "address", "request_id", "note"):
        values[name] = values[name] or None
    for name in ("before", "after"):
        values[name] = values[name].encode() or None
    return Change(**values)
