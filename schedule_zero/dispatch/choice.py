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
from collections.abc import Callable, Iterable
from typing import TypeAlias

from msgspec import Struct, field

from schedule_zero.dispatch.sessions import LiveNode
from schedule_zero.job_options import Strategy
from schedule_zero.model import Execution
from schedule_zero.rules.birth import LaneSpec
from schedule_zero.rules.routing import Match, affinity, draw

# Smaller is sooner.
Order: TypeAlias = tuple[float | str, ...]


class Seat(Struct, eq=False):
    """A node of a lane: how well it suits, and what the strategy remembers of it."""

    node: LiveNode
    match: Match
    # When it last got one of this lane; how far it has come (``weighted``).
    turn: int = 0
    passed: float = 0.0


class Choice(Struct, eq=False):
    """The nodes of one routed lane, and the choice among them."""

    spec: LaneSpec
    seats: dict[str, Seat] = field(default_factory=dict)
    turns: int = 0
    # Where the node stood that got the last one.
    stride: float = 0.0

    def join(self, node: LiveNode, match: Match) -> None:
        self.seats[node.node_id] = Seat(node, match, passed=self.stride)

    def leave(self, node: LiveNode) -> None:
        self.seats.pop(node.node_id, None)

    def given(self, node: LiveNode) -> None:
        """One execution of this lane went to ``node``."""
        seat = self.seats.get(node.node_id)
        if seat is not None:
            self.turns = seat.turn = self.turns + 1
            self.stride = max(seat.passed, self.stride)
            seat.passed = self.stride + 1 / seat.match.share

    @property
    def by_execution(self) -> bool:
        """Whether the choice depends on which execution it is for."""
        return self.spec.strategy in (Strategy.RANDOM, Strategy.STICKY_KEY)

    # --- the choice -------------------------------------------------------------------------------

    def for_one(self, row: Execution, taken: dict[str, int]) -> LiveNode | None:
        """The node for ``row``; ``taken``: places that are promised already, by node."""
        open_ = [seat for seat in self.seats.values() if has_room(seat.node, taken.get(seat.node.node_id, 0))]
        if not open_:
            return None
        best = min(seat.match.unmet for seat in open_)
        candidates = [seat.node for seat in open_ if seat.match.unmet == best]
        if len(candidates) == 1:
            return candidates[0]
        if self.spec.strategy is Strategy.STICKY_KEY:
            key = row.sticky_key or ""
            return max(candidates, key=lambda node: affinity(key, node.node_id))
        candidates.sort(key=lambda node: node.node_id)
        return candidates[draw(row.id, len(candidates))]

    def for_rows(self, rows: Iterable[Execution]) -> list[LiveNode]:
        """A node for each of ``rows``, until one finds no room."""
        chosen: list[LiveNode] = []
        taken: dict[str, int] = {}
        for row in rows:
            node = self.for_one(row, taken)
            if node is None:
                break
            chosen.append(node)
            taken[node.node_id] = taken.get(node.node_id, 0) + 1
        return chosen

    def places(self, wanted: int) -> list[LiveNode]:
        """Up to ``wanted`` places for executions that are all the same to the strategy."""
        order = _ORDERS[self.spec.strategy]
        heap = [
            ((seat.match.unmet, *order(self, seat, 0, 0)), index, 0, seat)
            for index, seat in enumerate(self.seats.values())
            if has_room(seat.node, 0)
        ]
        heapq.heapify(heap)
        chosen: list[LiveNode] = []
        while heap and len(chosen) < wanted:
            _, index, more, seat = heap[0]
            chosen.append(seat.node)
            more += 1
            if has_room(seat.node, more):
                heapq.heapreplace(heap, ((seat.match.unmet, *order(self, seat, more, len(chosen))), index, more, seat))
            else:
                heapq.heappop(heap)
        return chosen


def has_room(node: LiveNode, more: int) -> bool:
    """Whether it takes another one beside what it holds and ``more``."""
    return node.open and node.held + more < node.window


def _least_loaded(_: Choice, seat: Seat, more: int, __: int) -> Order:
    node = seat.node
    return ((node.held + more) / node.window, node.turn)


def _pack(_: Choice, seat: Seat, more: int, __: int) -> Order:
    node = seat.node
    return (-(node.held + more) / node.window, node.node_id)


def _round_robin(choice: Choice, seat: Seat, more: int, given: int) -> Order:
    return (choice.turns + given if more else seat.turn, seat.node.node_id)


def _weighted(choice: Choice, seat: Seat, more: int, _: int) -> Order:
    return (max(seat.passed, choice.stride) + more / seat.match.share, seat.node.node_id)


# By what is given out already, but not yet taken: to this node, and in all.
_ORDERS: dict[Strategy, Callable[[Choice, Seat, int, int], Order]] = {
    Strategy.LEAST_LOADED: _least_loaded,
    Strategy.PACK: _pack,
    Strategy.ROUND_ROBIN: _round_robin,
    Strategy.WEIGHTED: _weighted,
}
