"""Who is connected: sessions from HELLO to BYE, liveness, leases, and whose attempts are whose.

A part of the core (pure); the states and what can go wrong are told at the head of ``core``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from schedule_zero.config import DispatchConfig, LimitsConfig
from schedule_zero.dispatch.effects import Collector, NodeChanged, NodeForgotten, Now
from schedule_zero.dispatch.endings import Endings
from schedule_zero.dispatch.operations import Operations
from schedule_zero.dispatch.placing import Placing
from schedule_zero.dispatch.sessions import (
    ACCEPTED,
    COUNTED,
    ENDING,
    HELD,
    LOSING,
    PLACED,
    REPORTED,
    SENT,
    STARTING,
    UNRECORDED,
    UNSENT,
    Instance,
    LiveAttempt,
    LiveNode,
    Session,
    admit,
    identity_of,
    succeeds,
    superseded,
)
from schedule_zero.model import Execution, Node, NodeState
from schedule_zero.rules.ending import CANCELLED
from schedule_zero.wire.messages import (
    MAX_BATCH,
    PROTOCOL_VERSION,
    Cancel,
    Credit,
    Deny,
    ErrorMessage,
    HbAck,
    Heartbeat,
    Hello,
    Welcome,
)

# Whatever a node asks for, it never holds more than this.
MAX_WINDOW = 20_000
# A node that has been away for so long, and holds nothing, is forgotten.
FORGET_S = 24 * 3600.0
# The shell ticks twice a second; a longer gap is the server's own standstill.
TICK_S = 0.5
STALL_S = 2.0
_UNDER_WAY = frozenset({PLACED, STARTING, ENDING, LOSING})


class Membership:
    """The nodes and their sessions."""

    def __init__(
        self,
        config: DispatchConfig,
        nodes: dict[str, LiveNode],
        placing: Placing,
        endings: Endings,
        operations: Operations,
        out: Collector,
        *,
        new_session_id: Callable[[], str],
        server_version: str,
        limits: LimitsConfig | None = None,
    ) -> None:
        self._config = config
        self._placing = placing
        self._endings = endings
        self._operations = operations
        self._out = out
        self._new_session_id = new_session_id
        self._server_version = server_version
        self._limits = limits or LimitsConfig()
        self._last_tick_s: float | None = None
        self.nodes = nodes
        self.sessions: dict[bytes, Session] = {}
        # Those that were connected when the last server ended, and until when they have to be back.
        self._awaited: list[LiveNode] = []
        self._awaited_until_s = 0.0

    def restore(self, known: Iterable[Node], now: Now) -> None:
        """Nodes from before the server's start have a full lease from now to come back with their work (C11)."""
        lease_end_s = now.mono_s + self._config.lease_s
        for one in known:
            offline = one.state is NodeState.OFFLINE
            node = self.nodes[one.node_id] = LiveNode(
                one.node_id,
                one.state if offline or one.state is NodeState.LOST else NodeState.SUSPECT,
                now.mono_s,
                Instance(one.instance, one.epoch, one.identity, one.since_token, lease_end_s, over=offline),
                operation=one.operation,
                handlers=one.handlers,
                slots=one.slots,
                version=one.version,
                host=one.host,
                pid=one.pid,
                first_seen_us=one.first_seen_us,
                last_seen_us=one.last_seen_us,
            )
            node.know(one.labels, one.facts)
            self._operations.restore(node, now)
            if node.state is NodeState.SUSPECT:
                self._awaited.append(node)
        self._awaited_until_s = lease_end_s

    def awaits_nodes(self, mono_s: float) -> bool:
        """Whether one that was connected before the server's start may still be on its way back."""
        if self._awaited:
            away = [node for node in self._awaited if node.session is None and not node.instance.over]
            # Once back, it counts as any other.
            self._awaited = away if mono_s < self._awaited_until_s else []
        return bool(self._awaited)

    def holders(self, running: Iterable[Execution], now: Now) -> Iterator[tuple[Execution, LiveNode, Instance]]:
        """Who has what the store says is running: the node (made up if it was forgotten), and which process of it."""
        # Of those that came before, no more is known than that they are over: one stands for all of a node's.
        earlier: dict[str, Instance] = {}
        for row in running:
            node_id = row.node_id or ""
            node = self.nodes.get(node_id)
            if node is None:
                instance = Instance("", 0, "", 0, now.mono_s + self._config.lease_s)
                node = self.nodes[node_id] = LiveNode(node_id, NodeState.LOST, now.mono_s, instance)
            instance = node.instance
            if row.token > instance.since_token:
                instance.over = False
            elif node_id in earlier:
                instance = earlier[node_id]
            else:
                instance = earlier[node_id] = Instance("", 0, "", 0, instance.lease_end_s, over=True)
            yield row, node, instance

    # --- sessions ---------------------------------------------------------------------------------

    def refusal(self, hello: Hello, now: Now) -> Deny | None:
        """Whether ``hello`` would be denied now, before anything of it is stored."""
        if hello.protocol != PROTOCOL_VERSION:
            return Deny(
                code="protocol_version",
                reason=f"this server speaks protocol {PROTOCOL_VERSION}, the node speaks {hello.protocol}",
            )
        if self._placing.closing:
            return Deny(code="draining", reason="the server is stopping", retry=True)
        margin_s = self._config.lease_margin_s
        return admit(self.nodes.get(hello.node_id), hello, now_s=now.mono_s, margin_s=margin_s)

    def hello(self, peer: bytes, hello: Hello, served: Iterable[tuple[str, str]], now: Now, *, key: str = "") -> None:
        """A node wants a session; ``served`` are the (handler, method) pairs of it that are allowed."""
        denial = self.refusal(hello, now)
        if denial is not None:
            self._out.send(peer, denial)
            self._out.note("node_denied", node_id=hello.node_id, code=denial.code, reason=denial.reason)
            return
        before = self.sessions.get(peer)
        if before is not None and before.node.node_id != hello.node_id:
            self._lose(before.node, now, "said HELLO as another node")
        node = self._take_over(peer, hello, now)
        session = Session(
            self._new_session_id(),
            peer,
            node,
            now.wall_us,
            key=key,
            confirmed=frozenset([held.token for held in hello.running]),
        )
        node.session = self.sessions[peer] = session
        node.state = NodeState.ONLINE
        node.heard_s = now.mono_s
        node.last_seen_us = now.wall_us
        node.round_trip_s = node.clock_skew_s = None
        node.instance.lease_end_s = now.mono_s + self._config.lease_s
        # A label or fact may be another one than the last time: who may run what is decided anew.
        node.know(hello.labels, hello.facts)
        node.slots, node.version, node.host, node.pid = hello.slots, hello.version, hello.host, hello.pid
        node.lanes = self._placing.book.lanes_for(node, list(served))
        node.handlers = sorted({declared.handler_id for declared in hello.handlers})
        node.refresh()
        config = self._config
        self._out.send(
            peer,
            Welcome(
                s=session.s,
                server_us=now.wall_us,
                heartbeat_s=config.heartbeat_s,
                lease_s=config.lease_s,
                server_version=self._server_version,
                log_bytes=self._limits.log_bytes,
                result_bytes=self._limits.result_bytes,
                big_result_bytes=self._limits.big_result_bytes,
            ),
        )
        over = [held.token for held in hello.running if not _believed(node, held.token)]
        if over:
            self._out.send(peer, Cancel(s=session.s, tokens=over[:MAX_BATCH]))
        self._operations.tell(node, now)
        self._changed(node, "hello")

    def _take_over(self, peer: bytes, hello: Hello, now: Now) -> LiveNode:
        """The node of an admitted ``hello`` of ``peer``, with its instance, without a session."""
        node = self.nodes.get(hello.node_id)
        if node is None:
            instance = self._instance(hello, now)
            node = self.nodes[hello.node_id] = LiveNode(
                hello.node_id, NodeState.ONLINE, now.mono_s, instance, first_seen_us=now.wall_us
            )
            return node
        if node.session is not None:
            if node.session.peer != peer and succeeds(hello, node.instance):
                # It should be dead. If its state directory was copied it is not, and has to end before a rerun.
                self._out.send(node.session.peer, superseded(node.instance, hello))
            self._detach(node)
        if node.instance.id != hello.instance:
            if succeeds(hello, node.instance):
                node.instance.over = True
            node.instance = self._instance(hello, now)
            node.held = 0
            # The new one may well have what the old one lacked.
            node.failing.clear()
        # The same process may be back: over HTTP one may sign off, or say that it leaves, and go on.
        node.instance.over = node.leaving = node.by_count = False
        return node

    def _instance(self, hello: Hello, now: Now) -> Instance:
        """A process that is admitted now: it gets tokens from here on."""
        identity = identity_of(hello.state_key)
        return Instance(hello.instance, hello.epoch, identity, self._placing.last_token, now.mono_s)

    def session(self, peer: bytes, s: str, now: Now) -> Session | None:
        """The session that a message claims; where there is none, the peer is told to begin anew."""
        session = self.sessions.get(peer)
        if session is None or session.s != s:
            self._out.send(peer, ErrorMessage(code="no_session", message="no such session; say HELLO on a new socket"))
            return None
        node = session.node
        node.heard_s = now.mono_s
        if node.state is NodeState.SUSPECT:
            node.state = NodeState.ONLINE
            node.refresh()
            self._changed(node, "heard again")
            self._placing.pull(node, now)
        return session

    def heartbeat(self, peer: bytes, message: Heartbeat, now: Now) -> None:
        session = self.session(peer, message.s, now)
        if session is None:
            return
        node = session.node
        node.instance.lease_end_s = now.mono_s + self._config.lease_s
        node.last_seen_us = now.wall_us
        node.outbox = message.outbox
        if message.rtt_us is not None:
            node.round_trip_s = message.rtt_us / 1e6
        if message.wall_us is not None:
            # It was half a round trip under way.
            node.clock_skew_s = (message.wall_us - now.wall_us) / 1e6 + (node.round_trip_s or 0.0) / 2
        self._out.send(peer, HbAck(s=session.s, seq=message.seq, server_us=now.wall_us))

    def credit(self, peer: bytes, message: Credit, now: Now) -> None:
        """``window`` is how many attempts the node is willing to hold in all; the first one ends syncing."""
        session = self.session(peer, message.s, now)
        if session is None:
            return
        node = session.node
        node.asked = min(message.window, MAX_WINDOW)
        starts = not session.ready
        session.ready = True
        node.refresh()
        if starts:
            for lane in node.lanes:
                lane.join(node)
            self._reconcile(session, now)
            for lane in node.lanes:
                self._placing.push(lane, now)
            self._placing.settle(now)
        else:
            self._placing.pull(node, now)

    def _reconcile(self, session: Session, now: Now) -> None:
        """The node's outbox is flushed: what do we believe on it, and what does it say it holds?"""
        node = session.node
        again: list[LiveAttempt] = []
        unsent: list[LiveAttempt] = []
        cancels: list[int] = []
        for att in list(node.attempts.values()):
            phase = att.phase
            if phase == UNSENT:
                unsent.append(att)
            elif phase in _UNDER_WAY:
                pass
            elif att.token in session.confirmed:
                # It knows best: a server that was started again does not, if its store had taken no note of its coming.
                att.instance = node.instance
                self._found(att)
                if att.row.cancel_requested:
                    cancels.append(att.token)
            elif att.instance is not node.instance:
                # Of an earlier process, which is dead or has lost its lease, else this one had not been admitted.
                # Its results have come; what is left is lost.
                if phase in HELD:
                    self._endings.lose(att, now)
            elif phase in (REPORTED, UNRECORDED):
                pass
            elif att.row.cancel_requested:
                # It doesn't hold it, and said how all others ended.
                self._endings.decide(att, CANCELLED, now)
            elif att.row.started_us is not None:
                # It had begun, and this process neither holds it nor has an end of it to tell: it handed it back, and
                # the job's policy is to wait. (Or it began before the store knew whose attempts are whose: version 12.)
                self._endings.lose(att, now)
            elif not att.lane.suits(node):
                # When it was sent the node had other labels or facts; it may not begin here.
                self._endings.hand_back(att, now)
            else:
                self._found(att)
                att.phase = SENT
                again.append(att)
        node.held = sum(
            att.weight for att in node.attempts.values() if att.phase in COUNTED and att.instance is node.instance
        )
        self._placing.launch(node, unsent, now)
        if again:
            self._placing.dispatch(node, again, now)
        if cancels:
            self.send_cancel(node, cancels, now)

    def _found(self, att: LiveAttempt) -> None:
        """It is on its node after all."""
        if att.phase not in COUNTED:
            self._endings.count(att)
        att.phase = ACCEPTED

    def disconnected(self, peer: bytes, now: Now) -> None:
        """The peer's socket is gone (C8)."""
        session = self.sessions.get(peer)
        if session is not None:
            self._lose(session.node, now, "disconnected")

    def drop(self, peer: bytes, code: str, message: str, now: Now) -> None:
        """End the peer's session because of what it did, or because it may no longer be here."""
        self._out.send(peer, ErrorMessage(code=code, message=message))
        session = self.sessions.get(peer)
        if session is not None:
            self._lose(session.node, now, code)

    def bye(self, peer: bytes, s: str, now: Now) -> None:
        """The node holds nothing any more, and says so: no lease to wait for."""
        session = self.session(peer, s, now)
        if session is None:
            return
        node = session.node
        node.instance.over = True
        node.state = NodeState.OFFLINE
        self._detach(node)
        for att in list(node.attempts.values()):
            if att.instance is node.instance:
                if att.phase in (UNSENT, SENT):
                    self._endings.hand_back(att, now)
                elif att.phase == ACCEPTED:
                    self._endings.lose(att, now)
        self._changed(node, "said goodbye")
        self._placing.settle(now)

    def _lose(self, node: LiveNode, now: Now, reason: str) -> None:
        node.state = NodeState.LOST
        self._detach(node)
        for att in list(node.attempts.values()):
            if att.phase == UNSENT:
                self._endings.hand_back(att, now)
        self._changed(node, reason)
        self._placing.settle(now)

    def _detach(self, node: LiveNode) -> None:
        session = node.session
        if session is None:
            return
        node.session = None
        del self.sessions[session.peer]
        if session.ready:
            for lane in node.lanes:
                lane.leave(node)
        if node.saving is not None:
            node.saving.save(None)
        node.unanswered.clear()
        node.cancels.clear()
        node.refresh()

    def _changed(self, node: LiveNode, reason: str) -> None:
        self._out.other.append(NodeChanged(node.record(), reason))

    def leaving(self, peer: bytes, s: str, now: Now) -> None:
        """The node takes no new work any more (SIGTERM)."""
        session = self.session(peer, s, now)
        if session is not None and not session.node.leaving:
            session.node.leaving = True
            session.node.refresh()
            self._changed(session.node, "leaving")

    def resend(self, peer: bytes, tokens: Iterable[int], now: Now) -> None:
        """The node says that it does not have these: DISPATCH was lost, though we thought it had arrived (HTTP)."""
        session = self.sessions.get(peer)
        if session is None:
            return
        node = session.node
        lost = [att for att in map(node.attempts.get, tokens) if att is not None and att.phase in (SENT, ACCEPTED)]
        for att in lost:
            att.phase = SENT
        self._placing.resent += len(lost)
        self._placing.dispatch(node, lost, now)

    def lease_over(self, node_id: str, tokens: Iterable[int], now: Now) -> None:
        """These had leases of their own, shorter than their process's (HTTP): nobody believes in them any more."""
        node = self.nodes.get(node_id)
        if node is None:
            return
        for att in map(node.attempts.get, tokens):
            if att is not None and att.phase in HELD:
                self._endings.lose(att, now)
        self._placing.settle(now)

    def send_cancel(self, node: LiveNode, tokens: list[int], now: Now) -> None:
        session = node.session
        if session is None:
            return
        for token in tokens:
            node.cancels[token] = now.mono_s
        if session.ready:
            self._out.send(session.peer, Cancel(s=session.s, tokens=tokens))

    # --- time -------------------------------------------------------------------------------------

    def watch(self, now: Now) -> None:
        """Look at the time: who is silent, whose lease is over, what has to be said again."""
        self._forgive_standstill(now)
        for node in list(self.nodes.values()):
            session = node.session
            silent_s = now.mono_s - node.heard_s
            if session is not None:
                if silent_s >= self._config.lost_s:
                    self._lose(node, now, f"silent for {silent_s:.0f} s")
                elif silent_s >= self._config.suspect_s and node.state is NodeState.ONLINE:
                    node.state = NodeState.SUSPECT
                    node.refresh()
                    self._changed(node, f"silent for {silent_s:.0f} s")
                elif session.ready:
                    self._operations.watch(node, now)
                    self._repeat(node, now)
                    self._placing.pull(node, now)
            elif node.state is NodeState.SUSPECT and silent_s >= self._config.lost_s:
                # Known from before the server's start, and not come back.
                node.state = NodeState.LOST
                self._changed(node, "not back since the server's start")
            elif silent_s > FORGET_S and not node.attempts and (node.operation is None or node.quarantined):
                del self.nodes[node.node_id]
                self._out.other.append(NodeForgotten(node.node_id))
            if node.attempts and node.session is None:
                self._expire(node, now)

    def _forgive_standstill(self, now: Now) -> None:
        """If we stood still, messages wait to be read: nobody was silent. Leases only become longer by this."""
        last_s, self._last_tick_s = self._last_tick_s, now.mono_s
        if last_s is None or now.mono_s - last_s < STALL_S:
            return
        stood_still_s = now.mono_s - last_s - TICK_S
        self._out.note("stood_still", seconds=round(stood_still_s, 1))
        for node in self.nodes.values():
            node.heard_s = min(node.heard_s + stood_still_s, now.mono_s)
            instances = {node.instance} | {att.instance for att in node.attempts.values()}
            for instance in instances:
                instance.lease_end_s += stood_still_s

    def _expire(self, node: LiveNode, now: Now) -> None:
        """The node is away: when its lease is over its attempts are lost (those of earlier instances ended before)."""
        if now.mono_s >= node.instance.lease_end_s + self._config.lease_margin_s:
            for att in list(node.attempts.values()):
                if att.phase in HELD:
                    self._endings.lose(att, now)

    def _repeat(self, node: LiveNode, now: Now) -> None:
        """Send again what was not answered in time."""
        due_s = now.mono_s - self._config.resend_s
        unanswered = node.unanswered
        again: list[LiveAttempt] = []
        while unanswered and unanswered[0][0] <= due_s:
            for token in unanswered.popleft()[1]:
                att = node.attempts.get(token)
                if att is not None and att.phase == SENT:
                    again.append(att)
        if again:
            self._placing.resent += len(again)
            self._placing.dispatch(node, again, now)
        if node.cancels:
            tokens = [token for token, sent_s in node.cancels.items() if sent_s <= due_s]
            if tokens:
                self.send_cancel(node, tokens[:MAX_BATCH], now)


def _believed(node: LiveNode, token: int) -> bool:
    """Whether an attempt that a node says it holds is still the current one."""
    att = node.attempts.get(token)
    return att is not None and att.phase != LOSING
