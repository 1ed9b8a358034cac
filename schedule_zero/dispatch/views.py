"""What the dispatcher shows of itself: nodes, progress, counters."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from schedule_zero.dispatch.sessions import LOOSE, LiveNode
from schedule_zero.model import NodeOperation, NodeState, Reached


class NodeView(Struct, kw_only=True):
    """One node as the API shows it. Times that depend on a session are None without one."""

    node_id: str
    state: NodeState
    handlers: list[str]
    slots: int
    running: int
    window: int
    outbox: int
    # It hands back what it has not started: drained by an operator, or stopping (SIGTERM).
    draining: bool
    operation: NodeOperation | None
    # Quarantined, and tried with one attempt at a time.
    probation: bool
    heartbeat_age_s: float | None
    round_trip_s: float | None
    clock_skew_s: float | None
    version: str
    host: str
    pid: int
    instance: str
    connected_us: int | None
    last_seen_us: int
    labels: dict[str, str]
    facts: dict[str, str]


class ProgressView(Struct, kw_only=True):
    """The newest progress of an attempt that runs, or the last one of an attempt that is over."""

    percent: float | None
    text: str
    at_us: int
    # Seconds until 100 %, by how it came forward; None while that can't be said.
    eta_s: float | None = None


_reached = msgspec.json.Decoder(Reached).decode


def reached(document: bytes | None) -> ProgressView | None:
    """From what is stored of an attempt that is over."""
    if document is None:
        return None
    last = _reached(document)
    return ProgressView(percent=last.percent, text=last.text, at_us=last.at_us)


class DispatchStats(Struct):
    """Counters since the start, for /metrics."""

    messages_in: int = 0
    messages_out: int = 0
    # Sends to a peer that was gone or did not read; the protocol repeats what matters.
    sends_failed: int = 0
    dispatched: int = 0
    resends: int = 0
    results: int = 0
    results_duplicate: int = 0
    results_stale: int = 0
    attempts_lost: int = 0
    # Executions that were not started in time.
    misfired: int = 0
    nodes_lost: int = 0
    nodes_denied: int = 0
    nodes_quarantined: int = 0
    bad_messages: int = 0
    peers_dropped: int = 0
    # Messages whose key was not that of their session, or not in force.
    wrong_keys: int = 0
    # Connections that were closed because they were nobody's for too long, or sent what makes no message.
    connections_closed: int = 0
    # Of jobs' logs, stored; and messages of them that found too many waiting.
    log_lines: int = 0
    log_bytes: int = 0
    logs_refused: int = 0
    log_lines_left_out: int = 0
    # A message or an outcome that our own code could not handle.
    internal_errors: int = 0


def node_view(node: LiveNode, now_s: float) -> NodeView:
    """The node as it is now."""
    session = node.session
    return NodeView(
        node_id=node.node_id,
        state=node.state,
        handlers=list(node.handlers),
        slots=node.slots,
        # What waits for an operator since its node gave it up does not run there any more.
        running=sum(att.phase != LOOSE for att in node.attempts.values()),
        window=node.window if session is not None else 0,
        outbox=node.outbox,
        draining=node.leaving or node.drained,
        operation=node.operation,
        probation=node.probation,
        heartbeat_age_s=None if session is None else round(max(now_s - node.heard_s, 0.0), 3),
        round_trip_s=None if session is None else node.round_trip_s,
        clock_skew_s=None if session is None else node.clock_skew_s,
        version=node.version,
        host=node.host,
        pid=node.pid,
        instance=node.instance.id,
        connected_us=None if session is None else session.since_us,
        last_seen_us=node.last_seen_us,
        labels=dict(node.labels),
        facts=dict(node.told),
    )
