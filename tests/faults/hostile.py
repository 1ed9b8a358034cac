"""What hostile peers send to the ports of a server, each a function: so many times, until the server has dealt with it.

Each says how often it harmed, or tried to. None is told anything that a stranger would not find out.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from tests.faults.raw_zmtp import RawPeer, frame, greeting, ready
from tests.support import eventually_sync
from tests.system.bed import Bed

MIB = 1 << 20
# The server's handshake interval (5 s) and its patience with strangers (10 s), with room for a busy machine.
HANDSHAKE_S, STRANGER_S = 15.0, 25.0
# A request's headers and body may take 60 s.
HTTP_S = 90.0
# Far more than any connection may send that makes no message, on however busy a machine.
MUCH = 512 * MIB
# Of these one after the other is enough.
MOST_FLOODS = 30

Attack = Callable[[Bed, int], int]


def _peers(bed: Bed, many: int, stack: ExitStack, *, inside: bool = True) -> list[RawPeer]:
    address = bed.server.addresses["zmq"]
    peers = [stack.enter_context(RawPeer(address)) for _ in range(many)]
    return [peer.handshake() for peer in peers] if inside else peers


def all_gone(peers: Iterable[RawPeer], within_s: float) -> None:
    left = list(peers)

    def gone() -> bool:
        left[:] = [peer for peer in left if not peer.gone()]
        return not left

    eventually_sync(gone, within_s=within_s, every_s=0.1)


# --- slow, or silent -----------------------------------------------------------------------------------------------


def says_nothing(bed: Bed, many: int) -> int:
    """Connections on which nothing ever comes."""
    with ExitStack() as stack:
        all_gone(_peers(bed, many, stack, inside=False), HANDSHAKE_S)
    return many


def stops_in_the_handshake(bed: Bed, many: int) -> int:
    """Half a greeting; a greeting and nothing else; half of the READY after it."""
    said = [greeting()[:11], greeting(), (greeting() + ready())[:-5]]
    with ExitStack() as stack:
        peers = _peers(bed, many, stack, inside=False)
        for peer, data in zip(peers, itertools.cycle(said), strict=False):
            peer.send(data)
        all_gone(peers, HANDSHAKE_S)
    return many


def greets_byte_by_byte(bed: Bed, many: int) -> int:
    """A slow loris: a byte of the greeting a second, so that there always is something to wait for."""
    with ExitStack() as stack:
        left = _peers(bed, many, stack, inside=False)
        begun_s = time.monotonic()
        said = 0
        while left:
            assert time.monotonic() < begun_s + HANDSHAKE_S, f"{len(left)} of {many} are still connected"
            eventually_sync(lambda: time.monotonic() >= begun_s + said, within_s=5)
            left = [peer for peer in left if peer.send(greeting()[said : said + 1]) and not peer.gone()]
            said += 1
    return many


def gets_in_and_says_nothing(bed: Bed, many: int) -> int:
    """The handshake is done as it should be; then nothing."""
    with ExitStack() as stack:
        all_gone(_peers(bed, many, stack), STRANGER_S)
    return many


# --- what makes no message -------------------------------------------------------------------------------------------


def _floods(bed: Bed, many: int, data: bytes) -> int:
    """Each sends ``data`` again and again, until the server hangs up: that has to be before it took much."""
    many = min(many, MOST_FLOODS)
    for _ in range(many):
        with ExitStack() as stack:
            [peer] = _peers(bed, 1, stack)
            sent = 0
            while peer.send(data) and not peer.gone():
                sent += len(data)
                assert sent <= MUCH, f"{sent} bytes of it were taken"
    return many


def never_ends_a_message(bed: Bed, many: int) -> int:
    """Large frames, each with more to follow: libzmq keeps them all, and its high-water mark counts none."""
    return _floods(bed, many, frame(bytes(MIB), more=True))


def never_ends_a_message_of_nothing(bed: Bed, many: int) -> int:
    """Empty frames with more to follow: two bytes each on the wire, 64 in memory."""
    return _floods(bed, many, frame(b"", more=True) * 4096)


def never_ends_a_message_in_small_parts(bed: Bed, many: int) -> int:
    """Small frames, each sent alone: libzmq keeps 8 KiB of buffer for each."""
    with ExitStack() as stack:
        peers = _peers(bed, min(many, 4), stack)
        for peer in peers:
            peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        part = frame(bytes(64), more=True)
        for peer in peers:
            sent = 0
            while peer.send(part) and not (sent % 500 == 0 and peer.gone()):
                sent += 1
                assert sent < 200_000, "so many parts were taken"
    return len(peers)


def many_send_what_makes_no_message(bed: Bed, many: int) -> int:
    """Each stays below what one connection may send; all together don't."""
    most = 11  # 16 MiB in all
    with ExitStack() as stack:
        peers = _peers(bed, max(many, 32), stack)
        part = frame(bytes(MIB + MIB // 2), more=True)
        for peer in peers:
            peer.send(part)
        eventually_sync(lambda: sum(not peer.gone() for peer in peers) <= most, within_s=5)
    return len(peers)


def handshakes_at_length(bed: Bed, many: int) -> int:
    """A command of 15 MiB before the server knows who it is: with CURVE, the same would come before the key."""
    many = min(many, 100)
    with ExitStack() as stack:
        peers = _peers(bed, many, stack, inside=False)
        for peer in peers:
            peer.send(greeting())
            peer.send(frame(bytes(15 * MIB), command=True, claims=15 * MIB + 1))
        all_gone(peers, HANDSHAKE_S)
    return many


def sends_large_messages(bed: Bed, many: int) -> int:
    """Whole messages, four times as large as any before HELLO, one after the other: a few, and the peer is dropped."""
    message = frame(b"SZ1", more=True) + frame(bytes(8 * MIB))
    many = min(many, MOST_FLOODS)
    for _ in range(many):
        with ExitStack() as stack:
            [peer] = _peers(bed, 1, stack)
            eventually_sync(lambda: not peer.send(message), within_s=STRANGER_S)
    return many


# --- lengths that are none --------------------------------------------------------------------------------------------


def announces_too_much(bed: Bed, many: int) -> int:
    """Frames that claim to be longer than any may be: by one byte, 4 GiB, 2⁶³, all ones. Not one is waited for."""
    claims = [16 * MIB + 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
    with ExitStack() as stack:
        peers = _peers(bed, many, stack)
        for peer, claim in zip(peers, itertools.cycle(claims), strict=False):
            peer.send(frame(b"x" * 100, claims=claim))
        all_gone(peers, 5)
    return many


def sends_too_much(bed: Bed, many: int) -> int:
    """A frame that really is longer than any may be."""
    many = min(many, MOST_FLOODS)
    for _ in range(many):
        with ExitStack() as stack:
            [peer] = _peers(bed, 1, stack)
            peer.send(frame(bytes(17 * MIB)))
            all_gone([peer], 5)
    return many


def speaks_no_zmtp(bed: Bed, many: int) -> int:
    """HTTP, TLS, an older ZMTP, noise."""
    said = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"\x01\x00",
    ]
    with ExitStack() as stack:
        peers = _peers(bed, many, stack, inside=False)
        for peer, data in zip(peers, itertools.cycle([*said, os.urandom(2000)]), strict=False):
            peer.send(data)
        all_gone(peers, STRANGER_S)
    return many


# --- HTTP ----------------------------------------------------------------------------------------------


def _http(bed: Bed, many: int, stack: ExitStack) -> list[RawPeer]:
    return [stack.enter_context(RawPeer(bed.server.addresses["http"])) for _ in range(many)]


def _drips(bed: Bed, many: int, head: bytes) -> int:
    """Send ``head``, then a byte a second."""
    with ExitStack() as stack:
        left = _http(bed, many, stack)
        for peer in left:
            peer.send(head)
        begun_s = time.monotonic()
        said = 0
        while left:
            assert time.monotonic() < begun_s + HTTP_S, f"{len(left)} of {many} are still connected"
            eventually_sync(lambda: time.monotonic() >= begun_s + said, within_s=5)
            left = [peer for peer in left if peer.send(b"x") and not peer.gone()]
            said += 1
    return many


def asks_byte_by_byte(bed: Bed, many: int) -> int:
    """Headers that never end."""
    return _drips(bed, many, b"GET /readyz HTTP/1.1\r\nX-Slow: ")


def tells_byte_by_byte(bed: Bed, many: int) -> int:
    """A body that never ends, of a request that may have one."""
    token = (bed.server.state_dir / "admin.token").read_text().strip()
    host = bed.server.addresses["http"].rpartition("/")[2]
    head = (
        f"POST /api/executions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
    )
    return _drips(bed, many, head.encode())


def keeps_alive(bed: Bed, many: int) -> int:
    """One request, then nothing."""
    host = bed.server.addresses["http"].rpartition("/")[2]
    with ExitStack() as stack:
        peers = _http(bed, many, stack)
        for peer in peers:
            peer.send(f"GET /readyz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        all_gone(peers, HTTP_S)
    return many


QUICK: list[Attack] = [
    never_ends_a_message,
    never_ends_a_message_of_nothing,
    many_send_what_makes_no_message,
    handshakes_at_length,
    sends_large_messages,
    announces_too_much,
    sends_too_much,
]
SLOW: list[Attack] = [
    says_nothing,
    stops_in_the_handshake,
    greets_byte_by_byte,
    gets_in_and_says_nothing,
    never_ends_a_message_in_small_parts,
    speaks_no_zmtp,
    asks_byte_by_byte,
    tells_byte_by_byte,
    keeps_alive,
]
