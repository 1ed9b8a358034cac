"""Who may come in: Host, origin, token, role. Headers and addresses in, a decision out."""

from __future__ import annotations

import pytest

from schedule_zero.errors import BadRequest, CrossOrigin, Forbidden, Misdirected, NotOurForm, Unauthenticated
from schedule_zero.model import Role
from schedule_zero.service.sessions import Live
from schedule_zero.service.specs import Principal
from schedule_zero.store.sessions import BrowserSession
from schedule_zero.web.api.routing import Access, Route
from schedule_zero.web.guard import NOBODY, XSRF, XSRF_FIELD, Guard, check_form, cookies, host_name, is_loopback

LOCAL = "127.0.0.1"


def authenticate(token: str) -> Principal:
    if token not in set(Role):
        raise Unauthenticated
    return Principal(name=token, role=Role(token), token_id=token)


def session(cookie: str) -> Live | None:
    if cookie not in set(Role):
        return None
    about = BrowserSession(
        id=cookie, hash="", xsrf="word", token_id="t", role=Role(cookie), created_us=0, rotated_us=0, seen_us=0,
        expires_us=1, agent="", address="",
    )  # fmt: skip
    return Live(about, Principal(name=cookie, role=Role(cookie), token_id="t"), "")


@pytest.fixture
def guard() -> Guard:
    return Guard(host="10.0.0.5", allowed_hosts=["Jobs.example.org"], authenticate=authenticate, session=session)


def route(access: Access, method: str = "GET", *, page: bool = False) -> Route:
    return Route(method, "/x", access, None, "", {}, page=page)  # type: ignore[arg-type]


# --- Host -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:8888", "LOCALHOST:1", "127.0.0.1:8888", "[::1]:8888", "[::1]", "10.0.0.5:8888",
        "jobs.example.org", "jobs.example.org:443", "jobs.example.org.", "192.168.7.7:8888",
    ],
)  # fmt: skip
def test_our_own_names_are_let_in(guard, host):
    # The last one is the address on which the connection came in, of a server bound to every address.
    guard.check_host(host, lambda: "192.168.7.7")
    guard.check_host(host, lambda: "192.168.7.7")


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0:8888", "10.0.0.6", "[::2]:1"]
)
def test_a_name_that_was_made_to_point_here_is_refused(guard, host):
    with pytest.raises(Misdirected):
        guard.check_host(host, lambda: LOCAL)


@pytest.mark.parametrize(
    "host", [None, "", "localhost,evil", "user@localhost", "localhost:99999", "localhost:x", "[::1", "a/b", "a?b"]
)
def test_a_host_header_that_is_none_is_refused(guard, host):
    with pytest.raises(BadRequest):
        guard.check_host(host, lambda: LOCAL)


def test_binding_to_every_address_gives_no_name():
    guard = Guard(host="0.0.0.0", allowed_hosts=[], authenticate=authenticate, session=session)

    with pytest.raises(Misdirected):
        guard.check_host("0.0.0.0:8888", lambda: LOCAL)


def test_host_names_are_compared_in_lower_case_and_without_the_final_dot():
    assert host_name("LocalHost.:80") == "localhost"


# --- origin ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost:8888", "Host": "localhost:8888"},
        {"Origin": "https://Jobs.example.org", "Host": "jobs.example.org"},
    ],
)
def test_our_own_pages_and_programs_may_write(guard, headers):
    guard.check_origin(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "anything"},
        {"Origin": "null", "Host": "localhost:8888"},
        {"Origin": "http://localhost:9999", "Host": "localhost:8888"},
        {"Origin": "https://evil.example", "Host": "localhost:8888"},
        {"Origin": "file://localhost:8888", "Host": "localhost:8888"},
        {"Origin": "http://", "Host": ""},
    ],
)
def test_pages_of_other_sites_may_not_write(guard, headers):
    with pytest.raises(CrossOrigin):
        guard.check_origin(headers)


# --- token and role -------------------------------------------------------------------------------

LADDER = [Role.VIEWER, Role.OPERATOR, Role.ADMIN]


@pytest.mark.parametrize("role", LADDER)
@pytest.mark.parametrize("access", [Access.VIEWER, Access.OPERATOR, Access.ADMIN])
def test_each_role_may_do_what_the_ones_below_it_may(guard, role, access):
    headers = {"Authorization": f"Bearer {role}"}

    if LADDER.index(role) >= [Access.VIEWER, Access.OPERATOR, Access.ADMIN].index(access):
        principal = guard.admit(route(access), headers, LOCAL).principal
        assert principal is not None
        assert principal.role is role
    else:
        with pytest.raises(Forbidden):
            guard.admit(route(access), headers, LOCAL)


@pytest.mark.parametrize("access", [Access.VIEWER, Access.OPERATOR, Access.ADMIN, Access.PROBE])
def test_a_worker_may_run_jobs_and_nothing_else(guard, access):
    headers = {"Authorization": f"Bearer {Role.WORKER}"}
    assert guard.admit(route(Access.WORKER), headers, LOCAL).principal.role is Role.WORKER
    with pytest.raises(Forbidden):
        guard.admit(route(access), headers, LOCAL)


@pytest.mark.parametrize(("role", "may"), [(Role.VIEWER, False), (Role.OPERATOR, True), (Role.ADMIN, True)])
def test_who_may_run_jobs(guard, role, may):
    headers = {"Authorization": f"Bearer {role}"}
    if may:
        assert guard.admit(route(Access.WORKER), headers, LOCAL).principal.role is role
    else:
        with pytest.raises(Forbidden):
            guard.admit(route(Access.WORKER), headers, LOCAL)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic admin", "admin", "Bearer nonsense", "Bearer " + "x" * 10_000]
)
def test_without_a_valid_token_nobody_comes_in(guard, header):
    headers = {} if header is None else {"Authorization": header}

    with pytest.raises(Unauthenticated):
        guard.admit(route(Access.VIEWER), headers, LOCAL)


def test_the_scheme_is_not_case_sensitive(guard):
    assert guard.admit(route(Access.VIEWER), {"Authorization": "bearer viewer"}, LOCAL).principal is not None


def test_public_routes_need_no_token(guard):
    assert guard.admit(route(Access.PUBLIC), {}, "203.0.113.9") is NOBODY


@pytest.mark.parametrize("remote", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_probes_from_this_machine_need_no_token(guard, remote):
    assert is_loopback(remote)
    assert guard.admit(route(Access.PROBE), {}, remote) is NOBODY


@pytest.mark.parametrize("remote", ["203.0.113.9", "10.0.0.5", "::2", "0.0.0.0", ""])
def test_probes_from_elsewhere_need_one(guard, remote):
    with pytest.raises(Unauthenticated):
        guard.admit(route(Access.PROBE), {}, remote)
    assert guard.admit(route(Access.PROBE), {"Authorization": "Bearer viewer"}, remote).principal is not None


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via"])
def test_a_proxy_on_this_machine_does_not_make_its_clients_local(guard, header):
    with pytest.raises(Unauthenticated):
        guard.admit(route(Access.PROBE), {header: "203.0.113.9"}, LOCAL)


def test_a_wrong_token_is_refused_on_probes_as_well(guard):
    with pytest.raises(Unauthenticated):
        guard.admit(route(Access.PROBE), {"Authorization": "Bearer nonsense"}, LOCAL)


# --- sessions of browsers -------------------------------------------------------------------------


def signed_in(role: Role, **headers: str) -> dict[str, str]:
    return {"Cookie": f"other=1; sz_session={role}; more=a=b", **headers}


@pytest.mark.parametrize("role", LADDER)
def test_a_browser_that_is_signed_in_comes_in_with_its_role(guard, role):
    caller = guard.admit(route(Access.VIEWER, page=True), signed_in(role), LOCAL)

    assert caller.principal.role is role
    assert caller.live is not None
    if role is not Role.ADMIN:
        with pytest.raises(Forbidden):
            guard.admit(route(Access.ADMIN, page=True), signed_in(role), LOCAL)


@pytest.mark.parametrize(
    "cookie", ["", "sz_session=", "sz_session=nobody", "sz_session=" + "x" * 1000, "session=viewer"]
)
def test_a_cookie_that_is_none_of_ours_lets_nobody_in(guard, cookie):
    with pytest.raises(Unauthenticated):
        guard.admit(route(Access.VIEWER, page=True), {"Cookie": cookie}, LOCAL)


@pytest.mark.parametrize("word", [None, "", "wrong", "Word"])
def test_a_session_changes_nothing_through_the_api_without_its_word(guard, word):
    headers = signed_in(Role.ADMIN) | ({} if word is None else {XSRF: word})

    with pytest.raises(NotOurForm):
        guard.admit(route(Access.OPERATOR, "POST"), headers, LOCAL)
    assert guard.admit(route(Access.OPERATOR, "POST"), signed_in(Role.ADMIN, **{XSRF: "word"}), LOCAL).live


@pytest.mark.parametrize("fields", [{}, {XSRF_FIELD: ""}, {XSRF_FIELD: "wrong"}])
def test_a_form_says_the_word_in_a_field_if_not_in_the_header(guard, fields):
    form = route(Access.OPERATOR, "POST", page=True)

    caller = guard.admit(form, signed_in(Role.ADMIN), LOCAL)
    with pytest.raises(NotOurForm):
        check_form(caller, {}, fields)
    check_form(caller, {}, {XSRF_FIELD: "word"})
    with pytest.raises(NotOurForm):
        guard.admit(form, signed_in(Role.ADMIN, **{XSRF: "wrong"}), LOCAL)
    caller = guard.admit(form, signed_in(Role.ADMIN, **{XSRF: "word"}), LOCAL)
    check_form(caller, {XSRF: "word"}, {})


def test_a_program_with_a_token_needs_no_word(guard):
    caller = guard.admit(route(Access.OPERATOR, "POST", page=True), {"Authorization": "Bearer admin"}, LOCAL)

    check_form(caller, {}, {})


def test_a_token_wins_over_a_cookie(guard):
    headers = signed_in(Role.ADMIN, Authorization="Bearer viewer")

    assert guard.admit(route(Access.VIEWER), headers, LOCAL).principal.role is Role.VIEWER


def test_of_two_cookies_with_one_name_the_first_counts():
    assert cookies({"Cookie": "a=1; b; a=2;c = 3"}) == {"a": "1", "c ": " 3"}
