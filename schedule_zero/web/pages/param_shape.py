"""From a job method's JSON Schema to the shape of a form for its parameters. Pure.

A schema comes from a node, so it is treated as hostile: references lead only into itself and not in circles, depth and
number of fields are bounded. What has no field of its own (a choice between types, a map, a tuple) is edited as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from schedule_zero.web.pages.fields import is_line
from schedule_zero.web.pages.json_values import write_json

ROOT = "/job_params"
MAX_DEPTH = 3
MAX_FIELDS = 200
MAX_CHOICES = 500
MAX_TEXT = 600
# A reference that leads to a reference …
MAX_HOPS = 8


class Kind(StrEnum):
    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    CHOICE = "choice"
    # Single values, one a line.
    LIST = "list"
    OBJECT = "object"
    JSON = "json"


SINGLE = frozenset({Kind.TEXT, Kind.INTEGER, Kind.NUMBER, Kind.CHOICE})


class Shape(Struct, frozen=True, kw_only=True):
    """One parameter, or a member of one."""

    pointer: str
    name: str
    kind: Kind
    required: bool = False
    # Whether null will do.
    nullable: bool = False
    # Of a text: date, date-time, uuid …
    format: str = ""
    description: str = ""
    # What is allowed, in words: "1 to 10".
    limits: str = ""
    # As JSON text; None: there is none.
    default: str | None = None
    # (JSON text, what is shown of it).
    choices: tuple[tuple[str, str], ...] = ()
    item: Shape | None = None
    members: tuple[Shape, ...] = ()
    # Of the root: members of other names are taken as well.
    open: bool = False


@lru_cache(maxsize=512)
def shape_of(schema: bytes) -> Shape:
    """The shape of all parameters: an OBJECT, or JSON where a form makes no sense. Never raises."""
    as_json = Shape(pointer=ROOT, name="", kind=Kind.JSON, required=True)
    try:
        document = msgspec.json.decode(schema or b"{}")
    except msgspec.DecodeError:
        return as_json
    if document is True:
        document = {}
    if not isinstance(document, dict):
        return as_json
    whole = _Reader(document).root()
    if whole.kind is Kind.JSON or sum(1 for _ in _walk(whole)) > MAX_FIELDS:
        return as_json
    # Without names in the schema there is nothing to make fields of; unless it says that there are no parameters.
    return as_json if whole.open and not whole.members else whole


def _walk(shape: Shape) -> Iterator[Shape]:
    yield shape
    for member in shape.members:
        yield from _walk(member)


class _Reader:
    """Reads one schema."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._left = MAX_FIELDS + 1

    def root(self) -> Shape:
        schema = self._resolved(self._document)
        if schema is None or schema.get("type", "object") != "object" or _is_mixed(schema):
            return Shape(pointer=ROOT, name="", kind=Kind.JSON, required=True)
        return Shape(
            pointer=ROOT,
            name="",
            kind=Kind.OBJECT,
            required=True,
            members=self._members(schema, ROOT, 0),
            open=schema.get("additionalProperties", True) is not False,
        )

    def _members(self, schema: dict[str, Any], pointer: str, depth: int) -> tuple[Shape, ...]:
        properties, required = schema.get("properties"), schema.get("required")
        if not isinstance(properties, dict):
            return ()
        needed = set(required) if isinstance(required, list) and all(isinstance(name, str) for name in required) else ()
        members = []
        for name, member in properties.items():
            if self._left <= 0:
                break
            self._left -= 1
            below = f"{pointer}/{escaped(name)}"
            members.append(self._shape(member, below, name, depth=depth, required=name in needed))
        return tuple(members)

    def _shape(self, schema: object, pointer: str, name: str, *, depth: int, required: bool) -> Shape:
        nullable = False
        found = self._resolved(schema)
        if found is not None:
            found, nullable = self._without_null(found)
        if found is None:
            return Shape(pointer=pointer, name=name, kind=Kind.JSON, required=required, nullable=nullable)
        kind, item, members = self._kind(found, pointer, depth)
        choices = _choices(found) if kind is Kind.CHOICE else ()
        return Shape(
            pointer=pointer,
            name=name,
            kind=kind,
            required=required,
            nullable=nullable,
            format=_text(found.get("format")) if kind is Kind.TEXT else "",
            description=_text(found.get("description")),
            limits=_limits(found),
            default=_default(found),
            choices=choices,
            item=item,
            members=members,
        )

    def _kind(self, schema: dict[str, Any], pointer: str, depth: int) -> tuple[Kind, Shape | None, tuple[Shape, ...]]:
        if _is_mixed(schema):
            return Kind.JSON, None, ()
        if _choices(schema):
            return Kind.CHOICE, None, ()
        if "enum" in schema or "const" in schema:
            return Kind.JSON, None, ()
        match schema.get("type"):
            case "string":
                return Kind.TEXT, None, ()
            case "integer":
                return Kind.INTEGER, None, ()
            case "number":
                return Kind.NUMBER, None, ()
            case "array" if depth <= MAX_DEPTH:
                item = self._item(schema, pointer)
                return (Kind.JSON, None, ()) if item is None else (Kind.LIST, item, ())
            case "object" if depth < MAX_DEPTH:
                members = self._members(schema, pointer, depth + 1)
                return (Kind.OBJECT, None, members) if members else (Kind.JSON, None, ())
        return Kind.JSON, None, ()

    def _item(self, schema: dict[str, Any], pointer: str) -> Shape | None:
        """What a list holds, if each entry fits in a line."""
        if "prefixItems" in schema or not isinstance(schema.get("items"), dict):
            return None
        item = self._shape(schema["items"], pointer, "", depth=MAX_DEPTH + 1, required=True)
        if item.kind not in SINGLE or item.nullable:
            return None
        labels = [label for _, label in item.choices]
        if len(set(labels)) != len(labels) or not all(is_line(label) for label in labels):
            return None
        return item

    def _resolved(self, schema: object) -> dict[str, Any] | None:
        """A schema with its reference followed; what stands beside the reference counts more. None: it can't be."""
        if schema is True:
            return {}
        beside: dict[str, Any] = {}
        for _ in range(MAX_HOPS):
            if not isinstance(schema, dict):
                return None
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            alone = rest.get("allOf")
            if isinstance(alone, list) and len(alone) == 1 and "$ref" not in schema:
                # How some say a description beside a reference.
                rest.pop("allOf")
                beside, schema = {**rest, **beside}, alone[0]
                continue
            beside = {**rest, **beside}
            if "$ref" not in schema:
                return beside
            schema = self._at(schema["$ref"])
        return None

    def _at(self, reference: object) -> object:
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        place: object = self._document
        for step in reference.removeprefix("#").split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(place, dict) or name not in place:
                return None
            place = place[name]
        return place

    def _without_null(self, schema: dict[str, Any]) -> tuple[dict[str, Any] | None, bool]:
        """The schema of what isn't null, and whether null will do."""
        kinds = schema.get("type")
        if isinstance(kinds, list):
            rest = [kind for kind in kinds if kind != "null"]
            return {**schema, "type": rest[0] if len(rest) == 1 else rest}, len(rest) != len(kinds)
        for word in ("anyOf", "oneOf"):
            parts = schema.get(word)
            if isinstance(parts, list) and len(parts) <= MAX_CHOICES:
                rest = [part for part in parts if not (isinstance(part, dict) and part.get("type") == "null")]
                nullable = len(rest) != len(parts)
                if len(rest) != 1:
                    return schema, nullable
                single = self._resolved(rest[0])
                beside = {key: value for key, value in schema.items() if key != word}
                return (None if single is None else {**single, **beside}), nullable
        return schema, False


def _is_mixed(schema: dict[str, Any]) -> bool:
    """Whether it takes a choice that fields have no room for."""
    return any(word in schema for word in ("anyOf", "oneOf", "allOf", "not", "if")) or isinstance(
        schema.get("type"), list
    )


def _choices(schema: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    if schema.get("type") == "boolean" and "enum" not in schema and "const" not in schema:
        return (("true", "yes"), ("false", "no"))
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(values, list) or not 0 < len(values) <= MAX_CHOICES:
        return ()
    if any(isinstance(value, dict | list) for value in values):
        return ()
    return tuple((write_json(value), value if isinstance(value, str) else write_json(value)) for value in values)


def _default(schema: dict[str, Any]) -> str | None:
    if "default" not in schema:
        return None
    text = write_json(schema["default"])
    return text if len(text) <= MAX_TEXT else None


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}…"


def _limits(schema: dict[str, Any]) -> str:
    """What is allowed, in words, as far as it fits in a line."""
    said = [
        _range(schema.get("minimum"), schema.get("maximum"), ""),
        _range(schema.get("minLength"), schema.get("maxLength"), " characters"),
        _range(schema.get("minItems"), schema.get("maxItems"), " entries"),
    ]
    for key, words in (
        ("exclusiveMinimum", "more than"),
        ("exclusiveMaximum", "less than"),
        ("multipleOf", "a multiple of"),
        ("pattern", "matching"),
    ):
        if isinstance(schema.get(key), str | int | float):
            said.append(f"{words} {schema[key]}")
    text = ", ".join(filter(None, said))
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _range(low: object, high: object, what: str) -> str:
    low, high = (end if isinstance(end, int | float) and not isinstance(end, bool) else None for end in (low, high))
    if low is not None and high is not None:
        return f"{low} to {high}{what}"
    if low is not None:
        return f"at least {low}{what}" if low else ""
    return f"at most {high}{what}" if high is not None else ""


def escaped(name: str) -> str:
    """A name as one step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
