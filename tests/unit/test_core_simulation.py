"""The dispatch core among nodes that crash, on a network that loses, doubles and reorders, before a store that fails.

A model, not the node's code: it does what the protocol asks of a node, so what is tested is the server's half. What
must hold at every moment: an execution is believed in by at most one living process (C6); tokens are never used twice;
an execution that requires something of its node begins on no other;
states change only as the table allows (the ledger checks these two). At the end, once everything works again:
every execution is in exactly one terminal state (C5, C21), and what a node has finished is recorded (C9). With limits:
no more of a job, a schedule or a key run than is allowed, and no more start in any time than their rate says.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

import msgspec
import pytest

from schedule_zero.dispatch import effects as fx
from schedule_zero.dispatch.sessions import COUNTED
from schedule_zero.job_options import JobOptions, OnLost, Strategy
from schedule_zero.model import AttemptOutcome, State
from schedule_zero.rules.birth import LaneSpec, equip, lane_of, lane_text, start_by_us
from schedule_zero.rules.limits import rate_of
from schedule_zero.rules.options import NO_OPTIONS, Source
from schedule_zero.rules.routing import match
from schedule_zero.rules.states import TERMINAL
from schedule_zero.wire import messages as m
from tests.unit.core_world import World

SEEDS = range(40)
STEP_S = 0.25
STORM_S = 90.0
CALM_S = 900.0
OPTIONS = [
    None,
    msgspec.json.encode(JobOptions(max_attempts=3, retry_delay_s=1.0)),
    msgspec.json.encode(JobOptions(on_lost=OnLost.FAIL)),
    msgspec.json.encode(JobOptions(max_attempts=2, retry_delay_s=0.0)),
    msgspec.json.encode(JobOptions(queue_timeout_s=3.0)),
    msgspec.json.encode(JobOptions(queue_timeout_s=0.3, max_attempts=3, retry_delay_s=1.0)),
]
# Where it may run. A node's zone stays, whether it has a GPU is another matter at each start.
SPECS = [
    LaneSpec(),
    LaneSpec(),
    LaneSpec(require=("gpu",)),
    LaneSpec(require=("zone in (z0, z2)",), prefer=("gpu",), strategy=Strategy.ROUND_ROBIN),
    LaneSpec(require=("!gpu",), strategy=Strategy.RANDOM),
    LaneSpec(strategy=Strategy.STICKY_KEY),
    LaneSpec(strategy=Strategy.PACK),
    LaneSpec(strategy=Strategy.WEIGHTED, prefer=("zone == z1",)),
    LaneSpec(node="n1"),
]


# How many may run at once of each key; of the schedule, of the job ``j``; starts of each rate key.
PER_KEY = {"k0": 1, "k1": 1, "k2": 2, "k3": 3}
PER_SCHEDULE = 1
PER_JOB = 2
RATES = {"fast": ("2/s", 2), "slow": ("12/m", 2)}
METHODS = [("h", "m"), ("h", "j")]


@dataclass
class Job:
    """An attempt on a model node."""

    id: str
    token: int
    ends_s: float
    accepted: bool = False


@dataclass
class Process:
    """One life of a model node; what it knows dies with it."""

    instance: str
    epoch: int
    alive: bool = True
    frozen_until_s: float = 0.0
    address: bytes | None = None
    s: str = ""
    ready: bool = False
    hello_s: float = -100.0
    lease_until_s: float = 0.0
    beats: dict[int, float] = field(default_factory=dict)
    last_beat_s: float = -100.0
    sent_s: float = -100.0
    jobs: dict[int, Job] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    labels: dict[str, str] = field(default_factory=dict)
    # An operator's drain, known until the session ends, and when what runs is handed back.
    drained: bool = False
    hand_back_s: float = float("inf")


class Machine:
    """A node id with its state directory (the outbox) and its current process."""

    def __init__(self, sim: Simulation, node_id: str) -> None:
        self.sim = sim
        self.node_id = node_id
        self.epoch = 0
        # Everything fails here for a while, whatever it is.
        self.sick_until_s = 0.0
        # token → result, on disk
        self.outbox: dict[int, m.ResultItem] = {}
        self.process = self.boot()

    def boot(self) -> Process:
        self.epoch += 1
        self.process = Process(f"{self.node_id}/{self.epoch}", self.epoch)
        self.process.labels = {"zone": self.node_id.replace("n", "z"), "node": self.node_id}
        # In the end there is one with and one without.
        if self.sim.random.random() < 0.5 if self.sim.storm else self.node_id == "n2":
            self.process.labels["gpu"] = "true"
        self.sim.processes.append(self.process)
        return self.process

    def reboot(self) -> None:
        # The lock on the state directory: never two living processes.
        if not self.process.alive:
            self.boot()

    def kill(self) -> None:
        process = self.process
        process.alive = False
        self.sim.cut(process)

    def step(self, now_s: float) -> None:
        process, sim = self.process, self.sim
        if not process.alive or process.frozen_until_s > now_s:
            return
        for job in list(process.jobs.values()):
            if job.ends_s <= now_s:
                del process.jobs[job.token]
                outcome = sim.random.choices(
                    [AttemptOutcome.COMPLETED, AttemptOutcome.FAILED, AttemptOutcome.TIMEOUT], [8, 2, 1]
                )[0]
                self.finish(job, AttemptOutcome.FAILED if self.sick_until_s > now_s else outcome)
        if process.hand_back_s <= now_s:
            for job in process.jobs.values():
                self.finish(job, AttemptOutcome.HANDED_BACK)
            process.jobs.clear()
        if process.lease_until_s < now_s:
            # It stops believing: what runs is stopped, and says so later if asked.
            for job in process.jobs.values():
                self.finish(job, AttemptOutcome.HANDED_BACK)
            process.jobs.clear()
        if process.address is None:
            if now_s - process.hello_s > 1.0:
                self.connect(now_s)
            return
        if not process.s:
            if now_s - process.hello_s > 3.0:
                sim.cut(process)
            return
        if now_s - process.last_beat_s >= 2.0:
            process.last_beat_s = now_s
            seq = len(process.beats) + 1
            process.beats[seq] = now_s
            self.send("heartbeat", m.Heartbeat(s=process.s, seq=seq))
            # This network loses messages within a connection, which TCP doesn't: so the credit is repeated.
            process.ready = False
        if self.outbox and now_s - process.sent_s >= 3.0:
            process.sent_s = now_s
            self.send("result", m.Result(s=process.s, items=list(self.outbox.values())))
        if not process.ready and not self.outbox:
            process.ready = True
            self.send("credit", m.Credit(s=process.s, window=sim.random.randint(1, 6)))

    def finish(self, job: Job, outcome: AttemptOutcome) -> None:
        self.outbox[job.token] = m.ResultItem(id=job.id, token=job.token, outcome=outcome)
        self.process.sent_s = -100.0
        self.sim.finished.setdefault(job.token, outcome)

    def connect(self, now_s: float) -> None:
        process = self.process
        process.hello_s = now_s
        process.address = f"{process.instance}#{next(self.sim.world.numbers)}".encode()
        process.s, process.ready = "", False
        self.sim.links[process.address] = self
        held = [m.Held(id=job.id, token=job.token) for job in process.jobs.values()]
        hello = m.Hello(
            protocol=1,
            node_id=self.node_id,
            instance=process.instance,
            epoch=process.epoch,
            state_key=self.node_id,
            handlers=[],
            slots=4,
            running=held,
            outbox=len(self.outbox),
            labels=process.labels,
        )
        self.send("hello", hello)

    def send(self, event: str, message) -> None:
        self.sim.to_server(self.process.address, event, message)

    def receive(self, address: bytes, message, now_s: float) -> None:
        process = self.process
        if not process.alive or process.address != address:
            return
        if isinstance(message, m.Welcome):
            process.s = message.s
            process.drained, process.hand_back_s = False, float("inf")
            process.lease_until_s = max(process.lease_until_s, process.hello_s + message.lease_s)
            return
        if isinstance(message, m.ErrorMessage | m.Deny):
            self.sim.cut(process)
            return
        if message.s != process.s:
            return
        match message:
            case m.HbAck():
                if message.seq in process.beats:
                    until_s = process.beats[message.seq] + self.sim.world.config.lease_s
                    process.lease_until_s = max(process.lease_until_s, until_s)
            case m.Dispatch():
                self.take(message.items, now_s)
            case m.Cancel():
                for token in message.tokens:
                    job = process.jobs.pop(token, None)
                    if job is not None:
                        self.finish(job, AttemptOutcome.CANCELLED)
                    elif token not in self.outbox and token not in process.seen:
                        process.seen.add(token)
                        self.reject(token, "not_held")
            case m.ServerDrain(on=on, deadline_s=deadline_s):
                process.drained = on
                process.hand_back_s = float("inf") if deadline_s is None else now_s + deadline_s
            case m.ResultAck():
                for token in (*message.recorded, *message.duplicate, *message.superseded, *message.unknown):
                    self.outbox.pop(token, None)

    def reject(self, token: int, reason: str) -> None:
        self.send("reject", m.Reject(s=self.process.s, items=[m.RejectedItem(token=token, reason=reason)]))

    def take(self, items, now_s: float) -> None:
        process, rng = self.process, self.sim.random
        for item in items:
            if item.token in process.jobs or item.token in self.outbox:
                continue
            if item.token in process.seen:
                self.reject(item.token, "fenced")
                continue
            process.seen.add(item.token)
            if process.drained or rng.random() < 0.05:
                self.reject(item.token, "draining")
                continue
            self.sim.began.append((item.id, item.token, process.instance))
            spec = lane_of(self.sim.world.ledger[item.id].row.lane)
            assert match(spec, process.labels, 1) is not None, f"{item.id} began on {process}, but asks for {spec}"
            process.jobs[item.token] = Job(item.id, item.token, now_s + rng.choice([0.0, 0.3, 2.0, 8.0]))
        held = [m.AcceptedItem(token=item.token) for item in items if item.token in process.jobs]
        if held:
            self.send("accept", m.Accept(s=process.s, items=held))


class Simulation:
    """Virtual time, one seed."""

    def __init__(self, seed: int, *, limits: bool = False) -> None:
        self.random = random.Random(seed)
        self.limits = limits
        self.world = World(
            window=self.random.choice([4, 20, 100]),
            window_bytes=self.random.choice([3, 40, 10_000]),
            quarantine_failures=self.random.choice([0, 3, 10]),
            quarantine_losses=self.random.choice([0, 2, 5]),
            quarantine_s=5.0,
        )
        self.world.perform = self.perform
        self.links: dict[bytes, Machine] = {}
        self.processes: list[Process] = []
        self.finished: dict[int, AttemptOutcome] = {}
        self.began: list[tuple[str, int, str]] = []
        self.order = itertools.count()
        # (due, order, action)
        self.queue: list = []
        # The store's one queue: records are committed in order.
        self.writer: list = []
        self.storm = True
        self.machines = [Machine(self, f"n{number}") for number in range(3)]
        self.base = World.perform

    # --- the network ------------------------------------------------------------------------------

    def delay_s(self) -> float:
        if not self.storm:
            return 0.01
        return self.random.choice([0.0, 0.01, 0.05, 0.4, 2.5])

    def post(self, action) -> None:
        copies = 2 if self.storm and self.random.random() < 0.05 else 1
        for _ in range(copies):
            if self.storm and self.random.random() < 0.05:
                continue
            heapq.heappush(self.queue, (self.world.mono_s + self.delay_s(), next(self.order), action))

    def to_server(self, address: bytes, event: str, message) -> None:
        def deliver() -> None:
            core, now = self.world.core, self.world.now
            if event == "hello":
                # A HELLO that was on its way when its connection broke doesn't arrive.
                if address in self.links:
                    core.hello(address, message, METHODS, now)
            else:
                getattr(core, event)(address, message, now)

        self.post(deliver)

    def cut(self, process: Process) -> None:
        """The connection is gone; the server may notice at once, or only by the silence."""
        address, process.address = process.address, None
        process.s, process.ready = "", False
        if address is None:
            return
        self.links.pop(address, None)
        if self.random.random() < 0.7:
            self.post(lambda: self.world.core.disconnected(address, self.world.now))

    # --- the server -------------------------------------------------------------------------------

    def perform(self, effect) -> None:
        match effect:
            case fx.Send(peer, message):
                machine = self.links.get(peer)
                if machine is not None:
                    self.post(lambda: machine.receive(peer, message, self.world.mono_s))
            case fx.RecordStale():
                self.writer.append(effect)
            case fx.Refill(lane, limit, max_bytes, without):
                # A reader's snapshot: it may be older than what is committed when its answer comes.
                found = self.world.ledger.pending(lane, limit, max_bytes, without)
                self.writer.append((effect, *found))
            case fx.RecordStart() | fx.RecordEnd() | fx.Classify() | fx.CancelAgain() | fx.KeepBuckets():
                self.writer.append(effect)
            case _:
                World.perform(self.world, effect)

    def write(self) -> None:
        """The writer commits part of its queue, or fails."""
        self.world.store_down = self.storm and self.random.random() < 0.1
        count = self.random.randint(0, len(self.writer)) if self.storm else len(self.writer)
        batch, self.writer = self.writer[:count], self.writer[count:]
        for effect in batch:
            if isinstance(effect, tuple):
                self.refilled(*effect)
            elif isinstance(effect, fx.RecordStale):
                self.perform(fx.Send(effect.peer, effect.ack))
            elif not (self.world.store_down and isinstance(effect, fx.Classify | fx.KeepBuckets)):
                World.perform(self.world, effect)
        self.world.store_down = False

    def refilled(self, effect: fx.Refill, rows, more) -> None:
        key = effect.lane
        if self.world.store_down:
            self.world.core.refill_failed(key)
        else:
            self.world.core.refilled(key, rows, self.world.now, more=more)

    def submit(self) -> None:
        rng = self.random
        rows = self.world.rows(rng.randint(1, 8), priority=rng.choice([1, 5, 5, 9]), options=rng.choice(OPTIONS))
        if self.limits:
            for row in rows:
                self.limit(row)
        else:
            for row in rows:
                row.lane, row.sticky_key = lane_text(rng.choice(SPECS)), rng.choice("abc")
        for row in rows:
            row.start_by_us = start_by_us(row, self.world.now.wall_us)
        self.world.core.place(rows, self.world.now)
        if rng.random() < 0.1:
            self.world.core.abandoned(rows, self.world.now)
        else:
            self.world.ledger.insert(rows)
            self.world.core.committed(rows, self.world.now)

    def limit(self, row) -> None:
        """Give it a limit, or two, or none."""
        rng = self.random
        options, source = {}, Source.SUBMISSION
        kind = rng.choice(["key", "key", "schedule", "job", "rate", "weight", "none"])
        if kind == "key" or (kind in ("schedule", "rate") and rng.random() < 0.3):
            key = rng.choice(list(PER_KEY))
            options.update(concurrency_key=key, max_per_key=PER_KEY[key])
        if kind == "schedule":
            row.schedule_id, source = "s", Source.SCHEDULE
            options.update(max_instances=PER_SCHEDULE)
        elif kind == "job":
            row.job_method = "j"
            options.update(max_instances=PER_JOB)
        elif kind == "rate":
            key = rng.choice(list(RATES))
            options.update(rate_limit=RATES[key][0], rate_burst=RATES[key][1], rate_key=key)
        elif kind == "weight":
            options.update(weight=rng.randint(2, 9))
        if options:
            equip(row, JobOptions(priority=row.priority, max_attempts=2, **options), NO_OPTIONS, source)

    def trouble(self) -> None:
        rng, machine = self.random, self.random.choice(self.machines)
        kind = rng.random()
        process = machine.process
        if kind < 0.15:
            machine.kill()
            back_s = self.world.mono_s + rng.choice([0.1, 3.0, 20.0])
            heapq.heappush(self.queue, (back_s, next(self.order), machine.reboot))
        elif kind < 0.5:
            self.cut(process)
        elif kind < 0.65:
            process.frozen_until_s = self.world.mono_s + rng.choice([3.0, 12.0, 30.0])
        elif kind < 0.72:
            self.writer.clear()
            for peer in list(self.links):
                self.cut(self.links[peer].process)
            self.world.restart()
        elif kind < 0.76:
            machine.sick_until_s = self.world.mono_s + rng.choice([10.0, 40.0])
        elif kind < 0.9 and self.world.ledger.records:
            self.world.cancel(rng.choice(list(self.world.ledger.records)))
        else:
            kind = rng.choice(["cordon", "drain", None, None])
            deadline_s = rng.choice([None, 0.0, 4.0]) if kind == "drain" else None
            self.world.operate(machine.node_id, kind, deadline_s=deadline_s)

    # --- the run ----------------------------------------------------------------------------------

    def run(self) -> None:
        world, rng = self.world, self.random
        calm_s = world.mono_s + STORM_S
        end_s = calm_s + CALM_S
        while world.mono_s < end_s and not (not self.storm and self.settled()):
            world.mono_s += STEP_S
            if self.storm and world.mono_s >= calm_s:
                self.heal()
            if self.storm and rng.random() < 0.2:
                self.submit()
            if self.storm and rng.random() < 0.12:
                self.trouble()
            self.turn()

    def turn(self) -> None:
        world = self.world
        while self.queue and self.queue[0][0] <= world.mono_s:
            heapq.heappop(self.queue)[2]()
            world.settle()
        for machine in self.machines:
            machine.step(world.mono_s)
        self.write()
        world.core.tick(world.now)
        world.core.committed(world.ledger.release_due(world.now.wall_us), world.now)
        world.settle()
        world.expire()
        self.check()

    def settled(self) -> bool:
        return all(value in TERMINAL for value in self.world.ledger.states().values()) and not any(
            machine.outbox for machine in self.machines
        )

    def heal(self) -> None:
        self.storm = False
        for machine in self.machines:
            machine.process.frozen_until_s = machine.sick_until_s = 0.0
            machine.kill()
            machine.reboot()
            if machine.node_id in self.world.core.nodes and not self.world.core.nodes[machine.node_id].quarantined:
                self.world.operate(machine.node_id, None)
            # In the storm messages overtook each other within a connection, which they don't: begin anew.
            self.cut(machine.process)

    def check(self) -> None:
        now_s = self.world.mono_s
        believed: dict[str, str] = {}
        for process in self.processes:
            if process.alive and process.lease_until_s >= now_s:
                for job in process.jobs.values():
                    assert job.id not in believed, f"{job.id} on {believed[job.id]} and {process.instance} at {now_s}"
                    believed[job.id] = process.instance
        if self.limits:
            self.check_limits([self.world.ledger[id_].row for id_ in believed])

    def check_limits(self, rows) -> None:
        """What living processes run now, and what the core counts."""
        keys = [row.concurrency_key for row in rows]
        for key, most in PER_KEY.items():
            assert keys.count(key) <= most, f"{key}: {keys.count(key)} at {self.world.mono_s}"
        assert sum(row.schedule_id == "s" for row in rows) <= PER_SCHEDULE
        assert sum(row.job_method == "j" for row in rows) <= PER_JOB
        core = self.world.core
        attempts = [att for node in core.nodes.values() for att in node.attempts.values() if att.phase in COUNTED]
        gates = core._gates
        for gate in (*gates.jobs.values(), *gates.schedules.values(), *gates.keys.values()):
            assert gate.running == sum(gate in att.gates for att in attempts)
        for key, gate in gates.keys.items():
            assert gate.running == sum(att.row.concurrency_key == key for att in attempts)
        for node in core.nodes.values():
            mine = [att for att in attempts if att.node is node and att.instance is node.instance]
            assert node.held == sum(att.weight for att in mine)
        for lane in core.lanes.values():
            assert len(lane.parking.ids) == sum(len(shelf.heap) for shelf in lane.parking.shelves.values())
            assert len(lane.parking.ids) <= lane.window + 1

    def check_rates(self) -> None:
        """Over the whole run, restarts and all: what began on a node, when it was given to it."""
        began = {token for _, token, _ in self.began}
        for key, (text, burst) in RATES.items():
            rate = rate_of(text, burst)
            starts = sorted(
                at_us
                for record in self.world.ledger.records.values()
                if record.row.rate_key == key
                for token, at_us in record.dispatched.items()
                if token in began
            )
            for first in range(len(starts)):
                for last in range(first, len(starts)):
                    allowed = burst + (starts[last] - starts[first]) * 1_000 / rate.interval_ns
                    assert last - first + 1 <= allowed + 1e-6, (key, starts[first : last + 1])

    def released_by_itself(self) -> bool:
        """With work to prove it, a node that does well again is in service again."""
        for _ in range(400):
            nodes = self.world.core.nodes.values()
            if not any(node.operation for node in nodes):
                return True
            self.submit_to_completion()
        return False

    def submit_to_completion(self) -> None:
        self.submit()
        for _ in range(40):
            self.world.mono_s += STEP_S
            self.turn()

    def check_end(self) -> None:
        open_ = {key: value for key, value in self.world.ledger.states().items() if value not in TERMINAL}
        assert not open_, f"not terminal: {open_}"
        for record in self.world.ledger.records.values():
            assert sum(state in TERMINAL for state in record.history) == 1
            assert len(set(record.tokens)) == len(record.tokens)
        begun = [token for _, token, _ in self.began]
        assert len(begun) == len(set(begun)), "an attempt began twice, in one process or in two"
        assert all(not machine.outbox for machine in self.machines), "results were never acknowledged"
        core = self.world.core
        assert all(node.held == 0 and not node.attempts for node in core.nodes.values())
        assert all(lane.count == 0 and not lane.parking.ids for lane in core.lanes.values())
        gates = core._gates
        assert not gates.schedules
        assert not gates.keys
        assert all(not gate.running for gate in gates.jobs.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_one_lease_one_end_and_no_token_twice(seed):
    simulation = Simulation(seed)
    simulation.run()
    simulation.check_end()
    assert simulation.released_by_itself(), "a quarantine never ended"
    completed = sum(record.state is State.COMPLETED for record in simulation.world.ledger.records.values())
    assert completed > 20


@pytest.mark.parametrize("seed", SEEDS[::2])
def test_whatever_happens_no_limit_is_exceeded_and_nothing_waits_for_ever(seed):
    simulation = Simulation(seed, limits=True)
    simulation.run()
    simulation.check_end()
    simulation.check_rates()


def test_some_came_too_late_to_be_started():
    simulation = Simulation(3)
    simulation.run()
    misfired = [record for record in simulation.world.ledger.records.values() if record.state is State.MISFIRED]
    assert misfired
    assert any(record.tokens for record in misfired), "one that had been tried before"


def test_the_same_seed_gives_the_same_run():
    runs = []
    for _ in range(2):
        simulation = Simulation(7)
        simulation.run()
        runs.append((simulation.began, simulation.world.ledger.states()))
    assert runs[0] == runs[1]
