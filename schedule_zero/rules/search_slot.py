"""What is being typed at a place in a search, for suggestions: a qualifier, or a value and of what. Pure.

Works on what is not finished yet, and so not on terms: nothing here ever fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from schedule_zero.rules.search import COMPARED, LISTED, NAMES, Qualifier

_HEAD = re.compile(r"(-?)([A-Za-z_][\w.\[\]-]*):((?:[<>]=?)?)", re.ASCII)
_OPEN_ARG = re.compile(r"-?arg\.([^\s\":]*)", re.IGNORECASE)


class Slot(Struct, frozen=True, kw_only=True):
    """The characters from ``start`` up to ``end`` are what a suggestion replaces; ``typed`` of them are before the
    caret, without quotes.
    """

    # None: the name of a qualifier (or a word) is being typed.
    qualifier: Qualifier | None = None
    # Of ``arg``: the name of a parameter is being typed.
    path: bool = False
    typed: str = ""
    start: int
    end: int


def slot_at(text: str, caret: int) -> Slot:
    """The slot at the caret (0: before the first character)."""
    caret = min(max(caret, 0), len(text))
    start, end = next(((a, b) for a, b in _tokens(text) if a <= caret <= b), (caret, caret))
    before = text[start:caret]
    named = _HEAD.match(before)
    if named is None:
        arg = _OPEN_ARG.fullmatch(before)
        if arg is not None:
            return Slot(qualifier=Qualifier.ARG, path=True, typed=arg[1], start=start + arg.start(1), end=end)
        sign = before.startswith("-")
        return Slot(typed=before[sign:], start=start + sign, end=end)
    name = named[2].lower()
    qualifier = Qualifier.ARG if name.startswith("arg.") else Qualifier(name) if name in NAMES else Qualifier.TEXT
    value = start + (named.end() if qualifier in COMPARED else named.start(3))
    for comma in _commas(text, value, end) if qualifier in LISTED else ():
        if comma >= caret:
            end = comma
            break
        value = comma + 1
    return Slot(qualifier=qualifier, typed=text[value:caret].replace('"', ""), start=value, end=end)


def _tokens(text: str) -> Iterator[tuple[int, int]]:
    """From where to where terms reach: between spaces that are not in quotes."""
    start, quoted = None, False
    for at, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        if char.isspace() and not quoted:
            if start is not None:
                yield start, at
            start = None
        elif start is None:
            start = at
    if start is not None:
        yield start, len(text)


def _commas(text: str, start: int, end: int) -> Iterable[int]:
    quoted = False
    for at in range(start, end):
        if text[at] == '"':
            quoted = not quoted
        elif text[at] == "," and not quoted:
            yield at
