"""What msgspec has against a value, in words for whoever sent it: what is allowed there, and what came.

msgspec names an enum's wrong value but not the right ones, a pattern but not what it means, and often not what came.
The types that it checks by know the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from msgspec import inspect

MAX_SHOWN = 100
# Python reads whole numbers up to so many digits, msgspec floats up to the largest of IEEE 754.
LARGEST = "the largest numbers that are taken have 4,300 digits, or are 1.8e308 with a fraction or an exponent"
NAME_WORDS = "up to 128 of A-Z a-z 0-9 _ . : @ / -, the first one a letter, digit or _"
# What a pattern means, by the pattern (``wire.messages.Name``, ``schemas``).
PATTERNS = {
    r"^[A-Za-z0-9_][A-Za-z0-9_.:@/-]*(?!\n)$": NAME_WORDS,
    r"^(\*|[A-Za-z0-9_][A-Za-z0-9_.:@/-]*)(?!\n)$": f"* or {NAME_WORDS}",
    r"^[a-z_]+(\.[a-z_]+)?(?!\n)$": "a word such as execution or execution.finished",
    r"^[A-Za-z_][A-Za-z0-9_.]*(?!\n)$": "an exception's class such as ConnectionError, or a category such as transient",
    r"^([^{}\x00-\x1f]|\{([A-Za-z_][A-Za-z0-9_]*|\*)\})+(?!\n)$": "text with {parameter} in it such as user:{id}",
    r"^[1-9][0-9]{0,8}/[smhd](?!\n)$": "so many in a second, minute, hour or day, such as 10/s",
    r"^[A-Za-z0-9_][A-Za-z0-9_.:@/-]{0,127}\.[A-Za-z0-9_][A-Za-z0-9_:@/-]{0,127}(?!\n)$": "handler.method",
    r"^[^\x00-\x1f\x7f]*(?!\n)$": "text without control characters",
    r"^[!-~]+(?!\n)$": "ASCII characters without spaces",
    r"^[A-Za-z_][A-Za-z0-9_./-]*(?!\n)$": "a label's name such as zone",
    r"^[0-9]{1,18}(-[0-9]{1,9})?(?!\n)$": "the id of an event such as 1234-5",
    r"^[0-9a-hjkmnp-tv-z]{26}(?!\n)$": "an execution's id: 26 digits and lower-case letters, without i, l, o and u",
    r"^[a-z][a-z-]*(?!\n)$": "the name of a page such as executions",
    r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?(?!\n)$": "a name in one line, without spaces around it",
}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}")
_KINDS = re.compile(r"Expected `(?P<expected>[^`]+)`, got `(?P<got>[^`]+)`")
# What is named by its kind alone.
_BARE = frozenset({"null", "array", "object"})


class Huge(str):
    """A number as it was written, which is too large to be read."""

    __slots__ = ()


class Missing:
    """It can't be told what came."""


MISSING = Missing()


def sentence(what: str, info: Any, steps: Sequence[str | int], value: object, *, as_text: bool = False) -> str:
    """``what`` msgspec said about ``value`` at the end of ``steps`` below the type ``info``, as a sentence.

    ``as_text``: everything came as text (a query string), so its kind says nothing.
    """
    leaves = list(_leaves(info, list(steps)))
    if what.startswith("Invalid enum value"):
        choices = list(dict.fromkeys(choice for leaf in leaves for choice in _choices(leaf)))
        said = f"expected {'one of ' if len(choices) > 1 else ''}{', '.join(choices)}" if choices else _plain(what)
        return said + _got(value)
    if "RFC3339" in what or "timezone component" in what:
        local = any(isinstance(leaf, inspect.DateTimeType) and leaf.tz is None for leaf in leaves)
        seconds = any(isinstance(leaf, inspect.FloatType) for leaf in leaves)
        forms = ["2030-01-01T00:00:00Z", *(["a local time without Z"] if local else [])]
        forms += ["unix seconds"] if seconds else []
        if isinstance(value, str) and _DATE.match(value) and _is_no_moment(value):
            return "expected a moment that there is" + _got(value)
        offset = " with Z or an offset" if "timezone" in what else ""
        return f"expected a moment{offset}: {' or '.join(forms)}" + _got(value)
    if what.startswith("Expected `float` >= 0") and any(isinstance(leaf, inspect.DateTimeType) for leaf in leaves):
        return "expected a moment from 1970 on" + _got(value)
    if "out of range" in what:
        return f"the number is out of range ({LARGEST})" + _got(value)
    if what.startswith("Expected `str` ") or "regex" in what:
        pattern = next((PATTERNS[leaf.pattern] for leaf in leaves if _is_patterned(leaf)), None)
        if pattern is not None:
            return f"expected {pattern}" + _got(value)
    kinds = _KINDS.fullmatch(what)
    if kinds is not None:
        if as_text:
            return f"expected {kinds['expected']}" + _got(value)
        shown = "" if kinds["got"] in _BARE or value is MISSING else f" ({_shown(value)})"
        return _plain(what) + shown
    return _plain(what) + _got(value)


def _is_no_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return True
    return False


def _plain(what: str) -> str:
    """``Expected `int`, got `str``` → ``expected int, got str``: as the other messages are written."""
    what = what.replace("`", "")
    return what[:1].lower() + what[1:]


def _got(value: object) -> str:
    return "" if value is MISSING else f", got {_shown(value)}"


def _shown(value: object) -> str:
    """As the other messages show it: text in quotes, everything else as JSON has it."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an empty list" if not value else f"a list of {len(value)}"
    text = str(value) if isinstance(value, Huge) else repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}… ({len(text)} characters)"


def _is_patterned(leaf: Any) -> bool:
    return isinstance(leaf, inspect.StrType) and leaf.pattern in PATTERNS


def _choices(leaf: Any) -> Iterator[str]:
    if isinstance(leaf, inspect.EnumType):
        yield from (str(member.value) for member in leaf.cls)
    elif isinstance(leaf, inspect.LiteralType):
        yield from (str(value) or "''" for value in leaf.values)
    elif isinstance(leaf, inspect.IntType) and leaf.ge is not None and leaf.le is not None:
        yield f"{leaf.ge} to {leaf.le}"


def _leaves(info: Any, steps: list[str | int]) -> Iterator[Any]:
    """The types that a value at the end of ``steps`` may have."""
    if isinstance(info, inspect.Metadata):
        yield from _leaves(info.type, steps)
    elif isinstance(info, inspect.UnionType):
        for part in info.types:
            yield from _leaves(part, steps)
    elif not steps:
        yield info
    elif isinstance(info, inspect.ListType | inspect.VarTupleType):
        yield from _leaves(info.item_type, steps[1:])
    elif isinstance(info, inspect.StructType):
        for field in info.fields:
            if field.encode_name == steps[0]:
                yield from _leaves(field.type, steps[1:])
