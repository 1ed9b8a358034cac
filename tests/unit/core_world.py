"""What the tests of the dispatch core share: a world that does the core's effects, with a ledger in place of the store.

The ledger enforces what the store's conditional updates enforce (state, token, one terminal state), so a core that
asks for something impossible fails the test at once.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from schedule_zero.config import DispatchConfig
from schedule_zero.dispatch import effects as fx
from schedule_zero.dispatch.core import Core
from schedule_zero.dispatch.membership import TICK_S
from schedule_zero.model import AttemptOutcome, Execution, LaneKey, NodeOperation, NodeState, OperationKind, State
from schedule_zero.rules.options import aged_us
from schedule_zero.rules.states import TERMINAL, may_become
from schedule_zero.store.execution_window import NOTHING, Without
from schedule_zero.store.executions import Refusal
from schedule_zero.wire import messages as m

WALL_US = 1_700_000_000_000_000
NODE_SAID = (
    AttemptOutcome.COMPLETED,
    AttemptOutcome.FAILED,
    AttemptOutcome.TIMEOUT,
    AttemptOutcome.CANCELLED,
)


@dataclass
class Record:
    """One row of the ledger, with its history."""

    row: Execution
    state: State
    attempt: int = 0
    token: int = 0
    node_id: str | None = None
    lost: int = 0
    cancel_requested: bool = False
    not_before_us: int | None = None
    error: bytes | None = None
    result: bytes | None = None
    started_us: int | None = None
    dispatched_us: int | None = None
    # token → when it was given to a node.
    dispatched: dict[int, int] = field(default_factory=dict)
    start_by_us: int | None = None
    cpu_us: int | None = None
    peak_rss_bytes: int | None = None
    # token → (cpu_us, peak_rss_bytes) of archived attempts
    used: dict[int, tuple[int | None, int | None]] = field(default_factory=dict)
    # token → outcome of archived attempts
    attempts: dict[int, AttemptOutcome] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)
    history: list[State] = field(default_factory=list)

    def become(self, state: State) -> None:
        assert may_become(self.state, state), f"{self.row.id}: {self.state} → {state}"
        self.state = state
        self.history.append(state)

    def as_row(self) -> Execution:
        return Execution(
            id=self.row.id,
            handler_id=self.row.handler_id,
            job_method=self.row.job_method,
            params=self.row.params,
            state=self.state,
            priority=self.row.priority,
            options=self.row.options,
            sticky_key=self.row.sticky_key,
            created_us=self.row.created_us,
            schedule_id=self.row.schedule_id,
            lane=self.row.lane,
            concurrency_key=self.row.concurrency_key,
            rate_key=self.row.rate_key,
            dispatched_us=self.dispatched_us,
            attempt=self.attempt,
            token=self.token,
            node_id=self.node_id,
            lost_count=self.lost,
            cancel_requested=self.cancel_requested,
            not_before_us=self.not_before_us,
            started_us=self.started_us,
            start_by_us=self.start_by_us,
        )


class Ledger:
    """Executions as the store would keep them."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.stale: list = []
        self.tokens: set[int] = set()

    def __getitem__(self, execution_id: str) -> Record:
        return self.records[execution_id]

    def insert(self, rows):
        for row in rows:
            assert row.id not in self.records
            record = self.records[row.id] = Record(row, row.state, history=[row.state])
            record.not_before_us, record.start_by_us = row.not_before_us, row.start_by_us
            if row.state is State.RUNNING:
                self._run(record, row.attempt, row.token, row.node_id)
                record.dispatched_us = record.dispatched[row.token] = row.dispatched_us

    def _run(self, record, attempt, token, node_id):
        assert token not in self.tokens, f"token {token} was used twice"
        assert not record.tokens or token > record.tokens[-1], "tokens only grow"
        self.tokens.add(token)
        record.tokens.append(token)
        record.attempt, record.token, record.node_id = attempt, token, node_id
        record.started_us = None

    def start(self, items) -> set[str]:
        refused = set()
        for item in items:
            record = self.records[item.id]
            waiting = record.state in (State.PENDING, State.SCHEDULED, State.RETRY_SCHEDULED)
            expired = record.start_by_us is not None and record.start_by_us <= item.dispatched_us
            if not waiting or record.cancel_requested or expired:
                refused.add(item.id)
                continue
            record.become(State.RUNNING)
            assert item.attempt == record.attempt + 1, f"{item.id}: attempt {item.attempt} after {record.attempt}"
            self._run(record, item.attempt, item.token, item.node_id)
            record.dispatched_us = record.dispatched[item.token] = item.dispatched_us
        return refused

    def end(self, items) -> dict[int, Refusal]:
        refused = {}
        for item in items:
            record = self.records[item.id]
            if record.state is not State.RUNNING or record.token != item.token:
                refused[item.token] = self.classify(item.id, item.token)
                continue
            assert item.attempt == record.attempt
            assert item.archive or item.state in TERMINAL
            assert item.finished_us >= (record.started_us or 0), "it ended before it began"
            # Somebody has to look at these, and at no others.
            assert (item.dead_letter is not None) == (item.state in (State.FAILED, State.TIMEOUT, State.DEAD))
            if item.archive:
                record.attempts[item.token] = item.outcome
                record.used[item.token] = (item.cpu_us, item.peak_rss_bytes)
            if item.state in TERMINAL:
                record.cpu_us, record.peak_rss_bytes = item.cpu_us, item.peak_rss_bytes
            record.become(item.state)
            record.lost += item.lost
            record.attempt -= not item.burn
            record.not_before_us = None if item.delay_us is None else item.stored_us + item.delay_us
            record.start_by_us = item.start_by_us or record.start_by_us
            record.result, record.error = item.result, item.error
        return refused

    def classify(self, execution_id: str, token: int) -> Refusal | None:
        record = self.records.get(execution_id)
        if record is None or token > record.token:
            return Refusal.UNKNOWN
        archived = record.attempts.get(token)
        if archived is not None:
            return Refusal.DUPLICATE if archived in NODE_SAID else Refusal.SUPERSEDED
        if token == record.token:
            if record.state is State.RUNNING:
                return None
            return Refusal.DUPLICATE if record.state in TERMINAL else Refusal.SUPERSEDED
        return Refusal.SUPERSEDED

    def cancel(self, execution_id: str) -> tuple[str, str | None, int]:
        record = self.records[execution_id]
        if record.state in TERMINAL:
            return "terminal", None, 0
        record.cancel_requested = True
        if record.state is State.RUNNING:
            return "requested", record.node_id, record.token
        record.become(State.CANCELLED)
        return "cancelled", None, 0

    def misfire(self, now_us: int) -> None:
        """What the timer does when a moment has come of which the core has told."""
        for record in self.records.values():
            waits = record.state in (State.SCHEDULED, State.PENDING, State.RETRY_SCHEDULED)
            if waits and record.start_by_us is not None and record.start_by_us <= now_us:
                record.become(State.MISFIRED)

    def expiries(self) -> list[int]:
        return [record.start_by_us for record in self.records.values() if record.start_by_us]

    def clock_set(self, by_us: int) -> None:
        for record in self.records.values():
            if record.state is State.RETRY_SCHEDULED:
                record.not_before_us += by_us
            if record.start_by_us is not None and record.state in (State.PENDING, State.RETRY_SCHEDULED, State.RUNNING):
                record.start_by_us += by_us

    def release_due(self, now_us: int) -> list[Execution]:
        due = []
        for record in self.records.values():
            waits = record.state in (State.SCHEDULED, State.RETRY_SCHEDULED)
            if waits and (record.not_before_us or 0) <= now_us:
                record.become(State.PENDING)
                due.append(record.as_row())
        return due

    def pending(
        self, lane: LaneKey, limit: int, max_bytes: int, without: Without = NOTHING
    ) -> tuple[list[Execution], bool]:
        rows = [
            record.as_row()
            for record in self.records.values()
            if record.state is State.PENDING
            and (record.row.handler_id, record.row.job_method, record.row.lane) == lane
            and record.row.schedule_id not in without.schedule_ids
            and record.row.concurrency_key not in without.concurrency_keys
            and record.row.rate_key not in without.rate_keys
        ]
        rows.sort(key=lambda row: (aged_us(row.priority, row.not_before_us or row.created_us), row.id))
        before = itertools.accumulate((len(row.params) for row in rows), initial=0)
        window = [row for row, size in zip(rows[:limit], before, strict=False) if size < max_bytes]
        return window, len(window) < len(rows) or len(window) == limit

    def states(self) -> dict[str, State]:
        return {execution_id: record.state for execution_id, record in self.records.items()}


class Peer:
    """A node's end of the wire, driven by the test line by line."""

    def __init__(self, world: World, node_id: str, *, key: str | None = None) -> None:
        self.world = world
        self.node_id = node_id
        self.key = key or f"key of {node_id}"
        self.labels: dict[str, str] = {}
        self.epoch = 0
        self.address = b""
        self.s = ""
        self.start()

    def start(self) -> None:
        """A new process from the same state directory."""
        self.epoch += 1
        self.instance = f"{self.node_id}-{self.key}-{self.epoch}"
        self.inbox: list = []

    def hello(
        self, *pairs, running=(), instance=None, slots=4, new_socket=True, protocol=1, labels=None, facts=None
    ) -> Peer:
        if labels is not None:
            self.labels = labels
        self.pairs = pairs = pairs or (("h", "m"),)
        if new_socket:
            self.address = f"peer{next(self.world.numbers)}".encode()
            self.world.peers[self.address] = self
        message = m.Hello(
            protocol=protocol,
            node_id=self.node_id,
            instance=instance or self.instance,
            epoch=self.epoch,
            state_key=self.key,
            handlers=[m.HandlerDeclaration(handler_id=name, methods=[]) for name in {pair[0] for pair in pairs}],
            slots=slots,
            running=[m.Held(id=item.id, token=item.token) for item in running],
            labels=self.labels,
            facts=facts or {},
        )
        self.world.core.hello(self.address, message, pairs, self.world.now)
        self.world.settle()
        return self

    def credit(self, window: int) -> Peer:
        self.say("credit", m.Credit(s=self.s, window=window))
        return self

    def say(self, event: str, message) -> None:
        getattr(self.world.core, event)(self.address, message, self.world.now)
        self.world.settle()

    def heartbeat(self) -> None:
        self.say("heartbeat", m.Heartbeat(s=self.s, seq=1))

    def accept(self, *items, started_us=None) -> None:
        accepted = [m.AcceptedItem(token=item.token, started_us=started_us) for item in items]
        self.say("accept", m.Accept(s=self.s, items=accepted))

    def reject(self, *items, reason="") -> None:
        rejected = [m.RejectedItem(token=item.token, reason=reason) for item in items]
        self.say("reject", m.Reject(s=self.s, items=rejected))

    def report(self, *items, outcome=AttemptOutcome.COMPLETED, **fields) -> None:
        results = [m.ResultItem(id=item.id, token=item.token, outcome=outcome, **fields) for item in items]
        self.say("result", m.Result(s=self.s, items=results))

    def bye(self) -> None:
        self.world.core.bye(self.address, self.s, self.world.now)
        self.world.settle()

    def leave(self) -> None:
        self.world.core.leaving(self.address, self.s, self.world.now)
        self.world.settle()

    def disconnect(self) -> None:
        self.world.core.disconnected(self.address, self.world.now)
        self.world.settle()

    def got(self, kind) -> list:
        """Take the messages of this type that came."""
        taken = [message for message in self.inbox if type(message) is kind]
        self.inbox = [message for message in self.inbox if type(message) is not kind]
        return taken

    def work(self) -> list[m.DispatchItem]:
        """Take the attempts that were sent."""
        return [item for message in self.got(m.Dispatch) for item in message.items]

    def acks(self) -> dict[str, list[int]]:
        """Take the acknowledged tokens by kind, empty kinds left out."""
        found: dict[str, list[int]] = {}
        for ack in self.got(m.ResultAck):
            for kind in ("recorded", "duplicate", "superseded", "unknown"):
                if getattr(ack, kind):
                    found.setdefault(kind, []).extend(getattr(ack, kind))
        return found

    @property
    def view(self):
        return self.world.core.nodes[self.node_id]


class World:
    """A core, its ledger, and peers; time moves only by ``advance``."""

    def __init__(self, *, rules=None, epoch=1, **config) -> None:
        self.config = DispatchConfig(**config)
        self.rules = rules
        self.ledger = Ledger()
        self.numbers = itertools.count(1)
        self.peers: dict[bytes, Peer] = {}
        self.mono_s = 1000.0
        self.epoch = epoch
        # While True, records are kept back (``held``) instead of being committed.
        self.holding = False
        self.held: list = []
        self.store_down = False
        self.notes: list = []
        self.node_changes: list = []
        # What the server itself did to nodes.
        self.operated: list = []
        self.refills: list = []
        # When the core wants to be woken; the token buckets on record.
        self.wake_s: float | None = None
        self.buckets: dict = {}
        # How far the wall clock was set.
        self.wall_step_s = 0.0
        # Moments by which something has to be started, as the core told them.
        self.expiries: list[int] = []
        self.core = self._new_core()

    def _new_core(self) -> Core:
        return Core(
            self.config,
            epoch=self.epoch,
            new_session_id=lambda: f"s{next(self.numbers)}",
            rules=self.rules,
        )

    @property
    def now(self) -> fx.Now:
        return fx.Now(self.mono_s, WALL_US + round((self.mono_s + self.wall_step_s) * 1e6))

    def node(self, node_id="n1", *, window=10, pairs=(("h", "m"),), labels=None, slots=4, **changes) -> Peer:
        """A node that is connected and ready."""
        return Peer(self, node_id, **changes).hello(*pairs, labels=labels, slots=slots).credit(window)

    def rows(self, count=1, *, handler_id="h", job_method="m", **fields) -> list[Execution]:
        fields.setdefault("created_us", self.now.wall_us)
        return [
            Execution(id=f"e{next(self.numbers):06}", handler_id=handler_id, job_method=job_method, **fields)
            for _ in range(count)
        ]

    def submit(self, rows) -> list[str]:
        """What the service does: place, insert, committed."""
        self.core.place(rows, self.now)
        if self.store_down:
            self.core.abandoned(rows, self.now)
        else:
            self.ledger.insert(rows)
            self.core.committed(rows, self.now)
        self.settle()
        return [row.id for row in rows]

    def run(self, count=1, **fields) -> list[str]:
        return self.submit(self.rows(count, **fields))

    def set_clock(self, by_s: float) -> None:
        """The server's wall clock is set, and the store moves what waits for a length of time."""
        self.wall_step_s += by_s
        self.ledger.clock_set(round(by_s * 1e6))
        self.expiries = self.ledger.expiries()
        self.core.clock_set(round(by_s * 1e6), self.now)
        self.settle()

    def cancel(self, execution_id: str) -> str:
        outcome, node_id, token = self.ledger.cancel(execution_id)
        if outcome == "requested":
            self.core.cancel(node_id, token, self.now)
        elif outcome == "cancelled":
            self.core.forget(frozenset([execution_id]))
        self.settle()
        return outcome

    def advance(self, seconds: float, *, alive=()) -> None:
        """Let time pass in ticks; peers in ``alive`` send heartbeats."""
        end_s = self.mono_s + seconds
        while self.mono_s < end_s - 1e-9:
            self.mono_s = min(self.mono_s + TICK_S, end_s)
            if self.wake_s is not None and self.wake_s < self.mono_s:
                # A timer comes before the next tick.
                self.mono_s, self.wake_s = max(self.wake_s, self.mono_s - TICK_S), None
                self.core.wake(self.now)
                self.settle()
                continue
            for peer in alive:
                peer.heartbeat()
            self.core.tick(self.now)
            self.settle()
            self.expire()

    def restart(self, known=None) -> None:
        """The server process is killed and started again; ``known``: the nodes that the store knows of, if not all."""
        if known is None:
            known = [node.record() for node in self.core.nodes.values()]
        self.epoch += 1
        self.held.clear()
        self.core = self._new_core()
        running = [record.as_row() for record in self.ledger.records.values() if record.state is State.RUNNING]
        waiting = {
            (record.row.handler_id, record.row.job_method, record.row.lane)
            for record in self.ledger.records.values()
            if record.state is State.PENDING
        }
        self.wake_s = None
        self.core.restore(known, running, sorted(waiting, key=str), self.now, list(self.buckets.values()))
        self.expiries = self.ledger.expiries()
        assert all(node.state is not NodeState.ONLINE for node in self.core.nodes.values())
        self.settle()

    # --- effects ----------------------------------------------------------------------------------

    def settle(self) -> None:
        while effects := self.core.take():
            for effect in effects:
                if self.holding and isinstance(effect, fx.RecordStart | fx.RecordEnd | fx.Refill | fx.Classify):
                    self.held.append(effect)
                else:
                    self.perform(effect)

    def release(self, count=None) -> None:
        """Commit what was held back."""
        self.holding = False
        held, self.held = self.held[:count], self.held[count:] if count is not None else []
        for effect in held:
            self.perform(effect)
            self.settle()

    def perform(self, effect) -> None:
        match effect:
            case fx.Send(peer, message):
                if peer in self.peers:
                    self.peers[peer].inbox.append(message)
                    if isinstance(message, m.Welcome):
                        self.peers[peer].s = message.s
            case fx.RecordStart(items, attempts):
                if self.store_down:
                    self.core.start_failed(attempts, self.now)
                else:
                    self.core.started(attempts, self.ledger.start(items), self.now)
            case fx.RecordEnd(items, attempts):
                if self.store_down:
                    self.core.record_failed(attempts, items)
                else:
                    self.core.recorded(attempts, self.ledger.end(items), self.now)
            case fx.RecordStarted(items):
                for item in items:
                    self.ledger[item.id].started_us = item.started_us
            case fx.RecordStale(rows, peer, ack):
                self.ledger.stale.extend(rows)
                if peer in self.peers:
                    self.peers[peer].inbox.append(ack)
            case fx.Classify(peer, s, items):
                verdicts = {item.token: self.ledger.classify(item.id, item.token) for item in items}
                self.core.classified(peer, s, items, verdicts, self.now)
            case fx.Refill(lane, limit, max_bytes, without):
                self.refills.append(lane)
                rows, more = self.ledger.pending(lane, limit, max_bytes, without)
                self.core.refilled(lane, rows, self.now, more=more)
            case fx.CancelAgain(ids):
                for execution_id in ids:
                    self.cancel(execution_id)
            case fx.NodeChanged(node, reason):
                self.node_changes.append((node.node_id, node.state, reason))
            case fx.NodeOperated(node, why):
                self.operated.append((node.node_id, node.operation, why))
            case fx.Note(event, fields):
                self.notes.append((event, fields))
            case fx.WakeAt(mono_s):
                self.wake_s = mono_s
            case fx.KeepBuckets(rows):
                self.buckets.update({(row.kind, row.name): row for row in rows})
            case fx.ExpiresAt(wall_us):
                self.expiries.append(wall_us)
            case fx.DueAt(_) | fx.NodeForgotten(_):
                pass
            case _:
                raise AssertionError(effect)

    def expire(self) -> None:
        """The timer: it knows of no moment but those that the core told, and those that it found at the start."""
        now_us = self.now.wall_us
        if any(us <= now_us for us in self.expiries):
            self.expiries = [us for us in self.expiries if us > now_us]
            self.ledger.misfire(now_us)

    def operate(self, node_id: str, kind: str | None, *, deadline_s: float | None = None, note: str = "") -> None:
        """What the dispatcher does once an operator's word is committed; None releases."""
        now = self.now
        until_us = None if deadline_s is None else now.wall_us + round(deadline_s * 1e6)
        operation = None
        if kind is not None:
            operation = NodeOperation(
                kind=OperationKind(kind), since_us=now.wall_us, until_us=until_us, note=note, by="ann"
            )
        self.core.operate(node_id, operation, now)
        self.settle()

    def release_due(self) -> None:
        self.core.committed(self.ledger.release_due(self.now.wall_us), self.now)
        self.settle()
