"""The node's line to the server: one DEALER socket per session, HELLO to goodbye, and the way back after a loss.

It knows sockets, sessions, heartbeats and back-off; what the messages are about is the owner's business. A socket is
never reused: what libzmq might still hold of an old session dies with it. Loss is noticed by the socket
(no peer to write to: at once) or by silence (no heartbeat acknowledged), whichever comes first.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from typing import Any, NamedTuple, Protocol, cast

import msgspec
import structlog
import zmq

from schedule_zero.clock import Clock
from schedule_zero.errors import Denied, DuplicateNode, ProtocolError
from schedule_zero.node.delivery import EncodedResult
from schedule_zero.node.lease import Lease, ServerTime
from schedule_zero.node.settings import Curve
from schedule_zero.wire.codec import decode_server
from schedule_zero.wire.messages import (
    PREFIX,
    Bye,
    Cancel,
    Deny,
    Dispatch,
    ErrorMessage,
    Goaway,
    HbAck,
    Heartbeat,
    Hello,
    LogAck,
    NodeMessage,
    ResultAck,
    ResultChunkAck,
    ServerDrain,
    ServerMessage,
    Welcome,
)

log = structlog.get_logger(__name__)

# A new socket may try for so long to reach the server (libzmq repeats the TCP connect meanwhile) …
CONNECT_S = 2.0
# … and then wait for so long for the answer to HELLO.
WELCOME_S = 5.0
# Full jitter between attempts, doubling from one second to this, and never above half a lease: a server that comes
# back waits for one lease before it gives an attempt up, and its node has to be there by then (C9, C11).
BACKOFF_MAX_S = 32.0
DEFAULT_LEASE_S = 15.0
# So many heartbeats without an answer: the server is gone, or the way to it. (It gives us up after 10 s.)
SILENT_HEARTBEATS = 3.5
# Messages handled before other callbacks get a turn.
RECEIVE_BURST = 64
# More undecodable messages than this in one session: it is not our server, or not our version.
MAX_BAD = 100
GOODBYE_LINGER_MS = 500

Conversation = Dispatch | Cancel | ResultAck | ResultChunkAck | LogAck | ServerDrain

_encode = msgspec.msgpack.Encoder().encode
_uniform = secrets.SystemRandom().uniform


class Owner(Protocol):
    """Whom the link works for. All calls are on the loop's thread."""

    def hello(self) -> Hello: ...

    def holds(self) -> list[int]:
        """The tokens of all attempts that it has: waiting, running, or with a result that is not acknowledged."""
        ...

    def heartbeat(self) -> tuple[int, int]:
        """How many attempts are held, how many results wait in the outbox."""
        ...

    def opened(self, welcome: Welcome) -> None: ...

    def closed(self) -> None: ...

    def receive(self, message: Conversation) -> None: ...


class Line(Protocol):
    """What the owner speaks into: ZeroMQ (``Link``) or HTTP (``http_link.HttpLink``)."""

    session: str | None

    def send(self, message: NodeMessage | EncodedResult) -> bool:
        """False: there is no session; whatever matters is repeated."""
        ...


class End(NamedTuple):
    """Why a session, or the attempt to get one, is over."""

    reason: str
    detail: str = ""
    # What the server asked for; else the back-off decides.
    after_s: float | None = None


def back_off_s(failures: int, most_s: float) -> float:
    """Full jitter below a bound that doubles from one second."""
    return _uniform(0, min(most_s, 2.0 ** min(failures, 16)))


class Link:
    """``run`` keeps a session open until it is cancelled; ``send`` works while there is one."""

    def __init__(
        self,
        *,
        address: str,
        curve: Curve | None,
        max_message_bytes: int,
        clock: Clock,
        lease: Lease,
        time: ServerTime,
        owner: Owner,
        context: zmq.Context[zmq.Socket[bytes]],
    ) -> None:
        self.session: str | None = None
        self.heartbeat_s = 2.0
        # For tests and the log.
        self.sessions = 0
        self._address = address
        self._curve = curve
        self._max_message_bytes = max_message_bytes
        self._clock = clock
        self._lease = lease
        self._time = time
        self._owner = owner
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._socket: zmq.Socket[bytes] | None = None
        self._over: asyncio.Future[End] = self._loop.create_future()
        self._writable: asyncio.Future[None] = self._loop.create_future()
        self._welcome: asyncio.Future[None] = self._loop.create_future()
        self._hello_s = 0.0
        self._lease_s = DEFAULT_LEASE_S
        self._seq = 0
        self._sent_s: dict[int, float] = {}
        self._acked_s = 0.0
        # How long the last acknowledged heartbeat took.
        self._rtt_us: int | None = None
        self._bad = 0

    # --- for the owner -----------------------------------------------------------------------------------

    def send(self, message: NodeMessage | EncodedResult) -> bool:
        """Hand a message to the socket. False: there is no session, or it just ended; whatever matters is repeated."""
        socket = self._socket
        if socket is None or self._over.done():
            return False
        try:
            socket.send_multipart((PREFIX, _encode(message)), zmq.NOBLOCK)
        except zmq.Again:
            self._end(End("disconnected"))
            return False
        # Sending may consume the signal that something came in: look again (libzmq's descriptor is edge-triggered).
        if _events(socket) & zmq.POLLIN:
            self._loop.call_soon(self._receive)
        return True

    async def run(self) -> None:
        """Until cancelled; raises Denied if the server wants nothing to do with this node."""
        failures = 0
        while True:
            before = self.sessions
            end = await self._one_session()
            if self.sessions > before:
                failures = 0
            most_s = min(BACKOFF_MAX_S, self._lease_s / 2)
            delay_s = back_off_s(failures, most_s) if end.after_s is None else end.after_s
            failures += 1
            log.info(
                "server_lost" if self.sessions > before else "server_not_reached",
                server=self._address,
                reason=end.reason,
                detail=end.detail or None,
                retry_in_s=round(delay_s, 2),
            )
            await asyncio.sleep(delay_s)

    def tick(self) -> None:
        """Once a second or so: in case that a signal of the socket was missed."""
        self._receive()

    async def say_goodbye(self) -> None:
        """Close; what was handed to the socket still has a moment to leave. With BYE if nothing is held any more: of
        what is, the server waits for the successor, who brings the results, or for the end of the lease.
        """
        if self.session is None:
            return
        if not any(self._owner.heartbeat()):
            self.send(Bye(s=self.session))
        self._end(End("goodbye"))
        self._close_socket(GOODBYE_LINGER_MS)

    # --- one session -------------------------------------------------------------------------------------

    async def _one_session(self) -> End:
        self._over = self._loop.create_future()
        self._writable = self._loop.create_future()
        self._welcome = self._loop.create_future()
        self._seq = 0
        self._sent_s.clear()
        self._rtt_us = None
        self._bad = 0
        self._open_socket()
        try:
            end = await self._handshake()
            return end or await self._keep_alive()
        finally:
            self._close_socket(0)
            if self.session is not None:
                self.session = None
                self._owner.closed()

    async def _handshake(self) -> End | None:
        """HELLO and WELCOME; None when the session is open."""
        if not await self._first(self._writable, CONNECT_S):
            # libzmq tells a client neither of a refused key nor of a peer that does not encrypt.
            return self._ended() or End(
                "unreachable", "no server there, or not with this encryption (zmq.curve) or these keys (node-key list)"
            )
        hello = self._owner.hello()
        self._hello_s = self._clock.mono_s()
        self.send(hello)
        if not await self._first(self._welcome, WELCOME_S):
            return self._ended() or End(
                "no_answer", "is it a ScheduleZero server, and does it know this node's key (node-key list)?"
            )
        return None

    def _welcomed(self, welcome: Welcome) -> None:
        """The session is open, from this message on: the next one may be in the socket already."""
        now_s = self._clock.mono_s()
        self.session = welcome.s
        self.sessions += 1
        self.heartbeat_s = max(0.01, welcome.heartbeat_s)
        self._lease_s = welcome.lease_s
        self._lease.extend(self._hello_s, welcome.lease_s)
        self._time.sample(self._hello_s, now_s, welcome.server_us)
        self._acked_s = now_s
        self._welcome.set_result(None)
        log.info("server_connected", server=self._address, server_version=welcome.server_version)
        self._owner.opened(welcome)

    async def _keep_alive(self) -> End:
        while True:
            # First what has come in: if it was this process that stood still, the server did not fall silent.
            self._receive()
            ended = self._ended()
            if ended is not None:
                return ended
            now_s = self._clock.mono_s()
            if now_s - self._acked_s > SILENT_HEARTBEATS * self.heartbeat_s:
                return End("silent", f"nothing heard for {now_s - self._acked_s:.1f} s")
            self._seq += 1
            self._sent_s[self._seq] = now_s
            running, outbox = self._owner.heartbeat()
            self.send(
                Heartbeat(
                    s=self.session or "",
                    seq=self._seq,
                    running=running,
                    outbox=outbox,
                    rtt_us=self._rtt_us,
                    wall_us=max(self._clock.wall_us(), 0),
                )
            )
            await asyncio.wait({self._over}, timeout=self.heartbeat_s)

    async def _first(self, awaited: asyncio.Future[None], timeout_s: float) -> bool:
        """Wait for ``awaited`` or the end of the session; True if it is the former."""
        either: set[asyncio.Future[Any]] = {awaited, self._over}
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return awaited.done() and not self._over.done()

    def _ended(self) -> End | None:
        """How the session ended, if it did; raises what was set as its exception (Denied)."""
        return self._over.result() if self._over.done() else None

    def _end(self, end: End) -> None:
        if not self._over.done():
            self._over.set_result(end)

    # --- socket ------------------------------------------------------------------------------------------

    def _open_socket(self) -> None:
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.ROUTING_ID, b"n" + os.urandom(16))
        socket.setsockopt(zmq.LINGER, 0)
        # Queue nothing while there is no connection. And no high-water mark: what is under way is bounded by
        # acknowledgements, and so "not writable" means that the peer is gone.
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, self._max_message_bytes)
        socket.setsockopt(zmq.IPV6, int("[" in self._address))
        if self._curve is not None:
            socket.curve_serverkey = self._curve.server_public
            socket.curve_secretkey = self._curve.secret
            socket.curve_publickey = zmq.curve_public(self._curve.secret)
        socket.connect(self._address)
        self._socket = socket
        self._loop.add_reader(socket.fileno(), self._receive)
        self._loop.call_soon(self._receive)

    def _close_socket(self, linger_ms: int) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            self._loop.remove_reader(socket.fileno())
            socket.close(linger=linger_ms)

    def _receive(self) -> None:
        """Everything that came in, a burst at a time, and whether there still is a peer."""
        socket = self._socket
        if socket is None or self._over.done():
            return
        for _ in range(RECEIVE_BURST):
            # Asking for the events consumes the descriptor's signal, so it has to be the last word in every turn.
            events = _events(socket)
            if not events & zmq.POLLIN:
                break
            self._handle(socket.recv_multipart(zmq.NOBLOCK))
            if self._over.done():
                return
        else:
            self._loop.call_soon(self._receive)
            return
        writable = bool(events & zmq.POLLOUT)
        if writable and not self._writable.done():
            self._writable.set_result(None)
        elif not writable and self._writable.done():
            self._end(End("disconnected"))

    # --- messages ----------------------------------------------------------------------------------------

    def _handle(self, frames: list[bytes]) -> None:
        try:
            message = decode_server(frames, max_bytes=self._max_message_bytes)
        except ProtocolError as error:
            self._bad += 1
            if self._bad <= 3:
                log.warning("bad_message", error=error.message[:200])
            if self._bad > MAX_BAD:
                self._end(End("bad_messages", f"{self._bad} could not be understood"))
            return
        if isinstance(message, Dispatch | Cancel | ResultAck | ResultChunkAck | LogAck | ServerDrain):
            # One of another session is from before a reconnect: nothing stale is believed.
            if message.s == self.session:
                self._owner.receive(message)
        else:
            self._own_business(message)

    def _own_business(self, message: ServerMessage) -> None:
        if isinstance(message, HbAck):
            sent_s = self._sent_s.pop(message.seq, None)
            if sent_s is not None and message.s == self.session:
                now_s = self._clock.mono_s()
                self._lease.extend(sent_s, self._lease_s)
                self._time.sample(sent_s, now_s, message.server_us)
                self._acked_s = now_s
                self._rtt_us = max(0, round((now_s - sent_s) * 1e6))
                for seq in [seq for seq in self._sent_s if seq < message.seq]:
                    del self._sent_s[seq]
        elif isinstance(message, Welcome):
            if not self._welcome.done():
                self._welcomed(message)
        elif isinstance(message, Deny):
            self._denied(message)
        elif isinstance(message, Goaway):
            if message.s == self.session:
                after_s = max(0.0, min(message.reconnect_s, BACKOFF_MAX_S, self._lease_s / 2))
                self._end(End("goaway", message.reason, after_s + _uniform(0, 0.5 + after_s / 2)))
        elif isinstance(message, ErrorMessage):
            if message.code == "no_session":
                self._end(End("no_session", message.message))
            else:
                log.warning("server_refused_message", code=message.code[:50], message=message.message[:200])

    def _denied(self, deny: Deny) -> None:
        if deny.retry:
            self._end(End(f"denied: {deny.code}", deny.reason))
        elif not self._over.done():
            kind = DuplicateNode if deny.code in ("duplicate_node", "stale_epoch") else Denied
            self._over.set_exception(kind(f"the server refused this node: {deny.reason}", deny_code=deny.code))


def _events(socket: zmq.Socket[bytes]) -> int:
    return cast("int", socket.getsockopt(zmq.EVENTS))
