"""Every route × every role, on a whole server; tokens and node keys."""

from __future__ import annotations

import httpx
import pytest

from schedule_zero.model import Role
from schedule_zero.service.specs import Principal
from schedule_zero.web.api.routing import Access, Route
from schedule_zero.web.routes import TABLE
from tests.integration.conftest import api_client

pytestmark = pytest.mark.anyio

ULID = "01jd3zq8m2x4v6t8r0p2n4m6k8"
LADDER = [Access.VIEWER, Access.OPERATOR, Access.ADMIN]


@pytest.fixture
async def tokens(api: httpx.AsyncClient) -> dict[str, str]:
    """A token of each role."""
    made = {}
    for role in LADDER:
        answer = await api.post("/api/tokens", json={"name": f"a {role}", "role": role})
        assert answer.status_code == 201, answer.text
        made[str(role)] = answer.json()["token"]
    return made


async def status(client: httpx.AsyncClient, route: Route, token: str | None, **headers: str) -> int:
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    path = route.path.replace("{id}", ULID).replace("*", "none")
    body = None
    if route.unsafe and route.page:
        body, headers["Content-Type"] = b"_xsrf=x", "application/x-www-form-urlencoded"
    elif route.body is not None:
        body, headers["Content-Type"] = b"{}", "application/json"
    # Only the head: an event stream has no end.
    async with client.stream(route.method, path, content=body, headers=headers) as answer:
        return answer.status_code


async def test_every_route_lets_in_the_roles_that_its_row_names_and_nobody_else(server, tokens):
    async with httpx.AsyncClient(base_url=server.addresses.http, timeout=10) as client:
        for route in TABLE.routes:
            # A worker's routes: operators and admins as well, viewers not.
            needed = {Access.PUBLIC: -1, Access.PROBE: -1, Access.WORKER: LADDER.index("operator")}.get(route.access)
            level = LADDER.index(route.access) if needed is None else needed
            for rank, role in enumerate(LADDER):
                got = await status(client, route, tokens[role])
                assert (got == 403) == (rank < level), (route.name, role, got)
                assert got not in (401, 405, 500), (route.name, role, got)
            if route.access is not Access.PUBLIC:
                assert await status(client, route, "nonsense") == refused(route), route.name
                assert (await status(client, route, None) == refused(route)) == (level >= 0), route.name
            else:
                assert await status(client, route, None) not in (403, 405, 500), route.name


def refused(route: Route) -> int:
    """Who looks at a page is sent to sign in; others are told."""
    return 303 if route.page and not route.unsafe else 401


async def test_every_route_lets_in_the_sessions_of_the_roles_that_its_row_names_and_nobody_else(server):
    admin = server.service.access.authenticate((server.state_dir / "admin.token").read_text().strip())
    async with httpx.AsyncClient(base_url=server.addresses.http, timeout=10) as client:
        for rank, role in enumerate(LADDER):
            cookie = await signed_in(server, admin, Role(role))
            for route in TABLE.routes:
                level = 0 if route.access is Access.PROBE else -1
                if route.access in LADDER:
                    level = LADDER.index(route.access)
                elif route.access is Access.WORKER:
                    level = LADDER.index("operator")
                got = await status(client, route, None, Cookie=f"{client_cookie(server)}={cookie}")
                if level > rank:
                    assert got == 403, (route.name, role, got)
                elif route.unsafe and level >= 0:
                    # It may, but this form is not one of ours.
                    assert got == 403, (route.name, role, got)
                else:
                    assert got not in (401, 403, 405, 500), (route.name, role, got)


def client_cookie(server) -> str:
    return f"sz_session_{httpx.URL(server.addresses.http).port}"


async def signed_in(server, principal: Principal, role: Role) -> str:
    sessions = server.service.sessions
    return await sessions.sign_in_by_link(await sessions.link(principal, role), agent="test", address="127.0.0.1")


async def test_probes_want_a_token_from_those_behind_a_proxy(server, tokens):
    async with httpx.AsyncClient(base_url=server.addresses.http) as client:
        for route in TABLE.routes:
            if route.access is Access.PROBE:
                assert await status(client, route, None, **{"X-Forwarded-For": "203.0.113.9"}) == 401
                assert await status(client, route, tokens["viewer"], **{"X-Forwarded-For": "203.0.113.9"}) == 200


async def test_a_revoked_token_is_refused_from_then_on(server, api, tokens):
    listed = (await api.get("/api/tokens")).json()["tokens"]
    viewer = next(token for token in listed if token["name"] == "a viewer")
    async with httpx.AsyncClient(
        base_url=server.addresses.http, headers={"Authorization": f"Bearer {tokens['viewer']}"}
    ) as client:
        assert (await client.get("/api/nodes")).status_code == 200

        assert (await api.delete(f"/api/tokens/{viewer['id']}")).status_code == 200

        assert (await client.get("/api/nodes")).status_code == 401
    assert (await api.delete(f"/api/tokens/{viewer['id']}")).status_code == 404
    listed = (await api.get("/api/tokens")).json()["tokens"]
    assert next(token for token in listed if token["id"] == viewer["id"])["revoked_at"]


async def test_the_token_in_use_can_not_be_revoked_with_itself(api):
    [own] = (await api.get("/api/tokens")).json()["tokens"]

    assert (await api.delete(f"/api/tokens/{own['id']}")).status_code == 409


async def test_no_list_shows_a_secret(server, api, tokens):
    made = await api.post("/api/node-keys", json={"node_id": "n1", "handlers": ["demo"]})
    assert made.status_code == 201, made.text
    secrets = [*tokens.values(), made.json()["secret_key"], (server.state_dir / "admin.token").read_text().strip()]

    for path in ("/api/tokens", "/api/node-keys", "/api/config"):
        text = (await api.get(path)).text
        assert not [secret for secret in secrets if secret in text]


async def test_a_node_key_can_be_made_listed_and_revoked(api):
    made = (await api.post("/api/node-keys", json={"node_id": "n1", "handlers": ["demo", "chaos"]})).json()

    [listed] = [key for key in (await api.get("/api/node-keys")).json()["node_keys"] if key["id"] == made["id"]]
    assert listed["handlers"] == ["demo", "chaos"]
    assert listed["public_key"] == made["public_key"]
    assert listed["revoked_at"] is None
    assert (await api.delete(f"/api/node-keys/{made['id']}")).status_code == 200
    assert (await api.delete(f"/api/node-keys/{made['id']}")).status_code == 404


async def test_health_needs_nothing_and_names_the_service(server):
    async with httpx.AsyncClient(base_url=server.addresses.http) as client:
        health = (await client.get("/api/health")).json()

    assert health["status"] == "ok"
    assert health["service"] == "ScheduleZero"


async def test_probes_and_metrics_answer(server):
    async with httpx.AsyncClient(base_url=server.addresses.http) as client:
        assert (await client.get("/livez")).json() == {"status": "ok"}
        assert (await client.get("/readyz")).json() == {"status": "ready", "checks": {}}
        assert (await client.get("/readyz?verbose")).json()["checks"]["store"] == "ok"
        assert (await client.get("/version")).json()["service"] == "ScheduleZero"
        metrics = await client.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain")
        assert b"# HELP" in metrics.content


async def test_a_server_that_stops_is_not_ready(server):
    server.service.system.draining = True
    async with httpx.AsyncClient(base_url=server.addresses.http) as client:
        answer = await client.get("/readyz")

    assert answer.status_code == 503
    assert "draining" in answer.json()["checks"]


async def test_the_openapi_document_is_served(api):
    document = (await api.get("/api/openapi.json")).json()

    assert document["openapi"] == "3.1.0"


async def test_the_admin_token_of_the_state_directory_is_private(server):
    assert (server.state_dir / "admin.token").stat().st_mode & 0o077 == 0
    async with api_client(server) as client:
        assert (await client.get("/api/tokens")).status_code == 200
