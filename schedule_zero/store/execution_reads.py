"""Executions: the reads by id, lane or schedule, and the counts; ``execution_lists`` has the lists.

Every one is bounded: what it costs doesn't grow with the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Text,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
    text,
)

from schedule_zero.model import Attempt, Execution, GroupState, LaneKey, Origin, State
from schedule_zero.rules.grouping import MEMBERS
from schedule_zero.store import groups, tables
from schedule_zero.store.execution_rows import ATTEMPT_COLUMNS, COLUMNS, attempt, execution
from schedule_zero.store.statements import Query, ends
from schedule_zero.store.tx import CLEARED, LETTERS, STORED_NOW

if TYPE_CHECKING:
    from sqlalchemy import Connection

E = tables.executions.c


def _encode(names: tuple[str, ...]) -> str:
    return msgspec.json.encode(names).decode()


class Detail(Struct, kw_only=True):
    """One execution with its archived attempts, oldest first (the current attempt is part of ``execution``)."""

    execution: Execution
    attempts: list[Attempt]


class Kin(Struct, kw_only=True):
    """As much of an execution as another one shows of it."""

    id: str
    state: State
    origin: Origin
    created_us: int


class Family(Struct, kw_only=True):
    """What an execution took the place of (None: nothing, or it is cleared), and what took its place, newest first."""

    parent: Kin | None
    replacements: list[Kin]


class HandlerStats(Struct, kw_only=True):
    """Counts by state (what isn't terminal counts as ``open``), and the time the completed ones ran in all."""

    by_state: dict[str, int]
    completed_run_us: int = 0


class Stats(Struct, kw_only=True):
    """What is stored now, by state and by handler; ``lifetime`` also counts what was cleared."""

    total: int
    lifetime: int
    by_state: dict[str, int]
    completed_run_us: int
    handlers: dict[str, HandlerStats]


# --- single answers ---------------------------------------------------------------------------------

_GET = Query(select(*COLUMNS).where(E.id == bindparam("wanted")))
_KIN = (E.id, E.state, E.origin, E.created_us)
_KIN_BY_ID = Query(select(*_KIN).where(E.id == bindparam("wanted")))
_KIN_AFTER = Query(
    select(*_KIN).where(E.parent_id == bindparam("wanted")).order_by(E.seq.desc()).limit(bindparam("most"))
)
_ATTEMPTS = Query(
    select(*ATTEMPT_COLUMNS)
    .where(tables.attempts.c.execution_id == bindparam("wanted"))
    .order_by(tables.attempts.c.token)
)
_OLDEST = Query(select(E.created_us).order_by(E.seq).limit(1))
_RUNNING = Query(select(*COLUMNS).where(text("state = 'running'"), text(tables.NOT_COMPLETED)).order_by(E.seq))
_NEXT_DUE = Query(select(E.not_before_us).where(text(tables.IS_TIMED)).order_by(E.not_before_us).limit(1))
_DUE = Query(
    select(*COLUMNS)
    .where(text(tables.IS_TIMED), E.not_before_us <= bindparam("now"))
    .order_by(E.not_before_us)
    .limit(bindparam("most"))
)
_LANE = literal_column(tables.LANE, Text)
_PENDING_COUNTS = Query(
    select(E.handler_id, E.job_method, _LANE.label("in_lane"), func.count())
    .where(text(tables.IS_PENDING))
    .group_by(E.handler_id, E.job_method, _LANE)
)
aged = literal_column(tables.AGED, BigInteger)
_PENDING = (
    select(*COLUMNS)
    .where(
        text(tables.IS_PENDING),
        E.handler_id == bindparam("handler"),
        E.job_method == bindparam("method"),
        bindparam("lane") == _LANE,
    )
    .order_by(aged, E.id)
    .limit(bindparam("most"))
)
_WINDOW = Query(_PENDING)
# A row comparison would not be found in the index; two ranges are.
_AFTER = (aged >= bindparam("aged"), (aged > bindparam("aged")) | (E.id > bindparam("after")))
_WINDOW_AFTER = Query(_PENDING.where(*_AFTER))


class Without(Struct, frozen=True):
    """What is left out of a window: executions of these schedules, or with these keys."""

    schedule_ids: tuple[str, ...] = ()
    concurrency_keys: tuple[str, ...] = ()
    rate_keys: tuple[str, ...] = ()


NOTHING = Without()


@cache
def _window_without(dialect: str, *, after: bool) -> Query:
    """The same windows, for the few reads that leave something out: the lists come as JSON arrays."""
    unpack = "json_each(:{0})"
    if dialect != "sqlite":
        unpack = "jsonb_array_elements_text(CAST(:{0} AS jsonb)) AS each(value)"
    query = _PENDING.where(*_AFTER) if after else _PENDING
    for name in ("schedule_id", "concurrency_key", "rate_key"):
        listed = f"SELECT value FROM {unpack.format(f'without_{name}')}"
        query = query.where(text(f"(executions.{name} IS NULL OR executions.{name} NOT IN ({listed}))"))
    return Query(query)


_COUNTS = Query(
    select(
        tables.execution_counts.c.bucket_us,
        tables.execution_counts.c.handler_id,
        tables.execution_counts.c.state,
        tables.execution_counts.c.n,
        tables.execution_counts.c.run_us,
    ).where(tables.execution_counts.c.bucket_us <= STORED_NOW)
)
_OPEN_COUNTS = Query(
    select(E.state, func.count())
    .where(text("state IN ('running', 'scheduled', 'retry_scheduled', 'blocked')"), text(tables.NOT_COMPLETED))
    .group_by(E.state)
)


# What a backfill made is beside the schedule's fires.
_NOT_BACKFILL = text(f"origin <> '{Origin.BACKFILL.value}'")
# What counts as one run (``rules.grouping.unit_of``).
_ORIGINS = ", ".join(f"'{origin.value}'" for origin in sorted(MEMBERS))
_IS_MEMBER = f"group_id IS NOT NULL AND origin IN ({_ORIGINS})"
_UNIT = case((text(_IS_MEMBER), E.group_id), else_=E.id)
_OPEN = Query(
    select(E.schedule_id, _UNIT, E.state)
    .where(
        text(tables.NOT_COMPLETED),
        text(tables.IS_OPEN),
        E.schedule_id.is_not(None),
        _NOT_BACKFILL,
        or_(
            text(f"executions.{tables.IS_BLOCKED}"),
            E.schedule_id.in_(select(tables.schedules.c.id).where(text(tables.IS_TRACKED))),
        ),
    )
    .order_by(E.seq)
)
_OPEN_OF_ONE = Query(
    select(E.schedule_id, _UNIT, E.state)
    .where(E.schedule_id == bindparam("wanted"), text(tables.NOT_COMPLETED), text(tables.IS_OPEN), _NOT_BACKFILL)
    .order_by(E.seq)
)
_ENDED = Query(
    select(E.state, E.stored_us)
    .where(
        E.schedule_id == bindparam("wanted"),
        text(tables.IS_TELLING),
        _NOT_BACKFILL,
    )
    .order_by(E.seq.desc())
    .limit(bindparam("most"))
)
_PARTS_ENDED = Query(
    select(E.seq, E.id, _UNIT, E.state, E.stored_us)
    .where(
        E.schedule_id == bindparam("wanted"),
        text(tables.IS_TELLING),
        _NOT_BACKFILL,
        E.seq < bindparam("below"),
    )
    .order_by(E.seq.desc())
    .limit(bindparam("most"))
)
# Rows that are read at once where many of them are one run.
PARTS_ROWS = 500


def open_of_schedules(conn: Connection, schedule_id: str | None = None) -> list[tuple[str, str, State]]:
    """(schedule, execution or group, state) of what is not over, oldest first: of one schedule, or of all tracked ones.

    Those that are blocked are there even if nobody tracks their schedule any more, those of backfills never.
    """
    rows = _OPEN.rows(conn) if schedule_id is None else _OPEN_OF_ONE.rows(conn, wanted=schedule_id)
    return [(row[0], row[1], State(row[2])) for row in rows]


def ended_of_schedule(conn: Connection, schedule_id: str, limit: int, *, after_us: int = -1) -> list[State]:
    """How the newest executions of a schedule have ended, the newest first; without those up to ``after_us``.

    Only completions and failures: what was cancelled or came too late says nothing about the job.
    """
    # Not a condition of the query: the walk would go on through all the older ones.
    return [State(row[0]) for row in _ENDED.rows(conn, wanted=schedule_id, most=limit) if (row[1] or 0) > after_us]


def ended_runs_of_schedule(conn: Connection, schedule_id: str, limit: int, *, after_us: int = -1) -> list[State]:
    """``ended_of_schedule`` where runs may be groups: each counts once, as what it is when all of it is over."""
    seen: set[str] = set()
    found: list[State] = []
    below = (1 << 63) - 1
    more = True
    while more and len(found) < limit:
        rows = _PARTS_ENDED.rows(conn, wanted=schedule_id, below=below, most=PARTS_ROWS)
        more = len(rows) == PARTS_ROWS
        for below, id_, unit, state, stored_us in rows:  # noqa: B007  # the last one's is where the next page begins
            if unit in seen:
                continue
            seen.add(unit)
            ended = _group_end(conn, unit) if unit != id_ else (State(state), stored_us or 0)
            if ended is not None and ended[1] > after_us:
                found.append(ended[0])
    return found[:limit]


def _group_end(conn: Connection, group_id: str) -> tuple[State, int] | None:
    """As what a group ended, and when; None: it says nothing about the job (yet)."""
    group = groups.get(conn, group_id)
    if group is None or group.state in (GroupState.RUNNING, GroupState.CANCELLED):
        return None
    return State(group.state.value), group.finished_us or 0


_RUN_TIMES = (
    select(E.schedule_id, E.handler_id, E.job_method, (E.finished_us - E.started_us).label("run_us"))
    .where(E.seq > bindparam("above"), E.state == State.COMPLETED.value, E.started_us.is_not(None))
    .subquery()
)
_MEAN_RUN_TIMES = Query(
    select(
        _RUN_TIMES.c.schedule_id,
        _RUN_TIMES.c.handler_id,
        _RUN_TIMES.c.job_method,
        func.count(),
        func.sum(_RUN_TIMES.c.run_us),
    ).group_by(_RUN_TIMES.c.schedule_id, _RUN_TIMES.c.handler_id, _RUN_TIMES.c.job_method)
)
_ENDS = ends(tables.executions)


def run_times(conn: Connection, newest: int) -> dict[tuple[str, str, str], float]:
    """Mean seconds of the completed ones among the newest executions: by (schedule, handler, method), and with the
    schedule ``""`` by method alone.
    """
    last = _ENDS.one(conn)
    if last is None or last[1] is None:
        return {}
    sums: dict[tuple[str, str, str], tuple[int, int]] = {}
    for schedule_id, handler_id, job_method, n, run_us in _MEAN_RUN_TIMES.rows(conn, above=last[1] - newest):
        for schedule in {schedule_id or "", ""}:
            had = sums.get((schedule, handler_id, job_method), (0, 0))
            sums[schedule, handler_id, job_method] = (had[0] + n, had[1] + int(run_us))
    return {key: run_us / n / 1e6 for key, (n, run_us) in sums.items()}


def get(conn: Connection, execution_id: str) -> Detail | None:
    """One execution with its attempts."""
    row = _GET.one(conn, wanted=execution_id)
    if row is None:
        return None
    return Detail(execution=execution(row), attempts=[attempt(a) for a in _ATTEMPTS.rows(conn, wanted=execution_id)])


def family(conn: Connection, execution: Execution, *, limit: int) -> Family:
    """What it came from, and what came from it."""
    parent = None if execution.parent_id is None else _KIN_BY_ID.one(conn, wanted=execution.parent_id)
    after = _KIN_AFTER.rows(conn, wanted=execution.id, most=limit)
    return Family(parent=None if parent is None else _kin(parent), replacements=[_kin(row) for row in after])


def _kin(row: Sequence[Any]) -> Kin:
    return Kin(id=row[0], state=State(row[1]), origin=Origin(row[2]), created_us=row[3])


def oldest_us(conn: Connection) -> int | None:
    """When the oldest one that is stored was created."""
    row = _OLDEST.one(conn)
    return None if row is None else int(row[0])


def handler_of(conn: Connection, execution_id: str) -> str | None:
    """Whose job an execution is; None: there is none of that id."""
    return conn.execute(select(E.handler_id).where(E.id == execution_id)).scalar_one_or_none()


def running(conn: Connection) -> list[Execution]:
    """All that run, oldest first."""
    return [execution(row) for row in _RUNNING.rows(conn)]


def next_due_us(conn: Connection) -> int | None:
    """The smallest ``not_before_us`` of what waits for its time."""
    row = _NEXT_DUE.one(conn)
    return None if row is None else row[0]


def due_rows(conn: Connection, now_us: int, limit: int) -> list[Execution]:
    """For ``release_due``: what waits for a time that has come, the earliest first."""
    return [execution(row) for row in _DUE.rows(conn, now=now_us, most=limit)]


def pending_window(
    conn: Connection,
    lane: LaneKey,
    limit: int,
    after: tuple[int, str] | None = None,
    without: Without = NOTHING,
) -> list[Execution]:
    """The next pending executions of a lane: by age and priority (``aged_us``), then id; after that pair if given.

    By lane (a method, and which of its nodes), so that what nobody can run now does not stand in the way of the rest
    (C20): two nodes of one handler may serve different methods, as in a rolling upgrade, and be labelled differently.
    """
    values: dict[str, Any] = {"handler": lane[0], "method": lane[1], "lane": lane[2] or "", "most": limit}
    if after is not None:
        values["aged"], values["after"] = after
    query = _WINDOW if after is None else _WINDOW_AFTER
    if without != NOTHING:
        query = _window_without(conn.dialect.name, after=after is not None)
        values["without_schedule_id"] = _encode(without.schedule_ids)
        values["without_concurrency_key"] = _encode(without.concurrency_keys)
        values["without_rate_key"] = _encode(without.rate_keys)
    found = query.rows(conn, **values)
    return [execution(row) for row in found]


def pending_counts(conn: Connection) -> dict[LaneKey, int]:
    """Pending executions per lane; where there are none it is absent."""
    return {(row[0], row[1], row[2] or None): row[3] for row in _PENDING_COUNTS.rows(conn)}


def stats(conn: Connection) -> Stats:
    """From counters kept by the verbs, not from the rows; only what is open, but for ``pending``, is counted."""
    by_state: dict[str, int] = dict.fromkeys((state.value for state in State), 0)
    handlers: dict[str, HandlerStats] = {}
    total = cleared = run_us = 0
    for bucket, handler_id, state, n, ran_us in _COUNTS.rows(conn):
        if bucket == CLEARED:
            cleared += n if state == "created" else 0
            continue
        if bucket != STORED_NOW or state == LETTERS:
            continue
        mine = handlers.setdefault(handler_id, HandlerStats(by_state={"open": 0}))
        if state == "created":
            total += n
            mine.by_state["open"] += n
            continue
        by_state[state] += n
        mine.by_state[state] = n
        mine.by_state["open"] -= n
        if state == State.COMPLETED:
            run_us += ran_us
            mine.completed_run_us = ran_us
    by_state.update(_OPEN_COUNTS.rows(conn))  # type: ignore[arg-type]
    by_state[State.PENDING.value] = total - sum(by_state.values())
    return Stats(total=total, lifetime=total + cleared, by_state=by_state, completed_run_us=run_us, handlers=handlers)
