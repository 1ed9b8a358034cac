"""SIGKILL at every system call of one canonical scenario that writes anything: to files, sockets, pipes, the log.

strace kills the process as it enters the n-th of some calls, for n = 1, 2, … until the scenario passes without being
hit. It counts for each thread by itself, so each sweep is over the calls of one thread; the calls by which threads of
a process only wake each other are those of the main thread alone. Each kill hits the same state directory again: what
starts at n + 1 first recovers from the death at n. After each death of a server the checker judges all that happened so
far. Three sweeps: a server's first start ever; a server that starts, catches up, is asked for things, fires and hears
of results; a node that registers, runs jobs of all kinds and delivers them.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from datetime import datetime
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import httpx
import pytest

from schedule_zero.clock import SystemClock
from schedule_zero.testbed.checker import check
from schedule_zero.testbed.final import load
from schedule_zero.testbed.history import LEDGER, Evidence, Op, Terms
from tests.faults.tracing import Calls, Killer, Point, Thread, calls_in, strace, written_to
from tests.sizes import SIZE
from tests.support import eventually_sync
from tests.system.bed import FAST, Bed, Own, sent
from tests.system.processes import Process, ServerProcess
from tests.tried import Tried

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

WHOLE = SIZE.sweep is None
WAL = "state/schedule_zero.db-wal"
OUTBOX = "nodes/nodes/n1/outbox"
# What writes, and is called in the scenario at all. (test_every_call_that_writes_is_in_the_sweeps looks.)
# A first start is made by the main thread, which comes first; what others begin in it they begin in every start.
FIRST_CALLS = tuple(
    Calls(name, Thread.FIRST)
    for name in ("pwrite64", "write", "sendto", "fdatasync", "fsync", "ftruncate", "rename", "unlink", "mkdir")
)
SERVER_CALLS = (
    # A start, and each answer to a client.
    *(
        Calls(name, Thread.MAIN)
        for name in ("pwrite64", "write", "sendto", "fdatasync", "fsync", "ftruncate", "rename", "mkdir")
    ),
    # Each commit, and each message to a node.
    Calls("pwrite64", Thread.BESIDE, WAL),
    Calls("fdatasync", Thread.BESIDE, WAL),
    Calls("sendto", Thread.BESIDE),
)
NODE_CALLS = (
    *(Calls(name, Thread.MAIN) for name in ("pwrite64", "write", "fsync", "ftruncate", "rename", "mkdir")),
    # Each message to the server.
    Calls("sendto", Thread.ONE),
    # Each result.
    Calls("pwrite64", Thread.ONE, OUTBOX),
    Calls("fdatasync", Thread.ONE, OUTBOX),
    # The beginning and the end of each job, and what it logs.
    Calls("write", Thread.FIRST, LEDGER),
    Calls("fsync", Thread.FIRST, LEDGER),
    Calls("write", Thread.FIRST, "n1.log"),
)
# A sample: amid a commit, at its sync, at an answer to a client and what tells a node.
SERVER_SAMPLE = (Point(SERVER_CALLS[-3], 60), Point(SERVER_CALLS[-2], 8), Point(SERVER_CALLS[2], 4))
NODE_SAMPLE = (Point(NODE_CALLS[-5], 2), Point(NODE_CALLS[-6], 4))
FIRST_SAMPLE = (Point(FIRST_CALLS[0], 120),)
# A traced process on a busy machine is slow, and is none the worse for it.
LATE_S = 60.0
# Each life of a node adds five jobs. With more open than this, another one works them off first.
MOST_OPEN = 20
# A node of the sweep is killed amid the same job again and again: none of them is to be given up for that.
PATIENT = FAST | {"SCHEDULE_ZERO_DISPATCH__MAX_LOST": "100"}

# What is called often is shared among so many tests.
SHARES = {
    Calls("pwrite64", Thread.FIRST): 4,
    Calls("write", Thread.FIRST): 2,
    Calls("sendto", Thread.FIRST): 2,
    Calls("write", Thread.MAIN): 2,
    Calls("sendto", Thread.MAIN): 2,
    Calls("pwrite64", Thread.BESIDE, WAL): 4,
    Calls("sendto", Thread.BESIDE): 2,
    Calls("sendto", Thread.ONE): 2,
}


def shares(all_calls: tuple[Calls, ...]) -> list[Any]:
    """Each of these, with the first of its points for each test."""
    return [
        pytest.param(calls, first, id=f"{calls}-{first}")
        for calls in all_calls
        for first in range(1, SHARES.get(calls, 1) + 1)
    ]


def sweep(hit: Callable[[Point], bool], calls: Calls, first: int, step: int = 1) -> None:
    """Every point of these calls, or of a share, until the scenario passes; with a step, one in so many of these."""
    points = (Point(calls, n) for n in count(first, SHARES.get(calls, 1) * step))
    deaths = sum(1 for _ in takewhile(hit, points))
    assert deaths, f"the scenario makes no such calls: {calls}"


class Sweep:
    """One bed, killed again and again."""

    def __init__(self, bed: Bed, line: Tried) -> None:
        self.bed = bed
        self._line = line
        self._dates = count(1)
        # What each job of the node's sweep is.
        self._methods: dict[str, str] = {}

    # --- the server ---------------------------------------------------------------------------------------

    def prepare_server(self) -> None:
        # With leases of 15 s: for a server that is back sooner nothing is run again (C11).
        self.bed.start_server(env={})
        self.ports = self.bed.server.ports
        self.node = self.bed.start_node()
        every_second = {"type": "interval", "seconds": 1}
        self.bed.create([{"id": "interval", "handler_id": "chaos", "job_method": "ok", "trigger": every_second}])
        self.bed.server.kill()

    def hit_server(self, point: Point) -> bool:
        """Start it, run the scenario, and have it die at that point; False if it never came there."""
        bed = self.bed
        killer = Killer(point, bed.folder)
        bed.launch_server(env={}, under=killer.under, **self.ports)
        killer.attach(bed.server)
        died = not self.works()
        self._killed(bed.server, killer, died)
        self._line.faults += died
        bed.look(settled=False, late_s=LATE_S)
        return died

    def works(self) -> bool:
        """The scenario of a server that was launched; False if it died amid it."""
        since_s = time.time()
        return self._comes_up(self.bed.server) and self._server_scenario(since_s)

    def _comes_up(self, server: ServerProcess) -> bool:
        eventually_sync(lambda: not server.alive() or server.server_json.exists(), within_s=30, every_s=0.005)
        try:
            server.wait_ready()
            self.bed.server_is_up()
        except ChildProcessError:
            return False
        return True

    def _server_scenario(self, since_s: float) -> bool:
        """A client's requests, fires, results; False if the server died amid it.

        It is over only once all has fired that is due, and the interval again: jobs may be done before that.
        """
        name = f"date-{next(self._dates)}"
        soon = {"type": "date", "run_date": time.time() + 0.1}
        schedule = {"id": name, "handler_id": "chaos", "job_method": "ok", "trigger": soon}
        jobs = [_job("ok"), _job("sleep", seconds=0.05), _job("error")]
        return (
            self._asked(Op.CREATE_SCHEDULE, "/api/schedules", {"schedules": [schedule]}, id=name) is not None
            and (told := self._asked(Op.SUBMIT, "/api/executions", {"executions": jobs}, count=3)) is not None
            and self._asked(Op.CANCEL, f"/api/executions/{told['ids'][1]}/cancel", None, id=told["ids"][1]) is not None
            and self.comes_to_rest(
                self.bed.server, lambda: not self._fires_wait() and self._fired("interval") >= since_s, every_s=0.2
            )
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

    def comes_to_rest(
        self, process: Process, fired: Callable[[], bool] = lambda: True, *, every_s: float = 0.02
    ) -> bool:
        """All has fired and is done; False if the process died before. (Each look is a call of the server's, too.)"""

        def over() -> bool:
            try:
                return not process.alive() or (fired() and self.bed.open() == 0)
            except httpx.TransportError:
                return False

        eventually_sync(over, within_s=60, every_s=every_s)
        return process.alive()

    def finish(self) -> None:
        """Whatever is left is done, and all of it is judged."""
        bed = self.bed
        if not bed.server.alive():
            # (The last one may have died before it could say where it is.)
            bed.start_server(env={}, **self.ports)
        eventually_sync(lambda: bed.node_state("n1") == "online", within_s=20)
        bed.keep_firing("interval")
        bed.pause("interval")
        eventually_sync(lambda: not self._fires_wait() and bed.open() == 0, within_s=60)
        bed.judge(self._line, late_s=LATE_S)

    def _fires_wait(self) -> bool:
        """Whether there are fires to catch up with: one-shots of earlier lives, that died before they came to them."""
        schedules = self.bed.client.get("/api/schedules", params={"limit": 500}).raise_for_status().json()["schedules"]
        return any(one["next_fire_time"] is not None for one in schedules if one["id"].startswith("date-"))

    def _fired(self, schedule_id: str) -> float:
        """The time of its last fire that was decided, in s; 0: there was none."""
        last = self.bed.client.get(f"/api/schedules/{schedule_id}").raise_for_status().json()["last_fire_time"]
        return datetime.fromisoformat(last).timestamp() if last else 0.0

    # --- a node -------------------------------------------------------------------------------------------

    def prepare_node(self) -> None:
        self.bed.start_server(env=PATIENT)
        # The methods are known from now on.
        self.bed.start_node().kill()

    def hit_node(self, point: Point) -> bool:
        """Have it die at that point of its scenario; False if it never came there."""
        if self.bed.open() > MOST_OPEN:
            self._work_off().kill()
        killer = Killer(point, self.bed.folder)
        node = self.work_node(killer.under)
        died = not self.comes_to_rest(node)
        self._killed(node, killer, died)
        self._line.faults += died
        return died

    def work_node(self, under: tuple[str, ...]) -> Process:
        """Start it beside jobs of all kinds."""
        # (More lines than the main thread logs: strace meets the job's as well.)
        jobs = [_job("ok"), _job("ok", value=[1] * 20), _job("error"), _job("log", lines=6), _job("big", size=200_000)]
        self._methods |= dict(zip(self.bed.ask(jobs), (job["job_method"] for job in jobs), strict=True))
        # Whoever takes the place of a dead process proves its death, even if it dies before it is heard.
        self.bed.faults.works_again("node:n1")
        return self.bed.start_node(under=under, wait=False)

    def _work_off(self) -> Process:
        """A node that nobody harms does what is left."""
        node = self.bed.start_node()
        eventually_sync(lambda: self.bed.open() == 0, within_s=60)
        return node

    def finish_node(self) -> None:
        """Every job was done, however often its node died; and all of it is judged."""
        self._work_off()
        states = {id_: self.bed.execution(id_)["status"] for id_ in self._methods}
        wrong = {
            id_: (method, states[id_])
            for id_, method in self._methods.items()
            if states[id_] != ("failed" if method == "error" else "completed")
        }
        assert not wrong, wrong
        self.bed.judge(self._line, late_s=LATE_S)

    # --- both ---------------------------------------------------------------------------------------------

    def _killed(self, process: Process, killer: Killer, died: bool) -> None:
        if died:
            process.was_killed()
            process.popen.wait(10)
            assert process.popen.returncode == -signal.SIGKILL, process.output()[-2000:]
            killer.over()
        else:
            process.kill()
            killer.over()
            killer.missed()


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
        folder = self._folder / f"{point.calls}-{point.n}"
        folder.mkdir()
        killer = Killer(point, folder)
        first = ServerProcess(folder, under=killer.under)
        self._own(first)
        eventually_sync(lambda: not first.alive() or first.server_json.exists(), within_s=30, every_s=0.005)
        died = not first.alive()
        first.kill()
        assert first.popen.returncode == -signal.SIGKILL, first.output()[-2000:]
        if not died:
            killer.missed()
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
@pytest.mark.parametrize(("calls", "first"), shares(FIRST_CALLS))
def test_a_server_killed_at_every_write_of_its_first_start_starts_again(firsts, calls, first):
    sweep(firsts.hit, calls, first, SIZE.first_start_step(calls.name))


@pytest.mark.skipif(not WHOLE, reason="a sample is made")
@pytest.mark.parametrize(("calls", "first"), shares(SERVER_CALLS))
def test_a_server_killed_at_every_write_recovers_and_keeps_every_promise(server_sweep, calls, first):
    sweep(server_sweep.hit_server, calls, first)
    server_sweep.finish()


@pytest.mark.skipif(not WHOLE, reason="a sample is made")
@pytest.mark.parametrize(("calls", "first"), shares(NODE_CALLS))
def test_a_node_killed_at_every_write_loses_no_result(node_sweep, calls, first):
    sweep(node_sweep.hit_node, calls, first)
    node_sweep.finish_node()


def test_a_servers_scenario_is_not_over_before_its_fires_are_decided(bed):
    """Nothing would be killed amid a decision (C1, C2) otherwise."""
    whole = Sweep(bed, Tried(part="", what="", test=""))
    whole.prepare_server()
    began_us = SystemClock().wall_us()
    bed.launch_server(**whole.ports)
    assert whole.works()
    bed.server.kill()
    fires = load(bed.server.state_dir).fires
    assert {fire.schedule_id for fire in fires if fire.ran and fire.decided_us >= began_us} == {"interval", "date-1"}


@pytest.mark.skipif(not WHOLE, reason="a sample is made")
def test_every_call_that_writes_is_in_the_sweeps(bed, tmp_path):
    logs = {name: tmp_path / f"{name}.out" for name in ("first", "server", "node")}
    bed.launch_server(under=written_to(logs["first"]))
    bed.server.wait_ready()
    bed.server.kill()
    first = calls_in(logs["first"], bed.server.pid)

    whole = Sweep(bed, Tried(part="", what="", test=""))
    whole.prepare_server()
    bed.launch_server(under=written_to(logs["server"]), **whole.ports)
    assert whole.works()
    bed.server.kill()
    server = calls_in(logs["server"], bed.server.pid)

    whole.node.kill()
    bed.restart_server()
    worker = whole.work_node(written_to(logs["node"]))
    assert whole.comes_to_rest(worker)
    node = calls_in(logs["node"], worker.pid)

    in_none = {
        made
        for sweeps, all_made in ((FIRST_CALLS, first), (SERVER_CALLS, server), (NODE_CALLS, node))
        for made in all_made
        if not any(calls.cover(made) for calls in sweeps)
    }
    assert all((first, server, node))
    assert not in_none, in_none
