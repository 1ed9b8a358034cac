"""Browsers that sign in: links that are good once, cookies that change, and what ends a session."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from schedule_zero.config import StoreConfig
from schedule_zero.errors import InvalidField, NotFound, Unauthenticated
from schedule_zero.model import Role
from schedule_zero.service.access import AccessService
from schedule_zero.service.sessions import GRACE_S, IDLE_S, LINK_S, MOST_SESSIONS, ROTATE_S, SessionService
from schedule_zero.service.specs import Principal
from schedule_zero.store import Store
from tests.integration.conftest import api_client
from tests.support import ManualClock

pytestmark = pytest.mark.anyio

WEEK_S = 604_800.0


class Desk:
    """Sessions over a store, and the administrator."""

    def __init__(self, store: Store, access: AccessService, sessions: SessionService, admin: Principal) -> None:
        self.store = store
        self.access = access
        self.sessions = sessions
        self.admin = admin

    async def sign_in(self, role: Role | None = None) -> str:
        link = await self.sessions.link(self.admin, role)
        return await self.sessions.sign_in_by_link(link, agent="Firefox\x00\n", address="127.0.0.1")


async def opened(folder: Path, clock: ManualClock) -> Desk:
    store = Store.open(StoreConfig(durability="fast"), folder, clock=clock)
    access = AccessService(store=store, curve=None, clock=clock)  # type: ignore[arg-type]
    await access.start(folder)
    sessions = SessionService(store=store, access=access, clock=clock, lifetime_s=WEEK_S)
    await sessions.start()
    admin = access.authenticate((folder / "admin.token").read_text().strip())
    return Desk(store, access, sessions, admin)


@pytest.fixture
async def desk(tmp_path: Path, clock: ManualClock):
    made = await opened(tmp_path, clock)
    yield made
    await made.store.close()


# --- links ----------------------------------------------------------------------------------------


async def test_a_link_is_good_once(desk):
    link = await desk.sessions.link(desk.admin)

    await desk.sessions.sign_in_by_link(link, agent="", address="")
    with pytest.raises(Unauthenticated, match="used already"):
        await desk.sessions.sign_in_by_link(link, agent="", address="")


async def test_a_link_is_good_for_ten_minutes(desk, clock):
    early, late = await desk.sessions.link(desk.admin), await desk.sessions.link(desk.admin)

    clock.advance(LINK_S - 1)
    await desk.sessions.sign_in_by_link(early, agent="", address="")
    clock.advance(1)
    with pytest.raises(Unauthenticated):
        await desk.sessions.sign_in_by_link(late, agent="", address="")


async def test_a_link_gives_no_more_than_its_maker_has(desk):
    viewer, _ = await desk.access.create_token(desk.admin, "v", Role.VIEWER)
    principal = desk.access.principal(viewer.id)

    cookie = await desk.sessions.sign_in_by_link(await desk.sessions.link(principal, Role.ADMIN), agent="", address="")

    assert desk.sessions.find(cookie).principal.role is Role.VIEWER
    with pytest.raises(InvalidField):
        await desk.sessions.link(desk.admin, Role.WORKER)


async def test_a_token_signs_in_unless_it_is_a_workers(desk):
    _, operator = await desk.access.create_token(desk.admin, "o", Role.OPERATOR)
    _, worker = await desk.access.create_token(desk.admin, "w", Role.WORKER)

    cookie = await desk.sessions.sign_in_by_token(operator, agent="", address="")
    assert desk.sessions.find(cookie).principal.role is Role.OPERATOR
    with pytest.raises(Unauthenticated):
        await desk.sessions.sign_in_by_token(worker, agent="", address="")
    with pytest.raises(Unauthenticated):
        await desk.sessions.sign_in_by_token("nonsense", agent="", address="")


# --- what ends a session --------------------------------------------------------------------------


async def test_a_session_ends_with_its_token(desk):
    token, secret = await desk.access.create_token(desk.admin, "o", Role.OPERATOR)
    cookie = await desk.sessions.sign_in_by_token(secret, agent="", address="")

    await desk.access.revoke_token(desk.admin, token.id)

    assert desk.sessions.find(cookie) is None
    assert not desk.sessions.sessions()
    assert await desk.sessions.prune() == 1


async def test_a_session_ends_after_a_day_without_a_request(desk, clock):
    used, idle = await desk.sign_in(), await desk.sign_in()

    clock.advance(IDLE_S - 1)
    assert desk.sessions.find(used) is not None
    clock.advance(2)

    assert desk.sessions.find(used) is not None
    assert desk.sessions.find(idle) is None


async def test_a_session_ends_after_its_time_however_much_it_is_used(desk, clock):
    cookie = await desk.sign_in()

    for _ in range(13):
        clock.advance(WEEK_S / 14)
        assert desk.sessions.find(cookie) is not None
    clock.advance(WEEK_S / 14)

    assert desk.sessions.find(cookie) is None


async def test_somebody_can_end_a_session_from_elsewhere(desk):
    cookie = await desk.sign_in()
    live = desk.sessions.find(cookie)

    await desk.sessions.end(desk.admin, live.session.id)

    assert desk.sessions.find(cookie) is None
    assert not desk.sessions.is_living(live.session.id)
    with pytest.raises(NotFound):
        await desk.sessions.end(desk.admin, live.session.id)


async def test_sessions_are_bounded_and_the_idlest_goes_first(desk, clock):
    first = await desk.sign_in()
    second = await desk.sign_in()
    clock.advance(1)
    desk.sessions.find(first)
    for _ in range(MOST_SESSIONS - 1):
        await desk.sign_in()

    assert desk.sessions.find(first) is not None
    assert desk.sessions.find(second) is None


# --- cookies --------------------------------------------------------------------------------------


async def test_a_cookie_changes_once_an_hour_and_the_one_before_stays_good_until_the_new_one_is_shown(desk, clock):
    old = await desk.sign_in()
    assert await desk.sessions.touch(desk.sessions.find(old)) is None
    clock.advance(ROTATE_S)

    new = await desk.sessions.touch(desk.sessions.find(old))

    assert new is not None
    clock.advance(GRACE_S * 10)
    # The browser never got the new one.
    assert desk.sessions.find(old) is not None
    assert desk.sessions.find(new) is not None
    # Other tabs may still be under way with the old one.
    assert desk.sessions.find(old) is not None
    clock.advance(GRACE_S)
    assert desk.sessions.find(old) is None
    assert desk.sessions.find(new).session.id


async def test_a_browser_that_never_got_the_new_cookie_is_given_another(desk, clock):
    old = await desk.sign_in()
    clock.advance(ROTATE_S)
    lost = await desk.sessions.touch(desk.sessions.find(old))
    clock.advance(ROTATE_S)

    new = await desk.sessions.touch(desk.sessions.find(old))

    assert new is not None
    assert desk.sessions.find(lost) is None
    assert desk.sessions.find(new) is not None


async def test_sessions_outlive_a_restart_with_their_cookies(tmp_path, clock):
    desk = await opened(tmp_path, clock)
    old = await desk.sign_in(Role.OPERATOR)
    clock.advance(ROTATE_S)
    new = await desk.sessions.touch(desk.sessions.find(old))
    await desk.store.close()

    desk = await opened(tmp_path, clock)

    assert desk.sessions.find(old).principal.role is Role.OPERATOR
    assert desk.sessions.find(new).session.agent == "Firefox"
    await desk.store.close()


async def test_no_secret_is_stored(desk, tmp_path):
    cookie = await desk.sign_in()
    link = await desk.sessions.link(desk.admin)

    stored = b"".join(path.read_bytes() for path in tmp_path.glob("*.db*"))
    assert cookie.encode() not in stored
    assert link.encode() not in stored


# --- over HTTP ------------------------------------------------------------------------------------


@pytest.fixture
async def web(server):
    async with httpx.AsyncClient(base_url=server.addresses.http, timeout=10) as client:
        yield client


async def link_of(server) -> str:
    async with api_client(server) as api:
        return (await api.post("/api/login-links", json={})).json()["path"].partition("t=")[2]


async def test_a_page_sends_who_is_not_signed_in_to_sign_in_and_back(server, web):
    answer = await web.get("/nodes?state=lost")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login?next=%2Fnodes%3Fstate%3Dlost")

    form = await web.get(answer.headers["Location"])
    assert 'name="next" value="/nodes?state=lost"' in form.text
    signed = await web.post("/login", data={"link": await link_of(server), "next": "/nodes?state=lost"})

    assert (signed.status_code, signed.headers["Location"]) == (303, "/nodes?state=lost")
    assert (await web.get("/nodes")).status_code == 200


async def test_looking_at_a_link_does_not_use_it_up(server, web):
    link = await link_of(server)

    for _ in range(2):
        assert link in (await web.get(f"/login?t={link}")).text
    assert (await web.post("/login", data={"link": link})).status_code == 303


async def test_the_cookie_is_for_the_server_alone(server, web):
    answer = await web.post("/login", data={"link": await link_of(server)}, headers={"X-Forwarded-Proto": "https"})

    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"sz_session_{httpx.URL(server.addresses.http).port}=")
    for attribute in ("HttpOnly", "SameSite=Lax", "Path=/", "Secure"):
        assert attribute in cookie


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "evil", "/a\nb", "/ä", ""],
)
async def test_signing_in_leads_nowhere_else(server, web, target):
    answer = await web.post("/login", data={"link": await link_of(server), "next": target})

    assert answer.headers["Location"] == "/"


@pytest.mark.parametrize("fields", [{}, {"token": " "}, {"token": "nonsense"}, {"link": "nonsense"}])
async def test_what_signs_nobody_in_is_told_on_the_page(web, fields):
    answer = await web.post("/login", data=fields)

    assert answer.status_code in (400, 401)
    assert 'role="alert"' in answer.text
    assert "Set-Cookie" not in answer.headers


async def test_who_signs_in_anew_comes_back_to_an_address_of_any_length(server, web):
    path = f"/executions?q={'%E2%98%83' * 600}"
    answer = await web.get(path, headers={"Accept": "text/html"})
    form = await web.get(answer.headers["Location"])
    assert (form.status_code, f'name="next" value="{path}"' in form.text) == (200, True)

    signed = await web.post("/login", data={"link": await link_of(server), "next": path})

    assert signed.headers["Location"] == path


async def test_a_secret_that_is_too_long_is_told_on_the_page_and_not_repeated(web):
    answer = await web.post("/login", data={"token": "secretive" * 1000})

    assert answer.status_code == 401
    assert "The token is unknown or was revoked." in answer.text
    assert "secretive" not in answer.text


async def test_a_page_of_another_site_can_not_sign_anybody_in(server, web):
    answer = await web.post("/login", data={"link": await link_of(server)}, headers={"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


async def test_signing_out_ends_the_session(server, web):
    await web.post("/login", data={"link": await link_of(server)})
    word = (await web.get("/nodes")).text.partition('name="xsrf" content="')[2].partition('"')[0]
    kept = dict(web.cookies)

    assert (await web.post("/logout", data={})).status_code == 403
    assert (await web.post("/logout", data={"_xsrf": word})).headers["Location"] == "/login"

    (name, value) = next(iter(kept.items()))
    assert (await web.get("/nodes", headers={"Cookie": f"{name}={value}"})).status_code == 303


async def test_htmx_is_told_where_to_sign_in(web, server):
    headers = {"HX-Request": "true", "HX-Current-URL": f"{server.addresses.http}/nodes?a=1"}

    answer = await web.get("/nodes", headers=headers)

    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/login?next=%2Fnodes%3Fa%3D1")


async def test_pages_are_sent_with_a_policy_that_allows_nothing_inline(server, web):
    await web.post("/login", data={"link": await link_of(server)})

    answer = await web.get("/nodes")

    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert " style=" not in answer.text
    assert "onclick" not in answer.text


async def test_files_are_asked_for_once(server, web):
    await web.post("/login", data={"link": await link_of(server)})
    path = (await web.get("/nodes")).text.partition('rel="stylesheet" href="')[2].partition('"')[0]

    answer = await web.get(path)
    old = await web.get(path.replace(path.split("/")[2], "000000000000"))

    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["Content-Encoding"] == "gzip"
    assert old.headers["Cache-Control"] == "no-cache"
    assert old.text == answer.text
    for missing in ("/static/x/../app.css", "/static/x/../../exchange.py", "/static/", "/static/x/none.css"):
        assert (await web.get(missing)).status_code == 404
