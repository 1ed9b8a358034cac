"""The ROUTER socket on asyncio's loop: frames in, frames out, and who is gone. Knows no message types.

libzmq's descriptor is edge-triggered: it tells once that something happened, and anything done with the socket may
consume that. So: drain until EVENTS is empty, look again after every send, and look once a second anyway. A turn of
the loop reads a bounded amount, so that a flood doesn't starve the rest of the server.

A send that "succeeds" says nothing (a default ROUTER lost 1,975 of 2,000 at its high-water mark): MANDATORY makes it
fail for a peer that is gone or full, credit keeps it from being full, and the protocol repeats what matters.
Routing ids are never handed over: two peers with one id would leave one mute for ever.

What no message ever comes of is bounded by ``connections``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum

import structlog
import zmq

from schedule_zero.config import ZmqConfig
from schedule_zero.dispatch.connections import LOOK_S, Connections
from schedule_zero.errors import AddressInUse, ConfigError

log = structlog.get_logger(__name__)

# What is read in one turn of the loop: so many messages, and no further one after so many bytes. (Results come in
# batches: that is about five thousand of them, a few ten milliseconds of work.)
TURN = 200
TURN_BYTES = 512 << 10
LOOK_AGAIN_S = 1.0
# Never met: credit bounds what a node is sent, and one heartbeat is answered by one message.
SEND_HWM = 50_000
# Messages of one peer that wait to be read; TCP slows it down beyond that.
RECEIVE_HWM = 2_000
HANDSHAKE_MS = 5_000
MONITORED = (
    zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)


class Sent(Enum):
    """What became of a send."""

    OK = "ok"
    # The peer is not connected (any more).
    GONE = "gone"
    # Its queue is full: it does not read.
    FULL = "full"


# (routing id, public key of the sender or "", the frames after the routing id)
OnMessage = Callable[[bytes, str, Sequence[bytes]], None]


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message waits; asking also makes libzmq look."""
    return not socket.closed and bool(int(socket.get(zmq.EVENTS)) & zmq.POLLIN)


class Router:
    """One ROUTER socket. Callbacks run on the loop; an exception of theirs is the caller's bug and ends the drain."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        config: ZmqConfig,
        *,
        on_message: OnMessage,
        on_disconnect: Callable[[], None],
        on_turn_end: Callable[[], None],
        has_session: Callable[[bytes], bool],
        keyed: bool,
    ) -> None:
        self._config = config
        self._on_message = on_message
        self._on_disconnect = on_disconnect
        self._on_turn_end = on_turn_end
        # With CURVE every message carries its sender's key.
        self._keyed = keyed
        self.connections = Connections(member=has_session, keyed=keyed, message_bytes=config.max_message_bytes)
        self.refused_handshakes = 0
        self._socket = socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.ROUTER_HANDOVER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, config.max_message_bytes)
        socket.setsockopt(zmq.SNDHWM, SEND_HWM)
        socket.setsockopt(zmq.RCVHWM, RECEIVE_HWM)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        socket.setsockopt(zmq.BACKLOG, 1024)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 30)
        socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 10)
        socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
        if ":" in config.host:
            socket.setsockopt(zmq.IPV6, 1)
        self._monitor = socket.get_monitor_socket(MONITORED)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._again: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """For what has to be set before ``bind`` (CURVE)."""
        return self._socket

    def bind(self) -> str:
        """Listen; returns the address with the port in use. AddressInUse, ConfigError."""
        host, port = self._config.host, self._config.port
        where = f"[{host}]" if ":" in host else host
        endpoint = f"tcp://{where}:{port or '*'}"
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            reason = zmq.strerror(error.errno or 0)
            if error.errno in (zmq.EADDRINUSE, zmq.EADDRNOTAVAIL):
                raise AddressInUse(f"{host}:{port} (zmq): {reason}") from error
            raise ConfigError(f"zmq.host {host!r}, zmq.port {port}: {reason}", pointer="/zmq/host") from error
        address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.connections.listens(int(address.rpartition(":")[2]))
        return address

    def start(self) -> None:
        """Begin to read. Before this the socket only queues."""
        self._loop = loop = asyncio.get_running_loop()
        loop.add_reader(self._socket.fileno(), self._drain)
        loop.add_reader(self._monitor.fileno(), self._watch)
        self._look_again()
        self._look_at_connections()

    def close(self, *, linger_ms: int = 0) -> None:
        """Stop reading and close; what was sent has ``linger_ms`` to leave. Safe to call twice."""
        if self._socket.closed:
            return
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_reader(self._monitor.fileno())
        for handle in (self._again, self._timer, self._looking):
            if handle is not None:
                handle.cancel()
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(linger_ms)

    # --- in ---------------------------------------------------------------------------------------

    def _drain(self) -> None:
        self._again = None
        if self._socket.closed:
            return
        budget = TURN_BYTES
        try:
            for _ in range(TURN):
                size = self._receive()
                budget -= size
                if not size or budget < 0:
                    break
        finally:
            self._on_turn_end()
        if readable(self._socket):
            self._soon()

    def _receive(self) -> int:
        """Read one message; its size, 0 if there is none."""
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return 0
        key = ""
        if self._keyed:
            with suppress(zmq.ZMQError):
                key = str(frames[-1].get("User-Id"))
        peer, *body = [frame.bytes for frame in frames]
        size = len(peer) + sum(map(len, body))
        self.connections.read(int(frames[0].get(zmq.SRCFD)), peer, size, len(frames))
        self._on_message(peer, key, body)
        return size

    def _soon(self) -> None:
        if self._again is None and self._loop is not None:
            self._again = self._loop.call_soon(self._drain)

    def _look_again(self) -> None:
        """The safety net under the edge-triggered descriptors."""
        if self._loop is None or self._socket.closed:
            return
        self._soon()
        self._watch()
        self._timer = self._loop.call_later(LOOK_AGAIN_S, self._look_again)

    def _watch(self) -> None:
        """The monitor says that some connection ended, not whose: whoever cares probes its peers."""
        disconnected = accepted = False
        now_s = 0.0 if self._loop is None else self._loop.time()
        while not self._monitor.closed:
            try:
                event = self._monitor.recv_multipart(zmq.NOBLOCK)[0]
            except zmq.Again:
                break
            kind, value = int.from_bytes(event[:2], "little"), int.from_bytes(event[2:6], "little")
            if kind == zmq.EVENT_ACCEPTED:
                self.connections.accepted(value, now_s)
                accepted = True
            elif kind == zmq.EVENT_DISCONNECTED:
                self.connections.gone(value)
                disconnected = True
            else:
                self.refused_handshakes += 1
        if accepted:
            self._look_soon(now_s + LOOK_S)
        if disconnected:
            self._on_disconnect()

    def expel(self, peer: bytes) -> None:
        """Hang up on this peer, in a moment."""
        if self._loop is not None:
            self.connections.expel(peer, self._loop.time())

    def _look_soon(self, by_s: float) -> None:
        """Look at connections by this moment."""
        if self._loop is not None and self._looking is not None and self._looking.when() > by_s:
            self._looking.cancel()
            self._looking = self._loop.call_at(by_s, self._look_at_connections)

    def _look_at_connections(self) -> None:
        if self._loop is None or self._socket.closed:
            return
        wait_s = self.connections.look(self._loop.time(), empty=not readable(self._socket))
        self._looking = self._loop.call_later(wait_s, self._look_at_connections)

    # --- out --------------------------------------------------------------------------------------

    def send(self, peer: bytes, frames: Sequence[bytes]) -> Sent:
        """Hand ``frames`` to libzmq for ``peer``. OK does not mean that they arrive."""
        socket = self._socket
        if socket.closed:
            return Sent.GONE
        try:
            socket.send_multipart([peer, *frames], zmq.NOBLOCK)
        except zmq.Again:
            outcome = Sent.FULL
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            outcome = Sent.GONE
        else:
            outcome = Sent.OK
        if self._again is None and readable(socket):
            self._soon()
        return outcome
