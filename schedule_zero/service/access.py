"""Who may talk to the server: API tokens by role, and CURVE keys of nodes.

A token is random, so a plain SHA-256 of it is what is stored; the secret is shown once and never logged.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog

from schedule_zero.clock import Clock
from schedule_zero.dispatch.curve import CurveKeys
from schedule_zero.errors import Conflict, Forbidden, InvalidField, NotFound, Unauthenticated
from schedule_zero.model import Role, new_id
from schedule_zero.rules.change_log import Actor
from schedule_zero.service.specs import Principal
from schedule_zero.state_dir import ADMIN_TOKEN, write_private
from schedule_zero.store import Store
from schedule_zero.store import node_keys as store_node_keys
from schedule_zero.store import tokens as store_tokens
from schedule_zero.store.node_keys import ANY

log = structlog.get_logger(__name__)

PREFIX = "sz_"


def hash_token(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class AccessService:
    """Tokens and node keys. The hashes of living tokens are held in memory: a look-up is one dict access."""

    def __init__(self, *, store: Store, curve: CurveKeys, clock: Clock) -> None:
        self._store = store
        self._curve = curve
        self._clock = clock
        self._principals: dict[str, Principal] = {}

    async def start(self, state_dir: Path) -> None:
        """Load the living tokens, and make sure that ``admin.token`` holds one of them."""
        now_us = self._clock.wall_us()
        for token in (await self._store.read(lambda conn: store_tokens.active(conn, now_us))).values():
            self._principals[token.hash] = _principal(token)
        path = state_dir / ADMIN_TOKEN
        try:
            secret = path.read_text().strip()
        except FileNotFoundError:
            secret = ""
        if secret and hash_token(secret) in self._principals:
            return
        if not secret:
            secret = _new_secret()
            write_private(path, f"{secret}\n".encode())
        await self._add("admin", Role.ADMIN, secret)

    def authenticate(self, secret: str) -> Principal:
        """The principal of a token; Unauthenticated for any other string."""
        # Looked up by hash: how long it takes says nothing about the secret.
        principal = self._principals.get(hash_token(secret))
        if principal is None:
            raise Unauthenticated("the token is unknown or was revoked")
        if not self._in_time(principal):
            raise Unauthenticated("the token has expired")
        return principal

    def principal(self, token_id: str) -> Principal | None:
        """The principal of a token that is good now, by its id: what a browser's session hangs on."""
        principal = next((one for one in self._principals.values() if one.token_id == token_id), None)
        return principal if principal is not None and self._in_time(principal) else None

    def _in_time(self, principal: Principal) -> bool:
        return principal.expires_us is None or self._clock.wall_us() < principal.expires_us

    def is_living(self, principal: Principal) -> bool:
        """Whether who was let in would be let in now: a long poll may outlive its token."""
        return self.principal(principal.token_id) is not None

    async def create_token(
        self,
        principal: Principal,
        name: str,
        role: Role,
        expires_s: float | None = None,
        *,
        bot_id: str = ANY,
        handlers: Sequence[str] = (ANY,),
    ) -> tuple[store_tokens.ApiToken, str]:
        """A new token, good for ``expires_s`` if that is said; the secret is returned this once.

        Of a worker ``bot_id`` and ``handlers`` say which bot it may be and whose jobs it may run (``*``: any).
        """
        if not name or len(name) > 100:
            raise InvalidField("expected a name of 1 to 100 characters", pointer="/name")
        if not handlers:
            raise InvalidField("expected at least one handler, or *", pointer="/handlers")
        if role is not Role.WORKER:
            for field, bound in (("bot_id", bot_id != ANY), ("handlers", ANY not in handlers)):
                if bound:
                    raise InvalidField(
                        f"only a token with the role worker is bound; this one would be {role}", pointer=f"/{field}"
                    )
        secret = _new_secret()
        token = await self._add(name, role, secret, expires_s, bot_id, handlers, by=principal.actor)
        log.info("token_created", token_id=token.id, name=name, role=role, by=principal.name)
        return token, secret

    async def _add(
        self,
        name: str,
        role: Role,
        secret: str,
        expires_s: float | None = None,
        bot_id: str = ANY,
        handlers: Sequence[str] = (ANY,),
        *,
        by: Actor | None = None,
    ) -> store_tokens.ApiToken:
        now_us = self._clock.wall_us()
        token = store_tokens.ApiToken(
            id=new_id(),
            name=name,
            role=role,
            hash=hash_token(secret),
            bot_id=bot_id,
            handlers=list(handlers),
            created_us=now_us,
            expires_us=None if expires_s is None else now_us + round(expires_s * 1e6),
        )
        await self._store.write(store_tokens.create, token, by=by)
        self._principals[token.hash] = _principal(token)
        return token

    async def tokens(self) -> list[store_tokens.ApiToken]:
        """All tokens, revoked ones too; never their secrets."""
        return await self._store.read(store_tokens.all)

    async def revoke_token(self, principal: Principal, token_id: str) -> None:
        """Refuse this token from now on."""
        if token_id == principal.token_id:
            raise Conflict("this is the token that you are using; revoke it with another one")
        revoke = store_tokens.Revoke(id=token_id, now_us=self._clock.wall_us())
        if not await self._store.write(store_tokens.revoke, revoke, by=principal.actor):
            raise NotFound(f"there is no living token with the id {token_id!r}", hint="schedule-zero-server token list")
        self._principals = {key: value for key, value in self._principals.items() if value.token_id != token_id}
        log.info("token_revoked", token_id=token_id, by=principal.name)

    # --- nodes ------------------------------------------------------------------------------------

    async def create_node_key(
        self, principal: Principal, node_id: str, handlers: list[str]
    ) -> tuple[store_node_keys.NodeKey, str]:
        """A CURVE key pair for one node (or ``*``) and its handlers; the secret half is returned this once."""
        key, secret = await self._curve.create(node_id, handlers, by=principal.actor)
        log.info("node_key_created", key_id=key.id, node_id=node_id, by=principal.name)
        return key, secret

    async def node_keys(self) -> list[store_node_keys.NodeKey]:
        """All node keys, revoked ones too."""
        return await self._store.read(store_node_keys.all)

    async def revoke_node_key(self, principal: Principal, key_id: str) -> None:
        """Refuse this key from now on, and end the session that uses it."""
        if not await self._curve.revoke(key_id, by=principal.actor):
            raise NotFound(f"there is no living node key {key_id!r}")
        log.info("node_key_revoked", key_id=key_id, by=principal.name)


def _principal(token: store_tokens.ApiToken) -> Principal:
    return Principal(
        name=token.name,
        role=token.role,
        token_id=token.id,
        expires_us=token.expires_us,
        bot_id=token.bot_id,
        handlers=tuple(token.handlers),
    )


def check_bot(principal: Principal, bot_id: str) -> None:
    """Forbidden if the token is for another bot."""
    if principal.bot_id not in (ANY, bot_id):
        raise Forbidden(f"the token {principal.name!r} is for the bot {principal.bot_id!r}, not for {bot_id!r}")


def check_handlers(principal: Principal, handler_ids: Iterable[str]) -> None:
    """Forbidden if the token is for other handlers."""
    if ANY in principal.handlers:
        return
    for handler_id in handler_ids:
        if handler_id not in principal.handlers:
            raise Forbidden(
                f"the token {principal.name!r} is for the handlers {', '.join(principal.handlers)}, "
                f"not for {handler_id!r}"
            )


def _new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)
