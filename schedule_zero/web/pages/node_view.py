"""Nodes as their pages show them: which of them are meant, what is worth a warning, what happened to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct

from schedule_zero.dispatch.views import NodeView
from schedule_zero.model import NodeState, OperationKind
from schedule_zero.store.node_history import NodeEvent
from schedule_zero.web.pages.words import plural

# Nodes of one page.
PER_PAGE = 50
# What people should look at: a clock this far off, a heartbeat that takes this long.
SKEW_S = 1.0
ROUND_TRIP_S = 0.5
OPERATION_WORDS = {
    OperationKind.CORDON: "cordoned",
    OperationKind.DRAIN: "drained",
    OperationKind.QUARANTINE: "quarantined",
}
HISTORY_WORDS = {
    "node.online": "connected",
    "node.suspect": "silent",
    "node.lost": "lost",
    "node.offline": "said goodbye",
    "node.cordoned": "cordoned",
    "node.drained": "drained",
    "node.quarantined": "quarantined",
    "node.released": "released",
}


class Row(Struct, frozen=True, kw_only=True):
    """One node in the list."""

    node: NodeView
    # ``drained``, ``draining``, ``probation``, ``stopping``: beside its state.
    tags: list[str]
    warnings: list[str]
    labels: list[str]


class Sums(Struct, frozen=True, kw_only=True):
    """All nodes in numbers."""

    total: int
    online: int
    silent: int
    lost: int
    offline: int
    out: int
    slots: int
    running: int
    outbox: int


class Happened(Struct, frozen=True, kw_only=True):
    """One line of a node's history."""

    at_us: int
    word: str
    by: str
    note: str
    until_us: int | None
    instance: str
    host: str


def sums(nodes: Iterable[NodeView]) -> Sums:
    """Of all of them, whatever is filtered."""
    nodes = list(nodes)
    states = Counter(node.state for node in nodes)
    here = [node for node in nodes if node.heartbeat_age_s is not None]
    return Sums(
        total=len(nodes),
        online=states[NodeState.ONLINE],
        silent=states[NodeState.SUSPECT],
        lost=states[NodeState.LOST],
        offline=states[NodeState.OFFLINE],
        out=sum(node.operation is not None for node in nodes),
        slots=sum(node.slots for node in here),
        running=sum(node.running for node in here),
        outbox=sum(node.outbox for node in here),
    )


def matching(nodes: Iterable[NodeView], q: str, state: str, handler: str) -> list[NodeView]:
    """Those that are meant, by id. ``q``: words that each stand in its id, host, version or labels."""
    wanted = q.lower().split()
    return sorted(
        (
            node
            for node in nodes
            if (not state or _is_in(node, state))
            and (not handler or handler in node.handlers)
            and all(word in _text(node) for word in wanted)
        ),
        key=lambda node: node.node_id,
    )


def _is_in(node: NodeView, state: str) -> bool:
    return node.operation is not None if state == "out" else node.state.value == state


def _text(node: NodeView) -> str:
    labels = " ".join(f"{name}={value}" for name, value in node.labels.items())
    return f"{node.node_id} {node.host} {node.version} {labels}".lower()


def row(node: NodeView) -> Row:
    """What the list shows of it."""
    return Row(node=node, tags=tags(node), warnings=warnings(node), labels=labels(node.labels))


def tags(node: NodeView) -> list[str]:
    """What keeps it from taking new work, in one word each."""
    found = []
    operation = node.operation
    if operation is not None:
        if node.probation:
            found.append("probation")
        elif operation.kind is OperationKind.DRAIN and node.running:
            found.append("draining")
        else:
            found.append(OPERATION_WORDS[operation.kind])
    elif node.draining and node.heartbeat_age_s is not None:
        found.append("stopping")
    return found


def warnings(node: NodeView) -> list[str]:
    """What somebody should look at."""
    found = []
    if node.clock_skew_s is not None and abs(node.clock_skew_s) >= SKEW_S:
        way = "ahead of" if node.clock_skew_s > 0 else "behind"
        found.append(f"Its clock is {abs(node.clock_skew_s):.3g} s {way} the server's.")
    if node.round_trip_s is not None and node.round_trip_s >= ROUND_TRIP_S:
        found.append(f"A heartbeat and its answer take {node.round_trip_s:.3g} s.")
    if node.outbox:
        found.append(f"{plural(node.outbox, 'result')} on its disk, not recorded yet.")
    return found


def labels(values: dict[str, str]) -> list[str]:
    """``zone=eu``; a label without a value is its name."""
    return [name if value in ("", "true") else f"{name}={value}" for name, value in sorted(values.items())]


def happened(events: Sequence[NodeEvent]) -> list[Happened]:
    """A node's history in words."""
    return [
        Happened(
            at_us=event.at_us,
            word=HISTORY_WORDS.get(event.kind, event.kind.partition(".")[2]),
            by=str(event.data.get("by") or ("the server" if "by" in event.data else "")),
            note=str(event.data.get("note") or ""),
            until_us=event.data.get("until_us"),
            instance=str(event.data.get("instance") or ""),
            host=str(event.data.get("host") or ""),
        )
        for event in events
    ]
