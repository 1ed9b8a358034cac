"""What one can ask of a server: each verb once, for both clients. A verb is a flow (see ``flow``) and does no I/O.

Times go in as aware datetimes or unix seconds, and come out as aware datetimes. Parameters and results are JSON.
Every verb raises the typed errors of ``schedule_zero.errors``; ServerUnreachable where no answer came in time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Unpack

from schedule_zero.client import answers, records
from schedule_zero.client.asking import ANYTHING, POLL_S, Json, Moment, bulks, job, match, segment
from schedule_zero.client.calendar_verbs import CalendarVerbs
from schedule_zero.client.change_verbs import ChangeVerbs
from schedule_zero.client.dead_letter_verbs import DeadLetterVerbs
from schedule_zero.client.flow import Flow
from schedule_zero.client.group_verbs import GroupVerbs
from schedule_zero.client.ledger_verbs import LedgerVerbs
from schedule_zero.client.log_verbs import LogVerbs
from schedule_zero.client.node_verbs import NodeVerbs
from schedule_zero.client.policy_verbs import PolicyVerbs
from schedule_zero.client.records import ExecutionRecord, Job, Page, ScheduleRecord
from schedule_zero.client.verb import verb
from schedule_zero.errors import JobFailed, ScheduleZeroError
from schedule_zero.job_options import Options
from schedule_zero.model import new_id


class Verbs(DeadLetterVerbs, PolicyVerbs, CalendarVerbs, LedgerVerbs, LogVerbs, NodeVerbs, GroupVerbs, ChangeVerbs):
    """The methods of both clients. What each returns here, ``Client`` returns; ``AsyncClient`` returns a coroutine."""

    # --- jobs -------------------------------------------------------------------------------------

    @verb
    def run(
        self,
        handler_id: str,
        job_method: str,
        job_params: Json | None = None,
        *,
        wait_s: float = 300.0,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Flow[records.RunResult]:
        """Run a job now and return its result.

        The same ``idempotency_key`` again runs nothing, and gives the same result; the job sees it as well.
        Raises JobFailed where it ended without one, WaitTimeout where it isn't over after ``wait_s`` (it goes on;
        ``data["execution_id"]`` says which).
        """
        until_s = self.clock.mono_s() + wait_s
        first_s = min(wait_s, POLL_S)
        body = job(handler_id, job_method, job_params, options, idempotency_key=idempotency_key, wait_s=first_s)
        ran = yield from self.ask("POST", "/api/run_now", answers.Ran, body=body, key=idempotency_key, wait_s=first_s)
        if ran.status == "accepted":
            left_s = until_s - self.clock.mono_s()
            over = yield from self.until_over(ran.execution_id, left_s)
            value = over.value()
            if over.result_bytes:
                value = yield from self.whole_result(over.id)
            return records.RunResult(execution_id=over.id, result=value)
        if ran.status != "success":
            error = ran.error or records.JobError()
            raise JobFailed(ran.message, execution_id=ran.execution_id, type=error.type, traceback=error.traceback)
        value = ran.result
        if ran.result_bytes:
            value = yield from self.whole_result(ran.execution_id)
        return records.RunResult(execution_id=ran.execution_id, result=value, message=ran.message)

    @verb
    def submit(
        self,
        handler_id: str,
        job_method: str,
        job_params: Json | None = None,
        *,
        not_before: Moment | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Flow[str]:
        """Have a job run; returns its execution's id as soon as it is stored.

        The same ``idempotency_key`` again gives the same id, and no second execution; the job sees it as well.
        """
        more = {"not_before": not_before, "idempotency_key": idempotency_key}
        body = job(handler_id, job_method, job_params, options, **more)
        made = yield from self.ask("POST", "/api/executions", answers.Ids, body=body, key=idempotency_key)
        return made.ids[0]

    @verb
    def submit_many(self, jobs: Iterable[Job | Json]) -> Flow[list[str]]:
        """Have many jobs run; their ids, in order.

        They are stored up to 10,000 (or 8 MiB) at a time, each such chunk wholly or not at all. An error leaves the
        chunks before it stored; ``data["ids"]`` has their ids. What is sent again because an answer was lost is stored
        once; a second call submits everything again, whatever ``idempotency_key`` its jobs carry.
        """
        ids: list[str] = []
        for body in bulks("executions", jobs):
            try:
                made = yield from self.ask("POST", "/api/executions", answers.Ids, body=body, key=new_id())
            except ScheduleZeroError as error:
                error.data["ids"] = ids
                raise
            ids += made.ids
        return ids

    @verb
    def wait(self, execution_id: str, wait_s: float | None = None) -> Flow[ExecutionRecord]:
        """Wait until an execution is over, however it ended. Raises WaitTimeout after ``wait_s`` (None: never)."""
        return (yield from self.until_over(execution_id, wait_s))

    @verb
    def result(self, execution_id: str) -> Flow[Any]:
        """What a completed execution returned, however large. Raises Conflict (``wrong_state``) for any other."""
        return (yield from self.whole_result(execution_id))

    @verb
    def execution(self, execution_id: str) -> Flow[ExecutionRecord]:
        """One execution with its attempts, its parameters and its newest progress."""
        return (yield from self.ask("GET", f"/api/executions/{segment(execution_id)}", ExecutionRecord))

    @verb
    def executions(
        self,
        *,
        search: str | None = None,
        timezone: str | None = None,
        handler_id: str | None = None,
        job_method: str | None = None,
        schedule_id: str | None = None,
        node_id: str | None = None,
        group_id: str | None = None,
        status: str | Sequence[str] | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Flow[Page[ExecutionRecord]]:
        """Executions, newest first. ``search`` is a search (``state:failed job:etl.* arg.customer:42``), with days and
        local times of ``timezone``. A page may be short, even empty: only one without a ``next_cursor`` is the last.
        """
        query = {
            "q": search,
            "timezone": timezone,
            "handler_id": handler_id,
            "job_method": job_method,
            "schedule_id": schedule_id,
            "node_id": node_id,
            "group_id": group_id,
            "status": status,
            "since": since,
            "until": until,
            "limit": limit,
            "cursor": cursor,
        }
        return (yield from self.ask("GET", "/api/executions", Page[ExecutionRecord], query=query))

    @verb
    def cancel(self, execution_id: str) -> Flow[records.CancelRecord]:
        """End an execution: at once where it waits; where it runs, its node is told, and confirms."""
        return (yield from self.ask("POST", f"/api/executions/{segment(execution_id)}/cancel", records.CancelRecord))

    @verb
    def cancel_many(
        self,
        ids: Sequence[str] | None = None,
        *,
        handler_id: str | None = None,
        job_method: str | None = None,
        schedule_id: str | None = None,
        group_id: str | None = None,
        node_id: str | None = None,
        status: Sequence[str] | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        dry_run: bool = False,
    ) -> Flow[records.CancelledMany]:
        """End many executions: these, or all that are open and fit; with ``dry_run`` they are only counted.

        Where ``status`` leaves ``running`` out, nothing that has started is touched.
        """
        filters = {
            "handler_id": handler_id,
            "job_method": job_method,
            "schedule_id": schedule_id,
            "group_id": group_id,
            "node_id": node_id,
            "status": None if status is None else list(status),
            "since": since,
            "until": until,
            "dry_run": dry_run or None,
        }
        body = {name: value for name, value in filters.items() if value is not None}
        if ids is not None:
            body["ids"] = list(ids)
        done = records.CancelledMany(0, 0, 0, 0)
        while True:
            # Twice does no more than once.
            step = yield from self.ask(
                "POST", "/api/executions/cancel", records.CancelledMany, body=body, repeatable=True
            )
            done = done.plus(step)
            if step.next_cursor is None:
                return done
            body["cursor"] = step.next_cursor

    @verb
    def retry(self, execution_id: str) -> Flow[str]:
        """Run the same work again; the id of the new execution."""
        made = yield from self.ask(
            "POST", f"/api/executions/{segment(execution_id)}/retry", answers.Created, key=new_id()
        )
        return made.id

    # --- schedules --------------------------------------------------------------------------------

    @verb
    def schedule(
        self,
        handler_id: str,
        job_method: str,
        job_params: Json | None = None,
        *,
        trigger: Json,
        timezone: str | None = None,
        id: str | None = None,
        policies: Json | None = None,
        misfire_grace_s: float | None = None,
        paused: bool = False,
        note: str | None = None,
        **options: Unpack[Options],
    ) -> Flow[ScheduleRecord]:
        """Create a schedule. Raises AlreadyExists for an ``id`` that is taken; None: the server makes one.

        ``timezone`` is that of triggers which name none; ``policies`` (``overlap``, ``catch_up`` …) say what happens
        to the fires.
        """
        more = _schedule(trigger, timezone, policies, misfire_grace_s=misfire_grace_s, paused=paused, note=note)
        body = job(handler_id, job_method, job_params, options, id=id, **more)
        made = yield from self.ask("POST", "/api/schedules", answers.Schedules, body=body, key=new_id())
        return made.schedules[0]

    @verb
    def schedule_many(self, schedules: Iterable[Json]) -> Flow[list[str]]:
        """Create many schedules; their ids, in order. 10,000 at a time, each such chunk wholly or not at all."""
        ids: list[str] = []
        for body in bulks("schedules", schedules):
            made = yield from self.ask("POST", "/api/schedules", answers.Ids, body=body, key=new_id())
            ids += made.ids
        return ids

    @verb
    def put_schedule(
        self,
        id: str,
        handler_id: str,
        job_method: str,
        job_params: Json | None = None,
        *,
        trigger: Json,
        timezone: str | None = None,
        policies: Json | None = None,
        misfire_grace_s: float | None = None,
        paused: bool = False,
        note: str | None = None,
        if_match: str | None = None,
        create_only: bool = False,
        **options: Unpack[Options],
    ) -> Flow[ScheduleRecord]:
        """Replace or create a schedule as a whole.

        Raises PreconditionFailed where it isn't (any more) the one whose ``etag`` is ``if_match``, or where
        ``create_only`` and there is one.
        """
        more = _schedule(trigger, timezone, policies, misfire_grace_s=misfire_grace_s, paused=paused, note=note)
        body = job(handler_id, job_method, job_params, options, **more)
        headers = match(if_match) + ((("If-None-Match", "*"),) if create_only else ())
        path = f"/api/schedules/{segment(id)}"
        return (yield from self.ask("PUT", path, ScheduleRecord, body=body, headers=headers))

    @verb
    def update_schedule(self, id: str, /, *, if_match: str | None = None, **changes: Any) -> Flow[ScheduleRecord]:
        """Change what is named (RFC 7386 merge patch); None puts a field back to its default."""
        path = f"/api/schedules/{segment(id)}"
        return (yield from self.ask("PATCH", path, ScheduleRecord, body=changes, headers=match(if_match)))

    @verb
    def get_schedule(self, id: str) -> Flow[ScheduleRecord]:
        """One schedule. Raises NotFound."""
        return (yield from self.ask("GET", f"/api/schedules/{segment(id)}", ScheduleRecord))

    @verb
    def schedules(
        self,
        *,
        handler_id: str | None = None,
        state: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Flow[records.SchedulePage]:
        """Schedules, by id."""
        query = {"handler_id": handler_id, "state": state, "limit": limit, "cursor": cursor}
        return (yield from self.ask("GET", "/api/schedules", records.SchedulePage, query=query))

    @verb
    def delete_schedule(self, id: str, *, if_match: str | None = None) -> Flow[None]:
        """Forget a schedule; its ledger and its executions stay. Raises NotFound."""
        yield from self.ask("DELETE", f"/api/schedules/{segment(id)}", ANYTHING, headers=match(if_match))

    @verb
    def delete_schedules(self, ids: Iterable[str]) -> Flow[list[str]]:
        """Forget schedules; the ids of those that were there. 10,000 in one transaction."""
        deleted: list[str] = []
        for body in bulks("ids", ids):
            done = yield from self.ask("POST", "/api/schedules/delete", answers.Deleted, body=body)
            deleted += done.deleted
        return deleted

    @verb
    def pause_schedule(self, id: str, note: str | None = None, *, until: Moment | None = None) -> Flow[ScheduleRecord]:
        """Stop executing; due fires go on being recorded, as skipped. It goes on by itself at ``until``."""
        body = {"note": note, "until": until}
        return (yield from self.ask("POST", f"/api/schedules/{segment(id)}/pause", ScheduleRecord, body=body))

    @verb
    def resume_schedule(self, id: str) -> Flow[ScheduleRecord]:
        """Execute again, from the next nominal time on."""
        return (yield from self.ask("POST", f"/api/schedules/{segment(id)}/resume", ScheduleRecord))

    @verb
    def run_schedule(self, id: str) -> Flow[str]:
        """Run a schedule's job once, now; its times stay as they are. The id of the execution.

        Where the schedule says ``broadcast`` or ``shards``: that of the group (``wait_group``).
        """
        made = yield from self.ask("POST", f"/api/schedules/{segment(id)}/run", answers.Created, key=new_id())
        return made.id

    @verb
    def fires(
        self,
        schedule_id: str,
        *,
        outcome: str | None = None,
        since: Moment | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Flow[Page[records.FireRecord]]:
        """The ledger of a schedule, newest first; it outlives the schedule."""
        query = {"outcome": outcome, "since": since, "limit": limit, "cursor": cursor}
        path = f"/api/schedules/{segment(schedule_id)}/fires"
        return (yield from self.ask("GET", path, Page[records.FireRecord], query=query))

    @verb
    def preview(self, trigger: Json, *, n: int = 10, after: Moment | None = None) -> Flow[records.Preview]:
        """A trigger in words, and when it would fire next."""
        body = {"trigger": trigger, "n": n} | ({} if after is None else {"after": after})
        return (yield from self.ask("POST", "/api/triggers/preview", records.Preview, body=body))

    # --- handlers, nodes, the server ----------------------------------------------------------------

    @verb
    def handlers(self) -> Flow[list[records.HandlerRecord]]:
        """Every handler that was ever declared, connected or not."""
        return (yield from self.ask("GET", "/api/handlers", answers.Handlers)).handlers

    @verb
    def health(self) -> Flow[dict[str, Any]]:
        """``status`` is ``ok`` or ``degraded``; needs no token."""
        return (yield from self.ask("GET", "/api/health", dict[str, Any]))

    @verb
    def request(
        self, method: str, path: str, *, query: Json | None = None, body: Any = None, repeatable: bool | None = None
    ) -> Flow[Any]:
        """Any request, as decoded JSON: for what has no verb here. A POST is not repeated unless ``repeatable``."""
        again = method != "POST" if repeatable is None else repeatable
        return (yield from self.ask(method, path, ANYTHING, query=query, body=body, repeatable=again))


def _schedule(trigger: Json, timezone: str | None, policies: Json | None, **more: Any) -> dict[str, Any]:
    """The fields of a schedule's body beside its job's; None stays out."""
    return {"trigger": trigger, "timezone": timezone, "policies": policies, **more}
