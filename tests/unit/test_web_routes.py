"""The route table: complete, unambiguous, deny by default; and the OpenAPI document that is made from it."""

from __future__ import annotations

import inspect
import json

import msgspec
import pytest

from schedule_zero.errors import BadRequest, InvalidField, MethodNotAllowed, NotFound
from schedule_zero.web.api.openapi import document
from schedule_zero.web.api.routes import ROUTES
from schedule_zero.web.api.routing import Access, OneOrMany, Route, RouteTable
from schedule_zero.web.routes import TABLE

ULID = "01jd3zq8m2x4v6t8r0p2n4m6k8"

# The API as it is promised: removing or renaming one of these breaks somebody.
PROMISED = """
GET /api/health public
GET /api/handlers viewer
POST /api/schedule operator
POST /api/run_now operator
GET /api/schedules viewer
POST /api/schedules operator
GET /api/schedules/{id} viewer
PUT /api/schedules/{id} operator
PATCH /api/schedules/{id} operator
DELETE /api/schedules/{id} operator
POST /api/schedules/{id}/pause operator
POST /api/schedules/{id}/resume operator
POST /api/schedules/{id}/run operator
GET /api/schedules/{id}/fires viewer
GET /api/schedules/{id}/audit viewer
GET /api/schedules/{id}/explain viewer
GET /api/schedules/{id}/versions viewer
GET /api/schedules/{id}/diff viewer
POST /api/schedules/{id}/restore operator
GET /api/fires viewer
POST /api/schedules/{id}/skip operator
DELETE /api/schedules/{id}/skip operator
POST /api/schedules/{id}/backfill operator
GET /api/schedules/{id}/backfills viewer
POST /api/backfills/{id}/cancel operator
GET /api/freezes viewer
GET /api/forecast viewer
GET /api/series viewer
GET /api/fires.ics viewer
POST /api/freeze operator
POST /api/thaw operator
POST /api/schedules/delete operator
POST /api/triggers/preview viewer
GET /api/changes operator
GET /api/changes.csv operator
GET /api/changes.jsonl operator
POST /api/calendars operator
GET /api/calendars viewer
GET /api/calendars/{id} viewer
PUT /api/calendars/{id} operator
DELETE /api/calendars/{id} operator
POST /api/calendars/{id}/import operator
GET /api/calendars/{id}/windows viewer
GET /api/calendars/{id}/check viewer
GET /api/calendars/{id}/versions viewer
GET /api/executions viewer
POST /api/executions operator
GET /api/executions/stats viewer
GET /api/executions/errors viewer
POST /api/executions/clear admin
POST /api/executions/cancel operator
GET /api/dead-letters viewer
GET /api/dead-letters/executions viewer
POST /api/dead-letters/requeue operator
POST /api/dead-letters/discard operator
GET /api/requeues viewer
GET /api/requeues/{id} viewer
POST /api/requeues/{id}/cancel operator
GET /api/executions/{id} viewer
GET /api/executions/{id}/result viewer
GET /api/executions/{id}/logs viewer
GET /api/executions/{id}/logs/follow viewer
POST /api/executions/{id}/cancel operator
POST /api/executions/{id}/retry operator
POST /api/groups operator
GET /api/groups viewer
GET /api/groups/{id} viewer
POST /api/groups/{id}/cancel operator
GET /api/nodes viewer
POST /api/jobs/claim worker
POST /api/jobs/{id}/heartbeat worker
POST /api/jobs/{id}/result worker
POST /api/jobs/{id}/result/part worker
POST /api/jobs/{id}/log worker
GET /api/nodes/{id} viewer
POST /api/nodes/{id}/cordon operator
POST /api/nodes/{id}/drain operator
POST /api/nodes/{id}/release operator
POST /api/nodes/{id}/resume operator
POST /api/nodes/{id}/quarantine operator
GET /api/dead-letters/export.csv viewer
GET /api/dead-letters/export.jsonl viewer
GET /api/events viewer
GET /api/executions/histogram viewer
GET /api/executions/export viewer
GET /api/executions/suggest viewer
POST /api/executions/retry operator
GET /api/batches viewer
GET /api/batches/{id} viewer
POST /api/batches/{id}/cancel operator
GET /api/views viewer
POST /api/views operator
DELETE /api/views/{id} operator
GET /api/config admin
GET /api/openapi.json viewer
GET /api/tokens admin
POST /api/tokens admin
POST /api/login-links admin
DELETE /api/tokens/{id} admin
GET /api/node-keys admin
POST /api/node-keys admin
DELETE /api/node-keys/{id} admin
GET /livez probe
GET /readyz probe
GET /metrics probe
GET /version probe
"""


def test_the_table_is_what_is_promised():
    assert {f"{route.method} {route.path} {route.access}" for route in ROUTES} == set(PROMISED.split("\n")) - {""}


def test_a_route_without_an_access_can_not_exist():
    with pytest.raises(TypeError):
        Route("GET", "/api/x")  # type: ignore[call-arg]
    assert inspect.signature(Route).parameters["access"].default is inspect.Parameter.empty


@pytest.mark.parametrize("route", TABLE.routes, ids=lambda route: route.name)
def test_every_route_is_found_by_its_method_and_path(route):
    match = TABLE.find(route.method, route.path.replace("{id}", ULID).replace("*", "a/b.css"))

    assert match.route is route
    assert match.id == (ULID if "{id}" in route.path else "a/b.css" if "*" in route.path else "")


@pytest.mark.parametrize("route", TABLE.routes, ids=lambda route: route.name)
def test_every_endpoint_is_a_documented_coroutine(route):
    assert inspect.iscoroutinefunction(route.endpoint)
    assert route.endpoint.__doc__


def test_two_routes_never_share_a_name():
    with pytest.raises(ValueError, match="two routes are named"):
        RouteTable([ROUTES[0], ROUTES[0]])


def test_a_whole_path_wins_over_a_template():
    assert TABLE.find("GET", "/api/executions/stats").route.path == "/api/executions/stats"
    # … only for the methods that it has.
    assert TABLE.find("GET", "/api/schedules/delete").id == "delete"


def test_ids_are_percent_decoded():
    assert TABLE.find("GET", "/api/schedules/a%2Fb%3Ac/fires").id == "a/b:c"


@pytest.mark.parametrize(
    "path",
    [
        "/api", "/api/", "/api/nothing", "/api/schedules/", "/api/schedules//pause", "/API/schedules",
        "/api/schedules/a/b/c", "/api/schedules/a/nothing", "/api/executions/nosuchid", f"/api/executions/{ULID}%0A",
        "/api/schedules/%00", "/api/schedules/a%0Ab", "/api/schedules/" + "a" * 129, "/api/schedules/..%2F..",
        "/api/schedules/../executions",
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_found(path):
    with pytest.raises(NotFound):
        TABLE.find("GET", path)


def test_an_id_that_can_not_be_is_not_put():
    with pytest.raises(InvalidField) as caught:
        TABLE.find("PUT", "/api/schedules/a%20b")
    assert caught.value.data["parameter"] == "id"


def test_a_path_that_is_not_utf_8_is_refused():
    with pytest.raises(BadRequest):
        TABLE.find("GET", "/api/schedules/%ff")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/api/health", ["GET", "HEAD"]),
        ("DELETE", "/api/schedules", ["GET", "HEAD", "POST"]),
        ("GET", "/api/executions/clear", ["POST"]),
        ("POST", "/api/schedules/x", ["DELETE", "GET", "HEAD", "PATCH", "PUT"]),
        ("TRACE", "/api/schedules/x/pause", ["POST"]),
        ("OPTIONS", "/api/run_now", ["POST"]),
        ("BREW", "/livez", ["GET", "HEAD"]),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(method, path, allow):
    with pytest.raises(MethodNotAllowed) as caught:
        TABLE.find(method, path)
    assert sorted(caught.value.data["allow"]) == sorted(allow)


def test_head_is_answered_as_get():
    assert TABLE.find("HEAD", "/api/health").route.method == "GET"


# --- OpenAPI --------------------------------------------------------------------------------------


def test_the_document_is_json_and_describes_every_route():
    described = json.loads(json.dumps(document()))

    assert described["openapi"] == "3.1.0"
    for route in ROUTES:
        operation = described["paths"][route.path][route.method.lower()]
        assert operation["operationId"] == route.name
        assert set(map(str, route.returns)) <= set(operation["responses"])
        assert ("requestBody" in operation) == (route.body is not None)
    operations = [operation for path in described["paths"].values() for operation in path.values()]
    assert len(operations) == len(ROUTES)


def test_every_reference_in_the_document_leads_somewhere():
    described = document()
    references = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                references.add(value["$ref"])
            for child in value.values():
                walk(child)
        elif isinstance(value, list):
            for child in value:
                walk(child)

    walk(described)

    assert references
    for reference in references:
        assert reference.removeprefix("#/components/schemas/") in described["components"]["schemas"]


def test_only_public_routes_and_probes_are_described_as_open():
    described = document()
    for route in ROUTES:
        security = described["paths"][route.path][route.method.lower()].get("security")
        expected = {Access.PUBLIC: [], Access.PROBE: [{}, {"token": []}]}.get(route.access)
        assert security == expected


def test_bodies_and_queries_refuse_what_they_do_not_know():
    for route in ROUTES:
        shapes = [route.body.one, route.body.many] if isinstance(route.body, OneOrMany) else [route.body]
        for shape in (route.query, *(shape for shape in shapes if shape is not None)):
            assert shape.__struct_config__.forbid_unknown_fields, shape
            described = msgspec.json.schema(shape)["$defs"][shape.__name__]
            assert described["additionalProperties"] is False


def test_what_is_given_in_another_form_belongs_to_the_same_noun():
    nouns = {route.path: route.noun for route in ROUTES}

    assert nouns["/api/changes"] == nouns["/api/changes.csv"] == nouns["/api/changes.jsonl"] == "changes"
    assert nouns["/api/fires.ics"] == "fires"
    assert not [noun for noun in nouns.values() if "." in noun]
