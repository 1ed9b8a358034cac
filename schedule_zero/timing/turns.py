"""What is open of the schedules whose fires depend on their executions, and what follows when one is over.

For the others (nearly all) nothing is kept here. For a *tracked* schedule (one with an overlap policy, a maximum of
failures, or a fixed delay) it is known which of its executions are not over; known from the journal's events, in the
order of the commits, so that what a round decides by is never older than what was committed before it.

What follows the end of an execution (another one's turn, a pause after failures in a row, the next time after a
fixed delay) is decided from the stored state alone: it may be decided again after a crash, and comes out the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from schedule_zero.clock import Clock
from schedule_zero.errors import NotFound, PreconditionFailed, StoreUnavailable
from schedule_zero.model import Event, Origin, Policies, Schedule, ScheduleState, State
from schedule_zero.rules.overlap import next_step
from schedule_zero.rules.policies import policies_of
from schedule_zero.store import executions, groups, schedules

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from schedule_zero.dispatch.dispatcher import Dispatcher
    from schedule_zero.store import Store
    from schedule_zero.timing.trigger import Trigger

log = structlog.get_logger(__name__)

# The journal's events of executions that matter here.
FOLLOWED = frozenset({"execution.created", "execution.unblocked", "execution.finished", "group.finished"})
ENDS = frozenset({"execution.finished", "group.finished"})
FAILURES = frozenset({State.FAILED, State.TIMEOUT, State.DEAD})
# Schedules that are looked at side by side.
AT_ONCE = 200
# After the store refused.
PAUSE_S = 0.5


class Turns:
    """Keeps the open executions of tracked schedules, and sees to what follows their ends."""

    def __init__(
        self, *, store: Store, dispatcher: Dispatcher, clock: Clock, trigger_of: Callable[[Schedule], Trigger]
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._trigger_of = trigger_of
        # schedule → its open executions in the order of their birth, and whether each is blocked.
        self._open: dict[str, dict[str, bool]] = {}
        # Being read: schedule → what ended meanwhile. Everything, before the first read.
        self._unread: dict[str, set[str]] = {}
        self._all_unread: set[str] | None = set()
        # Heard before that, of schedules that are not known yet: schedule → what was born.
        self._meanwhile: dict[str, dict[str, bool]] = {}
        self._asked: set[str] = set()
        # To be looked at: schedule → whether an execution of it has failed.
        self._look: dict[str, bool] = {}
        self._bell = asyncio.Event()

    # --- what is open -----------------------------------------------------------------------------------

    @property
    def tracking(self) -> bool:
        """Whether events of executions have to be heard at all."""
        return bool(self._open) or self._all_unread is not None

    def heard(self, event: Event) -> None:
        """A committed event of an execution or a schedule."""
        if event.kind in FOLLOWED:
            schedule_id = event.data.get("schedule_id")
            if schedule_id is not None:
                self._heard_of_execution(event, schedule_id)
        elif event.id in self._open:
            # Its policy may have been changed, or it was deleted.
            self._to_look(event.id)
        elif event.data.get("tracked") and event.kind in ("schedule.created", "schedule.updated"):
            self._open[event.id] = {}
            if event.kind == "schedule.updated":
                self._unread[event.id] = set()

    def _heard_of_execution(self, event: Event, schedule_id: str) -> None:
        kind, open_ = event.kind, self._open.get(schedule_id)
        if self._all_unread is not None:
            if kind in ENDS:
                self._all_unread.add(event.id)
            elif open_ is None:
                # Whether its schedule is tracked is being read; what is read may be older than this.
                open_ = self._meanwhile.setdefault(schedule_id, {})
        if open_ is None:
            return
        if kind == "execution.created":
            # Those of a backfill are beside the schedule's fires: none waits for the other, or ends it.
            if event.data.get("origin") != Origin.BACKFILL:
                # A group is open as one, until it ends.
                unit = event.data.get("group_id", event.id)
                open_[unit] = event.data.get("state") == State.BLOCKED
                if open_[unit]:
                    self._to_look(schedule_id)
        elif kind == "execution.unblocked":
            open_[event.data.get("group_id", event.id)] = False
        else:
            if schedule_id in self._unread:
                self._unread[schedule_id].add(event.id)
            open_.pop(event.id, None)
            self._asked.discard(event.id)
            self._to_look(schedule_id, failed=event.data.get("state") in FAILURES)

    async def refresh(self) -> None:
        """Read what is open of schedules that are tracked since a moment ago. Cheap if there is none."""
        if self._all_unread is not None:
            found, tracked, followers = await self._store.read(_as_stored)
            ended, self._all_unread = self._all_unread, None
            self._learn(found, ended)
            meanwhile, self._meanwhile = self._meanwhile, {}
            for id_ in tracked:
                born = {one: blocked for one, blocked in meanwhile.get(id_, {}).items() if one not in ended}
                self._open[id_] = self._open.get(id_, {}) | born
            # What was under way when the last server ended, and ends that it did not come to follow up.
            for schedule_id, _, _ in found:
                self._to_look(schedule_id)
            for id_ in followers:
                self._to_look(id_, failed=True)
        while self._unread:
            id_ = next(iter(self._unread))
            found = await self._store.read(partial(executions.open_of_schedules, schedule_id=id_))
            self._learn(found, self._unread.pop(id_))
            self._to_look(id_)

    def _learn(self, found: Iterable[tuple[str, str, State]], ended: set[str]) -> None:
        known = self._open
        read: dict[str, dict[str, bool]] = {}
        for schedule_id, execution_id, state in found:
            if execution_id not in ended:
                read.setdefault(schedule_id, {})[execution_id] = state is State.BLOCKED
        for schedule_id, open_ in read.items():
            # What was heard meanwhile is newer than what was read.
            known[schedule_id] = open_ | known.get(schedule_id, {})

    def count(self, schedule_id: str) -> tuple[int, int]:
        """How many executions of a tracked schedule are open, and how many of these are blocked."""
        open_ = self._open.get(schedule_id, {})
        return len(open_), sum(open_.values())

    def skipped(self, schedule_id: str) -> None:
        """Its fire was skipped at the last moment: it may wait for the end of one that is not its own."""
        if schedule_id in self._open:
            self._to_look(schedule_id)

    # --- what follows -----------------------------------------------------------------------------------

    def _to_look(self, schedule_id: str, *, failed: bool = False) -> None:
        self._look[schedule_id] = self._look.get(schedule_id, False) or failed
        self._bell.set()

    async def run(self) -> None:
        """Look at what has ended, for ever."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            look, self._look = self._look, {}
            waiting = iter(look.items())
            # Side by side, so that what they write shares a commit.
            while batch := dict(islice(waiting, AT_ONCE)):
                await self._follow_all(batch)

    async def _follow_all(self, look: dict[str, bool]) -> None:
        try:
            rows = await self._store.read(partial(schedules.get_many, ids=list(look)))
        except StoreUnavailable as error:
            await self._postpone(look, error)
            return
        found = {row.id: row for row in rows}
        outcomes = await asyncio.gather(
            *(self._follow(id_, found.get(id_), failed=failed) for id_, failed in look.items()), return_exceptions=True
        )
        postponed: dict[str, bool] = {}
        for (id_, failed), outcome in zip(look.items(), outcomes, strict=True):
            if isinstance(outcome, StoreUnavailable):
                postponed[id_] = failed
            elif outcome is not None:
                raise outcome
        if postponed:
            await self._postpone(postponed, next(one for one in outcomes if isinstance(one, StoreUnavailable)))

    async def _postpone(self, look: dict[str, bool], error: StoreUnavailable) -> None:
        log.warning("turns_postponed", reason=str(error)[:200])
        for id_, failed in look.items():
            self._to_look(id_, failed=failed)
        await asyncio.sleep(PAUSE_S)

    async def _follow(self, schedule_id: str, row: Schedule | None, *, failed: bool) -> None:
        open_ = self._open.get(schedule_id, {})
        policies = policies_of(None if row is None else row.policies)
        step = next_step(policies.overlap, open_)
        asked = [id_ for id_ in step.cancel if id_ not in self._asked]
        if asked:
            await self._cancel(asked, only_unstarted=step.only_unstarted)
        for id_ in step.unblock:
            unblocked = await self._store.write(executions.unblock, id_)
            if unblocked:
                self._dispatcher.committed(unblocked)
        if row is None or not row.tracked:
            if not open_:
                self._open.pop(schedule_id, None)
            return
        if failed and policies.max_failures is not None and row.state is ScheduleState.ACTIVE:
            await self._pause_if_failing(row, policies)
        if row.waits_for is not None and row.waits_for not in open_ and row.state is not ScheduleState.QUARANTINED:
            await self._rearm(row)

    async def _cancel(self, ids: list[str], *, only_unstarted: bool) -> None:
        self._asked.update(ids)
        try:
            if only_unstarted:
                await self._store.write(executions.cancel_unstarted_runs, ids)
            else:
                await self._dispatcher.cancel(await self._store.read(partial(_executions_of, ids)))
        except StoreUnavailable:
            self._asked.difference_update(ids)
            raise

    async def _pause_if_failing(self, row: Schedule, policies: Policies) -> None:
        most = policies.max_failures
        assert most is not None
        ended = executions.ended_runs_of_schedule if policies.grouped else executions.ended_of_schedule
        # A change of the schedule, or its resumption, begins a new count.
        ends = await self._store.read(lambda conn: ended(conn, row.id, most, after_us=row.updated_us))
        if len(ends) < most or not FAILURES.issuperset(ends):
            return
        note = f"paused after {most} failed executions in a row" if most > 1 else "paused after a failed execution"
        if await self._set_state(row, ScheduleState.PAUSED, note, by="max_failures"):
            log.warning("schedule_paused_by_failures", schedule_id=row.id, failures=most)

    async def _rearm(self, row: Schedule) -> None:
        execution_id = row.waits_for
        assert execution_id is not None
        ended_us = await self._store.read(lambda conn: _ended_us(conn, execution_id))
        try:
            next_us = self._trigger_of(row).after_run(self._clock.wall_us() if ended_us is None else ended_us)
        except Exception as error:  # a trigger's own failure: its schedule is quarantined, the others go on
            log.exception("trigger_failed", schedule_id=row.id)
            note = f"the trigger failed: {type(error).__name__}: {error}"[:500]
            await self._set_state(row, ScheduleState.QUARANTINED, note, by="timer")
            return
        await self._store.write(
            schedules.rearm,
            schedules.RearmItem(id=row.id, generation=row.generation, waits_for=execution_id, next_fire_us=next_us),
        )

    async def _set_state(self, row: Schedule, state: ScheduleState, note: str, *, by: str) -> bool:
        """False: somebody has changed it meanwhile; what follows from that is told by an event of its own."""
        change = schedules.SetState(id=row.id, state=state, note=note, if_match=schedules.etag(row), by=by)
        try:
            await self._store.write(schedules.set_state, change)
        except (NotFound, PreconditionFailed):
            return False
        return True


def _as_stored(conn: Connection) -> tuple[list[tuple[str, str, State]], list[str], list[str]]:
    return executions.open_of_schedules(conn), schedules.tracked(conn), schedules.followers(conn)


def _executions_of(units: list[str], conn: Connection) -> list[str]:
    """The executions that runs consist of: themselves, or the open members of groups."""
    return [id_ for unit in units for id_ in (groups.open_members(conn, unit) or [unit])]


def _ended_us(conn: Connection, unit: str) -> int | None:
    """When a run was over; None: it is not stored any more."""
    group = groups.get(conn, unit)
    if group is not None:
        return group.finished_us
    found = executions.get(conn, unit)
    return None if found is None else found.execution.finished_us or found.execution.stored_us
