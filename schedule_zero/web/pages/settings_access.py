"""Who may come in: API tokens, browsers' sessions, keys of nodes. For administrators.

A secret is in the answer to the form that made it, once, and nowhere else: not in a page's address, not in what a
page is refreshed with. That answer is not compressed, for it stands beside names that others have chosen.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from msgspec import Meta, Struct

from schedule_zero.errors import AlreadyExists, Conflict, InvalidField, ScheduleZeroError
from schedule_zero.model import Role
from schedule_zero.service.sessions import LINK_S
from schedule_zero.store.sessions import BrowserSession
from schedule_zero.store.tokens import ApiToken
from schedule_zero.web.api.decode import BodyDecoder
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.schemas import NodeKeyBody, TokenBody
from schedule_zero.web.pages.render import CLOCK, done, message_of, page, part, url
from schedule_zero.web.pages.session_cookie import origin
from schedule_zero.web.pages.settings import tabs

HERE = "/settings/access"
DAY_S = 86_400.0
MOST_DAYS = 3650
Text = Annotated[str, Meta(max_length=4000)]
ROLE_WORDS = {
    Role.VIEWER: "viewer: sees everything but secrets",
    Role.OPERATOR: "operator: changes schedules, runs and cancels jobs",
    Role.ADMIN: "admin: tokens and settings as well",
    Role.WORKER: "worker: runs jobs over HTTP, sees nothing else",
}
# What marks a browser and a system: the first that fits, for most of them claim to be others as well.
BROWSERS = (
    ("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"),
)  # fmt: skip
SYSTEMS = (
    ("Windows", "Windows"), ("Android", "Android"), ("iPhone", "iOS"), ("iPad", "iPadOS"), ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)  # fmt: skip
_token_body = BodyDecoder(TokenBody, 4)
_key_body = BodyDecoder(NodeKeyBody, 4)


class AccessQuery(Struct, frozen=True, forbid_unknown_fields=True):
    # Those that are over as well.
    over: bool = False


class TokenForm(Struct, frozen=True, forbid_unknown_fields=True):
    """All of it as it was typed: what is wrong is said beside its field."""

    name: Text = ""
    role: Text = ""
    days: Text = ""
    bot_id: Text = ""
    handlers: Text = ""


class KeyForm(Struct, frozen=True, forbid_unknown_fields=True):
    node_id: Text = ""
    handlers: Text = ""


class LinkForm(Struct, frozen=True, forbid_unknown_fields=True):
    role: Text = ""


class SessionView(Struct, frozen=True):
    session: BrowserSession
    # What it is, in few words.
    browser: str
    # The token that it came by.
    by: str
    is_own: bool


async def index(request: ApiRequest) -> Response:
    """Tokens, sessions and keys."""
    return await _shown(request)


async def _shown(request: ApiRequest, *, status: int = 200, **facts: Any) -> Response:
    """The page, or the part that is asked for; only what that needs is read."""
    wanted, access, query = part(request), request.service.access, request.query
    over = query.over if isinstance(query, AccessQuery) else False
    now_us = CLOCK.wall_us()
    if wanted in (None, "tokens", "sessions"):
        tokens = await access.tokens()
        shown = [token for token in tokens if over or token.in_force(now_us)]
        facts |= {
            "tokens": shown,
            "tokens_over": len(tokens) - len(shown),
            "state_of": lambda token: _state(token, now_us),
        }
        names = {token.id: token.name for token in tokens}
        own = request.live.session.id if request.live else ""
        facts["sessions"] = [
            SessionView(session, browser_words(session.agent), names.get(session.token_id, "–"), session.id == own)
            for session in request.service.sessions.sessions()
        ]
    if wanted in (None, "keys"):
        keys = await access.node_keys()
        shown_keys = [key for key in keys if over or key.revoked_us is None]
        facts |= {"keys": shown_keys, "keys_over": len(keys) - len(shown_keys)}
    response = page(
        request,
        "settings_access.html",
        title="Access",
        status=status,
        tabs=tabs(request),
        topics=["token", "session", "node_key"],
        roles=ROLE_WORDS,
        over=over,
        own_token=request.principal.token_id,
        **{"typed": {}, "wrong": {}, "secret": None, "link": None, "new_key": None, **facts},
    )
    if facts.get("secret") or facts.get("link") or facts.get("new_key"):
        response.compress = False
    return response


def _state(token: ApiToken, now_us: int) -> str:
    if token.revoked_us is not None:
        return "revoked"
    return "active" if token.in_force(now_us) else "expired"


def browser_words(agent: str) -> str:
    """``Firefox on Linux``, of what a browser says of itself; else the first of its words."""
    name = next((word for mark, word in BROWSERS if mark in agent), "")
    system = next((word for mark, word in SYSTEMS if mark in agent), "")
    if not name:
        return agent.partition(" ")[0] or "unknown"
    return f"{name} on {system}" if system else name


# --- tokens ---------------------------------------------------------------------------------------------


async def create_token(request: ApiRequest) -> Response:
    """Make a token, and show its secret this once."""
    form: TokenForm = request.body
    try:
        body: TokenBody = _token_body.decode(json.dumps(_token_document(form)).encode())
        token, secret = await request.service.access.create_token(
            request.principal, body.name, body.role, body.expires_s, bot_id=body.bot_id, handlers=body.handlers
        )
    except (InvalidField, AlreadyExists) as error:
        return await _shown(request, status=error.http_status, typed=_typed(form), wrong=_wrong(error, "name"))
    return await _shown(request, status=201, secret=secret, made=token)


def _token_document(form: TokenForm) -> dict[str, Any]:
    document: dict[str, Any] = {"name": form.name.strip(), "role": form.role}
    if form.days.strip():
        try:
            days = float(form.days)
        except ValueError:
            days = 0.0
        if not 0 < days <= MOST_DAYS:
            said = f"expected a number of days, up to {MOST_DAYS}, got {form.days[:50]!r}"
            raise InvalidField(said, pointer="/expires_s")
        document["expires_s"] = days * DAY_S
    if form.bot_id.strip():
        document["bot_id"] = form.bot_id.strip()
    if form.handlers.strip():
        document["handlers"] = _words(form.handlers)
    return document


async def revoke_token(request: ApiRequest) -> Response:
    """Refuse a token from now on; the sessions that came by it end as well."""
    await request.service.access.revoke_token(request.principal, request.id)
    return done(request, "The token is refused from now on", to=HERE)


# --- sessions -------------------------------------------------------------------------------------------


async def end_session(request: ApiRequest) -> Response:
    """Sign a browser out."""
    await request.service.sessions.end(request.principal, request.id)
    return done(request, "That browser is signed out", to=HERE)


async def end_others(request: ApiRequest) -> Response:
    """Sign all browsers out but this one."""
    own = request.live.session.id if request.live else None
    count = await request.service.sessions.end_others(request.principal, own)
    return done(request, f"{count} browser{'' if count == 1 else 's'} signed out", to=HERE)


async def create_link(request: ApiRequest) -> Response:
    """Make a link by which one browser signs in, once."""
    form: LinkForm = request.body
    if form.role not in (Role.VIEWER, Role.OPERATOR, Role.ADMIN):
        raise InvalidField(f"role: expected viewer, operator or admin, got {form.role[:50]!r}")
    secret = await request.service.sessions.link(request.principal, Role(form.role))
    link = origin(request.headers) + url("/login", t=secret)
    return await _shown(request, status=201, link=link, link_role=form.role, link_minutes=round(LINK_S / 60))


# --- keys of nodes --------------------------------------------------------------------------------------


async def create_key(request: ApiRequest) -> Response:
    """Make a CURVE key pair for a node, and show its secret half this once."""
    form: KeyForm = request.body
    document = {"node_id": form.node_id.strip(), "handlers": _words(form.handlers) or ["*"]}
    try:
        body: NodeKeyBody = _key_body.decode(json.dumps(document).encode())
        key, secret = await request.service.access.create_node_key(request.principal, body.node_id, body.handlers)
    except (InvalidField, Conflict) as error:
        typed, wrong = _typed(form), _wrong(error, "node_id")
        return await _shown(request, status=error.http_status, typed=typed, wrong=wrong)
    return await _shown(request, status=201, new_key=secret, made_key=key)


async def revoke_key(request: ApiRequest) -> Response:
    """Refuse a node's key from now on, and end the session that uses it."""
    await request.service.access.revoke_node_key(request.principal, request.id)
    return done(request, "The key is refused from now on", to=HERE)


# --- what was typed, and what is wrong with it ------------------------------------------------------------


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _typed(form: Struct) -> dict[str, str]:
    return {name: getattr(form, name) for name in form.__struct_fields__}


def _wrong(error: ScheduleZeroError, default: str) -> dict[str, str]:
    """What is wrong, by the field that it is wrong with."""
    field = (error.pointer or f"/{default}").split("/")[1]
    return {"days" if field == "expires_s" else field: message_of(error)}
