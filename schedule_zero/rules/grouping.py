"""What becomes of a group of executions: one outcome of many. Pure.

    running ──all members over──► completed (every one is) | failed (one is not) | cancelled (none failed, one was)

A member counts when it is over for good, after its own retries. It counts as failed with any end that is neither
``completed`` nor ``cancelled``. A retry by hand of a member is a new execution outside the group.
"""

from __future__ import annotations

from schedule_zero.model import Group, GroupState, State

# In which of a group's numbers a member that is over counts.
COUNTED_AS = {
    State.COMPLETED: "completed",
    State.CANCELLED: "cancelled",
    State.FAILED: "failed",
    State.TIMEOUT: "failed",
    State.MISFIRED: "failed",
    State.DEAD: "failed",
}


def outcome(group: Group) -> GroupState:
    """What the group is, by its numbers."""
    if group.completed + group.failed + group.cancelled < group.total:
        return GroupState.RUNNING
    if group.failed:
        return GroupState.FAILED
    return GroupState.CANCELLED if group.cancelled else GroupState.COMPLETED


def shard_text(index: int, count: int) -> str:
    """As executions keep it."""
    return f"{index}/{count}"
