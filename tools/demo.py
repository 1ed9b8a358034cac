"""``make demo`` and ``make dev``: one server and two nodes on this machine, watched until Ctrl-C drains them.

The runner knows nothing that a user could not do by hand: it starts the two commands, waits until they answer
over HTTP, prints what to try next, starts a node that died again (try ``chaos.exit``), and stops all in order.
Their output goes to ``var/log/``; with ``--reload`` it goes to the terminal.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
TARGETS = ["schedule_zero.handlers.demo:DemoHandler", "schedule_zero.testbed.chaos:ChaosHandler"]
NODES = ["demo-1", "demo-2"]
SAMPLES = 5
EXIT_UNAVAILABLE = 69
START_WITHIN_S = 30.0
# Longer than the drain deadlines of the three themselves, which end what hangs.
STOP_WITHIN_S = 45.0
TICK_S = 0.2
# A node that dies at once is not started again more often than this.
RESTART_S = 2.0


class DemoError(Exception):
    """Something that the person at the terminal has to know; shown without a traceback."""

    exit_code = 1


class PortInUse(DemoError):
    exit_code = EXIT_UNAVAILABLE


class Child:
    """One of the three processes, in a session of its own: Ctrl-C reaches only the runner, which then drains."""

    def __init__(self, name: str, command: list[str], log_path: Path | None) -> None:
        self.name = name
        self.command = command
        self.log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0

    def start(self) -> None:
        self._started_s = time.monotonic()
        output = self.log_path.open("ab") if self.log_path else None
        try:
            self._process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  # the runner has one thread
            )
        finally:
            if output:
                output.close()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll() if self._process else 0

    @property
    def age_s(self) -> float:
        """Since it was last started."""
        return time.monotonic() - self._started_s

    def signal(self, number: int) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)

    def last_words(self, lines: int = 15) -> str:
        if self.log_path is None or not self.log_path.exists():
            return ""
        return "".join(f"    {line}\n" for line in self.log_path.read_text(errors="replace").splitlines()[-lines:])


def _end_with_parent() -> None:
    """In the child: have the kernel send SIGTERM should the runner be killed (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


class Demo:
    def __init__(self, args: argparse.Namespace) -> None:
        self.http: str = args.http
        self.zmq: str = args.zmq
        self.state_dir: Path = args.state_dir.resolve()
        self.reload: bool = args.reload
        self.url = f"http://{self.http}"
        self._log_dir = self.state_dir / "log"
        self.server = self._child("server", self._command("server", "--http", self.http, "--zmq", self.zmq, "--demo"))
        self.nodes = [self._child(node_id, self._node_command(node_id)) for node_id in NODES]
        self._stop_requests = 0

    def _child(self, name: str, command: list[str]) -> Child:
        return Child(name, command, None if self.reload else self._log_dir / f"{name}.log")

    def _command(self, kind: str, *arguments: str) -> list[str]:
        return [str(BIN / f"schedule-zero-{kind}"), *arguments, "--state-dir", str(self.state_dir)]

    def _node_command(self, node_id: str) -> list[str]:
        return self._command("handler", *TARGETS, "--server", f"tcp://{self.zmq}", "--node-id", node_id)

    # --- its life ----------------------------------------------------------------------------------

    def run(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop_requested)
        for what, address in (("HTTP", self.http), ("ZeroMQ", self.zmq)):
            refuse_port_in_use(what, address, self.state_dir)
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._log_dir.mkdir(mode=0o700, exist_ok=True)
        try:
            self._start_all()
            if not self._stop_requests:
                print(self._banner(), flush=True)
                self._watch()
        finally:
            self._stop_all()

    def _start_all(self) -> None:
        print("Starting the server …", flush=True)
        self.server.start()
        self._until(lambda: self._answers("/livez"), "the server to answer", self.server)
        print("Starting two nodes …", flush=True)
        for node in self.nodes:
            node.start()
        everybody = (self.server, *self.nodes)
        self._until(lambda: self._online() >= set(NODES), "both nodes to connect", *everybody)
        self._until(lambda: self._sample_schedules() >= SAMPLES, "the sample schedules", *everybody)

    def _watch(self) -> None:
        """Until asked to stop: restart nodes that died; the server's death is the end; with --reload, restart all."""
        with self._source_changes() as changed:
            while not self._stop_requests:
                if files := changed():
                    print(f"Changed: {', '.join(files)}. Restarting …", flush=True)
                    self._restart_all()
                if (code := self.server.exit_code) is not None and not self.reload:
                    raise DemoError(f"The server ended with code {code}.\n{self.server.last_words()}")
                for node in self.nodes if self.server.exit_code is None else []:
                    if (code := node.exit_code) is not None and node.age_s > RESTART_S:
                        print(f"Node {node.name} ended with code {code}; starting it again.", flush=True)
                        node.start()
                time.sleep(TICK_S)

    def _restart_all(self) -> None:
        """With what was just edited. If it doesn't run, that is what the next edit is for."""
        self._stop_all()
        try:
            self._start_all()
        except DemoError as error:
            print(f"{error}\nWaiting for the next change.", file=sys.stderr, flush=True)
            self._stop_all()
        else:
            print("Restarted.", flush=True)

    def _stop_all(self) -> None:
        """The nodes first: they finish what they run and hand the results over; then the server."""
        running = [child for child in (*self.nodes, self.server) if child.exit_code is None]
        if running:
            print("\nDraining: running jobs finish first. Ctrl-C again ends at once.", flush=True)
        for group in (self.nodes, [self.server]):
            for child in group:
                child.signal(signal.SIGTERM)
            self._await_end(group)
        if running:
            print(f"Stopped. What was recorded stays in {shown(self.state_dir)}/.", flush=True)

    def _await_end(self, group: list[Child]) -> None:
        deadline = time.monotonic() + STOP_WITHIN_S
        hurried = self._stop_requests
        while any(child.exit_code is None for child in group):
            if time.monotonic() > deadline:
                for child in group:
                    child.signal(signal.SIGKILL)
            elif self._stop_requests > max(hurried, 1):
                hurried = self._stop_requests
                for child in group:
                    child.signal(signal.SIGTERM)
            time.sleep(TICK_S / 4)

    def _stop_requested(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_requests += 1

    # --- what it looks at --------------------------------------------------------------------------

    def _until(self, condition: Callable[[], bool], what: str, *children: Child) -> None:
        """Wait for ``what``, as long as the children live who are to bring it about."""
        deadline = time.monotonic() + START_WITHIN_S
        while not self._stop_requests and not condition():
            for child in children:
                if child.exit_code is not None:
                    raise DemoError(f"{child.name} ended with code {child.exit_code}.\n{child.last_words()}")
            if time.monotonic() > deadline:
                raise DemoError(f"Waited {START_WITHIN_S:.0f} s for {what}, in vain.\n{children[-1].last_words()}")
            time.sleep(TICK_S / 4)

    def _answers(self, path: str) -> bool:
        return self._get(path) is not None

    def _online(self) -> set[str]:
        nodes = (self._get("/api/nodes") or {}).get("nodes", [])
        return {node["node_id"] for node in nodes if node["state"] == "online"}

    def _sample_schedules(self) -> int:
        return int((self._get("/api/schedules") or {}).get("count", 0))

    def _get(self, path: str) -> dict[str, Any] | None:
        token_file = self.state_dir / "admin.token"
        headers = {}
        if token_file.exists():
            headers["Authorization"] = f"Bearer {token_file.read_text().strip()}"
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers), timeout=5) as answer:
                body = answer.read()
        except (OSError, urllib.error.URLError):
            return None
        try:
            document = json.loads(body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    @contextmanager
    def _source_changes(self) -> Iterator[Callable[[], list[str]]]:
        """A function that says which source files changed since it was last asked."""
        if not self.reload:
            yield list
            return
        from watchfiles import PythonFilter, watch

        changes = watch(
            ROOT / "schedule_zero",
            ROOT / "handlers",
            watch_filter=PythonFilter(extra_extensions=(".yaml", ".html", ".css", ".js")),
            yield_on_timeout=True,
            rust_timeout=round(TICK_S * 1000),
            raise_interrupt=False,
        )
        yield lambda: sorted({str(Path(path).relative_to(ROOT)) for _, path in next(changes)})

    def _login_link(self) -> str:
        asked = subprocess.run(self._command("server", "login-link"), capture_output=True, text=True, check=False)
        return asked.stdout.strip() or f"{self.url}/ ({asked.stderr.strip()})"

    def _banner(self) -> str:
        here = shown(self.state_dir)
        command, server = shown(BIN / "schedule-zero"), shown(BIN / "schedule-zero-server")
        # Clients find the address and the token in the state directory, and that in its usual place.
        env = "" if self.state_dir == ROOT / "var" else f"export SCHEDULE_ZERO_STATE_DIR={here}\n  "
        logs = "" if self.reload else f"\n  logs      tail -f {here}/log/*.log"
        return f"""
ScheduleZero runs: one server, two nodes, {SAMPLES} sample schedules.

  pages     {self._login_link()}
            (signs one browser in, once, within ten minutes; another: {server} login-link)
  HTTP API  {self.url}/api, described by {self.url}/api/openapi.json
  nodes     {" and ".join(NODES)}, at tcp://{self.zmq}
  token     {here}/admin.token (for other programs: export SCHEDULE_ZERO_TOKEN=$(cat {here}/admin.token))
  state     {here}/ with database, keys and tokens; remove it to start anew{logs}

Try next, in another terminal:

  {env}{command} run demo.hello name=World
  {command} submit demo.sleep seconds=5 --wait
  {command} schedules
  {command} executions
  curl -H "Authorization: Bearer $(cat {here}/admin.token)" {self.url}/api/executions/stats

What next: docs/tutorial/first-schedule.md

Ctrl-C drains and stops.
"""


def refuse_port_in_use(what: str, address: str, state_dir: Path) -> None:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            who = ""
            try:
                running = json.loads((state_dir / "server.json").read_bytes())
                os.kill(running["pid"], 0)
                who = f" It looks like another demo on {shown(state_dir)}/ (pid {running['pid']})."
            except (OSError, ValueError, KeyError, TypeError):
                pass
            flag = "--http" if what == "HTTP" else "--zmq"
            raise PortInUse(
                f"The {what} address {address} can't be used: {error.strerror}.{who}\n"
                f"Stop what holds it, or choose another: make demo ARGS='{flag} {host}:{int(port) + 1000}'"
            ) from error


def shown(path: Path) -> str:
    """Relative to here where that is shorter to type."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--http", default="127.0.0.1:8888", metavar="HOST:PORT")
    parser.add_argument("--zmq", default="127.0.0.1:4242", metavar="HOST:PORT")
    parser.add_argument("--state-dir", type=Path, default=ROOT / "var", metavar="DIR")
    parser.add_argument("--reload", action="store_true", help="restart what runs whenever a source file changes")
    try:
        Demo(parser.parse_args()).run()
    except DemoError as error:
        print(f"\n{error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
