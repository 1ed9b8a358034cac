"""A whole server, and nodes, inside the test's own process: real sockets on free ports, a real store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest
import structlog
from click.testing import CliRunner
from msgspec import structs

from schedule_zero.cli.client import main
from schedule_zero.clock import Clock
from schedule_zero.config import HttpConfig, ServerConfig, StoreConfig, ZmqConfig
from schedule_zero.model import Handler, JobMethod
from schedule_zero.server import Server
from tests.support import eventually

# Tests commit often and lose nothing when the power fails: no fsync needed.
TEST_CONFIG = ServerConfig(
    http=HttpConfig(port=0), zmq=ZmqConfig(port=0), store=StoreConfig(durability="fast"), drain_s=5.0
)


@asynccontextmanager
async def running_server(
    state_dir: Path, config: ServerConfig = TEST_CONFIG, clock: Clock | None = None
) -> AsyncIterator[Server]:
    """A started server; stopped in order at the end."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = Server(config, state_dir, clock=clock)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(config.drain_s)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server without nodes."""
    async with running_server(tmp_path / "server") as running:
        yield running


def api_client(server: Server, **headers: str) -> httpx.AsyncClient:
    """An HTTP client that is logged in as admin."""
    token = (server.state_dir / "admin.token").read_text().strip()
    return httpx.AsyncClient(
        base_url=server.addresses.http,
        headers={"Authorization": f"Bearer {token}", **headers},
        timeout=30,
        # No TLS here, and its context takes 30 ms.
        verify=False,
    )


@pytest.fixture
async def api(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with api_client(server) as client:
        yield client


StartNode = Callable[..., Awaitable["RunningNode"]]


class RunningNode:
    """A node host in this process, and the task that runs it."""

    def __init__(self, node_id: str, task: asyncio.Task[None], stop: asyncio.Event) -> None:
        self.node_id = node_id
        self.task = task
        self._stop = stop

    async def stop(self) -> None:
        self._stop.set()
        await self.task


@pytest.fixture
async def start_node(server: Server, tmp_path: Path) -> AsyncIterator[StartNode]:
    """Starts nodes with the demo handlers (or those named) on the test's server; all are stopped at the end."""
    from schedule_zero.node.host import NodeSettings, run_node

    nodes: list[RunningNode] = []

    async def start(
        node_id: str = "n1", *targets: str, slots: int = 4, labels: dict[str, str] | None = None
    ) -> RunningNode:
        stop = asyncio.Event()
        settings = NodeSettings(
            targets=list(targets) or ["schedule_zero.handlers.demo:DemoHandler"],
            server=server.addresses.zmq,
            node_id=node_id,
            slots=slots,
            labels=labels or {},
            state_dir=tmp_path / "nodes",
        )
        node = RunningNode(node_id, asyncio.create_task(run_node(settings, stop=stop), name=f"node {node_id}"), stop)
        nodes.append(node)
        await eventually(lambda: node.task.done() or _ready(server, node_id))
        if node.task.done():
            node.task.result()
        return node

    yield start
    for node in nodes:
        if not node.task.done():
            await node.stop()


def _ready(server: Server, node_id: str) -> bool:
    return any(view.node_id == node_id and view.state == "online" for view in server.dispatcher.nodes())


def with_config(**sections: object) -> ServerConfig:
    """The test's settings with some sections replaced."""
    return structs.replace(TEST_CONFIG, **sections)


def know_demo(server: Server) -> None:
    """Teach the server the handler ``demo`` as if one of its nodes had been there and gone: jobs wait."""
    nothing, anything = b'{"type":"object","additionalProperties":false}', b'{"type":"object"}'
    schemas = {"noop": nothing, "echo": anything, "fail": anything}
    methods = [JobMethod(name=name, schema=schema) for name, schema in schemas.items()]
    server.dispatcher.registry.learn([Handler(handler_id="demo", methods=methods)])


@pytest.fixture
def known_demo(server: Server) -> None:
    """The handler ``demo`` is known, and none of its nodes is connected."""
    know_demo(server)


@pytest.fixture
def command_line(server, monkeypatch, tmp_path):
    """``schedule-zero``, as a user of this server's state directory runs it: ``await command_line("submit", …)``."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SCHEDULE_ZERO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SCHEDULE_ZERO_STATE_DIR", str(server.state_dir))
    # The server of this process must not write between the lines of the command.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())

    async def run(*args: str, **settings):
        return await anyio.to_thread.run_sync(partial(CliRunner().invoke, main, list(args), **settings))

    yield run
    structlog.reset_defaults()
