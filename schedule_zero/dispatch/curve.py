"""CURVE on the ZeroMQ port: who may connect, and as whom.

libzmq alone is open: a CURVE server without a ZAP handler accepts every key. So the handler is ours (a plain
socket on our loop: whatever goes wrong in it, it denies, and lives on), and a self-test at every start proves that
an unknown key is refused and the local one is not. A key admits its process; what it may say it is
(node id, handlers) is checked at HELLO, and the key of every later message against the session's.

Files in ``<state-dir>/curve/`` (0700), each one Z85 line: ``server.secret``, ``server.public``, and
``local-node.secret`` for nodes on this machine.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from pathlib import Path

import structlog
import zmq
from zmq.utils import z85

from schedule_zero.clock import Clock
from schedule_zero.config import ZmqConfig
from schedule_zero.dispatch.router import readable
from schedule_zero.errors import ConfigError, InvalidField, StoreUnavailable
from schedule_zero.model import new_id
from schedule_zero.rules.change_log import Actor
from schedule_zero.state_dir import write_private
from schedule_zero.store import Store
from schedule_zero.store import node_keys as store_keys
from schedule_zero.store.node_keys import ANY, NodeKey
from schedule_zero.wire.messages import Deny, Hello

log = structlog.get_logger(__name__)

DIRECTORY = "curve"
ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"schedule-zero"
SELF_TEST_S = 5.0
# At most one line about refused keys in this time.
QUIET_S = 10.0


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to ``host``. A name other than localhost might be anything."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def wanted(config: ZmqConfig) -> bool:
    """Whether CURVE is to be used. ConfigError: without it, beyond this machine."""
    if config.curve == "on":
        return True
    loopback = is_loopback(config.host)
    if config.curve == "off" and not loopback:
        raise ConfigError(
            f"zmq.curve is off, but zmq.host {config.host!r} can be reached from other machines: "
            "anyone there could run jobs and read their parameters",
            pointer="/zmq/curve",
            hint="set zmq.curve to auto, or zmq.host to 127.0.0.1",
        )
    return not loopback


class CurveKeys:
    """The keys in force, and the ZAP handler that asks for them."""

    def __init__(self, *, store: Store, state_dir: Path, config: ZmqConfig, clock: Clock) -> None:
        self.enabled = wanted(config)
        self._store = store
        self._directory = state_dir / DIRECTORY
        self._clock = clock
        self._active: dict[str, NodeKey] = {}
        self._server_secret = b""
        self._local_secret = b""
        self._zap: zmq.Socket[bytes] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._spoke_s = -QUIET_S
        self.server_public = ""
        self.denied = 0
        # Called with the public key of a revoked key.
        self.on_revoked: Callable[[str], None] = _ignore

    # --- keys -------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Make what is missing in the state directory, and read the keys in force."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._server_secret = _own_secret(self._directory / "server.secret")
        self.server_public = zmq.curve_public(self._server_secret).decode()
        public_file = self._directory / "server.public"
        if not public_file.exists() or public_file.read_text().strip() != self.server_public:
            write_private(public_file, self.server_public.encode() + b"\n")
        self._local_secret = _own_secret(self._directory / "local-node.secret")
        local = zmq.curve_public(self._local_secret).decode()
        known = {key.public_key: key for key in await self._store.read(store_keys.all)}
        self._active = {public: key for public, key in known.items() if key.revoked_us is None}
        if local not in known:
            try:
                await self._add(local, ANY, [ANY])
            except StoreUnavailable:
                log.warning("local_node_key_not_stored")
        elif local not in self._active:
            log.warning("local_node_key_revoked", file=str(self._directory / "local-node.secret"))

    async def create(self, node_id: str, handlers: list[str], *, by: Actor | None = None) -> tuple[NodeKey, str]:
        """A new key for one node id (or ``*``) and its handlers (or ``*``); the secret is returned this once."""
        if not handlers:
            raise InvalidField("expected at least one handler, or *", pointer="/handlers")
        public, secret = zmq.curve_keypair()
        key = await self._add(public.decode(), node_id, handlers, by)
        return key, secret.decode()

    async def _add(self, public: str, node_id: str, handlers: list[str], by: Actor | None = None) -> NodeKey:
        key = NodeKey(
            id=new_id(), public_key=public, node_id=node_id, handlers=handlers, created_us=self._clock.wall_us()
        )
        await self._store.write(store_keys.create, key, by=by)
        self._active[public] = key
        return key

    async def revoke(self, key_id: str, *, by: Actor | None = None) -> bool:
        """Refuse this key from now on and end the session that uses it; whether it was in force."""
        revoke = store_keys.Revoke(id=key_id, now_us=self._clock.wall_us())
        key = await self._store.write(store_keys.revoke, revoke, by=by)
        if key is None:
            return False
        self._active.pop(key.public_key, None)
        self.on_revoked(key.public_key)
        return True

    # --- what a key may say -----------------------------------------------------------------------

    def in_force(self, public_key: str) -> bool:
        return public_key in self._active

    def objection(self, public_key: str, hello: Hello) -> Deny | None:
        """Why this key may not speak for that node or its handlers."""
        key = self._active.get(public_key)
        if key is None:
            return Deny(code="revoked", reason="this node's key is not (or no longer) in force")
        if key.node_id not in (ANY, hello.node_id):
            return Deny(code="key_node_id", reason=f"this key is for node {key.node_id!r}, not for {hello.node_id!r}")
        if ANY not in key.handlers:
            for declared in hello.handlers:
                if declared.handler_id not in key.handlers:
                    return Deny(
                        code="key_handler",
                        reason=f"this key is for the handlers {', '.join(key.handlers)}, "
                        f"not for {declared.handler_id!r}",
                    )
        return None

    # --- sockets ----------------------------------------------------------------------------------

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """Make ``socket`` a CURVE server; before it is bound."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._server_secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        # Without this a missing handler would mean that everybody may come in.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def serve(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Answer the authentication requests of ``context``'s sockets; before they are bound."""
        if not zmq.has("curve"):
            raise ConfigError("this libzmq was built without CURVE; it is needed for zmq.host beyond 127.0.0.1")
        # ROUTER, not REP: an answer that failed must not stop the next one.
        self._zap = zap = context.socket(zmq.ROUTER)
        zap.setsockopt(zmq.LINGER, 0)
        zap.bind(ZAP_ENDPOINT)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(zap.fileno(), self._answer)
        self._loop.call_soon(self._answer)

    def close(self) -> None:
        """Stop answering; safe to call twice."""
        if self._zap is not None and not self._zap.closed:
            if self._loop is not None:
                self._loop.remove_reader(self._zap.fileno())
            self._zap.close(0)

    def _answer(self) -> None:
        zap = self._zap
        while zap is not None and not zap.closed and readable(zap):
            frames = zap.recv_multipart(zmq.NOBLOCK)
            try:
                user = self._user_of(frames)
            except Exception:  # whatever it is: deny, and go on answering
                log.exception("zap_failed")
                user = b""
            status, text = (b"200", b"OK") if user else (b"400", b"denied")
            # Routing id, empty, version, request id; then status, text, user id, metadata.
            zap.send_multipart([*frames[:2], b"1.0", frames[3] if len(frames) > 3 else b"", status, text, user, b""])

    def _user_of(self, frames: list[bytes]) -> bytes:
        """The public key of the peer (Z85), if it may come in; else nothing. RFC 27 (ZAP)."""
        _routing_id, _empty, version, _request_id, domain, address, _identity, mechanism, *credentials = frames
        if version != b"1.0" or domain != ZAP_DOMAIN or mechanism != b"CURVE" or len(credentials) != 1:
            self._deny(address, "not CURVE")
            return b""
        public = z85.encode(credentials[0])
        if public.decode() not in self._active:
            self._deny(address, "unknown key")
            return b""
        return public

    def _deny(self, address: bytes, reason: str) -> None:
        self.denied += 1
        now_s = self._clock.mono_s()
        if now_s - self._spoke_s >= QUIET_S:
            self._spoke_s = now_s
            where = address.decode(errors="replace")[:64]
            log.warning("node_refused", address=where, reason=reason, so_far=self.denied)

    # --- self-test --------------------------------------------------------------------------------

    async def self_test(self, endpoint: str) -> None:
        """Prove that an unknown key is refused at ``endpoint`` and the local node's is not. ConfigError if not so."""
        _, stranger = zmq.curve_keypair()
        if await self._handshake(endpoint, stranger) is not False:
            raise ConfigError("CURVE self-test failed: an unknown key was not refused; refusing to start")
        local = zmq.curve_public(self._local_secret).decode()
        if self.in_force(local) and await self._handshake(endpoint, self._local_secret) is not True:
            raise ConfigError("CURVE self-test failed: the local node's own key was refused; refusing to start")
        # The stranger was ours: the next one is news.
        self.denied = 0
        self._spoke_s = -QUIET_S

    async def _handshake(self, endpoint: str, secret: bytes) -> bool | None:
        """Whether a client with this key gets in; None if neither in nor out in time."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        socket = context.socket(zmq.DEALER)
        self._spoke_s = self._clock.mono_s()
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, zmq.curve_public(secret))
            socket.setsockopt(zmq.CURVE_SERVERKEY, self.server_public.encode())
            if "[" in endpoint:
                socket.setsockopt(zmq.IPV6, 1)
            succeeded = zmq.EVENT_HANDSHAKE_SUCCEEDED
            failed = zmq.EVENT_HANDSHAKE_FAILED_AUTH
            monitor = socket.get_monitor_socket(succeeded | failed)
            socket.connect(endpoint.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]"))
            loop = asyncio.get_running_loop()
            deadline_s = loop.time() + SELF_TEST_S
            while loop.time() < deadline_s:
                if readable(monitor):
                    event = int.from_bytes(monitor.recv_multipart()[0][:2], "little")
                    return event == succeeded
                await asyncio.sleep(0.002)
            return None
        finally:
            socket.disable_monitor()
            context.destroy(linger=0)


def _own_secret(path: Path) -> bytes:
    """The key in ``path``, made if it isn't there. ConfigError if there is something else in it."""
    if not path.exists():
        _, secret = zmq.curve_keypair()
        write_private(path, secret + b"\n")
        return secret
    secret = path.read_bytes().strip()
    try:
        zmq.curve_public(secret)
    except (zmq.ZMQError, ValueError) as error:
        raise ConfigError(
            f"{path}: expected one line of 40 characters (Z85), got {len(secret)}",
            hint="restore it from a backup, or remove it: a new one is made, and nodes elsewhere need it",
        ) from error
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path}: others can read this key", hint=f"chmod 600 {path}")
    return secret


def _ignore(public_key: str) -> None:
    """Nobody listens yet."""
