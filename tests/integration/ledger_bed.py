"""The timer's rounds with the real services around them, life after life of a server, on a clock that only the test
moves.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from schedule_zero.config import HandlerRule, LimitsConfig, TimingConfig
from schedule_zero.model import AttemptOutcome, Execution, Fire, FireOutcome, Role, Schedule, ServerRun, State
from schedule_zero.service.audit import AuditReport, AuditService
from schedule_zero.service.freezes import FreezeService
from schedule_zero.service.schedules import ScheduleService
from schedule_zero.service.specs import Principal, ScheduleSpec
from schedule_zero.store import calendars, executions, server_runs
from schedule_zero.timing import Timer
from schedule_zero.timing.calendar_book import CalendarBook
from schedule_zero.timing.calendar_parse import parse_calendar
from schedule_zero.timing.rounds import Rounds
from schedule_zero.timing.turns import Turns
from schedule_zero.timing.window import StoredAlarms, Window
from tests.integration.timing_bed import Bed, Methods, bed_in, one_round
from tests.support import ManualClock

if TYPE_CHECKING:
    from schedule_zero.dispatch.dispatcher import Dispatcher
    from schedule_zero.service.executions import ExecutionService
    from schedule_zero.service.groups import GroupService
    from schedule_zero.store import Store

ADA = Principal(name="ada", role=Role.OPERATOR, token_id="t1")
BOB = Principal(name="bob", role=Role.OPERATOR, token_id="t2")


class AnyMethod(Methods):
    """A registry that knows every handler and method."""

    def rule(self, handler_id: str) -> HandlerRule:
        return HandlerRule()

    def validate(self, handler_id: str, job_method: str, params: object) -> None:
        return None


class Life:
    """One life of a server."""

    def __init__(self, bed: Bed, clock: ManualClock, config: TimingConfig) -> None:
        self.bed = bed
        self.clock = clock
        self.store: Store = bed.store
        bed.dispatcher.registry = AnyMethod()
        bed.dispatcher.on_place = self._place
        self._token = self.store.epoch << 20
        dispatcher = cast("Dispatcher", bed.dispatcher)
        self.book = CalendarBook(bed.store, clock)
        self.timer = Timer(store=bed.store, dispatcher=dispatcher, clock=clock, config=config, book=self.book)
        self.rounds = Rounds(
            store=cast("Store", bed.faults),
            dispatcher=dispatcher,
            clock=clock,
            config=config,
            stats=self.timer.stats,
            resolver=self.timer.resolver,
            freezes=self.timer.freezes,
            window=Window(StoredAlarms(bed.store, self.timer.resolver.coming)),
            turns=Turns(store=bed.store, dispatcher=dispatcher, clock=clock, trigger_of=self.timer.resolver.coming),
        )
        # Its rounds hear of what is committed.
        self.timer._rounds = self.rounds
        self.schedules = ScheduleService(
            store=bed.store,
            dispatcher=dispatcher,
            timer=self.timer,
            executions=cast("ExecutionService", None),
            groups=cast("GroupService", None),
            clock=clock,
            limits=LimitsConfig(),
            timing=config,
        )
        self.freezes = FreezeService(store=bed.store, timer=self.timer, clock=clock)
        self.audits = AuditService(store=bed.store, timer=self.timer, clock=clock)

    async def calendar(self, name: str, **document: Any) -> None:
        """Put a named calendar into force; schedules whose days it moves follow it."""
        encoded = parse_calendar(document, name).encoded()
        await self.store.write(calendars.put, calendars.Put(name=name, document=encoded))
        await self.book.settled()
        await self.schedules.calendar_changed(name)

    async def put(self, id_: str, trigger: Any, by: Principal = ADA, **fields: Any) -> Schedule:
        spec = {"handler_id": "demo", "job_method": "noop", "trigger": trigger, **fields}
        row, _ = await self.schedules.put(by, id_, msgspec.convert(spec, ScheduleSpec))
        return row

    async def decide(self) -> None:
        """Everything that is due now."""
        while await one_round(self.rounds):
            pass

    async def go(self, seconds: float, *, every_s: float | None = None) -> None:
        """Let time pass, deciding what is due every ``every_s`` (only at the end, unless given)."""
        left = seconds
        while left > 0:
            step = min(left, every_s or left)
            self.clock.advance(step)
            left -= step
            await self.decide()

    async def seen(self, *, stopped: bool = False) -> None:
        now_us = self.clock.wall_us()
        await self.store.write(
            server_runs.seen,
            ServerRun(
                epoch=self.store.epoch,
                started_us=self.timer.started_us,
                alive_us=now_us,
                stopped_us=now_us if stopped else None,
            ),
        )

    def _place(self, rows: Sequence[Execution]) -> None:
        """A node with room for everything."""
        for row in rows:
            if row.state is State.PENDING:
                self._token += 1
                row.state, row.attempt, row.token, row.node_id = State.RUNNING, 1, self._token, "n1"
                row.dispatched_us = self.clock.wall_us()

    async def finish(self, id_: str = "a", state: State = State.COMPLETED, error: bytes | None = None) -> Execution:
        """The newest execution of a schedule is over."""
        execution = (await self.bed.executions(id_))[-1]
        now_us = self.clock.wall_us()
        completed = state is State.COMPLETED
        end = executions.EndItem(
            id=execution.id,
            token=execution.token,
            outcome=AttemptOutcome.COMPLETED if completed else AttemptOutcome.FAILED,
            state=state,
            result=b"null" if completed else None,
            error=error,
            started_us=execution.dispatched_us,
            finished_us=now_us,
            stored_us=now_us,
            attempt=1,
            node_id="n1",
            dispatched_us=execution.dispatched_us,
            handler_id="demo",
            job_method="noop",
            schedule_id=id_,
        )
        await self.store.write(executions.end, [end])
        await self._follow()
        return (await self.bed.executions(id_))[-1]

    async def _follow(self) -> None:
        """What follows the ends of executions, to the last of it."""
        turns = self.rounds.turns
        await turns.refresh()
        while turns._look:
            look, turns._look = turns._look, {}
            await turns._follow_all(look)

    async def audit(self, id_: str = "a", since_us: int | None = 0, **fields: Any) -> AuditReport:
        return await self.audits.audit(id_, since_us, **fields)

    async def ledger(self, id_: str = "a") -> list[Fire]:
        return await self.bed.ledger(id_)


@asynccontextmanager
async def life(
    state_dir: Path, clock: ManualClock, *, killed: bool = False, config: TimingConfig | None = None
) -> AsyncIterator[Life]:
    """A server that begins now; at the end it stops in order, unless it is ``killed``."""
    async with bed_in(state_dir, clock) as bed:
        made = Life(bed, clock, config or TimingConfig())
        await made.book.load()
        await made.timer._begin()
        await made._follow()
        yield made
        if not killed:
            await made.seen(stopped=True)


def counts(report: AuditReport) -> dict[str, int]:
    """What an audit found; empty if all is in order."""
    tally = report.tally
    found = {"missed": tally.missed, "duplicate": tally.duplicate, "extra": tally.extra}
    return {name: count for name, count in found.items() if count}


def tamper(life: Life, *statements: str) -> None:
    """Change the database file behind the server's back."""
    with closing(sqlite3.connect(life.store._backend.path, isolation_level=None)) as conn:
        for statement in statements:
            assert conn.execute(statement).rowcount, statement


def outcomes(ledger: list[Fire]) -> list[FireOutcome]:
    return [fire.outcome for fire in ledger]
