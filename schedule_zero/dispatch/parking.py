"""Executions that had their turn in a lane and may not start yet: out of everybody's way, in order, and bounded.

Each gate that holds something of a lane has a *shelf* there. All shelves of a lane together are bounded like the lane's
window. When they are full, the longest *spill*: their later half is left to the store, and from then on
the lane reads past whatever that gate holds (``without``), until a quarter of what was kept is left. So one customer's
backlog of a million keeps nobody else waiting, and takes no more memory than any other.

A parked execution is still ``pending`` in the store, and may end there (cancelled, too old): ``forget`` takes it away.
Where nobody does, the store refuses its start, as that of any other.
"""

from __future__ import annotations

import heapq
from collections.abc import Container
from typing import TYPE_CHECKING

from msgspec import Struct, field

from schedule_zero.model import Execution
from schedule_zero.rules.options import aged_us
from schedule_zero.store.execution_window import NOTHING, Without

if TYPE_CHECKING:
    from schedule_zero.dispatch.gates import Gate
    from schedule_zero.dispatch.lanes import Lane


class Shelf(Struct, eq=False):
    """What one gate holds of one lane."""

    gate: Gate
    # (place in the order, id, execution); the first is the next.
    heap: list[tuple[int, str, Execution]] = field(default_factory=list)
    # There is more in the store: all that stands behind ``last``.
    spilled: bool = False
    last: tuple[int, str] = (0, "")
    kept: int = 0


class Parking:
    """The shelves of one lane."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.ids: dict[str, Shelf] = {}
        self.shelves: dict[Gate, Shelf] = {}
        # Of the parameters.
        self.size = 0

    def park(self, row: Execution, gate: Gate) -> None:
        shelf = self.shelves.get(gate)
        if shelf is None:
            shelf = self.shelves[gate] = gate.shelves[self._lane] = Shelf(gate)
        place = (aged_us(row.priority, row.not_before_us or row.created_us), row.id)
        if shelf.spilled and place > shelf.last:
            # Behind what is in the store only: it is found there, in its order.
            return
        heapq.heappush(shelf.heap, (*place, row))
        self.ids[row.id] = shelf
        self.size += len(row.params)
        if len(self.ids) > self._lane.window or self.size > self._lane.window_bytes:
            self._spill()

    def _spill(self) -> None:
        longest = max(len(shelf.heap) for shelf in self.shelves.values())
        # All that are about as long, so that a thousand short ones need not be looked through a thousand times.
        long = [shelf for shelf in self.shelves.values() if len(shelf.heap) * 2 > longest]
        for shelf in long if longest > 1 else long[len(long) // 2 :]:
            self._cut(shelf)

    def _cut(self, shelf: Shelf) -> None:
        entries = sorted(shelf.heap)
        keep = len(entries) // 2
        for _, id_, row in entries[keep:]:
            del self.ids[id_]
            self.size -= len(row.params)
        # A sorted list is a heap.
        shelf.heap = entries[:keep]
        shelf.spilled = True
        shelf.kept = keep
        shelf.last = entries[keep - 1][:2] if keep else (entries[0][0] - 1, "")

    def take(self, shelf: Shelf) -> Execution:
        """Its first one."""
        row = heapq.heappop(shelf.heap)[2]
        del self.ids[row.id]
        self.size -= len(row.params)
        return row

    def tidy(self, shelf: Shelf) -> None:
        """Something was taken: is there to be read more of it, is it empty?"""
        if shelf.spilled and len(shelf.heap) * 4 <= shelf.kept:
            shelf.spilled = False
            self._lane.leave_out()
        if not shelf.heap and not shelf.spilled:
            del self.shelves[shelf.gate]
            del shelf.gate.shelves[self._lane]

    def forget(self, ids: Container[str]) -> None:
        """These wait no longer."""
        for shelf in list(self.shelves.values()):
            gone = [row for _, id_, row in shelf.heap if id_ in ids]
            if gone:
                shelf.heap = sorted(entry for entry in shelf.heap if entry[1] not in ids)
                for row in gone:
                    del self.ids[row.id]
                    self.size -= len(row.params)
                self.tidy(shelf)

    def clear(self) -> bool:
        """Leave all of it to the store; whether there was anything."""
        found = bool(self.shelves)
        for gate in self.shelves:
            del gate.shelves[self._lane]
        self.shelves.clear()
        self.ids.clear()
        self.size = 0
        return found

    def without(self) -> Without:
        """What the lane is not to read now."""
        spilled = [shelf.gate for shelf in self.shelves.values() if shelf.spilled]
        if not spilled:
            return NOTHING
        return Without(
            schedule_ids=tuple(gate.key for gate in spilled if gate.kind == "schedule"),
            concurrency_keys=tuple(gate.key for gate in spilled if gate.kind == "key"),
            rate_keys=tuple(gate.key for gate in spilled if gate.kind == "rate_key"),
        )
