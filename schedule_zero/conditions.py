"""Labels and facts of nodes, and conditions on them: ``gpu``, ``os == linux``, ``memory_gb >= 16``. Pure.

Facts are what a node tells of itself, labels what it was started with; a condition doesn't tell one from the other.

    condition := ["!"] name | name compare value | name ["not"] "in" "(" value {"," value} ")"
    compare   := "==" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~"
    name      := a letter or "_", then letters, digits, "_", ".", "/", "-"
    value     := text without spaces, commas, quotes and brackets, or anything in double quotes

* ``gpu`` holds where the node has the fact and it isn't ``false``; ``!gpu`` everywhere else.
* ``==`` and ``in`` compare text, and numbers as numbers (``4`` is ``4.0``). ``~`` is a pattern with ``*`` and ``?``.
* ``<`` and its like compare numbers as numbers. Versions (more than one dot on either side, or the facts ``python``
  and ``version``) are compared part by part: 3.9 is less than 3.12.
* What a node doesn't have is like nothing and not in anything: ``zone != eu`` holds there, ``zone == eu``, ``zone < 3``
  don't.

There is nothing that a well-formed condition fails at: a value that can't be compared just doesn't fulfil it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache

from msgspec import Struct

from schedule_zero.job_options import JobOptions

MAX_CONDITION = 256
# What a node tells of itself; no label may be called so.
FACTS = ("node", "host", "os", "arch", "python", "cores", "memory_gb", "version")
MAX_LABELS = 64
MAX_LABEL_VALUE = 256
_LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{0,62}")
# Facts that are versions, whatever they look like.
VERSIONS = frozenset({"python", "version"})

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_COMPARE = re.compile(r"==|!=|<=|>=|<|>|!~|~")
_BARE = re.compile(r'[^\s,()"]+')
_QUOTED = re.compile(r'"([^"]*)"')
_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d{1,15})?")
_VERSION_PART = re.compile(r"\d+|[a-zA-Z]+")
_ORDERED = frozenset({"<", "<=", ">", ">="})


class ConditionError(ValueError):
    """A condition that can't be understood; says where."""


class Condition(Struct, frozen=True):
    """``name op values``: ``op`` is a comparison, ``has`` or ``in``; ``negated`` turns it round."""

    name: str
    op: str
    values: tuple[str, ...] = ()
    negated: bool = False

    def holds(self, facts: Mapping[str, str]) -> bool:
        fact = facts.get(self.name)
        return (fact is not None and self._fulfils(fact)) is not self.negated

    def _fulfils(self, fact: str) -> bool:
        op = self.op
        if op == "has":
            return fact != "false"
        if op == "in":
            return any(_equal(fact, value) for value in self.values)
        [value] = self.values
        if op == "~":
            return fnmatchcase(fact, value.replace("[", "[[]"))
        order = _order(self.name, fact, value)
        if order is None:
            return False
        return {"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[op]


@lru_cache(maxsize=4096)
def parse(text: str) -> Condition:
    """Raises ConditionError."""
    return _Parser(text).condition()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What matches here, after spaces."""
        space = _SPACE.match(self._text, self._at)
        self._at = self._at if space is None else space.end()
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def _fail(self, expected: str) -> ConditionError:
        self._take(_SPACE)
        rest = self._text[self._at :]
        came = f"got {rest[:40]!r}" if rest else "it ends there"
        return ConditionError(f"expected {expected} at character {self._at + 1} of {self._text!r}, {came}")

    def condition(self) -> Condition:
        if len(self._text) > MAX_CONDITION:
            raise ConditionError(f"expected at most {MAX_CONDITION} characters, got {len(self._text)}")
        negated = self._take(re.compile("!")) is not None
        found = self._take(_NAME)
        if found is None:
            raise self._fail("the name of a label or fact")
        name = found[0]
        made = Condition(name, "has", negated=negated)
        if not negated:
            compare = self._take(_COMPARE)
            if compare is not None:
                made = self._comparison(name, compare[0])
            elif (word := self._take(re.compile(r"not\s+in\b|in\b"))) is not None:
                made = Condition(name, "in", self._list(), negated=word[0] != "in")
        self._take(_SPACE)
        if self._at < len(self._text):
            known = "the end" if negated or made.op != "has" else "==, !=, <, <=, >, >=, ~, !~, in or the end"
            raise self._fail(known)
        return made

    def _comparison(self, name: str, op: str) -> Condition:
        before = self._at
        value = self._value()
        if op in _ORDERED:
            if _version(value) is None:
                self._at = before
                raise self._fail("a number or a version")
            return Condition(name, op, (value,))
        return Condition(name, "~" if op in ("~", "!~") else "in", (value,), negated=op in ("!=", "!~"))

    def _list(self) -> tuple[str, ...]:
        if self._take(re.compile(r"\(")) is None:
            raise self._fail("( and a list of values")
        values = [self._value()]
        while self._take(re.compile(",")) is not None:
            values.append(self._value())
        if self._take(re.compile(r"\)")) is None:
            raise self._fail(", or )")
        return tuple(values)

    def _value(self) -> str:
        quoted = self._take(_QUOTED)
        if quoted is not None:
            return quoted[1]
        bare = self._take(_BARE)
        if bare is None:
            raise self._fail("a value")
        return bare[0]


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _equal(fact: str, value: str) -> bool:
    if fact == value:
        return True
    number = _number(fact)
    # 1.10 is another version than 1.1, but not another number; versions of two parts are text to ``==``.
    return number is not None and number == _number(value)


def _version(text: str) -> tuple[tuple[int, int, str], ...] | None:
    """To be compared part by part; letters come before numbers, as in 3.13rc1 < 3.13. None: not a version."""
    if not text[:1].isdecimal() or not text.isascii():
        number = _number(text)
        return None if number is None else ()
    return tuple((1, int(part[:18]), "") if part.isdecimal() else (-1, 0, part) for part in _VERSION_PART.findall(text))


def _order(name: str, fact: str, value: str) -> int | None:
    """Negative: ``fact`` is less than ``value``. None: they can't be compared."""
    if name not in VERSIONS and fact.count(".") < 2 and value.count(".") < 2:
        left, right = _number(fact), _number(value)
        if left is not None and right is not None:
            return (left > right) - (left < right)
    mine, other = _version(fact), _version(value)
    if not mine or not other:
        return None
    # 3.12 is 3.12.0: what is left out counts as nothing, which is more than a release candidate's letters.
    for index in range(max(len(mine), len(other))):
        one = mine[index] if index < len(mine) else (0, 0, "")
        two = other[index] if index < len(other) else (0, 0, "")
        if one[:2] == (1, 0):
            one = (0, 0, "")
        if two[:2] == (1, 0):
            two = (0, 0, "")
        if one != two:
            return 1 if one > two else -1
    return 0


def objection(options: JobOptions) -> tuple[str, str] | None:
    """(where, why) of the first condition that can't be understood: ``("/require/0", "expected …")``."""
    for field in ("require", "prefer"):
        for index, text in enumerate(getattr(options, field) or ()):
            try:
                parse(text)
            except ConditionError as error:
                return f"/{field}/{index}", str(error)
    return None


def parse_labels(said: Iterable[str]) -> dict[str, str]:
    """``zone=eu-1`` and ``gpu`` (which is ``gpu=true``) as a map. ValueError says what was expected."""
    labels: dict[str, str] = {}
    for one in said:
        name, equals, value = one.partition("=")
        name, value = name.strip(), value.strip()
        if not _LABEL_NAME.fullmatch(name):
            raise ValueError(f"expected NAME or NAME=VALUE (letters, digits, _ . / -, not beginning with a digit), "
                             f"got {one[:80]!r}")  # fmt: skip
        if name in FACTS:
            raise ValueError(f"{name!r} is what the node itself tells ({', '.join(FACTS)}); call the label otherwise")
        if len(value) > MAX_LABEL_VALUE or not value.isprintable():
            raise ValueError(f"the value of {name!r} has to be at most {MAX_LABEL_VALUE} printable characters")
        labels[name] = value if equals else "true"
    if len(labels) > MAX_LABELS:
        raise ValueError(f"expected at most {MAX_LABELS} labels, got {len(labels)}")
    return labels
