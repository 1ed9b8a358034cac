"""Waiting executions of one lane (handler, method, which of its nodes): a bounded window of them in memory, the rest in
the store (C20).

Bounded in number and in bytes: while either is reached, what comes waits in the store. (One execution is always
taken, however large: work goes on.)

All executions of a lane may run on the same nodes, so nothing that can't be placed stands in the way of the rest:
two nodes of one handler may serve different methods (a rolling upgrade), and be labelled differently. Order: priority,
which grows with age (``aged_us``). ``choice`` decides for lanes that say more than their method.
What has its turn and may not start yet is parked (``gates``, ``parking``).

The window is refilled by a read that may be older than what happened meanwhile. Three rules keep that safe:
what was taken from the window since the read was asked for is not taken from its answer; what is
waiting or being started already is never added twice; what was left out while reading asks for another read.
The last word has the store, whose ``start`` moves only what still waits.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Container, Sequence

from msgspec import Struct, field

from schedule_zero.dispatch.choice import Choice
from schedule_zero.dispatch.gates import Bucket, Gate
from schedule_zero.dispatch.parking import Parking
from schedule_zero.dispatch.sessions import LiveNode
from schedule_zero.model import Execution, LaneKey
from schedule_zero.rules.birth import PLAIN, lane_of
from schedule_zero.rules.limits import Rate
from schedule_zero.rules.options import aged_us
from schedule_zero.rules.routing import match

# A handler of which any number may run.
ANY_NUMBER = 1 << 60


class Limit(Struct, eq=False):
    """How many executions of one handler may run at once, over all nodes, and start in a time (an operator's rule)."""

    max_running: int
    running: int = 0
    lanes: list[Lane] = field(default_factory=list)
    rate: Rate | None = None
    bucket: Bucket | None = None


class Lane:
    """Executions of one method, for the same nodes, that wait for one of these."""

    def __init__(
        self,
        handler_id: str,
        job_method: str,
        window: int,
        window_bytes: int,
        *,
        text: str | None = None,
        limit: Limit | None = None,
        timeout_cap_s: float | None = None,
    ) -> None:
        self.handler_id = handler_id
        self.job_method = job_method
        self.key: LaneKey = (handler_id, job_method, text)
        self.spec = lane_of(text)
        # None: any node that serves the method, the least loaded first.
        self.choice = None if self.spec == PLAIN else Choice(self.spec)
        self.window = window
        self.window_bytes = window_bytes
        self.limit = limit
        # What counts those of its job that run, once somebody has set a limit to that.
        self.job: Gate | None = None
        # Of its job, once somebody has set a rate to that.
        self.bucket: Bucket | None = None
        self.parking = Parking(self)
        # The node that gets nothing else until it has room for the next one, which is a heavy one.
        self.saving: LiveNode | None = None
        # An operator's cap on the time of one attempt.
        self.timeout_cap_s = timeout_cap_s
        # Nodes that are ready, serve this method and may run what is in this lane.
        self.nodes: list[LiveNode] = []
        # Since when nothing is here, nothing is known of in the store and no node asks (``Placing.tick``).
        self.idle_since_s: float | None = None
        self.count = 0
        # Of the parameters of those in the queues.
        self.size = 0
        # The store may have pending executions that are not in memory.
        self.overflow = False
        self.refilling = False
        self._queues: dict[int, deque[Execution]] = {}
        # The priorities of the non-empty queues, greatest first.
        self._order: list[int] = []
        # Ids in the queues, and ids whose start is being committed.
        self._ids: set[str] = set()
        self._starting: set[str] = set()
        # While reading: ids that the answer may still show as waiting; rows that it may not know yet.
        self._taken: set[str] = set()
        self._jumped: dict[str, Execution] = {}
        self._missed = False

    def suits(self, node: LiveNode) -> bool:
        """Whether ``node``, which serves the method, may run what is in this lane."""
        return self.choice is None or match(self.spec, node.facts, node.slots) is not None

    def join(self, node: LiveNode) -> None:
        """``node`` is ready; it suits."""
        self.nodes.append(node)
        if self.choice is not None:
            found = match(self.spec, node.facts, node.slots)
            if found is not None:
                self.choice.join(node, found)

    def leave(self, node: LiveNode) -> None:
        """``node`` is away, or doesn't know the method."""
        self.nodes.remove(node)
        if self.choice is not None:
            self.choice.leave(node)
        if not self.nodes:
            self.unload()

    @property
    def unused(self) -> bool:
        """Nothing is here, is being started or read, or is known to wait in the store."""
        return not (self.count or self.overflow or self.refilling or self._starting or self.parking.shelves)

    def peek(self) -> Execution:
        """What is next."""
        return self._queues[self._next()][0]

    def head(self) -> tuple[int, str]:
        """What is next, as a key that orders lanes: smaller is sooner."""
        return _aged(self._queues[self._next()][0])

    def _next(self) -> int:
        """The priority of the queue whose turn it is."""
        order = self._order
        if len(order) == 1:
            return order[0]
        return min(order, key=lambda priority: _aged(self._queues[priority][0]))

    def add(self, row: Execution, *, front: bool = False) -> None:
        """``row`` is committed as pending. ``front``: it had its turn before (a retry, handed back)."""
        if row.id in self._ids or row.id in self._starting or row.id in self.parking.ids:
            return
        if not self.nodes:
            self.leave_out()
            return
        if self.overflow or self._full(1):
            self.leave_out()
            # More important than what is in memory, which may be full of less important work for long.
            ahead = front or (self._order and row.priority > self._order[-1])
            if not ahead or self._full(2):
                return
            if self.refilling:
                self._jumped[row.id] = row
        self._put(row, front=front)

    def _full(self, windows: int) -> bool:
        return self.count >= windows * self.window or self.size >= windows * self.window_bytes

    def leave_out(self) -> None:
        """There is something in the store that is not here."""
        self.overflow = True
        if self.refilling:
            self._missed = True

    def _put(self, row: Execution, *, front: bool) -> None:
        queue = self._queues.get(row.priority)
        if queue is None:
            queue = self._queues[row.priority] = deque()
            self._order.append(row.priority)
            self._order.sort(reverse=True)
        if front:
            queue.appendleft(row)
        else:
            queue.append(row)
        self._ids.add(row.id)
        self.count += 1
        self.size += len(row.params)

    def pop(self) -> Execution:
        """Take the next one; it counts as being started until ``settled``."""
        priority = self._next()
        queue = self._queues[priority]
        row = queue.popleft()
        if not queue:
            del self._queues[priority]
            self._order.remove(priority)
        self.count -= 1
        self.size -= len(row.params)
        self._ids.discard(row.id)
        self._starting.add(row.id)
        if self.refilling:
            self._taken.add(row.id)
            self._jumped.pop(row.id, None)
        return row

    def put_back(self, row: Execution) -> None:
        """The one that was just taken can't be started now."""
        self._starting.discard(row.id)
        self._return(row)

    def park(self, row: Execution, gate: Gate) -> None:
        """The one that was just taken waits for ``gate``, and the lane goes on."""
        self._starting.discard(row.id)
        self.parking.park(row, gate)

    def bring_back(self, row: Execution) -> None:
        """It was parked, and may start now."""
        self._return(row)

    def _return(self, row: Execution) -> None:
        if self.refilling:
            # The answer may not be asked for it: it was taken since.
            self._jumped[row.id] = row
        self._put(row, front=True)

    def settled(self, row: Execution) -> None:
        """The start of ``row`` was committed, refused or given up."""
        self._starting.discard(row.id)

    def unload(self) -> None:
        """Nobody serves this lane now: its backlog stays in the store."""
        if self.parking.clear() or self.count or self.refilling:
            self.leave_out()
        self._queues.clear()
        self._order.clear()
        self._ids.clear()
        self._jumped.clear()
        self.count = self.size = 0

    def forget(self, ids: Container[str]) -> None:
        """These wait no longer, whatever became of them. (What is in the queues finds out at its turn.)"""
        self.parking.forget(ids)

    def save(self, node: LiveNode | None) -> None:
        """Nothing else is started on ``node`` until it has room for the next of this lane."""
        if self.saving is not None:
            self.saving.saving = None
        self.saving = node
        if node is not None:
            node.saving = self

    # --- refill -----------------------------------------------------------------------------------

    def wants_refill(self) -> bool:
        """A quarter is left: enough to go on with while reading, and little of it is read a second time."""
        if not self.overflow or self.refilling or not self.nodes:
            return False
        return not self.count or (self.count * 4 < self.window and self.size * 4 < self.window_bytes)

    def refill_asked(self) -> None:
        self.refilling = True
        self._missed = False
        self._taken = set(self._starting)

    def refill_failed(self) -> None:
        self.refilling = False
        self._taken.clear()
        self._jumped.clear()

    def refilled(self, rows: Sequence[Execution], *, more: bool) -> None:
        """``rows`` are the first pending ones in order, and there may be more: they replace the window."""
        self.overflow = self._missed or more
        taken, jumped, parked = self._taken, self._jumped, self.parking.ids
        self.refilling, self._taken, self._jumped = False, set(), {}
        self._queues.clear()
        self._order.clear()
        self._ids.clear()
        self.count = self.size = 0
        if not self.nodes:
            self.overflow = True
            return
        for row in rows:
            if row.id not in taken and row.id not in self._starting and row.id not in parked:
                self._put(row, front=False)
        for row in jumped.values():
            if row.id not in self._ids and row.id not in self._starting and row.id not in parked:
                self._put(row, front=True)

    # --- choice -----------------------------------------------------------------------------------

    def choose(self, wanted: int) -> list[LiveNode]:
        """Up to ``wanted`` places on nodes, the least loaded first: the one with most of its window free.

        O(nodes + wanted · log nodes), once per batch.
        """
        if self.limit is not None:
            wanted = min(wanted, self.limit.max_running - self.limit.running)
        if wanted <= 0:
            return []
        if self.choice is not None:
            return self.choice.places(wanted)
        nodes = [node for node in self.nodes if node.open and node.held < node.window]
        if not nodes:
            return []
        if len(nodes) == 1:
            return nodes * min(wanted, nodes[0].window - nodes[0].held)
        if wanted == 1:
            return [min(nodes, key=_load)]
        heap = [(node.held / node.window, node.turn, index, node.held, node) for index, node in enumerate(nodes)]
        heapq.heapify(heap)
        chosen: list[LiveNode] = []
        while heap and len(chosen) < wanted:
            _, turn, index, held, node = heap[0]
            chosen.append(node)
            held += 1
            if held < node.window:
                heapq.heapreplace(heap, (held / node.window, turn, index, held, node))
            else:
                heapq.heappop(heap)
        return chosen


def _aged(row: Execution) -> tuple[int, str]:
    return aged_us(row.priority, row.not_before_us or row.created_us), row.id


def _load(node: LiveNode) -> tuple[float, int]:
    return (node.held / node.window, node.turn)
