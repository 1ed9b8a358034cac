"""Stands for the client where the scheduler is a bare one: the verbs that scenarios for it use, in its own words.

What it has no words for is refused, never imitated: a scenario measures APScheduler, not this.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NoReturn

import msgspec
from apscheduler import (
    AsyncScheduler,
    CoalescePolicy,
    ConflictingIdError,
    ConflictPolicy,
    Schedule,
    ScheduleLookupError,
)

from schedule_zero.client.records import ExecutionRecord, FireRecord, Page, SchedulePage, ScheduleRecord
from schedule_zero.clock import SystemClock
from schedule_zero.errors import AlreadyExists, BadRequest, NotFound, ScheduleZeroError
from schedule_zero.model import ScheduleState
from schedule_zero.testbed.bare import jobs
from schedule_zero.testbed.bare.executions import Executions, task_id
from schedule_zero.testbed.bare.triggers import translated

COALESCE = {"latest": CoalescePolicy.latest, "all": CoalescePolicy.all}


class Unsupported(BadRequest):
    """A bare APScheduler has no such thing."""

    code = "unsupported"


class Raised(ScheduleZeroError):
    """The scheduler raised what no caller expects."""

    code = "raised"


class BareClient:
    """``AsyncClient`` on an ``AsyncScheduler``: same signatures, same records."""

    def __init__(self, scheduler: AsyncScheduler, executions: Executions) -> None:
        self._scheduler = scheduler
        self._executions = executions
        self._clock = SystemClock()
        self._tasks: set[str] = set()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise Unsupported(f"a bare APScheduler has nothing that does {name!r}: the scenario is none for it")

    # --- jobs -----------------------------------------------------------------------------------------

    async def submit(
        self, handler_id: str, job_method: str, job_params: Mapping[str, Any] | None = None, **options: Any
    ) -> str:
        """A job now; its id."""
        _none(options, "options")
        task = await self._task(handler_id, job_method, None)
        with _named("add_job"):
            return str(await self._scheduler.add_job(task, args=_args(handler_id, job_method, job_params)))

    async def executions(
        self,
        *,
        handler_id: str | None = None,
        status: str | Sequence[str] | None = None,
        since: datetime | None = None,  # noqa: ARG002 - there were none before
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[ExecutionRecord]:
        """By id."""
        return self._executions.page(handler_id, status, limit, cursor)

    # --- schedules ------------------------------------------------------------------------------------

    async def schedule(
        self, handler_id: str, job_method: str, job_params: Mapping[str, Any] | None = None, **said: Any
    ) -> ScheduleRecord:
        """AlreadyExists: its ``id`` is taken."""
        id_ = said.pop("id", None)
        made = await self._put(id_, handler_id, job_method, job_params, ConflictPolicy.exception, **said)
        return _asked_for(made, handler_id, job_method, job_params)

    async def schedule_many(self, schedules: Iterable[Mapping[str, Any]]) -> list[str]:
        """One by one: it has no other way."""
        ids = []
        for one in schedules:
            said = dict(one)
            conflict = ConflictPolicy.exception
            ids.append(await self._put(said.pop("id", None), conflict=conflict, **said))
        return ids

    async def put_schedule(
        self, id: str, handler_id: str, job_method: str, job_params: Mapping[str, Any] | None = None, **said: Any
    ) -> ScheduleRecord:
        """Replace or create it."""
        await self._put(id, handler_id, job_method, job_params, ConflictPolicy.replace, **said)
        return _asked_for(id, handler_id, job_method, job_params)

    async def get_schedule(self, id: str) -> ScheduleRecord:
        """NotFound: it is not there, or not any more."""
        try:
            with _named("get_schedule"):
                return _record(await self._scheduler.get_schedule(id))
        except ScheduleLookupError:
            raise NotFound(f"there is no schedule {id}") from None

    async def schedules(
        self, *, handler_id: str | None = None, state: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> SchedulePage:
        """By id. It only ever gives all of them."""
        rows = sorted(map(_record, await self._all()), key=lambda row: row.id)
        found = [
            row
            for row in rows
            if (handler_id is None or row.handler_id == handler_id) and (state is None or row.state == state)
        ]
        rest = [row for row in found if cursor is None or row.id > cursor]
        more = rest[limit - 1].id if len(rest) > limit else None
        return SchedulePage(schedules=rest[:limit], count=len(found), next_cursor=more)

    async def delete_schedule(self, id: str) -> None:
        with _named("remove_schedule"):
            await self._scheduler.remove_schedule(id)

    async def delete_schedules(self, ids: Iterable[str]) -> list[str]:
        """One by one; the ids of those that were there."""
        wanted = set(ids)
        there = [one.id for one in await self._all() if one.id in wanted]
        for id_ in there:
            await self.delete_schedule(id_)
        return there

    async def pause_schedule(self, id: str) -> ScheduleRecord:
        with _named("pause_schedule"):
            await self._scheduler.pause_schedule(id)
        return await self.get_schedule(id)

    async def resume_schedule(self, id: str) -> ScheduleRecord:
        """From the next time on that is still to come."""
        with _named("unpause_schedule"):
            await self._scheduler.unpause_schedule(id, resume_from="now")
        return await self.get_schedule(id)

    async def fires(self, schedule_id: str, *, limit: int = 100, cursor: str | None = None) -> Page[FireRecord]:  # noqa: ARG002
        """None: it keeps no ledger."""
        return Page(records=[])

    # --- in its own words -----------------------------------------------------------------------------

    async def _all(self) -> list[Schedule]:
        with _named("get_schedules"):
            return await self._scheduler.get_schedules()

    async def _put(
        self,
        id_: str | None,
        handler_id: str,
        job_method: str,
        job_params: Mapping[str, Any] | None = None,
        conflict: ConflictPolicy = ConflictPolicy.exception,
        *,
        trigger: Any,
        timezone: str | None = None,
        policies: Mapping[str, Any] | None = None,
        paused: bool = False,
        note: str | None = None,  # noqa: ARG002 - nothing depends on it
        **options: Any,
    ) -> str:
        _none(options, "options")
        overlap, coalesce = _policies(policies or {})
        if overlap == "skip" and id_ is None:
            raise Unsupported("overlap: skip takes a schedule with an id")
        made = translated(trigger, zone=timezone, now_us=self._clock.wall_us())
        task = await self._task(handler_id, job_method, id_ if overlap == "skip" else None)
        try:
            with _named("add_schedule"):
                return await self._scheduler.add_schedule(
                    task,
                    made.trigger,
                    id=id_,
                    args=_args(handler_id, job_method, job_params),
                    paused=paused,
                    coalesce=coalesce,
                    metadata={jobs.GRID: msgspec.to_builtins(made.grid)},
                    conflict_policy=conflict,
                )
        except ConflictingIdError:
            raise AlreadyExists(f"there is a schedule {id_} already") from None

    async def _task(self, handler_id: str, job_method: str, schedule_id: str | None) -> str:
        """A limit of runs is a task's; so a schedule that must not overlap has a task of its own."""
        id_ = task_id(handler_id, job_method, schedule_id)
        if id_ not in self._tasks:
            on_loop = inspect.iscoroutinefunction(jobs.method(handler_id, job_method))
            with _named("configure_task"):
                await self._scheduler.configure_task(
                    id_,
                    func=jobs.run_on_loop if on_loop else jobs.run_in_thread,
                    job_executor="async" if on_loop else "threadpool",
                    max_running_jobs=None if schedule_id is None else 1,
                )
            self._tasks.add(id_)
        return id_


@contextmanager
def _named(verb: str) -> Iterator[None]:
    """Raised, in a line, where the verb of APScheduler raised what it does not announce."""
    try:
        yield
    except (ConflictingIdError, ScheduleLookupError):
        raise
    except Exception as error:
        first = str(error).partition("\n")[0]
        raise Raised(f"APScheduler's {verb} raised {type(error).__name__}: {first}") from error


def _args(handler_id: str, job_method: str, job_params: Mapping[str, Any] | None) -> tuple[str, str, bytes]:
    # As JSON, so that no run sees what another one did to its parameters.
    return handler_id, job_method, msgspec.json.encode(dict(job_params or {}))


def _policies(said: Mapping[str, Any]) -> tuple[str, CoalescePolicy]:
    """Overlap, and what becomes of times that were missed."""
    _none({name: value for name, value in said.items() if name not in ("overlap", "catch_up")}, "policies")
    overlap, catch_up = said.get("overlap", "allow"), said.get("catch_up", "latest")
    if overlap not in ("allow", "skip") or catch_up not in COALESCE:
        raise Unsupported(f"a bare APScheduler has no overlap {overlap} with catch_up {catch_up}")
    return overlap, COALESCE[catch_up]


def _none(said: Mapping[str, Any], what: str) -> None:
    if said:
        raise Unsupported(f"a bare APScheduler has no such {what}: {', '.join(said)}")


def _asked_for(id_: str, handler_id: str, job_method: str, params: Mapping[str, Any] | None) -> ScheduleRecord:
    """What was just made, without asking for it: that would be one more request than a user makes."""
    return ScheduleRecord(
        id=id_, handler_id=handler_id, job_method=job_method, job_params=dict(params or {}), trigger={}
    )


def _record(schedule: Schedule) -> ScheduleRecord:
    handler_id, job_method, params = schedule.args
    state = ScheduleState.PAUSED if schedule.paused else ScheduleState.ACTIVE
    return ScheduleRecord(
        id=schedule.id,
        handler_id=handler_id,
        job_method=job_method,
        job_params=msgspec.json.decode(params),
        trigger={},
        state=state if schedule.next_fire_time is not None else ScheduleState.FINISHED,
        next_fire_time=schedule.next_fire_time,
        last_fire_time=schedule.last_fire_time,
    )
