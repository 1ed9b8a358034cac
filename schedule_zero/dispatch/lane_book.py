"""The lanes, and which nodes may run what is in them: worked out once for each lane and session, never for a job.

A part of the core (pure). A plain lane (a method and nothing more) is there for good. Routed ones are as many as people
think of: they begin with the first execution of their kind, and are forgotten when nothing was in them for a while.

* A lane begins: every node with a session that serves the method and matches gets it (at once, or with its first
  credit).
* A node says HELLO: it gets the lanes of its methods that it matches *now*; a label may be another one than last time.
* Nobody matches: what comes waits in the store and costs no memory, and ``why_nobody`` says what each node lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from schedule_zero.config import DispatchConfig
from schedule_zero.dispatch.effects import Now
from schedule_zero.dispatch.gates import Gates
from schedule_zero.dispatch.lanes import Lane
from schedule_zero.dispatch.operator_limits import OperatorLimits
from schedule_zero.dispatch.sessions import LiveNode
from schedule_zero.model import LaneKey
from schedule_zero.rules.birth import lane_of
from schedule_zero.rules.routing import lacks, match

# A routed lane in which nothing was for so long is forgotten; it is made again when there is something.
FORGET_LANE_S = 60.0
# So many nodes are named in an answer to "why does nobody run this?".
NAMED_NODES = 5


class LaneBook:
    """All lanes of one core."""

    def __init__(
        self, config: DispatchConfig, operator: OperatorLimits, gates: Gates, nodes: Mapping[str, LiveNode]
    ) -> None:
        self._config = config
        self._operator = operator
        self._gates = gates
        self._nodes = nodes
        # The lanes of each job method.
        self._siblings: dict[tuple[str, str], list[Lane]] = {}
        self.lanes: dict[LaneKey, Lane] = gates.lanes

    def lane(self, handler_id: str, job_method: str, text: str | None = None) -> Lane:
        """The lane of this key, made if there is none."""
        lane = self.lanes.get((handler_id, job_method, text))
        if lane is None:
            limit = self._operator.of(handler_id)
            config = self._config
            lane = Lane(
                handler_id,
                job_method,
                config.window,
                config.window_bytes,
                text=text,
                limit=limit,
                timeout_cap_s=self._operator.timeout_cap_s(handler_id),
            )
            if limit is not None:
                limit.lanes.append(lane)
            self._gates.adopt(lane)
            self.lanes[lane.key] = lane
            self._siblings.setdefault((handler_id, job_method), []).append(lane)
            self._find_nodes(lane)
        return lane

    def lanes_for(self, node: LiveNode, served: Iterable[tuple[str, str]]) -> list[Lane]:
        """The lanes of the methods that ``node`` serves from now on; those that begin later join by themselves."""
        node.serves = frozenset(served)
        lanes: list[Lane] = []
        for pair in dict.fromkeys(served):
            self.lane(*pair)
            lanes += [lane for lane in self._siblings[pair] if lane.suits(node)]
        return lanes

    def stop_serving(self, node: LiveNode, handler_id: str, job_method: str) -> bool:
        """``node`` doesn't know the method after all; whether it was thought to."""
        pair = (handler_id, job_method)
        if pair not in node.serves:
            return False
        node.serves -= {pair}
        for lane in [lane for lane in node.lanes if (lane.handler_id, lane.job_method) == pair]:
            node.lanes.remove(lane)
            lane.leave(node)
        return True

    def _find_nodes(self, lane: Lane) -> None:
        pair = (lane.handler_id, lane.job_method)
        for node in self._nodes.values():
            session = node.session
            if session is not None and pair in node.serves and lane.suits(node):
                node.lanes.append(lane)
                if session.ready:
                    lane.join(node)

    def forget_unused(self, now: Now) -> None:
        """Called by the tick."""
        for lane in [lane for lane in self.lanes.values() if lane.choice is not None]:
            if not lane.unused:
                lane.idle_since_s = None
            elif lane.idle_since_s is None:
                lane.idle_since_s = now.mono_s
            elif now.mono_s - lane.idle_since_s >= FORGET_LANE_S:
                self._forget(lane)

    def _forget(self, lane: Lane) -> None:
        del self.lanes[lane.key]
        self._siblings[lane.handler_id, lane.job_method].remove(lane)
        if lane.limit is not None:
            lane.limit.lanes.remove(lane)
        for node in self._nodes.values():
            if lane in node.lanes:
                node.lanes.remove(lane)
            node.completed_s.pop(lane, None)
            node.failed_s.pop(lane, None)

    # --- asking -----------------------------------------------------------------------------------

    def _matching(self, key: LaneKey) -> list[LiveNode]:
        """The nodes that may run what is in this lane: those with a session, drained ones too."""
        spec = lane_of(key[2])
        return [
            node
            for node in self._nodes.values()
            if node.session is not None and key[:2] in node.serves and match(spec, node.facts, node.slots) is not None
        ]

    def takers(self, key: LaneKey) -> list[str]:
        """The nodes that may run what is in this lane and are meant to take new work, by id."""
        return sorted(node.node_id for node in self._matching(key) if node.accepting)

    def why_nobody(self, key: LaneKey) -> str | None:
        """Why no node may run what is in this lane, in words; None: there is one."""
        if self._matching(key):
            return None
        serving = [node for node in self._nodes.values() if node.session is not None and key[:2] in node.serves]
        if not serving:
            return f"no node that serves {key[0]}.{key[1]} is connected"
        spec = lane_of(key[2])
        asked = ([f"node == {spec.node}"] if spec.node is not None else []) + list(spec.require)
        reasons = [
            f"{node.node_id} lacks {', '.join(lacks(spec, node.facts))}"
            for node in sorted(serving, key=lambda node: node.node_id)[:NAMED_NODES]
        ]
        more = f"; and {len(serving) - NAMED_NODES} more" if len(serving) > NAMED_NODES else ""
        return f"no node matches require [{', '.join(asked)}]: {'; '.join(reasons)}{more}"

    def unserved(self) -> list[LaneKey]:
        """Lanes in which something waits, or did when a node was last there, that no connected node may run."""
        return [key for key, lane in self.lanes.items() if lane.overflow and not lane.nodes]
