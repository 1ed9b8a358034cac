"""A form for a job's parameters: from a document to fields, and from fields to the document. Pure.

``fields_of`` and ``read`` are each other's opposite: a document that is shown and sent back untouched is the same.
What a field could not give back (an empty text, a null, a list in a list) is shown as JSON in its place, and so is all
of it if somebody wants to see it so; which of the two a value came as is told by the field's name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from msgspec import Struct

from schedule_zero.web.pages.fields import JSON, FormField, Pairs, Widget, is_line, is_plain, lines, typed
from schedule_zero.web.pages.json_values import MAX_DIGITS, read_json, write_json
from schedule_zero.web.pages.param_shape import ROOT, Kind, Shape

# Members that the schema doesn't name, where it takes such.
MORE = f"more:{ROOT}"
ABSENT: Any = object()
# Longer texts get a field of several lines.
LONG = 120
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Formats that are looked at here, by what is expected: the schema's validator takes any text for them.
_FORMATS: dict[str, tuple[str, Callable[[str], object]]] = {
    "date": ("a date such as 2030-01-31", date.fromisoformat),
    "date-time": ("a moment such as 2030-01-31T09:00:00+01:00", datetime.fromisoformat),
}
_EXAMPLES = {
    "date-time": "2030-01-31T09:00:00Z",
    "time": "09:30:00",
    "duration": "PT1H30M",
    "uuid": "00000000-0000-0000-0000-000000000000",
}


class Reading(Struct):
    """What a form says: the document, as far as it could be read, and what could not."""

    document: Any
    # By pointer, in words.
    errors: dict[str, str]


# --- from a document to what stands in the fields -----------------------------------------------------


def fields_of(shape: Shape, document: Any, *, exact: bool = True) -> list[tuple[str, str]]:
    """What has to stand in which field for ``document`` to be read from them.

    Not ``exact``: of a document that lacks something, which a form would fill in (null, an empty list), fields are made
    all the same.
    """
    found = _fields(shape, document, exact)
    return [(JSON + shape.pointer, as_json(document))] if found is None else found


def as_json(document: Any) -> str:
    """What stands in a field that holds JSON."""
    return write_json(document, indent=2)


def _fields(shape: Shape, value: Any, exact: bool) -> list[tuple[str, str]] | None:
    """None: fields can't say it."""
    if value is ABSENT:
        # A form says something of what is required.
        fills = shape.nullable or shape.kind in (Kind.LIST, Kind.OBJECT)
        return None if exact and shape.required and fills else []
    if shape.kind is Kind.OBJECT:
        return _object_fields(shape, value, exact)
    if shape.kind is Kind.JSON:
        return None
    if value is None and shape.nullable and shape.required:
        return [(shape.pointer, "")]
    text = _list_text(shape, value) if shape.kind is Kind.LIST else _single_text(shape, value)
    if text is None or (not text and not (shape.kind is Kind.LIST and shape.required and not shape.nullable)):
        return None
    return [(shape.pointer, text)]


def _object_fields(shape: Shape, value: Any, exact: bool) -> list[tuple[str, str]] | None:
    names = {member.name for member in shape.members}
    more = {key: part for key, part in value.items() if key not in names} if isinstance(value, dict) else {}
    if not isinstance(value, dict) or (more and not shape.open):
        return None
    fields = []
    for member in shape.members:
        part = value.get(member.name, ABSENT)
        said = _fields(member, part, exact)
        if said is None and part is ABSENT:
            return None
        fields += [(JSON + member.pointer, write_json(part, indent=2))] if said is None else said
    if not shape.required and not any(text.strip() for _, text in fields):
        # It would be taken for one that isn't there.
        return None
    return [*fields, (MORE, write_json(more, indent=2))] if more else fields


def _single_text(shape: Shape, value: Any) -> str | None:
    """The text that ``_single`` reads as exactly this value; None: there is none."""
    match shape.kind:
        case Kind.TEXT if isinstance(value, str) and is_plain(value):
            text = value
        case Kind.INTEGER if type(value) is int:
            text = str(value)
        case Kind.NUMBER if type(value) in (int, float):
            text = str(value) if type(value) is int else repr(value)
        case Kind.CHOICE:
            text = write_json(value)
        case _:
            return None
    try:
        again = _single(shape, text)
    except ValueError:
        return None
    return text if type(again) is type(value) and again == value else None


def _list_text(shape: Shape, value: Any) -> str | None:
    item = shape.item
    if item is None or not isinstance(value, list):
        return None
    labels = dict(item.choices)
    texts = []
    for one in value:
        text = _single_text(item, one)
        line = labels.get(text or "", text) if item.kind is Kind.CHOICE else text
        if line is None or not is_line(line):
            return None
        texts.append(line)
    return "\n".join(texts)


# --- from what stands in the fields to the document ---------------------------------------------------


def read(shape: Shape, pairs: Pairs) -> Reading:
    """The document that the fields say. A field that was left empty says nothing."""
    reading = Reading({}, {})
    by_name = dict(reversed(pairs))
    value = _read(shape, by_name, reading.errors)
    if shape.kind is Kind.OBJECT and isinstance(value, dict) and MORE in by_name:
        _read_more(shape, by_name[MORE], value, reading.errors)
    reading.document = {} if value is ABSENT else value
    return reading


def _read(shape: Shape, by_name: dict[str, str], errors: dict[str, str]) -> Any:
    written = by_name.get(JSON + shape.pointer)
    try:
        if written is not None:
            return ABSENT if not written.strip() else read_json(written)
        if shape.kind is Kind.OBJECT:
            if not shape.required and not _is_said(shape, by_name):
                return ABSENT
            members = {member.name: _read(member, by_name, errors) for member in shape.members}
            return {name: value for name, value in members.items() if value is not ABSENT}
        text = by_name.get(shape.pointer, "").replace("\r\n", "\n")
        if shape.kind is Kind.LIST:
            return _list(shape, text)
        # A text may be nothing but spaces.
        if not (text if shape.kind is Kind.TEXT else text.strip()):
            return None if shape.required and shape.nullable else ABSENT
        return _single(shape, text)
    except ValueError as error:
        errors[shape.pointer] = str(error)
        return ABSENT


def _is_said(shape: Shape, by_name: dict[str, str]) -> bool:
    """Whether something stands in a field of it."""
    written = by_name.get(JSON + shape.pointer, by_name.get(shape.pointer, ""))
    return bool(written.strip()) or any(_is_said(member, by_name) for member in shape.members)


def _read_more(shape: Shape, text: str, document: dict[str, Any], errors: dict[str, str]) -> None:
    if not text.strip():
        return
    try:
        more = read_json(text)
    except ValueError as error:
        errors[MORE] = str(error)
        return
    if not isinstance(more, dict):
        errors[MORE] = "expected an object of parameters by name"
        return
    known = sorted(more.keys() & {member.name for member in shape.members})
    if known:
        errors[MORE] = f"{known[0]} has a field of its own"
        return
    document.update(more)


def _list(shape: Shape, text: str) -> Any:
    if shape.item is None:
        raise AssertionError("a list of nothing")
    entries = lines(text)
    if not entries:
        if not shape.required:
            return ABSENT
        return None if shape.nullable else []
    values = []
    by_label = {label: written for written, label in shape.item.choices}
    for number, line in enumerate(entries, start=1):
        try:
            values.append(_single(shape.item, by_label.get(line, by_label.get(line.strip(), line))))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return values


def _single(shape: Shape, text: str) -> Any:
    match shape.kind:
        case Kind.INTEGER:
            return _integer(text.strip())
        case Kind.NUMBER:
            return _number(text.strip())
        case Kind.CHOICE:
            if text == "null" and shape.nullable:
                return None
            for written, _ in shape.choices:
                if written == text:
                    return read_json(written)
            raise ValueError(
                f"expected one of {', '.join(label for _, label in shape.choices[:20])}, got {text[:80]!r}"
            )
        case _:
            return _checked(shape.format, text)


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"expected a whole number, got {text[:80]!r}")
    if len(text) > MAX_DIGITS:
        raise ValueError(f"expected a number of at most {MAX_DIGITS:,} digits, got {len(text):,}")
    return int(text)


def _number(text: str) -> int | float:
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"expected a number, got {text[:80]!r}")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"expected a number up to 1.8e308, got {text[:80]!r}")
    return number


def _checked(format_: str, text: str) -> str:
    if format_ in _FORMATS:
        expected, parse = _FORMATS[format_]
        try:
            parse(text)
        except ValueError:
            raise ValueError(f"expected {expected}, got {text[:80]!r}") from None
    return text


# --- what is shown ------------------------------------------------------------------------------------


def shown(shape: Shape, pairs: Pairs) -> FormField:
    """All fields with what was typed into them, as one group."""
    return _shown(shape, pairs, {name for name, _ in pairs})


def _shown(shape: Shape, pairs: Pairs, names: set[str]) -> FormField:
    field = FormField(
        pointer=shape.pointer,
        label=shape.name,
        code=True,
        required=shape.required and shape.pointer != ROOT,
        description=" · ".join(filter(None, (shape.description, shape.limits))),
        placeholder="" if shape.default is None else f"{_default(shape)} (default)",
    )
    if shape.kind is Kind.JSON or JSON + shape.pointer in names:
        field.widget = Widget.JSON
        field.value = typed(pairs, field.name)
        field.label = field.label or "All parameters, as a JSON object"
        field.code = bool(shape.name)
    elif shape.kind is Kind.OBJECT:
        field.widget, field.placeholder = Widget.GROUP, ""
        field.members = [_shown(member, pairs, names) for member in shape.members]
        if shape.open:
            field.members.append(
                FormField(
                    pointer=MORE,
                    name_=MORE,
                    label="Further parameters, as a JSON object",
                    widget=Widget.JSON,
                    value=typed(pairs, MORE),
                    placeholder="{}",
                )
            )
    else:
        field.value = typed(pairs, shape.pointer)
        _dress(field, shape)
    return field


def _entries(item: Shape | None) -> str:
    """What a list takes."""
    if item is None:
        return ""
    allowed = ", ".join(label for _, label in item.choices[:20])
    what = {Kind.INTEGER: "whole numbers, ", Kind.NUMBER: "numbers, "}.get(
        item.kind, f"of {allowed}, " if allowed else ""
    )
    return f"{what}one a line"


def _default(shape: Shape) -> str:
    return "none" if shape.default == "null" else shape.default or ""


def _dress(field: FormField, shape: Shape) -> None:
    """The widget of a single value or a list."""
    if shape.kind is Kind.CHOICE:
        field.widget = Widget.SELECT
        labels = dict(shape.choices)
        default = shape.default
        none = "choose" if default is None else f"{labels.get(default, _default(shape))} (default)"
        if shape.nullable and shape.required:
            none = "null"
        field.choices = [("", none), *shape.choices]
        if shape.nullable and not shape.required and default != "null":
            field.choices.append(("null", "null"))
        if field.value and field.value not in {value for value, _ in field.choices}:
            field.choices.append((field.value, field.value))
    elif shape.kind is Kind.LIST:
        field.widget = Widget.AREA
        field.description = " · ".join(filter(None, (field.description, _entries(shape.item))))
    elif shape.format == "date" and (not field.value or _DATE.fullmatch(field.value)):
        field.widget = Widget.DATE
        field.description = " · ".join(filter(None, (field.description, field.placeholder)))
    elif "\n" in field.value or len(field.value) > LONG:
        field.widget = Widget.AREA
    else:
        field.digits = shape.kind is Kind.INTEGER
        field.placeholder = field.placeholder or _EXAMPLES.get(shape.format, "")
