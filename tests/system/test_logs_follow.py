"""``schedule-zero logs`` against real processes: what a job prints is on the screen while it runs, and after."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.support import eventually_sync
from tests.system.processes import BIN, NodeProcess, Process, ServerProcess

HANDLER = textwrap.dedent(
    """
    import os, subprocess, sys, time
    from schedule_zero import BaseHandler, current_job

    class Talk(BaseHandler):
        handler_id = "talk"

        def wait_for(self, path: str, fail: bool = False) -> str:
            print("waiting", flush=True)
            current_job().progress(50, "half")
            while not os.path.exists(path):
                time.sleep(0.02)
            print("found it")
            sys.stderr.write("no line feed")
            if fail:
                raise RuntimeError("as told")
            return "done"
    """
)


@pytest.fixture
def world(tmp_path: Path):
    (tmp_path / "talk.py").write_text(HANDLER)
    server = ServerProcess(tmp_path)
    node = None
    started = [server]
    try:
        addresses = server.wait_ready()
        node = NodeProcess(tmp_path, addresses["zmq"], str(tmp_path / "talk.py"))
        started.append(node)
        yield World(tmp_path, server, node, started)
    finally:
        for process in started:
            process.kill()


class World:
    def __init__(self, folder: Path, server: ServerProcess, node: NodeProcess, started: list[Process]) -> None:
        self.folder, self.server, self.node, self.started = folder, server, node, started
        self.env = {"SCHEDULE_ZERO_STATE_DIR": str(server.state_dir)}

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "schedule-zero"), *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | self.env)

    def follow(self, execution_id: str) -> Process:
        command = [str(BIN / "schedule-zero"), "logs", execution_id, "-f"]
        process = Process(command, self.folder / "follow.log", self.env)
        self.started.append(process)
        return process

    def submit(self, **params) -> str:
        def there():
            done = self.run("submit", "talk.wait_for", *(f"{name}={value}" for name, value in params.items()))
            return done.stdout.strip() if done.returncode == 0 else None

        return eventually_sync(there, within_s=20)


def test_a_running_jobs_lines_are_followed_to_its_end_through_a_restart_of_the_server(world: World):
    gate = world.folder / "gate"
    execution_id = world.submit(path=str(gate))
    follower = world.follow(execution_id)
    eventually_sync(lambda: "waiting" in follower.output() and "50 %: half" in follower.output(), within_s=20)
    assert "found" not in follower.output()

    ports = world.server.ports
    world.server.kill()
    again = ServerProcess(world.folder, **ports)
    world.started.append(again)
    again.wait_ready()
    gate.touch()

    assert follower.popen.wait(40) == 0, follower.output()
    said = [line for line in follower.output().splitlines() if "%" not in line]
    assert said == ["waiting", "found it", "no line feed"]
    page = world.run("logs", execution_id, "--tail", "2", "-t")
    assert [line.partition("Z ")[2] for line in page.stdout.splitlines()] == ["found it", "no line feed"]


def test_following_a_failure_ends_with_one_and_json_is_a_line_each(world: World):
    gate = world.folder / "gate"
    gate.touch()
    execution_id = world.submit(path=str(gate), fail="true")
    follower = world.follow(execution_id)
    assert follower.popen.wait(30) == 1
    assert "it is failed" in follower.output()
    done = world.run("logs", execution_id, "-o", "json", "--grep", "FOUND", "-i")
    [line] = [json.loads(text) for text in done.stdout.splitlines()]
    assert (line["line"], line["stream"], line["text"]) == (1, "stdout", "found it")
    assert world.run("logs", "0" * 26).returncode == 3
    assert world.run("logs", execution_id, "--tail", "1", "--since-line", "1").returncode == 2
