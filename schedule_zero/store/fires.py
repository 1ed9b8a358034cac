"""The ledger: reads only. Its rows are written by ``schedules.release`` and never changed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from sqlalchemy import bindparam, func, select, text, tuple_

from schedule_zero.model import Fire, FireOutcome, SkipReason
from schedule_zero.store import fire_audit, tables
from schedule_zero.store.statements import Query, Seek
from schedule_zero.store.tx import Page, parse_pair, parse_seq

if TYPE_CHECKING:
    from sqlalchemy import Connection

F = tables.fires.c
_COLUMNS = (
    F.seq, F.schedule_id, F.generation, F.nominal_us, F.outcome, F.reason, F.execution_id, F.count, F.last_nominal_us,
    F.decided_us, F.detail,
)  # fmt: skip
# Behind every row.
NEVER_SEQ = 2**63 - 1
# Schedules are released a little ahead of their times, and clocks are not that exact.
DECIDED_SLACK_US = 60_000_000
_DECIDED = Seek(tables.fires, "decided_us")


class FireCounts(Struct, kw_only=True):
    """Nominal times (not rows: a summarising row counts for all that it stands for) of one schedule."""

    executed: int = 0
    caught_up: int = 0
    skipped: int = 0
    missed: int = 0


def find(
    conn: Connection,
    *,
    schedule_id: str | None = None,
    outcome: FireOutcome | None = None,
    since_us: int | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Fire]:
    """Newest first: of one schedule by nominal time, of all by decision. ``since_us`` bounds the nominal time."""
    given: dict[str, Any] = {
        "schedule": schedule_id,
        "outcome": None if outcome is None else outcome.value,
        "since": since_us,
    }
    if schedule_id is not None:
        given["generation"], given["nominal"] = parse_pair(cursor)
    else:
        given["below"] = parse_seq(cursor)
        if since_us is not None:
            first = _DECIDED.first(conn, since_us - DECIDED_SLACK_US)
            if first is None:
                return Page([])
            given["above"] = first - 1
    values = {name: value for name, value in given.items() if value is not None}
    exceptional = outcome is not None and outcome is not FireOutcome.EXECUTED
    rows = _find_query(tuple(values), exceptional).rows(conn, **values, most=limit + 1)
    page = [_fire(row) for row in rows[:limit]]
    if len(rows) <= limit:
        return Page(page)
    last = rows[limit - 1]
    return Page(page, str(last[0]) if schedule_id is None else f"{last[2]}.{last[3]}")


@cache
def _find_query(given: tuple[str, ...], exceptional: bool) -> Query:
    place = tuple_(F.generation, F.nominal_us)
    conditions = {
        "schedule": F.schedule_id == bindparam("schedule"),
        "outcome": F.outcome == bindparam("outcome"),
        "since": F.nominal_us >= bindparam("since"),
        "generation": place < tuple_(bindparam("generation"), bindparam("nominal")),
        "below": F.seq < bindparam("below"),
        "above": F.seq > bindparam("above"),
    }
    query = select(*_COLUMNS).where(*(conditions[name] for name in given if name in conditions))
    if exceptional:
        query = query.where(text(tables.IS_EXCEPTIONAL))
    order = (F.generation.desc(), F.nominal_us.desc()) if "schedule" in given else (F.seq.desc(),)
    return Query(query.order_by(*order).limit(bindparam("most")))


def between(
    conn: Connection,
    schedule_id: str,
    low_us: int,
    high_us: int,
    *,
    outcome: FireOutcome | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Fire]:
    """Of one schedule those with a nominal time in ``[low_us, high_us)``, newest first.

    Generation by generation: the index leads to a range of each, however much lies after it.
    """
    at_generation, at_us = parse_pair(cursor)
    found: list[Fire] = []
    for generation in reversed(list(fire_audit.generations(conn, schedule_id))):
        if at_generation is not None and generation > at_generation:
            continue
        upto_us = high_us if generation != at_generation or at_us is None else min(high_us, at_us)
        given: dict[str, Any] = {"schedule": schedule_id, "generation": generation, "low": low_us, "high": upto_us}
        if outcome is not None:
            given["outcome"] = outcome.value
        query = _between_query(outcome is not None, outcome not in (None, FireOutcome.EXECUTED))
        found += map(_fire, query.rows(conn, **given, most=limit + 1 - len(found)))
        if len(found) > limit:
            last = found[limit - 1]
            return Page(found[:limit], f"{last.generation}.{last.nominal_us}")
    return Page(found)


@cache
def _between_query(by_outcome: bool, exceptional: bool) -> Query:
    query = select(*_COLUMNS).where(*_ONE, F.nominal_us >= bindparam("low"), F.nominal_us < bindparam("high"))
    if by_outcome:
        query = query.where(F.outcome == bindparam("outcome"))
    if exceptional:
        query = query.where(text(tables.IS_EXCEPTIONAL))
    return Query(query.order_by(F.nominal_us.desc()).limit(bindparam("most")))


_TOTALS = Query(
    select(*(tables.schedules.c[outcome.value] for outcome in FireOutcome)).where(
        tables.schedules.c.id == bindparam("schedule")
    )
)
_SUMS = Query(select(F.outcome, func.sum(F.count)).where(F.schedule_id == bindparam("schedule")).group_by(F.outcome))


def counts(conn: Connection, schedule_id: str) -> FireCounts:
    """Kept with the schedule, for its generation; of a deleted schedule all generations, counted from the ledger."""
    totals = _TOTALS.one(conn, schedule=schedule_id)
    if totals is not None:
        return FireCounts(**{outcome.value: n for outcome, n in zip(FireOutcome, totals, strict=True)})
    return FireCounts(**{outcome: int(n) for outcome, n in _SUMS.rows(conn, schedule=schedule_id)})


_SEQ_BELOW = Query(select(F.decided_us).where(F.seq < bindparam("below")).order_by(F.seq.desc()).limit(1))


def last_decided(conn: Connection, before_us: int) -> int | None:
    """When the last row of all schedules was decided before a moment."""
    first = _DECIDED.first(conn, before_us)
    row = _SEQ_BELOW.one(conn, below=NEVER_SEQ if first is None else first)
    # Where the clock was set back, the row before may be of later.
    return None if row is None or row[0] >= before_us else row[0]


# --- around one moment ------------------------------------------------------------------------------

# Rows that are looked through for what ran, on either side of a moment.
NEAR = 1000
_ONE = (F.schedule_id == bindparam("schedule"), F.generation == bindparam("generation"))
_WITHIN = Query(
    select(*_COLUMNS)
    .where(*_ONE, F.nominal_us >= bindparam("low"), F.nominal_us <= bindparam("high"))
    .order_by(F.nominal_us)
    .limit(1)
)
_OVER = Query(
    select(*_COLUMNS)
    .where(text(tables.IS_SUMMED), *_ONE, F.last_nominal_us >= bindparam("at"), F.nominal_us <= bindparam("at"))
    .order_by(F.last_nominal_us - F.nominal_us)
)
_BEFORE = Query(
    select(func.coalesce(F.last_nominal_us, F.nominal_us))
    .where(*_ONE, F.nominal_us < bindparam("at"))
    .order_by(F.nominal_us.desc())
    .limit(1)
)
_AFTER = Query(select(F.nominal_us).where(*_ONE, F.nominal_us > bindparam("at")).order_by(F.nominal_us).limit(1))
_later = (
    select(F.nominal_us, F.execution_id, F.decided_us, F.outcome)
    .where(*_ONE, F.nominal_us > bindparam("at"))
    .order_by(F.nominal_us)
    .limit(NEAR)
    .subquery()
)
_RAN_WITH = Query(
    select(_later.c.nominal_us, _later.c.outcome)
    .where(_later.c.decided_us == bindparam("decided"), _later.c.execution_id.is_not(None))
    .order_by(_later.c.nominal_us.desc())
)
_earlier = (
    select(F.nominal_us, F.execution_id)
    .where(*_ONE, F.nominal_us < bindparam("at"))
    .order_by(F.nominal_us.desc())
    .limit(NEAR)
    .subquery()
)
_RAN_BEFORE = Query(
    select(_earlier.c.execution_id)
    .where(_earlier.c.execution_id.is_not(None))
    .order_by(_earlier.c.nominal_us.desc())
    .limit(1)
)


def within(conn: Connection, schedule_id: str, generation: int, low_us: int, high_us: int) -> Fire | None:
    """The first row with a nominal time in ``[low_us, high_us]``."""
    row = _WITHIN.one(conn, schedule=schedule_id, generation=generation, low=low_us, high=high_us)
    return None if row is None else _fire(row)


def over(conn: Connection, schedule_id: str, generation: int, us: int) -> list[Fire]:
    """The rows with a count that reach over a moment, the shortest first."""
    return [_fire(row) for row in _OVER.rows(conn, schedule=schedule_id, generation=generation, at=us)]


def beside(
    conn: Connection, schedule_id: str, generation: int, low_us: int, high_us: int
) -> tuple[int | None, int | None]:
    """The nearest nominal times on record before ``low_us`` and after ``high_us``."""
    before = _BEFORE.one(conn, schedule=schedule_id, generation=generation, at=low_us)
    after = _AFTER.one(conn, schedule=schedule_id, generation=generation, at=high_us)
    return (None if before is None else before[0], None if after is None else after[0])


def ran_with(conn: Connection, fire: Fire) -> list[tuple[int, FireOutcome]]:
    """The later nominal times that ran among those that were decided together with a row, the newest first."""
    at_us = fire.nominal_us
    rows = _RAN_WITH.rows(
        conn, schedule=fire.schedule_id, generation=fire.generation, at=at_us, decided=fire.decided_us
    )
    return [(row[0], FireOutcome(row[1])) for row in rows]


def ran_before(conn: Connection, fire: Fire) -> str | None:
    """The execution of the newest nominal time before a row that had one."""
    row = _RAN_BEFORE.one(conn, schedule=fire.schedule_id, generation=fire.generation, at=fire.nominal_us)
    return None if row is None else row[0]


def _fire(row: Sequence[Any]) -> Fire:
    return Fire(
        schedule_id=row[1],
        generation=row[2],
        nominal_us=row[3],
        outcome=FireOutcome(row[4]),
        reason=None if row[5] is None else SkipReason(row[5]),
        execution_id=row[6],
        count=row[7],
        last_nominal_us=row[8],
        decided_us=row[9],
        detail=row[10],
    )
