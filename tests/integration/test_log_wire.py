"""Logs on the wire, line by line: what the server takes, answers and leaves to be sent again."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from msgspec import structs

from schedule_zero.config import LimitsConfig
from schedule_zero.dispatch import log_intake
from schedule_zero.errors import StoreUnavailable
from schedule_zero.store import logs
from schedule_zero.wire import messages as m
from schedule_zero.wire.log_lines import pack
from tests.integration.dispatch_bed import CONFIG, Peer, running_bed
from tests.support import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bed(tmp_path):
    async with running_bed(tmp_path) as bed:
        yield bed


def chunk(item, line: int, *texts: str, byte: int = 0, **fields) -> m.LogChunk:
    raw = "".join(f"1 o- {text}\n" for text in texts).encode()
    return m.LogChunk(
        id=item.id, token=item.token, line=line, byte=byte, lines=len(texts), bytes=len(raw), body=pack(raw), **fields
    )


async def texts(bed, item) -> list[str]:
    found = await bed.store.read(lambda conn: logs.read(conn, item.id, logs.Wanted(token=item.token)))
    return [line.text for _, line in found.lines]


async def acked(peer: Peer) -> m.LogAck:
    return await peer.wait(m.LogAck)


async def test_welcome_says_how_much_may_be_logged(tmp_path):
    config = structs.replace(CONFIG, limits=LimitsConfig(log_bytes=12_345))
    async with running_bed(tmp_path, config) as bed:
        with Peer(bed) as peer:
            assert (await peer.hello()).log_bytes == 12_345


async def test_chunks_are_stored_and_acknowledged(bed):
    with Peer(bed) as peer:
        await peer.ready()
        await bed.submit()
        [item] = await peer.work()
        peer.send(m.Log(s=peer.s, items=[chunk(item, 0, "a", "b"), chunk(item, 2, "c", last=True)]))
        assert (await acked(peer)).items == [m.LogAcked(token=item.token, lines=3, last=True)]
        assert await texts(bed, item) == ["a", "b", "c"]
        assert bed.dispatcher.stats.log_lines == 3


async def test_a_repetition_is_acknowledged_again_and_stored_once(bed):
    with Peer(bed) as peer:
        await peer.ready()
        await bed.submit()
        [item] = await peer.work()
        for _ in range(3):
            peer.send(m.Log(s=peer.s, items=[chunk(item, 0, "a")]))
            assert (await acked(peer)).items == [m.LogAcked(token=item.token, lines=1)]
        assert await texts(bed, item) == ["a"]


async def test_lines_may_come_after_the_result(bed):
    with Peer(bed) as peer:
        await peer.ready()
        [execution_id] = await bed.submit()
        [item] = await peer.work()
        peer.report(item, result=b"1", log_lines=2)
        await bed.becomes(execution_id, "completed")
        assert bed.dispatcher.logs.missing(item.token, 0)
        peer.send(m.Log(s=peer.s, items=[chunk(item, 0, "a", "b", last=True)]))
        await acked(peer)
        assert not bed.dispatcher.logs.missing(item.token, 2)


async def test_another_nodes_attempt_gets_no_line_of_ours(bed):
    with Peer(bed, "n1") as victim, Peer(bed, "n2") as intruder:
        await victim.ready()
        await bed.submit()
        [item] = await victim.work()
        await intruder.ready()
        intruder.send(m.Log(s=intruder.s, items=[chunk(item, 0, "forged")]))
        assert (await acked(intruder)).unknown == [item.token]
        assert await texts(bed, item) == []


async def test_without_a_session_no_log_is_taken(bed):
    with Peer(bed) as peer:
        await peer.ready()
        await bed.submit()
        [item] = await peer.work()
        peer.send(m.Log(s="another", items=[chunk(item, 0, "a")]))
        assert (await peer.wait(m.ErrorMessage)).code == "no_session"
        assert await texts(bed, item) == []


async def test_a_chunk_beyond_its_size_is_a_bad_message(bed):
    with Peer(bed) as peer:
        await peer.ready()
        await bed.submit()
        [item] = await peer.work()
        large = structs.replace(chunk(item, 0, "a"), bytes=m.MAX_LOG_CHUNK + 1)
        peer.send(m.Log(s=peer.s, items=[large]))
        assert (await peer.wait(m.ErrorMessage)).code == "protocol"
        peer.send(m.Log(s=peer.s, items=[structs.replace(chunk(item, 0, "a"), body=b"x" * (m.MAX_LOG_CHUNK + 4097))]))
        assert (await peer.wait(m.ErrorMessage)).code == "protocol"


async def test_what_the_store_could_not_take_is_not_acknowledged(bed, monkeypatch):
    with Peer(bed) as peer:
        await peer.ready()
        await bed.submit()
        [item] = await peer.work()

        tried = []

        def full(tx, args):
            tried.append(args)
            raise StoreUnavailable("disk full")

        with monkeypatch.context() as broken:
            broken.setattr(logs, "append", full)
            peer.send(m.Log(s=peer.s, items=[chunk(item, 0, "a")]))
            await eventually(lambda: tried and not bed.dispatcher.logs._writing)
        peer.send(m.Log(s=peer.s, items=[chunk(item, 1, "b")]))
        assert (await acked(peer)).items == [m.LogAcked(token=item.token, lines=0)]
        peer.send(m.Log(s=peer.s, items=[chunk(item, 0, "a"), chunk(item, 1, "b")]))
        assert (await acked(peer)).items == [m.LogAcked(token=item.token, lines=2)]


async def test_a_result_behind_a_flood_of_logs_does_not_wait_for_them(bed, monkeypatch):
    """Of what waits to be written, one part is under way; a result goes with the very next commit."""
    monkeypatch.setattr(log_intake, "WRITE_BYTES", 10_000)
    order: list[str] = []
    real = bed.store.submit

    def noted(verb, arg, on_done, **more):
        def done(result):
            order.append(verb.__name__)
            on_done(result)

        real(verb, arg, done, **more)

    monkeypatch.setattr(bed.store, "submit", noted)
    with Peer(bed) as peer:
        await peer.ready()
        [execution_id] = await bed.submit()
        [item] = await peer.work()
        raw = ["x" * 9_000] * 100
        chunks = [
            structs.replace(chunk(item, line, text), body=f"1 o- {text}\n".encode()) for line, text in enumerate(raw)
        ]
        peer.send(m.Log(s=peer.s, items=chunks))
        peer.report(item, result=b"1", log_lines=100)
        await bed.becomes(execution_id, "completed")
        await eventually(lambda: order.count("append") == 100)
    assert order[: order.index("end")].count("append") <= 2


async def test_too_much_at_once_is_left_to_be_sent_again(bed, monkeypatch):
    monkeypatch.setattr(log_intake, "MAX_WAITING_BYTES", 1_000)
    with Peer(bed) as peer:
        await peer.ready()
        await bed.submit()
        [item] = await peer.work()
        big = structs.replace(chunk(item, 0, "x" * 2_000), body=b"1 o- " + b"x" * 2_000 + b"\n")
        peer.send(m.Log(s=peer.s, items=[big]))
        await eventually(lambda: bed.dispatcher.stats.logs_refused == 1)
        assert await texts(bed, item) == []


async def test_after_a_restart_what_was_not_acknowledged_comes_again_and_nothing_stands_twice(tmp_path):
    """A real node against a server that goes away in the middle of a log."""
    from schedule_zero.clock import SystemClock
    from schedule_zero.node.host import Node
    from schedule_zero.node.settings import NodeSettings
    from tests.integration.log_bed import GATE, TalkHandler

    GATE.clear()
    stop = asyncio.Event()
    async with running_bed(tmp_path / "server") as first:
        port = int(first.address.rpartition(":")[2])
        settings = NodeSettings(targets=[], node_id="n1", state_dir=tmp_path / "nodes", server=first.address, slots=4)
        node = Node(settings, clock=SystemClock(), handlers=[TalkHandler()])
        task = asyncio.create_task(node.run(stop))
        await eventually(lambda: (view := first.view("n1")) and view.window)
        [execution_id] = await first.submit(handler_id="talk", job_method="pid")
        row = await first.becomes(execution_id, "completed")
        [held] = await first.submit(handler_id="talk", job_method="wait", params=b'{"lines":0}')
        await eventually(lambda: [a for a in node.work.runner.attempts.values() if a.started_s])
        token = next(iter(node.work.runner.attempts))
        for number in range(1_000):
            node.work.logs.write(token, "stdout", None, f"early {number}\n")
        await eventually(lambda: first.dispatcher.stats.log_lines > 0)
    for number in range(1_000):
        node.work.logs.write(token, "stdout", None, f"between {number}\n")
    config = structs.replace(CONFIG, zmq=structs.replace(CONFIG.zmq, port=port))
    try:
        async with running_bed(tmp_path / "server", config) as second:
            await eventually(lambda: (view := second.view("n1")) and view.window, within_s=20)
            for number in range(1_000):
                node.work.logs.write(token, "stdout", None, f"late {number}\n")
            GATE.set()
            await second.becomes(held, "completed", within_s=20)

            async def whole():
                wanted = logs.Wanted(token=token, limit=10_000)
                found = await second.store.read(lambda conn: logs.read(conn, held, wanted))
                return found if found.complete else None

            found = await eventually(whole, within_s=20)
            said = [line.text for _, line in found.lines if line.text != "after"]
            assert said == [f"{when} {number}" for when in ("early", "between", "late") for number in range(1_000)]
            stop.set()
            await task
    finally:
        GATE.set()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    assert row.state == "completed"


async def test_a_lost_acknowledgement_costs_a_repetition_only(tmp_path, monkeypatch):
    """The server's LOG_ACKs are lost on the way for a while; then everything is there once."""
    from schedule_zero.clock import SystemClock
    from schedule_zero.node import log_sender
    from schedule_zero.node.host import Node
    from schedule_zero.node.settings import NodeSettings
    from tests.integration.log_bed import GATE, TalkHandler

    GATE.clear()
    monkeypatch.setattr(log_sender, "RESEND_S", 0.2)
    stop = asyncio.Event()
    async with running_bed(tmp_path / "server") as bed:
        losing = True
        send = bed.dispatcher.logs._send
        lost: list[m.LogAck] = []

        def lossy(peer, message):
            if losing:
                lost.append(message)
            else:
                send(peer, message)

        bed.dispatcher.logs._send = lossy
        settings = NodeSettings(targets=[], node_id="n1", state_dir=tmp_path / "nodes", server=bed.address, slots=4)
        node = Node(settings, clock=SystemClock(), handlers=[TalkHandler()])
        task = asyncio.create_task(node.run(stop))
        await eventually(lambda: (view := bed.view("n1")) and view.window)
        [held] = await bed.submit(handler_id="talk", job_method="wait", params=b'{"lines":0}')
        await eventually(lambda: [a for a in node.work.runner.attempts.values() if a.started_s])
        token = next(iter(node.work.runner.attempts))
        for number in range(100):
            node.work.logs.write(token, "stdout", None, f"{number}\n")
        await eventually(lambda: len(lost) >= 2, within_s=10)
        assert bed.dispatcher.stats.log_lines == 100
        losing = False
        await eventually(lambda: node.work.log_sender.idle, within_s=10)
        GATE.set()
        await bed.becomes(held, "completed")
        stop.set()
        await task
        found = await bed.store.read(lambda conn: logs.read(conn, held, logs.Wanted(token=token)))
    assert [line.text for _, line in found.lines if line.text != "after"] == [str(number) for number in range(100)]
