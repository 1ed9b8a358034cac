"""The ROUTER shell alone: reading everything, telling who is gone, fairness, garbage at the level of sockets."""

from __future__ import annotations

import asyncio
import socket as sockets
import struct

import pytest
import zmq

from schedule_zero.config import ZmqConfig
from schedule_zero.dispatch import router as router_module
from schedule_zero.dispatch.router import Router, Sent
from schedule_zero.errors import AddressInUse, ConfigError
from tests.support import eventually

pytestmark = pytest.mark.anyio


class Listener:
    """A Router with everything it told."""

    def __init__(self, context, **config) -> None:
        self.messages: list = []
        self.disconnects = 0
        self.turns: list[int] = []
        self.router = Router(
            context,
            ZmqConfig(port=0, **config),
            on_message=self._message,
            on_disconnect=self._disconnected,
            on_turn_end=lambda: self.turns.append(len(self.messages)),
            has_session=lambda _peer: True,
            keyed=False,
        )
        self.address = self.router.bind()
        self.router.start()

    def _message(self, peer, key, frames) -> None:
        self.messages.append((peer, key, list(frames)))

    def _disconnected(self) -> None:
        self.disconnects += 1


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    for socket in OPENED:
        socket.close(0)
    OPENED.clear()
    context.term()


# Kept until the end of their test: a socket that is collected while open is a warning.
OPENED: list = []


@pytest.fixture
async def listener(context):
    listener = Listener(context)
    yield listener
    listener.router.close()


def dealer(context, address, identity=b"peer"):
    socket = context.socket(zmq.DEALER)
    OPENED.append(socket)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.IDENTITY, identity)
    if address is not None:
        socket.connect(address)
    return socket


async def test_every_message_of_a_burst_is_read(context, listener):
    peer = dealer(context, listener.address)
    for number in range(5000):
        peer.send_multipart([b"SZ1", str(number).encode()])
    await eventually(lambda: len(listener.messages) == 5000)
    assert [int(frames[1]) for _, _, frames in listener.messages] == list(range(5000))


async def test_a_flood_is_read_in_turns_between_which_others_run(context, listener):
    peer = dealer(context, listener.address)
    for number in range(3000):
        peer.send_multipart([b"SZ1", str(number).encode()])
    laps = 0
    while len(listener.messages) < 3000:
        await asyncio.sleep(0)
        laps += 1
    most = max(after - before for before, after in zip([0, *listener.turns], listener.turns, strict=False))
    assert most <= router_module.TURN
    assert laps >= 3000 / router_module.TURN


async def test_large_messages_make_shorter_turns(context, listener):
    peer = dealer(context, listener.address)
    body = b"x" * (router_module.TURN_BYTES // 4)
    for _ in range(40):
        peer.send_multipart([b"SZ1", body])
    await eventually(lambda: len(listener.messages) == 40)
    most = max(after - before for before, after in zip([0, *listener.turns], listener.turns, strict=False))
    assert most <= 5


async def test_what_arrives_while_we_send_is_not_forgotten(context, listener):
    """The descriptor is edge-triggered, and a send may swallow its edge."""
    peer = dealer(context, listener.address)
    peer.send_multipart([b"SZ1", b"first"])
    await eventually(lambda: listener.messages)
    for number in range(500):
        peer.send_multipart([b"SZ1", str(number).encode()])
        listener.router.send(b"peer", [b"SZ1", b"x"])
        if number % 50 == 0:
            await asyncio.sleep(0)
    # Quicker than the safety net, which would find it within a second.
    await eventually(lambda: len(listener.messages) == 501, within_s=0.5)


async def test_a_send_to_nobody_is_told_as_gone(listener):
    assert listener.router.send(b"nobody", [b"SZ1", b"x"]) is Sent.GONE


async def test_a_send_to_a_peer_whose_queue_is_full_is_told_as_full(context, monkeypatch):
    monkeypatch.setattr(router_module, "SEND_HWM", 10)
    listener = Listener(context)
    peer = dealer(context, None, b"stuck")
    peer.setsockopt(zmq.RCVHWM, 10)
    peer.connect(listener.address)
    peer.send_multipart([b"SZ1", b"hi"])
    await eventually(lambda: listener.messages)
    outcomes = {listener.router.send(b"stuck", [b"SZ1", b"x" * 100_000]) for _ in range(500)}
    assert outcomes == {Sent.OK, Sent.FULL}
    listener.router.close()


async def test_a_closed_socket_is_noticed_and_a_send_then_tells_whose(context, listener):
    peer = dealer(context, listener.address)
    peer.send_multipart([b"SZ1", b"hi"])
    await eventually(lambda: listener.messages)
    peer.close(0)
    await eventually(lambda: listener.disconnects, within_s=1.0)
    await eventually(lambda: listener.router.send(b"peer", [b"SZ1", b"?"]) is Sent.GONE, within_s=0.5)


async def test_a_second_peer_with_the_same_routing_id_takes_nothing_over(context, listener):
    first = dealer(context, listener.address)
    first.send_multipart([b"SZ1", b"first"])
    await eventually(lambda: listener.messages)
    second = dealer(context, listener.address)
    second.send_multipart([b"SZ1", b"second"])
    third = dealer(context, listener.address, b"other")
    third.send_multipart([b"SZ1", b"third"])
    await eventually(lambda: len(listener.messages) == 2)
    assert [frames[1] for _, _, frames in listener.messages] == [b"first", b"third"]
    listener.router.send(b"peer", [b"SZ1", b"for the first"])
    assert await eventually(lambda: first.poll(0))
    assert first.recv_multipart()[1] == b"for the first"


async def test_an_oversize_message_costs_its_sender_the_connection_and_nobody_else(context):
    listener = Listener(context, max_message_bytes=65_536)
    well = dealer(context, listener.address, b"well")
    large = dealer(context, listener.address, b"large")
    large.send_multipart([b"SZ1", b"x" * 100_000])
    well.send_multipart([b"SZ1", b"fine"])
    await eventually(lambda: listener.messages)
    await eventually(lambda: listener.disconnects)
    assert [peer for peer, _, _ in listener.messages] == [b"well"]
    listener.router.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 64,
        b"\xff" + b"\x00" * 8 + b"\x7f" + b"garbage" * 100,
        b"",
    ],
    ids=["http", "zeros", "half a greeting", "nothing"],
)
async def test_c17_a_peer_that_does_not_speak_zmtp_does_no_harm(context, listener, garbage):
    port = int(listener.address.rsplit(":", 1)[1])
    raw = sockets.create_connection(("127.0.0.1", port))
    raw.sendall(garbage)
    peer = dealer(context, listener.address)
    peer.send_multipart([b"SZ1", b"still here"])
    await eventually(lambda: listener.messages)
    raw.close()
    assert listener.messages[0][2] == [b"SZ1", b"still here"]


async def test_c17_a_raw_peer_with_a_proper_greeting_and_garbage_frames_does_no_harm(context, listener):
    port = int(listener.address.rsplit(":", 1)[1])
    raw = sockets.create_connection(("127.0.0.1", port))
    greeting = b"\xff" + b"\x00" * 8 + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\x00") + b"\x00" * 32
    ready = b"\x05READY" + b"\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
    raw.sendall(greeting + b"\x04" + bytes([len(ready)]) + ready)
    # One frame, many frames, an empty message, a command out of place.
    raw.sendall(b"\x00\x03abc" + b"\x01\x01a" * 50 + b"\x00\x01z" + b"\x00\x00" + b"\x04\x02xx")
    peer = dealer(context, listener.address)
    peer.send_multipart([b"SZ1", b"still here"])
    await eventually(lambda: any(frames == [b"SZ1", b"still here"] for _, _, frames in listener.messages))
    raw.close()


async def test_an_address_in_use_is_told_with_its_address(context, listener):
    port = int(listener.address.rsplit(":", 1)[1])
    other = Router(
        context,
        ZmqConfig(port=port),
        on_message=lambda *_: None,
        on_disconnect=lambda: None,
        on_turn_end=lambda: None,
        has_session=lambda _peer: True,
        keyed=False,
    )
    with pytest.raises(AddressInUse, match=f"127.0.0.1:{port}"):
        other.bind()
    other.close()


async def test_a_host_that_is_none_is_a_configuration_error(context):
    router = Router(
        context,
        ZmqConfig(host="no such host", port=0),
        on_message=lambda *_: None,
        on_disconnect=lambda: None,
        on_turn_end=lambda: None,
        has_session=lambda _peer: True,
        keyed=False,
    )
    with pytest.raises((ConfigError, AddressInUse)):
        router.bind()
    router.close()


async def test_localhost_can_be_bound_by_name(context):
    listener = Listener(context, host="localhost")
    assert listener.address.startswith("tcp://127.0.0.1:")
    listener.router.close()


async def test_closing_twice_is_safe(listener):
    listener.router.close()
    listener.router.close()
    assert listener.router.send(b"peer", [b"x"]) is Sent.GONE
