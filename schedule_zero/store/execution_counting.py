"""How many executions a filter finds, and when they were created: counted while walking, or sampled, and saying so."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct
from sqlalchemy import BigInteger, ColumnElement, bindparam, cast, func, literal_column, select, text

from schedule_zero.model import State
from schedule_zero.rules.buckets import HOUR_US, Buckets
from schedule_zero.rules.search import Q, states_of
from schedule_zero.rules.states import TERMINAL
from schedule_zero.store import execution_lists, tables
from schedule_zero.store.execution_lists import BAD, SHAPES, Filter, Shape, Span, Way, created_us, seen_of, span_of
from schedule_zero.store.execution_walks import EVERY, Walk, walks
from schedule_zero.store.statements import Query

if TYPE_CHECKING:
    from sqlalchemy import Connection

E, C = tables.executions.c, tables.execution_counts.c
# Hourly counts that are read for one histogram.
COUNT_ROWS = 100_000
# Of less time than that hours say nothing.
FEW_HOURS = 6


class Divide(Protocol):
    """Makes buckets between two moments (``rules.buckets``)."""

    def __call__(self, first_us: int, last_us: int, *, at_least_us: int = 0) -> Buckets: ...


class Basis(StrEnum):
    """What the moments of a histogram are."""

    CREATED = "created"
    # When they came to their end.
    ENDED = "ended"


class Histogram(Struct, kw_only=True):
    """Between two ``edges`` each: how many, and how many of them failed, timed out or died.

    None: not looked at. ``sampled_us``: only the newest were looked at, back to this moment.
    """

    edges: Sequence[int]
    counts: list[int | None]
    failed: list[int | None]
    total: int
    basis: Basis = Basis.CREATED
    sampled_us: int | None = None
    # Counted as they were created or ended, with those that are cleared since.
    with_cleared: bool = False


_SLOT_COLUMNS = ("created_us", "state")
_OLDEST = Query(select(E.created_us).order_by(E.seq).limit(1))


def count(conn: Connection, wanted: Filter) -> tuple[int, int]:
    """Of those below the cursor, how many there are down to a ``seq`` (0: to the end), where the next step goes on."""
    span, plan, reached = _reach(conn, wanted)
    total = 0
    for walk in plan if span is not None else ():
        assert span is not None
        way = _within(conn, wanted, walk, span, reached)
        total += way.answer(_count_query(way.shape))[0][0]
    return total, reached


def histogram(conn: Connection, wanted: Filter, divide: Divide) -> Histogram:
    """When what is wanted was created."""
    oldest = _OLDEST.one(conn)
    span, plan, reached = _reach(conn, wanted, _SLOT_COLUMNS)
    if span is None or oldest is None or not plan:
        return _empty(wanted, divide)
    reached_us = created_us(conn, reached) if reached else None
    last_us = min(wanted.now_us, wanted.now_us if wanted.until_us is None else wanted.until_us)
    first_us = max(oldest[0], wanted.since_us or 0)
    if reached_us is not None:
        found = _from_counters(conn, wanted, divide(first_us, last_us, at_least_us=HOUR_US))
        if found is not None:
            return found
        if wanted.since_us is None:
            # What was looked at is worth showing as a whole.
            first_us = reached_us
    divided = divide(min(first_us, last_us), last_us)
    counts, failed = _empty_counts(divided), _empty_counts(divided)
    for walk in plan:
        way = _within(conn, wanted, walk, span, reached)
        for slot, n, bad in way.answer(_slots_query(way.shape), first=divided.edges[0], slot=divided.slot_us):
            at = _place(divided, divided.edges[0] + slot * divided.slot_us)
            counts[at] += n
            failed[at] += bad
    unseen = 0 if reached_us is None else _place(divided, max(reached_us, divided.edges[0]))
    return Histogram(
        edges=divided.edges,
        counts=[None if at < unseen else n for at, n in enumerate(counts)],
        failed=[None if at < unseen else n for at, n in enumerate(failed)],
        total=sum(counts),
        sampled_us=reached_us,
    )


# --- by walking -------------------------------------------------------------------------------------


def _reach(conn: Connection, wanted: Filter, also: tuple[str, ...] = ()) -> tuple[Span | None, list[Walk], int]:
    """Where to look, along which ways, and down to which ``seq`` all of them come."""
    span = span_of(conn, wanted)
    plan = [] if span is None else walks(conn, wanted)
    reached, left = 0, execution_lists.SCAN_ROWS
    for at, walk in enumerate(plan):
        assert span is not None
        scan = max(1, left // (len(plan) - at))
        way = Way(conn, wanted, walk, _below(span, reached), scan=scan, counting=True, also=also)
        reached = max(reached, way.stop())
        left = max(0, left - way.cost)
    return span, plan, reached


def _within(conn: Connection, wanted: Filter, walk: Walk, span: Span, reached: int) -> Way:
    return Way(conn, wanted, walk, _below(span, reached), scan=execution_lists.SCAN_ROWS, counting=True)


def _below(span: Span, reached: int) -> Span:
    return Span(span.below, reached - 1) if reached else span


@lru_cache(maxsize=SHAPES)
def _count_query(shape: Shape) -> Query:
    s = seen_of(shape).limit(bindparam("scan")).subquery("seen")
    return Query(select(func.count(s.c.seq)).where(*map(text, shape.checks)))


@lru_cache(maxsize=SHAPES)
def _slots_query(shape: Shape) -> Query:
    s = seen_of(shape, *_SLOT_COLUMNS).limit(bindparam("scan")).subquery("seen")
    slot = (s.c.created_us - cast(bindparam("first"), BigInteger)) // cast(bindparam("slot"), BigInteger)
    words = ", ".join(f"'{state.value}'" for state in BAD)
    bad: ColumnElement[Any] = literal_column(f"CASE WHEN seen.state IN ({words}) THEN 1 ELSE 0 END")
    columns: list[Any] = [slot.label("slot"), func.count(s.c.seq), cast(func.sum(bad), BigInteger)]
    return Query(select(*columns).where(*map(text, shape.checks)).group_by(text("slot")))


# --- from the counters ------------------------------------------------------------------------------


def _from_counters(conn: Connection, wanted: Filter, divided: Buckets) -> Histogram | None:
    """Where handlers and states are all that is asked for, and hours are fine enough; None: they do not say."""
    asked = _counted(wanted)
    if asked is None or len(divided.edges) <= FEW_HOURS:
        return None
    handlers, states = asked
    rows = _COUNTERS.rows(conn, since=divided.edges[0], until=divided.edges[-1], most=COUNT_ROWS)
    if len(rows) == COUNT_ROWS:
        return None
    counts, failed = _empty_counts(divided), _empty_counts(divided)
    words = {"created"} if states is None else {state.value for state in states}
    bad = {state.value for state in BAD}
    for bucket_us, handler_id, state, n in rows:
        if state in words and (handlers is None or handler_id in handlers):
            at = _place(divided, bucket_us)
            counts[at] += n
            failed[at] += n if state in bad else 0
    return Histogram(
        edges=divided.edges,
        counts=list(counts),
        failed=[None] * len(counts) if states is None else list(failed),
        total=sum(counts),
        basis=Basis.CREATED if states is None else Basis.ENDED,
        with_cleared=True,
    )


_COUNTERS = Query(
    select(C.bucket_us, C.handler_id, C.state, C.n)
    .where(C.bucket_us >= bindparam("since"), C.bucket_us < bindparam("until"))
    .limit(bindparam("most"))
)


def _counted(wanted: Filter) -> tuple[set[str] | None, frozenset[State] | None] | None:
    """The handlers and the ends that are asked for, if that is all; None: something else is."""
    others = (wanted.schedule_id, wanted.job_method, wanted.node_id, wanted.group_id, wanted.cursor)
    if any(value is not None for value in others):
        return None
    handlers = None if wanted.handler_id is None else {wanted.handler_id}
    for term in wanted.terms:
        if term.qualifier is Q.HANDLER and not term.negated and all(len(value) == 1 for value in term.values):
            named = {value[0] for value in term.values}
            handlers = named if handlers is None else handlers & named
        elif term.qualifier not in (Q.STATE, Q.SINCE, Q.UNTIL):
            return None
    states = frozenset(wanted.states or EVERY) & states_of(wanted.terms)
    if states == EVERY:
        return handlers, None
    return (handlers, states) if states <= TERMINAL else None


# --- parts ------------------------------------------------------------------------------------------


def _empty(wanted: Filter, divide: Divide) -> Histogram:
    last_us = min(wanted.now_us, wanted.now_us if wanted.until_us is None else wanted.until_us)
    divided = divide(min(last_us, wanted.since_us or last_us), last_us)
    counts = _empty_counts(divided)
    return Histogram(edges=divided.edges, counts=list(counts), failed=list(counts), total=0)


def _empty_counts(divided: Buckets) -> list[int]:
    return [0] * (len(divided.edges) - 1)


def _place(divided: Buckets, us: int) -> int:
    """Which bucket a moment is in; one that is out of all counts for the nearest."""
    return min(max(bisect_right(divided.edges, us) - 1, 0), len(divided.edges) - 2)
