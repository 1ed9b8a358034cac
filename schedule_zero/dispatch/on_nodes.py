"""What a node holds now, and what waits for a handler's nodes: for people who look. Reads the core, changes nothing."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from schedule_zero.dispatch.effects import Now
from schedule_zero.dispatch.lanes import Lane
from schedule_zero.dispatch.sessions import (
    ACCEPTED,
    ENDING,
    LOOSE,
    LOSING,
    REPORTED,
    UNRECORDED,
    LiveAttempt,
    LiveNode,
)
from schedule_zero.dispatch.waiting import Reason, WaitingFor
from schedule_zero.model import Execution, LaneKey
from schedule_zero.rules.birth import LaneSpec


class Phase(StrEnum):
    """How far an attempt is on its node."""

    # On its way there.
    SENT = "sent"
    # Its node has it; it has not said that it runs.
    ACCEPTED = "accepted"
    RUNNING = "running"
    # It is over, which is being recorded.
    ENDING = "ending"
    # It is lost with its node, which is being recorded.
    LOST = "lost"
    # Lost, and its job's policy is to wait for an operator.
    LEFT = "left"


class HeldView(Struct, kw_only=True):
    """An attempt on a node."""

    execution_id: str
    handler_id: str
    job_method: str
    schedule_id: str | None
    attempt: int
    phase: Phase
    # How many slots it takes.
    weight: int
    dispatched_us: int | None
    started_us: int | None
    cancel_requested: bool


class QueueView(Struct, kw_only=True):
    """What waits for the same nodes: executions of one method that ask the same of a node."""

    key: LaneKey
    spec: LaneSpec
    # In memory, those included that wait for a limit of their own; more may wait in the store.
    count: int
    more: bool
    # Connected nodes that may run it.
    nodes: int
    # The one that goes next, and what is in its way.
    first: str | None
    waiting_for: WaitingFor | None


_ENDING = frozenset({ENDING, REPORTED})
_LOST = frozenset({LOSING, UNRECORDED})


def held_views(node: LiveNode, most: int) -> list[HeldView]:
    """What ``node`` holds or is being sent, what was sent first before the rest."""
    return [_held(att) for att in heapq.nsmallest(most, node.attempts.values(), key=_sent)]


def _sent(att: LiveAttempt) -> tuple[int, int]:
    return att.row.dispatched_us or 0, att.token


def _held(att: LiveAttempt) -> HeldView:
    row = att.row
    return HeldView(
        execution_id=row.id,
        handler_id=row.handler_id,
        job_method=row.job_method,
        schedule_id=row.schedule_id,
        attempt=row.attempt,
        phase=_phase(att),
        weight=att.weight,
        dispatched_us=row.dispatched_us,
        started_us=row.started_us,
        cancel_requested=att.token in att.node.cancels,
    )


def _phase(att: LiveAttempt) -> Phase:
    if att.phase in _ENDING:
        return Phase.ENDING
    if att.phase in _LOST:
        return Phase.LOST
    if att.phase == LOOSE:
        return Phase.LEFT
    if att.phase == ACCEPTED:
        return Phase.ACCEPTED if att.row.started_us is None else Phase.RUNNING
    return Phase.SENT


def queue_view(
    lane: Lane,
    now: Now,
    waiting_for: Callable[[Execution, Now], WaitingFor],
    why_nobody: Callable[[LaneKey], str | None],
) -> QueueView:
    """What waits in ``lane``; the two callables are the core's."""
    first, why = _first(lane), None
    if first is not None:
        why = waiting_for(first, now)
    elif not lane.nodes:
        detail = why_nobody(lane.key) or "the nodes that may run it are just connecting"
        why = WaitingFor(reason=Reason.NODE, detail=detail)
    return QueueView(
        key=lane.key,
        spec=lane.spec,
        count=lane.count + len(lane.parking.ids),
        more=lane.overflow or any(shelf.spilled for shelf in lane.parking.shelves.values()),
        nodes=len(lane.nodes),
        first=None if first is None else first.id,
        waiting_for=why,
    )


def _first(lane: Lane) -> Execution | None:
    if lane.count:
        return lane.peek()
    parked = [shelf.heap[0] for shelf in lane.parking.shelves.values() if shelf.heap]
    return min(parked)[2] if parked else None


def has_waiting(lane: Lane) -> bool:
    """Whether something waits in it."""
    return bool(lane.count or lane.overflow or lane.parking.ids)
