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
from schedule_zero.errors import InvalidTrigger
from schedule_zero.model import JobOptions
from schedule_zero.timing.parse import load_trigger

if TYPE_CHECKING:
    from schedule_zero.model import Schedule
    from schedule_zero.rules.catchup import Plan
    from schedule_zero.timing.trigger import Trigger

# APScheduler wants a task and an executor for each schedule; jobs are never run there, so the names mean nothing.
TASK_ID = "fire"
EXECUTOR = "none"

_decode_options = msgspec.json.Decoder(JobOptions).decode
_NO_OPTIONS = JobOptions()


class Alarm(apscheduler.abc.Trigger):
    """A schedule's row with its trigger ready to be asked, and what was decided in the current round."""

    __slots__ = ("_answer", "broken", "options", "plan", "queued_us", "row", "schedule", "trigger")

    def __init__(self, row: Schedule) -> None:
        self.row = row
        self.trigger: Trigger | None = None
        self.options = _NO_OPTIONS
        # Why it can't be fired at all, in words for its owner.
        self.broken: str | None = None
        # Its due time while it waits in the window's queue.
        self.queued_us: int | None = None
        # What was decided in this round; none: it can't be fired.
        self.plan: Plan | None = None
        self._answer: datetime | None = None
        try:
            self.trigger = load_trigger(row.trigger)
            if row.options is not None:
                self.options = _decode_options(row.options)
        except (InvalidTrigger, msgspec.DecodeError) as error:
            self.broken = f"the stored schedule can't be read: {error}"
        self.schedule = apscheduler.Schedule(
            id=row.id,
            task_id=TASK_ID,
            trigger=self,
            job_executor=EXECUTOR,
            next_fire_time=from_us(row.next_fire_us or 0),
        )

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
