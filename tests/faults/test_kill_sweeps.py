"""SIGKILL at every system call of one canonical scenario that writes anything: to files, sockets, pipes, the log.

strace kills the process as it enters its n-th call of a kind, for n = 1, 2, … until the scenario passes without
being hit. Each kill hits the same state directory again: what starts at n + 1 first recovers from the death at n.
After each, the checker judges all that happened so far. Three sweeps: a server's first start ever; a server that
starts, catches up, is asked for things and hears of results; a node that registers, runs jobs of all kinds and
delivers them.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from schedule_zero.testbed.checker import check
from schedule_zero.testbed.final import load
from schedule_zero.testbed.history import Evidence, Op, Terms
from tests.faults.tracing import Point, calls_in, killed_at, strace, written_to
from tests.sizes import SIZE
from tests.support import eventually_sync
from tests.system.bed import Bed, Own, sent
from tests.system.processes import Process, ServerProcess
from tests.tried import Tried

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

WHOLE = SIZE.sweep is None
# What writes, and is called in the scenario at all. (test_every_call_that_writes_is_in_the_sweeps looks.)
SERVER_CALLS = ("pwrite64", "write", "sendto", "fdatasync", "fsync", "ftruncate", "rename", "unlink", "mkdir")
NODE_CALLS = ("pwrite64", "write", "sendto", "fdatasync", "fsync", "ftruncate", "rename", "mkdir")
FIRST_CALLS = SERVER_CALLS
# A sample: amid a commit, at its sync, at what tells others of it.
SERVER_SAMPLE = (Point("pwrite64", 60), Point("fdatasync", 8), Point("sendto", 8))
NODE_SAMPLE = (Point("pwrite64", 2), Point("sendto", 4))
FIRST_SAMPLE = (Point("pwrite64", 120),)
# A traced process on a busy machine is slow, and is none the worse for it.
LATE_S = 60.0


# What is called often is shared among so many tests.
SHARES = {"pwrite64": 4, "sendto": 2, "write": 2}


def shares(calls: tuple[str, ...]) -> list[tuple[str, int]]:
    """Each call, with the first of its points for each test."""
    return [(call, first) for call in calls for first in range(1, SHARES.get(call, 1) + 1)]


def sweep(call: str, first: int, step: int = 1) -> Iterator[Point]:
    """Every point of a call, or of a share; with a step, one in so many of these."""
    return (Point(call, n) for n in count(first, SHARES.get(call, 1) * step))


class Sweep:
    """One bed, killed again and again."""

    def __init__(self, bed: Bed, line: Tried) -> None:
        self.bed = bed
        self._line = line
        self._dates = count(1)
        self._log = bed.folder / "strace.out"

    # --- the server ---------------------------------------------------------------------------------------

    def prepare_server(self) -> None:
        # With leases of 15 s: for a server that is back sooner nothing is run again (C11).
        self.bed.start_server(env={})
        self._ports = self.bed.server.ports
        self.bed.start_node()
        every_second = {"type": "interval", "seconds": 1}
        self.bed.create([{"id": "interval", "handler_id": "chaos", "job_method": "ok", "trigger": every_second}])
        self.bed.server.kill()

    def hit_server(self, point: Point) -> bool:
        """Start it, run the scenario, and have it die at that point; False if it never came there."""
        bed = self.bed
        bed.launch_server(env={}, under=killed_at(point, self._log), **self._ports)
        died = not self.works()
        self._killed(bed.server, died)
        self._line.faults += died
        bed.look(settled=False, late_s=LATE_S)
        return died

    def works(self) -> bool:
        """The scenario of a server that was launched; False if it died amid it."""
        return self._comes_up(self.bed.server) and self._server_scenario()

    def _comes_up(self, server: ServerProcess) -> bool:
        eventually_sync(lambda: not server.alive() or server.server_json.exists(), within_s=30, every_s=0.005)
        try:
            server.wait_ready()
            self.bed.server_is_up()
        except ChildProcessError:
            return False
        return True

    def _server_scenario(self) -> bool:
        """A client's requests, fires, results; False if the server died amid it."""
        name = f"date-{next(self._dates)}"
        soon = {"type": "date", "run_date": time.time() + 0.1}
        schedule = {"id": name, "handler_id": "chaos", "job_method": "ok", "trigger": soon}
        jobs = [_job("ok"), _job("sleep", seconds=0.05), _job("error")]
        return (
            self._asked(Op.CREATE_SCHEDULE, "/api/schedules", {"schedules": [schedule]}, id=name) is not None
            and (told := self._asked(Op.SUBMIT, "/api/executions", {"executions": jobs}, count=3)) is not None
            and self._asked(Op.CANCEL, f"/api/executions/{told['ids'][1]}/cancel", None, id=told["ids"][1]) is not None
            and self.comes_to_rest(self.bed.server)
        )

    def _asked(self, op: Op, path: str, body: object, **args: Any) -> dict[str, Any] | None:
        """What was answered; None: the server is dead."""
        call = self.bed.history.begin(op, **args)
        answer = sent(call, lambda: self.bed.client.post(path, json=body))
        if answer is None:
            return None
        assert answer.is_success, answer.text
        told: dict[str, Any] = answer.json()
        known = {"ids": told["ids"]} if op is Op.SUBMIT else {}
        if op is Op.CANCEL:
            known = {"outcome": told["outcome"], "state": told["status"]}
        call.ok(**known)
        return told

    def comes_to_rest(self, process: Process) -> bool:
        """All is done; False if the process died before."""

        def over() -> bool:
            try:
                return not process.alive() or self.bed.open() == 0
            except httpx.TransportError:
                return False

        eventually_sync(over, within_s=60)
        return process.alive()

    def finish(self) -> None:
        """Whatever is left is done, and all of it is judged."""
        bed = self.bed
        if not bed.server.alive():
            # (The last one may have died before it could say where it is.)
            bed.start_server(env={}, **self._ports)
        eventually_sync(lambda: bed.node_state("n1") == "online", within_s=20)
        bed.keep_firing("interval")
        bed.pause("interval")
        eventually_sync(lambda: not self._fires_wait() and bed.open() == 0, within_s=60)
        bed.judge(self._line, late_s=LATE_S)

    def _fires_wait(self) -> bool:
        """Whether there are fires to catch up with: one-shots of earlier lives, that died before they came to them."""
        schedules = self.bed.client.get("/api/schedules", params={"limit": 500}).raise_for_status().json()["schedules"]
        return any(one["next_fire_time"] is not None for one in schedules if one["id"].startswith("date-"))

    # --- a node -------------------------------------------------------------------------------------------

    def prepare_node(self) -> None:
        self.bed.start_server()
        # The methods are known from now on.
        self.bed.start_node().kill()

    def hit_node(self, point: Point) -> bool:
        """Have it die at that point of its scenario; False if it never came there."""
        node = self.work_node(killed_at(point, self._log))
        died = not self.comes_to_rest(node)
        self._killed(node, died)
        self._line.faults += died
        return died

    def work_node(self, under: tuple[str, ...]) -> Process:
        """Start it beside jobs of all kinds."""
        jobs = [_job("ok"), _job("ok", value=[1] * 20), _job("error"), _job("log", lines=3), _job("big", size=200_000)]
        self.bed.ask(jobs)
        # Whoever takes the place of a dead process proves its death, even if it dies before it is heard.
        self.bed.faults.works_again("node:n1")
        return self.bed.start_node(under=under, wait=False)

    def finish_node(self) -> None:
        self.bed.start_node("n1")
        eventually_sync(lambda: self.bed.open() == 0, within_s=60)
        self.bed.judge(self._line, late_s=LATE_S)

    # --- both ---------------------------------------------------------------------------------------------

    def _killed(self, process: Process, died: bool) -> None:
        if died:
            process.was_killed()
            process.popen.wait(10)
            assert process.popen.returncode == -signal.SIGKILL, process.output()[-2000:]
        else:
            process.kill()


def _job(method: str, **params: Any) -> dict[str, Any]:
    return {"handler_id": "chaos", "job_method": method, "job_params": params}


class Firsts:
    """A server that has never run, killed amid its first start, in a fresh folder each time."""

    def __init__(self, folder: Path, own: Own, line: Tried) -> None:
        self._folder = folder
        self._own = own
        self._line = line

    def hit(self, point: Point) -> bool:
        """Kill it there, and see the next one start and end in order; False if it was up before it came there."""
        folder = self._folder / f"{point.call}-{point.n}"
        folder.mkdir()
        first = ServerProcess(folder, under=killed_at(point, folder / "strace.out"))
        self._own(first)
        eventually_sync(lambda: not first.alive() or first.server_json.exists(), within_s=30, every_s=0.005)
        died = not first.alive()
        first.kill()
        assert first.popen.returncode == -signal.SIGKILL, first.output()[-2000:]
        self._line.faults += died
        second = ServerProcess(folder)
        self._own(second)
        second.wait_ready()
        with second.client() as client:
            assert client.get("/api/health").json()["status"] == "ok"
        second.kill()
        self._line.judged(check(Evidence(calls=[], faults=[], ledger=(), terms=Terms()), load(second.state_dir)))
        shutil.rmtree(folder)
        return died


@pytest.fixture
def server_sweep(bed, tried) -> Sweep:
    strace()
    made = Sweep(
        bed, tried("2 sweeps", "SIGKILL of the server at every call that writes: it starts, catches up, works")
    )
    made.prepare_server()
    return made


@pytest.fixture
def node_sweep(bed, tried) -> Sweep:
    strace()
    made = Sweep(bed, tried("2 sweeps", "SIGKILL of a node at every call that writes: registers, works, delivers"))
    made.prepare_node()
    return made


@pytest.fixture
def firsts(tmp_path, own, tried) -> Firsts:
    strace()
    return Firsts(tmp_path, own, tried("2 sweeps", "SIGKILL of a server at every call that writes: its first start"))


@pytest.mark.skipif(WHOLE, reason="the whole sweep is made")
def test_a_server_killed_amid_its_first_start_starts_again(firsts):
    for point in FIRST_SAMPLE:
        assert firsts.hit(point), point


@pytest.mark.skipif(WHOLE, reason="the whole sweep is made")
def test_a_server_killed_amid_a_write_recovers_and_keeps_every_promise(server_sweep):
    # (Which thread does what, and so whether one of them comes to a point, is not the same on every machine.)
    hits = [server_sweep.hit_server(point) for point in SERVER_SAMPLE]
    assert sum(hits) > 0
    server_sweep.finish()


@pytest.mark.skipif(WHOLE, reason="the whole sweep is made")
def test_a_node_killed_amid_a_write_loses_no_result(node_sweep):
    hits = [node_sweep.hit_node(point) for point in NODE_SAMPLE]
    assert sum(hits) > 0
    node_sweep.finish_node()


@pytest.mark.skipif(not WHOLE, reason="a sample is made")
@pytest.mark.parametrize(("call", "first"), shares(FIRST_CALLS))
def test_a_server_killed_at_every_write_of_its_first_start_starts_again(firsts, call, first):
    step = SIZE.first_start_step(call)
    assert any(not firsts.hit(point) for point in sweep(call, first, step))


@pytest.mark.skipif(not WHOLE, reason="a sample is made")
@pytest.mark.parametrize(("call", "first"), shares(SERVER_CALLS))
def test_a_server_killed_at_every_write_recovers_and_keeps_every_promise(server_sweep, call, first):
    assert any(not server_sweep.hit_server(point) for point in sweep(call, first))
    server_sweep.finish()


@pytest.mark.skipif(not WHOLE, reason="a sample is made")
@pytest.mark.parametrize(("call", "first"), shares(NODE_CALLS))
def test_a_node_killed_at_every_write_loses_no_result(node_sweep, call, first):
    assert any(not node_sweep.hit_node(point) for point in sweep(call, first))
    node_sweep.finish_node()


@pytest.mark.skipif(not WHOLE, reason="a sample is made")
def test_every_call_that_writes_is_in_the_sweeps(bed, tmp_path):
    logs = {name: tmp_path / f"{name}.out" for name in ("first", "server", "node")}
    bed.launch_server(under=written_to(logs["first"]))
    bed.server.wait_ready()
    ports = bed.server.ports
    bed.server_is_up()
    first = bed.start_node()
    bed.server.kill()
    whole = Sweep(bed, Tried(part="", what="", test=""))

    bed.launch_server(under=written_to(logs["server"]), **ports)
    assert whole.works()
    bed.server.kill()
    first.kill()
    bed.restart_server()
    assert whole.comes_to_rest(whole.work_node(written_to(logs["node"])))

    assert calls_in(logs["first"]) <= set(FIRST_CALLS)
    assert calls_in(logs["server"]) <= set(SERVER_CALLS)
    assert calls_in(logs["node"]) <= set(NODE_CALLS)
