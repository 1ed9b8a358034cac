"""What becomes of a group of executions: one outcome of many. Pure.

    running ──all members over──► completed (every one is) | failed (one is not) | cancelled (none failed, one was)

A member counts when it is over for good, after its own retries. It counts as failed with any end that is neither
``completed`` nor ``cancelled``. A retry by hand of a member is a new execution outside the group.
"""

from __future__ import annotations

from collections.abc import Sequence

from schedule_zero.model import Execution, Group, GroupKind, GroupState, Origin, State, new_id

# How long a member of a broadcast waits for its node, where nobody said.
BROADCAST_QUEUE_S = 3600.0
# Why a broadcast asks nobody, where there are nodes that match.
ALL_AWAY = "every node that matches is out of service or stopping"
# Executions of which a schedule makes groups. (What a backfill or a requeue made has its id as ``group_id`` as well.)
MEMBERS = frozenset({Origin.FIRE, Origin.RUN_NOW})

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


def unit_of(row: Execution) -> str:
    """What counts as one run of its schedule: the group that it is a member of, or itself."""
    return row.group_id if row.group_id is not None and row.origin in MEMBERS else row.id


def group_of(rows: Sequence[Execution], kind: GroupKind, by: str | None = None) -> Group:
    """A new group of these members, which are told of it."""
    first = rows[0]
    group = Group(
        id=new_id(),
        kind=kind,
        handler_id=first.handler_id,
        job_method=first.job_method,
        schedule_id=first.schedule_id,
        total=len(rows),
        created_us=first.created_us,
        by=by,
    )
    for row in rows:
        row.group_id = group.id
    return group


def shard_text(index: int, count: int) -> str:
    """As executions keep it."""
    return f"{index}/{count}"
