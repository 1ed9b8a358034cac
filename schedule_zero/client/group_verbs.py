"""Groups: a job on every matching node, or in parts, with one outcome. A part of ``verbs``."""

from __future__ import annotations

from datetime import datetime
from typing import Unpack

from schedule_zero.client.asking import AT_ONCE_S, POLL_S, Asking, Json, Moment, job, segment
from schedule_zero.client.flow import Flow, Sleep
from schedule_zero.client.records import Page, Record
from schedule_zero.client.verb import verb
from schedule_zero.errors import InvalidField, WaitTimeout
from schedule_zero.job_options import Options
from schedule_zero.model import GroupKind, GroupState, new_id


class GroupRecord(Record, frozen=True):
    """Executions with one outcome; the counts are of members that are over.

    ``failed`` is any end but ``completed`` and ``cancelled``.
    """

    id: str
    kind: GroupKind
    handler_id: str
    job_method: str
    status: GroupState
    total: int
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    schedule_id: str | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    created_by: str | None = None
    # Of its members; only where it was just made.
    execution_ids: tuple[str, ...] = ()

    @property
    def over(self) -> bool:
        return self.status is not GroupState.RUNNING


class GroupVerbs(Asking):
    """Mixed into ``Verbs``."""

    @verb
    def submit_group(
        self,
        handler_id: str,
        job_method: str,
        job_params: Json | None = None,
        *,
        broadcast: bool = False,
        shards: int | None = None,
        not_before: Moment | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Flow[GroupRecord]:
        """Have a job run once on every node that matches now (``broadcast``), or in so many parts (``shards``).

        Each part finds in ``ctx.shard`` which it is. Raises NoMatchingNode where there is no node for a broadcast.
        """
        if broadcast == (shards is not None):
            raise InvalidField("expected either broadcast=True or a number of shards")
        body = job(
            handler_id, job_method, job_params, options, broadcast=broadcast, shards=shards, not_before=not_before
        )
        return (yield from self.ask("POST", "/api/groups", GroupRecord, body=body, key=idempotency_key or new_id()))

    @verb
    def group(self, group_id: str) -> Flow[GroupRecord]:
        """One group. Its members: ``executions(group_id=…)``."""
        return (yield from self.ask("GET", f"/api/groups/{segment(group_id)}", GroupRecord))

    @verb
    def groups(self, *, limit: int = 100, cursor: str | None = None) -> Flow[Page[GroupRecord]]:
        """Groups, newest first."""
        return (yield from self.ask("GET", "/api/groups", Page[GroupRecord], query={"limit": limit, "cursor": cursor}))

    @verb
    def wait_group(self, group_id: str, wait_s: float | None = None) -> Flow[GroupRecord]:
        """Wait until all members are over, however they ended. Raises WaitTimeout after ``wait_s`` (None: never)."""
        until_s = None if wait_s is None else self.clock.mono_s() + wait_s
        while True:
            asked_s = self.clock.mono_s()
            left_s = POLL_S if until_s is None else min(POLL_S, max(0.0, until_s - asked_s))
            path = f"/api/groups/{segment(group_id)}"
            group = yield from self.ask("GET", path, GroupRecord, query={"wait_s": left_s}, wait_s=left_s)
            if group.over:
                return group
            if until_s is not None and self.clock.mono_s() >= until_s:
                open_ = group.total - group.completed - group.failed - group.cancelled
                raise WaitTimeout(
                    f"{open_} of the {group.total} members of group {group_id} are not over after {wait_s:g} s; "
                    "they go on",
                    group_id=group_id,
                )
            if self.clock.mono_s() - asked_s < AT_ONCE_S:
                yield Sleep(AT_ONCE_S)

    @verb
    def cancel_group(self, group_id: str) -> Flow[GroupRecord]:
        """End every member that isn't over; those that run when their node confirms."""
        return (yield from self.ask("POST", f"/api/groups/{segment(group_id)}/cancel", GroupRecord))
