"""Lists of executions, newest first. Every page is bounded: what it costs doesn't grow with the history.

Lists walk ``seq`` (the order of insertion) downwards along the indexes that fit the filter best (``execution_walks``).
What no index answers is filtered while walking (``execution_terms``), ``SCAN_ROWS`` at most for one page, and a page of
large documents ends at ``PAGE_BYTES``. So a page may be short, even empty, and still have a cursor: only a page without
one is the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct
from sqlalchemy import Select, bindparam, func, select, text

from schedule_zero.clock import rfc3339
from schedule_zero.model import Execution, State
from schedule_zero.rules.search import Search, Term, said
from schedule_zero.store import tables
from schedule_zero.store.execution_rows import COLUMNS, execution
from schedule_zero.store.execution_terms import AFTER, Conditions
from schedule_zero.store.execution_walks import ID_LENGTH, Walk, between, walks
from schedule_zero.store.statements import Query, Seek
from schedule_zero.store.tx import Page, parse_seq

if TYPE_CHECKING:
    from sqlalchemy import Connection

E = tables.executions.c
SCAN_ROWS = 20_000
# A row that is not read in the order in which rows are stored, but where an index leads, costs as much as three.
SCATTERED = 3
# And one of whose parameters something is asked as two.
DOCUMENTS = 2
# A page ends early when its documents (params, result, error) are more than this: 500 results of 1 MB are no page.
PAGE_BYTES = 8 << 20
# Statements that are kept compiled: searches may have any shape, and each holds some 30 kB.
SHAPES = 64
# ``created_us`` is read before a row is queued: neighbours in ``seq`` may be out of step by this much.
CREATED_SLACK_US = 60_000_000
BAD = (State.FAILED, State.TIMEOUT, State.DEAD)


class Filter(Struct, kw_only=True):
    """Which executions; None or empty means any. ``since_us``/``until_us`` bound ``created_us`` (both included).

    All of ``terms`` have to hold as well; ``since:`` and ``until:`` are for the caller to put into the bounds.
    ``now_us`` is what has not ended yet took until.
    """

    handler_id: str | None = None
    schedule_id: str | None = None
    job_method: str | None = None
    states: list[State] = []
    since_us: int | None = None
    until_us: int | None = None
    node_id: str | None = None
    group_id: str | None = None
    terms: tuple[Term, ...] = ()
    now_us: int = 0
    cursor: str | None = None
    limit: int = 50

    def said(self) -> dict[str, Any]:
        """What it asks for, as the change log shows it."""
        names = ("handler_id", "schedule_id", "job_method", "node_id", "group_id")
        asked: dict[str, Any] = {name: getattr(self, name) for name in names}
        asked |= {"status": self.states or None, "since": rfc3339(self.since_us), "until": rfc3339(self.until_us)}
        asked["q"] = said(Search(self.terms)) if self.terms else None
        return {name: value for name, value in asked.items() if value is not None}


class Found(Struct, kw_only=True):
    """A page whose rows have their ``seq``. Down to ``reached`` (0: the end) all were seen."""

    rows: list[tuple[int, Execution]]
    reached: int = 0
    # Set where enough rows were looked at before the page was full: the moment that was reached.
    reached_us: int | None = None


class FoundPage(Page[Execution], kw_only=True):
    """``searched_us``: the page is short because enough rows were looked at, back to this moment; the next page goes
    on from there.
    """

    searched_us: int | None = None


def errors(conn: Connection, *, limit: int = 50, cursor: str | None = None) -> FoundPage:
    """``failed``, ``timeout`` and ``dead``, newest first."""
    return find(conn, Filter(states=list(BAD), limit=limit, cursor=cursor))


def find(conn: Connection, wanted: Filter) -> FoundPage:
    """Newest first. A malformed cursor raises ``InvalidField``."""
    found = look(conn, wanted)
    return FoundPage(
        rows=[row for _, row in found.rows],
        next_cursor=str(found.reached) if found.reached else None,
        searched_us=found.reached_us,
    )


def look(conn: Connection, wanted: Filter) -> Found:
    """``find`` for those who go on by ``seq``."""
    span = span_of(conn, wanted)
    if span is None:
        return Found(rows=[])
    plan = walks(conn, wanted)
    found: list[tuple[int, Execution]] = []
    # Down to ``reached`` all walks have been seen; ``cut`` if one of them stopped there for the rows it had looked at.
    reached, cut, left = 0, False, SCAN_ROWS
    for at, walk in enumerate(plan):
        # What another walk has not come to is no part of this page.
        deep = span if not reached else Span(span.below, reached - 1)
        way = Way(conn, wanted, walk, deep, scan=max(1, left // (len(plan) - at)))
        rows, stopped = way.page()
        found += rows
        if stopped:
            reached, cut = stopped, way.cut
        left = max(0, left - way.cost)
    found = sorted((pair for pair in found if pair[0] >= reached), key=_seq_of, reverse=True)
    if len(found) > wanted.limit:
        found = found[: wanted.limit]
        reached, cut = found[-1][0], False
    return Found(rows=found, reached=reached, reached_us=created_us(conn, reached) if cut else None)


def _seq_of(pair: tuple[int, Execution]) -> int:
    return pair[0]


# --- where --------------------------------------------------------------------------------------------

_CREATED = Seek(tables.executions, "created_us")
_CREATED_AT = Query(select(E.created_us).where(E.seq == bindparam("at")))


class Span(NamedTuple):
    """Rows below one ``seq`` (None: from the newest on) and above another."""

    below: int | None
    above: int


def span_of(conn: Connection, wanted: Filter) -> Span | None:
    """Where rows of these times are, behind the cursor; None: nowhere. A malformed cursor raises ``InvalidField``."""
    below, above = parse_seq(wanted.cursor), 0
    if wanted.until_us is not None:
        beyond = _CREATED.first(conn, wanted.until_us + CREATED_SLACK_US)
        below = beyond if below is None or (beyond is not None and beyond < below) else below
    if wanted.since_us is not None:
        first = _CREATED.first(conn, wanted.since_us - CREATED_SLACK_US)
        if first is None:
            return None
        above = first - 1
    return Span(below, above)


def created_us(conn: Connection, seq: int) -> int | None:
    """When the row was created; None: it is gone."""
    row = _CREATED_AT.one(conn, at=seq)
    return None if row is None else row[0]


# --- one walk -----------------------------------------------------------------------------------------

_EQUAL = ("schedule_id", "handler_id", "job_method", "node_id", "group_id")


class Shape(NamedTuple):
    """What makes a walk another statement: all of it but the values."""

    where: tuple[str, ...]
    # The column before ``seq`` in the index, where its order has to be said.
    along: str
    checks: tuple[str, ...]
    # That the checks read.
    columns: tuple[str, ...]


class Way:
    """A walk through a span, down to ``scan`` rows at most: if it has to check anything, or is to be counted.

    ``also`` names columns that are read beside those that are checked.
    """

    def __init__(
        self,
        conn: Connection,
        wanted: Filter,
        walk: Walk,
        span: Span,
        *,
        scan: int,
        counting: bool = False,
        also: tuple[str, ...] = (),
    ) -> None:
        self._conn = conn
        self._counting = counting
        self._limit = wanted.limit
        # What the rows cost that were looked at, as far as it is known; and whether that was all that was allowed.
        self.cost = 0
        self.cut = False
        checks = _checks(conn.dialect.name, wanted, walk)
        where, values = _where(conn.dialect.name, walk, span)
        along = walk.fixed[0][0] if walk.fixed and conn.dialect.name != "sqlite" else ""
        self.shape = Shape(where, along, tuple(checks.sql), tuple(checks.columns))
        self._cost = (
            SCATTERED if not walk.covers((*checks.columns, *also)) else DOCUMENTS if "params" in checks.columns else 1
        )
        self._scan = max(1, scan // self._cost)
        self._span_values = values
        self._values = values | checks.values

    def page(self) -> tuple[list[tuple[int, Execution]], int]:
        """The newest matches, one more than asked for, and how far down that is all (0: to the end)."""
        values = self._values | {"most": self._limit + 1, "page_bytes": PAGE_BYTES}
        found = _page_query(self.shape).rows(self._conn, **values, **self._bound())
        rows = [(row[0], execution(row[1:])) for row in found]
        if len(rows) > self._limit or sum(_size(row) for _, row in rows) >= PAGE_BYTES:
            self.cost = self._scan * self._cost
            return rows, rows[-1][0]
        return rows, self.stop()

    def stop(self) -> int:
        """Where it stops for the rows that it has looked at; 0: it comes to the end."""
        if not self.shape.checks and not self._counting:
            return 0
        row = _stop_query(self.shape._replace(checks=(), columns=())).one(
            self._conn, **self._span_values, scan=self._scan
        )
        seen = 0 if row is None else row[0]
        self.cost = seen * self._cost
        self.cut = seen >= self._scan
        return int(row[1]) if row is not None and self.cut else 0

    def answer(self, query: Query, **more: Any) -> Sequence[Sequence[Any]]:
        """The rows of another query about what this walk finds."""
        return query.rows(self._conn, **self._values, **more, scan=self._scan)

    def _bound(self) -> dict[str, int]:
        return {"scan": self._scan} if self.shape.checks else {}


def _checks(dialect: str, wanted: Filter, walk: Walk) -> Conditions:
    checks = Conditions(dialect, wanted.now_us)
    fixed = {name for name, _ in walk.fixed}
    for name in _EQUAL:
        value = getattr(wanted, name)
        if value is not None and name not in fixed:
            checks.compare(name, "=", value)
    if walk.states is not None:
        checks.in_states(walk.states)
    if wanted.since_us is not None:
        checks.compare("created_us", ">=", wanted.since_us)
    if wanted.until_us is not None:
        checks.compare("created_us", "<=", wanted.until_us)
    checks.terms(walk.terms)
    return checks


def _where(dialect: str, walk: Walk, span: Span) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Conditions that an index answers, and their values."""
    where, values = [walk.predicate] if walk.predicate else [], dict[str, Any](above=span.above)
    if span.below is not None:
        values["below"] = span.below
    [(column, name)] = walk.fixed or (("", ""),)
    if column:
        values[column] = name
    where += between(dialect, column, below=span.below is not None)
    if walk.ids:
        which = []
        for at, prefix in enumerate(walk.ids):
            values[f"id{at}"] = prefix
            if len(prefix) >= ID_LENGTH:
                which.append(f"named.id = :id{at}")
            else:
                values[f"after{at}"] = prefix + AFTER
                which.append(f"named.id >= :id{at} AND named.id < :after{at}")
        where.append(f"seq IN (SELECT named.seq FROM executions AS named WHERE {' OR '.join(which)})")
    return tuple(where), values


def seen_of(shape: Shape, *columns: str) -> Select[Any]:
    """The rows that a walk looks at, newest first, without its limit."""
    # Only what is checked: so that an index alone may answer, and no row is read before it matches.
    names = dict.fromkeys((*shape.columns, *columns))
    down = E.seq.desc() if not shape.along else text(f"{shape.along} DESC, seq DESC")
    return select(E.seq, *(E[name] for name in names)).where(*map(text, shape.where)).order_by(down)


@lru_cache(maxsize=SHAPES)
def _page_query(shape: Shape) -> Query:
    seen = seen_of(shape)
    if shape.checks:
        seen = seen.limit(bindparam("scan"))
    s = seen.subquery("seen")
    # In the order of the walk, so that it ends with the page; an ORDER BY here would be a sort of all that was seen.
    matching = select(s.c.seq).where(*map(text, shape.checks)).limit(bindparam("most"))
    size = func.length(E.params) + func.coalesce(func.length(E.result), 0) + func.coalesce(func.length(E.error), 0)
    before = func.sum(size).over(order_by=E.seq.desc()) - size
    sized = select(E.seq, before.label("before")).where(E.seq.in_(matching)).subquery("sized")
    fits = select(sized.c.seq).where(sized.c.before < bindparam("page_bytes"))
    return Query(select(E.seq, *COLUMNS).where(E.seq.in_(fits)).order_by(E.seq.desc()))


@lru_cache(maxsize=SHAPES)
def _stop_query(shape: Shape) -> Query:
    s = seen_of(shape).limit(bindparam("scan")).subquery("seen")
    looked_at: list[Any] = [func.count(), func.min(s.c.seq)]
    return Query(select(*looked_at))


def _size(row: Execution) -> int:
    return len(row.params) + len(row.result or b"") + len(row.error or b"")
