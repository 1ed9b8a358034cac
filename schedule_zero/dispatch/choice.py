"""Which of a lane's nodes gets the next execution: the strategies, for lanes that say more than their method.

Pure. Whoever has room and may run it is a candidate; nodes that meet more of the preferred conditions come first, and
among equals the strategy decides:

* ``least_loaded``: most of its window free (as plain lanes have it, see ``lanes``).
* ``pack``: the fullest that still has room, so that others stay empty.
* ``round_robin``: whoever got one of this lane longest ago.
* ``weighted``: stride scheduling: each start moves a node on by 1/share, the one that has come least far is next. One
  that was full or away does not get everything afterwards: it goes on from where the others are.
* ``random``, ``sticky_key``: drawn from the execution's id, and by rendezvous hashing of its key; a full node's turn
  goes to the next in that order.

A node that has room while the lane has a backlog takes the next execution whatever the strategy (``Placing.pull``):
work does not wait for the right node where another that may run it is free.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from msgspec import Struct

from schedule_zero.dispatch.sessions import LiveNode
from schedule_zero.job_options import Strategy
from schedule_zero.model import Execution
from schedule_zero.rules.birth import LaneSpec
from schedule_zero.rules.routing import Match, affinity, digest, draw

# The nodes of so many keys are remembered by a lane (``sticky_key``).
MAX_HOMES = 10_000
_TURNS = frozenset({Strategy.ROUND_ROBIN, Strategy.WEIGHTED})
_BY_EXECUTION = frozenset({Strategy.RANDOM, Strategy.STICKY_KEY})


class Seat(Struct, eq=False):
    """A node of a lane: how well it suits, and what the strategy remembers of it."""

    node: LiveNode
    match: Match
    # Of its node id, for ``sticky_key``.
    digest: int
    # When it last got one of this lane; how far it has come (``weighted``).
    turn: int = 0
    passed: float = 0.0


class Choice:
    """The nodes of one routed lane, and the choice among them."""

    def __init__(self, spec: LaneSpec) -> None:
        self.strategy = spec.strategy
        # Whether the choice depends on which execution it is for.
        self.by_execution = spec.strategy in _BY_EXECUTION
        # Whether it depends on what was chosen before.
        self._remembers = spec.strategy in _TURNS
        # By node id; in that order, so that equals are taken in the same order everywhere.
        self._seats: dict[str, Seat] = {}
        self._turns = 0
        # Where the node stood that got the last one (``weighted``).
        self._stride = 0.0
        # Key → the node that has it.
        self._homes: dict[str, Seat] = {}

    def join(self, node: LiveNode, match: Match) -> None:
        seat = Seat(node, match, digest(node.node_id), passed=self._stride)
        self._seats = dict(sorted({**self._seats, node.node_id: seat}.items()))
        self._homes.clear()

    def leave(self, node: LiveNode) -> None:
        self._seats.pop(node.node_id, None)
        self._homes.clear()

    def given(self, node: LiveNode) -> None:
        """One execution of this lane went to ``node``."""
        if not self._remembers:
            return
        seat = self._seats.get(node.node_id)
        if seat is not None:
            self._turns = seat.turn = self._turns + 1
            self._stride = stride = max(seat.passed, self._stride)
            seat.passed = stride + 1 / seat.match.share

    # --- by the execution -------------------------------------------------------------------------

    def for_one(self, row: Execution) -> LiveNode | None:
        """The node for ``row``; None: none has room."""
        return next(iter(self.for_rows((row,))), None)

    def for_rows(self, rows: Iterable[Execution]) -> list[LiveNode]:
        """A node for each of ``rows``, as far as there is room."""
        sticky = self.strategy is Strategy.STICKY_KEY
        rooms = {id_: room for id_, seat in self._seats.items() if (room := room_of(seat.node)) > 0}
        best = self._best(rooms)
        chosen: list[LiveNode] = []
        for row in rows:
            if not best:
                break
            if sticky:
                key = row.sticky_key or ""
                seat = self._homes.get(key) or self._home(key)
                if seat.node.node_id not in rooms:
                    seat = _nearest(key, best)
            else:
                seat = best[draw(row.id, len(best))]
            node = seat.node
            chosen.append(node)
            rooms[node.node_id] = left = rooms[node.node_id] - 1
            if not left:
                del rooms[node.node_id]
                best = self._best(rooms)
        return chosen

    def _best(self, rooms: Iterable[str]) -> list[Seat]:
        """Of the nodes with room those that suit best."""
        seats = [self._seats[id_] for id_ in rooms]
        least = min((seat.match.unmet for seat in seats), default=0)
        return [seat for seat in seats if seat.match.unmet == least]

    def _home(self, key: str) -> Seat:
        """The node that has this key, whether it has room or not."""
        if len(self._homes) >= MAX_HOMES:
            self._homes.clear()
        seat = self._homes[key] = _nearest(key, self._best(self._seats))
        return seat

    # --- whichever execution it is for ------------------------------------------------------------

    def places(self, wanted: int) -> list[LiveNode]:
        """Up to ``wanted`` places for executions that are all the same to the strategy."""
        seats = [seat for seat in self._seats.values() if room_of(seat.node) > 0]
        if len(seats) == 1:
            node = seats[0].node
            return [node] * min(wanted, room_of(node))
        if len(seats) > 1 and self.strategy is Strategy.ROUND_ROBIN:
            return self._in_turn(seats, wanted)
        if self.strategy is Strategy.LEAST_LOADED:
            seats.sort(key=_last_given)
        # (unmet, how soon, which, how many of these it gets already): the smallest is next.
        heap = [(seat.match.unmet, self._standing(seat, 0), index, 0) for index, seat in enumerate(seats)]
        heapq.heapify(heap)
        chosen: list[LiveNode] = []
        while heap and len(chosen) < wanted:
            unmet, _, index, more = heap[0]
            seat = seats[index]
            chosen.append(seat.node)
            more += 1
            if more < room_of(seat.node):
                heapq.heapreplace(heap, (unmet, self._standing(seat, more), index, more))
            else:
                heapq.heappop(heap)
        return chosen

    def _standing(self, seat: Seat, more: int) -> float:
        """How soon it is its turn if it has got ``more`` already; smaller is sooner."""
        if self.strategy is Strategy.WEIGHTED:
            return max(seat.passed, self._stride) + more / seat.match.share
        load = (seat.node.held + more) / seat.node.window
        return -load if self.strategy is Strategy.PACK else load

    def _in_turn(self, seats: list[Seat], wanted: int) -> list[LiveNode]:
        """Round after round, whoever waited longest first; less suitable nodes when the others are full."""
        chosen: list[LiveNode] = []
        seats.sort(key=_last_turn)
        rooms = [(seat, room_of(seat.node)) for seat in seats]
        while rooms and len(chosen) < wanted:
            best = rooms[0][0].match.unmet
            these = [(seat, room) for seat, room in rooms if seat.match.unmet == best]
            rooms = rooms[len(these) :]
            given = 0
            while these and len(chosen) < wanted:
                given += 1
                chosen += [seat.node for seat, _ in these[: wanted - len(chosen)]]
                these = [(seat, room) for seat, room in these if room > given]
        return chosen


def _nearest(key: str, seats: Iterable[Seat]) -> Seat:
    mine = digest(key)
    return max(seats, key=lambda seat: affinity(mine, seat.digest))


def room_of(node: LiveNode) -> int:
    """How many more it takes."""
    return node.window - node.held if node.open else 0


def _last_turn(seat: Seat) -> tuple[int, int]:
    return (seat.match.unmet, seat.turn)


def _last_given(seat: Seat) -> int:
    return seat.node.turn
