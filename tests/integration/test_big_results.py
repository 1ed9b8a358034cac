"""Results that are too large for one message: in chunks to the server, stored aside, whole again when asked for."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from schedule_zero import AsyncClient, BaseHandler
from schedule_zero.clock import SystemClock
from schedule_zero.config import LimitsConfig
from schedule_zero.errors import StoreUnavailable
from schedule_zero.job_options import JobOptions, OnLost
from schedule_zero.model import AttemptOutcome
from schedule_zero.node import big_results, host
from schedule_zero.node.host import Node
from schedule_zero.node.settings import NodeSettings
from schedule_zero.store import results
from schedule_zero.wire import messages as m
from tests.integration.conftest import api_client, running_server, with_config
from tests.integration.dispatch_bed import CONFIG, Peer, running_bed
from tests.support import eventually

pytestmark = pytest.mark.anyio

LIMITS = LimitsConfig(result_bytes=100_000, big_result_bytes=3_000_000)
BED = structs.replace(CONFIG, limits=LIMITS)
FAIL_IF_LOST = msgspec.json.encode(JobOptions(on_lost=OnLost.FAIL))


class Makes(BaseHandler):
    handler_id = "makes"

    def text(self, size: int) -> str:
        """As JSON it takes exactly ``size`` bytes."""
        piece = "ä0123456789"
        body = (piece * (size // len(piece.encode()) + 1)).encode()[: size - 2]
        text = body.decode("utf-8", "ignore")
        return text + "x" * (size - 2 - len(text.encode()))

    async def atext(self, size: int) -> str:
        return self.text(size)


@asynccontextmanager
async def node_at(address: str, folder: Path, *, node_id: str = "n1"):
    """A node; stopped in order at the end, unless it was ended before."""
    stop = asyncio.Event()
    settings = NodeSettings(targets=[], node_id=node_id, state_dir=folder, server=address, slots=4, drain_s=5.0)
    node = Node(settings, clock=SystemClock(), handlers=[Makes()])
    task = asyncio.create_task(node.run(stop))
    await eventually(lambda: task.done() or (hasattr(node, "link") and node.link.session))
    node.task, node.stop_event = task, stop
    try:
        yield node
    finally:
        stop.set()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def server(tmp_path):
    async with running_server(tmp_path / "server", with_config(limits=LIMITS)) as server:
        yield server


@pytest.fixture
async def api(server):
    async with api_client(server) as client:
        yield client


@pytest.fixture
async def node(server, tmp_path):
    async with node_at(server.addresses.zmq, tmp_path / "nodes") as node:
        yield node


async def run(api, size: int, method: str = "text") -> dict:
    body = {"handler_id": "makes", "job_method": method, "job_params": {"size": size}}
    execution_id = (await api.post("/api/executions", json=body)).json()["ids"][0]
    answer = await api.get(f"/api/executions/{execution_id}", params={"wait_s": 30})
    return answer.json()


@pytest.mark.parametrize(("size", "inline"), [(100_000, True), (100_001, False)])
async def test_at_the_limit_a_result_travels_with_the_others_and_one_byte_over_aside(api, node, size, inline):
    record = await run(api, size)
    assert record["status"] == "completed"
    assert record["result_bytes"] == (None if inline else size)
    assert (record["result"] is not None) == inline
    assert record["omitted"] == ([] if inline else ["result"])
    whole = await api.get(f"/api/executions/{record['id']}/result")
    assert whole.headers["content-type"] == "application/json"
    assert len(whole.content) == size
    assert whole.json() == Makes().text(size)


@pytest.mark.parametrize(("size", "status"), [(3_000_000, "completed"), (3_000_001, "failed")])
async def test_a_large_result_up_to_its_limit_is_kept_and_one_byte_over_fails(api, node, size, status):
    record = await run(api, size, "atext")
    assert record["status"] == status
    if status == "failed":
        assert record["error"]["type"] == "ResultTooLarge"
        assert (await api.get(f"/api/executions/{record['id']}/result")).status_code == 409
    else:
        whole = await api.get(f"/api/executions/{record['id']}/result")
        assert whole.json() == Makes().text(size)


async def test_with_no_large_results_allowed_it_is_as_it_was(tmp_path):
    limits = LimitsConfig(result_bytes=100_000, big_result_bytes=0)
    async with (
        running_server(tmp_path / "server", with_config(limits=limits)) as server,
        api_client(server) as api,
        node_at(server.addresses.zmq, tmp_path / "nodes"),
    ):
        assert (await run(api, 100_001))["error"]["type"] == "ResultTooLarge"


async def test_the_file_is_gone_when_the_server_has_the_result_and_no_other_is_delayed(api, node, tmp_path):
    large, *small = await asyncio.gather(run(api, 2_500_000), *(run(api, 10) for _ in range(20)))
    assert {record["status"] for record in (large, *small)} == {"completed"}
    folder = node.work.big._folder
    await eventually(lambda: not list(folder.iterdir()))
    assert not len(node.work.delivery)


async def test_clients_get_the_whole_result(api, node, server):
    token = (server.state_dir / "admin.token").read_text().strip()
    async with AsyncClient(server.addresses.http, token) as client:
        ran = await client.run("makes", "text", {"size": 500_000})
        assert ran.result == Makes().text(500_000)
        assert await client.result(ran.execution_id) == ran.result
        assert (await client.execution(ran.execution_id)).result_bytes == 500_000


async def test_a_result_of_a_cleared_execution_is_cleared(api, node, server):
    await run(api, 500_000)
    await api.post("/api/executions/clear", json={})
    assert await server.store.read(_rows) == 0


def _rows(conn) -> int:
    from sqlalchemy import func, select

    from schedule_zero.store.tables import result_chunks

    return conn.execute(select(func.count()).select_from(result_chunks)).scalar_one()


async def test_only_parts_that_belong_to_no_result_are_swept(api, node, server):
    kept = await run(api, 500_000)
    before = await server.store.read(_rows)
    await server.store.write(_orphan, "x" * 26)
    assert await server.service.executions.sweep_results(-10) == 1
    assert await server.service.executions.sweep_results(-10) == 0
    assert await server.store.read(_rows) == before
    assert (await api.get(f"/api/executions/{kept['id']}/result")).status_code == 200


def _orphan(tx, args):
    rows = [(id_, 1, 0, 1, tx.now_us, b"x") for id_ in args]
    tx.bulk(results._INSERT, rows)
    return [None] * len(args)


# --- mishaps ------------------------------------------------------------------------------------------


@asynccontextmanager
async def bed_at(folder: Path, port: int = 0):
    config = structs.replace(BED, zmq=structs.replace(BED.zmq, port=port))
    async with running_bed(folder, config) as bed:
        yield bed


async def whole(bed, execution_id: str) -> bytes:
    row = await bed.get(execution_id)
    data = b""

    def next_part(conn) -> bytes:
        return results.read(conn, row.id, row.token, len(data))

    while part := await bed.store.read(next_part):
        data += part
    return data


def drop(_peer, _message) -> None:
    """An acknowledgement that never arrives."""


async def makes(bed, size: int, **fields) -> str:
    params = json.dumps({"size": size}).encode()
    return (await bed.submit(handler_id="makes", job_method="text", params=params, **fields))[0]


async def test_a_server_that_restarts_in_the_middle_gets_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(big_results, "WINDOW_BYTES", 128 << 10)
    async with bed_at(tmp_path / "server") as first:
        port = int(first.address.rpartition(":")[2])
        node_context = node_at(first.address, tmp_path / "nodes")
        node = await node_context.__aenter__()
        await eventually(lambda: (view := first.view("n1")) and view.window)
        acks = []
        send = first.dispatcher.results._send

        def few(peer, message):
            acks.append(message)
            if len(acks) <= 3:
                send(peer, message)

        first.dispatcher.results._send = few
        execution_id = await makes(first, 2_000_000)
        await eventually(lambda: len(acks) > 3)
        assert await first.state(execution_id) == "running"
    async with bed_at(tmp_path / "server", port) as second:
        row = await second.becomes(execution_id, "completed", within_s=20)
        assert row.result_bytes == 2_000_000
        assert json.loads(await whole(second, execution_id)) == Makes().text(2_000_000)
        await eventually(lambda: not len(node.work.delivery))
        await node_context.__aexit__(None, None, None)


async def test_a_node_that_restarts_brings_the_result_of_its_predecessor(tmp_path):
    async with bed_at(tmp_path / "server") as bed:
        # The chunks are never acknowledged to the first process.
        send = bed.dispatcher.results._send
        bed.dispatcher.results._send = drop
        async with node_at(bed.address, tmp_path / "nodes") as node:
            await eventually(lambda: (view := bed.view("n1")) and view.window)
            execution_id = await makes(bed, 1_000_000)
            await eventually(lambda: len(node.work.delivery))
            token = (await bed.get(execution_id)).token
            node.task.cancel()
        assert await bed.state(execution_id) == "running"
        bed.dispatcher.results._send = send
        async with node_at(bed.address, tmp_path / "nodes") as node:
            row = await bed.becomes(execution_id, "completed", within_s=20)
            assert (row.token, row.attempt) == (token, 1)
            assert json.loads(await whole(bed, execution_id)) == Makes().text(1_000_000)
            await eventually(lambda: not len(node.work.delivery))


async def test_c9_c22_a_node_that_is_stopped_before_its_result_is_stored_brings_it_after_its_restart(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(host, "FLUSH_S", 0.05)
    # The lease, not luck, is what the restart has to be faster than.
    config = structs.replace(BED, dispatch=structs.replace(BED.dispatch, lease_s=60.0))
    async with running_bed(tmp_path / "server", config) as bed:
        send = bed.dispatcher.results._send
        bed.dispatcher.results._send = drop
        async with node_at(bed.address, tmp_path / "nodes") as node:
            await eventually(lambda: (view := bed.view("n1")) and view.window)
            execution_id = await makes(bed, 1_000_000, options=FAIL_IF_LOST)
            await eventually(lambda: len(node.work.delivery))
        await eventually(lambda: bed.view("n1").state != "online")
        assert await bed.state(execution_id) == "running"
        bed.dispatcher.results._send = send
        async with node_at(bed.address, tmp_path / "nodes"):
            row = await bed.becomes(execution_id, "completed", within_s=20)
            assert (row.attempt, row.lost_count) == (1, 0)
            assert json.loads(await whole(bed, execution_id)) == Makes().text(1_000_000)


async def test_a_result_whose_file_is_gone_is_told_as_lost(tmp_path):
    async with bed_at(tmp_path / "server") as bed:
        send = bed.dispatcher.results._send
        bed.dispatcher.results._send = drop
        async with node_at(bed.address, tmp_path / "nodes") as node:
            await eventually(lambda: (view := bed.view("n1")) and view.window)
            execution_id = await makes(bed, 1_000_000)
            await eventually(lambda: len(node.work.delivery))
            folder = node.work.big._folder
            node.task.cancel()
        for path in folder.iterdir():
            path.unlink()
        bed.dispatcher.results._send = send
        async with node_at(bed.address, tmp_path / "nodes"):
            row = await bed.becomes(execution_id, "failed", within_s=20)
            assert b"ResultLost" in row.error


async def test_lost_chunks_and_acknowledgements_are_made_up_for(tmp_path, monkeypatch):
    monkeypatch.setattr(big_results, "RESEND_S", 0.2)
    async with bed_at(tmp_path / "server") as bed:
        dropped = []
        send = bed.dispatcher.results._send

        def lossy(peer, message):
            if len(dropped) < 12:
                dropped.append(message)
            else:
                send(peer, message)

        bed.dispatcher.results._send = lossy
        async with node_at(bed.address, tmp_path / "nodes"):
            await eventually(lambda: (view := bed.view("n1")) and view.window)
            execution_id = await makes(bed, 1_000_000)
            await bed.becomes(execution_id, "completed", within_s=20)
            assert json.loads(await whole(bed, execution_id)) == Makes().text(1_000_000)


async def test_a_full_disk_at_the_node_holds_the_result_until_it_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(big_results, "RETRY_S", (0.02,))
    real, failures = big_results.BigResults._write_file, []

    def full(self, path, data):
        if len(failures) < 3:
            failures.append(path)
            raise OSError(28, "No space left on device")
        real(self, path, data)

    monkeypatch.setattr(big_results.BigResults, "_write_file", full)
    async with bed_at(tmp_path / "server") as bed, node_at(bed.address, tmp_path / "nodes"):
        await eventually(lambda: (view := bed.view("n1")) and view.window)
        execution_id = await makes(bed, 500_000)
        await bed.becomes(execution_id, "completed", within_s=20)
    assert len(failures) == 3


async def test_what_the_store_could_not_take_comes_again(tmp_path, monkeypatch):
    monkeypatch.setattr(big_results, "RESEND_S", 0.2)
    real, failures = results.append, []

    def full(tx, args):
        if len(failures) < 3:
            failures.append(args)
            raise StoreUnavailable("disk full")
        return real(tx, args)

    monkeypatch.setattr(results, "append", full)
    async with bed_at(tmp_path / "server") as bed, node_at(bed.address, tmp_path / "nodes"):
        await eventually(lambda: (view := bed.view("n1")) and view.window)
        execution_id = await makes(bed, 500_000)
        await bed.becomes(execution_id, "completed", within_s=20)


# --- on the wire --------------------------------------------------------------------------------------


def part(item, offset: int, raw: bytes, total: int, s: str) -> m.ResultChunk:
    import zlib

    return m.ResultChunk(
        s=s, id=item.id, token=item.token, offset=offset, bytes=len(raw), total=total, body=zlib.compress(raw)
    )


async def test_a_result_without_its_chunks_is_answered_by_what_is_missing(tmp_path):
    async with bed_at(tmp_path) as bed:
        with Peer(bed) as peer:
            await peer.ready()
            [execution_id] = await bed.submit()
            [item] = await peer.work()
            peer.report(item, result_bytes=6)
            ack = await peer.wait(m.ResultChunkAck)
            assert (ack.token, ack.upto) == (item.token, 0)
            assert await bed.state(execution_id) == "running"
            peer.send(part(item, 0, b'"ab', 6, peer.s))
            assert (await peer.wait(m.ResultChunkAck)).upto == 3
            peer.send(part(item, 0, b'"ab', 6, peer.s))
            assert (await peer.wait(m.ResultChunkAck)).upto == 3
            peer.send(part(item, 5, b'"', 6, peer.s))
            assert (await peer.wait(m.ResultChunkAck)).upto == 3
            peer.send(part(item, 3, b'cd"', 6, peer.s))
            assert (await peer.wait(m.ResultChunkAck)).upto == 6
            peer.report(item, result_bytes=6)
            assert (await peer.wait(m.ResultAck)).recorded == [item.token]
            peer.report(item, result_bytes=6)
            assert (await peer.wait(m.ResultAck)).duplicate == [item.token]
            row = await bed.get(execution_id)
            assert (row.state, row.result, row.result_bytes) == ("completed", None, 6)
            assert await whole(bed, execution_id) == b'"abcd"'


async def test_a_small_result_beside_a_large_one_is_recorded_at_once(tmp_path):
    async with bed_at(tmp_path) as bed:
        with Peer(bed) as peer:
            await peer.ready()
            await bed.submit(2)
            first, second = await peer.work(2)
            items = [
                m.ResultItem(id=first.id, token=first.token, outcome=AttemptOutcome.COMPLETED, result_bytes=9),
                m.ResultItem(id=second.id, token=second.token, outcome=AttemptOutcome.COMPLETED, result=b"1"),
            ]
            peer.send(m.Result(s=peer.s, items=items))
            assert (await peer.wait(m.ResultAck)).recorded == [second.token]
            assert (await bed.get(first.id)).state == "running"


async def test_nobody_stores_parts_for_anothers_attempt_or_beyond_the_limit(tmp_path):
    async with bed_at(tmp_path) as bed:
        with Peer(bed, "n1") as owner, Peer(bed, "n2") as other:
            await owner.ready()
            await bed.submit()
            [item] = await owner.work()
            await other.ready()
            other.send(part(item, 0, b"forged", 6, other.s))
            assert (await other.wait(m.ResultChunkAck)).unknown
            owner.send(part(item, 0, b"12345", 3, owner.s))
            assert (await owner.wait(m.ResultChunkAck)).upto == 0
            owner.report(item, result_bytes=3_000_001)
            assert (await owner.wait(m.ResultAck)).recorded == [item.token]
            assert b"ResultTooLarge" in (await bed.get(item.id)).error
