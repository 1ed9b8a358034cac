"""Groups: one wish that becomes several executions with one outcome. On every matching node, or in parts.

* A *broadcast* is one execution for each node that matches when it is asked for, pinned to that node. A node that is
  out of service (cordoned, drained, quarantined) or stopping is not asked. What is pinned to a node that goes away
  waits for it: for its queue timeout, which is an hour where nobody said another, so that a group ends even if a node
  never comes back. No node: a conflict, and nothing is stored.
* *Shards* are n executions that may run anywhere; each knows which part it is.
* Members are ordinary executions: they retry, time out and are cancelled one by one. Their idempotency keys are their
  own ids. A ``unique_key`` can't be meant: the members would shut one another out.
"""

from __future__ import annotations

import asyncio

import structlog
from msgspec import Struct
from msgspec.structs import replace

from schedule_zero.clock import Clock
from schedule_zero.config import LimitsConfig
from schedule_zero.dispatch.dispatcher import Dispatcher
from schedule_zero.errors import InvalidField, NoMatchingNode, NotFound, TooLarge
from schedule_zero.model import Execution, Group, GroupKind, GroupState, State
from schedule_zero.ops.events import EventHub
from schedule_zero.rules.birth import pinned
from schedule_zero.rules.change_log import ChangeVerb, Deed
from schedule_zero.rules.grouping import ALL_AWAY, BROADCAST_QUEUE_S, group_of, shard_text
from schedule_zero.rules.options import options_of
from schedule_zero.service.executions import ExecutionService
from schedule_zero.service.specs import IdemKey, Principal, SubmitItem
from schedule_zero.store import Store
from schedule_zero.store import groups as store_groups
from schedule_zero.store.tx import Page

log = structlog.get_logger(__name__)

# So many members are named in the answer that tells of a repetition.
NAMED_MEMBERS = 10_000


class GroupView(Struct, kw_only=True):
    """A group, and the ids of its members where it has just been made."""

    group: Group
    ids: list[str] = []
    replayed: bool = False


class GroupService:
    """Make, look, wait, cancel."""

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        executions: ExecutionService,
        hub: EventHub,
        clock: Clock,
        limits: LimitsConfig,
        max_bytes: int,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._executions = executions
        self._hub = hub
        self._clock = clock
        self._limits = limits
        # Of the parameters of all members together: what a request with each of them could hold.
        self._max_bytes = max_bytes

    # --- make -------------------------------------------------------------------------------------

    async def broadcast(
        self, principal: Principal, item: SubmitItem, idem: IdemKey | None = None, *, schedule_id: str | None = None
    ) -> GroupView:
        """One execution on each node that matches now. UnknownHandler … as for a submission; NoMatchingNode."""
        first = self._first(item)
        if options_of(first.options).queue_timeout_s is None:
            item = replace(item, options=replace(item.options, queue_timeout_s=BROADCAST_QUEUE_S))
        key = (first.handler_id, first.job_method, first.lane)
        node_ids = self._dispatcher.takers(key)
        if not node_ids:
            why = self._dispatcher.why_nobody(key) or ALL_AWAY
            raise NoMatchingNode(f"there is no node for this broadcast: {why}")
        rows = self._members(item, len(node_ids), schedule_id)
        for row, node_id in zip(rows, node_ids, strict=True):
            row.lane = pinned(row, node_id)
        return await self._make(principal, GroupKind.BROADCAST, rows, idem)

    async def shards(
        self,
        principal: Principal,
        item: SubmitItem,
        count: int,
        idem: IdemKey | None = None,
        *,
        schedule_id: str | None = None,
    ) -> GroupView:
        """``count`` executions, each of which knows which part it is. TooLarge, and as for a submission."""
        if count > self._limits.bulk:
            raise TooLarge(f"at most {self._limits.bulk} executions in one request, got {count}", pointer="/shards")
        self._first(item)
        rows = self._members(item, count, schedule_id)
        for index, row in enumerate(rows):
            row.shard = shard_text(index, count)
        return await self._make(principal, GroupKind.SHARDS, rows, idem)

    def _first(self, item: SubmitItem) -> Execution:
        """What a member will be like; raises what is wrong with it."""
        [row] = self._executions.rows([item])
        if row.unique_key is not None:
            raise InvalidField(
                "expected no unique_key for a group: its members would shut one another out",
                pointer="/options/unique_key",
            )
        return row

    def _members(self, item: SubmitItem, count: int, schedule_id: str | None) -> list[Execution]:
        size = len(bytes(item.job_params)) * count
        if size > self._max_bytes:
            raise TooLarge(
                f"at most {self._max_bytes} bytes of parameters in one request, got {size} for {count} members",
                pointer="/job_params",
            )
        return self._executions.rows([item] * count, schedule_id)

    async def _make(
        self, principal: Principal, kind: GroupKind, rows: list[Execution], idem: IdemKey | None
    ) -> GroupView:
        group = group_of(rows, kind, by=principal.name)
        earlier = await self._executions.insert_group(principal, group, rows, idem)
        if earlier is not None:
            ids = await self._store.read(lambda conn: store_groups.members(conn, earlier, NAMED_MEMBERS))
            return GroupView(group=await self.get(earlier), ids=ids, replayed=True)
        log.info("group_created", group_id=group.id, kind=kind, count=group.total, by=principal.name)
        return GroupView(group=group, ids=[row.id for row in rows])

    # --- look -------------------------------------------------------------------------------------

    async def get(self, group_id: str, wait_s: float = 0) -> Group:
        """One group; with ``wait_s`` not before it is over or the time is up. NotFound."""
        waiter = self._hub.wait_terminal(group_id) if wait_s > 0 else None
        try:
            group = await self._read(group_id)
            if waiter is None or group.state is not GroupState.RUNNING:
                return group
            await asyncio.wait([waiter], timeout=wait_s)
        finally:
            if waiter is not None:
                self._hub.forget(group_id, waiter)
        return await self._read(group_id)

    async def _read(self, group_id: str) -> Group:
        group = await self._store.read(lambda conn: store_groups.get(conn, group_id))
        if group is None:
            raise NotFound(f"there is no group {group_id!r}")
        return group

    async def find(self, *, cursor: str | None = None, limit: int = 50) -> Page[Group]:
        """Newest first."""
        return await self._store.read(lambda conn: store_groups.find(conn, cursor=cursor, limit=limit))

    async def states(self, group_id: str) -> dict[State, int]:
        """How many of its members are in each state; of those that are still kept."""
        return await self._store.read(lambda conn: store_groups.states(conn, group_id))

    # --- change -----------------------------------------------------------------------------------

    async def cancel(self, principal: Principal, group_id: str) -> Group:
        """End every member that isn't over; those that run when their node confirms. NotFound."""
        await self._read(group_id)
        ids = await self._store.read(lambda conn: store_groups.open_members(conn, group_id))
        if ids:
            deed = Deed(verb=ChangeVerb.GROUP_CANCELLED, subject=group_id)
            await self._dispatcher.cancel(ids, by=principal.doing(deed))
        log.info("group_cancel", group_id=group_id, count=len(ids), by=principal.name)
        return await self._read(group_id)

    async def prune(self) -> None:
        """Forget groups that are over and whose members were cleared."""
        after: str | None = ""
        while after is not None:
            after = await self._store.write(store_groups.prune, after)
