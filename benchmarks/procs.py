"""Real processes: the product's two commands, started in a folder of their own, measured from outside, and ended.

Only pids that were started here are ever signalled. Nothing is imported from the product.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from benchmarks.load import Connection, LoadError, Target

_BIN = Path(sys.executable).parent
# What a node of the benchmark serves.
HANDLERS = (
    "schedule_zero.handlers.demo:DemoHandler",
    str(Path(__file__).with_name("handler.py")),
    str(Path(__file__).with_name("policies.py")),
)


class ProcessDied(Exception):
    """A process of the product ended while it was needed; carries the end of its log."""


class Process:
    """One child process with its log file."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name = name
        self.log_path = folder / f"{name}.log"
        # The settings of whoever runs the benchmark must not reach the product.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SCHEDULE_ZERO_")}
        with self.log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self._psutil = psutil.Process(self._popen.pid)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def cpu_s(self) -> float:
        """Seconds of CPU (user and system, all threads) since its start."""
        times = self._psutil.cpu_times()
        return times.user + times.system

    def rss_bytes(self) -> int:
        return int(self._psutil.memory_info().rss)

    def log_tail(self, lines: int = 15) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def check(self) -> None:
        """Raise ProcessDied if it is gone."""
        if not self.running:
            raise ProcessDied(f"{self.name} ended with {self._popen.returncode}:\n{self.log_tail()}")

    def stop(self, *, deadline_s: float = 15.0) -> None:
        """SIGTERM, and SIGKILL after the deadline."""
        if self.running:
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(deadline_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        if self.running:
            self._popen.kill()
        self._popen.wait()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str, *, within_s: float, every_s: float = 0.01) -> None:
    """Poll until ``condition`` holds; TimeoutError names ``what`` was waited for."""
    deadline = time.perf_counter() + within_s
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        time.sleep(every_s)


class Deployment:
    """One server and its nodes in one folder. Ports are chosen once, so that a restarted server is found again."""

    def __init__(self, folder: Path, *, targets: Sequence[str] = HANDLERS, slots: int = 4) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.targets = targets
        self.slots = slots
        self.http_port = free_port()
        self.zmq_port = free_port()
        self.server: Process | None = None
        self.nodes: list[Process] = []
        self.started_at = 0.0
        self._control: Connection | None = None

    @property
    def state_dir(self) -> Path:
        return self.folder / "server"

    @property
    def database(self) -> Path:
        """The server's SQLite file."""
        found = sorted(path for suffix in ("*.db", "*.sqlite", "*.sqlite3") for path in self.state_dir.rglob(suffix))
        if not found:
            raise FileNotFoundError(f"no SQLite file under {self.state_dir}")
        return found[0]

    @property
    def target(self) -> Target:
        token = (self.state_dir / "admin.token").read_text().strip()
        return Target(host="127.0.0.1", port=self.http_port, token=token)

    @property
    def processes(self) -> dict[str, Process]:
        found = {node.name: node for node in self.nodes}
        return {"server": self.server, **found} if self.server else found

    def start_server(self) -> None:
        command = [str(_BIN / "schedule-zero-server"), "--state-dir", str(self.state_dir)]
        command += ["--http", f"127.0.0.1:{self.http_port}", "--zmq", f"127.0.0.1:{self.zmq_port}"]
        self.server = Process("server", command, self.folder)

    def start_node(self, name: str = "node") -> None:
        command = [str(_BIN / "schedule-zero-handler"), *self.targets]
        command += ["--server", f"tcp://127.0.0.1:{self.zmq_port}", "--node-id", name, "--slots", str(self.slots)]
        command += ["--state-dir", str(self.folder / name)]
        self.nodes.append(Process(name, command, self.folder))

    def start(self) -> float:
        """Start a server and a node at the same moment. Seconds from the command to the first completed job (W6)."""
        begin = time.perf_counter()
        self.start_server()
        self.start_node()
        self.first_job(within_s=30.0)
        return time.perf_counter() - begin

    def first_job(self, *, within_s: float) -> None:
        """Ask for ``demo.hello`` until it is answered with its result."""
        document = {"handler_id": "demo", "job_method": "hello", "job_params": {"name": "bench"}, "wait_s": 5}

        def answered() -> bool:
            for process in self.processes.values():
                process.check()
            try:
                reply = self.control.call("POST", "/api/run_now", document, expect=(200, 202, 404, 503))
            except (OSError, LoadError):
                self._drop_control()
                return False
            return isinstance(reply, dict) and reply.get("status") == "success"

        wait_for(answered, "demo.hello answered", within_s=within_s)

    @property
    def control(self) -> Connection:
        """A connection for set-up and checks, outside any timed section."""
        if self._control is None:
            self._control = Connection(self.target)
        return self._control

    def stop(self) -> None:
        """End the nodes, then the server."""
        self._drop_control()
        for process in [*self.nodes, *([self.server] if self.server else [])]:
            process.stop()
        self.nodes.clear()
        self.server = None

    def kill(self) -> None:
        self._drop_control()
        for process in self.processes.values():
            process.kill()
        self.nodes.clear()
        self.server = None

    def _drop_control(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            self.stop()
            return
        # The folder will be gone when somebody asks why.
        for process in self.processes.values():
            print(f"--- the end of {process.name}'s log\n{process.log_tail()}", file=sys.stderr)
        self.kill()


class CpuUse:
    """CPU seconds by process name, for the block that ``accounting`` surrounds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def per_thousand(self, jobs: int) -> dict[str, float]:
        """CPU seconds for each 1,000 jobs."""
        return {name: value / jobs * 1000 for name, value in self.seconds.items()}


@contextmanager
def accounting(processes: Mapping[str, Process]) -> Iterator[CpuUse]:
    """Measure what each process, and this one as ``client``, spends in the block."""

    def read() -> dict[str, float]:
        return {**{name: process.cpu_s() for name, process in processes.items()}, "client": time.process_time()}

    use = CpuUse()
    before = read()
    yield use
    after = read()
    use.seconds = {name: after[name] - before[name] for name in before}


@contextmanager
def deployment(folder: Path) -> Iterator[tuple[Deployment, float]]:
    """A running server and node, with the seconds of their cold start."""
    with ExitStack() as stack:
        deployed = stack.enter_context(Deployment(folder))
        yield deployed, deployed.start()
