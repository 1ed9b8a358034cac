"""Browsers that have signed in: one-time links, cookies, and the list from which each can be ended.

A session hangs on the API token by which it came: it may do no more than that, and ends with it. Cookies and links are
random, so a plain SHA-256 is what is kept; links live in memory only.

**A cookie** changes once an hour. The one before stays good until the browser has shown the new one (it may never have
got it), and for a minute after that (requests of its other tabs may be under way).
"""

from __future__ import annotations

import secrets

import structlog
from msgspec import Struct
from msgspec.structs import replace

from schedule_zero.clock import Clock
from schedule_zero.errors import InvalidField, NotFound, StoreUnavailable, Unauthenticated
from schedule_zero.model import Role, new_id
from schedule_zero.rules.change_log import Actor
from schedule_zero.service.access import AccessService, hash_token
from schedule_zero.service.specs import Principal
from schedule_zero.store import Store
from schedule_zero.store import sessions as store_sessions
from schedule_zero.store.sessions import BrowserSession

log = structlog.get_logger(__name__)

LINK_S = 600.0
IDLE_S = 86_400.0
ROTATE_S = 3_600.0
# How long the cookie before is good once the new one was seen.
GRACE_S = 60.0
# How exactly it is written down when a session was used last.
SEEN_S = 300.0
# Beyond, the one that was not used for the longest has to sign in again.
MOST_SESSIONS = 1_000
MOST_LINKS = 100
MAX_AGENT = 200

# A link or a session is for less than its token: a viewer's is below an operator's, that below an admin's.
_LADDER = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)


class _Link(Struct):
    token_id: str
    role: Role
    until_s: float


class Live(Struct, eq=False):
    """A session that a request has shown its cookie of."""

    session: BrowserSession
    principal: Principal
    # Of the cookie that came.
    digest: str


class _Entry(Struct, eq=False):
    session: BrowserSession
    # Monotonic: until when the cookie before is taken; None: until the new one is seen.
    before_until_s: float | None = None
    # When it was used last, in memory.
    used_us: int = 0


class SessionService:
    """Sessions are held in memory: to look one up is one dict access."""

    def __init__(self, *, store: Store, access: AccessService, clock: Clock, lifetime_s: float) -> None:
        self._store = store
        self._access = access
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._links: dict[str, _Link] = {}
        self._by_hash: dict[str, _Entry] = {}
        self._by_id: dict[str, _Entry] = {}

    async def start(self) -> None:
        """Those of before the server's start go on."""
        for session in await self._store.read(store_sessions.all):
            self._hold(session)

    # --- signing in -------------------------------------------------------------------------------

    async def link(self, principal: Principal, role: Role | None = None) -> str:
        """The secret of a link that is good once, for ten minutes; for ``role`` if that is less than the asker's."""
        role = role or principal.role
        if role not in _LADDER:
            raise InvalidField("a worker has no page to look at; expected viewer, operator or admin", pointer="/role")
        role = _lesser(role, principal.role)
        # Who lets somebody in has to be found afterwards, also if the link is used from elsewhere, or never.
        made = store_sessions.LinkMade(id=new_id(), role=role)
        await self._store.write(store_sessions.link_made, made, by=principal.actor)
        now_s = self._clock.mono_s()
        self._links = {key: link for key, link in self._links.items() if link.until_s > now_s}
        while len(self._links) >= MOST_LINKS:
            del self._links[next(iter(self._links))]
        secret = secrets.token_urlsafe(24)
        self._links[hash_token(secret)] = _Link(principal.token_id, role, now_s + LINK_S)
        log.info("login_link_created", role=role, by=principal.name)
        return secret

    async def sign_in_by_link(self, secret: str, *, agent: str, address: str, request_id: str = "") -> str:
        """The cookie of a new session. Raises Unauthenticated if the link was used, is too old, or never was."""
        link = self._links.pop(hash_token(secret), None)
        if link is None or link.until_s <= self._clock.mono_s():
            raise Unauthenticated(
                "this sign-in link was used already, or is older than ten minutes",
                hint="schedule-zero-server login-link",
            )
        principal = self._access.principal(link.token_id)
        if principal is None:
            raise Unauthenticated("the token that this link was made with was revoked, or has expired")
        principal = replace(principal, address=address, request_id=request_id)
        return await self._begin(principal, _lesser(link.role, principal.role), agent)

    async def sign_in_by_token(self, token: str, *, agent: str, address: str, request_id: str = "") -> str:
        """The cookie of a new session. Raises Unauthenticated for what is no living token, or a worker's."""
        principal = self._access.authenticate(token)
        if principal.role not in _LADDER:
            raise Unauthenticated("this is a worker's token: it runs jobs, and sees nothing else")
        principal = replace(principal, address=address, request_id=request_id)
        return await self._begin(principal, principal.role, agent)

    async def _begin(self, principal: Principal, role: Role, agent: str) -> str:
        now_us = self._clock.wall_us()
        cookie = secrets.token_urlsafe(32)
        session = BrowserSession(
            id=new_id(),
            hash=hash_token(cookie),
            xsrf=secrets.token_urlsafe(24),
            token_id=principal.token_id,
            role=role,
            created_us=now_us,
            rotated_us=now_us,
            seen_us=now_us,
            expires_us=now_us + round(self._lifetime_s * 1e6),
            agent=_printable(agent),
            address=principal.address,
        )
        await self._store.write(store_sessions.create, session, by=principal.actor)
        self._hold(session)
        log.info("session_created", session_id=session.id, role=role, by=principal.name, address=principal.address)
        if len(self._by_id) > MOST_SESSIONS:
            await self._end(min(self._by_id.values(), key=_used).session.id)
        return cookie

    # --- while it lasts ---------------------------------------------------------------------------

    def find(self, cookie: str) -> Live | None:
        """The session of a cookie, if it is good now."""
        digest = hash_token(cookie)
        entry = self._by_hash.get(digest)
        if entry is None:
            return None
        session = entry.session
        principal = self._principal(session)
        if principal is None:
            return None
        if digest == session.hash:
            if session.before_hash is not None and entry.before_until_s is None:
                entry.before_until_s = self._clock.mono_s() + GRACE_S
        elif entry.before_until_s is not None and entry.before_until_s <= self._clock.mono_s():
            del self._by_hash[digest]
            return None
        entry.used_us = self._clock.wall_us()
        return Live(session, principal, digest)

    def is_living(self, session_id: str) -> bool:
        """Whether a session that was let in would be let in now: an event stream may outlive it."""
        entry = self._by_id.get(session_id)
        return entry is not None and self._principal(entry.session) is not None

    def _principal(self, session: BrowserSession) -> Principal | None:
        now_us = self._clock.wall_us()
        idle_us = now_us - max(self._by_id[session.id].used_us, session.seen_us)
        if now_us >= session.expires_us or idle_us > IDLE_S * 1e6:
            return None
        principal = self._access.principal(session.token_id)
        if principal is None:
            return None
        role = _lesser(session.role, principal.role)
        return principal if role is principal.role else replace(principal, role=role)

    async def touch(self, live: Live) -> str | None:
        """A page was asked for: write down that the session is used, and return the next cookie if it is time for it.

        A store that can't write now is no reason to show nothing: then nothing changes.
        """
        entry = self._by_id.get(live.session.id)
        if entry is None:
            return None
        session, now_us = entry.session, self._clock.wall_us()
        # (A browser that has shown the new one is not to be given another for the old one.)
        unseen = entry.before_until_s is None
        rotates = now_us - session.rotated_us >= ROTATE_S * 1e6 and (unseen or live.digest == session.hash)
        if not rotates and now_us - session.seen_us < SEEN_S * 1e6:
            return None
        after, cookie = replace(session, seen_us=now_us), None
        if rotates:
            cookie = secrets.token_urlsafe(32)
            after = replace(after, hash=hash_token(cookie), before_hash=live.digest, rotated_us=now_us)
        # Before the write, which may go on although its request ends.
        self._swap(entry, after)
        try:
            await self._store.write(
                store_sessions.seen,
                store_sessions.Seen(after.id, after.hash, after.before_hash, after.rotated_us, after.seen_us),
            )
        except StoreUnavailable as error:
            self._swap(entry, session)
            log.warning("session_not_recorded", session_id=session.id, reason=error.message)
            return None
        return cookie

    def _swap(self, entry: _Entry, session: BrowserSession) -> None:
        for digest in (entry.session.hash, entry.session.before_hash):
            self._by_hash.pop(digest or "", None)
        if session.hash != entry.session.hash:
            entry.before_until_s = None
        entry.session = session
        self._index(entry)

    # --- the list ---------------------------------------------------------------------------------

    def sessions(self) -> list[BrowserSession]:
        """Those that are good now, newest first, with when they were used last."""
        return sorted(
            (
                replace(entry.session, seen_us=max(entry.used_us, entry.session.seen_us))
                for entry in self._by_id.values()
                if self._principal(entry.session) is not None
            ),
            key=_created,
            reverse=True,
        )

    async def end(self, principal: Principal, session_id: str) -> None:
        """Sign this browser out. Raises NotFound."""
        if not await self._end(session_id, by=principal.actor):
            raise NotFound(f"there is no session {session_id!r}")
        log.info("session_ended", session_id=session_id, by=principal.name)

    async def end_others(self, principal: Principal, own_id: str | None) -> int:
        """Sign all browsers out but the one whose session is ``own_id``; how many those were."""
        others = [session_id for session_id in self._by_id if session_id != own_id]
        ended = [session_id for session_id in others if await self._end(session_id, by=principal.actor)]
        log.info("sessions_ended", count=len(ended), by=principal.name)
        return len(ended)

    async def prune(self) -> int:
        """Forget what is over; how many those were."""
        over = [entry.session.id for entry in self._by_id.values() if self._principal(entry.session) is None]
        for session_id in over:
            await self._end(session_id)
        return len(over)

    async def _end(self, session_id: str, *, by: Actor | None = None) -> bool:
        """``by`` None: it was over by itself."""
        found = await self._store.write(store_sessions.end, session_id, by=by)
        entry = self._by_id.pop(session_id, None)
        if entry is not None:
            self._by_hash = {digest: one for digest, one in self._by_hash.items() if one is not entry}
        return found

    def _hold(self, session: BrowserSession) -> None:
        entry = _Entry(session)
        self._by_id[session.id] = entry
        self._index(entry)

    def _index(self, entry: _Entry) -> None:
        for digest in (entry.session.hash, entry.session.before_hash):
            if digest is not None:
                self._by_hash[digest] = entry


def _lesser(one: Role, other: Role) -> Role:
    return _LADDER[min(_LADDER.index(one), _LADDER.index(other))]


def _used(entry: _Entry) -> int:
    return max(entry.used_us, entry.session.seen_us)


def _created(session: BrowserSession) -> tuple[int, str]:
    return session.created_us, session.id


def _printable(text: str) -> str:
    return "".join(char for char in text[:MAX_AGENT] if char.isprintable())
