"""One simulated world: a server, nodes, a network, clients, and what goes wrong; all from one seed.

The product's own code runs in it, from the service's verbs down to SQLite's file and from the ROUTER to the job's body:
``Server`` without HTTP, ``Node`` with handlers of ours. What is simulated is what both stand on (``seams``).

A world storms for a while; then all is mended and it has to come to rest; then the checker judges what is left.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from schedule_zero.config import DispatchConfig, ServerConfig, TimingConfig
from schedule_zero.errors import Denied, StoreUnavailable
from schedule_zero.node.host import Node
from schedule_zero.node.settings import NodeSettings
from schedule_zero.rules.states import TERMINAL
from schedule_zero.server import Server
from schedule_zero.store.store import FILE_NAME
from schedule_zero.testbed.checker import check
from schedule_zero.testbed.final import load
from schedule_zero.testbed.history import Evidence, Fault, FaultKind, JobLine, Terms, paired
from schedule_zero.testbed.verdicts import Report
from tests.simulation import faults as fx
from tests.simulation.clients import Clients
from tests.simulation.disks import Disk
from tests.simulation.jobs import SimHandler
from tests.simulation.loop import EPOCH_US, Process, Stuck, VirtualLoop
from tests.simulation.network import Network
from tests.simulation.seams import installed

# In memory where there is such a place.
TMPFS = Path("/dev/shm")


class Scenario(Struct, frozen=True, kw_only=True):
    """What kind of world; what happens in it is the seed's."""

    nodes: int = 3
    slots: int = 3
    schedules: int = 8
    clients: int = 2
    # Each client asks for something about so often.
    every_s: float = 2.0
    # How often schedules fire.
    fires_s: tuple[float, float] = (1.0, 12.0)
    storm_s: float = 40.0
    # The longest that nothing may happen before it comes to rest.
    calm_s: float = 150.0
    faults: int = 7
    late_s: float = 5.0
    # How long faults last, and what a node is given, in proportion to what they usually are.
    scale: float = 1.0
    # Plain schedules at such intervals, and nothing else.
    steady: bool = False

    @property
    def dispatch(self) -> DispatchConfig:
        return DispatchConfig(
            heartbeat_s=2.0 * self.scale,
            suspect_s=6.0 * self.scale,
            lost_s=10.0 * self.scale,
            lease_s=15.0 * self.scale,
            lease_margin_s=1.0 * self.scale,
            resend_s=2.0 * self.scale,
            quarantine_s=5.0,
        )


# For many seeds: everything goes four times as fast as it usually does.
QUICK = Scenario(
    schedules=5, clients=2, every_s=0.8, fires_s=(0.5, 5.0), storm_s=10.0, calm_s=60.0, faults=4, scale=0.25
)
# For speed: a day in which nothing happens that is not planned.
DAY = Scenario(
    schedules=50, clients=0, fires_s=(60.0, 3600.0), storm_s=86_400.0, faults=0, slots=10, calm_s=600.0, steady=True
)


class Outcome(Struct, kw_only=True):
    """What became of one world."""

    seed: int
    plan: list[fx.Planned]
    report: Report
    trace_hash: str
    # What the product itself complained of, and what nobody caught.
    complaints: list[str]
    stuck: str | None
    virtual_s: float
    # Whether it came to rest.
    rested: bool
    # So many of the plan were done: nobody kills what is dead already.
    injected: int
    messages: int
    trace: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.report.ok and not self.complaints and self.stuck is None and self.rested

    def text(self) -> str:
        lines = [f"seed {self.seed}: {self.virtual_s:.1f} simulated seconds, trace {self.trace_hash[:16]}"]
        if self.stuck is not None:
            lines.append(f"STUCK: {self.stuck}")
        if not self.rested:
            lines.append("it did not come to rest")
        lines += [f"complaint: {text}" for text in self.complaints[:10]]
        lines.append(self.report.text())
        return "\n".join(lines)


class World:
    """Built, run once, judged."""

    def __init__(
        self,
        seed: int,
        scenario: Scenario | None = None,
        *,
        plan: Sequence[fx.Planned] | None = None,
        wordy: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.seed = seed
        self.scenario = scenario = scenario or Scenario()
        self.wordy = wordy
        self.loop = VirtualLoop()
        self.network = Network(self.loop, self.dice("network"), self.trace)
        self.disk = Disk(self.dice("disk"))
        self.clients = Clients(self, self.dice("clients"))
        self.ledger: list[JobLine] = []
        self.log = fx.FaultLog(self.wall_us)
        self.complaints: list[str] = []
        self.server: Server | None = None
        self.server_process: Process | None = None
        self.nodes: dict[str, Process] = {}
        self.hosts: dict[str, Node] = {}
        self.node_ids = [f"n{number + 1}" for number in range(scenario.nodes)]
        self.lines: list[str] = []
        self.end_of_fires_us = EPOCH_US + round((scenario.storm_s + 8 * scenario.scale) * 1e6)
        self.until_us: int | None = None
        self.rested = False
        self.injected = 0
        self.over = False
        if plan is None:
            to_s = scenario.storm_s - 1
            count = scenario.faults
            plan = fx.plan(
                self.dice("faults"), nodes=self.node_ids, from_s=2.0, to_s=to_s, count=count, scale=scenario.scale
            )
        self.plan = list(plan)
        self._chance = self.dice("world")
        self._hash = hashlib.sha256()
        self._own_folder = folder is None
        where = TMPFS if TMPFS.is_dir() else None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="sz-sim-", dir=where))
        self._stops: dict[Process, asyncio.Event] = {}
        self._downs: dict[str, int] = {}
        self._operated: set[str] = set()
        self._operators: set[asyncio.Task[None]] = set()
        # Node → its drain in the fault log.
        self._drains: dict[str, int] = {}
        self._config = ServerConfig(
            handler_registry=str(self.folder / "registry.yaml"),
            dispatch=scenario.dispatch,
            timing=TimingConfig(),
        )

    def dice(self, what: str) -> random.Random:
        # (Seeding with a text does not depend on PYTHONHASHSEED.)
        return random.Random(f"{self.seed}/{what}")

    # --- clocks, trace --------------------------------------------------------------------------------------

    def wall_us(self) -> int:
        """The machine's own."""
        return EPOCH_US + round(self.loop.now_s * 1e6)

    def mono_ns(self) -> int:
        return round(self.loop.now_s * 1e9)

    def trace(self, *what: Any) -> None:
        """One thing that happened: the whole run is told by these."""
        line = f"{self.loop.now_s:.6f} {what!r}"
        self._hash.update(line.encode())
        if self.wordy:
            self.lines.append(line)

    def remark(self, *what: Any) -> None:
        """Something to read that is not part of what happened."""
        if self.wordy:
            self.lines.append(f"{self.loop.now_s:.6f} {what!r}")

    def complain(self, event: dict[str, Any]) -> None:
        if len(self.complaints) < 100 and not self.over:
            text = ", ".join(f"{name}={value!r}"[:400] for name, value in event.items())
            self.complaints.append(f"at {self.loop.now_s:.3f} s: {text}")

    # --- the run --------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """From the first start to the verdict."""
        stepper = self.steps()
        stuck = None
        try:
            stepper.run(self._live())
        except Stuck as error:
            stuck = str(error)
        except BaseException:
            stepper.close()
            raise
        return stepper.end(stuck)

    def steps(self) -> Stepper:
        """To run it piece by piece; to be ended, or closed."""
        return Stepper(self)

    def outcome(self, stuck: str | None) -> Outcome:
        """The verdict."""
        return Outcome(
            seed=self.seed,
            plan=self.plan,
            report=self._judge(),
            trace_hash=self._hash.hexdigest(),
            complaints=self.complaints,
            stuck=stuck,
            virtual_s=self.loop.now_s,
            rested=self.rested,
            injected=self.injected,
            messages=self.network.messages,
            trace=self.lines,
        )

    def close(self) -> None:
        """All its processes end."""
        self._collect()
        self.over = True
        self.loop.end()

    def remove(self) -> None:
        """Its files."""
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def discard(self) -> None:
        """It is not to be run."""
        self.loop.end()
        self.remove()

    async def _live(self) -> None:
        scenario = self.scenario
        await self.begin()
        for planned in self.plan:
            self.loop.later(planned.at_s - self.loop.now_s, self._inject, planned)
        busy = [
            asyncio.create_task(
                self.clients.busy(number + 1, scenario.storm_s, scenario.every_s), name=f"client {number}"
            )
            for number in range(scenario.clients)
        ]
        await asyncio.sleep(scenario.storm_s - self.loop.now_s)
        self.mend()
        await asyncio.gather(*busy)
        await self.finish()

    async def inject(self, planned: fx.Planned) -> None:
        """One fault, now."""
        self._inject(planned)

    async def rest(self) -> None:
        """What schedules fire is over soon; all is mended, and it comes to rest."""
        self.mend()
        while self._operators:
            await asyncio.sleep(0.2)
        for node_id in self.node_ids:
            self.start_node(node_id)
            while not await self.clients.operate(90, node_id, "release"):
                await asyncio.sleep(0.5)
        await self.finish()

    async def begin(self) -> None:
        """Server, nodes, and the first schedules."""
        self.start_server()
        for node_id in self.node_ids:
            self.start_node(node_id)
        await asyncio.sleep(1.0)
        for number in range(self.scenario.schedules):
            id_ = f"first-{number}"
            every_s = self.scenario.fires_s
            spec = self.clients.plain(id_, every_s) if self.scenario.steady else self.clients.spec(id_, every=every_s)
            await self.clients.create(0, spec)

    async def finish(self) -> None:
        """Wait until nothing is left to do, and stop."""
        await asyncio.sleep(max(0.0, (self.end_of_fires_us - self.wall_us()) / 1e6) + 1.0)
        # What was buffered may take long, as long as it goes on.
        lines, until_s = -1, 0.0
        while not self._at_rest():
            if len(self.ledger) != lines:
                lines, until_s = len(self.ledger), self.loop.now_s + self.scenario.calm_s
            if self.loop.now_s >= until_s:
                break
            await asyncio.sleep(1.0)
        self.rested = self._at_rest()
        if not self.rested and self.server is not None:
            self.remark("open", self.server.store.tally.open)
        await self._count()
        await asyncio.sleep(2.0)
        await self._stop_server(10.0)
        self.until_us = self.wall_us()

    async def _count(self) -> None:
        """What the server believes to be open is what is open."""
        server = self.server
        if server is None:
            return
        sql = "SELECT count(*) FROM executions WHERE state NOT IN ({})".format(
            ", ".join(f"'{one.value}'" for one in sorted(TERMINAL))
        )

        def both(conn: Any) -> tuple[int, int]:
            return conn.exec_driver_sql(sql).scalar_one(), server.store.tally.total

        stored, told = await server.store.read(both)
        if stored != told:
            self.complain({"event": "tally_is_wrong", "stored": stored, "told": told})

    def _at_rest(self) -> bool:
        server = self.server
        if server is None or server.store.tally.total or not server.store.healthy:
            return False
        return all(not len(self.hosts[name].work.delivery) for name in self.node_ids if self.nodes[name].alive)

    def _collect(self) -> None:
        """What went wrong without anybody catching it; and the last processes end."""
        for context in self.loop.errors:
            error = context.get("exception")
            self.complain({"event": str(context.get("message")), "error": repr(error)})
        for process in [*self.nodes.values(), *([self.server_process] if self.server_process else [])]:
            process.mourners.clear()
            process.kill()

    def _judge(self) -> Report:
        scenario = self.scenario
        dispatch = scenario.dispatch
        terms = Terms(
            until_us=self.until_us or self.wall_us(),
            ledgered=("sim",),
            heartbeat_s=dispatch.heartbeat_s,
            lost_s=dispatch.lost_s,
            lease_s=dispatch.lease_s,
            lease_margin_s=dispatch.lease_margin_s,
            max_lost=dispatch.max_lost,
            late_s=scenario.late_s,
        )
        evidence = Evidence(calls=paired(self.clients.lines), faults=self.log.faults, ledger=self.ledger, terms=terms)
        return check(evidence, load(self.folder / FILE_NAME))

    @property
    def faults(self) -> list[Fault]:
        return self.log.faults

    # --- the server -----------------------------------------------------------------------------------------

    def start_server(self) -> None:
        """A new process on the same disk, unless one is there."""
        if self.server_process is not None and self.server_process.alive:
            return
        # Its monotonic clock does not stand where the nodes' do.
        process = self.server_process = Process(self.loop, "server", boot_s=5000.0)
        process.mourners.append(lambda: self._server_died(process))
        self.trace("server starts", process.pid)
        process.spawn(self._serve(process), "main")

    async def _serve(self, process: Process) -> None:
        stop = self._stops[process] = asyncio.Event()
        try:
            server = Server(self._config, self.folder, clock=process)
            await server.start()
        except Exception as error:
            if not isinstance(error, StoreUnavailable):
                self.complain({"event": "server_did_not_start", "error": repr(error)})
            self.trace("server does not start", type(error).__name__)
            self._down("server", FaultKind.KILL)
            self.loop.later(0.0, process.kill)
            self.loop.later(1.0, self.start_server)
            return
        self.server = server
        self._up("server")
        await stop.wait()
        await server.stop(5.0)
        self.loop.later(0.0, process.kill)

    def _server_died(self, process: Process) -> None:
        self.trace("server is gone", process.pid)
        self.server = None

    def kill_server(self, back_s: float) -> None:
        """SIGKILL, and a new one after so long."""
        process = self.server_process
        if process is None or not process.alive:
            return
        self._down("server", FaultKind.KILL)
        process.kill()
        self.loop.later(back_s, self.start_server)

    async def _stop_server(self, patience_s: float) -> None:
        """SIGTERM."""
        process = self.server_process
        if process is None or self.server is None:
            return
        self._stops[process].set()
        until_s = self.loop.now_s + patience_s
        while process.alive and self.loop.now_s < until_s:
            await asyncio.sleep(0.05)

    # --- nodes ------------------------------------------------------------------------------------------------

    def start_node(self, node_id: str, *, folder: str | None = None) -> None:
        """A new process from the same state directory, unless one is there."""
        name = folder or node_id
        if name in self.nodes and self.nodes[name].alive:
            return
        process = self.nodes[name] = Process(self.loop, name, boot_s=100.0 * (len(self.nodes) + 1))
        self.trace("node starts", name, process.pid)
        process.spawn(self._host(process, node_id, name), "main")
        if folder is None:
            self._up(f"node:{node_id}")

    async def _host(self, process: Process, node_id: str, name: str) -> None:
        settings = NodeSettings(
            targets=[],
            node_id=node_id,
            state_dir=self.folder / name,
            server="tcp://127.0.0.1:4242",
            slots=self.scenario.slots,
            drain_s=5.0,
        )
        host = self.hosts[name] = Node(settings, clock=process, handlers=[SimHandler(self)])
        stop = self._stops[process] = asyncio.Event()
        try:
            await host.run(stop)
        except Denied as error:
            self.trace("denied", name, str(error))
            if name == node_id:
                self.loop.later(1.0, self.start_node, node_id)
        except Exception as error:
            self.complain({"event": "node_failed", "node": name, "error": repr(error)})
        self.loop.later(0.0, process.kill)

    def node_crashed(self, process: Process) -> None:
        """One of its own jobs ended it."""
        process.kill()
        self.loop.later(0.5 + 3 * self._chance.random(), self.start_node, process.name)

    # --- faults -----------------------------------------------------------------------------------------------

    def _down(self, target: str, kind: FaultKind) -> None:
        if target not in self._downs:
            self._downs[target] = self.log.add(kind, target, None)

    def _up(self, target: str) -> None:
        number = self._downs.pop(target, None)
        if number is not None:
            self.log.over(number)

    def _inject(self, planned: fx.Planned) -> None:
        self.trace("fault", str(planned))
        kind = planned.kind
        inject: Callable[[fx.Planned], None] = getattr(self, f"_do_{kind}", None) or self._do_way
        before = len(self.log.faults)
        inject(planned)
        self.injected += len(self.log.faults) > before

    def _while(self, planned: fx.Planned, begin: Callable[[], None], end: Callable[[], None]) -> None:
        begin()
        self.loop.later(planned.length_s, end)

    def _do_server_kill(self, planned: fx.Planned) -> None:
        self.kill_server(planned.length_s)

    def _do_server_kill_at_commit(self, planned: fx.Planned) -> None:
        """After the next commit, before anybody hears of it."""
        process = self.server_process
        if process is None or not process.alive:
            return
        self.disk.deadly = True

        def died() -> None:
            self.injected += 1
            self._down("server", FaultKind.KILL)
            self.loop.later(planned.length_s, self.start_server)

        process.mourners.append(died)

    def _do_server_stop(self, planned: fx.Planned) -> None:
        if self.server_process is not None and self.server_process.alive:
            self.log.add(FaultKind.STOP, "server", planned.length_s)
            self.server_process.stop(self.loop.now_s + planned.length_s)

    def _do_server_term(self, planned: fx.Planned) -> None:
        process = self.server_process
        if process is None or self.server is None or process.stopped:
            return
        self._down("server", FaultKind.KILL)
        process.mourners.append(lambda: self.loop.later(planned.length_s, self.start_server) and None)
        self._stops[process].set()

    def _do_server_clock(self, planned: fx.Planned) -> None:
        self._set_clock(self.server_process, "server", planned)

    def _do_node_clock(self, planned: fx.Planned) -> None:
        self._set_clock(self.nodes.get(planned.node), f"node:{planned.node}", planned)

    def _set_clock(self, process: Process | None, target: str, planned: fx.Planned) -> None:
        if process is None:
            return
        self.log.add(FaultKind.CLOCK, target, planned.length_s)
        step_us = round((planned.amount - 0.5) * 2 * 90e6)

        def back() -> None:
            process.wall_offset_us -= step_us

        process.wall_offset_us += step_us
        self.loop.later(planned.length_s, back)

    def _do_disk_begin(self, planned: fx.Planned) -> None:
        self.log.add(FaultKind.DISK, "server", planned.length_s + 2.0, planned.kind)

        def set_to(value: Any) -> None:
            self.disk.fails = value

        self._while(planned, lambda: set_to(planned.kind.removeprefix("disk_")), lambda: set_to(""))

    _do_disk_commit = _do_disk_any = _do_disk_begin

    def _do_disk_slow(self, planned: fx.Planned) -> None:
        self.log.add(FaultKind.DISK, "server", planned.length_s + 4.0, planned.kind)
        amount_s = planned.amount * 2

        def add(s: float) -> None:
            self.disk.slow_s = max(0.0, self.disk.slow_s + s)

        self._while(planned, lambda: add(amount_s), lambda: add(-amount_s))

    def _do_node_kill(self, planned: fx.Planned) -> None:
        process = self.nodes.get(planned.node)
        if process is not None and process.alive:
            self._down(f"node:{planned.node}", FaultKind.KILL)
            process.kill()
            self.loop.later(planned.length_s, self.start_node, planned.node)

    def _do_node_stop(self, planned: fx.Planned) -> None:
        process = self.nodes.get(planned.node)
        if process is not None and process.alive:
            self.log.add(FaultKind.STOP, f"node:{planned.node}", planned.length_s)
            process.stop(self.loop.now_s + planned.length_s)

    def _do_node_slow(self, planned: fx.Planned) -> None:
        process = self.nodes.get(planned.node)
        if process is None or not process.alive:
            return
        self.log.add(FaultKind.LOAD, f"node:{planned.node}", planned.length_s + 2.0, "slow")
        slow_s = 0.001 + planned.amount * 0.05

        def set_to(value: float) -> None:
            process.slow_s = value

        self._while(planned, lambda: set_to(slow_s), lambda: set_to(0.0))

    def _do_node_term(self, planned: fx.Planned) -> None:
        process = self.nodes.get(planned.node)
        stop = None if process is None or not process.alive else self._stops.get(process)
        if process is None or stop is None or process.stopped:
            # (What is stopped hears of a signal when it goes on.)
            return
        self._down(f"node:{planned.node}", FaultKind.DRAIN)

        def gone() -> None:
            self._up(f"node:{planned.node}")
            self._down(f"node:{planned.node}", FaultKind.KILL)
            self.loop.later(planned.length_s, self.start_node, planned.node)

        process.mourners.append(gone)
        stop.set()

    def _do_twin(self, planned: fx.Planned) -> None:
        """Another machine with the same node id."""
        name = f"{planned.node}-twin"
        self.log.add(FaultKind.DUPLICATE, f"node:{planned.node}", planned.length_s)
        self.start_node(planned.node, folder=name)
        self.loop.later(planned.length_s, self._end_twin, name)

    def _end_twin(self, name: str) -> None:
        process = self.nodes.get(name)
        if process is not None:
            process.kill()

    def _do_cut(self, planned: fx.Planned) -> None:
        up, down = planned.kind != "cut_down", planned.kind != "cut_up"
        self.log.add(FaultKind.PARTITION, f"node:{planned.node}", planned.length_s + 1.0, planned.kind)
        self._while(
            planned,
            lambda: self.network.cut(planned.node, up=up, down=down),
            lambda: self.network.heal(planned.node, up=up, down=down),
        )

    _do_cut_up = _do_cut_down = _do_cut

    def _do_half_open(self, planned: fx.Planned) -> None:
        """The connection is gone, and one end does not know."""
        connections = list(self.network.of(planned.node))
        if connections:
            self.log.add(FaultKind.NETWORK, f"node:{planned.node}", 75.0, planned.kind)
        for connection in connections:
            self.network.reset(connection, tell_node=planned.amount < 0.5, tell_server=planned.amount >= 0.5)

    def _do_reset(self, planned: fx.Planned) -> None:
        connections = list(self.network.of(planned.node))
        if connections:
            self.log.add(FaultKind.NETWORK, f"node:{planned.node}", 3.0, planned.kind)
        for connection in connections:
            self.network.reset(connection)

    def _do_way(self, planned: fx.Planned) -> None:
        """Messages are lost, repeated, misplaced or late."""
        name = {"lossy": "loss", "repeating": "twice", "astray": "astray", "delay": "delay_s"}[planned.kind]
        way = self.network.way(planned.node)
        amount = planned.amount * (1.5 if planned.kind == "delay" else 0.4)
        self.log.add(FaultKind.NETWORK, f"node:{planned.node}", planned.length_s + 4.0, planned.kind)

        def add(value: float) -> None:
            setattr(way, name, max(0.0, getattr(way, name) + value))

        self._while(planned, lambda: add(amount), lambda: add(-amount))

    def _do_drain(self, planned: fx.Planned) -> None:
        task = self.loop.create_task(self._operate(planned), name=f"operator of {planned.node}")
        self._operators.add(task)
        task.add_done_callback(self._operators.discard)

    _do_cordon = _do_drain

    async def _operate(self, planned: fx.Planned) -> None:
        """An operator takes a node out of service, and back; one at a time."""
        node_id = planned.node
        if node_id in self._operated:
            return
        self._operated.add(node_id)
        if await self.clients.operate(90, node_id, planned.kind):
            self.injected += 1
            if planned.kind == "drain":
                self._drains[node_id] = self.log.add(FaultKind.DRAIN, f"node:{node_id}", None)
            await asyncio.sleep(planned.length_s)
            while not await self.clients.operate(90, node_id, "release"):
                await asyncio.sleep(1.0)
        self._operated.discard(node_id)

    def other_word(self, node_id: str) -> None:
        """Somebody says something else about a node: from now on it may not be draining any more."""
        number = self._drains.pop(node_id, None)
        if number is not None:
            self.log.over(number)

    def mend(self) -> None:
        """The storm is over: everything works again, and everybody is there."""
        self.trace("calm")
        self.disk.fails, self.disk.slow_s, self.disk.deadly = "", 0.0, False
        for name, process in self.nodes.items():
            process.slow_s = 0.0
            process.cont()
            if name.endswith("-twin"):
                process.kill()
        if self.server_process is not None:
            self.server_process.cont()
        self.start_server()


class Stepper:
    """A world under way: the product runs in it as long as this is open."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._open = ExitStack()
        self._open.callback(world.remove)
        self._inside = self._open.enter_context(ExitStack())
        self._inside.enter_context(installed(world, world.dice("product")))
        asyncio.set_event_loop(world.loop)
        self._inside.callback(asyncio.set_event_loop, None)
        self._inside.callback(world.close)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Until ``work`` is done."""
        return self._world.loop.run_until_complete(work)

    def end(self, stuck: str | None = None) -> Outcome:
        """Judge what is left."""
        with self._open:
            self._inside.close()
            return self._world.outcome(stuck)

    def close(self) -> None:
        self._open.close()
