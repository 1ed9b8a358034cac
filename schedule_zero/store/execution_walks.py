"""Chooses along which indexes a list of executions is walked: the narrowest that a filter fixes, several if need be.

A walk goes downwards in ``seq``, the order of insertion, and looks at a bounded number of rows; what its index does not
fix is filtered on the way. Walks of one plan never find the same row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import bindparam, func, select, text

from schedule_zero.model import State
from schedule_zero.rules.search import Pattern, Q, Term, states_of
from schedule_zero.store import tables
from schedule_zero.store.execution_terms import AFTER
from schedule_zero.store.statements import Query

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from schedule_zero.store.execution_lists import Filter

E = tables.executions.c
EVERY = frozenset(State)
# Walks of one plan along one index, and steps along it to find out which names fit a pattern.
MAX_KEYS = 16
MAX_STEPS = 64
# So many rows are few: better read all of them than walk past others.
FEW_ROWS = 2_000
# Ids that begin alike: up to so many are found by their index, from more the newest are walked.
MAX_IDS = 20_000
# ULIDs have so many characters: nothing else begins with one.
ID_LENGTH = 26
_IN_INDEX = {
    "state": frozenset({"state", "handler_id", "schedule_id"}),
    "handler_id": frozenset({"handler_id"}),
    "schedule_id": frozenset({"schedule_id"}),
    "group_id": frozenset({"group_id"}),
}
_INDEXED = {
    "schedule_id": (E.schedule_id, text("schedule_id IS NOT NULL")),
    "handler_id": (E.handler_id, text("1 = 1")),
}


class Walk(Struct, frozen=True, kw_only=True):
    """One way down. ``fixed`` are the columns that the index begins with, ``states`` are checked (None: any)."""

    # That makes the index fit, word for word.
    predicate: str = ""
    fixed: tuple[tuple[str, str], ...] = ()
    # Ids, and how ids begin: found by their own index.
    ids: tuple[str, ...] = ()
    states: frozenset[State] | None = None
    terms: tuple[Term, ...] = ()

    def covers(self, columns: Iterable[str]) -> bool:
        """Whether these columns are read where the walk goes along: in its index, or in the rows themselves."""
        if not self.fixed and not self.ids:
            return True
        return not set(columns) - _IN_INDEX.get(self.fixed[0][0] if self.fixed else "", frozenset())


def walks(conn: Connection, wanted: Filter) -> list[Walk]:
    """The ways that together come to all that is wanted; none: nothing can be."""
    states = frozenset(wanted.states or EVERY) & states_of(wanted.terms)
    return _of_words(conn, wanted, states, wanted.terms)


def _of_words(conn: Connection, wanted: Filter, states: frozenset[State], terms: tuple[Term, ...]) -> list[Walk]:
    """Words are the beginning of an id or part of an error: each has its index, and they are walked one by one."""
    first = next((term for term in terms if term.qualifier is Q.TEXT and not term.negated), None)
    if first is None or any(term.qualifier is Q.ID and not term.negated for term in terms):
        return _of_terms(conn, wanted, states, terms)
    ids = replace(first, qualifier=Q.ID, values=((first.text.lower(),),))
    count = _count_ids(conn, ids)
    if count is None:
        return _of_terms(conn, wanted, states, terms)
    others = tuple(term for term in terms if term is not first)
    found = _of_terms(conn, wanted, states, (*others, ids)) if count else []
    apart = (replace(ids, negated=True),) if count else ()
    return found + _of_terms(conn, wanted, states, (*others, replace(first, qualifier=Q.ERROR), *apart))


def _of_terms(conn: Connection, wanted: Filter, states: frozenset[State], terms: tuple[Term, ...]) -> list[Walk]:
    if any(term.qualifier is Q.ERROR and not term.negated for term in terms):
        # What is completed has none.
        states -= {State.COMPLETED}
    if not states:
        return []
    rest = Walk(states=None if states == EVERY else states, terms=terms)
    for term in terms:
        if term.qualifier is Q.ID and not term.negated and _count_ids(conn, term) is not None:
            return [replace(rest, ids=tuple(dict.fromkeys(value[0] for value in term.values)))]
    groups = _literals(terms, Q.GROUP) if wanted.group_id is None else [wanted.group_id]
    if groups is not None and len(groups) <= MAX_KEYS:
        return [replace(rest, predicate=tables.IS_GROUPED, fixed=(("group_id", group),)) for group in groups]
    by_key = _by_key(conn, wanted, rest)
    if State.COMPLETED in states or (by_key is not None and _are_few(conn, by_key)):
        return [rest] if by_key is None else by_key
    # Those that failed are the most, as a rule: last, with what the others leave over of the rows to be looked at.
    ordered = sorted(states, key=lambda state: (state is State.FAILED, state.value))
    return [
        replace(rest, predicate=tables.NOT_COMPLETED, fixed=(("state", state.value),), states=None) for state in ordered
    ]


def _by_key(conn: Connection, wanted: Filter, rest: Walk) -> list[Walk] | None:
    """By schedule, or by handler; None: neither is fixed, or to too many."""
    schedules = _names(conn, "schedule_id", wanted.schedule_id, _patterns(rest.terms, Q.SCHEDULE))
    if schedules is not None:
        return [
            replace(rest, predicate="schedule_id IS NOT NULL", fixed=(("schedule_id", name),)) for name in schedules
        ]
    handlers = _names(conn, "handler_id", wanted.handler_id, _patterns(rest.terms, Q.HANDLER))
    if handlers is None:
        handlers = _handlers_of_jobs(conn, _patterns(rest.terms, Q.JOB))
    return None if handlers is None else [replace(rest, fixed=(("handler_id", name),)) for name in handlers]


def _patterns(terms: Sequence[Term], qualifier: Q) -> tuple[Pattern, ...] | None:
    """Those of the first term of its kind that narrows anything down."""
    return next((term.values for term in terms if term.qualifier is qualifier and not term.negated), None)


def _literals(terms: Sequence[Term], qualifier: Q) -> list[str] | None:
    patterns = _patterns(terms, qualifier)
    return None if patterns is None else list(dict.fromkeys(pattern[0] for pattern in patterns))


def _names(conn: Connection, column: str, said: str | None, patterns: tuple[Pattern, ...] | None) -> list[str] | None:
    """The names that an indexed column may have; None: any, or too many."""
    if said is not None:
        return [said]
    if patterns is None:
        return None
    found: dict[str, None] = {}
    for pattern in patterns:
        names = [pattern[0]] if len(pattern) == 1 else _stored(conn, column, pattern[0])
        if names is None:
            return None
        # (What else the pattern says is checked on the way.)
        found.update(dict.fromkeys(names))
    return list(found) if len(found) <= MAX_KEYS else None


def _handlers_of_jobs(conn: Connection, patterns: tuple[Pattern, ...] | None) -> list[str] | None:
    """The handlers whose name with a method may fit. Both may have dots in them."""
    if patterns is None:
        return None
    found: dict[str, None] = {}
    for pattern in patterns:
        start = pattern[0]
        found.update(dict.fromkeys(start[:at] for at, char in enumerate(start) if char == "."))
        if len(pattern) > 1:
            names = _stored(conn, "handler_id", start)
            if names is None:
                return None
            found.update(dict.fromkeys(names))
    found.pop("", None)
    return list(found) if len(found) <= MAX_KEYS else None


@lru_cache(maxsize=4)
def _stored_query(column: str) -> Query:
    name, predicate = _INDEXED[column]
    bounds = (name > bindparam("above"), name < bindparam("below"))
    return Query(select(name).where(predicate, *bounds).order_by(name).limit(1))


def _stored(conn: Connection, column: str, prefix: str) -> list[str] | None:
    """The names in an indexed column that begin so, one step along the index for each; None: too many."""
    query, above = _stored_query(column), prefix
    # (Whether the prefix itself is one shows when it is walked.)
    found = [prefix] if prefix else []
    while len(found) <= MAX_STEPS:
        row = query.one(conn, above=above, below=prefix + AFTER)
        if row is None:
            return found
        above = row[0]
        found.append(above)
    return None


# --- how many ---------------------------------------------------------------------------------------

_IDS = Query(
    select(func.count()).select_from(
        select(E.id)
        .where(E.id >= bindparam("low"), E.id < bindparam("high"))
        .order_by(E.id)
        .limit(bindparam("most"))
        .subquery()
    )
)


def _count_ids(conn: Connection, term: Term) -> int | None:
    """How many rows have ids that begin like that, at most; None: too many to be looked at by their ids."""
    count = 0
    for prefix in dict.fromkeys(value[0] for value in term.values):
        if len(prefix) >= ID_LENGTH:
            count += 1
            continue
        row = _IDS.one(conn, low=prefix, high=prefix + AFTER, most=MAX_IDS + 1 - count)
        count += 0 if row is None else row[0]
        if count > MAX_IDS:
            return None
    return count


@lru_cache(maxsize=8)
def _few_query(dialect: str, predicate: str, column: str) -> Query:
    where = [predicate] if predicate else []
    where += between(dialect, column, below=False)
    rows = select(E.seq).where(*map(text, where)).order_by(text(f"{column}, seq")).limit(bindparam("most")).subquery()
    return Query(select(func.count()).select_from(rows))


def _are_few(conn: Connection, by_key: Sequence[Walk]) -> bool:
    count = 0
    for walk in by_key:
        [(column, name)] = walk.fixed
        query = _few_query(conn.dialect.name, walk.predicate, column)
        row = query.one(conn, **{column: name}, above=0, most=FEW_ROWS + 1 - count)
        count += 0 if row is None else row[0]
        if count > FEW_ROWS:
            return False
    return True


def between(dialect: str, column: str, *, below: bool) -> list[str]:
    """Rows with ``:<column>`` in a column (if it is one) and ``seq`` between ``:above`` and, perhaps, ``:below``."""
    if not column:
        return ["seq > :above", *(["seq < :below"] if below else [])]
    if dialect == "sqlite":
        return [f"{column} = :{column}", *between(dialect, "", below=below)]
    # Compared as a pair, with its order said, no other index than the one with both fits: where PostgreSQL does not
    # know the value it would rather walk the whole table by ``seq``, hoping to meet it soon.
    last = ":below" if below else str((1 << 63) - 1)
    return [f"({column}, seq) > (:{column}, :above)", f"({column}, seq) < (:{column}, {last})"]
