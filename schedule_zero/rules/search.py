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

import difflib
import re
from collections.abc import Iterable
from datetime import tzinfo
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from schedule_zero.errors import InvalidSearch
from schedule_zero.model import Origin, State
from schedule_zero.rules.search_values import (
    LENGTH_WORDS,
    MOMENT_WORDS,
    is_moment,
    is_number,
    length_us,
    span_us,
)
from schedule_zero.rules.states import TERMINAL

MAX_TEXT = 2_000
MAX_TERMS = 30
MAX_VALUES = 100
MAX_STEPS = 10
MAX_INDEX = 100_000


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

_BARE_KEY = re.compile(r"[^\s\".:,\[\]]+")
_ARG = "arg."
_OPS = (">=", "<=", ">", "<")
# What looks like a term with a qualifier, known or not.
_NAMED = re.compile(r"([A-Za-z_][\w.\[\]-]*):")


def said(search: Search) -> str:
    """The search in the one way in which it is written; ``parse`` makes the same of it again."""
    return " ".join(map(said_term, search.terms))


def said_term(term: Term) -> str:
    sign = "-" if term.negated else ""
    if term.qualifier is Q.TEXT:
        return sign + _said_words(term.text)
    name = term.qualifier.value + "".join(map(_said_step, term.path))
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
    is_taken = text.startswith("-") or _NAMED.match(text) or text[: len(_ARG)].lower() == _ARG
    return _quoted(text) if is_taken else _said_piece(text, "")


def _said_step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _BARE_KEY.fullmatch(step) else f'."{step}"'


def _said_piece(text: str, special: str) -> str:
    bare = text and not any(c.isspace() or c == '"' or c in special for c in text)
    return text if bare else _quoted(text)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# --- from text --------------------------------------------------------------------------------------


def parse(text: str) -> Search:
    """Raises InvalidSearch: what was expected, and at which character."""
    return Search(_Parser(text).terms())


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        # Where the term began that is being read.
        self._start = 0

    def terms(self) -> tuple[Term, ...]:
        if len(self._text) > MAX_TEXT:
            raise self._fail(f"a search of at most {MAX_TEXT} characters", f"{len(self._text)}", at=MAX_TEXT)
        for at, char in enumerate(self._text):
            if char == "\0" or "\ud800" <= char <= "\udfff":
                raise self._fail("text (a NUL or half of a surrogate pair is none)", repr(char), at=at)
        found: list[Term] = []
        while self._skip_space():
            if len(found) == MAX_TERMS:
                raise self._fail(f"at most {MAX_TERMS} terms")
            found.append(self._term())
        return tuple(found)

    def _skip_space(self) -> bool:
        """Whether there is more."""
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1
        return self._at < len(self._text)

    def _term(self) -> Term:
        self._start = self._at
        negated = self._takes("-")
        if self._at == len(self._text) or self._here().isspace():
            raise self._fail("a qualifier or a word after -", at=self._start)
        named = _NAMED.match(self._text, self._at)
        if self._text[self._at : self._at + len(_ARG)].lower() == _ARG:
            # (The dot belongs to the first step.)
            self._at += len(_ARG) - 1
            path = self._path()
            op, values = self._values(Q.ARG)
            return Term(qualifier=Q.ARG, path=path, op=op, values=values, negated=negated)
        if named is None:
            return Term(qualifier=Q.TEXT, values=((self._words(),),), negated=negated)
        name = named[1].lower()
        if name not in NAMES or name == Q.ARG:
            raise self._unknown(named[1], named.end())
        self._at = named.end()
        qualifier = Q(name)
        op, values = self._values(qualifier)
        return Term(qualifier=qualifier, op=op, values=values, negated=negated)

    def _unknown(self, name: str, end: int) -> InvalidSearch:
        close = difflib.get_close_matches(name.lower(), NAMES, n=1)
        hint = f"did you mean {_name(close[0])}?" if close else "text with a colon in it has to stand in double quotes"
        known = ", ".join(map(_name, NAMES))
        return self._fail(f"one of {known}", repr(self._text[self._at : end]), hint=hint)

    def _path(self) -> tuple[str | int, ...]:
        """``.customer.addresses[0].city:``, up to the colon."""
        path: list[str | int] = []
        while not self._takes(":"):
            if len(path) == MAX_STEPS:
                raise self._fail(f"at most {MAX_STEPS} steps to a parameter")
            if self._takes("."):
                path.append(self._key())
            elif path and self._takes("["):
                digits = re.compile(r"\d{1,6}", re.ASCII).match(self._text, self._at)
                if digits is None or int(digits[0]) > MAX_INDEX:
                    raise self._fail(f"the place of an element, 0 to {MAX_INDEX}")
                self._at = digits.end()
                if not self._takes("]"):
                    raise self._fail("]")
                path.append(int(digits[0]))
            else:
                raise self._fail("a colon and a value, as in arg.customer:42")
        return tuple(path)

    def _key(self) -> str:
        if self._at < len(self._text) and self._here() == '"':
            at = self._at
            key = self._in_quotes()
            if '"' in key or "\\" in key:
                raise self._fail("the name of a parameter without quotes and backslashes", repr(key), at=at)
            return key
        bare = _BARE_KEY.match(self._text, self._at)
        if bare is None or "\\" in bare[0]:
            raise self._fail("the name of a parameter, as in arg.customer:42")
        self._at = bare.end()
        return bare[0]

    # --- values -------------------------------------------------------------------------------------

    def _values(self, qualifier: Qualifier) -> tuple[str, tuple[Pattern, ...]]:
        op = next((op for op in _OPS if qualifier in COMPARED and self._takes(op)), "")
        if op or qualifier not in LISTED:
            at = self._at
            text = self._words()
            op, text = self._checked(qualifier, op, text, at)
            return op, ((text,),)
        values: list[Pattern] = []
        while True:
            if len(values) == MAX_VALUES:
                raise self._fail(f"at most {MAX_VALUES} values")
            at = self._at
            value = self._value(stars=qualifier in GLOBBED, commas=True)
            values.append((self._word(qualifier, value[0], at),) if len(value) == 1 else value)
            if not self._takes(","):
                return "", tuple(values)

    def _word(self, qualifier: Qualifier, text: str, at: int) -> str:
        """A value of a list that is no pattern."""
        if qualifier is Q.ID and not text:
            raise self._fail("how an id begins", '""', at=at)
        if qualifier is Q.ID:
            return text.lower()
        choices = {Q.STATE: STATE_WORDS, Q.ORIGIN: ORIGIN_WORDS}.get(qualifier)
        if choices is None:
            return text
        word = text.lower()
        if word not in choices:
            close = difflib.get_close_matches(word, choices, n=1)
            hint = f"did you mean {close[0]}?" if close else None
            raise self._fail(f"one of {', '.join(choices)}", repr(text), at=at, hint=hint)
        return word

    def _checked(self, qualifier: Qualifier, op: str, text: str, at: int) -> tuple[str, str]:
        """A comparison, or the value of a qualifier that has only one; as it is kept."""
        if qualifier in (Q.SINCE, Q.UNTIL):
            # (As commands have it: -2h is two hours ago.)
            text = text.removeprefix("-")
            text = text if is_moment(text) else text.lower()
            if not is_moment(text):
                raise self._fail(MOMENT_WORDS, repr(text), at=at)
        elif qualifier is Q.TOOK:
            op = op or ">="
            if length_us(text) is None:
                raise self._fail(LENGTH_WORDS, repr(text), at=at)
        elif qualifier is Q.ATTEMPT:
            if not (text.isascii() and text.isdecimal() and len(text) <= 9):
                raise self._fail("a whole number", repr(text), at=at)
            text = str(int(text))
        elif qualifier is Q.ARG and not is_number(text):
            raise self._fail("a number (to find text that begins with < or >, quote it)", repr(text), at=at)
        return op, text

    def _words(self) -> str:
        at = self._at
        [text] = self._value(stars=False, commas=False)
        if not text:
            raise self._fail("at least one character", '""', at=at)
        return text

    def _value(self, *, stars: bool, commas: bool) -> Pattern:
        """Up to a space or, where they divide, a comma. At least a pair of quotes."""
        pieces = [""]
        start = self._at
        while self._at < len(self._text):
            char = self._here()
            if char.isspace() or (commas and char == ","):
                break
            if char == '"':
                pieces[-1] += self._in_quotes()
                continue
            self._at += 1
            if not (stars and char == "*"):
                pieces[-1] += char
            elif len(pieces) == 1 or pieces[-1]:
                # (Two stars in a row are one.)
                pieces.append("")
        if self._at == start:
            raise self._fail("a value")
        return tuple(pieces)

    def _in_quotes(self) -> str:
        start = self._at
        self._at += 1
        text = ""
        while self._at < len(self._text):
            char = self._here()
            self._at += 1
            if char == '"':
                return text
            if char == "\\" and self._text[self._at : self._at + 1] in ('"', "\\"):
                char = self._here()
                self._at += 1
            text += char
        raise self._fail('a closing "', "the end", at=start)

    def _here(self) -> str:
        return self._text[self._at]

    def _takes(self, token: str) -> bool:
        found = self._text.startswith(token, self._at)
        self._at += len(token) * found
        return found

    def _fail(
        self, expected: str, got: str | None = None, *, at: int | None = None, hint: str | None = None
    ) -> InvalidSearch:
        at = self._at if at is None else at
        if got is None:
            rest = self._text[at:].split(maxsplit=1)
            got = repr(rest[0][:60]) if at < len(self._text) and not self._text[at].isspace() else "nothing more"
        token = (self._text[self._start :].split(maxsplit=1) or [""])[0][:100]
        return InvalidSearch(
            f"expected {expected} at character {at + 1} of the search, got {got[:200]}",
            pointer="/q",
            hint=hint,
            position=at,
            token=token,
        )


def _name(qualifier: str) -> str:
    """As it is written."""
    return "arg.<name>:" if qualifier == Q.ARG else f"{qualifier}:"
