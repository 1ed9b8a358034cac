"""What a form shows: fields with what was typed into them, and what is wrong with it beside each. Pure.

A field is called by the JSON pointer of what it says in the API's body (``/options/timeout_s``); so an error's pointer
finds its field. ``json:`` before it means that the field holds JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from zlib import crc32

from msgspec import Struct, field

JSON = "json:"
Pairs = Sequence[tuple[str, str]]
# By pointer, in words.
Errors = Mapping[str, str]
_PLAIN = re.compile(r"(/[A-Za-z0-9_]+){1,8}")
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_]+")


class Widget(StrEnum):
    TEXT = "text"
    AREA = "area"
    SELECT = "select"
    DATE = "date"
    CHECK = "check"
    JSON = "json"
    # Fields that belong together.
    GROUP = "group"


class FormField(Struct, kw_only=True):
    """One field, or a group of them (``members``), ready to be shown."""

    pointer: str
    label: str
    widget: Widget = Widget.TEXT
    value: str = ""
    placeholder: str = ""
    # (value, label) of a select, also of the suggestions of a text.
    choices: list[tuple[str, str]] = []
    # The id of a list of suggestions that stands elsewhere.
    suggestions: str = ""
    description: str = ""
    required: bool = False
    error: str = ""
    # The label is a name in a program.
    code: bool = False
    # A whole number: phones show digits.
    digits: bool = False
    members: list[FormField] = field(default_factory=list)
    # Where it has to be called otherwise than by its pointer.
    name_: str = ""

    @property
    def name(self) -> str:
        return self.name_ or (f"{JSON}{self.pointer}" if self.widget is Widget.JSON else self.pointer)

    @property
    def id(self) -> str:
        return field_id(self.pointer)

    @property
    def said(self) -> bool:
        """Whether something is typed into it, or wrong with it: a folded group with such a field is open."""
        return bool(self.value or self.error) or any(member.said for member in self.members)


class Problem(Struct, frozen=True):
    """Something that is wrong: in which field (``id``, "" where there is none for it), and what."""

    label: str
    message: str
    id: str = ""


def field_id(pointer: str) -> str:
    """An element's id for a field: letters, digits and dashes only, whatever a parameter is called."""
    if _PLAIN.fullmatch(pointer):
        return "f" + pointer.replace("/", "-")
    # What was left out may be all that tells two of them apart.
    return f"f{_NOT_IN_IDS.sub('-', pointer)[:60]}-{crc32(pointer.encode()):08x}"


def typed(pairs: Pairs, name: str) -> str:
    """What was typed into a field; "" where it isn't there."""
    return next((value for key, value in pairs if key == name), "")


def walk(fields: Iterable[FormField]) -> Iterator[FormField]:
    """All of them, groups before their members."""
    for one in fields:
        yield one
        yield from walk(one.members)


def place(fields: Iterable[FormField], errors: Errors, *, mark: bool = True) -> list[Problem]:
    """Which field each error is about, or holds what it is about; with ``mark`` it is written there as well."""
    by_pointer = {one.pointer: one for one in walk(fields)}
    problems = []
    for pointer, message in errors.items():
        at = pointer
        while at and at not in by_pointer:
            at = at.rpartition("/")[0]
        found = by_pointer.get(at)
        if found is None:
            problems.append(Problem("", message))
            continue
        if mark:
            found.error = f"{found.error}; {message}" if found.error else message
        problems.append(Problem(found.label, message, found.id))
    return problems


def lines(text: str) -> list[str]:
    """What stands in a field with one entry a line. (Browsers send CR LF.)"""
    return [line for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line.strip()]


def is_plain(text: str) -> bool:
    """Whether a field shows a text and gives it back as it was: browsers drop or turn control characters."""
    return bool(text) and not any(_is_control(char) for char in text)


def is_line(text: str) -> bool:
    """The same of one line of several."""
    return bool(text.strip()) and "\n" not in text and is_plain(text)


def _is_control(char: str) -> bool:
    code = ord(char)
    return (code < 0x20 and char not in "\n\t") or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000
