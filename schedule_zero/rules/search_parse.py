"""Reads the search language: from text to terms, or to a refusal that says what was expected and where. Pure."""

from __future__ import annotations

import difflib
import re

from schedule_zero.errors import InvalidSearch
from schedule_zero.rules.search import (
    ARG,
    BARE_KEY,
    COMPARED,
    FOREIGN,
    GLOBBED,
    LISTED,
    NAMED,
    NAMES,
    OPS,
    ORIGIN_WORDS,
    STATE_WORDS,
    Pattern,
    Q,
    Qualifier,
    Search,
    Term,
)
from schedule_zero.rules.search_values import LENGTH_WORDS, MOMENT_WORDS, is_moment, is_number, length_us

MAX_TEXT = 2_000
MAX_TERMS = 30
MAX_VALUES = 100
MAX_STEPS = 10
MAX_INDEX = 100_000
# A whole id that was pasted is meant as such, not as a word of an error.
_ULID = re.compile(r"[0-9a-hjkmnp-tv-z]{26}", re.ASCII | re.IGNORECASE)
_PLACE = re.compile(r"\d{1,6}", re.ASCII)


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
        named = NAMED.match(self._text, self._at)
        if self._text[self._at : self._at + len(ARG)].lower() == ARG:
            # (The dot belongs to the first step.)
            self._at += len(ARG) - 1
            path = self._path()
            op, values = self._values(Q.ARG)
            return Term(qualifier=Q.ARG, path=path, op=op, values=values, negated=negated)
        if named is None:
            at = self._at
            words = self._words()
            if words in FOREIGN and self._text.startswith(words, at):
                raise self._fail("a term", words, at=at, hint=f"{FOREIGN[words]}; in quotes it is a word to look for")
            if _ULID.fullmatch(words):
                return Term(qualifier=Q.ID, values=((words.lower(),),), negated=negated)
            return Term(qualifier=Q.TEXT, values=((words,),), negated=negated)
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
                digits = _PLACE.match(self._text, self._at)
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
            if not key or '"' in key or "\\" in key:
                raise self._fail("the name of a parameter without quotes and backslashes", repr(key), at=at)
            return key
        bare = BARE_KEY.match(self._text, self._at)
        if bare is None or "\\" in bare[0]:
            raise self._fail("the name of a parameter, as in arg.customer:42")
        self._at = bare.end()
        return bare[0]

    # --- values -------------------------------------------------------------------------------------

    def _values(self, qualifier: Qualifier) -> tuple[str, tuple[Pattern, ...]]:
        op = next((op for op in OPS if qualifier in COMPARED and self._takes(op)), "")
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
