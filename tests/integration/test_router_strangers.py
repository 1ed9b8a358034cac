"""Connections under the ROUTER that are nobody's, or send what makes no message: closed, told, no harm to others."""

from __future__ import annotations

import socket as sockets

import pytest
import structlog
import zmq

from schedule_zero.config import ZmqConfig
from schedule_zero.dispatch import connections as module
from schedule_zero.dispatch.connections import Connections
from schedule_zero.dispatch.router import Router, Sent
from tests.faults.raw_zmtp import RawPeer, frame, greeting
from tests.support import eventually

pytestmark = pytest.mark.anyio

MIB = 1 << 20


class Listener:
    """A Router, those who have a session by its own word, and what it heard."""

    def __init__(self, context: zmq.Context) -> None:
        self.members: set[bytes] = set()
        self.messages: list[tuple[bytes, int]] = []
        self.router = Router(
            context,
            ZmqConfig(port=0),
            on_message=lambda peer, _key, frames: self.messages.append((peer, len(frames[-1]))),
            on_disconnect=lambda: None,
            on_turn_end=lambda: None,
            has_session=self.members.__contains__,
            keyed=False,
        )
        self.address = self.router.bind()
        self.router.start()

    @property
    def closed(self) -> int:
        return self.router.connections.closed


@pytest.fixture
async def listener():
    context = zmq.Context()
    made = Listener(context)
    yield made
    made.router.close()
    context.term()


@pytest.fixture
def peer(listener):
    with RawPeer(listener.address) as raw:
        yield raw


async def floods(peer: RawPeer, data: bytes, most: int = 64 * MIB) -> int:
    """Send as much of ``data`` as is taken; fail if it never ends."""
    peer.socket.setblocking(False)
    sent = 0
    rest = b""

    def over() -> bool:
        nonlocal sent, rest
        try:
            # A part of it, so that the listener, which shares this loop, has its turns.
            for _ in range(16):
                # What was taken in part goes on where it stopped: anything else would be other frames.
                rest = rest or data
                taken = peer.socket.send(rest[: 64 << 10])
                rest = rest[taken:]
                sent += taken
                assert sent <= most, f"{sent} bytes were taken"
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        return False

    await eventually(over)
    return sent


@pytest.mark.parametrize(
    "data",
    [frame(bytes(256 << 10), more=True), frame(b"", more=True) * 4096],
    ids=["large frames", "empty frames"],
)
async def test_c17_a_message_that_never_ends_ends_its_connection(listener, peer, data):
    peer.handshake()
    with structlog.testing.capture_logs() as logs:
        await floods(peer, data)
    assert listener.closed == 1
    [line] = [line for line in logs if line["event"] == "connection_closed"]
    assert "make no message" in line["reason"]


async def test_c17_a_handshake_of_megabytes_is_ended_before_it_is_over(listener, peer):
    peer.send(greeting())
    await floods(peer, frame(bytes(15 * MIB), command=True))
    assert listener.closed == 1


async def test_c17_small_parts_that_never_make_a_message_are_counted(listener, peer, monkeypatch):
    monkeypatch.setattr(module, "STRANGER_PARTS", 200)
    peer.socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
    peer.handshake()
    await floods(peer, frame(bytes(40), more=True), most=MIB)
    assert listener.closed == 1


async def test_c17_all_strangers_together_hold_no_more_than_so_much(listener, monkeypatch):
    monkeypatch.setattr(module, "STRANGERS_BYTES", MIB)
    peers = [RawPeer(listener.address) for _ in range(4)]
    for raw, size in zip(peers, (100_000, 200_000, 300_000, 900_000), strict=True):
        raw.handshake()
        raw.send(frame(bytes(size), more=True))
    await eventually(lambda: listener.closed)
    await eventually(peers[3].gone)
    assert [raw.gone() for raw in peers] == [False, False, False, True]
    for raw in peers:
        raw.close()


async def test_a_connection_without_a_session_is_closed_after_a_while_and_one_with_it_never(listener, monkeypatch):
    monkeypatch.setattr(module, "STRANGER_S", 0.5)
    with RawPeer(listener.address) as silent, RawPeer(listener.address) as member:
        silent.handshake()
        member.handshake(b"member")
        listener.members.add(b"member")
        member.send(frame(b"SZ1", more=True) + frame(b"hello"))
        await eventually(silent.gone)
        assert not member.gone()
        # Until its session ends.
        listener.members.clear()
        await eventually(member.gone)
    assert listener.closed == 2


async def test_of_too_many_strangers_the_oldest_have_to_go(listener):
    listener.router.connections.most_strangers = 3
    peers = [RawPeer(listener.address) for _ in range(8)]
    await eventually(lambda: listener.closed == 5)
    await eventually(lambda: all(raw.gone() for raw in peers[:5]))
    assert not any(raw.gone() for raw in peers[5:])
    for raw in peers:
        raw.close()


async def test_a_node_with_much_under_way_is_no_stranger(listener, peer):
    listener.members.add(b"member")
    peer.handshake(b"member")
    peer.send(frame(b"SZ1", more=True) + frame(b"hello"))
    await eventually(lambda: listener.messages)
    message = frame(b"SZ1", more=True) + frame(bytes(8 * MIB))
    peer.socket.setblocking(False)
    left = memoryview(message * 4)

    def sent() -> bool:
        nonlocal left
        try:
            while left:
                left = left[peer.socket.send(left) :]
        except BlockingIOError:
            return False
        return True

    await eventually(sent)
    await eventually(lambda: len(listener.messages) == 5)
    assert listener.closed == 0


async def test_a_peer_that_is_expelled_is_hung_up_on(listener, peer, monkeypatch):
    monkeypatch.setattr(module, "EXPELLED_S", 0.1)
    peer.handshake(b"rude")
    peer.send(frame(b"SZ1", more=True) + frame(b"hello"))
    await eventually(lambda: listener.messages)
    listener.router.expel(b"rude")
    await eventually(peer.gone, within_s=3)
    await eventually(lambda: listener.router.send(b"rude", [b"x"]) is Sent.GONE)


def test_a_descriptor_that_is_another_sockets_by_now_is_left_alone():
    """libzmq may have closed its connection, and the number be that of anything else in this process."""
    watched = Connections(member=set[bytes]().__contains__, keyed=False, message_bytes=MIB)
    with sockets.create_server(("127.0.0.1", 0)) as server:
        watched.listens(server.getsockname()[1])
        client = sockets.create_connection(server.getsockname())
        accepted, _ = server.accept()
        number = accepted.fileno()
        watched.accepted(number, 0.0)
        accepted.close()
        client.close()
        # The lowest number that is free is the next one's.
        ours, other = sockets.socketpair()
        with ours, other:
            assert number in (ours.fileno(), other.fileno())
            watched.look(1000.0, empty=True)
            other.send(b"x")
            assert ours.recv(1) == b"x"
        assert watched.closed == 0


def test_what_is_no_connection_to_this_port_is_not_watched():
    watched = Connections(member=set[bytes]().__contains__, keyed=False, message_bytes=MIB)
    with sockets.create_server(("127.0.0.1", 0)) as server, sockets.create_connection(server.getsockname()) as client:
        watched.listens(server.getsockname()[1] + 1)
        watched.accepted(client.fileno(), 0.0)
        watched.look(1000.0, empty=True)
        assert watched.closed == 0
