"""Peers that speak the protocol and lie: a session of their own, and other nodes' tokens, sessions and names."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import zmq

from schedule_zero.model import AttemptOutcome
from schedule_zero.testbed.history import Side
from schedule_zero.wire import codec
from schedule_zero.wire import messages as m
from tests.faults.hostile import STRANGER_S, all_gone
from tests.faults.raw_zmtp import RawPeer, frame
from tests.support import eventually_sync
from tests.system.bed import Bed

FORGED = b'"forged"'
PATIENCE_S = 20.0


class Liar:
    """A DEALER that says what it likes."""

    def __init__(self, bed: Bed, node_id: str = "liar") -> None:
        self.bed = bed
        self.node_id = node_id
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDTIMEO, round(PATIENCE_S * 1000))
        self.socket.connect(bed.server.addresses["zmq"])
        self.heard: list[m.ServerMessage] = []
        self.s = ""

    def close(self) -> None:
        self.context.destroy(linger=0)

    def say(self, message: m.NodeMessage) -> None:
        self.socket.send_multipart(codec.encode(message))

    def listen(self) -> list[m.ServerMessage]:
        """All that it has been told."""
        while self.socket.poll(0):
            self.heard.append(codec.decode_server(self.socket.recv_multipart()))
        return self.heard

    def told(self, kind: type[m.ServerMessage]) -> list:
        return [message for message in self.listen() if isinstance(message, kind)]

    def hello(self, node_id: str | None = None, **changes) -> None:
        said = {
            "protocol": 1, "node_id": node_id or self.node_id, "instance": "a liar", "epoch": 1, "state_key": "0" * 48,
            "handlers": [], "slots": 4, **changes,
        }  # fmt: skip
        self.say(m.Hello(**said))

    def comes_in(self) -> Liar:
        self.hello()
        self.s = eventually_sync(lambda: self.told(m.Welcome), within_s=PATIENCE_S)[0].s
        self.say(m.Credit(s=self.s, window=1_000_000))
        return self


@contextmanager
def liar(bed: Bed, node_id: str = "liar") -> Iterator[Liar]:
    made = Liar(bed, node_id)
    try:
        yield made
    finally:
        made.close()


def claims_what_others_do(bed: Bed, many: int) -> int:
    """Accepts, gives back, tells progress of and ends attempts that run elsewhere, with their true tokens."""
    told = 0
    with liar(bed) as peer:
        peer.comes_in()
        until_s = time.monotonic() + PATIENCE_S
        # On a busy machine an attempt may be over before anybody can claim its result.
        while told < many or "result_of_anothers_attempt" not in bed.server.output():
            assert time.monotonic() < until_s, bed.server.output()[-4000:]
            lines = bed.ledger()
            over = {line.token for line in lines if line.event is Side.END}
            running = [line for line in lines if line.event is Side.START and line.token not in over]
            for line in running:
                peer.say(m.Accept(s=peer.s, items=[m.AcceptedItem(token=line.token, started_us=1)]))
                peer.say(m.Reject(s=peer.s, items=[m.RejectedItem(token=line.token, reason="draining")]))
                peer.say(m.Progress(s=peer.s, token=line.token, percent=99.0, text="forged"))
                item = m.ResultItem(
                    id=line.execution_id, token=line.token, outcome=AttemptOutcome.COMPLETED, result=FORGED
                )
                peer.say(m.Result(s=peer.s, items=[item]))
                told += 4
        taken = [ack.recorded for ack in peer.told(m.ResultAck) if ack.recorded]
        assert not taken, "a result was taken from a node that had no such attempt"
        peer.say(m.Bye(s=peer.s))
    return told


def makes_tokens_up(bed: Bed, many: int) -> int:
    """Results and acceptances of tokens and executions that nobody ever had."""
    with liar(bed) as peer:
        peer.comes_in()
        tokens = [1, (1 << 53) - 1, *range(1 << 40, (1 << 40) + 98)]
        for _ in range(max(1, many // len(tokens))):
            peer.say(m.Accept(s=peer.s, items=[m.AcceptedItem(token=token) for token in tokens]))
            items = [m.ResultItem(id="nobody", token=token, outcome=AttemptOutcome.COMPLETED) for token in tokens]
            peer.say(m.Result(s=peer.s, items=items))
        eventually_sync(lambda: sum(len(ack.unknown) for ack in peer.told(m.ResultAck)) >= len(tokens), within_s=30)
        peer.say(m.Bye(s=peer.s))
    return many


def speaks_in_sessions_of_others(bed: Bed, many: int) -> int:
    """Heartbeats and credits of sessions that it was never given: each is refused, and after a while it has to go."""
    with liar(bed) as peer:
        for number in range(many):
            peer.say(m.Heartbeat(s=f"{number:016x}", seq=1))
            peer.say(m.Credit(s=f"{number:016x}", window=1_000_000))
        eventually_sync(lambda: len(peer.told(m.ErrorMessage)) >= 2 * many, within_s=30)
        assert {error.code for error in peer.told(m.ErrorMessage)} == {"no_session"}
    return 2 * many


def says_hello_again_and_again(bed: Bed, many: int) -> int:
    """Each time as another node: after some of them it is ignored."""
    with liar(bed) as peer:
        for number in range(many):
            peer.hello(f"liar-{number}")
        eventually_sync(
            lambda: "too_many_bad_messages" in [error.code for error in peer.told(m.ErrorMessage)], within_s=30
        )
        assert len(peer.told(m.Welcome)) <= 20
    return many


def claims_the_holders_name(bed: Bed, many: int) -> int:
    """HELLO under the honest node's name, with a greater start and a made-up secret, on ever new connections."""
    for number in range(many // 10 or 1):
        with liar(bed, "n1") as peer:
            peer.hello(epoch=999_999, instance=f"liar {number}")
            [denial] = eventually_sync(lambda: peer.told(m.Deny), within_s=PATIENCE_S)
            assert (denial.code, denial.retry) == ("duplicate_node", False)
    return many // 10 or 1


def sends_what_is_malformed(bed: Bed, many: int) -> int:
    """Noise, half messages, messages of the other direction, numbers beyond their limits; as fast as it can."""
    bodies = [
        os.urandom(200),
        codec.encode(m.Heartbeat(s="x", seq=1))[1][:-3],
        codec.encode(m.Welcome(s="x", server_us=1, heartbeat_s=1, lease_s=1))[1],
        b"\x83\xa1t\xa6CREDIT\xa1s\xa1x\xa6window\xce\x80\x00\x00\x00",
        b"",
        b"\xc1" * 5000,
    ]
    with liar(bed) as peer:
        peer.comes_in()
        for number in range(many):
            peer.socket.send_multipart([b"SZ1", bodies[number % len(bodies)]])
        eventually_sync(lambda: bed.node_state("liar") == "lost", within_s=30)
    return many


def comes_under_one_routing_id(bed: Bed, many: int) -> int:
    """Connections with the same routing id: libzmq keeps all but the first mute for ever; here they end."""
    with ExitStack() as stack:
        address = bed.server.addresses["zmq"]
        peers = [stack.enter_context(RawPeer(address)).handshake(b"the same") for _ in range(min(many, 200))]
        for peer in peers:
            peer.send(frame(b"SZ1", more=True) + frame(bytes(1000)))
        all_gone(peers, STRANGER_S)
    return len(peers)


LIES = [
    claims_what_others_do,
    makes_tokens_up,
    speaks_in_sessions_of_others,
    says_hello_again_and_again,
    claims_the_holders_name,
    sends_what_is_malformed,
]
SLOW_LIES = [comes_under_one_routing_id]
