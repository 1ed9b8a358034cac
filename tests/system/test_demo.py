"""The first thing that anybody sees of the product: ``make demo``, from the start to Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import eventually_sync
from tests.system.processes import ROOT, Process

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]


class Demo(Process):
    """``tools/demo.py`` on free ports, with its state in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("127.0.0.1", 0)) as zmq:
            self.http, zmq_address = (f"127.0.0.1:{probe.getsockname()[1]}" for probe in (http, zmq))
        self.state = folder / "var"
        super().__init__(
            [
                sys.executable, str(ROOT / "tools" / "demo.py"),
                "--http", self.http, "--zmq", zmq_address, "--state-dir", str(self.state),
            ],
            folder / "demo.log",
        )  # fmt: skip

    def await_banner(self) -> str:
        def banner() -> str | None:
            assert self.alive(), self.output()
            return self.output() if "Ctrl-C drains" in self.output() else None

        return eventually_sync(banner, within_s=40)

    def client(self) -> httpx.Client:
        token = (self.state / "admin.token").read_text().strip()
        return httpx.Client(base_url=f"http://{self.http}", headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]


@pytest.fixture
def demo(tmp_path: Path, own: Callable[[Process], Process]) -> Iterator[Demo]:
    """A demo that shows its banner."""
    running = Demo(tmp_path)
    own(running)
    running.await_banner()
    yield running
    if running.alive():
        running.terminate()


def test_the_demo_runs_jobs_on_two_nodes_shows_five_schedules_and_drains_on_ctrl_c(demo: Demo):
    banner = demo.output()
    assert demo.http in banner
    assert "admin.token" in banner
    assert not re.search(r"sz_\w{20}", banner), "the token itself is not shown"
    with demo.client() as client:
        nodes = client.get("/api/nodes").json()["nodes"]
        assert {node["node_id"] for node in nodes if node["state"] == "online"} == {"demo-1", "demo-2"}
        assert client.get("/api/schedules").json()["count"] == 5
        answer = client.post(
            "/api/run_now", json={"handler_id": "demo", "job_method": "hello", "job_params": {"name": "you"}}
        ).json()
        assert (answer["status"], answer["result"]) == ("success", "Hello, you!")

    children = demo.children()
    assert len(children) == 3
    demo.signal(signal.SIGINT)
    assert demo.popen.wait(40) == 0
    assert "Draining" in demo.output()
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_the_demo_starts_a_dead_node_again(demo: Demo):
    with demo.client() as client:
        nodes = {node["node_id"]: node for node in client.get("/api/nodes").json()["nodes"]}
        os.kill(nodes["demo-1"]["pid"], signal.SIGKILL)

        def replaced() -> bool:
            now = {node["node_id"]: node for node in client.get("/api/nodes").json()["nodes"]}["demo-1"]
            return now["state"] == "online" and now["pid"] != nodes["demo-1"]["pid"]

        eventually_sync(replaced, within_s=20)
    assert "starting it again" in demo.output()
