"""Nodes as the core sees them: their processes, sessions and attempts, and who may have which node id.

Data and one decision (``admit``); the events that change them are in ``core``.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, field

from schedule_zero.model import Execution, Node, NodeOperation, NodeState, OperationKind
from schedule_zero.rules.ending import Ending
from schedule_zero.wire.messages import Deny, Hello

if TYPE_CHECKING:
    from schedule_zero.dispatch.gates import Bucket, Gate
    from schedule_zero.dispatch.lanes import Lane

# The phases of an attempt; what leads from one to the next stands at the head of ``core``.
PLACED = 0  # born running; its insert is being committed
STARTING = 1  # taken from a lane; its start is being committed
UNSENT = 2  # committed, but its node is just synchronising
SENT = 3
ACCEPTED = 4
ENDING = 5  # the node's outcome is being committed
LOSING = 6  # the server's decision about it is being committed
REPORTED = 7  # the node's outcome could not be committed; the node repeats it
UNRECORDED = 8  # the server's decision could not be committed; it is tried again
LOOSE = 9  # lost, its lease over, its job's policy is to wait for an operator

# In these it takes one place of the node's window.
COUNTED = frozenset({PLACED, STARTING, UNSENT, SENT, ACCEPTED})
# In these its node may hold it, so it is lost when the lease is over.
HELD = frozenset({SENT, ACCEPTED, REPORTED})


class Instance(Struct, eq=False):
    """One process of a node: what its attempts hang on, and the end of the lease that they share."""

    id: str
    epoch: int
    identity: str
    # Attempts with tokens up to this were given to earlier processes of the node, all others to this one. So after a
    # restart of the server, too, it is known whose they are.
    since_token: int
    # Monotonic: the last moment in which this process may believe in its attempts.
    lease_end_s: float
    # Known to be dead, or to hold nothing any more: the lease needs no waiting for.
    over: bool = False
    # Attempts of it were lost, and that is counted (``health``).
    lost_with_work: bool = False


class LiveAttempt(Struct, eq=False, gc=False):
    """A current attempt of an execution; at most one exists per execution."""

    row: Execution
    node: LiveNode
    instance: Instance
    lane: Lane
    token: int
    phase: int
    ending: Ending | None = None
    # How many of its node's slots it takes.
    weight: int = 1
    # What counts it while it runs, and the tokens that its start took: (bucket, full before, full after).
    gates: tuple[Gate, ...] = ()
    spent: tuple[tuple[Bucket, int, int], ...] = ()


class Session(Struct, eq=False):
    """One live connection of a node."""

    s: str
    peer: bytes
    node: LiveNode
    since_us: int
    # The public key with which it came (CURVE), to which its messages are held.
    key: str = ""
    # Syncing until the first CREDIT: the outbox comes first.
    ready: bool = False
    # Tokens that HELLO named as held.
    confirmed: frozenset[int] = frozenset()


class LiveNode(Struct, eq=False):
    """One node id, connected or not, with the attempts that the store says are on it."""

    node_id: str
    state: NodeState
    heard_s: float
    instance: Instance
    session: Session | None = None
    attempts: dict[int, LiveAttempt] = field(default_factory=dict)
    # Every attempt weighs the same for it.
    by_count: bool = False
    # The weight of the attempts that it holds or is about to be sent, and how much it is willing to hold.
    held: int = 0
    window: int = 0
    # What its last CREDIT said; the window is smaller on probation.
    asked: int = 0
    # Whether it may be given work, and whether it takes new work now (``refresh``).
    accepting: bool = True
    open: bool = False
    # Cordon, drain or quarantine (``operations``), and the monotonic moment of ``until_us``.
    operation: NodeOperation | None = None
    until_s: float = 0.0
    # Quarantined, and it gets one attempt at a time.
    probation: bool = False
    # By itself (SIGTERM).
    leaving: bool = False
    # How it does (``health``): when each method last completed and failed here, monotonic; the executions that failed
    # since the last one that completed; when processes were lost with work.
    completed_s: dict[Lane, float] = field(default_factory=dict)
    failed_s: dict[Lane, float] = field(default_factory=dict)
    failing: dict[str, Lane] = field(default_factory=dict)
    losses: deque[float] = field(default_factory=deque)
    # How many quarantines in a row the last one was, and when that ended.
    quarantines: int = 0
    released_s: float = float("-inf")
    # When it was last given work, for fairness among equals.
    turn: int = 0
    # The (handler, method) pairs that it serves, and the lanes of those that it may run.
    serves: frozenset[tuple[str, str]] = frozenset()
    lanes: list[Lane] = field(default_factory=list)
    # What it was labelled with, what it tells of itself, and all that together: what conditions are asked of.
    labels: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    # Handler → when it last had a turn here (wall time, and which of all turns), where there are several.
    served: dict[str, tuple[int, int]] = field(default_factory=dict)
    # It gets nothing else until this lane's next one, which is heavy, has room.
    saving: Lane | None = None
    # (when sent, tokens), to be sent again unless accepted.
    unanswered: deque[tuple[float, list[int]]] = field(default_factory=deque)
    # token → when CANCEL was last sent.
    cancels: dict[int, float] = field(default_factory=dict)
    handlers: list[str] = field(default_factory=list)
    slots: int = 0
    # Results in its outbox, as of its last heartbeat.
    outbox: int = 0
    # Between HEARTBEAT and HB_ACK, and how far its wall clock is ahead of ours; for people, nothing depends on them.
    round_trip_s: float | None = None
    clock_skew_s: float | None = None
    version: str = ""
    host: str = ""
    pid: int = 0
    last_seen_us: int = 0
    first_seen_us: int = 0

    def know(self, labels: Mapping[str, str], told: Mapping[str, str]) -> None:
        """What it was labelled with, and what it tells of itself."""
        self.labels, self.told = dict(labels), dict(told)
        self.facts = {**self.labels, **self.told, "node": self.node_id}

    def refresh(self) -> None:
        session = self.session
        self.accepting = not self.leaving and (self.operation is None or self.probation)
        self.open = self.accepting and session is not None and session.ready and self.state is NodeState.ONLINE
        self.window = min(self.asked, 1) if self.probation else self.asked

    @property
    def quarantined(self) -> bool:
        return self.operation is not None and self.operation.kind is OperationKind.QUARANTINE

    @property
    def drained(self) -> bool:
        """An operator wants it empty."""
        return self.operation is not None and self.operation.kind is OperationKind.DRAIN

    def count_by_head(self) -> None:
        """A bot asks for so many, whatever they weigh. (What a server finds at its start weighs what its job does.)"""
        self.by_count = True
        for att in self.attempts.values():
            att.weight = 1

    def fits(self, weight: int, lane: Lane) -> bool:
        """Whether it has room for so much. What is too heavy for every node of its lane runs alone."""
        if self.held + (1 if self.by_count else weight) <= self.window:
            return True
        return not self.held and self.window > 0 and weight > max((node.slots for node in lane.nodes), default=0)

    def record(self) -> Node:
        """The node as the store keeps it."""
        return Node(
            node_id=self.node_id,
            instance=self.instance.id,
            epoch=self.instance.epoch,
            state=self.state,
            handlers=self.handlers,
            slots=self.slots,
            operation=self.operation,
            version=self.version,
            host=self.host,
            pid=self.pid,
            identity=self.instance.identity,
            since_token=self.instance.since_token,
            first_seen_us=self.first_seen_us,
            last_seen_us=self.last_seen_us,
            labels=self.labels,
            facts=self.told,
        )


def identity_of(state_key: str) -> str:
    """What is stored of the secret in a node's state directory."""
    return hashlib.sha256(state_key.encode()).hexdigest()


def succeeds(hello: Hello, incumbent: Instance) -> bool:
    """Whether the newcomer holds the incumbent's state directory, whose lock outlives no process (C18)."""
    return bool(incumbent.identity) and (
        identity_of(hello.state_key) == incumbent.identity and hello.epoch > incumbent.epoch
    )


def superseded(incumbent: Instance, successor: Hello) -> Deny:
    """What an incumbent is told, should it be alive, when its successor comes."""
    return _stale(incumbent.epoch, successor.epoch)


def _stale(epoch: int, later: int) -> Deny:
    return Deny(
        code="stale_epoch",
        reason=f"a later process than this one (start {epoch}) was started from the same state directory, or from a "
        f"copy of it (start {later})",
    )


def admit(node: LiveNode | None, hello: Hello, *, now_s: float, margin_s: float) -> Deny | None:
    """Whether ``hello`` may have its node id: why not, or None.

    The incumbent itself and its successor always may. Anyone else waits until the incumbent is not
    alive and its lease is over; while it is alive, waiting is no use and the newcomer is told to go.
    """
    if node is None or node.instance.id == hello.instance or succeeds(hello, node.instance):
        return None
    incumbent = node.instance
    if incumbent.identity and identity_of(hello.state_key) == incumbent.identity:
        return _stale(hello.epoch, incumbent.epoch)
    where = f" on {node.host!r}, pid {node.pid}" if node.host else ""
    if node.session is not None and node.state is NodeState.ONLINE:
        return Deny(
            code="duplicate_node",
            reason=f"node id {node.node_id!r} is in use by a living process{where}; choose another --node-id",
        )
    wait_s = incumbent.lease_end_s + margin_s - now_s
    if (node.session is not None or wait_s > 0) and not incumbent.over:
        return Deny(
            code="duplicate_node",
            reason=f"node id {node.node_id!r} belongs to a process{where} that is silent now; "
            f"its lease ends in {max(wait_s, 0):.0f} s",
            retry=True,
        )
    return None
