"""What a bare APScheduler tells of its jobs, kept as execution records. It keeps none itself: it has events."""

from __future__ import annotations

from typing import Any

from apscheduler import AsyncScheduler, Event, JobAcquired, JobAdded, JobOutcome, JobReleased
from msgspec import structs

from schedule_zero.client.records import ExecutionRecord, JobError, Page
from schedule_zero.clock import SystemClock, from_us
from schedule_zero.model import State

OUTCOMES = {
    JobOutcome.success: State.COMPLETED,
    JobOutcome.error: State.FAILED,
    JobOutcome.missed_start_deadline: State.MISFIRED,
    JobOutcome.deserialization_failed: State.FAILED,
    JobOutcome.cancelled: State.CANCELLED,
    JobOutcome.abandoned: State.DEAD,
}
# Events come in no order: what is further on stays.
_RANK = {State.PENDING: 0, State.RUNNING: 1}


def task_id(handler_id: str, job_method: str, schedule_id: str | None = None) -> str:
    """A task for each method; for each schedule of it, where its runs are to be counted by that."""
    return f"{handler_id}.{job_method}" + (f"#{schedule_id}" if schedule_id is not None else "")


class Executions:
    """Every job that was added since ``listen``."""

    def __init__(self) -> None:
        self._rows: dict[str, ExecutionRecord] = {}
        self._open: dict[str, str] = {}
        self._clock = SystemClock()

    def listen(self, scheduler: AsyncScheduler) -> None:
        scheduler.subscribe(self.on, {JobAdded, JobAcquired, JobReleased})

    def on(self, event: Event) -> None:
        now = from_us(self._clock.wall_us())
        if isinstance(event, JobAdded):
            self._note(event, State.PENDING, created_at=now)
        elif isinstance(event, JobAcquired):
            self._note(event, State.RUNNING, nominal_time=event.scheduled_start)
        elif isinstance(event, JobReleased):
            error = None
            if event.exception_type is not None:
                error = JobError(type=event.exception_type, message=event.exception_message or "")
            self._note(event, OUTCOMES[event.outcome], started_at=event.started_at, finished_at=now, error=error)

    def page(self, handler_id: str | None, status: Any, limit: int, cursor: str | None) -> Page[ExecutionRecord]:
        """By id; ``status`` a state or several."""
        wanted = None if status is None else {status} if isinstance(status, str) else set(status)
        among = self._rows
        if wanted is not None and not wanted & {*OUTCOMES.values()}:
            among = {id_: self._rows[id_] for id_ in self._open}
        found = [
            row
            for id_, row in sorted(among.items())
            if (cursor is None or id_ > cursor)
            and (handler_id is None or row.handler_id == handler_id)
            and (wanted is None or row.status in wanted)
        ]
        return Page(records=found[:limit], next_cursor=found[limit - 1].id if len(found) > limit else None)

    def _note(self, event: JobAdded | JobAcquired | JobReleased, status: State, **said: Any) -> None:
        id_ = str(event.job_id)
        row = self._rows.get(id_)
        if row is None:
            handler_id, _, job_method = event.task_id.partition("#")[0].partition(".")
            row = ExecutionRecord(
                id=id_, handler_id=handler_id, job_method=job_method, status=status, schedule_id=event.schedule_id
            )
        if _RANK.get(row.status, 2) > _RANK.get(status, 2):
            status = row.status
        self._rows[id_] = structs.replace(row, status=status, **said)
        if status in _RANK:
            self._open[id_] = id_
        else:
            self._open.pop(id_, None)
