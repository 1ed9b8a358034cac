"""OpenAPI 3.1 from the route table and the very Structs that validate requests."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from schedule_zero.web import problem
from schedule_zero.web.api.request import IDEMPOTENCY_KEY, JSON, MAX_IDEMPOTENCY_KEY
from schedule_zero.web.api.routes import ROUTES
from schedule_zero.web.api.routing import PARAMETER, Access, OneOrMany, Route

REF = "#/components/schemas/{name}"
PROBLEM = {"content": {problem.CONTENT_TYPE: {"schema": {"$ref": REF.format(name="Problem")}}}}

TAG = r'(W/)?"[!#-~]*"'
TAGS = {"type": "string", "pattern": rf"^(\*|{TAG}(, ?{TAG})*)$"}
# Request header (and method, where it matters) → what it says, and its form.
HEADERS: dict[tuple[str, str] | str, tuple[str, dict[str, Any]]] = {
    "If-Match": ("The ETag that it has to have; `*`: any.", TAGS),
    "If-None-Match": ("ETags that the client knows: 304 if it still has one of them.", TAGS),
    ("PUT", "If-None-Match"): ("`*`: create only.", {"type": "string", "enum": ["*"]}),
    "Last-Event-ID": (
        "Replay what came after this event.",
        {"type": "string", "pattern": "^[0-9]{1,18}(-[0-9]{1,18})?$"},
    ),
    IDEMPOTENCY_KEY: (
        "The same key with the same request is done once; a repetition gets the first answer.",
        {"type": "string", "pattern": f"^[ -~]{{1,{MAX_IDEMPOTENCY_KEY}}}$"},
    ),
}
DESCRIPTION = """\
Errors are RFC 9457 problems (`application/problem+json`) that name what was expected and where; `error.code` is stable.
Lists go from page to page by `next_cursor`. Moments are RFC 3339 in UTC; a request may also give unix seconds.
Fields and parameters that are not listed here are refused."""


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """The whole description, made once."""
    shapes = _shapes()
    references, components = msgspec.json.schema_components(shapes, ref_template=REF)
    by_shape = dict(zip(map(id, shapes), references, strict=True))
    # Query Structs are shown as parameters, not as components.
    queries = {route.query: components.pop(route.query.__name__) for route in {r.query: r for r in ROUTES}.values()}
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        operation = _operation(route, by_shape)
        operation["parameters"] = _parameters(route, queries[route.query])
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ScheduleZero",
            "version": version("schedule-zero"),
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "tags": [{"name": noun} for noun in dict.fromkeys(route.noun for route in ROUTES)],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _shapes() -> list[Any]:
    """Every type that is JSON somewhere, once."""
    shapes: list[Any] = [problem.Problem]
    for route in ROUTES:
        if isinstance(route.body, OneOrMany):
            shapes += [route.body.one, route.body.many]
        elif route.body is not None:
            shapes.append(route.body)
        shapes += [
            shape for shape in route.returns.values() if shape is not None and not isinstance(shape, str | tuple)
        ]
        shapes.append(route.query)
    return list({id(shape): shape for shape in shapes}.values())


def _operation(route: Route, by_shape: dict[int, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.noun],
        "summary": route.summary,
        "description": _description(route),
        "responses": _responses(route, by_shape),
    }
    if route.access is Access.PUBLIC:
        operation["security"] = []
    elif route.access is Access.PROBE:
        operation["security"] = [{}, {"token": []}]
    if route.body is not None:
        operation["requestBody"] = {
            "required": route.body_required,
            "content": {JSON: {"schema": _body_schema(route.body, by_shape)}},
        }
    return operation


def _description(route: Route) -> str:
    who = {
        Access.PUBLIC: "Needs no token.",
        Access.PROBE: "Needs no token from the server's own machine, else the role *viewer*.",
    }.get(route.access, f"Needs the role *{route.access}*.")
    text = (route.endpoint.__doc__ or "").strip()
    return f"{text} {who}"


def _body_schema(body: Any, by_shape: dict[int, Any]) -> Any:
    if isinstance(body, OneOrMany):
        return {"anyOf": [by_shape[id(body.one)], by_shape[id(body.many)]]}
    return by_shape[id(body)]


def _parameters(route: Route, query: dict[str, Any]) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    if PARAMETER in route.path:
        parameters.append(
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": route.id_pattern}}
        )
    for name, member in query["properties"].items():
        schema = dict(member)
        parameter = {"name": name, "in": "query", "required": name in query.get("required", ()), "schema": schema}
        if "description" in schema:
            parameter["description"] = schema.pop("description")
        if schema.get("type") == "array":
            # One parameter, values by comma.
            parameter.update(style="form", explode=False)
        parameters.append(parameter)
    headers = (*route.headers, IDEMPOTENCY_KEY) if route.idempotency else route.headers
    for name in headers:
        description, schema = HEADERS.get((route.method, name)) or HEADERS[name]
        parameters.append(
            {"name": name, "in": "header", "required": False, "description": description, "schema": schema}
        )
    return parameters


def _responses(route: Route, by_shape: dict[int, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, shape in route.returns.items():
        response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if isinstance(shape, str):
            response["content"] = {shape: {"schema": {"type": "string"}}}
        elif isinstance(shape, tuple):
            response["content"] = {kind: {"schema": {} if kind == JSON else {"type": "string"}} for kind in shape}
        elif shape is not None:
            response["content"] = {JSON: {"schema": by_shape[id(shape)]}}
        responses[str(status)] = response
    for status in _error_statuses(route):
        responses.setdefault(str(status), {"description": HTTPStatus(status).phrase, **PROBLEM})
    return dict(sorted(responses.items()))


def _error_statuses(route: Route) -> set[int]:
    statuses = {400, 421, 500, 503, *route.errors}
    if route.access is not Access.PUBLIC:
        statuses |= {401, 403}
    if PARAMETER in route.path:
        statuses.add(404)
    if route.unsafe:
        statuses |= {403, 413, 415}
    if route.idempotency:
        statuses |= {409, 422}
    return statuses
