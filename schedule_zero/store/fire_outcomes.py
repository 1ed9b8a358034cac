"""What became of schedules' fires, as pictures show it: the last few of many schedules, and the days of one.

What a page costs does not grow with the ledger: each schedule is one short walk of its index, each day is counted up to
a limit, and of what failed only the newest are looked at.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from sqlalchemy import BindParameter, Select, bindparam, func, literal, select, text, union_all

from schedule_zero.model import FireOutcome, Origin, State
from schedule_zero.store import fire_audit, tables
from schedule_zero.store.statements import Query, Seek

if TYPE_CHECKING:
    from sqlalchemy import Connection

F, E, G = tables.fires.c, tables.executions.c, tables.execution_groups.c

# Schedules in one statement; fewer are filled up with none.
AT_ONCE = 50
# Ledger rows of a day that are counted, and rows that stand for many times that are read.
MOST_OF_DAY = 5_000
MOST_SUMMED = 1_000
# Executions in each bad state that are looked through for those of one schedule, and how many of these are read.
MOST_FAILURES = 20_000
MOST_FAILED = 1_000
# Generations of a schedule that are looked at: it was deleted and made anew so often.
MOST_GENERATIONS = 5
# What is caught up is created later than it was due.
LATE_US = 2 * 86_400_000_000
BAD = (State.FAILED, State.TIMEOUT, State.DEAD, State.MISFIRED)
_ONE = (F.schedule_id == bindparam("schedule"), F.generation == bindparam("generation"))
_CREATED = Seek(tables.executions, "created_us")


class Outcome(Struct, frozen=True):
    """One row of the ledger: what ran, and what became of that (``state``, None: it is deleted), or why nothing did."""

    nominal_us: int
    outcome: str
    state: str | None = None
    reason: str | None = None

    @property
    def word(self) -> str:
        """The one that says most."""
        return self.state or self.outcome


def last_outcomes(conn: Connection, ids: Sequence[str], most: int = 20) -> dict[str, list[Outcome]]:
    """The newest fires of each of these schedules, oldest first."""
    found: dict[str, list[Outcome]] = {id_: [] for id_ in ids}
    for at in range(0, len(ids), AT_ONCE):
        part = [*ids[at : at + AT_ONCE]]
        part += [""] * (AT_ONCE - len(part))
        values = {f"id{n}": id_ for n, id_ in enumerate(part)}
        for schedule_id, nominal_us, outcome, reason, state, group_state in _strips(most).rows(conn, **values):
            found[schedule_id].append(Outcome(nominal_us, outcome, state or group_state, reason))
    # Each of them came newest first.
    return {id_: outcomes[::-1] for id_, outcomes in found.items()}


@cache
def _strips(most: int) -> Query:
    """One walk for each schedule, in one statement: a window over all their fires would read all of them."""
    walks = []
    for n in range(AT_ONCE):
        walk = (
            select(F.schedule_id, F.generation, F.nominal_us, F.outcome, F.reason, F.execution_id)
            .where(F.schedule_id == bindparam(f"id{n}"))
            .order_by(F.generation.desc(), F.nominal_us.desc())
            .limit(most)
            .subquery()
        )
        walks.append(select(walk))
    fires = union_all(*walks).subquery()
    return Query(
        select(
            fires.c.schedule_id,
            fires.c.nominal_us,
            fires.c.outcome,
            fires.c.reason,
            E.state.label("state"),
            G.state.label("group_state"),
        )
        .select_from(
            fires.outerjoin(tables.executions, E.id == fires.c.execution_id).outerjoin(
                tables.execution_groups, G.id == fires.c.execution_id
            )
        )
        .order_by(fires.c.generation.desc(), fires.c.nominal_us.desc())
    )


# --- the states of what ran ---------------------------------------------------------------------------


def states(conn: Connection, ids: Sequence[str]) -> dict[str, str]:
    """The states of executions, and of groups, by id; what is deleted is absent."""
    found: dict[str, str] = {}
    for at in range(0, len(ids), AT_ONCE):
        part = [*ids[at : at + AT_ONCE]]
        part += [""] * (AT_ONCE - len(part))
        found |= {row[0]: row[1] for row in _STATES.rows(conn, **dict(zip(_WANTED, part, strict=True)))}
    return found


_WANTED = [f"w{n}" for n in range(AT_ONCE)]
_any: list[BindParameter[str]] = [bindparam(name) for name in _WANTED]
_STATES = Query(
    select(
        union_all(select(E.id, E.state).where(E.id.in_(_any)), select(G.id, G.state).where(G.id.in_(_any))).subquery()
    )
)


# --- days ---------------------------------------------------------------------------------------------


class Day(Struct, kw_only=True):
    """What became of one day's nominal times; of those that ran, how many failed.

    A row that stands for many times counts for all of them on its first day.
    """

    executed: int = 0
    caught_up: int = 0
    skipped: int = 0
    missed: int = 0
    failed: int = 0
    # There were more than were counted, or a row of an earlier day reaches into this one.
    more: bool = False


def days(conn: Connection, schedule_id: str, bounds: Sequence[int]) -> list[Day]:
    """The days between these moments (one more than there are days), over all generations that are looked at."""
    found = [Day() for _ in bounds[1:]]
    if not found:
        return found
    edges = {f"at{n}": us for n, us in enumerate(bounds)}
    low_us, high_us = bounds[0], bounds[-1]
    for generation in list(fire_audit.generations(conn, schedule_id))[-MOST_GENERATIONS:]:
        key: dict[str, Any] = {"schedule": schedule_id, "generation": generation}
        for number, outcome, count in _days_query(len(found)).rows(conn, **key, **edges, most=MOST_OF_DAY):
            _add(found[number], outcome, count)
        for nominal_us, last_us, outcome, count in _SUMMED.rows(
            conn, **key, low=low_us, high=high_us, most=MOST_SUMMED
        ):
            place = bisect_right(bounds, nominal_us) - 1
            # The row itself was counted above.
            setattr(found[place], outcome, getattr(found[place], outcome) + count - 1)
            for later in found[place + 1 : bisect_right(bounds, last_us)]:
                later.more = True
    failures = _failures(conn, schedule_id, low_us, high_us)
    for (nominal_us,) in failures:
        found[bisect_right(bounds, nominal_us) - 1].failed += 1
    if len(failures) == MOST_FAILED:
        # Of the days before, nobody knows how many.
        for day in found[: bisect_right(bounds, failures[-1][0])]:
            day.more = True
    return found


def _add(day: Day, outcome: str, count: int) -> None:
    """``outcome`` empty: all rows of the day, which come first; what did not simply run is among them."""
    day.more |= count == MOST_OF_DAY
    if not outcome:
        day.executed += count
        return
    day.executed = max(0, day.executed - count)
    setattr(day, outcome, getattr(day, outcome) + count)


def _failures(conn: Connection, schedule_id: str, low_us: int, high_us: int) -> Sequence[Sequence[Any]]:
    """The nominal times of which an execution failed. The bad ones are few: found among those of all schedules."""
    first = _CREATED.first(conn, low_us - LATE_US)
    if first is None:
        return []
    last = _CREATED.first(conn, high_us + LATE_US)
    return _FAILURES.rows(
        conn,
        schedule=schedule_id,
        low=low_us,
        high=high_us,
        first=first,
        last=2**62 if last is None else last,
        most=MOST_FAILURES,
        read=MOST_FAILED,
    )


@cache
def _days_query(n: int) -> Query:
    """How many rows each day has, and how many of each outcome but the usual one: (day, outcome or "", count).

    From indexes alone, and no more of each than ``most``.
    """
    parts = []
    for number in range(n):
        rows = select(literal(1).label("one")).where(
            *_ONE, F.nominal_us >= bindparam(f"at{number}"), F.nominal_us < bindparam(f"at{number + 1}")
        )
        parts.append(_counted(rows, number, ""))
        for outcome in FireOutcome:
            if outcome is not FireOutcome.EXECUTED:
                exceptional = rows.where(text(tables.IS_EXCEPTIONAL), F.outcome == outcome.value)
                parts.append(_counted(exceptional, number, outcome.value))
    counts = union_all(*parts).subquery()
    return Query(select(counts).order_by(counts.c.day, counts.c.outcome))


def _counted(rows: Select[int], day: int, outcome: str) -> Select[int, str, int]:
    some = rows.limit(bindparam("most")).subquery()
    return select(literal(day).label("day"), literal(outcome).label("outcome"), func.count().label("n")).select_from(
        some
    )


# The rows that stand for many times: found by their ends.
_SUMMED = Query(
    select(F.nominal_us, F.last_nominal_us, F.outcome, F.count)
    .where(
        text(tables.IS_SUMMED),
        *_ONE,
        F.last_nominal_us >= bindparam("low"),
        F.nominal_us >= bindparam("low"),
        F.nominal_us < bindparam("high"),
    )
    .order_by(F.last_nominal_us)
    .limit(bindparam("most"))
)
_bad = union_all(
    *(
        select(
            select(E.seq, E.schedule_id)
            .where(
                text(tables.NOT_COMPLETED),
                E.state == state.value,
                E.seq >= bindparam("first"),
                E.seq < bindparam("last"),
            )
            .order_by(E.seq.desc())
            .limit(bindparam("most"))
            .subquery()
        )
        for state in BAD
    )
).subquery()
_own = (
    select(_bad.c.seq)
    .where(_bad.c.schedule_id == bindparam("schedule"))
    .order_by(_bad.c.seq.desc())
    .limit(bindparam("read"))
    .subquery()
)
_FAILURES = Query(
    select(E.nominal_us)
    .distinct()
    .select_from(_own.join(tables.executions, E.seq == _own.c.seq))
    .where(
        E.nominal_us >= bindparam("low"),
        E.nominal_us < bindparam("high"),
        # What was run again by hand, or afterwards, is not what became of the fire.
        E.origin == Origin.FIRE.value,
    )
    .order_by(E.nominal_us.desc())
)
