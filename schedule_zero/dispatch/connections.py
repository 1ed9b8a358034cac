"""The TCP connections under the ROUTER: what one may hold that is nobody's yet, or that never comes to an end (C17).

libzmq bounds a connection's time only until its handshake is over, and a queue only by whole messages. So, left to
it, a peer that gets in and says nothing keeps its descriptor for ever; one that sends frames of a message that never
ends, or announces a long handshake, fills the memory, with CURVE before its key was looked at. What it doesn't tell
is known to the kernel: how much has come in over each connection. What of that was never read as a message is
waiting in memory.

A connection is a *stranger's* until there is a session on it. libzmq has no call that ends one connection; shutting
its socket down looks to it as if the peer had hung up. Each look asks first who is at the other end: libzmq may
have closed the connection, and its descriptor may be another's by now.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import structlog
from msgspec import Struct

from schedule_zero import descriptors
from schedule_zero.wire.codec import MAX_HELLO_BYTES

log = structlog.get_logger(__name__)

# A connection without a session is closed after so long; a node says HELLO at once.
STRANGER_S = 10.0
# One whose peer is dropped, a little later: it may still be told why.
EXPELLED_S = 1.0
# More of them than this (and than an eighth of the descriptors), and the oldest are closed: a node needs milliseconds.
MOST_STRANGERS = 1_024
# What a stranger may have sent that was not read: a HELLO, with its frames, and what encryption adds.
STRANGER_BYTES = MAX_HELLO_BYTES + (64 << 10)
# In so many parts: libzmq keeps 8 KiB for each. (A HELLO in TCP's smallest takes 3,900.)
STRANGER_PARTS = 5_000
# And all strangers together: the largest are closed.
STRANGERS_BYTES = 16 << 20
# A node with a session: several times what it may have under way unacknowledged (see ``node.delivery``).
MEMBER_BYTES = 64 << 20
# How often strangers are looked at, and everybody.
LOOK_S = 0.05
LOOK_AT_ALL_S = 0.5
# At most one line in this time, however many are closed.
QUIET_S = 1.0
# What is counted for each frame beside its content (its header, and what CURVE adds).
FRAME_BYTES, FRAME_BYTES_KEYED = 9, 48
# ``struct tcp_info``: bytes received, and in how many segments.
_TCP_INFO_BYTES, _RECEIVED, _SEGMENTS = 160, 128, 152
_COUNTS = sys.platform == "linux"


class Connection(Struct, eq=False):
    """One accepted connection."""

    fd: int
    # Who is at the other end: what tells it from a later one with the same descriptor.
    address: tuple[object, ...]
    # Since when it has been a stranger's.
    since_s: float
    # The routing id of its last message.
    peer: bytes = b""
    # What the kernel had received (bytes, segments) when last all complete messages of it had been read; how many bytes
    # were read since then, and whether any; how many had not been read at the last look.
    settled: int = 0
    segments: int = 0
    read: int = 0
    fresh: bool = False
    waiting: int = 0


class Connections:
    """Who is connected, and who has to go. ``member`` says whether there is a session for a routing id."""

    def __init__(self, *, member: Callable[[bytes], bool], keyed: bool, message_bytes: int) -> None:
        self._member = member
        self._frame_bytes = FRAME_BYTES_KEYED if keyed else FRAME_BYTES
        self._member_bytes = max(MEMBER_BYTES, 4 * message_bytes)
        self._port = 0
        self._open: dict[int, Connection] = {}
        self._looked_s = self._spoke_s = float("-inf")
        self._unsaid = 0
        self.most_strangers = MOST_STRANGERS
        self.closed = 0

    def listens(self, port: int) -> None:
        """Where the connections come in. (Before that, nothing is watched.)"""
        self._port = port
        self.most_strangers = min(MOST_STRANGERS, descriptors.limit() // 8)

    # --- what happens -----------------------------------------------------------------------------

    def accepted(self, fd: int, now_s: float) -> None:
        """A new connection, as the monitor tells."""
        with suppress(OSError), _borrowed(fd) as sock:
            if sock.getsockname()[1] == self._port:
                self._open[fd] = Connection(fd, sock.getpeername(), now_s)

    def gone(self, fd: int) -> None:
        """A connection has ended, as the monitor tells."""
        self._open.pop(fd, None)

    def read(self, fd: int, peer: bytes, size: int, frames: int) -> None:
        """A message was read that came over ``fd``."""
        connection = self._open.get(fd)
        if connection is None:
            return
        connection.peer = peer
        connection.read += size + frames * self._frame_bytes
        connection.fresh = True

    def expel(self, peer: bytes, now_s: float) -> None:
        """Close the connection of this peer, which has no session any more, in a moment."""
        for connection in self._open.values():
            if connection.peer == peer:
                connection.since_s = now_s - STRANGER_S + EXPELLED_S

    # --- who has to go ----------------------------------------------------------------------------

    def look(self, now_s: float, *, empty: bool) -> float:
        """Close what may not stay; in how many seconds to look again. ``empty``: every complete message was read."""
        at_all = now_s - self._looked_s >= LOOK_AT_ALL_S
        if at_all:
            self._looked_s = now_s
        strangers: list[Connection] = []
        for connection in list(self._open.values()):
            member = bool(connection.peer) and self._member(connection.peer)
            if member:
                connection.since_s = now_s
            if not member or at_all:
                self._look_at(connection, now_s, member=member, empty=empty)
            if not member and connection.fd in self._open:
                strangers.append(connection)
        self._thin_out(strangers, now_s)
        return LOOK_S if strangers else LOOK_AT_ALL_S

    def _look_at(self, connection: Connection, now_s: float, *, member: bool, empty: bool) -> None:
        counted = self._received(connection)
        if counted is None:
            self._open.pop(connection.fd, None)
            return
        received, segments = counted
        if empty and connection.fresh:
            # Its last message was read a moment ago, so all before it was; at most the beginning of the next one waits.
            connection.settled, connection.segments, connection.read = received, segments, 0
            connection.fresh = False
        # Frames are counted for more than they take; what is too much is forgotten again.
        connection.read = min(connection.read, received - connection.settled)
        connection.waiting = waiting = received - connection.settled - connection.read
        if waiting > (self._member_bytes if member else STRANGER_BYTES):
            self._close(connection, now_s, f"sent {waiting} bytes that make no message")
        elif not member and waiting and segments - connection.segments > STRANGER_PARTS:
            self._close(connection, now_s, f"sent {segments - connection.segments} parts that make no message")
        elif not member and now_s - connection.since_s > STRANGER_S:
            self._close(connection, now_s, "has no session")

    def _thin_out(self, strangers: list[Connection], now_s: float) -> None:
        """Too many of them, or too much from all of them."""
        # In the order in which they came.
        for connection in strangers[: max(0, len(strangers) - self.most_strangers)]:
            self._close(connection, now_s, f"there are more than {self.most_strangers} connections without a session")
        left = strangers[-self.most_strangers :]
        waiting = sum(connection.waiting for connection in left)
        if waiting <= STRANGERS_BYTES:
            return
        for connection in sorted(left, key=lambda one: one.waiting, reverse=True):
            self._close(connection, now_s, f"connections without a session sent {waiting} bytes that make no message")
            waiting -= connection.waiting
            if waiting <= STRANGERS_BYTES:
                break

    def _close(self, connection: Connection, now_s: float, reason: str) -> None:
        self._open.pop(connection.fd, None)
        with suppress(OSError), _borrowed(connection.fd) as sock:
            if sock.getpeername() != connection.address or sock.getsockname()[1] != self._port:
                return
            # With a reset: nothing of it is left in the kernel, where a sender that goes on would meet a closed window.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.shutdown(socket.SHUT_RDWR)
            self.closed += 1
            if now_s - self._spoke_s < QUIET_S:
                self._unsaid += 1
                return
            log.warning(
                "connection_closed",
                address=str(connection.address[0]),
                peer=connection.peer[:16].hex(),
                reason=reason,
                not_logged=self._unsaid,
            )
            self._spoke_s, self._unsaid = now_s, 0

    def _received(self, connection: Connection) -> tuple[int, int] | None:
        """Bytes and segments that the kernel has received; None: the connection is another's, or none."""
        try:
            with _borrowed(connection.fd) as sock:
                if sock.getpeername() != connection.address:
                    return None
                if not _COUNTS:
                    return 0, 0
                info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            return None
        if len(info) < _TCP_INFO_BYTES:
            # A kernel from before 2015.
            return 0, 0
        (received,) = struct.unpack_from("=Q", info, _RECEIVED)
        (segments,) = struct.unpack_from("=I", info, _SEGMENTS)
        return received, segments


@contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket]:
    """The socket with that descriptor, which stays libzmq's. OSError: there is none.

    (Not a duplicate: what is to be closed here may have taken the last descriptor.)
    """
    borrowed = socket.socket(fileno=fd)
    try:
        yield borrowed
    finally:
        borrowed.detach()
