"""The example handlers, run by a node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from zlib import crc32

import pytest
import zmq

from schedule_zero.node.host import run_node
from schedule_zero.node.settings import NodeSettings
from schedule_zero.wire.messages import Cancel, Progress
from tests.integration.node_peer import ScriptedServer
from tests.support import eventually

pytestmark = pytest.mark.anyio

HANDLERS = Path(__file__).parents[2] / "handlers"
CHAOS = "schedule_zero.testbed.chaos:ChaosHandler"


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ledger.jsonl"
    monkeypatch.setenv("SCHEDULE_ZERO_CHAOS_LEDGER", str(path))
    return path


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ScriptedServer]:
    """A scripted server with one node that serves both example handlers."""
    context: zmq.Context = zmq.Context()
    server = ScriptedServer(context)
    server.listen()
    stop = asyncio.Event()
    settings = NodeSettings(
        targets=[str(HANDLERS), CHAOS],
        node_id="n1",
        state_dir=tmp_path,
        server=server.address,
        drain_s=0.0,
    )
    node = asyncio.create_task(run_node(settings, stop=stop))
    await server.ready()
    yield server
    stop.set()
    await node
    server.hang_up()
    context.destroy(0)


async def test_the_demo_jobs_do_what_they_say(server: ScriptedServer) -> None:
    hello = server.dispatch("demo", "hello", {"name": "Ada"})
    echo = server.dispatch("demo", "echo", {"a": [1, None], "b": {"c": "d"}})
    noop = server.dispatch("demo", "noop")
    fail = server.dispatch("demo", "fail", {"message": "boo"})
    early = server.dispatch("demo", "flaky", {"fail_times": 2}, attempt=2)
    late = server.dispatch("demo", "flaky", {"fail_times": 2}, attempt=3)
    assert (await server.result(hello)).result == b'"Hello, Ada!"'
    assert (await server.result(echo)).result == b'{"a":[1,null],"b":{"c":"d"}}'
    assert (await server.result(noop)).result == b"null"
    failed = await server.result(fail)
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("RuntimeError", "boo")
    assert "handlers/demo.py" in failed.error.traceback
    assert (await server.result(early)).outcome == "failed"
    assert (await server.result(late)).result == b'"succeeded in attempt 3"'


async def test_a_sleeping_demo_job_tells_its_progress_and_can_be_cancelled(server: ScriptedServer) -> None:
    token = server.dispatch("demo", "sleep", {"seconds": 60})
    await eventually(lambda: server.all(Progress))
    server.send(Cancel(s=server.session, tokens=[token]))
    assert (await server.result(token)).outcome == "cancelled"


async def test_each_chaos_job_leaves_its_evidence_in_the_ledger(server: ScriptedServer, ledger: Path) -> None:
    ok = server.dispatch("chaos", "ok", {"value": 7}, attempt=2)
    error = server.dispatch("chaos", "error")
    sleep = server.dispatch("chaos", "sleep", {"seconds": 0.01})
    log = server.dispatch("chaos", "log", {"lines": 2})
    big = server.dispatch("chaos", "big", {"size": 1000})
    too_big = server.dispatch("chaos", "big", {"size": 2 << 20})
    oom = server.dispatch("chaos", "oom", {"mib": 1})
    outcomes = [(await server.result(token)).outcome for token in (ok, error, sleep, log, big, too_big, oom)]
    assert outcomes == ["completed", "failed", "completed", "completed", "completed", "failed", "completed"]
    assert len((await server.result(big)).result or b"") == 1002

    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert len(lines) == 14
    start, end = (line for line in lines if line["token"] == ok)
    assert (start["event"], end["event"]) == ("start", "end")
    assert (start["execution_id"], start["attempt"], start["node_id"], start["action"]) == (
        f"execution{ok}",
        2,
        "n1",
        "ok",
    )
    assert start["mono_ns"] <= end["mono_ns"]
    assert start["wall_us"] <= end["wall_us"]
    # A CRC of the very bytes that the node sends.
    assert (end["outcome"], end["result"]) == ("ok", crc32(b"7"))
    assert [line.get("error") for line in lines if line["token"] == error] == [None, "RuntimeError"]


async def test_chaos_without_a_ledger_leaves_none(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SCHEDULE_ZERO_CHAOS_LEDGER", raising=False)
    token = server.dispatch("chaos", "ok")
    assert (await server.result(token)).outcome == "completed"
    assert not (tmp_path / "ledger.jsonl").exists()
