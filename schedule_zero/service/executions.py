"""Verbs on executions: submit, run now, look, wait, cancel, retry, clear."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import structlog

from schedule_zero.clock import Clock, rfc3339
from schedule_zero.config import LimitsConfig
from schedule_zero.dispatch.dispatcher import Dispatcher
from schedule_zero.dispatch.views import ProgressView, reached
from schedule_zero.dispatch.waiting import WaitingFor
from schedule_zero.errors import BadRequest, Duplicate, NotFound, TooLarge, WrongState
from schedule_zero.job_options import JobOptions
from schedule_zero.model import Execution, Group, Origin, State, new_id
from schedule_zero.ops.events import EventHub
from schedule_zero.rules.birth import again, equip
from schedule_zero.rules.change_log import Actor, ChangeVerb, Deed
from schedule_zero.rules.options import NO_OPTIONS, Source
from schedule_zero.rules.states import TERMINAL
from schedule_zero.service.cancel_many import CancelledMany, cancel_found, cancel_ids
from schedule_zero.service.idempotency import idempotency_record, known
from schedule_zero.service.params import check_options, check_params
from schedule_zero.service.specs import ExecutionView, IdemKey, Principal, RunNow, SubmitItem, Submitted
from schedule_zero.store import Store
from schedule_zero.store import executions as store_executions
from schedule_zero.store import results as store_results
from schedule_zero.store.idempotency import IdempotencyRecord, IdempotentReplay
from schedule_zero.store.tx import Page

log = structlog.get_logger(__name__)

# Of the executions that took the place of one, the newest are shown.
MAX_KIN = 10


class _Told(msgspec.Struct):
    """What a repetition is told where a submission was joined to others' executions."""

    ids: list[str]
    existing: list[str]


decode_told = msgspec.json.Decoder(list[str] | _Told).decode


class ExecutionService:
    """Everything that can be done with executions."""

    def __init__(
        self, *, store: Store, dispatcher: Dispatcher, hub: EventHub, clock: Clock, limits: LimitsConfig
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._hub = hub
        self._clock = clock
        self._limits = limits

    # --- create -----------------------------------------------------------------------------------

    async def submit(self, principal: Principal, items: Sequence[SubmitItem], idem: IdemKey | None = None) -> Submitted:
        """Create executions, all or none; returns their ids in order once they are committed.

        Raises UnknownHandler, UnknownMethod or InvalidParams with a pointer to the offending item.
        """
        if len(items) > self._limits.bulk:
            raise TooLarge(
                f"at most {self._limits.bulk} executions in one request, got {len(items)}", pointer="/executions"
            )
        rows = self._rows(items, Origin.SUBMIT, bulk=len(items) != 1)
        return await self._submit_rows(principal, rows, idem)

    async def run_now(
        self, principal: Principal, item: SubmitItem, wait_s: float, idem: IdemKey | None = None
    ) -> RunNow:
        """Create one execution and wait up to ``wait_s`` seconds for its end."""
        rows = self._rows([item], Origin.RUN_NOW)
        return await self._insert_and_wait(principal, rows[0], wait_s, idem)

    def check(self, item: SubmitItem) -> None:
        """Whether ``submit`` would take it, as far as its parameters and options go: raises as that does."""
        check_params(self._dispatcher.registry, self._limits, item.handler_id, item.job_method, bytes(item.job_params))
        check_options(item.options)

    async def retry(
        self,
        principal: Principal,
        execution_id: str,
        idem: IdemKey | None = None,
        *,
        params: bytes | None = None,
        options: JobOptions = NO_OPTIONS,
        not_before_us: int | None = None,
    ) -> Submitted:
        """A new execution of the same work; the old one, which has to be over, stays, and is a dead letter no more.

        With other ``params`` (an encoded JSON object; None: the same), with ``options`` that are to be others than they
        were, or later, if that is wanted.
        """
        old = (await self.get(execution_id)).execution
        if old.state not in TERMINAL:
            raise WrongState(f"execution {execution_id} is {old.state}; only one that is over can be retried")
        now_us = self._clock.wall_us()
        given = old.params if params is None else params
        check_params(self._dispatcher.registry, self._limits, old.handler_id, old.job_method, given)
        check_options(options)
        later_us = not_before_us if not_before_us is not None and not_before_us > now_us else None
        row = again(old, now_us, params=params, narrow=options, not_before_us=later_us)
        # Whoever runs it again has dealt with it.
        settles = (old.id,) if old.dead_letter is not None else ()
        retried = Deed(verb=ChangeVerb.EXECUTION_RETRIED, subject=old.id, asked={"state": old.state})
        return await self._submit_rows(principal, [row], idem, settles, retried)

    async def submit_for(
        self, principal: Principal, schedule_id: str, item: SubmitItem, idem: IdemKey | None = None
    ) -> Submitted:
        """One execution of a schedule's job, outside its fires."""
        return await self._submit_rows(principal, self.rows([item], schedule_id), idem, deed=_run_of(schedule_id))

    async def _submit_rows(
        self,
        principal: Principal,
        rows: list[Execution],
        idem: IdemKey | None,
        settles: tuple[str, ...] = (),
        deed: Deed | None = None,
    ) -> Submitted:
        """``deed``: what it is in the change log, in which a submission has no row."""
        record = idempotency_record(principal, idem, [row.id for row in rows], self._clock)
        try:
            return await self._insert(rows, record, settles, by=None if deed is None else principal.doing(deed))
        except Duplicate as error:
            if len(rows) > 1:
                error.pointer = f"/executions/{error.data['index']}"
            raise

    def _rows(
        self,
        items: Sequence[SubmitItem],
        origin: Origin,
        *,
        bulk: bool = False,
        source: Source = Source.SUBMISSION,
    ) -> list[Execution]:
        now_us = self._clock.wall_us()
        registry, limits = self._dispatcher.registry, self._limits
        rows = []
        for index, item in enumerate(items):
            params = bytes(item.job_params)
            try:
                method = check_params(registry, limits, item.handler_id, item.job_method, params)
                check_options(item.options)
            except (BadRequest, NotFound, TooLarge) as error:
                if bulk:
                    error.pointer = f"/executions/{index}{error.pointer or ''}"
                raise
            later = item.not_before_us is not None and item.not_before_us > now_us
            row = Execution(
                id=new_id(),
                handler_id=item.handler_id,
                job_method=item.job_method,
                params=params,
                state=State.SCHEDULED if later else State.PENDING,
                origin=origin,
                not_before_us=item.not_before_us if later else None,
                idempotency_key=item.idempotency_key,
                created_us=now_us,
            )
            equip(row, item.options, method.options, source)
            rows.append(row)
        return rows

    # --- for groups -------------------------------------------------------------------------------

    def rows(self, items: Sequence[SubmitItem], schedule_id: str | None = None) -> list[Execution]:
        """Executions of these items, checked and not stored; with a ``schedule_id`` as ``submit_for`` makes them."""
        if schedule_id is None:
            return self._rows(items, Origin.SUBMIT)
        rows = self._rows(items, Origin.RUN_NOW, source=Source.SCHEDULE)
        for row in rows:
            row.schedule_id = schedule_id
        return rows

    async def insert_group(
        self, principal: Principal, group: Group, rows: list[Execution], idem: IdemKey | None
    ) -> str | None:
        """Store a group with its members; returns the id of the first time if this is a replay, else None."""
        record = idempotency_record(principal, idem, [group.id], self._clock)
        by = None if group.schedule_id is None else principal.doing(_run_of(group.schedule_id))
        made = await self._insert(rows, record, group=group, by=by)
        return made.ids[0] if made.replayed else None

    async def _insert(
        self,
        rows: list[Execution],
        idem: IdempotencyRecord | None,
        settles: tuple[str, ...] = (),
        group: Group | None = None,
        by: Actor | None = None,
    ) -> Submitted:
        """Insert ``rows`` in one transaction, or find out that they need not be. BacklogFull, Duplicate."""
        dispatcher, backlog = self._dispatcher, self._dispatcher.backlog
        refusal = backlog.why_not(rows)
        if refusal is not None and not await known(self._store, idem):
            backlog.refused += len(rows)
            raise refusal
        backlog.take(rows)
        dispatcher.place(rows)
        done: asyncio.Future[Submitted] = asyncio.get_running_loop().create_future()

        def settled(outcome: object) -> None:
            # In the commit's own callback, not after the await: a caller that has gone away
            # must neither lose the work nor keep the credit.
            backlog.settled(rows)
            if isinstance(outcome, Exception):
                dispatcher.abandoned(rows)
                if not done.cancelled():
                    done.set_exception(outcome)
                return
            answer = Submitted(ids=[row.id for row in rows])
            if isinstance(outcome, IdempotentReplay):
                dispatcher.abandoned(rows)
                answer = _replay(outcome)
            elif isinstance(outcome, store_executions.Joined):
                dispatcher.abandoned([row for row in rows if row.id in outcome.instead])
                dispatcher.committed([row for row in rows if row.id not in outcome.instead])
                answer = Submitted(ids=outcome.ids, existing=outcome.existing)
            else:
                dispatcher.committed(rows)
            if not done.cancelled():
                done.set_result(answer)

        self._store.submit(
            store_executions.insert,
            store_executions.Insert(rows=rows, idem=idem, settles=settles, group=group),
            settled,
            by=by,
        )
        return await done

    async def _insert_and_wait(
        self, principal: Principal, row: Execution, wait_s: float, idem: IdemKey | None
    ) -> RunNow:
        waiter = self._hub.wait_terminal(row.id)
        try:
            made = await self._insert([row], idempotency_record(principal, idem, [row.id], self._clock))
            if made.ids[0] != row.id:
                view = await self.get(made.ids[0], wait_s)
                over = _if_over(view.execution)
                return RunNow(execution_id=made.ids[0], execution=over, replayed=made.replayed)
            await asyncio.wait([waiter], timeout=wait_s)
            if not waiter.done() or waiter.cancelled():
                return RunNow(execution_id=row.id, execution=None)
        finally:
            self._hub.forget(row.id, waiter)
        return RunNow(execution_id=row.id, execution=(await self.get(row.id)).execution)

    # --- look -------------------------------------------------------------------------------------

    async def get(self, execution_id: str, wait_s: float = 0) -> ExecutionView:
        """One execution with its attempts; with ``wait_s`` not before it is over or the time is up."""
        waiter = self._hub.wait_terminal(execution_id) if wait_s > 0 else None
        try:
            view = await self._read(execution_id)
            if waiter is None or view.execution.state in TERMINAL:
                return view
            await asyncio.wait([waiter], timeout=wait_s)
        finally:
            if waiter is not None:
                self._hub.forget(execution_id, waiter)
        return await self._read(execution_id)

    async def _read(self, execution_id: str) -> ExecutionView:
        # Asked for first: with the end that the store may have by then it is forgotten here.
        progress = self._dispatcher.progress(execution_id)
        found = await self._store.read(lambda conn: store_executions.get(conn, execution_id))
        if found is None:
            raise NotFound(f"there is no execution {execution_id!r}")
        if found.execution.state is not State.RUNNING:
            progress = reached(found.execution.progress)
        return ExecutionView(
            execution=found.execution,
            attempts=found.attempts,
            progress=progress,
            waiting_for=self._dispatcher.waiting_for(found.execution),
        )

    def waits_for(self, execution: Execution) -> WaitingFor | None:
        """What is in the way of one that is pending; None: it is not."""
        return self._dispatcher.waiting_for(execution)

    def progress(self, execution_id: str) -> ProgressView | None:
        """How far one that runs is, by what it said last."""
        return self._dispatcher.progress(execution_id)

    async def family(self, execution: Execution) -> store_executions.Family:
        """What it took the place of, and what took its place."""
        return await self._store.read(lambda conn: store_executions.family(conn, execution, limit=MAX_KIN))

    async def oldest_us(self) -> int | None:
        """When the oldest one that is stored was created; what is older was cleared."""
        return await self._store.read(store_executions.oldest_us)

    async def result_part(self, execution: Execution, first: int) -> bytes:
        """From byte ``first`` on, the next part of a result that is stored aside; empty: it isn't there any more."""
        return await self._store.read(lambda conn: store_results.read(conn, execution.id, execution.token, first))

    async def sweep_results(self, older_than_s: float) -> int:
        """Delete parts of results that belong to none; of how many attempts."""
        before_us = self._clock.wall_us() - round(older_than_s * 1e6)
        return await self._store.write(store_results.sweep, store_results.Sweep(before_us))

    async def find(self, wanted: store_executions.Filter) -> Page[Execution]:
        """A page of executions, newest first."""
        return await self._store.read(lambda conn: store_executions.find(conn, wanted))

    async def stats(self) -> store_executions.Stats:
        """Counts by state and handler."""
        return await self._store.read(store_executions.stats)

    async def errors(self, limit: int) -> list[Execution]:
        """The newest executions that failed, timed out or died."""
        page = await self._store.read(lambda conn: store_executions.errors(conn, limit=limit))
        return page.rows

    # --- change -----------------------------------------------------------------------------------

    async def cancel(self, principal: Principal, execution_id: str) -> store_executions.CancelAnswer:
        """End it without a result: at once where it waits; where it runs, the node is told and confirms."""
        deed = Deed(verb=ChangeVerb.EXECUTION_CANCELLED, subject=execution_id)
        [answer] = await self._dispatcher.cancel([execution_id], by=principal.doing(deed))
        if answer.outcome is store_executions.CancelOutcome.UNKNOWN:
            raise NotFound(f"there is no execution {execution_id!r}")
        log.info("execution_cancel", execution_id=execution_id, outcome=answer.outcome, by=principal.name)
        return answer

    async def cancel_many(
        self, principal: Principal, ids: list[str] | None, wanted: store_executions.Filter, *, dry_run: bool = False
    ) -> CancelledMany:
        """The same for many: those ``ids``, or what ``wanted`` finds of what is open."""
        if ids is not None:
            if len(ids) > self._limits.bulk:
                raise TooLarge(f"at most {self._limits.bulk} ids in one request, got {len(ids)}", pointer="/ids")
            deed = Deed(verb=ChangeVerb.EXECUTION_CANCELLED, subject=new_id(), in_steps=True)
            done = await cancel_ids(self._dispatcher, list(dict.fromkeys(ids)), by=principal.doing(deed))
        else:
            asked = {"filter": wanted.said()}
            deed = Deed(verb=ChangeVerb.EXECUTION_CANCELLED, subject=new_id(), in_steps=True, asked=asked)
            done = await cancel_found(
                self._store,
                self._dispatcher,
                wanted,
                now_us=self._clock.wall_us(),
                dry_run=dry_run,
                by=principal.doing(deed),
            )
        if not dry_run:
            log.info("executions_cancel", matched=done.matched, cancelled=done.cancelled, by=principal.name)
        return done

    async def clear(self, principal: Principal, before_us: int | None = None) -> int:
        """Forget executions that are over (stored before ``before_us``), in small steps; returns how many."""
        asked = {} if before_us is None else {"before": rfc3339(before_us)}
        deed = Deed(verb=ChangeVerb.EXECUTION_CLEARED, subject=new_id(), in_steps=True, asked=asked)
        cleared = await store_executions.clear_all(self._store, before_us, by=principal.doing(deed))
        log.info("executions_cleared", count=cleared, by=principal.name)
        return cleared


def _run_of(schedule_id: str) -> Deed:
    return Deed(verb=ChangeVerb.SCHEDULE_RUN_NOW, subject=schedule_id)


def _replay(outcome: IdempotentReplay) -> Submitted:
    told = decode_told(outcome.response)
    if isinstance(told, list):
        return Submitted(ids=told, replayed=True)
    return Submitted(ids=told.ids, existing=told.existing, replayed=True)


def _if_over(execution: Execution) -> Execution | None:
    return execution if execution.state in TERMINAL else None
