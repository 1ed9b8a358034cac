"""Real servers and nodes: started from their commands, known by pid, ended and stopped at will, each on record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schedule_zero.testbed.history import FaultKind, FaultLog

BIN = Path(sys.executable).parent
_FAULTS = {
    signal.SIGKILL: FaultKind.KILL,
    signal.SIGSTOP: FaultKind.STOP,
    signal.SIGTERM: FaultKind.DRAIN,
}


class Process:
    """One child in its own process group, its output in a file."""

    # Where what is done to it is noted, and as what.
    faults: FaultLog | None = None
    target = ""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def alive(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: int) -> None:
        if number in _FAULTS and self.faults is not None:
            self.faults.begin(_FAULTS[signal.Signals(number)], self.target)
        self.popen.send_signal(number)
        if number == signal.SIGCONT and self.faults is not None:
            self.faults.works_again(self.target)

    def was_killed(self) -> None:
        """Note that somebody else killed it (a tracer, at a system call)."""
        if self.faults is not None:
            self.faults.begin(FaultKind.KILL, self.target)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.alive():
            self.signal(signal.SIGKILL)
        self.popen.wait(10)

    def terminate(self, within_s: float = 30) -> int:
        """SIGTERM, and the exit code."""
        if self.alive():
            self.signal(signal.SIGTERM)
        return self.popen.wait(within_s)

    def output(self) -> str:
        return self.log.read_text(errors="replace")


class ServerProcess(Process):
    """``schedule-zero-server`` with its state in ``folder/state``; ports stay the same over restarts.

    ``under`` is the command that runs it and becomes it (a tracer that leaves the process id to it).
    """

    def __init__(
        self,
        folder: Path,
        *,
        http_port: int = 0,
        zmq_port: int = 0,
        env: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> None:
        self.state_dir = folder / "state"
        self.server_json.unlink(missing_ok=True)
        self.addresses: dict[str, Any] = {}
        super().__init__(
            [
                *under, str(BIN / "schedule-zero-server"),
                "--state-dir", str(self.state_dir),
                "--http", f"127.0.0.1:{http_port}",
                "--zmq", f"127.0.0.1:{zmq_port}",
            ],
            folder / "server.log",
            env,
        )  # fmt: skip

    @property
    def server_json(self) -> Path:
        return self.state_dir / "server.json"

    def ready(self) -> bool:
        """Whether it answers; ``addresses`` says where. ChildProcessError: it has ended."""
        if not self.alive():
            raise ChildProcessError(f"the server ended with {self.popen.returncode}:\n{self.output()[-4000:]}")
        try:
            document = json.loads(self.server_json.read_bytes())
        except (FileNotFoundError, ValueError):
            return False
        if document["pid"] != self.pid:
            return False
        self.addresses = document
        return True

    @property
    def token(self) -> str:
        """Of its administrator."""
        return (self.state_dir / "admin.token").read_text().strip()

    @property
    def ports(self) -> dict[str, int]:
        return {
            "http_port": int(self.addresses["http"].rpartition(":")[2]),
            "zmq_port": int(self.addresses["zmq"].rpartition(":")[2]),
        }


class NodeProcess(Process):
    """``schedule-zero-handler`` with the given targets; its state in ``folder/nodes``."""

    def __init__(
        self,
        folder: Path,
        server: str,
        *targets: str,
        node_id: str = "n1",
        slots: int = 4,
        labels: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> None:
        super().__init__(
            [
                *under, str(BIN / "schedule-zero-handler"),
                *targets,
                "--server", server,
                "--node-id", node_id,
                "--slots", str(slots),
                "--state-dir", str(folder / "nodes"),
                *(word for label in labels for word in ("--label", label)),
            ],
            folder / f"{node_id}.log",
            env,
        )  # fmt: skip
