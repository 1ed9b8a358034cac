"""The dispatch core: which node has which attempt, and for how long it may believe so. Pure: no socket, no store,
no clock, no chance. Events come in as method calls with their moment; what is to be done goes out as ``effects``.

**A session** (one connection of one node)

    HELLO ──admitted──► syncing ──first CREDIT──► ready ──► (suspect ◄─► ready) ──► lost | offline

* *syncing*: the node sends the results in its outbox first. Nothing is sent to it.
* *ready*: at the first CREDIT the attempts that the server believes on this node are compared with what HELLO named
  as held: see ``_reconcile``.
* *suspect* after 6 s of silence: gets no new work. *lost* after 10 s, or when its socket is gone: the session is over,
  its messages are answered ``no_session``. The attempts stay until their lease ends. *offline* said BYE.

**An attempt** (of one execution; the phases are in ``sessions``)

    PLACED ───insert committed───┐
    STARTING ──start committed───┴► SENT ──ACCEPT──► ACCEPTED ──RESULT──► ENDING ──committed──► (gone, acknowledged)
              (node syncing: UNSENT ──►┘)     any of these ──server decides──► LOSING ──committed──► (gone, or pending)
    ENDING ──store fails──► REPORTED ──RESULT again──► ENDING       LOSING ──store fails──► UNRECORDED ──tick──► LOSING
    lost, policy ``wait``: LOOSE, until its result comes or an operator cancels it

**The lease** belongs to the *instance* (one process), not to the attempt: it ends ``lease_s`` after the server
received the last heartbeat that it acknowledged. The node counts from when it *sent* that heartbeat, so it stops
believing first. A rerun waits ``lease_margin_s`` longer (C6, C10). Nothing is waited for where nobody can hold a
lease: the attempt was never sent; the node gave it back; the node said BYE; a successor (same state directory, whose
lock no dead process holds) said HELLO, and its outbox, which it inherited, is flushed (C18).

**What can go wrong, and what happens**

* DISPATCH is lost with a connection: it is sent again after 2 s, and after every reconnect; nodes drop duplicates.
* RESULT or its ACK is lost: the node repeats. While the first copy is being committed the second is not answered; one
  RESULT_ACK answers both. What is not in memory is looked up: duplicate, superseded (and kept as stale), unknown (C7).
* The result of an attempt whose loss was committed is superseded, even while its execution still waits for the rerun:
  the decision is in the ledger, and a rerun may be under way on another node in the next moment. While the loss is
  only being committed the result is not answered; if that commit fails the repeated result wins.
* The store fails: nothing is acknowledged. Starts go back to their lane and are tried again after a pause; decisions of
  the server are tried again at each tick; reports come again by themselves (C13).
* The server itself stood still (suspended, swapped): its own gap is not taken for the nodes' silence.
* Cancel: waiting → the store ends it. Being started → never sent, ends as cancelled. On a node → CANCEL, repeated until
  the attempt ends. On a lost node → ends as cancelled when the lease is over. Racing with a retry → cancelled again
  after the retry's commit (C21).
* Two processes with one node id: see ``sessions.admit``.

Split by what is decided: ``placing`` (waiting → sent), ``endings`` (sent → over), here the sessions and time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from schedule_zero.config import DispatchConfig, HandlerRule
from schedule_zero.dispatch.effects import Effect, NodeChanged, NodeForgotten, Now, Outbox
from schedule_zero.dispatch.endings import Endings
from schedule_zero.dispatch.lanes import Lane
from schedule_zero.dispatch.placing import Placing
from schedule_zero.dispatch.sessions import (
    ACCEPTED,
    COUNTED,
    ENDING,
    LOOSE,
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
)
from schedule_zero.model import Execution, Node, NodeState
from schedule_zero.rules.ending import CANCELLED
from schedule_zero.store.executions import Refusal, StartedItem
from schedule_zero.wire.messages import (
    PROTOCOL_VERSION,
    Accept,
    Cancel,
    Credit,
    Deny,
    ErrorMessage,
    HbAck,
    Heartbeat,
    Hello,
    Reject,
    Result,
    ResultItem,
    ServerDrain,
    Welcome,
)

# Whatever a node asks for, it never holds more than this.
MAX_WINDOW = 20_000
# A node that has been away for so long, and holds nothing, is forgotten.
FORGET_S = 24 * 3600.0
# The shell ticks twice a second; a longer gap is the server's own standstill.
TICK_S = 0.5
STALL_S = 2.0


class Core:
    """Events in, effects out (``take``). Every method may be called at any time in any order."""

    def __init__(
        self,
        config: DispatchConfig,
        *,
        epoch: int,
        new_session_id: Callable[[], str],
        rules: Mapping[str, HandlerRule] | None = None,
        result_bytes: int = 1 << 20,
        server_version: str = "",
    ) -> None:
        self._config = config
        self._new_session_id = new_session_id
        self._server_version = server_version
        self._last_tick_s: float | None = None
        self._out = Outbox()
        self._endings = Endings(config, result_bytes, self._out)
        self.nodes: dict[str, LiveNode] = {}
        self.sessions: dict[bytes, Session] = {}
        self._placing = Placing(config, epoch, dict(rules or {}), self.nodes, self._endings, self._out)
        self.lanes = self._placing.lanes
        # What the placing and the endings offer to the shell as they are.
        self.place = self._placing.place
        self.abandoned = self._placing.abandoned
        self.start_failed = self._placing.start_failed
        self.refilled = self._placing.refilled
        self.record_failed = self._endings.record_failed

    def take(self) -> list[Effect]:
        """What is to be done now. Events may be batched: a hundred results become one record and one send."""
        return [*self._placing.flush(), *self._out.take()]

    def restore(
        self,
        nodes: Iterable[Node],
        running: Iterable[Execution],
        waiting: Iterable[tuple[str, str]],
        now: Now,
    ) -> None:
        """The server starts: what the store knows. Nodes have a full lease from now to come back with work (C11)."""
        lease_end_s = now.mono_s + self._config.lease_s
        for known in nodes:
            offline = known.state is NodeState.OFFLINE
            node = LiveNode(
                known.node_id,
                known.state if offline or known.state is NodeState.LOST else NodeState.SUSPECT,
                now.mono_s,
                Instance(known.instance, known.epoch, known.identity, lease_end_s, over=offline),
                draining=known.draining,
                handlers=known.handlers,
                slots=known.slots,
                version=known.version,
                host=known.host,
                pid=known.pid,
                first_seen_us=known.first_seen_us,
                last_seen_us=known.last_seen_us,
            )
            self.nodes[node.node_id] = node
        for row in running:
            node_id = row.node_id or ""
            held_by = self.nodes.get(node_id)
            if held_by is None:
                instance = Instance("", 0, "", lease_end_s)
                held_by = self.nodes[node_id] = LiveNode(node_id, NodeState.LOST, now.mono_s, instance)
            held_by.instance.over = False
            lane = self._placing.lane(row.handler_id, row.job_method)
            att = LiveAttempt(row, held_by, held_by.instance, lane, row.token, SENT)
            held_by.attempts[row.token] = att
            self._endings.count(att)
        for handler_id, job_method in waiting:
            self._placing.lane(handler_id, job_method).overflow = True

    def committed(self, rows: Iterable[Execution], now: Now) -> None:
        """The insert of ``rows``, or their release from waiting for a time, is committed."""
        self._placing.committed(rows, now)
        self._settle(now)

    def started(self, attempts: Sequence[LiveAttempt], refused: set[str], now: Now) -> None:
        self._placing.started(attempts, refused, now)
        self._settle(now)

    def recorded(self, attempts: Sequence[LiveAttempt], refused: dict[int, Refusal], now: Now) -> None:
        """Ends are committed, but for those refused."""
        self._placing.requeue(self._endings.recorded(attempts, refused, now), now)
        self._settle(now)

    def refill_failed(self, key: tuple[str, str]) -> None:
        self._placing.lane(*key).refill_failed()

    def _settle(self, now: Now) -> None:
        """Limited handlers whose executions ended have room again, perhaps on another node."""
        freed = self._endings.freed
        while freed:
            limit, _ = freed.popitem()
            self._placing.freed(limit, now)

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

    def hello(
        self, peer: bytes, hello: Hello, served: Iterable[tuple[str, str]], now: Now, *, key: str = ""
    ) -> None:
        """A node wants a session; ``served`` are the (handler, method) pairs of it that are allowed."""
        denial = self.refusal(hello, now)
        if denial is not None:
            self._out.send(peer, denial)
            self._out.note("node_denied", node_id=hello.node_id, code=denial.code, reason=denial.reason)
            return
        before = self.sessions.get(peer)
        if before is not None and before.node.node_id != hello.node_id:
            self._lose(before.node, now, "said HELLO as another node")
        node = self._take_over(hello, now)
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
        node.instance.lease_end_s = now.mono_s + self._config.lease_s
        node.lanes = [self._placing.lane(*pair) for pair in dict.fromkeys(served)]
        node.handlers = sorted({declared.handler_id for declared in hello.handlers})
        node.slots, node.version, node.host, node.pid = hello.slots, hello.version, hello.host, hello.pid
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
            ),
        )
        over = [held.token for held in hello.running if not _believed(node, held.token)]
        if over:
            self._out.send(peer, Cancel(s=session.s, tokens=over[:5000]))
        if node.draining:
            self._out.send(peer, ServerDrain(s=session.s, on=True))
        self._changed(node, "hello")

    def _take_over(self, hello: Hello, now: Now) -> LiveNode:
        """The node of an admitted ``hello``, with its instance, without a session."""
        identity = identity_of(hello.state_key)
        node = self.nodes.get(hello.node_id)
        if node is None:
            instance = Instance(hello.instance, hello.epoch, identity, now.mono_s)
            node = self.nodes[hello.node_id] = LiveNode(
                hello.node_id, NodeState.ONLINE, now.mono_s, instance, first_seen_us=now.wall_us
            )
            return node
        if node.session is not None:
            self._detach(node)
        if node.instance.id != hello.instance:
            if succeeds(hello, node.instance):
                node.instance.over = True
            node.instance = Instance(hello.instance, hello.epoch, identity, now.mono_s)
            node.held = 0
        node.leaving = False
        return node

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
        session.node.instance.lease_end_s = now.mono_s + self._config.lease_s
        session.node.last_seen_us = now.wall_us
        session.node.outbox = message.outbox
        self._out.send(peer, HbAck(s=session.s, seq=message.seq, server_us=now.wall_us))

    def credit(self, peer: bytes, message: Credit, now: Now) -> None:
        """``window`` is how many attempts the node is willing to hold in all; the first one ends syncing."""
        session = self.session(peer, message.s, now)
        if session is None:
            return
        node = session.node
        node.window = min(message.window, MAX_WINDOW)
        if not session.ready:
            session.ready = True
            node.refresh()
            for lane in node.lanes:
                lane.nodes.append(node)
            self._reconcile(session, now)
            for lane in node.lanes:
                self._placing.push(lane, now)
            self._settle(now)
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
            elif att.instance is not node.instance:
                # Of an earlier process, which is dead or has lost its lease, else this one had not been admitted.
                # Its results have come; what is left is lost.
                if phase in _HELD:
                    self._endings.lose(att, now)
            elif att.token in session.confirmed:
                self._found(att)
                if att.row.cancel_requested:
                    cancels.append(att.token)
            elif phase in (REPORTED, UNRECORDED):
                pass
            elif att.row.cancel_requested:
                # It doesn't hold it, and said how all others ended.
                self._endings.decide(att, CANCELLED, now)
            else:
                self._found(att)
                att.phase = SENT
                again.append(att)
        node.held = sum(att.phase in COUNTED and att.instance is node.instance for att in node.attempts.values())
        self._placing.launch(node, unsent, now)
        if again:
            self._placing.dispatch(node, again, now)
        if cancels:
            self._send_cancel(node, cancels, now)

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
        self._settle(now)

    def _lose(self, node: LiveNode, now: Now, reason: str) -> None:
        node.state = NodeState.LOST
        self._detach(node)
        for att in list(node.attempts.values()):
            if att.phase == UNSENT:
                self._endings.hand_back(att, now)
        self._changed(node, reason)
        self._settle(now)

    def _detach(self, node: LiveNode) -> None:
        session = node.session
        if session is None:
            return
        node.session = None
        del self.sessions[session.peer]
        if session.ready:
            for lane in node.lanes:
                lane.nodes.remove(node)
                if not lane.nodes:
                    lane.unload()
        node.unanswered.clear()
        node.cancels.clear()
        node.refresh()

    def _changed(self, node: LiveNode, reason: str) -> None:
        self._out.other.append(NodeChanged(node.record(), reason))

    def drain(self, node_id: str, *, on: bool, now: Now) -> LiveNode | None:
        """An operator takes the node out of service, or back; it hands back what it has not started."""
        node = self.nodes.get(node_id)
        if node is None:
            return None
        if node.draining != on:
            node.draining = on
            node.refresh()
            self._changed(node, "drained" if on else "resumed")
        if node.session is not None:
            self._out.send(node.session.peer, ServerDrain(s=node.session.s, on=on))
            if not on:
                self._placing.pull(node, now)
        return node

    def leaving(self, peer: bytes, s: str, now: Now) -> None:
        """The node takes no new work any more (SIGTERM)."""
        session = self.session(peer, s, now)
        if session is not None and not session.node.leaving:
            session.node.leaving = True
            session.node.refresh()
            self._changed(session.node, "leaving")

    # --- attempts ---------------------------------------------------------------------------------

    def result(self, peer: bytes, message: Result, now: Now) -> None:
        session = self.session(peer, message.s, now)
        if session is None:
            return
        node = session.node
        attempts = node.attempts
        report = self._endings.report
        elsewhere: list[ResultItem] = []
        for item in message.items:
            att = attempts.get(item.token)
            if att is None or att.row.id != item.id:
                elsewhere.append(item)
            elif att.phase in _REPORTABLE:
                report(att, item, now)
        if elsewhere:
            self._endings.look_up(session, elsewhere)
        self._placing.pull(node, now)
        if self._endings.freed:
            self._settle(now)

    def classified(
        self, peer: bytes, s: str, items: Iterable[ResultItem], verdicts: dict[int, Refusal | None], now: Now
    ) -> None:
        """What the store knows about results whose attempts are not in memory."""
        session = self.sessions.get(peer)
        if session is not None and session.s == s:
            self._endings.classified(session, items, verdicts, now)

    def accept(self, peer: bytes, message: Accept, now: Now) -> None:
        session = self.session(peer, message.s, now)
        if session is None:
            return
        attempts = session.node.attempts
        marks = self._out.marks
        over: list[int] = []
        for item in message.items:
            att = attempts.get(item.token)
            if att is None:
                over.append(item.token)
                continue
            if att.phase == SENT:
                att.phase = ACCEPTED
            if item.started_us is not None and att.phase == ACCEPTED and att.row.started_us is None:
                att.row.started_us = item.started_us
                marks.append(StartedItem(att.row.id, item.token, item.started_us))
        if over:
            # It believes in what is over: a rerun may be under way.
            self._out.send(peer, Cancel(s=session.s, tokens=over))

    def reject(self, peer: bytes, message: Reject, now: Now) -> None:
        """The node gives attempts back that it has not started; ``fenced``: it had, and stopped believing in them."""
        session = self.session(peer, message.s, now)
        if session is None:
            return
        node = session.node
        for item in message.items:
            att = node.attempts.get(item.token)
            if att is None or att.phase not in (SENT, ACCEPTED):
                continue
            if item.reason == "fenced":
                self._endings.lose(att, now)
                continue
            # Pause where the same node would be asked again at once, and would give it back again.
            elsewhere = item.reason == "overcommitted" or node.leaving or node.draining
            self._endings.hand_back(att, now, pause=not elsewhere)
            if item.reason in ("unknown_method", "unknown_handler"):
                self._stop_serving(node, att.lane)
        self._placing.pull(node, now)
        self._settle(now)

    def _stop_serving(self, node: LiveNode, lane: Lane) -> None:
        """Until its next HELLO, whatever that said: the node doesn't know this method."""
        if lane in node.lanes:
            node.lanes.remove(lane)
            lane.nodes.remove(node)
            if not lane.nodes:
                lane.unload()
            self._out.note(
                "method_unknown_to_node",
                node_id=node.node_id,
                handler_id=lane.handler_id,
                job_method=lane.job_method,
            )

    def execution_of(self, peer: bytes, s: str, token: int, now: Now) -> Execution | None:
        """The execution of a current attempt, for its progress."""
        session = self.session(peer, s, now)
        att = None if session is None else session.node.attempts.get(token)
        return None if att is None or att.phase not in (SENT, ACCEPTED) else att.row

    def cancel(self, node_id: str, token: int, now: Now) -> None:
        """The store has flagged a running execution; bring it to its one end (C21)."""
        node = self.nodes.get(node_id)
        att = None if node is None else node.attempts.get(token)
        if node is None or att is None:
            return
        att.row.cancel_requested = True
        if att.phase == LOOSE and (node.session is None or att.instance is not node.instance):
            self._endings.decide(att, CANCELLED, now)
        elif att.phase in (SENT, ACCEPTED, LOOSE) and node.session is not None and att.instance is node.instance:
            self._send_cancel(node, [token], now)
        # Else: before it is sent ``launch`` looks at the flag, after the lease ``lose`` does, and so does a report.

    def _send_cancel(self, node: LiveNode, tokens: list[int], now: Now) -> None:
        session = node.session
        if session is None:
            return
        for token in tokens:
            node.cancels[token] = now.mono_s
        if session.ready:
            self._out.send(session.peer, Cancel(s=session.s, tokens=tokens))

    # --- time -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Start nothing new; what is under way goes on being recorded."""
        self._placing.closing = True

    def tick(self, now: Now) -> None:
        """Call this twice a second."""
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
                    self._repeat(node, now)
                    self._placing.pull(node, now)
            elif node.state is NodeState.SUSPECT and silent_s >= self._config.lost_s:
                # Known from before the server's start, and not come back.
                node.state = NodeState.LOST
                self._changed(node, "not back since the server's start")
            elif silent_s > FORGET_S and not node.attempts and not node.draining:
                del self.nodes[node.node_id]
                self._out.other.append(NodeForgotten(node.node_id))
            if node.attempts and node.session is None:
                self._expire(node, now)
        self._endings.retry(now)
        self._placing.tick(now)
        for lane in self.lanes.values():
            self._placing.refill(lane)
        self._settle(now)

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
                if att.phase in _HELD:
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
            self._placing.dispatch(node, again, now)
        if node.cancels:
            tokens = [token for token, sent_s in node.cancels.items() if sent_s <= due_s]
            if tokens:
                self._send_cancel(node, tokens[:5000], now)


_HELD = frozenset({SENT, ACCEPTED, REPORTED})
_UNDER_WAY = frozenset({PLACED, STARTING, ENDING, LOSING})
_REPORTABLE = frozenset({SENT, ACCEPTED, REPORTED, UNRECORDED, LOOSE})


def _believed(node: LiveNode, token: int) -> bool:
    """Whether an attempt that a node says it holds is still the current one."""
    att = node.attempts.get(token)
    return att is not None and att.phase != LOSING
