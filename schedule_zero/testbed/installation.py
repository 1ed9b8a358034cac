"""A server and its nodes as a test bed needs them: of its own, or a server that runs already (``url``).

Of its own, everything can be ended, stopped and judged. Of another's server only the nodes are ours: they connect over
HTTP, with the token that was given, and what takes a server's end is left out.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from schedule_zero import settings
from schedule_zero.client import AsyncClient
from schedule_zero.clock import Clock, SystemClock, to_us
from schedule_zero.errors import ScheduleZeroError
from schedule_zero.testbed import final
from schedule_zero.testbed.checker import check
from schedule_zero.testbed.fast_clock import FastClock, change_after, for_checker
from schedule_zero.testbed.guard import Guard
from schedule_zero.testbed.history import FAULTS, LEDGER, SERVER, FaultLog, read_evidence, terms_of
from schedule_zero.testbed.job_ledger import LEDGER as LEDGER_VARIABLE
from schedule_zero.testbed.processes import NodeProcess, Process, ServerProcess
from schedule_zero.testbed.verdicts import Report

POLL_S = 0.05
READY_S = 60.0
LEAVE_S = 10.0
# On a fast clock what is so late, in seconds of the machine, is simply run.
GRACE_S = 20
# So long before the clocks of Europe are changed a fast clock begins, in its own seconds.
EVE_S = 4500.0


class Harmless(ScheduleZeroError):
    """What was asked for would end a process that is not ours."""

    code = "harmless"


class Installation:
    """Start it, use ``client``, do harm, have it judged, close it."""

    def __init__(
        self,
        folder: Path,
        *,
        nodes: Sequence[str],
        targets: Sequence[str],
        slots: int = 10,
        env: Mapping[str, str] | None = None,
        speedup: float = 1.0,
        url: str | None = None,
        token: str | None = None,
    ) -> None:
        self.folder = folder
        self.nodes = tuple(nodes)
        self.speedup = speedup
        self.clock: Clock = SystemClock() if speedup == 1.0 else _fast_clock(speedup, folder)
        self.ledger_file = folder / LEDGER
        self.faults = FaultLog(folder / FAULTS, self.clock)
        self.processes: dict[str, Process] = {}
        self._targets = tuple(targets)
        self._slots = slots
        self._env = {**_env_of(self.clock), **(env or {})}
        self._url, self._token = url, token
        self._ports: dict[str, int] = {}
        self._client: AsyncClient | None = None
        self._guard: Guard | None = None

    @property
    def client(self) -> AsyncClient:
        assert self._client is not None, "it was not started"
        return self._client

    @property
    def attached(self) -> bool:
        """To a server that is not ours."""
        return self._url is not None

    @property
    def server(self) -> ServerProcess:
        process = self.processes.get(SERVER)
        if not isinstance(process, ServerProcess):
            raise Harmless("the server is not the test bed's own")
        return process

    # --- life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns once all nodes are there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._guard = Guard()
        if self.attached:
            self._client = AsyncClient(self._url, self._token)
        else:
            await self._start_server()
        await asyncio.gather(*(self._start_node(name) for name in self.nodes))
        if isinstance(self.clock, FastClock):
            self.clock.go()

    async def close(self) -> None:
        """End whatever is ours."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None
        if self.attached:
            # Another's server is told that they go, and need not find out.
            leaving = (asyncio.to_thread(process.terminate, LEAVE_S) for process in self.processes.values())
            await asyncio.gather(*leaving, return_exceptions=True)
        for process in reversed(self.processes.values()):
            process.kill()
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    async def _start_server(self) -> None:
        ports = self._ports
        server = ServerProcess(
            self.folder, http_port=ports.get("http_port", 0), zmq_port=ports.get("zmq_port", 0), env=self._env
        )
        self._own(SERVER, server)
        await self._until(server.ready, READY_S, "the server does not answer")
        self._ports = server.ports
        self.faults.works_again(SERVER)
        if self._client is None:
            self._client = AsyncClient(server.addresses["http"], server.token)

    async def _start_node(self, name: str) -> None:
        env = {
            **self._env,
            LEDGER_VARIABLE: str(self.ledger_file),
            "SCHEDULE_ZERO_URL": self.client.target.url,
            "SCHEDULE_ZERO_TOKEN": self.client.target.token or "",
        }
        # (Not from its process, which may just be starting again.)
        address = self._url or f"tcp://127.0.0.1:{self._ports['zmq_port']}"
        process = NodeProcess(
            self.folder, address, *self._targets, node_id=name, slots=self._slots, labels=("testbed=yes",), env=env
        )
        self._own(f"node:{name}", process)

        connected_us: list[int] = []

        async def there() -> bool:
            if not process.alive():
                raise ChildProcessError(
                    f"node {name} ended with {process.popen.returncode}:\n{process.output()[-4000:]}"
                )
            connected_us.extend(
                to_us(node.connected_at)
                for node in await self.client.nodes()
                if (node.node_id, node.pid, node.state) == (name, process.pid, "online") and node.connected_at
            )
            return bool(connected_us)

        await self._until(there, READY_S, f"node {name} does not connect")
        # By the server's word: what its predecessor held is run again from then on, and not from when we notice.
        self.faults.works_again(f"node:{name}", at_us=connected_us[0])

    def _own(self, target: str, process: Process) -> None:
        process.faults, process.target = self.faults, target
        self.processes[target] = process
        if self._guard is not None:
            self._guard.watch(process.pid)

    @staticmethod
    async def _until(condition: Callable[[], bool | Awaitable[bool]], within_s: float, otherwise: str) -> None:
        try:
            async with asyncio.timeout(within_s):
                while True:
                    answer = condition()
                    if answer if isinstance(answer, bool) else await answer:
                        return
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise TimeoutError(f"{otherwise} within {within_s:g} s") from None

    # --- harm -----------------------------------------------------------------------------------------

    async def kill(self, target: str, *, back_after_s: float = 0.0) -> None:
        """SIGKILL, and its return after so long."""
        self._mine(target).kill()
        await asyncio.sleep(back_after_s)
        await self.bring_back(target)

    async def bring_back(self, target: str) -> None:
        """Start it again, if it has ended."""
        if self._mine(target).alive():
            return
        if target == SERVER:
            await self._start_server()
        else:
            await self._start_node(target.removeprefix("node:"))

    async def stop(self, target: str, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        process = self._mine(target)
        process.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            with suppress(ProcessLookupError):
                process.signal(signal.SIGCONT)

    def _mine(self, target: str) -> Process:
        process = self.processes.get(target)
        if process is None:
            raise Harmless(f"{target} is not the test bed's own; its own are {', '.join(self.processes)}")
        return process

    # --- the end --------------------------------------------------------------------------------------

    def judge(self, *, ledgered: Sequence[str], late_s: float, settled: bool = True) -> Report:
        """Kill the server; hold what the jobs wrote and what was done against its store. Not where it is attached.

        ``settled``: everything was waited for, so that what is open was forgotten.
        """
        until_us = self.clock.wall_us()
        self.server.kill()
        self.faults.close()
        evidence = read_evidence(self.folder)
        config = settings.load(environ={**os.environ, **self._env}, cwd=self.folder).config
        evidence.terms = terms_of(config, until_us=until_us, ledgered=tuple(ledgered), late_s=late_s, settled=settled)
        if isinstance(self.clock, FastClock):
            for_checker(evidence, self.clock.speedup)
        return check(evidence, final.load(self.server.state_dir))


def _fast_clock(speedup: float, folder: Path) -> FastClock:
    """Goes fast once everybody is there, and begins shortly before the clocks are changed: some scenario wants that."""
    eve_us = round(EVE_S * 1e6)
    began_us = change_after(SystemClock().wall_us() + eve_us, "Europe/Berlin") - eve_us
    return FastClock(speedup, began_us=began_us, held=folder / "clock")


def _env_of(clock: Clock) -> dict[str, str]:
    """What gives a process this clock."""
    if not isinstance(clock, FastClock):
        return {}
    # The timer looks at the clock ten times a second; what is a little late by the machine's clock is not late.
    grace_s = str(GRACE_S * clock.speedup)
    return {**clock.env, "SCHEDULE_ZERO_TIMING__MAX_SLEEP_S": "0.1", "SCHEDULE_ZERO_TIMING__MISFIRE_GRACE_S": grace_s}
