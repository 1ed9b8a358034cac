"""Signing in and out.

A sign-in link is taken by the form's POST, not by the GET that opens the page: whoever looks at an address before its
owner does (a mail scanner, a chat's preview) must not use it up. With JavaScript the form sends itself.
"""

from __future__ import annotations

from msgspec import Struct

from schedule_zero.errors import Unauthenticated
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages import session_cookie
from schedule_zero.web.pages.render import HTML, render_bare


# (Without bounds: what is too long is no secret of ours, and is not repeated; addresses are bounded as requests are.)
class LoginQuery(Struct, frozen=True, forbid_unknown_fields=True):
    t: str = ""
    next: str = "/"


class LoginForm(Struct, frozen=True, forbid_unknown_fields=True):
    # One of the two.
    link: str = ""
    token: str = ""
    next: str = "/"


async def form(request: ApiRequest) -> Response:
    """The page on which one signs in."""
    query: LoginQuery = request.query
    return _shown(request, query.t, query.next)


async def sign_in(request: ApiRequest) -> Response:
    """Take a link or a token; a cookie comes back."""
    body: LoginForm = request.body
    if not body.link and not body.token.strip():
        return _shown(request, "", body.next, problem="Expected an API token.", status=400)
    sessions = request.service.sessions
    who = {
        "agent": request.headers.get("User-Agent", ""),
        "address": request.address,
        "request_id": request.request_id,
    }
    try:
        if body.link:
            cookie = await sessions.sign_in_by_link(body.link, **who)
        else:
            cookie = await sessions.sign_in_by_token(body.token.strip(), **who)
    except Unauthenticated as error:
        return _shown(request, "", body.next, problem=f"{error.message}.", status=401)
    age_s = round(request.config.http.session_s)
    return Response(
        status=303,
        headers=(
            ("Location", local(body.next)),
            session_cookie.set_cookie(request.cookie_name, cookie, age_s, request.headers),
        ),
        content_type=HTML,
    )


async def sign_out(request: ApiRequest) -> Response:
    """End this session."""
    if request.live is not None:
        await request.service.sessions.end(request.principal, request.live.session.id)
    gone = session_cookie.set_cookie(request.cookie_name, "", 0, request.headers)
    return Response(status=303, headers=(("Location", "/login"), gone), content_type=HTML)


def local(target: str) -> str:
    """Where to go after signing in: a path of ours, nothing else."""
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if plain and "\\" not in target and target.isascii() else "/"


def _shown(request: ApiRequest, link: str, target: str, *, problem: str = "", status: int = 200) -> Response:
    body = render_bare(
        "login.html",
        request.headers,
        link=link,
        target=local(target),
        problem=problem,
        instance_name=request.config.instance_name,
        state_dir_hint="schedule-zero-server login-link",
    )
    return Response(body, status=status, content_type=HTML)
