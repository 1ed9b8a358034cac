"""The final store: what was there when a run was over, as the checker needs it.

Read through ``store.snapshot``, never from a server. A million executions are one struct each, with shared words
(states, names), and without their payloads: of a result there is only its CRC-32.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec
from msgspec import Struct

from schedule_zero.errors import InvalidCalendar
from schedule_zero.model import Schedule, ServerRun
from schedule_zero.store import snapshot
from schedule_zero.store.schedule_rows import READ
from schedule_zero.store.schedule_rows import schedule as schedule_of
from schedule_zero.timing.calendar_parse import load_calendar

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from schedule_zero.timing.calendars import NamedCalendar

CLEARED = -1
_intern = sys.intern


class Row(Struct, gc=False):
    """An execution at the end."""

    id: str
    handler_id: str
    state: str
    origin: str
    schedule_id: str | None = None
    nominal_us: int | None = None
    not_before_us: int | None = None
    start_by_us: int | None = None
    attempt: int = 0
    token: int = 0
    node_id: str | None = None
    lost_count: int = 0
    cancel_requested: int = 0
    created_us: int = 0
    dispatched_us: int | None = None
    started_us: int | None = None
    finished_us: int | None = None
    stored_us: int | None = None
    group_id: str | None = None
    idempotency_key: str | None = None
    options: str | None = None
    # Which nodes it may run on, if it is not all.
    lane: str | None = None
    # Held back by a limit on its key, perhaps.
    concurrency_key: str | None = None
    rate_key: str | None = None
    # CRC-32 of the result as JSON.
    result: int | None = None
    # The type of the error.
    error: str | None = None


class AttemptRow(Struct, gc=False):
    """An attempt that is over while its execution went on; and one whose result was refused (``attempt`` 0)."""

    execution_id: str
    attempt: int
    token: int
    node_id: str | None
    outcome: str
    dispatched_us: int | None = None
    started_us: int | None = None
    finished_us: int | None = None


class FireRow(Struct, gc=False):
    """A row of the ledger."""

    seq: int
    schedule_id: str
    generation: int
    nominal_us: int
    outcome: str
    reason: str | None
    execution_id: str | None
    count: int
    last_nominal_us: int | None
    decided_us: int
    detail: str | None = None

    @property
    def ran(self) -> bool:
        return self.outcome in ("executed", "caught_up")


class ScheduleRow(Struct):
    """A schedule, and what it says of its own ledger."""

    schedule: Schedule
    executed: int
    caught_up: int
    skipped: int
    missed: int


class VersionRow(Struct):
    """A version that is over."""

    schedule: Schedule
    from_us: int
    to_us: int
    deleted: bool


class GroupRow(Struct):
    id: str
    total: int
    completed: int
    failed: int
    cancelled: int
    state: str


class MethodRow(Struct):
    handler_id: str
    name: str
    version: int


class FreezeRow(Struct):
    from_us: int
    # As it ended, or is going to; None: somebody has to thaw it.
    to_us: int | None
    thawed: bool


class NodeEvent(Struct):
    """``node.lost``, ``node.online``, …: when the server told it."""

    kind: str
    node_id: str
    at_us: int


class FinalStore(Struct, kw_only=True):
    """Everything."""

    damage: list[str] = []
    executions: list[Row] = []
    attempts: list[AttemptRow] = []
    fires: list[FireRow] = []
    schedules: list[ScheduleRow] = []
    versions: list[VersionRow] = []
    groups: list[GroupRow] = []
    methods: list[MethodRow] = []
    lives: list[ServerRun] = []
    freezes: list[FreezeRow] = []
    node_events: list[NodeEvent] = []
    # Executions that the journal saw end more than once, and go on after their end.
    ended_again: list[str] = []
    revived: list[str] = []
    # How many executions retention, or an operator, has removed since the database was made.
    removed: int = 0
    # Every version of every named calendar, and which is in force.
    calendars: dict[tuple[str, int], bytes] = {}
    calendars_now: dict[str, int] = {}


class Book:
    """The named calendars of a final store (``timing.resolve.Calendars``)."""

    def __init__(self, final: FinalStore) -> None:
        self._final = final
        self._made: dict[tuple[str, int], NamedCalendar] = {}

    def get(self, name: str) -> NamedCalendar | None:
        version = self.current_version(name)
        return None if version is None else self.known_version(name, version)

    def current_version(self, name: str) -> int | None:
        return self._final.calendars_now.get(name)

    def known_version(self, name: str, version: int) -> NamedCalendar | None:
        document = self._final.calendars.get((name, version))
        if document is None:
            raise InvalidCalendar(f"version {version} of calendar {name!r} is not in the store")
        if (name, version) not in self._made:
            self._made[name, version] = load_calendar(document, name)
        return self._made[name, version]


def load(where: str | Path) -> FinalStore:
    """From a database file, a state directory, or a ``postgresql://`` URL. NotFound, ConfigError, StoreUnavailable."""
    with snapshot.opened(where) as conn:
        return read(conn)


def read(conn: Connection) -> FinalStore:
    """From a connection: also a query for ``Store.read``, where the store is a simulation's own."""
    final = FinalStore(damage=snapshot.damage(conn))
    final.executions = [_row(values) for values in snapshot.rows(conn, "executions", _ROW)]
    final.attempts = [AttemptRow(*values) for values in snapshot.rows(conn, "attempts", AttemptRow.__struct_fields__)]
    final.fires = _fires(conn)
    totals = ("executed", "caught_up", "skipped", "missed")
    for values in snapshot.rows(conn, "schedules", (*READ, *totals)):
        final.schedules.append(ScheduleRow(schedule_of(values), *values[len(READ) :]))
    final.versions = _versions(conn)
    final.groups = [GroupRow(*values) for values in snapshot.rows(conn, "execution_groups", GroupRow.__struct_fields__)]
    final.methods = [
        MethodRow(*values) for values in snapshot.rows(conn, "handler_methods", MethodRow.__struct_fields__)
    ]
    for epoch, started_us, alive_us, stopped_us in snapshot.rows(conn, "server_runs", _LIFE, order="epoch"):
        final.lives.append(ServerRun(epoch=epoch, started_us=started_us, alive_us=alive_us, stopped_us=stopped_us))
    for from_us, to_us, thawed_by in snapshot.rows(conn, "freezes", ("from_us", "to_us", "thawed_by")):
        final.freezes.append(FreezeRow(from_us, to_us, thawed_by is not None))
    for bucket_us, state, n in snapshot.rows(conn, "execution_counts", ("bucket_us", "state", "n")):
        final.removed += n if bucket_us == CLEARED and state != "created" else 0
    for name, version, document in snapshot.rows(conn, "calendar_versions", ("name", "version", "document")):
        final.calendars[name, version] = document.encode()
    final.calendars_now = dict(snapshot.rows(conn, "calendars", ("name", "version")))  # type: ignore[arg-type]
    _read_journal(conn, final)
    return final


_ROW = Row.__struct_fields__
_RESULT, _ERROR = _ROW.index("result"), _ROW.index("error")
_LIFE = ("epoch", "started_us", "alive_us", "stopped_us")


class _Error(Struct):
    type: str


_decode_error: Callable[[str], _Error] = msgspec.json.Decoder(_Error).decode


def _row(values: Sequence[Any]) -> Row:
    row = Row(*values)
    row.handler_id, row.state, row.origin = _intern(row.handler_id), _intern(row.state), _intern(row.origin)
    if row.schedule_id is not None:
        row.schedule_id = _intern(row.schedule_id)
    if row.node_id is not None:
        row.node_id = _intern(row.node_id)
    if row.options is not None:
        row.options = _intern(row.options)
    # As the database has them, these are documents.
    if values[_RESULT] is not None:
        row.result = crc32(values[_RESULT].encode())
    if values[_ERROR] is not None:
        row.error = _intern(_decode_error(values[_ERROR]).type)
    return row


def _fires(conn: Connection) -> list[FireRow]:
    fires = []
    for values in snapshot.rows(conn, "fires", FireRow.__struct_fields__, order="seq"):
        fire = FireRow(*values)
        fire.schedule_id, fire.outcome = _intern(fire.schedule_id), _intern(fire.outcome)
        fires.append(fire)
    return fires


def _versions(conn: Connection) -> list[VersionRow]:
    from schedule_zero.store.schedule_history import version_of

    found = []
    columns = ("from_us", "to_us", "deleted", "ended_by", "document")
    for values in snapshot.rows(conn, "schedule_versions", columns, order="schedule_id, generation, version"):
        version = version_of(values)
        found.append(VersionRow(version.schedule, version.from_us, version.to_us, version.deleted))
    return found


class _Told(Struct, array_like=True):
    kind: str
    id: str


_decode_told = msgspec.json.Decoder(list[_Told]).decode
_ENDED, _REVIVED = "execution.finished", frozenset({"execution.requeued", "execution.retry_scheduled"})


def _read_journal(conn: Connection, final: FinalStore) -> None:
    ended: set[str] = set()
    for created_us, body in snapshot.rows(conn, "events", ("created_us", "body"), order="seq"):
        for told in _decode_told(body):
            if told.kind == _ENDED:
                if told.id in ended:
                    final.ended_again.append(told.id)
                ended.add(told.id)
            elif told.kind in _REVIVED:
                if told.id in ended:
                    final.revived.append(told.id)
            elif told.kind.startswith("node."):
                final.node_events.append(NodeEvent(told.kind, told.id, created_us))
