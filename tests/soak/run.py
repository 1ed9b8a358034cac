"""One soak: a server, three nodes, four clients; ends by plan, measurements all the time, the checker at the end."""

from __future__ import annotations

import random
import signal
from collections import Counter
from pathlib import Path
from threading import Event, Thread

import httpx
import msgspec
import psutil
from msgspec import Struct

from schedule_zero import settings
from schedule_zero.clock import EPOCH, to_us
from schedule_zero.store.sqlite import WAL_LIMIT_BYTES
from schedule_zero.store.store import FILE_NAME
from schedule_zero.testbed import final
from schedule_zero.testbed.checker import check
from schedule_zero.testbed.fast_clock import FastClock, for_checker
from schedule_zero.testbed.history import (
    FAULTS,
    HISTORY,
    LEDGER,
    SERVER,
    FaultLog,
    Op,
    Recorder,
    read_evidence,
    terms_of,
)
from schedule_zero.testbed.verdicts import Report
from tests.soak import judging
from tests.soak.asking import Client
from tests.soak.churn import Churn
from tests.soak.judging import Finding, Life, Sample
from tests.soak.plan import FIRST, NODES, End, plan
from tests.support import eventually_sync
from tests.system.bed import CHAOS
from tests.system.processes import NodeProcess, Process, ServerProcess

CLIENTS = 4
SLOTS = 8
TICK_S = 0.1
# So many samples of each process, at most twice a second.
SAMPLES = 1200
LEAST_EVERY_S = 0.5
# Its pages are folded in from CHECKPOINT_PAGES (16 MiB) on, at the next commit that no reader stands in the way of; one
# commit may have as much again in large results. What it has beyond this is cut off when it begins anew.
WAL_BOUND_MIB = WAL_LIMIT_BYTES / 2**20
# What four clients can ask of 24 slots is soon done.
OPEN_BOUND = 2_000
SETTLE_S = 120
# Later than this, in seconds of the machine, is late: others use it as well.
LATE_S = 30
# What is so late, in seconds of the machine, is simply run.
GRACE_S = 20
# Kept for so long, in the run's time: what is older goes, so that a run comes to rest at a size.
KEPT_S = 1200
_STATES = ("COMPLETED", "FAILED", "TIMEOUT", "DEAD", "CANCELLED", "MISFIRED")


class Outcome(Struct):
    """What a run came to."""

    minutes: float
    speedup: float
    seed: int
    hours: float
    ends: list[End]
    lives: list[Life]
    findings: list[Finding]
    # Hour, MiB of the log, MiB of the file, executions that are open.
    store: list[tuple[float, float, float, int]]
    answers: dict[str, int]
    # Events of the server's own log that are warnings or worse.
    complaints: dict[str, int]
    report: Report
    promises_ok: bool

    @property
    def ok(self) -> bool:
        return self.promises_ok and all(finding.ok for finding in self.findings)


class Soak:
    """One run, in its folder; ``close`` ends whatever it has started."""

    def __init__(self, folder: Path, *, minutes: float, speedup: float, seed: int) -> None:
        self.folder = folder
        self.minutes, self.speedup, self.seed = minutes, speedup, seed
        self.hours = minutes * speedup / 60
        self.clock = FastClock(speedup)
        self.faults = FaultLog(folder / FAULTS, self.clock)
        self.history = Recorder(folder / HISTORY, self.clock)
        self.lives: list[Life] = []
        self.ended: list[End] = []
        self.store: list[tuple[float, float, float, int]] = []
        self._every_s = max(LEAST_EVERY_S, minutes * 60 / SAMPLES)
        self._processes: dict[str, Process] = {}
        self._watched: dict[str, tuple[Life, psutil.Process, float]] = {}
        self._ports: dict[str, int] = {}
        self._stop = Event()
        self._clients: list[Client] = []
        self._threads: list[Thread] = []
        self._failures: list[BaseException] = []
        self._http: httpx.Client | None = None

    @property
    def env(self) -> dict[str, str]:
        kept = {f"SCHEDULE_ZERO_RETENTION__{state}_S": str(KEPT_S) for state in _STATES}
        return {
            **self.clock.env,
            **kept,
            "SCHEDULE_ZERO_RETENTION__KEEP_DEAD_LETTERS": "false",
            "SCHEDULE_ZERO_RETENTION__EVENTS_S": str(KEPT_S),
            "SCHEDULE_ZERO_RETENTION__IDEMPOTENCY_S": str(KEPT_S),
            "SCHEDULE_ZERO_AUDIT__EVERY_S": "1200",
            # The timer looks at the clock ten times a second.
            "SCHEDULE_ZERO_TIMING__MAX_SLEEP_S": "0.1",
            "SCHEDULE_ZERO_TIMING__MISFIRE_GRACE_S": str(GRACE_S * self.speedup),
        }

    # --- processes --------------------------------------------------------------------------------------

    def start(self) -> None:
        self._start_server()
        for node_id in NODES:
            self._start_node(node_id)

    def _same_clock(self) -> None:
        """Whether the server has the fast clock."""
        told = EPOCH.fromisoformat(self.http.get("/api/health").json()["now"])
        off_s = (self.clock.wall_us() - to_us(told)) / 1e6 / self.speedup
        assert abs(off_s) < 10, f"the server's clock is {off_s:.1f} s off"

    def _start_server(self) -> None:
        server = ServerProcess(self.folder, env=self.env, **self._ports)
        self._own(SERVER, server)
        server.wait_ready()
        self.faults.works_again(SERVER)
        self.server, self._ports = server, server.ports
        if self._http is None:
            self._http = self.client()
            self._same_clock()

    def _start_node(self, node_id: str) -> None:
        env = {**self.clock.env, "SCHEDULE_ZERO_CHAOS_LEDGER": str(self.folder / LEDGER)}
        node = NodeProcess(
            self.folder, self.server.addresses["zmq"], CHAOS, node_id=node_id, slots=SLOTS, env=env
        )  # fmt: skip
        self._own(f"node:{node_id}", node)
        eventually_sync(lambda: self._online(node_id, node), within_s=30)
        self.faults.works_again(f"node:{node_id}")

    def _online(self, node_id: str, process: NodeProcess) -> bool:
        nodes = self.http.get("/api/nodes").json()["nodes"]
        return any((node["id"], node["pid"], node["state"]) == (node_id, process.pid, "online") for node in nodes)

    def _server_lives(self) -> int:
        return sum(life.target == SERVER for life in self.lives)

    def _own(self, target: str, process: Process) -> None:
        process.faults, process.target = self.faults, target
        self._processes[target] = process
        number = sum(life.target == target for life in self.lives) + 1
        life = Life(target, number)
        self.lives.append(life)
        self._watched[target] = (life, psutil.Process(process.pid), self.clock.hours())

    def client(self) -> httpx.Client:
        """A client whose connections stay."""
        token = (self.server.state_dir / "admin.token").read_text().strip()
        return httpx.Client(
            base_url=self.server.addresses["http"],
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
            limits=httpx.Limits(max_connections=2, max_keepalive_connections=2, keepalive_expiry=None),
        )

    @property
    def http(self) -> httpx.Client:
        assert self._http is not None
        return self._http

    # --- clients ----------------------------------------------------------------------------------------

    def start_clients(self) -> None:
        for number in range(1, CLIENTS + 1):
            rng = random.Random(f"{self.seed}-{number}")
            client = Client(number, self.client(), self.history, rng, self._stop)
            self._clients.append(client)
            thread = Thread(target=self._serve, args=(Churn(client, self._server_lives),), name=f"client-{number}")
            self._threads.append(thread)
            thread.start()

    def _serve(self, churn: Churn) -> None:
        try:
            churn.run()
        except BaseException as error:
            self._failures.append(error)
            raise

    def stop_clients(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)
        for client in self._clients:
            client.http.close()

    def answers(self) -> Counter[str]:
        return sum((client.told for client in self._clients), Counter())

    # --- the run ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """All hours: measure, end, replace."""
        ends = plan(self.hours, self.seed)
        back: list[tuple[float, str]] = []
        pause = Event()
        next_s = 0.0
        began_h = self.clock.hours()
        while (hours := self.clock.hours() - began_h) < self.hours:
            pause.wait(TICK_S)
            if self._failures:
                raise self._failures[0]
            now_s = hours * 3600 / self.speedup
            if now_s >= next_s:
                next_s = now_s + self._every_s
                self.measure()
            while ends and ends[0].at_h <= hours:
                end = ends.pop(0)
                # (Not one that is away already.)
                if end.target in self._watched:
                    self._end(end)
                    back.append((now_s + end.away_s, end.target))
            for due in [due for due in back if due[0] <= now_s and (due[1] == SERVER or SERVER in self._watched)]:
                back.remove(due)
                self._replace(due[1])
        for _, target in sorted(back, key=lambda due: due[1] != SERVER):
            self._replace(target)

    def _end(self, end: End) -> None:
        self.ended.append(end)
        del self._watched[end.target]
        process = self._processes[end.target]
        if end.signal == signal.SIGTERM:
            process.terminate()
            # Its drain is over; what its successor begins is another matter.
            self.faults.works_again(end.target)
        else:
            process.kill()

    def _replace(self, target: str) -> None:
        if target == SERVER:
            self._start_server()
        else:
            self._start_node(target.partition(":")[2])

    def measure(self) -> None:
        """One sample of each process that is there, and of the files."""
        hours = self.clock.hours()
        for target, (life, process, since_h) in self._watched.items():
            assert self._processes[target].alive(), f"{life.name} ended by itself:\n{self._tail(target)}"
            with process.oneshot():
                memory = process.memory_full_info()
                sample = Sample(
                    age_h=hours - since_h,
                    uss_mib=memory.uss / 2**20,
                    rss_mib=memory.rss / 2**20,
                    fds=process.num_fds(),
                    threads=process.num_threads(),
                )
            life.samples.append(sample)
        if SERVER in self._watched:
            file = self.server.state_dir / FILE_NAME
            wal = file.with_name(file.name + "-wal")
            wal_mib = wal.stat().st_size / 2**20 if wal.exists() else 0.0
            self.store.append((hours, wal_mib, file.stat().st_size / 2**20, self._open()))

    def _open(self) -> int:
        return int(self.http.get("/api/health").json()["backlog"]["open"])

    def _tail(self, target: str) -> str:
        return self._processes[target].output()[-4000:]

    # --- the end ----------------------------------------------------------------------------------------

    def settle(self) -> None:
        """No schedule any more, and all that was begun comes to its end."""
        begun = Client(CLIENTS + 1, self.http, self.history, random.Random(self.seed), self._stop)
        for id_ in self._all("/api/schedules", "schedules", "id"):
            begun.ask("DELETE", f"/api/schedules/{id_}", op=Op.DELETE_SCHEDULE, args={"id": id_}, what="schedule")
        eventually_sync(
            lambda: "running" not in self._all("/api/requeues", "requeues", "state") and not self._open(),
            within_s=SETTLE_S,
            every_s=0.5,
        )

    def _all(self, path: str, name: str, field: str) -> list[str]:
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = self.http.get(path, params={"limit": 500} | ({"cursor": cursor} if cursor else {})).json()
            found += [row[field] for row in page[name]]
            cursor = page.get("next_cursor")
            if not cursor:
                return found

    def judge(self) -> Outcome:
        """Kill the server, and say what it came to."""
        until_us = self.clock.wall_us()
        self.server.kill()
        self.faults.close()
        evidence = read_evidence(self.folder)
        config = settings.load(environ=self.env, cwd=self.folder).config
        evidence.terms = terms_of(config, until_us=until_us, late_s=float(LATE_S))
        for_checker(evidence, self.speedup)
        report = check(evidence, final.load(self.server.state_dir))
        findings = judging.judge_lives(self.lives, (SERVER, FIRST))
        findings.append(judging.judge_wal([row[1] for row in self.store], WAL_BOUND_MIB, self.hours))
        findings.append(judging.judge_open([row[3] for row in self.store], OPEN_BOUND, self.hours))
        said = complaints(self.server.log)
        errors = sum(times for event, times in said.items() if not event.startswith("warning "))
        findings.append(Finding("errors in its log", SERVER, errors, 0, "", self.hours))
        return Outcome(
            minutes=self.minutes,
            speedup=self.speedup,
            seed=self.seed,
            hours=self.hours,
            ends=self.ended,
            lives=self.lives,
            findings=findings,
            store=self.store,
            answers=dict(sorted(self.answers().items())),
            complaints=said,
            report=report,
            promises_ok=report.ok,
        )

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)
        for process in reversed(self._processes.values()):
            process.kill()
        if self._http is not None:
            self._http.close()


class _LogLine(Struct):
    level: str
    event: str


def complaints(log: Path) -> dict[str, int]:
    """``warning node_lost`` → how often the server has said so."""
    told: Counter[str] = Counter()
    for line in log.read_bytes().splitlines():
        if line.startswith(b"{"):
            said = msgspec.json.decode(line, type=_LogLine)
            if said.level not in ("debug", "info"):
                told[f"{said.level} {said.event}"] += 1
        elif line.startswith(b"Traceback"):
            # (What it prints at its start are no log lines either.)
            told["traceback"] += 1
    return dict(sorted(told.items()))
