"""The API's own description (OpenAPI), as people read it: chapters, operations, tables of fields, examples. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from schedule_zero.web.api.openapi import document
from schedule_zero.web.api.request import JSON
from schedule_zero.web.api.routes import ROUTES
from schedule_zero.web.api.routing import Access, OneOrMany
from schedule_zero.web.api.wording import PATTERNS

# Nouns with few operations stand in the chapter of what they are about; any other has one of its own.
CHAPTER_OF = {
    "requeues": "dead-letters", "triggers": "schedules", "backfills": "schedules",
    "forecast": "fires", "freeze": "freezes", "thaw": "freezes", "schedule": "earlier-names",
    "run_now": "earlier-names", "tokens": "access", "node-keys": "access", "login-links": "access",
    "sessions": "access", "health": "system", "config": "system", "openapi": "system", "probes": "system",
    "jobs": "bots",
}  # fmt: skip
TITLES = {"bots": "Bots: nodes that speak HTTP", "earlier-names": "Names of the earlier ScheduleZero"}
# What stands in examples, by the field's name.
SAMPLES: dict[str, Any] = {
    "handler_id": "demo",
    "job_method": "noop",
    "trigger": {"type": "cron", "expression": "0 9 * * MON-FRI", "timezone": "Europe/Berlin"},
    "from": "2030-01-01T00:00:00Z",
    "to": "2030-01-02T00:00:00Z",
    "ids": ["nightly"],
    "name": "example",
    "ical": "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nEND:VCALENDAR\r\n",
    "bot_id": "bot-1",
    "lease_token": "1",
    "operations": ["demo.noop"],
}
PATH_ID = {"executions": "01jd3zq8m2x4v6t8r0p2n4m6k8", "jobs": "01jd3zq8m2x4v6t8r0p2n4m6k8", "nodes": "n1"}


class Word(Struct, frozen=True):
    """A piece of a type's words; ``link``: the type of ours that it names."""

    text: str
    link: str | None = None


class Field(Struct, frozen=True):
    """One row of a table: of parameters, or of an object's fields."""

    name: str
    kind: list[Word]
    required: bool
    # JSON; None: there is none.
    default: str | None
    # Markdown.
    about: str
    # Of a parameter: path, query or header.
    place: str = ""


class TypeTable(Struct, frozen=True):
    """One of the API's objects."""

    name: str
    about: str
    fields: list[Field]
    # Of a type that is no object.
    kind: list[Word]


class Answer(Struct, frozen=True):
    status: str
    phrase: str
    content: str
    kind: list[Word]
    is_error: bool


class Operation(Struct, frozen=True):
    """One thing to be asked for."""

    id: str
    method: str
    path: str
    summary: str
    about: str
    access: Access
    parameters: list[Field]
    body: list[Word]
    # An example, as JSON text; "" where there is no body.
    body_example: str
    body_required: bool
    answers: list[Answer]
    # Whether it goes on until its client goes.
    streams: bool
    # Where it is looked for.
    lower: str

    @property
    def unsafe(self) -> bool:
        return self.method != "GET"

    @property
    def example_path(self) -> str:
        noun = self.path.strip("/").split("/")[1] if self.path.startswith("/api/") else ""
        return self.path.replace("{id}", quote(PATH_ID.get(noun, "example"), safe=""))

    def curl(self, origin: str) -> str:
        lines = [f"curl {'' if self.method == 'GET' else f'-X {self.method} '}{origin}{self.example_path}"]
        if self.access is not Access.PUBLIC:
            lines.append('-H "Authorization: Bearer $TOKEN"')
        if self.body_example:
            compact = json.dumps(json.loads(self.body_example), ensure_ascii=False)
            lines += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(compact)}"]
        return " \\\n     ".join(lines)

    def python(self, origin: str) -> str:
        body = f", json={json.loads(self.body_example)!r}" if self.body_example else ""
        return (
            "import httpx\n\n"
            f'api = httpx.Client(base_url="{origin}", headers={{"Authorization": f"Bearer {{token}}"}})\n'
            f'answer = api.request("{self.method}", "{self.example_path}"{body})\n'
            "answer.raise_for_status()"
        )


class Chapter(Struct, frozen=True):
    slug: str
    title: str
    operations: list[Operation]
    # Every type that they name, directly or by another one.
    types: list[TypeTable]


@cache
def chapters() -> dict[str, Chapter]:
    """All chapters by their slug, in the order of the route table."""
    found: dict[str, list[Operation]] = {}
    for operation, noun in _operations():
        found.setdefault(CHAPTER_OF.get(noun, noun), []).append(operation)
    return {
        slug: Chapter(
            slug,
            TITLES.get(slug, slug.replace("-", " ").capitalize()),
            operations,
            _types(operations),
        )
        for slug, operations in found.items()
    }


def find(query: str) -> list[tuple[Chapter, Operation]]:
    """Operations in whose path, words or fields all words of the query stand."""
    words = query.lower().split()
    return [
        (chapter, operation)
        for chapter in chapters().values()
        for operation in chapter.operations
        if all(word in operation.lower for word in words)
    ]


# --- operations -------------------------------------------------------------------------------------


def _operations() -> Iterator[tuple[Operation, str]]:
    described = document()["paths"]
    for route in ROUTES:
        said = described[route.path][route.method.lower()]
        body = said.get("requestBody")
        schema = body["content"][JSON]["schema"] if body else None
        sample = schema
        if isinstance(route.body, OneOrMany) and schema is not None:
            sample = schema["anyOf"][0]
        yield (
            Operation(
                id=said["operationId"],
                method=route.method,
                path=route.path,
                summary=said["summary"],
                about=said["description"],
                access=route.access,
                parameters=[_parameter(parameter) for parameter in said["parameters"]],
                body=[] if schema is None else words(schema),
                body_example="" if sample is None else json.dumps(example(sample), indent=2, ensure_ascii=False),
                body_required=bool(body and body["required"]),
                answers=list(_answers(said["responses"])),
                streams=any("event-stream" in str(shape) for shape in route.returns.values()),
                lower=_searchable(said, route.method, route.path),
            ),
            route.noun,
        )


def _searchable(said: dict[str, Any], method: str, path: str) -> str:
    names = [f"{parameter['name']} {parameter.get('description', '')}" for parameter in said["parameters"]]
    return " ".join([method, path, said["summary"], said["description"], *names]).lower()


def _parameter(parameter: dict[str, Any]) -> Field:
    schema = parameter["schema"]
    return Field(
        name=parameter["name"],
        kind=words(schema),
        required=parameter["required"],
        default=_default(schema),
        about=parameter.get("description") or _about(schema),
        place=parameter["in"],
    )


def _answers(responses: dict[str, Any]) -> Iterator[Answer]:
    for status, said in responses.items():
        content = next(iter(said.get("content", {"": {}}).items()))
        yield Answer(
            status=status,
            phrase=said["description"],
            content=content[0],
            kind=words(content[1]["schema"]) if content[1] else [],
            is_error=int(status) >= HTTPStatus.BAD_REQUEST,
        )


# --- types ------------------------------------------------------------------------------------------


def _component(name: str) -> dict[str, Any]:
    found: dict[str, Any] = document()["components"]["schemas"][name]
    return found


def _types(operations: list[Operation]) -> list[TypeTable]:
    """The types that these operations name, and those that these name, in that order."""
    todo = [word.link for operation in operations for word in operation.body]
    todo += [word.link for operation in operations for answer in operation.answers for word in answer.kind]
    tables: dict[str, TypeTable] = {}
    for name in todo:
        if name is None or name in tables:
            continue
        tables[name] = table = type_table(name)
        todo += [word.link for field in table.fields for word in field.kind] + [word.link for word in table.kind]
    return list(tables.values())


def type_table(name: str) -> TypeTable:
    """The fields of one type."""
    schema = _component(name)
    required = set(schema.get("required", ()))
    fields = [
        Field(
            name=field,
            kind=words(member),
            required=field in required,
            default=_default(member),
            about=_about(member),
        )
        for field, member in schema.get("properties", {}).items()
    ]
    return TypeTable(name, schema.get("description", "").replace("``", "`"), fields, [] if fields else words(schema))


def words(schema: dict[str, Any]) -> list[Word]:
    """What a value of this schema is."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return [Word(name, name)]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return _joined([words(choice) for choice in choices], " or ")
    if "enum" in schema:
        return [Word(" | ".join(json.dumps(value) for value in schema["enum"]))]
    if "const" in schema:
        return [Word(json.dumps(schema["const"]))]
    kind = schema.get("type", "anything")
    if kind == "array":
        return [Word(f"list{_bounds(schema, 'minItems', 'maxItems', ' items')} of "), *words(schema.get("items") or {})]
    values = schema.get("additionalProperties")
    if kind == "object" and isinstance(values, dict):
        return [Word("object of "), *words(values)]
    if kind == "string":
        return [Word(_string_words(schema))]
    if kind in ("integer", "number"):
        low = "minimum" if "minimum" in schema else "exclusiveMinimum"
        above = "more than " if low == "exclusiveMinimum" and low in schema else ""
        return [Word(f"{kind}{_bounds(schema, low, 'maximum', '', above)}")]
    return [Word(str(kind))]


def _string_words(schema: dict[str, Any]) -> str:
    form = schema.get("format")
    if form:
        return {"date-time": "moment (RFC 3339)", "date": "date"}.get(form, f"string ({form})")
    if schema.get("pattern") in PATTERNS:
        return f"string: {PATTERNS[schema['pattern']]}"
    return f"string{_bounds(schema, 'minLength', 'maxLength', ' characters')}"


def _bounds(schema: dict[str, Any], low: str, high: str, unit: str, above: str = "") -> str:
    least, most = schema.get(low), schema.get(high)
    if least is None and most is None:
        return ""
    if most is None:
        return f" ({above or 'at least '}{least:,}{unit})"
    return f" (at most {most:,}{unit})" if not least and not above else f" ({above}{least:,} to {most:,}{unit})"


def _joined(parts: list[list[Word]], between: str) -> list[Word]:
    joined: list[Word] = []
    for part in parts:
        if joined:
            joined.append(Word(between))
        joined += part
    return joined


def _about(schema: dict[str, Any]) -> str:
    said = [schema.get("description"), *(_about(choice) for choice in schema.get("anyOf", ()))]
    return " ".join(dict.fromkeys(text for text in said if text)).replace("``", "`")


def _default(schema: dict[str, Any]) -> str | None:
    default = schema.get("default")
    return None if default is None else json.dumps(default, ensure_ascii=False)


# --- examples ---------------------------------------------------------------------------------------


def example(schema: dict[str, Any], name: str = "", depth: int = 0) -> Any:
    """The least that such a value may be: of objects, the fields that have to be there."""
    if name in SAMPLES:
        return SAMPLES[name]
    if "$ref" in schema:
        return example(_component(schema["$ref"].rpartition("/")[2]), name, depth)
    if schema.get("examples"):
        return schema["examples"][0]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return example(choices[0], name, depth)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        members = schema.get("properties", {})
        return {field: example(members[field], field, depth + 1) for field in schema.get("required", ())}
    if kind == "array":
        return [example(schema.get("items") or {}, "", depth + 1)] if schema.get("minItems") else []
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "string" and "contentEncoding" in schema:
        return "ZXhhbXBsZQ=="
    if kind == "string":
        return "2030-01-01T00:00:00Z" if schema.get("format") == "date-time" else "example"
    return {"boolean": False, "null": None}.get(str(kind), "example")
