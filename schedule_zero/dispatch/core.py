"""The dispatch core: which node has which attempt, and for how long it may believe so. Pure: no socket, no store,
no clock, no chance. Events come in as method calls with their moment; what is to be done goes out as ``effects``.

**A session** (one connection of one node)

    HELLO ──admitted──► syncing ──first CREDIT──► ready ──► (suspect ◄─► ready) ──► lost | offline

* *syncing*: the node sends the results in its outbox first. Nothing is sent to it.
* *ready*: at the first CREDIT the attempts that the server believes on this node are compared with what HELLO named
  as held: see ``membership``.
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
lock no dead process holds) said HELLO, and its outbox, which it inherited, is flushed (C18). Which of a node's
attempts are its present process's is stored with the node, as the last token of its earlier ones: after a restart of
the server, too, an attempt is sent again to none but the process that it was given to.

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

Split by what is decided: ``membership`` (who is connected), ``operations`` (who is out of service; ``health`` finds who
should be), ``placing`` (waiting → sent), ``endings`` (sent → over).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from schedule_zero.config import DispatchConfig, HandlerRule, LimitsConfig
from schedule_zero.dispatch.effects import Collector, Effect, Now
from schedule_zero.dispatch.endings import Endings, not_before
from schedule_zero.dispatch.gates import Gates
from schedule_zero.dispatch.health import Health
from schedule_zero.dispatch.lanes import Lane
from schedule_zero.dispatch.membership import Membership
from schedule_zero.dispatch.operations import Operations
from schedule_zero.dispatch.placing import Placing
from schedule_zero.dispatch.sessions import (
    ACCEPTED,
    LOOSE,
    REPORTED,
    SENT,
    UNRECORDED,
    LiveAttempt,
    LiveNode,
    Session,
)
from schedule_zero.dispatch.waiting import WaitingFor, waiting_for
from schedule_zero.model import Execution, LaneKey, Node
from schedule_zero.rules.ending import CANCELLED
from schedule_zero.rules.limits import weight_of
from schedule_zero.store.executions import Refusal, StartedItem
from schedule_zero.store.rate_buckets import BucketRow
from schedule_zero.wire.messages import Accept, Cancel, Reject, Result, ResultItem

# The node may report in these: it has the attempt, or had it.
REPORTABLE = frozenset({SENT, ACCEPTED, REPORTED, UNRECORDED, LOOSE})


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
        limits: LimitsConfig | None = None,
    ) -> None:
        self._out = out = Collector()
        self.nodes: dict[str, LiveNode] = {}
        self._gates = gates = Gates(self.nodes, out)
        self._health = health = Health(config)
        self._endings = endings = Endings(config, result_bytes, health, gates, out)
        self._placing = placing = Placing(config, epoch, dict(rules or {}), self.nodes, endings, gates, out)
        self._operations = operations = Operations(config, self.nodes, placing, health, out)
        self._membership = membership = Membership(
            config,
            self.nodes,
            placing,
            endings,
            operations,
            out,
            new_session_id=new_session_id,
            server_version=server_version,
            limits=limits,
        )
        self.sessions: dict[bytes, Session] = membership.sessions
        self.lanes = placing.lanes
        # Events that concern one part alone.
        self.refusal = membership.refusal
        self.hello = membership.hello
        self.heartbeat = membership.heartbeat
        self.credit = membership.credit
        self.leaving = membership.leaving
        self.bye = membership.bye
        self.disconnected = membership.disconnected
        self.drop = membership.drop
        self.resend = membership.resend
        self.lease_over = membership.lease_over
        self.operate = operations.operate
        self.place = placing.place
        self.why_nobody = placing.book.why_nobody
        self.takers = placing.book.takers
        self.awaits_nodes = membership.awaits_nodes
        self.unserved = placing.book.unserved
        self.abandoned = placing.abandoned
        self.start_failed = placing.start_failed
        self.refilled = placing.refilled
        self.wake = placing.wake
        self.forget = placing.forget
        self.clock_set = placing.clock_set
        self.set_rules = placing.set_rules
        self.record_failed = endings.record_failed

    def waiting_for(self, row: Execution, now: Now) -> WaitingFor:
        """Why ``row``, which is pending, has not started."""
        return waiting_for(row, self._placing.book, self._gates, now)

    def parked(self) -> Counter[str]:
        """Executions that wait in memory for a limit of their own, by its kind."""
        return self._gates.parked(self.lanes.values())

    def take(self) -> list[Effect]:
        """What is to be done now. Events may be batched: a hundred results become one record and one send."""
        return [*self._placing.flush(), *self._out.take()]

    def restore(
        self,
        nodes: Iterable[Node],
        running: Iterable[Execution],
        waiting: Iterable[LaneKey],
        now: Now,
        buckets: Iterable[BucketRow] = (),
    ) -> None:
        """The server starts: the nodes, what runs on them, in which lanes something waits, and slow buckets."""
        self._gates.restore(buckets, now)
        self._membership.restore(nodes, now)
        for row, node, instance in self._membership.holders(running, now):
            lane = self._placing.lane(row.handler_id, row.job_method, row.lane)
            att = LiveAttempt(row, node, instance, lane, row.token, SENT, weight=weight_of(row.lane))
            node.attempts[row.token] = att
            self._endings.count(att)
            self._gates.replay(att, now)
        for key in waiting:
            self._placing.lane(*key).overflow = True

    def committed(self, rows: Iterable[Execution], now: Now) -> None:
        """The insert of ``rows``, or their release from waiting for a time, is committed."""
        self._placing.committed(rows, now)
        self._placing.settle(now)

    def started(self, attempts: Sequence[LiveAttempt], refused: set[str], now: Now) -> None:
        """Starts are committed, but for those refused."""
        self._placing.started(attempts, refused, now)
        self._placing.settle(now)

    def recorded(self, attempts: Sequence[LiveAttempt], refused: dict[int, Refusal], now: Now) -> None:
        """Ends are committed, but for those refused."""
        self._placing.requeue(self._endings.recorded(attempts, refused, now), now)
        self._placing.settle(now)

    def refill_failed(self, key: LaneKey) -> None:
        self._placing.lane(*key).refill_failed()

    def close(self) -> None:
        """Start nothing new; what is under way goes on being recorded."""
        self._placing.closing = True

    @property
    def resent(self) -> int:
        """How many attempts were sent again so far."""
        return self._placing.resent

    def tick(self, now: Now) -> None:
        """Call this twice a second."""
        self._membership.watch(now)
        self._operations.judge(now)
        self._endings.retry(now)
        self._placing.tick(now)
        self._placing.settle(now)

    # --- attempts ---------------------------------------------------------------------------------

    def result(self, peer: bytes, message: Result, now: Now) -> None:
        session = self._membership.session(peer, message.s, now)
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
            elif att.phase in REPORTABLE:
                report(att, item, now)
        if elsewhere:
            self._endings.look_up(session, elsewhere)
        if self._health.verdicts:
            self._operations.judge(now)
        self._placing.pull(node, now)
        if self._endings.freed:
            self._placing.settle(now)

    def classified(
        self, peer: bytes, s: str, items: Iterable[ResultItem], verdicts: dict[int, Refusal | None], now: Now
    ) -> None:
        """What the store knows about results whose attempts are not in memory."""
        session = self.sessions.get(peer)
        if session is not None and session.s == s:
            self._endings.classified(session, items, verdicts, now)

    def accept(self, peer: bytes, message: Accept, now: Now) -> None:
        session = self._membership.session(peer, message.s, now)
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
                started_us = not_before(item.started_us, att.row.dispatched_us)
                att.row.started_us = started_us
                marks.append(StartedItem(att.row.id, item.token, started_us))
        if over:
            # It believes in what is over: a rerun may be under way.
            self._out.send(peer, Cancel(s=session.s, tokens=over))

    def reject(self, peer: bytes, message: Reject, now: Now) -> None:
        """The node gives attempts back that it has not started; ``fenced``: it had, and stopped believing in them."""
        session = self._membership.session(peer, message.s, now)
        if session is None:
            return
        node = session.node
        for item in message.items:
            att = node.attempts.get(item.token)
            if att is not None and att.phase == LOOSE and att.row.cancel_requested:
                # Nobody has it, and nothing will come of it.
                self._endings.decide(att, CANCELLED, now)
                continue
            if att is None or att.phase not in (SENT, ACCEPTED):
                continue
            if item.reason == "fenced":
                self._endings.lose(att, now)
                continue
            # Pause where the same node would be asked again at once, and would give it back again.
            elsewhere = item.reason == "overcommitted" or not node.accepting
            self._endings.hand_back(att, now, pause=not elsewhere)
            if item.reason in ("unknown_method", "unknown_handler"):
                self._stop_serving(node, att.lane)
        self._placing.pull(node, now)
        self._placing.settle(now)

    def _stop_serving(self, node: LiveNode, lane: Lane) -> None:
        """Until its next HELLO, whatever that said: the node doesn't know this method."""
        if self._placing.book.stop_serving(node, lane.handler_id, lane.job_method):
            self._out.note(
                "method_unknown_to_node",
                node_id=node.node_id,
                handler_id=lane.handler_id,
                job_method=lane.job_method,
            )

    def execution_of(self, peer: bytes, s: str, token: int, now: Now) -> Execution | None:
        """The execution of a current attempt, for its progress."""
        session = self._membership.session(peer, s, now)
        att = None if session is None else session.node.attempts.get(token)
        return None if att is None or att.phase not in (SENT, ACCEPTED) else att.row

    def node_of(self, peer: bytes, s: str, now: Now) -> str | None:
        """Whose session this is."""
        session = self._membership.session(peer, s, now)
        return None if session is None else session.node.node_id

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
            self._membership.send_cancel(node, [token], now)
        # Else: before it is sent ``launch`` looks at the flag, after the lease ``lose`` does, and so does a report.
