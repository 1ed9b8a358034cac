"""The settings' pages: who sees what, secrets once, sessions, the switch for all schedules."""

from __future__ import annotations

import asyncio
import html
import re
import shutil
import sqlite3
from contextlib import closing

import httpx
import pytest

from schedule_zero.settings import DEFAULT, LEAVES, Flag, load
from schedule_zero.web.pages import docs_markdown
from schedule_zero.web.pages.settings_access import browser_words
from tests.integration.conftest import TEST_CONFIG, api_client, running_server, with_config
from tests.integration.page_bed import browser, counted_reads, part, submit

pytestmark = pytest.mark.anyio

SECRET = re.compile(r"sz_[\w-]{40,}")
ADMIN_ONLY = ("/settings/configuration", "/settings/access")
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
async def admin(server):
    async with browser(server) as client:
        yield client


# --- who sees what ----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_what_is_for_administrators_is_neither_shown_to_others_nor_given_to_them(server, role):
    async with browser(server, role) as client:
        for path in ("/settings", "/settings/about", "/calendars", "/docs"):
            page = await client.get(path)
            assert page.status_code == 200
            assert not [hidden for hidden in ADMIN_ONLY if f'href="{hidden}"' in page.text]
        for path in ADMIN_ONLY:
            assert (await client.get(path)).status_code == 403
        health = (await client.get("/settings")).text
        assert str(server.state_dir) not in health
        assert "retention." not in health
        assert ('action="/schedules/freeze"' in health) == (role == "operator")
        for form in ("/tokens", "/node-keys", "/login-links", "/sessions/end-others"):
            assert (await submit(client, form, {"role": "admin", "name": "x"})).status_code == 403


async def test_the_shown_backup_works_as_it_is_and_nobody_else_can_read_it(tmp_path):
    if shutil.which("sqlite3") is None:
        pytest.skip("no sqlite3 here: apt-get install sqlite3")
    folder = tmp_path / "back ups"
    folder.mkdir()
    async with running_server(tmp_path / "it's here") as server, browser(server) as admin:
        page = (await admin.get("/settings")).text
        shown = html.unescape(re.search(r"<code>(\(umask .*?)</code>", page, re.DOTALL)[1])
        for _ in ("the first", "another of the same day"):
            ran = await asyncio.create_subprocess_exec("sh", "-ec", f"umask 022\n{shown}", cwd=folder)
            assert await ran.wait() == 0
    [copied] = folder.glob("schedule_zero-*.db")
    with closing(sqlite3.connect(copied)) as copy:
        assert copy.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert copy.execute("select name from api_tokens").fetchall() == [("admin",)]
    kept = {path.name: path.stat().st_mode & 0o077 for path in (copied, folder / "admin.token", folder / "curve")}
    assert not any(kept.values()), kept


# --- configuration ----------------------------------------------------------------------------------


async def test_each_setting_is_shown_with_its_value_who_said_it_and_what_it_means(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("http: {port: 0}\nzmq: {port: 0}\nstore: {durability: fast}\ndescription: '<b>bold</b>'\n")
    loaded = load(
        file=file,
        environ={"SCHEDULE_ZERO_LOG_LEVEL": "warning", "SCHEDULE_ZERO_STATE_DIR": str(tmp_path / "state")},
        flags={"drain_s": Flag("--drain", 5)},
        cwd=tmp_path,
    )
    from schedule_zero.server import Server

    (tmp_path / "state").mkdir(mode=0o700)
    server = Server(loaded.config, tmp_path / "state", origins=loaded.origins)
    await server.start()
    try:
        async with browser(server) as client:
            text = (await client.get("/settings/configuration")).text
            changed = (await client.get("/settings/configuration?changed=true")).text
            found = (await client.get("/settings/configuration?q=session")).text
    finally:
        await server.stop(5)

    for path in LEAVES:
        assert f"<code>{path}</code>" in text
    assert "config.yaml:1" in text
    assert "SCHEDULE_ZERO_LOG_LEVEL" in text
    assert "--drain" in text
    assert "&lt;b&gt;bold" in text
    assert "<b>bold" not in text
    assert "<code>log.level</code>" in changed
    assert "<code>log.format</code>" not in changed
    assert "<code>http.session_s</code>" in found
    assert "<code>drain_s</code>" not in found


async def test_secrets_in_settings_are_masked(tmp_path):
    server_config = with_config(description="see postgresql://u:hunter2@db/x")
    async with running_server(tmp_path / "server", server_config) as server, browser(server) as client:
        assert "hunter2" not in (await client.get("/settings/configuration")).text


def test_every_setting_has_a_meaning_in_the_reference():
    assert not [path for path in LEAVES if not docs_markdown.setting_meanings().get(path)]


async def test_a_server_that_was_told_no_origins_calls_everything_a_default(server):
    assert {one.said for one in server.service.installation.settings()} == {DEFAULT}
    assert [one.path for one in server.service.installation.settings()] == list(LEAVES)


# --- tokens -----------------------------------------------------------------------------------------


async def test_the_secret_of_a_token_is_shown_once_and_nowhere_else(server, admin):
    made = await submit(admin, "/tokens", {"name": f"ci {HOSTILE}", "role": "operator", "days": "30"})

    assert made.status_code == 201
    assert "Content-Encoding" not in made.headers
    (secret,) = set(SECRET.findall(made.text))
    assert HOSTILE not in made.text
    async with httpx.AsyncClient(
        base_url=server.addresses.http, headers={"Authorization": f"Bearer {secret}"}
    ) as program:
        assert (await program.get("/api/nodes")).status_code == 200
    for path in ("/settings/access", "/settings/access?over=true", "/settings", "/settings/configuration"):
        assert not SECRET.search((await admin.get(path)).text)
    token = next(one for one in await server.service.access.tokens() if one.name.startswith("ci"))
    assert token.expires_us - token.created_us == 30 * 86_400_000_000


@pytest.mark.parametrize(
    ("typed", "status", "said"),
    [
        ({"name": "", "role": "viewer"}, 400, "expected"),
        ({"name": "x", "role": "king"}, 400, "viewer"),
        ({"name": "x", "role": "viewer", "days": "soon"}, 400, "expected a number of days"),
        ({"name": "x", "role": "viewer", "days": "-1"}, 400, "expected a number of days, up to 3650, got &#39;-1&#39;"),
        ({"name": "x", "role": "viewer", "days": "1e999"}, 400, "expected a number of days"),
        ({"name": "x", "role": "viewer", "days": "nan"}, 400, "expected a number of days"),
        ({"name": "x", "role": "viewer", "bot_id": "b1"}, 400, "only a token with the role worker"),
        ({"name": "admin", "role": "viewer"}, 409, "exists already"),
    ],
)
async def test_what_is_wrong_with_a_new_token_is_said_in_its_form_which_keeps_what_was_typed(
    admin, typed, status, said
):
    answer = await submit(admin, "/tokens", typed, **part("new_token"))

    assert answer.status_code == status
    assert said in answer.text
    assert "aria-invalid" in answer.text or "king" in typed.values()
    assert f'name="name" type="text" value="{typed["name"]}"' in answer.text
    assert not SECRET.search(answer.text)
    # Only the form, not the page around it.
    assert "<table" not in answer.text


async def test_a_worker_s_token_is_bound_to_its_bot_and_handlers(server, admin):
    typed = {"name": "w", "role": "worker", "bot_id": "b1", "handlers": "etl, mail"}

    assert (await submit(admin, "/tokens", typed)).status_code == 201

    token = next(one for one in await server.service.access.tokens() if one.name == "w")
    assert (token.bot_id, token.handlers) == ("b1", ["etl", "mail"])


async def test_a_revoked_token_is_refused_and_stands_under_those_that_are_over(server, admin):
    secret = SECRET.search((await submit(admin, "/tokens", {"name": "old", "role": "viewer"})).text)[0]
    token = next(one for one in await server.service.access.tokens() if one.name == "old")

    assert (await submit(admin, f"/tokens/{token.id}/revoke")).status_code == 303

    async with httpx.AsyncClient(
        base_url=server.addresses.http, headers={"Authorization": f"Bearer {secret}"}
    ) as program:
        assert (await program.get("/api/nodes")).status_code == 401
    assert token.id not in (await admin.get("/settings/access")).text
    assert token.id in (await admin.get("/settings/access?over=true")).text


async def test_one_s_own_token_can_not_be_revoked(server, admin):
    own = next(one for one in await server.service.access.tokens() if one.name == "admin")

    assert (await submit(admin, f"/tokens/{own.id}/revoke")).status_code == 409
    assert f"/tokens/{own.id}/revoke" not in (await admin.get("/settings/access")).text


# --- sessions ---------------------------------------------------------------------------------------


async def test_browsers_can_be_signed_out_one_by_one_and_all_others_at_once(server, admin):
    async with browser(server, "viewer") as one, browser(server, "viewer") as two, browser(server, "operator") as three:
        listed = (await admin.get("/settings/access", headers=part("sessions"))).text
        own = next(s for s in server.service.sessions.sessions() if s.role == "admin")
        assert f"/sessions/{own.id}/end" not in listed
        assert listed.count("/end&#34;") + listed.count('/end"') >= 3
        first = server.service.sessions.sessions()[-2]

        assert (await submit(admin, f"/sessions/{first.id}/end")).status_code == 303
        assert len(server.service.sessions.sessions()) == 3
        assert (await submit(admin, "/sessions/end-others")).status_code == 303

        assert [s.id for s in server.service.sessions.sessions()] == [own.id]
        for gone in (one, two, three):
            assert (await gone.get("/settings")).status_code == 303
        assert (await admin.get("/settings")).status_code == 200


async def test_a_link_for_a_colleague_signs_in_once_with_the_role_that_was_chosen(server, admin):
    made = await submit(admin, "/login-links", {"role": "viewer"}, **part("new_link"))

    assert made.status_code == 201
    link = re.search(r"http://[^<\s]+/login\?t=([\w-]+)", made.text)
    assert link[0].startswith(server.addresses.http)
    async with httpx.AsyncClient(base_url=server.addresses.http) as colleague:
        assert (await colleague.post("/login", data={"link": link[1]})).status_code == 303
        assert (await colleague.get("/settings")).status_code == 200
        assert (await colleague.get("/settings/access")).status_code == 403
    assert link[1] not in (await admin.get("/settings/access")).text
    assert (await submit(admin, "/login-links", {"role": "worker"})).status_code == 400


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/150.0 Safari/537.36 Edg/150.0",
            "Edge on Windows",
        ),
        ("curl/8.0", "curl/8.0"),
        ("", "unknown"),
    ],
)
def test_a_browser_is_told_in_few_words(agent, words):
    assert browser_words(agent) == words


# --- keys of nodes ----------------------------------------------------------------------------------


async def test_the_secret_key_of_a_node_is_shown_once(server, admin):
    made = await submit(admin, "/node-keys", {"node_id": "n7", "handlers": "etl"}, **part("new_key"))

    assert made.status_code == 201
    assert "Content-Encoding" not in made.headers
    key = next(one for one in await server.service.access.node_keys() if one.node_id == "n7")
    assert key.handlers == ["etl"]
    shown = (await admin.get("/settings/access")).text
    assert key.id in shown
    secret = re.search(r"<code>([^<]{40,})</code></pre>", made.text)[1]
    assert secret not in shown

    assert (await submit(admin, f"/node-keys/{key.id}/revoke")).status_code == 303
    assert key.id not in (await admin.get("/settings/access")).text


async def test_a_key_needs_a_node(admin):
    answer = await submit(admin, "/node-keys", {}, **part("new_key"))
    assert answer.status_code == 400
    assert 'id="wrong-node_id"' in answer.text


# --- health -----------------------------------------------------------------------------------------


async def test_the_first_page_says_how_the_server_fares(server, admin):
    text = (await admin.get("/settings")).text

    assert "The database takes what is written" in text
    assert "upkeep.retention" in text
    assert f"cp -a {server.state_dir}/admin.token" in text
    server.store._writer.healthy = False
    try:
        assert "not ready" in (await admin.get("/settings", headers=part("health"))).text
    finally:
        server.store._writer.healthy = True


async def test_the_freeze_in_force_and_those_that_were_are_shown_with_the_switch(server, admin):
    assert (await submit(admin, "/schedules/freeze", {"note": HOSTILE, "until": "+2h"})).status_code == 303
    frozen = (await admin.get("/settings", headers=part("freeze"))).text
    assert "All schedules are frozen" in frozen
    assert HOSTILE not in frozen
    assert "&lt;script&gt;" in frozen
    assert 'action="/schedules/thaw"' in frozen

    assert (await submit(admin, "/schedules/thaw", {"catch_up": "latest"})).status_code == 303
    thawed = (await admin.get("/settings", headers=part("freeze"))).text
    assert "All schedules are frozen" not in thawed
    assert "&lt;script&gt;" in thawed
    assert 'action="/schedules/freeze"' in thawed


async def test_the_licences_of_what_pages_are_made_with_are_shown(admin):
    text = (await admin.get("/settings/about")).text
    assert "htmx.org" in text
    assert "Zero-Clause BSD" in text or "0BSD" in text
    assert "tornado" in text


# --- cost -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "most"),
    [("/settings", 2), ("/settings/configuration", 0), ("/settings/access", 2), ("/settings/about", 0)],
)
async def test_a_page_asks_the_store_a_bounded_number_of_times(server, admin, monkeypatch, path, most):
    await admin.get(path)
    with counted_reads(server, monkeypatch) as asked:
        assert (await admin.get(path)).status_code == 200
    assert len(asked) <= most


async def test_a_part_asks_only_for_what_it_shows(server, admin, monkeypatch):
    with counted_reads(server, monkeypatch) as asked:
        await admin.get("/settings", headers=part("loops"))
        await submit(admin, "/login-links", {"role": "viewer"}, **part("new_link"))
    # The page that ``submit`` takes its word from.
    assert len(asked) <= 2


async def test_a_program_with_a_token_may_look_as_well(server):
    assert TEST_CONFIG.http.port == 0
    async with api_client(server) as api:
        answer = await api.get("/settings/access")
    assert answer.status_code == 200
    assert "you came with a token" in answer.text
