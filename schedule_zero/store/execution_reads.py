"""Executions: the reads. Every one is bounded: what a page costs doesn't grow with the history.

Lists walk ``seq`` (the order of insertion) downwards along the index that fits the filter best. What no index answers
is filtered while walking, ``SCAN_ROWS`` at most for one page, and a page of large documents ends at ``PAGE_BYTES``. So
a page may be short, even empty, and still have a cursor: only a page without one is the last.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Subquery,
    Text,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
    text,
)

from schedule_zero.clock import rfc3339
from schedule_zero.model import Attempt, Execution, GroupState, LaneKey, Origin, State
from schedule_zero.rules.grouping import MEMBERS
from schedule_zero.store import groups, tables
from schedule_zero.store.execution_rows import ATTEMPT_COLUMNS, COLUMNS, attempt, execution
from schedule_zero.store.statements import Query, Seek, ends
from schedule_zero.store.tx import CLEARED, LETTERS, STORED_NOW, Page, parse_seq

if TYPE_CHECKING:
    from sqlalchemy import Connection

E = tables.executions.c


def _encode(names: tuple[str, ...]) -> str:
    return msgspec.json.encode(names).decode()


SCAN_ROWS = 50_000
# A page ends early when its documents (params, result, error) are more than this: 500 results of 1 MB are no page.
PAGE_BYTES = 8 << 20
# ``created_us`` is read before a row is queued: neighbours in ``seq`` may be out of step by this much.
CREATED_SLACK_US = 60_000_000
BAD = (State.FAILED, State.TIMEOUT, State.DEAD)


class Detail(Struct, kw_only=True):
    """One execution with its archived attempts, oldest first (the current attempt is part of ``execution``)."""

    execution: Execution
    attempts: list[Attempt]


class Filter(Struct, kw_only=True):
    """Which executions; None or empty means any. ``since_us``/``until_us`` bound ``created_us`` (both included)."""

    handler_id: str | None = None
    schedule_id: str | None = None
    job_method: str | None = None
    states: list[State] = []
    since_us: int | None = None
    until_us: int | None = None
    node_id: str | None = None
    group_id: str | None = None
    cursor: str | None = None
    limit: int = 50

    def said(self) -> dict[str, Any]:
        """What it asks for, as the change log shows it."""
        names = ("handler_id", "schedule_id", "job_method", "node_id", "group_id")
        asked: dict[str, Any] = {name: getattr(self, name) for name in names}
        asked |= {"status": self.states or None, "since": rfc3339(self.since_us), "until": rfc3339(self.until_us)}
        return {name: value for name, value in asked.items() if value is not None}


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
_ATTEMPTS = Query(
    select(*ATTEMPT_COLUMNS)
    .where(tables.attempts.c.execution_id == bindparam("wanted"))
    .order_by(tables.attempts.c.token)
)
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


# --- lists ------------------------------------------------------------------------------------------

_EQUAL = ("schedule_id", "handler_id", "job_method", "node_id", "group_id")
_CREATED = Seek(tables.executions, "created_us")


class _Walk(NamedTuple):
    """How one list is walked: along which index, and what is filtered on the way."""

    # Fixed by the index: the text that makes its predicate true, and the columns that it begins with.
    predicate: str
    fixed: tuple[str, ...]
    # Filtered on the way.
    checked: tuple[str, ...]
    bounded_below: bool


def errors(conn: Connection, *, limit: int = 50, cursor: str | None = None) -> Page[Execution]:
    """``failed``, ``timeout`` and ``dead``, newest first."""
    return find(conn, Filter(states=list(BAD), limit=limit, cursor=cursor))


def find(conn: Connection, wanted: Filter) -> Page[Execution]:
    """Newest first. A malformed cursor raises ``InvalidField``."""
    below, above = parse_seq(wanted.cursor), 0
    if wanted.until_us is not None:
        beyond = _CREATED.first(conn, wanted.until_us + CREATED_SLACK_US)
        below = beyond if below is None or (beyond is not None and beyond < below) else below
    if wanted.since_us is not None:
        first = _CREATED.first(conn, wanted.since_us - CREATED_SLACK_US)
        if first is None:
            return Page(rows=[])
        above = first - 1
    found: list[tuple[int, Execution]] = []
    # Several states are walked one by one and merged; down to ``reached`` all of them have been seen.
    reached = 0
    for state in _states(wanted):
        rows, stopped = _walk(conn, wanted, state, below, above)
        found += rows
        reached = max(reached, stopped)
    found = sorted((pair for pair in found if pair[0] >= reached), key=_seq_of, reverse=True)
    if len(found) > wanted.limit:
        found = found[: wanted.limit]
        reached = found[-1][0]
    return Page(rows=[row for _, row in found], next_cursor=str(reached) if reached else None)


def _states(wanted: Filter) -> list[State | None]:
    states = list(dict.fromkeys(wanted.states))
    return [None] if not states or len(states) == len(State) else [*states]


def _walk(
    conn: Connection, wanted: Filter, state: State | None, below: int | None, above: int
) -> tuple[list[tuple[int, Execution]], int]:
    """The newest matches between the bounds, one more than asked for, and how far down that is all (0: to the end)."""
    values: dict[str, Any] = {name: getattr(wanted, name) for name in _EQUAL}
    values.update(state=None if state is None else state.value, since=wanted.since_us, until=wanted.until_us)
    values = {name: value for name, value in values.items() if value is not None}
    predicate, fixed = _index_for(state, values)
    walk = _Walk(predicate, fixed, tuple(name for name in values if name not in fixed), below is not None)
    page, stop = _walk_queries(walk)
    values.update(above=above, most=wanted.limit + 1)
    if below is not None:
        values["below"] = below
    rows = [(row[0], execution(row[1:])) for row in page.rows(conn, **values)]
    if len(rows) > wanted.limit or sum(_size(row) for _, row in rows) >= PAGE_BYTES:
        return rows, rows[-1][0]
    if not walk.checked:
        return rows, 0
    stopped = stop.one(conn, **{name: value for name, value in values.items() if name not in (*walk.checked, "most")})
    return rows, 0 if stopped is None else stopped[0]


def _index_for(state: State | None, values: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The predicate and the leading columns of the index to walk along."""
    if "group_id" in values:
        return tables.IS_GROUPED, ("group_id",)
    key = next((name for name in ("schedule_id", "handler_id") if name in values), None)
    keys = () if key is None else (key,)
    if state is None or state is State.COMPLETED:
        return ("schedule_id IS NOT NULL" if key == "schedule_id" else ""), keys
    return tables.NOT_COMPLETED, ("state",)


@cache
def _walk_queries(walk: _Walk) -> tuple[Query, Query]:
    """The page, and where a walk that was cut short stopped."""
    # Only what is checked: so that an index alone may answer, and no row is read before it matches.
    small = {"since": "created_us", "until": "created_us"}
    seen = select(E.seq, *(E[name] for name in dict.fromkeys(small.get(name, name) for name in walk.checked)))
    seen = seen.where(E.seq > bindparam("above"), *([text(walk.predicate)] if walk.predicate else []))
    seen = seen.where(*(E[name] == bindparam(name) for name in walk.fixed))
    if walk.bounded_below:
        seen = seen.where(E.seq < bindparam("below"))
    seen = seen.order_by(E.seq.desc())
    if walk.checked:
        seen = seen.limit(SCAN_ROWS)
    s = seen.subquery("seen")
    # In the order of the walk, so that it ends with the page; an ORDER BY here would be a sort of all that was seen.
    matching = select(s.c.seq).where(*(_check(s, name) for name in walk.checked)).limit(bindparam("most"))
    size = func.length(E.params) + func.coalesce(func.length(E.result), 0) + func.coalesce(func.length(E.error), 0)
    before = func.sum(size).over(order_by=E.seq.desc()) - size
    sized = select(E.seq, before.label("before")).where(E.seq.in_(matching)).subquery("sized")
    fits = select(sized.c.seq).where(sized.c.before < PAGE_BYTES)
    page = select(E.seq, *COLUMNS).where(E.seq.in_(fits)).order_by(E.seq.desc())
    stop = seen.with_only_columns(E.seq).limit(1).offset(SCAN_ROWS - 1)
    return Query(page), Query(stop)


def _size(row: Execution) -> int:
    return len(row.params) + len(row.result or b"") + len(row.error or b"")


def _check(seen: Subquery, name: str) -> ColumnElement[bool]:
    if name == "since":
        return seen.c.created_us >= bindparam("since")
    if name == "until":
        return seen.c.created_us <= bindparam("until")
    return seen.c[name] == bindparam(name)


def _seq_of(pair: tuple[int, Execution]) -> int:
    return pair[0]
