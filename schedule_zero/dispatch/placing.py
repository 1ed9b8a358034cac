"""From waiting to sent: which execution goes to which node, and when.

Commit first, then send. A fresh execution that finds a free place is *born running*: its insert is its start.
Everything else waits in a lane and is started from there when a node has a place free.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from schedule_zero.config import DispatchConfig, HandlerRule
from schedule_zero.dispatch.effects import CancelAgain, Collector, DueAt, Effect, ExpiresAt, Now, Refill, Send
from schedule_zero.dispatch.endings import Endings
from schedule_zero.dispatch.gates import Gate, Gates
from schedule_zero.dispatch.lane_book import LaneBook
from schedule_zero.dispatch.lanes import Lane
from schedule_zero.dispatch.operator_limits import OperatorLimits
from schedule_zero.dispatch.sessions import (
    ACCEPTED,
    PLACED,
    SENT,
    STARTING,
    UNSENT,
    LiveAttempt,
    LiveNode,
    Session,
)
from schedule_zero.dispatch.turns import fairest_lane, holdings
from schedule_zero.job_options import Isolation
from schedule_zero.model import Execution, LaneKey, State
from schedule_zero.rules.ending import HANDED_BACK_CANCELLED
from schedule_zero.rules.limits import limits_of, weight_of
from schedule_zero.rules.options import DEFAULTS, options_of
from schedule_zero.store.executions import StartItem
from schedule_zero.wire.messages import Dispatch, DispatchItem

PENDING = State.PENDING
RUNNING = State.RUNNING
# One DISPATCH: small enough that the node has begun with it while the next one is being made.
DISPATCH_ITEMS = 500
DISPATCH_BYTES = 1 << 20
# After a start could not be committed: the first pause, doubled up to the last.
FIRST_PAUSE_S = 0.2
LAST_PAUSE_S = 5.0

_by_node = attrgetter("node")


class Placing:
    """Owns the lanes and hands out tokens and places."""

    def __init__(
        self,
        config: DispatchConfig,
        epoch: int,
        rules: dict[str, HandlerRule],
        nodes: dict[str, LiveNode],
        endings: Endings,
        gates: Gates,
        out: Collector,
    ) -> None:
        self._gates = gates
        self._operator = OperatorLimits(rules, gates)
        self._nodes = nodes
        self._endings = endings
        self._out = out
        # Grows over restarts because the epoch does; unique per attempt (C6).
        self._token = epoch << 32
        self._turn = 0
        self._pause_s = 0.0
        self._paused_until_s = 0.0
        # Launched since the last ``flush``.
        self._outgoing: dict[Session, list[LiveAttempt]] = {}
        self.book = LaneBook(config, self._operator, gates, nodes)
        self.lanes, self.lane = self.book.lanes, self.book.lane
        # Attempts sent again because they were not accepted in time.
        self.resent = 0
        # The server stops: nothing new is started.
        self.closing = False

    @property
    def last_token(self) -> int:
        """No attempt that was given has a greater one, each that will be given has."""
        return self._token

    def set_rules(self, rules: Mapping[str, HandlerRule], now: Now) -> None:
        """What operators declare is something else now."""
        self._operator.change(rules, self.lanes.values(), self._nodes.values())
        self.settle(now)

    # --- fresh executions -------------------------------------------------------------------------

    def place(self, rows: Sequence[Execution], now: Now) -> None:
        """Before their insert: those that find a free place are to be inserted as running."""
        if self.closing:
            return
        by_lane: dict[LaneKey, list[Execution]] = {}
        for row in rows:
            if row.state is PENDING:
                key = (row.handler_id, row.job_method, row.lane)
                group = by_lane.get(key)
                if group is None:
                    by_lane[key] = [row]
                else:
                    group.append(row)
        for key, group in by_lane.items():
            lane = self.lanes.get(key) if key[2] is None else self.lane(*key)
            # Whoever waits already goes first.
            if lane is None or lane.count or lane.overflow or not lane.nodes:
                continue
            choice = lane.choice
            if choice is not None and choice.by_execution:
                group.sort(key=_by_priority)
                places = choice.for_rows(group)
            else:
                places = lane.choose(len(group))
                if len(places) < len(group) and places:
                    group.sort(key=_by_priority)
            self._place(lane, group, places, now)

    def _place(self, lane: Lane, group: list[Execution], places: list[LiveNode], now: Now) -> None:
        """As many of ``group`` as may start now; the others will wait in the lane, and be parked there."""
        gates = self._gates
        now_ns = now.ns
        # Whether the places are meant one by one for these executions.
        paired = lane.choice is not None and lane.choice.by_execution
        left = iter(places)
        node = next(left, None)
        for index, row in enumerate(group):
            if paired:
                node = places[index] if index < len(places) else None
            weight = 1
            if row.options is not None:
                if gates.shut(row, lane, now_ns) is not None:
                    continue
                if row.lane is not None:
                    weight = weight_of(row.lane)
            if lane.limit is not None and gates.handler_shut(lane, now_ns):
                return
            while node is not None and (node.saving is not None or (weight > 1 and not node.fits(weight, lane))):
                node = None if paired else next(left, None)
            if node is None:
                return
            self._assign(row, node, lane, PLACED, now)
            node = next(left, None)

    def _assign(self, row: Execution, node: LiveNode, lane: Lane, phase: int, now: Now) -> LiveAttempt:
        self._token = token = self._token + 1
        row.state = RUNNING
        row.attempt += 1
        row.token = token
        row.node_id = node.node_id
        row.dispatched_us = now.wall_us
        self._turn = node.turn = self._turn + 1
        if lane.limit is not None:
            lane.limit.running += 1
        if lane.choice is not None:
            lane.choice.given(node)
        att = LiveAttempt(row, node, node.instance, lane, token, phase)
        if row.lane is None or node.by_count:
            node.held += 1
        else:
            att.weight = weight_of(row.lane)
            node.held += att.weight
        if row.options is not None:
            limits = limits_of(row.options)
            if limits is not None or row.schedule_id is not None or lane.job is not None or lane.limit is not None:
                self._gates.enter(att, limits, now)
        elif row.schedule_id is not None or lane.job is not None or lane.limit is not None:
            self._gates.enter(att, None, now)
        node.attempts[token] = att
        return att

    def _unassign(self, att: LiveAttempt) -> None:
        """It was never sent and is not running in the store."""
        self._endings.uncount(att)
        self._gates.refund(att)
        del att.node.attempts[att.token]
        row = att.row
        row.state = PENDING
        row.attempt -= 1
        row.token = 0
        row.node_id = None
        row.dispatched_us = None

    def abandoned(self, rows: Iterable[Execution], now: Now) -> None:
        """Their insert failed: they don't exist, their places are free."""
        # A dict, not a set: the core's answers must not depend on memory addresses.
        freed: dict[LiveNode, None] = {}
        for row in rows:
            if row.state is RUNNING and row.node_id is not None:
                node = self._nodes[row.node_id]
                att = node.attempts.get(row.token)
                if att is not None and att.phase == PLACED:
                    self._unassign(att)
                    freed[node] = None
        for node in freed:
            self.pull(node, now)
        self.settle(now)

    def committed(self, rows: Iterable[Execution], now: Now) -> None:
        """Their insert (or their release from waiting for a time) is committed: send, queue or wait."""
        placed: list[LiveAttempt] = []
        fed: dict[Lane, None] = {}
        due_us: int | None = None
        expires_us: int | None = None
        cancelled: list[str] = []
        nodes = self._nodes
        for row in rows:
            state = row.state
            if state is RUNNING:
                placed.append(nodes[row.node_id or ""].attempts[row.token])
                continue
            if row.start_by_us is not None and (expires_us is None or row.start_by_us < expires_us):
                expires_us = row.start_by_us
            if state is PENDING:
                if row.cancel_requested:
                    cancelled.append(row.id)
                    continue
                lane = self.lane(row.handler_id, row.job_method, row.lane)
                lane.add(row)
                fed[lane] = None
            elif row.not_before_us is not None and (due_us is None or row.not_before_us < due_us):
                due_us = row.not_before_us
        if placed:
            self._launch_all(placed, now)
        if due_us is not None:
            self._out.other.append(DueAt(due_us))
        if expires_us is not None:
            self._out.other.append(ExpiresAt(expires_us))
        if cancelled:
            self._out.other.append(CancelAgain(cancelled))
        for lane in fed:
            self.push(lane, now)

    def requeue(self, rows: Iterable[Execution], now: Now) -> None:
        """They are pending again: they had their turn before, so they go to the front."""
        fed: dict[Lane, None] = {}
        for row in rows:
            lane = self.lane(row.handler_id, row.job_method, row.lane)
            lane.add(row, front=True)
            fed[lane] = None
        for lane in fed:
            self.push(lane, now)

    # --- from the lanes ---------------------------------------------------------------------------

    def push(self, lane: Lane, now: Now) -> None:
        """Work came in: give it to the nodes with most room."""
        if lane.count and not self._held_back(now):
            if lane.choice is not None and lane.choice.by_execution:
                while lane.count and self._take(lane, None, now):
                    pass
            else:
                for node in lane.choose(lane.count):
                    if self._take(lane, node, now) is None:
                        break
        self.refill(lane)

    def pull(self, node: LiveNode, now: Now) -> None:
        """A node has room: give it the most important of what it serves."""
        if node.held >= node.window or not node.open or self._held_back(now):
            return
        if node.saving is not None and node.saving not in node.lanes:
            node.saving.save(None)
        lanes = [lane for lane in node.lanes if lane.count]
        held: dict[str, int] | None = None
        while lanes and node.held < node.window:
            lane = lanes[0]
            if len(lanes) > 1:
                if held is None:
                    held = holdings(node)
                lane = fairest_lane(node, lanes, held, now)
            if not self._take(lane, node, now, save=True):
                lanes.remove(lane)
                continue
            if held is not None:
                held[lane.handler_id] = held.get(lane.handler_id, 0) + 1
            if not lane.count:
                lanes.remove(lane)
        for lane in node.lanes:
            if lane.overflow:
                self.refill(lane)

    def _take(self, lane: Lane, on: LiveNode | None, now: Now, *, save: bool = False) -> bool | None:
        """Start the next one of ``lane`` that may start now: ``on`` this node, or on the one that the lane chooses for
        it. False: not there; None: on no node.

        What a gate of its own holds is parked, and stands in nobody's way. ``save``: where the next one is too heavy,
        the node (one for each lane) gets nothing else until there is room; else lighter work would take every slot that
        becomes free, for ever.
        """
        if on is not None and on.saving is not None and on.saving is not lane:
            return False
        gates = self._gates
        held = lane.limit is not None and gates.handler_shut(lane, now.ns)
        while lane.count and not held:
            row = lane.pop()
            if row.options is not None:
                gate = gates.shut(row, lane, now.ns)
                if gate is not None:
                    held = gates.hold(row, lane, gate)
                    continue
            node = on or self._chosen(row, lane)
            if node is None or (row.lane is not None and not node.fits(weight_of(row.lane), lane)):
                lane.put_back(row)
                if save and (lane.saving is None or not lane.saving.open):
                    lane.save(node)
                return False
            self._start(row, lane, node, now)
            return True
        lane.save(None)
        return None

    @staticmethod
    def _chosen(row: Execution, lane: Lane) -> LiveNode | None:
        """The node that the lane's strategy has for this one."""
        node = None if lane.choice is None else lane.choice.for_one(row)
        return None if node is None or node.saving not in (None, lane) else node

    def settle(self, now: Now) -> None:
        """Gates that were shut have room again: for work in any lane, perhaps on another node."""
        freed = self._gates.freed
        while freed:
            gate, _ = freed.popitem()
            for lane in self._gates.opened(gate, now.ns) if isinstance(gate, Gate) else gate.lanes:
                if lane.count or lane.overflow:
                    self.push(lane, now)

    def wake(self, now: Now) -> None:
        """The moment of a ``WakeAt`` has come."""
        self._gates.due(now.ns)
        self.settle(now)

    def clock_set(self, moved_us: int, now: Now) -> None:
        """The store has moved the times by which whatever waits, or runs, is to be started."""
        for node in self._nodes.values():
            for att in node.attempts.values():
                # (What is placed is not in the store yet: it was reckoned by the clock as it is now.)
                if att.phase != PLACED and att.row.start_by_us is not None:
                    att.row.start_by_us += moved_us
        for lane in self.lanes.values():
            # It is read again as it is there.
            lane.unload()
            self.push(lane, now)

    def forget(self, ids: frozenset[str]) -> None:
        """These were waiting and have ended in the store."""
        for lane in self.lanes.values():
            if lane.parking.ids:
                lane.forget(ids)

    def _start(self, row: Execution, lane: Lane, node: LiveNode, now: Now) -> None:
        if lane.saving is not None:
            lane.save(None)
        if len(node.lanes) > 1:
            node.served[lane.handler_id] = (now.wall_us, self._turn)
        att = self._assign(row, node, lane, STARTING, now)
        self._out.starts.append(StartItem(row.id, row.attempt, att.token, node.node_id, now.wall_us))
        self._out.starting.append(att)

    def started(self, attempts: Sequence[LiveAttempt], refused: set[str], now: Now) -> None:
        """Their start is committed, but for those that had gone on meanwhile (cancelled, mostly)."""
        self._pause_s = 0.0
        for att in attempts:
            att.lane.settled(att.row)
        if refused:
            freed = {att.node: None for att in attempts if att.row.id in refused}
            for att in attempts:
                if att.row.id in refused:
                    self._unassign(att)
                    if not _too_old(att.row, now):
                        # If it waits after all (the clock was set back meanwhile), the store has it.
                        att.lane.leave_out()
            attempts = [att for att in attempts if att.row.id not in refused]
            for node in freed:
                self.pull(node, now)
        self._launch_all(attempts, now)

    def start_failed(self, attempts: Sequence[LiveAttempt], now: Now) -> None:
        """The store can't be written: they wait in memory as they do in the store, for a while."""
        self._pause_s = min(self._pause_s * 2 or FIRST_PAUSE_S, LAST_PAUSE_S)
        self._paused_until_s = now.mono_s + self._pause_s
        for att in reversed(attempts):
            self._unassign(att)
            att.lane.settled(att.row)
            if att.row.cancel_requested:
                self._out.other.append(CancelAgain([att.row.id]))
            else:
                att.lane.add(att.row, front=True)
        self.settle(now)

    def _held_back(self, now: Now) -> bool:
        return self.closing or self._paused_until_s > now.mono_s

    def tick(self, now: Now) -> None:
        """Start, and read, what a failing store held back."""
        if self._paused_until_s and not self._held_back(now):
            self._paused_until_s = 0.0
            for lane in self.lanes.values():
                self.push(lane, now)
        self._gates.tick(now.ns)
        for lane in self.lanes.values():
            self.refill(lane)
        self.book.forget_unused(now)

    # --- refill -----------------------------------------------------------------------------------

    def refill(self, lane: Lane) -> None:
        if lane.wants_refill() and not self.closing:
            lane.refill_asked()
            # What is parked stands there too: it is read past.
            parking = lane.parking
            limits = (lane.window + len(parking.ids), lane.window_bytes + parking.size)
            self._out.other.append(Refill(lane.key, *limits, parking.without()))

    def refilled(self, key: LaneKey, rows: Sequence[Execution], now: Now, *, more: bool) -> None:
        """What a ``Refill`` found; ``more``: there may be more in the store."""
        lane = self.lane(*key)
        cancelled = [row.id for row in rows if row.cancel_requested]
        if cancelled:
            self._out.other.append(CancelAgain(cancelled))
        lane.refilled(rows, more=more)
        saving = lane.saving
        self.push(lane, now)
        if saving is not None and not lane.count and not lane.overflow:
            # What the node saved up for is gone.
            lane.save(None)
            self.pull(saving, now)

    # --- sending ----------------------------------------------------------------------------------

    def _launch_all(self, attempts: Iterable[LiveAttempt], now: Now) -> None:
        for node, group in groupby(attempts, key=_by_node):
            self.launch(node, group, now)

    def launch(self, node: LiveNode, attempts: Iterable[LiveAttempt], now: Now) -> None:
        """They are committed as running on ``node``: send them, or give them back if that can't be done any more."""
        session = node.session
        takes = session is not None and session.ready and node.accepting
        instance = node.instance
        go: list[LiveAttempt] = []
        for att in attempts:
            # None of these was sent, so nobody holds a lease on them.
            if att.row.cancel_requested:
                self._endings.decide(att, HANDED_BACK_CANCELLED, now)
            elif att.instance is not instance or _too_old(att.row, now):
                self._endings.hand_back(att, now)
            elif takes:
                att.phase = SENT
                go.append(att)
            elif session is None or session.ready:
                self._endings.hand_back(att, now)
            else:
                att.phase = UNSENT
        if go:
            self.dispatch(node, go, now)

    def dispatch(self, node: LiveNode, attempts: Iterable[LiveAttempt], now: Now) -> None:
        """Send ``attempts`` (all SENT) with the next effects; again in 2 s unless accepted."""
        session = node.session
        if session is not None:
            waiting = self._outgoing.get(session)
            if waiting is None:
                waiting = self._outgoing[session] = []
            tokens = []
            for att in attempts:
                waiting.append(att)
                tokens.append(att.token)
            node.unanswered.append((now.mono_s, tokens))

    def flush(self) -> list[Effect]:
        """One DISPATCH per node for all that was launched since the last time, in pieces."""
        if not self._outgoing:
            return []
        outgoing, self._outgoing = self._outgoing, {}
        return [
            Send(session.peer, Dispatch(s=session.s, items=items))
            for session, attempts in outgoing.items()
            if session.node.session is session
            for items in _pieces(attempts)
        ]


def _pieces(attempts: Iterable[LiveAttempt]) -> Iterator[list[DispatchItem]]:
    items: list[DispatchItem] = []
    size = 0
    for att in attempts:
        if att.phase not in _ON_THE_WAY:
            continue
        row = att.row
        params = row.params
        options = DEFAULTS if row.options is None else options_of(row.options)
        if items and (len(items) >= DISPATCH_ITEMS or size + len(params) > DISPATCH_BYTES):
            yield items
            items, size = [], 0
        size += len(params)
        item = DispatchItem(
            id=row.id,
            token=att.token,
            attempt=row.attempt,
            handler_id=row.handler_id,
            job_method=row.job_method,
            params=params,
            timeout_s=_timeout_s(options.timeout_s, att.lane.timeout_cap_s),
            weight=att.weight,
            idempotency_key=row.idempotency_key,
            schedule_id=row.schedule_id,
            nominal_us=row.nominal_us,
            shard=row.shard,
            heartbeat_timeout_s=options.heartbeat_timeout_s,
            start_by_us=row.start_by_us,
        )
        if options.isolation is not Isolation.NONE:
            # Limits are for a process: without one of its own, a job has none.
            item.isolation = options.isolation
            item.memory_mb, item.cpu_percent, item.cpu_s = options.memory_mb, options.cpu_percent, options.cpu_s
        items.append(item)
    if items:
        yield items


_ON_THE_WAY = frozenset({SENT, ACCEPTED})


def _by_priority(row: Execution) -> int:
    return -row.priority


def _too_old(row: Execution, now: Now) -> bool:
    """It was to be started by now, and the commit of its start took too long."""
    return row.start_by_us is not None and row.start_by_us <= now.wall_us


def _timeout_s(asked: float | None, cap: float | None) -> float | None:
    if asked is None or cap is None:
        return cap if asked is None else asked
    return min(asked, cap)
