"""How nodes do: what is remembered of the ends of their attempts, and whom that speaks against. Pure.

It only gives verdicts (``rules.quarantine`` says on what grounds); ``operations`` carries them out. A completed
attempt costs one entry in a dict.
"""

from __future__ import annotations

from msgspec import Struct

from schedule_zero.config import DispatchConfig
from schedule_zero.dispatch.lanes import Lane
from schedule_zero.dispatch.sessions import LiveAttempt, LiveNode
from schedule_zero.rules import quarantine as rules
from schedule_zero.wire.messages import ResultItem


class Verdict(Struct, frozen=True):
    """``against`` the node, or in its favour, and why."""

    node: LiveNode
    against: bool
    why: str


class Health:
    """Watches the ends of attempts."""

    def __init__(self, config: DispatchConfig) -> None:
        self._failures = config.quarantine_failures
        self._losses = config.quarantine_losses
        self.verdicts: list[Verdict] = []

    def did_well(self, att: LiveAttempt) -> None:
        """An attempt completed on a node that was in doubt (``LiveNode.doubted``)."""
        node = att.node
        node.failing.clear()
        if node.probation:
            self.verdicts.append(Verdict(node, against=False, why=f"{_job(att)} completed on probation"))

    def ended(self, att: LiveAttempt, item: ResultItem, now_s: float) -> None:
        """An attempt ended, and did not complete."""
        if not rules.is_failure(item.outcome, give_up=item.give_up, retry_after_s=item.retry_after_s):
            return
        node = att.node
        if att.instance is not node.instance:
            return
        node.failed_s[att.lane] = now_s
        if node.probation:
            self.verdicts.append(Verdict(node, against=True, why=f"{_job(att)} failed on probation"))
        elif self._failures and node.operation is None:
            # By execution: the attempts of one that can't succeed anywhere are one failure.
            node.failing[att.row.id] = att.lane
            if len(node.failing) >= self._failures:
                self._weigh(node, now_s)

    def _weigh(self, node: LiveNode, now_s: float) -> None:
        counted = [lane for lane in node.failing.values() if _does_well_elsewhere(lane, node, now_s)]
        # Whatever comes of it: so many failures again before it is looked at again.
        node.failing.clear()
        if len(counted) >= self._failures:
            methods = sorted({f"{lane.handler_id}.{lane.job_method}" for lane in counted})
            more = f" and {len(methods) - 3} more" if len(methods) > 3 else ""
            why = f"{len(counted)} executions in a row failed, of what does well elsewhere: {', '.join(methods[:3])}"
            self.verdicts.append(Verdict(node, against=True, why=why + more))

    def lost(self, att: LiveAttempt, now_s: float) -> None:
        """An attempt was lost with its node's process, of which each counts once."""
        node, lane, instance = att.node, att.lane, att.instance
        well = _does_well_elsewhere(lane, node, now_s)
        node.failed_s[lane] = now_s
        if instance.lost_with_work or not well:
            return
        instance.lost_with_work = True
        losses = node.losses
        losses.append(now_s)
        while losses[0] < now_s - rules.WINDOW_S:
            losses.popleft()
        if node.probation:
            self.verdicts.append(Verdict(node, against=True, why=f"{_job(att)} was lost on probation"))
        elif self._losses and node.operation is None and len(losses) >= self._losses:
            minutes = round(rules.WINDOW_S / 60)
            why = f"{len(losses)} of its processes were lost with what they ran, within {minutes} minutes"
            losses.clear()
            self.verdicts.append(Verdict(node, against=True, why=why))


def _does_well_elsewhere(lane: Lane, node: LiveNode, now_s: float) -> bool:
    return any(
        other.open and rules.does_well(other.completed_s.get(lane), other.failed_s.get(lane), now_s)
        for other in lane.nodes
        if other is not node
    )


def _job(att: LiveAttempt) -> str:
    return f"{att.row.handler_id}.{att.row.job_method}"
