"""Strangers, with a session or none, say anything to a real dispatcher: it lives, and serves an honest node (C17)."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
import structlog.testing
from msgspec import structs

from schedule_zero.dispatch.peers import PATIENCE, QUIET_S
from schedule_zero.model import NodeState
from schedule_zero.wire import codec
from schedule_zero.wire import messages as m
from tests.fuzz import values
from tests.fuzz.mutator import Mutator, chosen_seed
from tests.integration.dispatch_bed import NOOP, Peer, running_bed
from tests.sizes import SIZE
from tests.support import eventually

SEED = chosen_seed()
KINDS = m.NodeMessage.__args__
# So much is said in one session, and so many sessions are held.
EACH = 40
SESSIONS = max(8, SIZE.messages // 100)
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60 if SIZE.messages < 50_000 else 3600)]


class Stranger:
    """Makes what one session says: right in form more often than not, and then as wrong as can be in what it means."""

    def __init__(self, seed: object) -> None:
        self.dice = Random(repr(seed))
        self.s = ""
        # What others hold, and what was handed to this one.
        self.tokens: list[int] = []
        self.ids: list[str] = []

    def hello(self, node_id: str) -> m.Hello:
        hello = values.right(m.Hello, self.dice)
        handlers = [m.HandlerDeclaration(handler_id="odd", methods=[NOOP])]
        return structs.replace(hello, protocol=1, node_id=node_id, instance=node_id, handlers=handlers, running=[])

    def message(self) -> list[bytes]:
        """The frames of the next thing that it says."""
        chosen = self.dice.random()
        kind = self.dice.choice(KINDS)
        if chosen < 0.1:
            return [self.dice.randbytes(self.dice.getrandbits(4)) for _ in range(self.dice.getrandbits(2))]
        if chosen < 0.2:
            return [m.PREFIX, values.odd(kind, self.dice)]
        message = values.right(kind, self.dice)
        if hasattr(message, "s") and self.dice.random() < 0.95:
            message.s = self.s
        for part in (message, *getattr(message, "items", ())):
            if self.tokens and hasattr(part, "token"):
                part.token = self.dice.choice(self.tokens)
            if self.ids and hasattr(part, "id"):
                part.id = self.dice.choice(self.ids)
        frames = codec.encode(message)
        if chosen < 0.3:
            frames[1] = Mutator(self.dice.random(), [frames[1]], values.PIECES).broken(frames[1])
        return frames


async def serve(node: Peer, bed, count: int = 1) -> list[str]:
    """The honest node gets work, does it, and what it said is what was recorded."""
    ids = await bed.submit(count)
    done: list = []
    while len(done) < count:
        items = await node.work()
        node.report(*items, result=b'"honest"')
        done += items
    for execution_id in ids:
        row = await bed.becomes(execution_id, "completed")
        assert (row.result, row.node_id) == (b'"honest"', "n1")
    return ids


async def test_c17_whatever_strangers_say_an_honest_node_is_served_and_nothing_of_its_work_is_theirs(tmp_path, tried):
    line = tried("7 fuzz", "sequences of messages of strangers to a dispatcher")
    print(f"FUZZ_SEED={SEED}")
    with structlog.testing.capture_logs() as logs:
        async with running_bed(tmp_path) as bed:
            stats = bed.dispatcher.stats
            with Peer(bed, "n1") as node:
                await node.ready()
                began_s = asyncio.get_running_loop().time()
                for number in range(SESSIONS):
                    stranger = Stranger((SEED, number))
                    held = await bed.submit()
                    [item] = await node.work()
                    stranger.tokens = [item.token, item.token + 1, 1, stranger.dice.getrandbits(50) + 1]
                    stranger.ids = [*held, "nobody"]
                    with Peer(bed, f"odd{number}", silent=True) as odd:
                        if stranger.dice.random() < 0.8:
                            odd.send(stranger.hello(odd.node_id))
                            stranger.s = (await odd.wait(m.Welcome)).s
                        before = stats.messages_in
                        for _ in range(EACH):
                            odd.socket.send_multipart(stranger.message() or [b""])
                        await eventually(lambda: stats.messages_in >= before + EACH)
                    line.faults += EACH
                    # What the stranger said of the honest node's attempt changed nothing.
                    node.report(item, result=b'"mine"')
                    row = await bed.becomes(held[0], "completed")
                    assert (row.result, row.node_id, row.attempt) == (b'"mine"', "n1", 1), f"session {number}"
                    await serve(node, bed)
                took_s = asyncio.get_running_loop().time() - began_s
                assert stats.internal_errors == 0
                assert bed.view("n1").state is NodeState.ONLINE
                line.jobs += 2 * SESSIONS
    events = [entry["event"] for entry in logs]
    assert not {"message_failed", "effect_failed"} & set(events), [e for e in logs if "failed" in e["event"]][:3]
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical")] == []
    assert stats.bad_messages > 0
    # Of bad messages a line a second; of a session its beginning, its end, and that its peer was dropped.
    assert events.count("bad_message") <= took_s / QUIET_S + 2
    assert len(events) <= 6 * SESSIONS + took_s + 50
    assert max(len(repr(entry)) for entry in logs) < 2_000


async def test_c17_a_flood_of_broken_messages_is_counted_its_peer_dropped_and_told_in_few_lines(tmp_path, tried):
    line = tried("7 fuzz", "sequences of messages of strangers to a dispatcher")
    dice = Random(SEED)
    samples = [codec.encode(values.right(kind, dice))[1] for kind in KINDS for _ in range(5)]
    broken = Mutator((SEED, "flood"), samples, values.PIECES)
    with structlog.testing.capture_logs() as logs:
        async with running_bed(tmp_path) as bed:
            stats = bed.dispatcher.stats
            with Peer(bed, "n1") as node:
                await node.ready()
                for _ in range(SESSIONS):
                    before = stats.peers_dropped
                    with Peer(bed, "odd", silent=True) as odd:
                        seen = stats.messages_in
                        for data in broken.variants(10 * PATIENCE):
                            odd.socket.send_multipart([m.PREFIX, data])
                        await eventually(lambda: stats.messages_in >= seen + 10 * PATIENCE)
                        assert stats.peers_dropped == before + 1
                    line.faults += 10 * PATIENCE
                await serve(node, bed, 3)
                line.jobs += 3
                assert stats.internal_errors == 0
    assert sum(entry["event"] == "peer_dropped" for entry in logs) == SESSIONS
    assert max(len(repr(entry)) for entry in logs) < 2_000
