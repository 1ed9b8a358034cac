# ruff: noqa: ARG002  # the arguments are APScheduler's
"""APScheduler's data store on our tables: the one place where its loop and our rounds meet.

APScheduler is the alarm clock and never the record. Its loop asks what is due, walks the triggers, hands over a job
for each (which we ignore: what becomes of a nominal time was decided before) and releases, which writes the ledger,
the executions and the schedules' new times in one transaction (C1).

Only the calls that the loop makes in the scheduler role are here; the others say plainly that they are not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn, cast

from apscheduler.abc import DataStore

from schedule_zero.clock import SystemClock, from_us

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from datetime import datetime, timedelta
    from logging import Logger
    from uuid import UUID

    from apscheduler import ConflictPolicy, Job, JobResult, Schedule, ScheduleResult, Task
    from apscheduler.abc import EventBroker

    from schedule_zero.timing.alarm import Alarm
    from schedule_zero.timing.rounds import Rounds


class TimerDataStore(DataStore):
    """What ``AsyncScheduler(role=SchedulerRole.scheduler)`` sees of our store."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        # AsyncScheduler reads the system's wall clock itself, so it is told differences to that, not our clock's time.
        self._its_clock = SystemClock()
        self.broker: asyncio.Future[EventBroker] = asyncio.get_running_loop().create_future()

    async def start(self, exit_stack: AsyncExitStack, event_broker: EventBroker, logger: Logger) -> None:
        self.broker.set_result(event_broker)

    async def acquire_schedules(self, scheduler_id: str, lease_duration: timedelta, limit: int) -> list[Schedule]:
        """What is due now. There is no lease: the release is fenced by what was read here."""
        return [alarm.ring() for alarm in await self._rounds.take()]

    async def extend_acquired_schedule_leases(
        self, scheduler_id: str, schedule_ids: set[str], duration: timedelta
    ) -> None:
        """Nothing to extend."""

    async def add_job(self, job: Job) -> None:
        """Nothing: the release writes the executions."""

    async def release_schedules(self, scheduler_id: str, results: Sequence[ScheduleResult]) -> None:
        """Write what was decided. The new times come from our plans, not from the loop's walk."""
        if results:
            await self._rounds.write([cast("Alarm", result.trigger) for result in results])

    async def get_next_schedule_run_time(self) -> datetime | None:
        wait_us = await self._rounds.wait_us()
        return from_us(self._its_clock.wall_us() + wait_us)

    async def cleanup(self) -> None:
        """Nothing: finished schedules stay visible until their owner deletes them."""

    # --- what it does not do -----------------------------------------------------------------------

    async def add_task(self, task: Task) -> None:
        _not_here()

    async def remove_task(self, task_id: str) -> None:
        _not_here()

    async def get_task(self, task_id: str) -> Task:
        _not_here()

    async def get_tasks(self) -> list[Task]:
        _not_here()

    async def get_schedules(self, ids: set[str] | None = None) -> list[Schedule]:
        _not_here()

    async def add_schedule(self, schedule: Schedule, conflict_policy: ConflictPolicy) -> None:
        _not_here()

    async def remove_schedules(self, ids: Iterable[str]) -> None:
        _not_here()

    async def get_jobs(self, ids: Iterable[UUID] | None = None) -> list[Job]:
        _not_here()

    async def acquire_jobs(self, scheduler_id: str, lease_duration: timedelta, limit: int | None = None) -> list[Job]:
        _not_here()

    async def release_job(self, scheduler_id: str, job: Job, result: JobResult) -> None:
        _not_here()

    async def get_job_result(self, job_id: UUID) -> JobResult | None:
        _not_here()

    async def reap_abandoned_jobs(self, scheduler_id: str) -> None:
        _not_here()


def _not_here() -> NoReturn:
    raise NotImplementedError(
        "schedules, tasks and jobs are kept by schedule_zero.store; APScheduler only says when to look"
    )
