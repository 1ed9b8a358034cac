"""SIGKILL at every write of the fire path: no fire is lost, and none is written twice or by halves (promise C1).

strace delivers the signal as the server enters its n-th system call of a kind on the database file: at any page of a
commit, at its sync, at the first write after it. Each kill hits the same database again, so that its ledger tells of
all of them. The server is killed in two ways: as it starts, where it catches up with what its last death left
undecided; and as it runs. (strace counts for each thread by itself; one thread writes.)
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from schedule_zero.testbed.checker import check
from schedule_zero.testbed.final import FinalStore, load
from schedule_zero.testbed.history import Call, Evidence, Op, Phase, Terms
from tests.support import eventually_sync
from tests.system.bed import CHAOS, Own
from tests.system.processes import NodeProcess, ServerProcess

# What each commit calls, and what is called where the log is made, cut or copied back, if at all.
COMMIT_CALLS = ("pwrite64", "fdatasync")
CALLS = (*COMMIT_CALLS, "fsync", "ftruncate", "write")
INTERVAL_US = 200_000
INTERVALS = dict.fromkeys(("interval", "paused", "overlap"), INTERVAL_US)
# A sweep as it runs ends when so many fires were committed before the kill: that is more than one turn of everything.
FIRES_AT_THE_END = 3
# A sweep as it starts ends when a server has caught up, and fired that often, before it would have been killed.
FIRES_AFTER_THE_START = 2


@pytest.fixture(scope="module")
def strace() -> str:
    """The command, where it is there and may trace."""
    command = shutil.which("strace")
    if command is None:
        pytest.skip("no strace (Debian: apt-get install -y strace)")
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        tracing = [command, "-o", "/dev/null", "-p", str(sleeper.pid)]
        with subprocess.Popen(tracing, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            said = tracer.stderr.readline()
            sleeper.kill()
    if "attached" not in said:
        pytest.skip(f"strace may not trace here: {said.strip()}")
    return command


class Point(NamedTuple):
    """The n-th call of a kind that a thread makes."""

    call: str
    n: int


class Victim:
    """A server with a few schedules and a node, killed again and again."""

    def __init__(self, folder: Path, own: Own, strace: str) -> None:
        self._folder = folder
        self._own = own
        self._strace = strace
        self._ports: dict[str, int] = {}
        self._calls: list[Call] = []
        self._dates: list[str] = []
        self._database = folder / "state" / "schedule_zero.db"

    def prepare(self) -> None:
        """Server, node and schedules: an interval, a paused one, one with a policy. The dates come with each kill."""
        self._start()
        node = NodeProcess(self._folder, self._server.addresses["zmq"], CHAOS, env={"SCHEDULE_ZERO_CHAOS_LEDGER": ""})
        self._own(node)
        with self._server.client() as client:
            eventually_sync(lambda: client.get("/api/nodes").json()["nodes"], within_s=20)
            overlap = {"job_method": "sleep", "job_params": {"seconds": 0.3}, "policies": {"overlap": "skip"}}
            rows = [_schedule("interval"), _schedule("paused", paused=True), _schedule("overlap", **overlap)]
            self._create(client, rows)
        self.run_briefly()

    def run_briefly(self) -> None:
        """Let it fire twice, whatever it finds after its last death."""
        with self._server.client() as client:
            before = _executed(client)
            eventually_sync(lambda: _executed(client) >= before + 2, within_s=20)

    def kill_running(self, point: Point) -> int:
        """Kill it at a point of its ordinary run; how many intervals were fired before."""
        with self._server.client() as client:
            # One date for each kill, due in the midst of the intervals' fires.
            name = f"date-{len(self._dates)}"
            self._create(client, [_schedule(name, trigger={"type": "date", "run_date": time.time() + 0.3})])
            self._dates.append(name)
            before = _executed(client)
        tracer = subprocess.Popen(
            [self._strace, *self._injection(point), "-p", str(self._server.pid)], stderr=subprocess.PIPE, text=True
        )
        with tracer:
            try:
                self._server.popen.wait(20)
            except subprocess.TimeoutExpired:
                tracer.kill()
                raise AssertionError(f"{point} was never reached: {tracer.communicate()[1]}") from None
        assert self._server.popen.returncode == -signal.SIGKILL, self._server.output()[-2000:]
        return _ran(self._judged(point), "interval") - before

    def kill_starting(self, point: Point) -> bool:
        """Start it and kill it at a point of the start; False if it was up and fired before it came to the point."""
        self._server.kill()
        before = _ran(self._judged(point), "interval")
        self._start(under=(self._strace, "-D", *self._injection(point)), wait=False)
        eventually_sync(lambda: not self._server.alive() or self._caught_up(before), within_s=30)
        died = not self._server.alive()
        self._server.kill()
        assert self._server.popen.returncode == -signal.SIGKILL, self._server.output()[-2000:]
        self._judged(point)
        return died

    def restart(self) -> None:
        self._start()

    def finish(self) -> None:
        """Every date that was acknowledged has run, and all that was created comes to its end."""
        self.run_briefly()
        with self._server.client() as client:
            for name in INTERVALS:
                client.post(f"/api/schedules/{name}/pause").raise_for_status()
            eventually_sync(lambda: _open(client) == 0, within_s=60)
        self._server.kill()
        store = self._judged("the end", settled=True)
        assert {name: _ran(store, name) for name in self._dates} == dict.fromkeys(self._dates, 1)
        assert {row.state for row in store.executions} == {"completed"}

    def _start(self, *, under: tuple[str, ...] = (), wait: bool = True) -> None:
        self._server = ServerProcess(self._folder, under=under, **self._ports)
        self._own(self._server)
        if wait:
            self._server.wait_ready()
            self._ports = self._server.ports

    def _injection(self, point: Point) -> tuple[str, ...]:
        files = (str(self._database), f"{self._database}-wal")
        return (
            "-f", "-qq", "-o", str(self._folder / "strace.out"),
            "-P", files[0], "-P", files[1],
            "-e", f"trace={point.call}", "-e", f"inject={point.call}:signal=SIGKILL:when={point.n}",
        )  # fmt: skip

    def _caught_up(self, before: int) -> bool:
        """Whether the server that is starting has decided what was owed and fired on; asked over the API."""
        if not self._server.server_json.exists():
            return False
        try:
            self._server.wait_ready()
            with self._server.client() as client:
                return _executed(client) >= before + FIRES_AFTER_THE_START
        except (AssertionError, httpx.HTTPError):
            # It died meanwhile, as intended.
            return False

    def _create(self, client: httpx.Client, rows: list[dict[str, Any]]) -> None:
        """On record, once it is acknowledged."""
        now = {"from_us": time.time_ns() // 1000, "from_ns": time.monotonic_ns()}
        answer = client.post("/api/schedules", json={"schedules": rows})
        assert answer.status_code == 201, answer.text
        over = {"to_us": time.time_ns() // 1000, "to_ns": time.monotonic_ns()}
        for row in rows:
            args = {"id": row["id"]}
            self._calls.append(
                Call(op=Op.CREATE_SCHEDULE, process=0, args=args, phase=Phase.OK, answer={}, **now, **over)
            )

    def _judged(self, point: object, *, settled: bool = False) -> FinalStore:
        """What the dead server's file says, if it says nothing wrong. (Its jobs write no ledger.)"""
        store = load(self._database)
        # A server that is traced takes its time to start.
        terms = Terms(settled=settled, ledgered=(), late_s=30.0)
        report = check(Evidence(calls=self._calls, faults=[], ledger=(), terms=terms), store)
        assert report.ok, f"after a kill at {point}:\n{report.text()}"
        return store


def _schedule(name: str, **fields: Any) -> dict[str, Any]:
    trigger = {"type": "interval", "milliseconds": INTERVAL_US // 1000}
    return {"id": name, "handler_id": "chaos", "job_method": "ok", "trigger": trigger, **fields}


def _ran(store: FinalStore, schedule_id: str) -> int:
    return sum(fire.ran for fire in store.fires if fire.schedule_id == schedule_id)


def _executed(client: httpx.Client) -> int:
    return int(client.get("/api/schedules/interval").raise_for_status().json()["runs"])


def _open(client: httpx.Client) -> int:
    by_status = client.get("/api/executions/stats").raise_for_status().json()["by_status"]
    return sum(count for state, count in by_status.items() if state != "completed")


@pytest.fixture
def victim(tmp_path: Path, own: Own, strace: str) -> Victim:
    made = Victim(tmp_path, own, strace)
    made.prepare()
    return made


@pytest.mark.slow
def test_a_server_killed_at_writes_of_the_fire_path_loses_no_fire_and_doubles_none(victim: Victim) -> None:
    """A sample of the sweep: amid the pages of a commit, at its sync, at that of the next one."""
    running = (Point("pwrite64", 14), Point("fdatasync", 1), Point("fdatasync", 2))
    starting = (Point("pwrite64", 2), Point("pwrite64", 20), Point("fdatasync", 3))
    for while_running, while_starting in zip(running, starting, strict=True):
        victim.kill_running(while_running)
        assert victim.kill_starting(while_starting), while_starting
        victim.restart()
        victim.run_briefly()
    victim.finish()


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("call", COMMIT_CALLS)
def test_a_server_killed_at_every_write_as_it_runs_loses_no_fire_and_doubles_none(victim: Victim, call: str) -> None:
    """The complete sweep for one call, until so many fires were committed first that there is nothing new to hit."""
    for n in count(1):
        fired = victim.kill_running(Point(call, n))
        victim.restart()
        victim.run_briefly()
        if fired >= FIRES_AT_THE_END:
            break
    victim.finish()


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("call", CALLS)
def test_a_server_killed_at_every_write_as_it_starts_loses_no_fire_and_doubles_none(victim: Victim, call: str) -> None:
    """The complete sweep for one call, until a server has caught up and fired on before it came to the point."""
    for n in count(1):
        died = victim.kill_starting(Point(call, n))
        victim.restart()
        victim.run_briefly()
        if not died:
            break
    victim.finish()
