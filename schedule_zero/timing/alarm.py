"""One schedule that is due soon, in the form in which APScheduler's loop takes it: as the trigger of a schedule.

This is the wrapper that contains what APScheduler's loop does with triggers: it calls ``next()`` for every
nominal time up to now, on the event loop, and dies if one raises. An alarm has its answer ready before it is
asked, never raises, and ends the walk at the second call.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import apscheduler
import apscheduler.abc
import msgspec

from schedule_zero.clock import from_us
from schedule_zero.errors import InvalidCalendar, InvalidTrigger
from schedule_zero.job_options import JobOptions
from schedule_zero.model import NO_POLICIES, Overlap, ScheduleState
from schedule_zero.rules.policies import policies_of, skips_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from schedule_zero.model import Schedule
    from schedule_zero.rules.catchup import Plan, Policy
    from schedule_zero.store.schedules import ReleaseItem
    from schedule_zero.timing.trigger import Trigger

# APScheduler wants a task and an executor for each schedule; jobs are never run there, so the names mean nothing.
TASK_ID = "fire"
EXECUTOR = "none"

_decode_options = msgspec.json.Decoder(JobOptions).decode
_NO_OPTIONS = JobOptions()


class Alarm(apscheduler.abc.Trigger):
    """A schedule's row with its trigger ready to be asked, and what was decided in the current round."""

    __slots__ = (
        "_answer", "broken", "options", "ordinary", "plain", "plan", "policies", "policy", "queued_us", "row",
        "schedule", "skips", "trigger",
    )  # fmt: skip

    def __init__(self, row: Schedule, trigger_of: Callable[[Schedule], Trigger]) -> None:
        self.row = row
        self.trigger: Trigger | None = None
        self.options = _NO_OPTIONS
        self.policies = NO_POLICIES
        self.skips: frozenset[int] = frozenset()
        # How lateness is treated; worked out when it is first needed.
        self.policy: Policy | None = None
        # Why it can't be fired at all, in words for its owner.
        self.broken: str | None = None
        # Its due time while it waits in the window's queue.
        self.queued_us: int | None = None
        # What was decided in this round; none: it can't be fired.
        self.plan: Plan | None = None
        self._answer: datetime | None = None
        try:
            self.trigger = trigger_of(row)
            if row.options is not None:
                self.options = _decode_options(row.options)
            self.policies = policies_of(row.policies)
        except (InvalidTrigger, InvalidCalendar, msgspec.DecodeError) as error:
            self.broken = f"the stored schedule can't be read: {error}"
        self._see()
        self.schedule = apscheduler.Schedule(
            id=row.id,
            task_id=TASK_ID,
            trigger=self,
            job_executor=EXECUTOR,
            next_fire_time=from_us(row.next_fire_us or 0),
        )

    def _see(self) -> None:
        row, policies = self.row, self.policies
        self.skips = frozenset(skips_of(row.skips))
        # Nothing but lateness bears on its fires.
        self.plain = (
            row.state is ScheduleState.ACTIVE
            and not self.skips
            and policies.max_fires is None
            and not policies.exclude
            and not policies.require
            and policies.business_days is None
        )
        # … and each of them starts as soon as it is due.
        self.ordinary = self.plain and policies.overlap is Overlap.ALLOW and not policies.grouped

    def released(self, item: ReleaseItem) -> None:
        """A round of it is committed: the row is what the store has now."""
        row = self.row
        row.next_fire_us, row.last_fire_us = item.next_fire_us, item.last_fire_us
        row.runs += item.runs
        if item.plain:
            row.state = item.state
            return
        row.state, row.resume_us, row.skips, row.waits_for = item.state, item.resume_us, item.skips, item.waits_for
        self._see()

    def ring(self) -> apscheduler.Schedule:
        """The schedule to hand to APScheduler for this round."""
        plan = self.plan
        self._answer = None if plan is None or plan.next_us is None else from_us(plan.next_us)
        # Its ``next_fire_time`` stays what it was: the loop only copies it into the job that we ignore.
        return self.schedule

    def next(self) -> datetime | None:
        """The next nominal time after this round, once; then ``None``, so that the loop asks no further."""
        answer, self._answer = self._answer, None
        return answer

    def __getstate__(self) -> Any:
        raise NotImplementedError("an alarm lives in memory only")

    def __setstate__(self, state: Any) -> None:
        raise NotImplementedError("an alarm lives in memory only")
