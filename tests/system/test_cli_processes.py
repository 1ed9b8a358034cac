"""The commands as real processes: what they print, how they end, and that they find each other by themselves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.support import eventually_sync
from tests.system.processes import BIN, Process

SERVER = ["schedule-zero-server", "--http", "127.0.0.1:0", "--zmq", "127.0.0.1:0"]


class Terminal:
    """Runs commands as one user in one directory, in front or in the background."""

    def __init__(self, cwd: Path, own) -> None:
        self.cwd = cwd
        self.state = cwd / "state"
        self.env = {"SCHEDULE_ZERO_STATE_DIR": str(self.state)}
        self._own = own
        self._count = 0

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **self.env}
        return subprocess.run(
            [BIN / command[0], *command[1:]], cwd=self.cwd, env=env, capture_output=True, text=True, timeout=60
        )

    def start(self, *command: str) -> Process:
        self._count += 1
        return self._own(Process([str(BIN / command[0]), *command[1:]], self.cwd / f"out{self._count}", self.env))

    def server(self, *more: str) -> Process:
        process = self.start(*SERVER, *more)
        eventually_sync(lambda: not process.alive() or (self.state / "server.json").exists(), within_s=30)
        assert process.alive(), process.output()
        return process


@pytest.fixture
def terminal(tmp_path, own):
    return Terminal(tmp_path, own)


def test_server_node_and_client_find_each_other(terminal):
    server = terminal.server("--demo")
    node = terminal.start("schedule-zero-handler", "schedule_zero.handlers.demo:DemoHandler", "--node-id", "n1")
    eventually_sync(lambda: "Connected" in terminal.run("schedule-zero", "handlers").stdout, within_s=20, every_s=0.2)
    done = terminal.run("schedule-zero", "run", "demo.hello", "name=World")
    assert done.returncode == 0, done.stderr
    assert "World" in done.stdout
    eventually_sync(
        lambda: json.loads(terminal.run("schedule-zero", "schedules", "-o", "json").stdout)["count"] == 5, every_s=0.2
    )

    banner = server.output()
    assert "/api" in banner
    assert "admin.token" in banner
    assert "schedule-zero run demo.hello" in banner
    assert (terminal.state.stat().st_mode & 0o777, (terminal.state / "admin.token").stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )
    secret = (terminal.state / "admin.token").read_text().strip()
    assert secret not in banner

    for process in (node, server):
        assert process.terminate() == 0, process.output()
    assert not (terminal.state / "server.json").exists()
    # State is kept where it was said to be, and nowhere else.
    assert sorted(path.name for path in terminal.cwd.iterdir()) == ["out1", "out2", "state"]


def test_tokens_are_made_with_and_without_a_server(terminal):
    made = terminal.run("schedule-zero-server", "token", "create", "before", "--role", "viewer")
    assert made.returncode == 0, made.stderr
    before = made.stdout.strip()
    assert before.startswith("sz_")
    assert "isn't shown again" in made.stderr

    terminal.server()
    assert terminal.run("schedule-zero", "nodes", "--token", before).returncode == 0
    assert terminal.run("schedule-zero", "cancel", "x", "--token", before).returncode == 6
    made = terminal.run("schedule-zero-server", "token", "create", "during", "-o", "json")
    during = json.loads(made.stdout)
    assert terminal.run("schedule-zero", "cancel", "x", "--token", during["token"]).returncode == 3

    listed = terminal.run("schedule-zero-server", "token", "list").stdout
    assert {"admin", "before", "during"} <= set(listed.split())
    assert before not in listed
    assert terminal.run("schedule-zero-server", "token", "revoke", during["id"]).returncode == 0
    assert terminal.run("schedule-zero", "nodes", "--token", during["token"]).returncode == 6
    assert terminal.run("schedule-zero-server", "token", "revoke", during["id"]).returncode == 3


def test_node_keys_are_written_for_the_node(terminal):
    done = terminal.run("schedule-zero-server", "node-key", "create", "w1", "--handler", "demo", "--out", "keys")
    assert done.returncode == 0, done.stderr
    assert "--node-id w1" in done.stdout
    keys = {path.name: len(path.read_text().strip()) for path in (terminal.cwd / "keys").iterdir()}
    assert keys == {"w1.secret": 40, "server.public": 40}
    listed = json.loads(terminal.run("schedule-zero-server", "node-key", "list", "-o", "json").stdout)
    (key,) = [key for key in listed if key["node_id"] == "w1"]
    assert key["handlers"] == ["demo"]
    assert terminal.run("schedule-zero-server", "node-key", "revoke", key["id"]).returncode == 0
    assert terminal.run("schedule-zero-server", "node-key", "revoke", key["id"]).returncode == 3


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


def test_a_second_server_on_one_state_directory_ends_with_69(terminal):
    terminal.server()
    done = terminal.run(*SERVER)
    assert done.returncode == 69
    assert "Another server" in done.stderr or "in use" in done.stderr or "locked" in done.stderr


def test_a_broken_handler_registry_stops_the_start_and_is_left_as_it_is(terminal):
    path = terminal.cwd / "handler_registry.yaml"
    path.write_text("demo:\n  allowed_methods: [hello\n")
    done = terminal.run(*SERVER)
    assert done.returncode == 78
    assert "handler_registry.yaml:3:1: not valid YAML" in done.stderr
    assert path.read_text() == "demo:\n  allowed_methods: [hello\n"


def test_a_second_signal_ends_at_once_with_130(terminal):
    server = terminal.server()
    node = terminal.start("schedule-zero-handler", "schedule_zero.handlers.demo:DemoHandler", "--node-id", "n1")
    eventually_sync(lambda: "Connected" in terminal.run("schedule-zero", "handlers").stdout, within_s=20, every_s=0.2)
    terminal.run("schedule-zero", "submit", "demo.sleep", "seconds=60")
    eventually_sync(lambda: "1/" in terminal.run("schedule-zero", "nodes").stdout, every_s=0.2)
    node.signal(signal.SIGINT)
    eventually_sync(lambda: "stopping" in node.output())
    assert node.alive()
    node.signal(signal.SIGINT)
    assert node.popen.wait(5) == 130
    assert server.terminate() == 0


def test_a_client_that_is_interrupted_ends_with_130(terminal):
    terminal.server()
    follower = terminal.start("schedule-zero", "events")
    eventually_sync(lambda: "ESTABLISHED" in [one.status for one in psutil.Process(follower.pid).net_connections()])
    follower.signal(signal.SIGINT)
    assert follower.popen.wait(5) == 130
    assert "Traceback" not in follower.output()
