"""Whose turn it is on a node: the handler's by ``rules.fairness``, then the oldest of its lanes."""

from __future__ import annotations

from collections.abc import Sequence

from schedule_zero.dispatch.effects import Now
from schedule_zero.dispatch.lanes import Lane
from schedule_zero.dispatch.sessions import COUNTED, LiveNode
from schedule_zero.rules.fairness import Claim, fairest


def holdings(node: LiveNode) -> dict[str, int]:
    """How much of the node each handler holds."""
    held: dict[str, int] = {}
    for att in node.attempts.values():
        if att.phase in COUNTED:
            handler_id = att.row.handler_id
            held[handler_id] = held.get(handler_id, 0) + att.weight
    return held


def fairest_lane(node: LiveNode, lanes: Sequence[Lane], held: dict[str, int], now: Now) -> Lane:
    """Of ``lanes``, which all have something that waits."""
    best: dict[str, Lane] = {}
    for lane in lanes:
        other = best.get(lane.handler_id)
        if other is None or lane.head() < other.head():
            best[lane.handler_id] = lane
    if len(best) == 1:
        return next(iter(best.values()))
    claims = []
    for handler_id, lane in best.items():
        row = lane.peek()
        served_us, turn = node.served.get(handler_id, (0, 0))
        since_us = row.not_before_us or row.created_us
        claims.append(Claim(row.priority, since_us, served_us, turn, held.get(handler_id, 0)))
    return list(best.values())[fairest(claims, now.wall_us)]
