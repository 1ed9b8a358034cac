"""A method's JSON schema as rows that people read: name, type, required, default, what it is for. Pure, and bounded.

Whatever the schema says, the rows say something: what has no words here is shown as JSON beside the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

# Of one table; of nested objects; of one sentence.
MAX_ROWS = 200
MAX_DEPTH = 4
MAX_TEXT = 400
# What bounds a value, with the words for it.
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "like {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "uniqueItems": "no item twice",
}


class Param(Struct, frozen=True, kw_only=True):
    """One parameter, or a field of one: ``address.zip``."""

    name: str
    type: str
    required: bool
    # As JSON; None: there is none.
    default: str | None
    about: str
    # How deep it is in the others.
    depth: int


def params_of(schema: bytes) -> list[Param]:
    """The parameters of a method; none where its schema doesn't name any."""
    try:
        document = msgspec.json.decode(schema)
    except (msgspec.DecodeError, RecursionError):
        return []
    if not isinstance(document, dict):
        return []
    rows = []
    for row in _rows(document, document, "", 0):
        rows.append(row)
        if len(rows) == MAX_ROWS:
            break
    return rows


def takes_more(schema: bytes) -> bool:
    """Whether parameters that it doesn't name are taken as well."""
    try:
        document = msgspec.json.decode(schema)
    except (msgspec.DecodeError, RecursionError):
        return True
    return not isinstance(document, dict) or document.get("additionalProperties", True) is not False


def signature(params: list[Param]) -> str:
    """``customer, day?``: the names, those that may be left out with a question mark."""
    return ", ".join(f"{row.name}{'' if row.required else '?'}" for row in params if not row.depth)


def _rows(root: dict[str, Any], schema: dict[str, Any], prefix: str, depth: int) -> Iterator[Param]:
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict):
        return
    needed = set(filter(_is_text, required)) if isinstance(required, list) else set()
    for name, part in properties.items():
        found = resolve(root, part)
        yield Param(
            name=_cut(f"{prefix}{name}"),
            type=_cut(type_words(root, part)),
            required=name in needed,
            default=_cut(_json(found["default"])) if "default" in found else None,
            about=_about(found),
            depth=depth,
        )
        inner, mark = _inside(root, found)
        if depth + 1 < MAX_DEPTH and inner is not None:
            yield from _rows(root, inner, f"{prefix}{name}{mark}.", depth + 1)


def _inside(root: dict[str, Any], schema: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The object that is in it, and how its place is written: that of ``items[].name`` is in a list."""
    if isinstance(schema.get("properties"), dict):
        return schema, ""
    items = schema.get("items")
    if isinstance(items, dict):
        return resolve(root, items), "[]"
    options = [resolve(root, one) for one in _options(schema)]
    objects = [one for one in options if isinstance(one.get("properties"), dict)]
    return (objects[0], "") if len(objects) == 1 else (None, "")


def resolve(root: dict[str, Any], schema: Any) -> dict[str, Any]:
    """The schema that a reference into the document leads to, with what stands beside the reference; {} for none."""
    beside: dict[str, Any] = {}
    for _ in range(MAX_DEPTH):
        if not isinstance(schema, dict):
            return beside
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return {**schema, **beside}
        beside = {**{key: value for key, value in schema.items() if key != "$ref"}, **beside}
        schema = _at(root, reference)
    return beside


def _at(root: dict[str, Any], reference: str) -> Any:
    here: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        here = here.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(here, dict) else None
    return here


def type_words(root: dict[str, Any], schema: Any, depth: int = 0) -> str:
    """``integer``, ``list of string``, ``"a" or "b"``, ``string (date-time) or null``."""
    found = resolve(root, schema)
    if depth == MAX_DEPTH or not found:
        return "anything"
    if isinstance(found.get("enum"), list):
        return " or ".join(_json(value) for value in found["enum"][:20]) + (" …" if len(found["enum"]) > 20 else "")
    if "const" in found:
        return _json(found["const"])
    options = _options(found)
    if options:
        return " or ".join(dict.fromkeys(type_words(root, one, depth + 1) for one in options[:10]))
    kinds = found.get("type")
    names = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    words = [_one_type(root, found, name, depth) for name in names if isinstance(name, str)]
    return " or ".join(words) or "anything"


def _one_type(root: dict[str, Any], schema: dict[str, Any], name: str, depth: int) -> str:
    if name == "array":
        items = type_words(root, schema["items"], depth + 1) if "items" in schema else "anything"
        return f"list of {items}"
    if name == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {type_words(root, schema['additionalProperties'], depth + 1)}"
    kind = schema.get("format")
    return f"{name} ({kind})" if isinstance(kind, str) and name != "null" else name


def _options(schema: dict[str, Any]) -> list[Any]:
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            return list(schema[key])
    return []


def _about(schema: dict[str, Any]) -> str:
    """Its description, and the bounds of its values."""
    said = [text for text in (schema.get("description"), schema.get("title")) if isinstance(text, str)][:1]
    bounds = [
        words.format(schema[key] if isinstance(schema[key], str) else _json(schema[key]))
        for key, words in BOUNDS.items()
        if key in schema and schema[key] is not False
    ]
    return _cut(" · ".join([*said, *bounds]))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _is_text(value: object) -> bool:
    return isinstance(value, str)
