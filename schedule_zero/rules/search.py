r"""The search language for executions: ``state:failed job:etl.* since:2h arg.customer:42``. Pure.

    search    := term*                               all of them have to hold
    term      := ["-"] (qualifier ":" value | words) "-": it must not hold
    qualifier := state | handler | job | schedule | node | group | key | origin | attempt | took | since | until
               | error | id | arg.<path>
    value     := one {"," one}                       any of them; ``error``, ``since`` and ``until`` have one
    one       := text without spaces, or anything in double quotes (\" and \\ inside), ``*`` outside of quotes
                 standing for any text

What a term means stands in ``docs/reference/search.md``; ``store.execution_terms`` carries it out. A search is kept as
text (``said``): what it is relative to (``since:2h``, ``today``) is relative to when it is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import tzinfo
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from schedule_zero.model import Origin, State
from schedule_zero.rules.search_values import length_us, span_us
from schedule_zero.rules.states import TERMINAL


class Qualifier(StrEnum):
    """What a term is about; ``text``: words without a qualifier."""

    STATE = "state"
    HANDLER = "handler"
    JOB = "job"
    SCHEDULE = "schedule"
    NODE = "node"
    GROUP = "group"
    KEY = "key"
    ORIGIN = "origin"
    ATTEMPT = "attempt"
    TOOK = "took"
    SINCE = "since"
    UNTIL = "until"
    ERROR = "error"
    ID = "id"
    ARG = "arg"
    TEXT = ""


Q = Qualifier
# Text between stars: ``("etl.", "")`` is ``etl.*``; one piece is that text itself.
Pattern: TypeAlias = tuple[str, ...]
ANYTHING: Pattern = ("", "")

# Several states in a word.
STATE_GROUPS: dict[str, frozenset[State]] = {
    "open": frozenset(State) - TERMINAL,
    "over": TERMINAL,
    "failed-like": frozenset({State.FAILED, State.TIMEOUT, State.DEAD}),
}
STATE_WORDS = (*(state.value for state in State), *STATE_GROUPS)
ORIGIN_WORDS = tuple(origin.value for origin in Origin)
# Those whose values may have stars.
GLOBBED = frozenset({Q.HANDLER, Q.JOB, Q.SCHEDULE, Q.NODE, Q.KEY, Q.ARG})
# Those that may have several values.
LISTED = GLOBBED | {Q.STATE, Q.GROUP, Q.ORIGIN, Q.ID}
COMPARED = frozenset({Q.ATTEMPT, Q.TOOK, Q.ARG})
NAMES = tuple(one.value for one in Q if one is not Q.TEXT)


class Term(Struct, frozen=True, kw_only=True):
    """One condition: any of ``values``; with ``op`` the one value compared by it."""

    qualifier: Qualifier
    values: tuple[Pattern, ...]
    op: str = ""
    # Of ``arg``: names of members, and places in lists.
    path: tuple[str | int, ...] = ()
    negated: bool = False

    @property
    def text(self) -> str:
        """Of those with one value."""
        return self.values[0][0]


class Search(Struct, frozen=True):
    """All of these have to hold; none: everything is found."""

    terms: tuple[Term, ...] = ()


# --- what terms come to ---------------------------------------------------------------------------


def states_of(terms: Iterable[Term]) -> frozenset[State]:
    """The states in which all of the ``state:`` terms hold."""
    found = frozenset(State)
    for term in terms:
        if term.qualifier is Q.STATE:
            named = frozenset[State]().union(*(_states(value[0]) for value in term.values))
            found = found - named if term.negated else found & named
    return found


def _states(word: str) -> frozenset[State]:
    return STATE_GROUPS[word] if word in STATE_GROUPS else frozenset({State(word)})


def bounds_us(search: Search, now_us: int, zone: tzinfo) -> tuple[int | None, int | None]:
    """When it has to have been created: from the first microsecond on, up to the second one; None: at any time."""
    since: list[int] = []
    until: list[int] = []
    for term in search.terms:
        if term.qualifier not in (Q.SINCE, Q.UNTIL):
            continue
        first_us, last_us = span_us(term.text, now_us, zone)
        if term.qualifier is Q.SINCE:
            (until if term.negated else since).append(first_us - term.negated)
        else:
            (since if term.negated else until).append(last_us + term.negated)
    return max(since, default=None), min(until, default=None)


def took_us(term: Term) -> int:
    """What ``took:`` is compared with."""
    found = length_us(term.text)
    assert found is not None, term
    return found


# --- as text ----------------------------------------------------------------------------------------

BARE_KEY = re.compile(r"[^\s\".:,\[\]]+")
ARG = "arg."
OPS = (">=", "<=", ">", "<")
# What looks like a term with a qualifier, known or not.
NAMED = re.compile(r"([A-Za-z_][\w.\[\]-]*):")


# Words of other search languages, and how the same is said here. In quotes they are text.
FOREIGN = {
    "OR": "alternatives stand in one term, as in state:failed,dead",
    "AND": "terms side by side have to hold all",
    "NOT": "put - before a term, as in -state:completed",
}


def said(search: Search) -> str:
    """The search in the one way in which it is written; ``search_parse`` makes the same of it again."""
    return " ".join(map(said_term, search.terms))


def said_term(term: Term) -> str:
    sign = "-" if term.negated else ""
    if term.qualifier is Q.TEXT:
        return sign + _said_words(term.text)
    name = term.qualifier.value + "".join(map(said_step, term.path))
    if term.qualifier not in LISTED:
        return f"{sign}{name}:{term.op}{_said_piece(term.text, '')}"
    special = ",*" if term.qualifier in GLOBBED else ","
    values = []
    for value in term.values:
        text = "*".join(_said_piece(piece, special) if piece or len(value) == 1 else "" for piece in value)
        if term.qualifier in COMPARED and not term.op and text.startswith(("<", ">")):
            text = _quoted(value[0]) + text[len(value[0]) :]
        values.append(text)
    return f"{sign}{name}:{term.op}{','.join(values)}"


def _said_words(text: str) -> str:
    is_taken = text.startswith("-") or NAMED.match(text) or text[: len(ARG)].lower() == ARG or text in FOREIGN
    return _quoted(text) if is_taken else _said_piece(text, "")


def said_step(step: str | int) -> str:
    """One step of the path of ``arg``."""
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if BARE_KEY.fullmatch(step) else f'."{step}"'


def _said_piece(text: str, special: str) -> str:
    bare = text and not any(c.isspace() or c == '"' or c in special for c in text)
    return text if bare else _quoted(text)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
