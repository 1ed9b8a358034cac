"""Nodes taken out of service, and back: cordon, drain, quarantine, release. A part of the core (pure).

At most one operation is on a node; the newest word counts, and an operator's before the server's own.

    (in service) ──cordon──► cordon                    what it holds goes on, queued or running
         │        ──drain───► drain ··deadline··►      unstarted work comes back; at the deadline what runs, too
         │        ──quarantine─► quarantine ──time──► on probation ──one completes──► (in service)
         │                          ▲────────one fails, twice as long───┘
         ▲─────────────────────release from any─────────

* An operator's word is committed first, then it counts here. What is being committed as started meanwhile is not sent:
  ``Placing.launch`` looks again.
* The server's own (quarantine, its end) counts here at once, so that no further job fails, and is committed after. The
  store refuses it where an operator's word is in force, which arrives here as well; see ``Recorder.node_operated``.
* The deadline is kept by the node, which is told how much is left at each HELLO: so it holds while the two are apart,
  and over the restart of either. A node forgets an operator's drain with its session; who is released while it is away
  takes work when it is back.
* The deadline is stored in wall time, and counted monotonically from when it was said or loaded (C12).
* Of a quarantined node that is the last one for a method nothing would go on: it is on probation at once.
"""

from __future__ import annotations

from schedule_zero.config import DispatchConfig
from schedule_zero.dispatch.effects import Collector, NodeOperated, Now
from schedule_zero.dispatch.health import Health
from schedule_zero.dispatch.placing import Placing
from schedule_zero.dispatch.sessions import LiveNode
from schedule_zero.model import NodeOperation, OperationKind
from schedule_zero.rules import quarantine as rules
from schedule_zero.wire.messages import ServerDrain


class Operations:
    """Which nodes are out of service, and why."""

    def __init__(
        self, config: DispatchConfig, nodes: dict[str, LiveNode], placing: Placing, health: Health, out: Collector
    ) -> None:
        self._first_s = config.quarantine_s
        self._nodes = nodes
        self._placing = placing
        self._health = health
        self._out = out

    def operate(self, node_id: str, operation: NodeOperation | None, now: Now) -> LiveNode | None:
        """An operator's word is committed; None releases. Returns the node, if there is one."""
        node = self._nodes.get(node_id)
        if node is not None and node.operation != operation:
            self._apply(node, operation, now)
        elif node is not None:
            self._send(node, now)
        return node

    def restore(self, node: LiveNode, now: Now) -> None:
        """As the store remembers it: count the rest of its time."""
        node.until_s = _until_s(node.operation, now)

    def tell(self, node: LiveNode, now: Now) -> None:
        """Tell a node that says HELLO what it can't know."""
        if _hands_back(node):
            self._send(node, now)

    def judge(self, now: Now) -> None:
        """Carry out what ``Health`` found."""
        verdicts, self._health.verdicts = self._health.verdicts, []
        for verdict in verdicts:
            node, before = verdict.node, verdict.node.operation
            if self._nodes.get(node.node_id) is not node:
                continue
            if verdict.against and (before is None or node.probation):
                if self._may_go(node):
                    self._quarantine(node, before, verdict.why, now)
                else:
                    self._out.note("node_not_quarantined", node_id=node.node_id, reason=verdict.why)
            elif not verdict.against and node.probation:
                self._apply(node, None, now)
                self._out.other.append(NodeOperated(node.record(), verdict.why))

    def watch(self, node: LiveNode, now: Now) -> None:
        """See whether it is time for probation (of a connected node)."""
        if node.quarantined and not node.probation and (now.mono_s >= node.until_s or self._is_last(node)):
            node.probation = True
            self._out.note("node_on_probation", node_id=node.node_id)
            self._changed(node, now)

    def _quarantine(self, node: LiveNode, before: NodeOperation | None, why: str, now: Now) -> None:
        if before is None:
            times = rules.times_in_a_row(node.quarantines, now.mono_s - node.released_s)
        else:
            times = before.times + 1
        until_us = now.wall_us + round(rules.probation_after_s(self._first_s, times) * 1e6)
        operation = NodeOperation(
            kind=OperationKind.QUARANTINE, since_us=now.wall_us, until_us=until_us, note=why, times=times
        )
        self._apply(node, operation, now)
        self._out.other.append(NodeOperated(node.record(), why))

    def _apply(self, node: LiveNode, operation: NodeOperation | None, now: Now) -> None:
        before = node.operation
        if before is not None and before.kind is OperationKind.QUARANTINE:
            node.quarantines, node.released_s = before.times, now.mono_s
        node.operation = operation
        node.until_s = _until_s(operation, now)
        node.probation = False
        node.failing.clear()
        node.losses.clear()
        self._changed(node, now)

    def _changed(self, node: LiveNode, now: Now) -> None:
        node.refresh()
        self._send(node, now)
        self._placing.pull(node, now)

    def _send(self, node: LiveNode, now: Now) -> None:
        session, operation = node.session, node.operation
        if session is None:
            return
        deadline_s = None
        if operation is not None and operation.kind is OperationKind.DRAIN and operation.until_us is not None:
            deadline_s = max(node.until_s - now.mono_s, 0.0)
        self._out.send(session.peer, ServerDrain(s=session.s, on=_hands_back(node), deadline_s=deadline_s))

    def _may_go(self, node: LiveNode) -> bool:
        """Whether enough nodes are left for all that this one serves."""
        for lane in node.lanes:
            others = [other for other in lane.nodes if other is not node]
            if not rules.enough_left(sum(other.open for other in others), len(others) + 1):
                return False
        return True

    def _is_last(self, node: LiveNode) -> bool:
        session = node.session
        return session is not None and session.ready and any(not any(o.open for o in lane.nodes) for lane in node.lanes)


def _hands_back(node: LiveNode) -> bool:
    """Whether it is to hand back what it has not started."""
    return node.operation is not None and node.operation.kind is not OperationKind.CORDON and not node.probation


def _until_s(operation: NodeOperation | None, now: Now) -> float:
    if operation is None or operation.until_us is None:
        return 0.0
    return now.mono_s + (operation.until_us - now.wall_us) / 1e6
