"""Tokens and node keys by command: through the database where no server runs, through the server where one does."""

from __future__ import annotations

import json
import os
from functools import partial

import anyio
import httpx
import pytest
import structlog
from click.testing import CliRunner

from schedule_zero import logs
from schedule_zero.cli.server import main
from schedule_zero.client import AsyncClient
from schedule_zero.errors import Forbidden, NotFound, Unauthenticated

pytestmark = pytest.mark.anyio

NO_EXECUTION = "01k00000000000000000000000"


@pytest.fixture
def access(tmp_path, monkeypatch):
    """``schedule-zero-server`` on the state directory of the ``server`` fixture, whether that runs or not."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SCHEDULE_ZERO_")]:
        monkeypatch.delenv(name)
    # Logging belongs to the process, and this process is the test's.
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())

    def access(*args):
        return CliRunner().invoke(main, [*args, "--state-dir", str(tmp_path / "server")])

    yield access
    structlog.reset_defaults()


def secret_of(done):
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()


def test_without_a_server_a_token_is_written_to_the_database(access):
    secret = secret_of(access("token", "create", "ci", "--role", "viewer"))
    assert secret.startswith("sz_")
    (listed,) = json.loads(access("token", "list", "-o", "json").stdout)
    assert (listed["name"], listed["role"], listed["revoked_at"]) == ("ci", "viewer", None)
    assert secret not in access("token", "list").stdout
    assert access("token", "revoke", listed["id"]).exit_code == 0
    assert access("token", "revoke", listed["id"]).exit_code == 3
    assert access("token", "create", "ci", "--role", "emperor").exit_code == 2


async def test_a_token_made_beside_a_running_server_works_at_once_and_until_it_is_revoked(server, access):
    run = partial(anyio.to_thread.run_sync, abandon_on_cancel=False)
    secret = secret_of(await run(access, "token", "create", "ci", "--role", "viewer"))
    async with AsyncClient(server.addresses.http, secret) as client:
        assert await client.nodes() == []
        with pytest.raises(Forbidden):
            await client.cancel(NO_EXECUTION)
        listed = (await run(access, "token", "list")).stdout
        (line,) = [line for line in listed.splitlines() if " ci " in line]
        assert secret not in listed
        assert (await run(access, "token", "revoke", line.split()[0])).exit_code == 0
        with pytest.raises(Unauthenticated):
            await client.nodes()


async def test_the_environment_of_a_client_does_not_divert_it(server, access, monkeypatch):
    monkeypatch.setenv("SCHEDULE_ZERO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SCHEDULE_ZERO_TOKEN", "sz_of_another_server")
    done = await anyio.to_thread.run_sync(access, "token", "create", "ci", "--role", "operator")
    async with AsyncClient(server.addresses.http, secret_of(done)) as client:
        with pytest.raises(NotFound):
            await client.cancel(NO_EXECUTION)


def test_a_node_key_is_written_for_the_node(access, tmp_path):
    done = access("node-key", "create", "w1", "--handler", "demo", "--out", str(tmp_path / "keys"))
    assert done.exit_code == 0, done.stderr
    assert "--node-id w1" in done.stdout
    files = {
        path.name: (len(path.read_text().strip()), path.stat().st_mode & 0o777)
        for path in (tmp_path / "keys").iterdir()
    }
    assert files == {"w1.secret": (40, 0o600), "server.public": (40, 0o600)}
    listed = access("node-key", "list").stdout
    (line,) = [line for line in listed.splitlines() if " w1 " in line]
    assert access("node-key", "revoke", line.split()[0]).exit_code == 0
    assert access("node-key", "revoke", line.split()[0]).exit_code == 3


async def test_a_node_key_is_made_beside_a_running_server(server, access):
    done = await anyio.to_thread.run_sync(access, "node-key", "create", "*")
    assert len(secret_of(done)) == 40


def test_a_broken_handler_registry_stops_the_start_and_is_left_as_it_is(access, tmp_path):
    path = tmp_path / "handler_registry.yaml"
    path.write_text("demo:\n  allowed_methods: [hello\n")
    done = access("--http", "127.0.0.1:0", "--zmq", "127.0.0.1:0")
    assert done.exit_code == 78
    assert "handler_registry.yaml:3:1: not valid YAML" in done.stderr
    assert path.read_text() == "demo:\n  allowed_methods: [hello\n"


async def test_a_login_link_signs_a_browser_in_once(server, access):
    run = partial(anyio.to_thread.run_sync, abandon_on_cancel=False)
    url = httpx.URL(secret_of(await run(access, "login-link", "--role", "viewer")))

    async with httpx.AsyncClient(base_url=server.addresses.http) as browser:
        for expected in (303, 401):
            answer = await browser.post("/login", data={"link": url.params["t"]})
            assert answer.status_code == expected
        assert (await browser.get("/nodes")).status_code == 200
    (session,) = server.service.sessions.sessions()
    assert session.role == "viewer"


async def test_without_a_server_there_is_nothing_to_sign_in_to(tmp_path, access):
    done = access("login-link")

    assert done.exit_code == 5
    assert "no server runs" in done.stderr
