"""Named calendars and every version that they had. Few, large (an iCalendar file may be in them), seldom written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy import delete as delete_rows

from schedule_zero.errors import AlreadyExists, NotFound, PreconditionFailed, ScheduleZeroError
from schedule_zero.model import Calendar, CalendarVersion, Event, Policies
from schedule_zero.rules.change_log import Actor, ChangeVerb, differing
from schedule_zero.store import tables
from schedule_zero.store.changes import record
from schedule_zero.store.idempotency import Keys
from schedule_zero.store.statements import Query
from schedule_zero.store.tx import IdempotencyRecord, IdempotentReplay, Page, Tx, parse_seq

if TYPE_CHECKING:
    from sqlalchemy import Connection

C = tables.calendars.c
V = tables.calendar_versions.c
_FIELDS = ("name", "version", "created_us", "updated_us", "document")


class Create(Struct, kw_only=True):
    """A calendar that must not exist yet. The store gives it its version and times."""

    name: str
    document: bytes
    idem: IdempotencyRecord | None = None


class Put(Struct, kw_only=True):
    """Replace or create a calendar. The same document again changes nothing, not even the version."""

    name: str
    document: bytes
    # The ``etag`` that must be the current one (If-Match); None: any, or none at all.
    if_match: str | None = None
    # If-None-Match: *
    create_only: bool = False


class PutAnswer(Struct, kw_only=True):
    calendar: Calendar
    created: bool
    changed: bool


class Delete(Struct, kw_only=True):
    name: str
    if_match: str | None = None


# --- verbs ------------------------------------------------------------------------------------------


def create(tx: Tx, args: list[Create]) -> list[Calendar | IdempotentReplay | ScheduleZeroError]:
    """Write new calendars. ``AlreadyExists``. Emits ``calendar.created``."""
    keys = Keys(tx, (arg.idem for arg in args))
    answers: list[Calendar | IdempotentReplay | ScheduleZeroError] = []
    for n, arg in enumerate(args):
        answer = keys.answer(arg.idem)
        if answer is not None:
            answers.append(answer)
        elif _current(tx, arg.name) is not None:
            answers.append(_taken(arg.name))
        else:
            answers.append(_write(tx, tx.actor(n), None, arg.name, arg.document))
            keys.accept(arg.idem)
    keys.write()
    return answers


def put(tx: Tx, args: list[Put]) -> list[PutAnswer | ScheduleZeroError]:
    """Replace or create. ``PreconditionFailed`` if ``if_match`` isn't its etag; ``AlreadyExists`` (``create_only``).

    Emits ``calendar.created`` or ``calendar.updated``.
    """
    answers: list[PutAnswer | ScheduleZeroError] = []
    for n, arg in enumerate(args):
        there = _current(tx, arg.name)
        refusal = _mismatch(arg.name, there, arg.if_match)
        if refusal is not None:
            answers.append(refusal)
        elif there is not None and arg.create_only:
            answers.append(_taken(arg.name))
        elif there is not None and there.document == arg.document:
            answers.append(PutAnswer(calendar=there, created=False, changed=False))
        else:
            written = _write(tx, tx.actor(n), there, arg.name, arg.document)
            answers.append(PutAnswer(calendar=written, created=there is None, changed=True))
    return answers


def delete(tx: Tx, args: list[Delete]) -> list[Calendar | ScheduleZeroError]:
    """Delete a calendar; its versions stay. ``NotFound``, ``PreconditionFailed``. Emits ``calendar.deleted``."""
    answers: list[Calendar | ScheduleZeroError] = []
    for n, arg in enumerate(args):
        there = _current(tx, arg.name)
        refusal = _mismatch(arg.name, there, arg.if_match)
        if there is None or refusal is not None:
            answers.append(refusal or NotFound(f"there is no calendar {arg.name!r}", id=arg.name))
            continue
        tx.execute(delete_rows(tables.calendars).where(C.name == arg.name))
        _keep(tx, arg.name, there.version + 1, there.document, deleted=True)
        tx.emit(Event("calendar.deleted", arg.name, {"version": there.version + 1}))
        before = {"version": there.version, **msgspec.json.decode(there.document)}
        record(tx, tx.actor(n), ChangeVerb.CALENDAR_DELETED, arg.name, before=before)
        answers.append(there)
    return answers


def _write(tx: Tx, actor: Actor | None, there: Calendar | None, name: str, document: bytes) -> Calendar:
    if there is not None:
        version, created_us = there.version + 1, there.created_us
    else:
        last = tx.execute(select(func.max(V.version)).where(V.name == name)).scalar_one()
        version, created_us = (last or 0) + 1, tx.now_us
    row = Calendar(name=name, document=document, version=version, created_us=created_us, updated_us=tx.now_us)
    values = {field: getattr(row, field) for field in _FIELDS} | {"document": document.decode()}
    if there is None:
        tx.execute(insert(tables.calendars).values(values))
    else:
        tx.execute(update(tables.calendars).where(C.name == name).values(values))
    _keep(tx, name, version, document)
    tx.emit(Event("calendar.created" if there is None else "calendar.updated", name, {"version": version}))
    _record(tx, actor, there, row)
    return row


def _record(tx: Tx, actor: Actor | None, old: Calendar | None, new: Calendar) -> None:
    after: dict[str, Any] = msgspec.json.decode(new.document)
    if old is None:
        record(tx, actor, ChangeVerb.CALENDAR_CREATED, new.name, after={"version": new.version, **after})
        return
    before, after = differing(msgspec.json.decode(old.document), after)
    before, after = {"version": old.version, **before}, {"version": new.version, **after}
    record(tx, actor, ChangeVerb.CALENDAR_UPDATED, new.name, before=before, after=after)


def _keep(tx: Tx, name: str, version: int, document: bytes, *, deleted: bool = False) -> None:
    values = {"name": name, "version": version, "from_us": tx.now_us, "deleted": int(deleted)}
    tx.execute(insert(tables.calendar_versions).values({**values, "document": document.decode()}))


def _current(tx: Tx, name: str) -> Calendar | None:
    row = tx.execute(select(*(C[field] for field in _FIELDS)).where(C.name == name)).first()
    return None if row is None else _calendar(tuple(row))


# --- reads ------------------------------------------------------------------------------------------

_GET = Query(select(*(C[field] for field in _FIELDS)).where(C.name == bindparam("wanted")))
_NAMES = Query(select(C.name).where(C.name > bindparam("after")).order_by(C.name).limit(bindparam("most")))
_COUNT = Query(select(func.count()).select_from(tables.calendars))
_GET_VERSION = Query(
    select(V.name, V.version, V.from_us, V.deleted, V.document).where(
        V.name == bindparam("wanted"), V.version == bindparam("number")
    )
)
_VERSIONS = Query(
    select(V.name, V.version, V.from_us, V.deleted)
    .where(V.name == bindparam("wanted"), V.version < bindparam("below"))
    .order_by(V.version.desc())
    .limit(bindparam("most"))
)
_S = tables.schedules.c
_USERS = Query(
    select(_S.id, _S.policies).where(_S.policies.is_not(None), _S.policies.like(bindparam("pattern"))).order_by(_S.id)
)
_BEYOND = 1 << 62
_policies = msgspec.json.Decoder(Policies).decode


def get(conn: Connection, name: str) -> Calendar | None:
    """One calendar as it is now."""
    row = _GET.one(conn, wanted=name)
    return None if row is None else _calendar(row)


def find(conn: Connection, *, cursor: str | None = None, limit: int = 50) -> Page[str]:
    """Names, in order: documents may be large, and are read one by one. The cursor is the last name."""
    names = [row[0] for row in _NAMES.rows(conn, after=cursor or "", most=limit + 1)]
    return Page(names[:limit], names[limit - 1] if len(names) > limit else None)


def count(conn: Connection) -> int:
    """How many calendars there are."""
    row = _COUNT.one(conn)
    return 0 if row is None else int(row[0])


def get_version(conn: Connection, name: str, version: int) -> CalendarVersion | None:
    """One version, the current one or an earlier one, with its document; also of a calendar that was deleted."""
    row = _GET_VERSION.one(conn, wanted=name, number=version)
    if row is None:
        return None
    return CalendarVersion(name=row[0], version=row[1], from_us=row[2], deleted=bool(row[3]), document=row[4].encode())


def versions(conn: Connection, name: str, *, cursor: str | None = None, limit: int = 50) -> Page[CalendarVersion]:
    """All versions of a calendar, newest first, without their documents; they outlive it."""
    below = parse_seq(cursor)
    rows = _VERSIONS.rows(conn, wanted=name, below=_BEYOND if below is None else below, most=limit + 1)
    found = [CalendarVersion(name=row[0], version=row[1], from_us=row[2], deleted=bool(row[3])) for row in rows]
    return Page(found[:limit], str(found[limit - 1].version) if len(found) > limit else None)


def users(conn: Connection, name: str) -> list[str]:
    """The ids of the schedules whose policies name this calendar."""
    # The pattern finds whatever has the name between quotes; what it means is looked at here.
    rows = _USERS.rows(conn, pattern=f'%"{name}"%')
    return [row[0] for row in rows if name in _named(_policies(row[1]))]


def use_counts(conn: Connection) -> dict[str, int]:
    """How many schedules name each calendar; one look at the policies of all schedules."""
    counts: dict[str, int] = {}
    for row in _USERS.rows(conn, pattern="%"):
        for name in _named(_policies(row[1])):
            counts[name] = counts.get(name, 0) + 1
    return counts


def business_users(conn: Connection) -> list[str]:
    """The ids of the schedules that keep to the business days of any calendar."""
    rows = _USERS.rows(conn, pattern='%"business_days":{%')
    return [row[0] for row in rows if _policies(row[1]).business_days is not None]


def _named(policies: Policies) -> set[str]:
    business = policies.business_days
    return {*policies.exclude, *policies.require, *([business.calendar] if business is not None else [])}


# --- what the verbs share ---------------------------------------------------------------------------


def etag(row: Calendar) -> str:
    """What If-Match compares. Versions go on after a deletion, so it is never given out twice."""
    return str(row.version)


def _mismatch(name: str, there: Calendar | None, if_match: str | None) -> PreconditionFailed | None:
    if if_match is None or (there is not None and etag(there) == if_match):
        return None
    now = "it does not exist" if there is None else f"it is at version {etag(there)}"
    return PreconditionFailed(
        f"calendar {name!r} is not at version {if_match} any more: {now}",
        version=None if there is None else etag(there),
    )


def _taken(name: str) -> AlreadyExists:
    return AlreadyExists(f"a calendar {name!r} exists already", id=name)


def _calendar(row: Sequence[Any]) -> Calendar:
    values = dict(zip(_FIELDS, row, strict=True))
    return Calendar(**{**values, "document": values["document"].encode()})
