"""Why a pending execution has not started: the first thing that is in its way now. Reads the core, changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from schedule_zero.dispatch.gates import Bucket, Gate, Gates
from schedule_zero.dispatch.lane_book import NAMED_NODES, LaneBook
from schedule_zero.dispatch.lanes import Lane
from schedule_zero.dispatch.sessions import LiveNode
from schedule_zero.model import Execution, OperationKind
from schedule_zero.rules.limits import Rate, limits_of, next_ns, weight_of

if TYPE_CHECKING:
    from schedule_zero.dispatch.effects import Now


class Reason(StrEnum):
    """What a pending execution waits for."""

    # A node that may run it, and takes work.
    NODE = "node"
    # A free slot, or as many as it takes.
    SLOT = "slot"
    # So many run at once as its handler, job, schedule or concurrency key may.
    HANDLER = "handler"
    JOB = "job"
    SCHEDULE = "schedule"
    KEY = "key"
    # So many have started as may in that time.
    RATE = "rate"
    # Others that are more important, or have waited longer.
    TURN = "turn"


class WaitingFor(Struct, frozen=True, kw_only=True):
    reason: Reason
    # A sentence for people.
    detail: str
    # Of those that are counted.
    running: int | None = None
    limit: int | None = None
    # When a rate lets the next one start.
    until_us: int | None = None


_REASONS = {"job": Reason.JOB, "schedule": Reason.SCHEDULE, "key": Reason.KEY}
_OPERATIONS = {
    OperationKind.CORDON: "cordoned",
    OperationKind.DRAIN: "drained",
    OperationKind.QUARANTINE: "quarantined",
}
_NAMES = {"job": "the job", "schedule": "schedule", "key": "concurrency key"}


def waiting_for(row: Execution, book: LaneBook, gates: Gates, now: Now) -> WaitingFor:
    """``row`` is pending."""
    key = (row.handler_id, row.job_method, row.lane)
    nobody = book.why_nobody(key)
    lane = book.lanes.get(key)
    if nobody is not None or lane is None or not lane.nodes:
        return WaitingFor(reason=Reason.NODE, detail=nobody or "the nodes that may run it are just connecting")
    nodes = [node for node in lane.nodes if node.open]
    if not nodes:
        return WaitingFor(reason=Reason.NODE, detail=_nobody_open(lane.nodes))
    held = _of_handler(lane, now)
    if held is not None:
        return held
    gate = gates.shut(row, lane, now.ns)
    if gate is not None:
        return _of_gate(row, gate, now)
    weight = weight_of(row.lane)
    if not any(node.fits(weight, lane) for node in nodes):
        slots = "slot" if weight == 1 else f"{weight} slots"
        return WaitingFor(reason=Reason.SLOT, detail=f"no node that may run it has {slots} free")
    behind = _behind(lane, gates, now)
    return behind or WaitingFor(reason=Reason.TURN, detail="what is more important, or has waited longer, goes first")


def _behind(lane: Lane, gates: Gates, now: Now) -> WaitingFor | None:
    """What holds the first one of the lane, and so all behind it."""
    if not lane.count:
        return None
    first = lane.peek()
    gate = gates.shut(first, lane, now.ns)
    if gate is None or not gate.holds_lane:
        return None
    held = _of_gate(first, gate, now)
    return replace(held, detail=f"execution {first.id} goes first, and waits: {held.detail}")


def _nobody_open(nodes: Sequence[LiveNode]) -> str:
    """Why none of these takes work; an operator has to know which of them to release."""
    named = sorted(nodes, key=lambda node: node.node_id)[:NAMED_NODES]
    more = f"; and {len(nodes) - len(named)} more" if len(nodes) > len(named) else ""
    reasons = "; ".join(f"{node.node_id} {_why_not_open(node)}" for node in named)
    return f"no node that may run it takes new work: {reasons}{more}"


def _why_not_open(node: LiveNode) -> str:
    if node.leaving:
        return "is stopping"
    if node.operation is not None and not node.probation:
        return f"is {_OPERATIONS[node.operation.kind]}"
    return "is silent"


def _of_handler(lane: Lane, now: Now) -> WaitingFor | None:
    limit = lane.limit
    if limit is None:
        return None
    if limit.running >= limit.max_running:
        return WaitingFor(
            reason=Reason.HANDLER,
            detail=f"handler {lane.handler_id!r}: {limit.running} of {limit.max_running} running",
            running=limit.running,
            limit=limit.max_running,
        )
    if limit.bucket is not None and limit.rate is not None and next_ns(limit.bucket.full_ns, limit.rate) > now.ns:
        return _of_rate(limit.bucket, limit.rate, f"handler {lane.handler_id!r}", now)
    return None


def _of_gate(row: Execution, gate: Gate, now: Now) -> WaitingFor:
    limits = limits_of(row.options)
    assert limits is not None
    if isinstance(gate, Bucket):
        assert limits.rate is not None
        what = f"rate key {gate.key!r}" if gate.kind == "rate_key" else f"the job {gate.key!r}"
        return _of_rate(gate, limits.rate, what, now)
    most = {"job": limits.per_job, "schedule": limits.per_schedule, "key": limits.per_key}[gate.kind]
    return WaitingFor(
        reason=_REASONS[gate.kind],
        detail=f"{_NAMES[gate.kind]} {gate.key!r}: {gate.running} of {most} running",
        running=gate.running,
        limit=most,
    )


def _of_rate(bucket: Bucket, rate: Rate, what: str, now: Now) -> WaitingFor:
    wait_us = max(next_ns(bucket.full_ns, rate) - now.ns, 0) // 1_000
    return WaitingFor(
        reason=Reason.RATE,
        detail=f"{what} may start {rate.text}: the next one in {_in_words(wait_us / 1e6)}",
        until_us=now.wall_us + wait_us,
    )


def _in_words(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:.0f} min"
