"""What the API says of groups."""

from __future__ import annotations

from typing import Any

from schedule_zero.clock import rfc3339
from schedule_zero.model import Group, GroupKind, GroupState
from schedule_zero.service.groups import GroupView
from schedule_zero.web.api.records import Count, Moment, Record


class GroupRecord(Record, kw_only=True):
    """Executions with one outcome. The counts are of members that are over."""

    id: str
    kind: GroupKind
    handler_id: str
    job_method: str
    schedule_id: str | None
    status: GroupState
    total: Count
    completed: Count
    failed: Count
    cancelled: Count
    created_at: Moment | None
    finished_at: Moment | None
    created_by: str | None


class GroupCreated(GroupRecord, kw_only=True):
    """A group that was just made, with its members."""

    execution_ids: list[str]


class GroupPage(Record, kw_only=True):
    count: Count
    limit: Count
    records: list[GroupRecord]
    next_cursor: str | None


def group_record(group: Group) -> GroupRecord:
    return GroupRecord(**_fields(group))


def group_created(view: GroupView) -> GroupCreated:
    return GroupCreated(**_fields(view.group), execution_ids=view.ids)


def _fields(group: Group) -> dict[str, Any]:
    return {
        "id": group.id,
        "kind": group.kind,
        "handler_id": group.handler_id,
        "job_method": group.job_method,
        "schedule_id": group.schedule_id,
        "status": group.state,
        "total": group.total,
        "completed": group.completed,
        "failed": group.failed,
        "cancelled": group.cancelled,
        "created_at": rfc3339(group.created_us),
        "finished_at": rfc3339(group.finished_us),
        "created_by": group.by,
    }
