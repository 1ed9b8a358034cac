"""A network between node and server that breaks again and again, in the middle of whatever is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs

from schedule_zero.config import DispatchConfig
from schedule_zero.node.host import NodeSettings, run_node
from tests.integration.conftest import api_client, running_server, with_config
from tests.integration.edge_handlers import Gauge
from tests.support import eventually

pytestmark = pytest.mark.anyio

# Silence is noticed soon, and leases outlive every outage of these tests: what is cut off is never lost.
QUICK = DispatchConfig(heartbeat_s=0.1, suspect_s=0.4, lost_s=1.0, lease_s=15.0, resend_s=0.3)


class Cable:
    """A TCP proxy that can be cut, or swallow what goes through it."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._ends: set[asyncio.StreamWriter] = set()
        self.swallows = False
        self.cuts = 0

    @asynccontextmanager
    async def plugged(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._joined, "127.0.0.1", 0)
        try:
            yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self.cut()

    def cut(self) -> int:
        """Every connection ends at once, with what was under way; how many there were."""
        ends, self._ends = self._ends, set()
        for end in ends:
            end.transport.abort()
        self.cuts += bool(ends)
        return len(ends)

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._ends |= {writer, back}
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(4096):
                if not self.swallows:
                    sink.write(data)
                    await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()


@asynccontextmanager
async def node_behind(cable: Cable, folder: Path, **settings) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with cable.plugged() as address:
        node = NodeSettings(
            targets=["tests.integration.edge_handlers:Gauge"],
            server=address,
            node_id="n1",
            state_dir=folder,
            **settings,
        )
        task = asyncio.create_task(run_node(node, stop=stop))
        try:
            yield
        finally:
            stop.set()
            await task


@pytest.fixture
async def server(tmp_path):
    async with running_server(tmp_path / "server", with_config(dispatch=QUICK)) as running:
        yield running


@pytest.fixture
async def api(server):
    async with api_client(server) as client:
        yield client


@pytest.fixture
def cable(server):
    Gauge.reset()
    return Cable(int(server.addresses.zmq.rpartition(":")[2]))


async def submit(server, api, count: int, method: str = "pause", **params) -> None:
    await eventually(lambda: any(node.window for node in server.dispatcher.nodes()))
    job = {"handler_id": "gauge", "job_method": method, "job_params": params}
    assert (await api.post("/api/executions", json={"executions": [job] * count})).status_code == 202


async def states(api) -> dict[str, int]:
    found = (await api.get("/api/executions/stats")).json()["by_status"]
    return {state: count for state, count in found.items() if count}


async def completed(api) -> int:
    return (await states(api)).get("completed", 0)


async def test_jobs_over_a_connection_that_breaks_again_and_again_all_complete_and_run_once(
    server, api, cable, tmp_path
):
    async with node_behind(cable, tmp_path / "n", slots=4):
        await submit(server, api, 600, seconds=0.01)

        async def over() -> bool:
            # The node may be on its way back just now: then there is nothing to cut.
            if cable.cuts < 6:
                cable.cut()
            return await completed(api) == 600

        await eventually(over, within_s=60, every_s=0.2)
    assert cable.cuts >= 6
    assert Gauge.entered == 600
    records = (await api.get("/api/executions", params={"limit": 500})).json()["records"]
    assert {record["attempt"] for record in records} == {1}


async def test_a_network_that_swallows_everything_is_noticed_and_nothing_is_lost_or_run_twice(
    server, api, cable, tmp_path
):
    async with node_behind(cable, tmp_path / "n", slots=4):
        await submit(server, api, 200, seconds=0.01)
        await eventually(lambda: Gauge.entered >= 20)
        cable.swallows = True
        await eventually(lambda: server.dispatcher.node("n1").state == "lost", within_s=20)
        cable.swallows = False
        cable.cut()

        async def over() -> bool:
            return await completed(api) == 200

        await eventually(over, within_s=60, every_s=0.1)
    assert Gauge.entered == 200


async def test_a_network_that_is_away_for_longer_than_the_lease_runs_what_was_lost_again_and_records_each_once(
    tmp_path,
):
    short = structs.replace(QUICK, lease_s=1.5, lease_margin_s=0.1)
    async with running_server(tmp_path / "server", with_config(dispatch=short)) as server, api_client(server) as api:
        cable = Cable(int(server.addresses.zmq.rpartition(":")[2]))
        Gauge.reset()
        async with node_behind(cable, tmp_path / "n", slots=4):
            await submit(server, api, 40, seconds=0.05)
            await eventually(lambda: Gauge.entered >= 4)
            cable.swallows = True
            # Its lease ends on both sides, the node's first: what it ran meanwhile counts or is run again.
            await eventually(lambda: server.dispatcher.stats.attempts_lost > 0, within_s=20)
            cable.swallows = False
            cable.cut()

            async def over() -> bool:
                return await completed(api) == 40

            await eventually(over, within_s=60, every_s=0.1)
        assert await states(api) == {"completed": 40}


async def test_an_operation_reaches_a_node_over_a_connection_that_breaks(server, api, cable, tmp_path):
    """The drain is said while the two are apart; the deadline passes there, or is told at the next HELLO."""
    async with node_behind(cable, tmp_path / "n", slots=2):
        await submit(server, api, 4, "hold")
        await eventually(lambda: Gauge.entered == 2)
        cable.swallows = True
        answer = await api.post("/api/nodes/n1/drain", json={"deadline_s": 0.5})
        assert answer.json()["running"] >= 2
        await eventually(lambda: server.dispatcher.node("n1").state == "lost", within_s=20)
        cable.swallows = False
        cable.cut()
        # A plain method that does not look: handed back after the deadline and the grace, on the next connection.
        await eventually(lambda: server.dispatcher.node("n1").running == 0, within_s=20)
        node = server.dispatcher.node("n1")
        assert (node.state, node.operation.kind) == ("online", "drain")
        assert await states(api) == {"pending": 4}
        Gauge.gate.set()
