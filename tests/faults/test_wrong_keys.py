"""CURVE on the real port: who has no key in force is never heard, however many there are, and harms nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
import zmq

from schedule_zero.wire import codec
from schedule_zero.wire import messages as m
from tests.faults.beside import honest_work, judged
from tests.faults.hostile import handshakes_at_length, stops_in_the_handshake
from tests.faults.raw_zmtp import RawPeer, frame, greeting
from tests.sizes import SIZE
from tests.support import eventually_sync
from tests.system.bed import CHAOS, Bed
from tests.system.processes import NodeProcess

PART, WHAT = "6 hostile peers", "wrong CURVE keys"
pytestmark = pytest.mark.skipif(SIZE.sweep is not None, reason="only with FAULTS=full: each takes seconds")
CURVE = {"SCHEDULE_ZERO_ZMQ__CURVE": "on"}
# Clients of each kind at a time.
CLIENTS = min(SIZE.peers, 50)


def node_key(bed: Bed, node_id: str) -> tuple[str, bytes]:
    """A new key for this node: its id, and the secret half."""
    answer = bed.client.post("/api/node-keys", json={"node_id": node_id, "handlers": ["*"]})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], answer.json()["secret_key"].encode()


def hello(node_id: str) -> list[bytes]:
    return codec.encode(
        m.Hello(
            protocol=1, node_id=node_id, instance="hostile", epoch=999_999, state_key="0" * 48, handlers=[], slots=4
        )
    )


class Clients:
    """DEALERs with these keys, that connect, say HELLO, and begin again."""

    def __init__(self, bed: Bed, count: int, *, server: bytes | None, secret: bytes | None, node_id: str) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.node_id = node_id
        self.said: list[m.ServerMessage] = []
        self.tries = 0
        self._open = lambda: [self._connect(bed, server, secret) for _ in range(count)]
        self.sockets = self._open()

    def _connect(self, bed: Bed, server: bytes | None, secret: bytes | None) -> zmq.Socket[bytes]:
        dealer = self.context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        if secret is not None:
            dealer.setsockopt(zmq.CURVE_SECRETKEY, secret)
            dealer.setsockopt(zmq.CURVE_PUBLICKEY, zmq.curve_public(secret))
            dealer.setsockopt(zmq.CURVE_SERVERKEY, server)
        dealer.connect(bed.server.addresses["zmq"])
        return dealer

    def say(self) -> int:
        """HELLO from each that can say something; how many could."""
        said = 0
        for dealer in self.sockets:
            try:
                dealer.send_multipart(hello(self.node_id), zmq.NOBLOCK)
                said += 1
            except zmq.Again:
                pass
        return said

    def heard(self) -> list[m.ServerMessage]:
        """What the server has said to any of them."""
        messages = []
        for dealer in self.sockets:
            while dealer.poll(0):
                messages.append(codec.decode_server(dealer.recv_multipart()))
        return messages

    def again(self) -> None:
        """HELLO from each, and all of them anew: libzmq does not try again when a key was refused."""
        self.tries += len(self.sockets)
        self.say()
        self.said += self.heard()
        for dealer in self.sockets:
            dealer.close(0)
        self.sockets = self._open()

    def close(self) -> None:
        self.context.destroy(linger=0)


@contextmanager
def clients(bed: Bed, **keys) -> Iterator[Clients]:
    made = Clients(bed, CLIENTS, **keys)
    try:
        yield made
    finally:
        made.close()


def metric(bed: Bed, name: str) -> float:
    lines = httpx.get(bed.server.addresses["http"] + "/metrics", timeout=20).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"schedulezero_{name} "))


@pytest.fixture
def secured(bed: Bed) -> Bed:
    """A server with CURVE, and a node with the key that the server made for those beside it."""
    bed.start_server(env=CURVE)
    curve = bed.server.state_dir / "curve"
    keys = ["--node-key", str(curve / "local-node.secret"), "--server-key", str(curve / "server.public")]
    env = {"SCHEDULE_ZERO_CHAOS_LEDGER": str(bed.ledger_file)}
    bed.note(NodeProcess(bed.folder, bed.server.addresses["zmq"], CHAOS, *keys, env=env), "node:n1")
    bed.wait_online("n1")
    return bed


def server_key(bed: Bed) -> bytes:
    return (bed.server.state_dir / "curve" / "server.public").read_bytes().strip()


def refusals(bed: Bed) -> int:
    """How many keys the server has refused, by the last line of its log that says so."""
    lines = [json.loads(line) for line in bed.server.output().splitlines() if '"node_refused"' in line]
    return max((line["so_far"] for line in lines), default=0)


def test_c17_whoever_has_no_key_in_force_is_never_heard_and_harms_nobody(secured: Bed, tried) -> None:
    bed, t = secured, tried(PART, WHAT)
    revoked, secret = node_key(bed, "n2")
    assert bed.client.delete(f"/api/node-keys/{revoked}").status_code == 200
    _, stranger = zmq.curve_keypair()
    wrong, _ = zmq.curve_keypair()
    right = server_key(bed)
    heard = metric(bed, "wire_messages_in_total")

    with honest_work(bed, "wrong keys"), ExitStack() as stack:
        kinds = [
            stack.enter_context(clients(bed, server=right, secret=stranger, node_id="n1")),
            stack.enter_context(clients(bed, server=wrong, secret=stranger, node_id="n1")),
            stack.enter_context(clients(bed, server=None, secret=None, node_id="n1")),
            stack.enter_context(clients(bed, server=right, secret=secret, node_id="n2")),
        ]
        # (The server says it once in 10 s; its first line is about the first one.)
        eventually_sync(
            lambda: [kind.again() for kind in kinds] and refusals(bed) >= 4 * CLIENTS, within_s=60, every_s=0.2
        )
        t.faults += sum(kind.tries for kind in kinds)
        assert [message for kind in kinds for message in (*kind.said, *kind.heard())] == []

    assert [node["id"] for node in bed.client.get("/api/nodes").json()["nodes"]] == ["n1"]
    # The honest node speaks about twice a second; hundreds of HELLOs would show.
    assert metric(bed, "wire_messages_in_total") > heard
    assert metric(bed, "nodes_denied_total") == 0
    assert metric(bed, "wire_bad_messages_total") == 0
    judged(bed, t)


def test_c17_a_valid_key_that_claims_another_nodes_id_is_denied_each_time(secured: Bed, tried) -> None:
    bed, t = secured, tried(PART, WHAT)
    _, secret = node_key(bed, "n2")

    with honest_work(bed, "a key that is another node's"):
        with clients(bed, server=server_key(bed), secret=secret, node_id="n1") as thieves:
            eventually_sync(lambda: thieves.say() == CLIENTS, within_s=20)
            said: list[m.ServerMessage] = []
            eventually_sync(lambda: said.extend(thieves.heard()) or len(said) >= CLIENTS, within_s=20)
            t.faults += len(said)
        assert {type(message) for message in said} == {m.Deny}
        assert {message.code for message in said} == {"key_node_id"}

    judged(bed, t)


@pytest.mark.parametrize("attack", [handshakes_at_length, stops_in_the_handshake])
def test_c17_with_curve_a_stranger_fills_no_memory_and_keeps_no_descriptors(secured: Bed, tried, attack) -> None:
    """What comes before the key is bounded as well: nothing but a handshake can come."""
    bed, t = secured, tried(PART, WHAT)

    with honest_work(bed, f"{attack.__name__}, with CURVE"):
        t.faults += attack(bed, SIZE.peers)
        # Frames that never end need a handshake first: without one they end the connection.
        with RawPeer(bed.server.addresses["zmq"]) as peer:
            peer.send(greeting(b"CURVE"))
            eventually_sync(lambda: not peer.send(frame(bytes(1 << 20), more=True)), within_s=20)
            t.faults += 1

    judged(bed, t)
