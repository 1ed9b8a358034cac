"""The commands as real processes: what they print, how they end, and that they find each other by themselves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import eventually_sync
from tests.system.processes import BIN, Process

SERVER = ["schedule-zero-server", "--http", "127.0.0.1:0", "--zmq", "127.0.0.1:0"]
NODE = ["schedule-zero-handler", "schedule_zero.handlers.demo:DemoHandler"]


class Terminal:
    """Runs commands as one user in one directory, in front or in the background."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self.state = cwd / "state"
        self.env = {"SCHEDULE_ZERO_STATE_DIR": str(self.state)}
        self._started: list[Process] = []

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **self.env}
        return subprocess.run(
            [BIN / command[0], *command[1:]], cwd=self.cwd, env=env, capture_output=True, text=True, timeout=60
        )

    def start(self, *command: str) -> Process:
        log = self.cwd / f"out{len(self._started)}"
        self._started.append(Process([str(BIN / command[0]), *command[1:]], log, self.env))
        return self._started[-1]

    def server(self, *more: str) -> Process:
        process = self.start(*SERVER, *more)
        eventually_sync(lambda: not process.alive() or (self.state / "server.json").exists(), within_s=30)
        assert process.alive(), process.output()
        return process

    def close(self) -> None:
        for process in self._started:
            process.kill()


@pytest.fixture
def terminal(tmp_path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Terminal]:
    """A terminal in which a server and a node run already, with CURVE between them."""
    terminal = Terminal(tmp_path_factory.mktemp("running"))
    terminal.env["SCHEDULE_ZERO_ZMQ__CURVE"] = "on"
    terminal.server("--demo")
    terminal.start(*NODE)
    eventually_sync(lambda: "Connected" in terminal.run("schedule-zero", "handlers").stdout, within_s=30, every_s=0.2)
    yield terminal
    terminal.close()


def test_a_node_takes_its_labels_from_the_command_line_or_the_environment(running):
    running.start(*NODE, "--node-id", "said", "--label", "gpu", "--label", "zone=eu-1")
    running.env["SCHEDULE_ZERO_LABELS"] = "zone=us-1,rack=b 12"
    try:
        running.start(*NODE, "--node-id", "inherited")
        job = ("schedule-zero", "run", "demo.hello", "name=you", "--wait-for", "20s")
        ran = [running.run(*job, "--require-node", require) for require in ("gpu", 'rack == "b 12"', "zone in (us-1)")]
    finally:
        del running.env["SCHEDULE_ZERO_LABELS"]
    assert [done.returncode for done in ran] == [0, 0, 0], [done.stderr for done in ran]
    nodes = json.loads(running.run("schedule-zero", "nodes", "-o", "json").stdout)["nodes"]
    labels = {node["node_id"]: node["labels"] for node in nodes}
    assert labels["said"] == {"gpu": "true", "zone": "eu-1"}
    assert labels["inherited"] == {"zone": "us-1", "rack": "b 12"}


def test_server_node_and_client_find_each_other(running):
    done = running.run("schedule-zero", "run", "demo.hello", "name=World")
    assert (done.returncode, done.stdout) == (0, "Hello, World!\n"), done.stderr
    eventually_sync(
        lambda: json.loads(running.run("schedule-zero", "schedules", "-o", "json").stdout)["count"] == 5, every_s=0.2
    )
    banner = (running.cwd / "out0").read_text()
    for said in ("/api", "admin.token", "tcp://127.0.0.1:", "schedule-zero run demo.hello", "Ctrl-C"):
        assert said in banner
    token = running.state / "admin.token"
    assert (running.state.stat().st_mode & 0o777, token.stat().st_mode & 0o777) == (0o700, 0o600)
    assert token.read_text().strip() not in banner


def test_a_node_of_another_machine_needs_the_key_that_was_made_for_it(running):
    server = json.loads((running.state / "server.json").read_text())
    made = running.run("schedule-zero-server", "node-key", "create", "far", "--out", "keys")
    assert made.returncode == 0, made.stderr
    keys = ["--server-key", "keys/server.public", "--node-key", "keys/far.secret"]
    there = [*NODE, "--server", server["zmq"], "--state-dir", "there", "--curve", "on", *keys]
    done = running.run(*there, "--node-id", "other")
    assert done.returncode == 6
    assert "far" in done.stderr
    far = running.start(*there, "--node-id", "far")
    eventually_sync(lambda: "far " in running.run("schedule-zero", "nodes").stdout, within_s=20, every_s=0.2)
    assert far.terminate() == 0


def test_a_second_server_on_one_state_directory_ends_with_69(running):
    done = running.run(*SERVER)
    assert done.returncode == 69
    assert "another server uses" in done.stderr


def test_a_client_that_is_interrupted_ends_with_130(running):
    follower = running.start("schedule-zero", "events")
    connections = psutil.Process(follower.pid).net_connections
    eventually_sync(lambda: any(one.status == "ESTABLISHED" for one in connections()), within_s=20)
    follower.signal(signal.SIGINT)
    assert follower.popen.wait(10) == 130
    assert "Traceback" not in follower.output()


def test_the_server_stops_in_order_at_the_first_signal_and_a_node_at_once_at_the_second(terminal):
    server = terminal.server()
    node = terminal.start(*NODE, "--node-id", "n1")
    eventually_sync(lambda: "Connected" in terminal.run("schedule-zero", "handlers").stdout, within_s=30, every_s=0.2)
    terminal.run("schedule-zero", "submit", "demo.sleep", "seconds=60")
    eventually_sync(lambda: "1/" in terminal.run("schedule-zero", "nodes").stdout, within_s=20, every_s=0.2)
    node.signal(signal.SIGINT)
    eventually_sync(lambda: "stopping" in node.output())
    assert node.alive()
    node.signal(signal.SIGINT)
    assert node.popen.wait(10) == 130
    assert server.terminate() == 0, server.output()
    assert not (terminal.state / "server.json").exists()
    # State is kept where it was said to be, and nowhere else.
    assert sorted(path.name for path in terminal.cwd.iterdir()) == ["out0", "out1", "state"]


@pytest.mark.parametrize("flag", ["--http", "--zmq"])
def test_a_port_in_use_is_named_and_ends_with_69(terminal, flag):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = terminal.run(*SERVER, flag, address)
    assert done.returncode == 69, done.stderr
    assert address in done.stderr
    assert "Traceback" not in done.stderr
