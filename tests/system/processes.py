"""The test bed's server and node processes, with what tests want of them besides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from schedule_zero.testbed import processes
from schedule_zero.testbed.processes import BIN, NodeProcess, Process
from tests.support import eventually_sync

__all__ = ["BIN", "ROOT", "NodeProcess", "Process", "ServerProcess"]

ROOT = Path(__file__).resolve().parents[2]


class ServerProcess(processes.ServerProcess):
    """With a wait, and a client."""

    def wait_ready(self) -> dict[str, Any]:
        """Its addresses, once it answers."""
        eventually_sync(self.ready, within_s=20)
        return self.addresses

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.addresses["http"],
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=60,
            verify=False,
        )
