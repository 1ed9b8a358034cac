"""A whole server on a clock that only the test moves, without nodes: what fires waits, until the test ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from schedule_zero.config import TimingConfig
from schedule_zero.model import (
    AttemptOutcome,
    Execution,
    Fire,
    FireOutcome,
    Policies,
    Role,
    Schedule,
    SkipReason,
    State,
)
from schedule_zero.server import Server
from schedule_zero.service import Principal, ScheduleSpec
from schedule_zero.store import executions, fires, schedules
from schedule_zero.store.execution_lists import Filter
from tests.integration.conftest import know_demo, running_server, with_config
from tests.store.builders import end_item, start_item
from tests.support import ManualClock, eventually

ANN = Principal(name="ann", role=Role.OPERATOR, token_id="t")
S = 1_000_000
MINUTE = 60 * S
EVERY_SECOND = {"type": "interval", "seconds": 1}
EXECUTED, CAUGHT_UP, SKIPPED, MISSED = (
    FireOutcome.EXECUTED,
    FireOutcome.CAUGHT_UP,
    FireOutcome.SKIPPED,
    FireOutcome.MISSED,
)
# It looks at its clock, which only the test moves, as often as it can.
RESTLESS = with_config(timing=TimingConfig(max_sleep_s=0.01))


class Life:
    """One life of the server, and what a test wants of it in a line."""

    def __init__(self, server: Server, clock: ManualClock) -> None:
        self.server = server
        self.clock = clock
        self.schedules = server.service.schedules
        self.freezes = server.service.freezes
        self.backfills = server.service.backfills
        self._token = 100

    async def put(self, id_: str, trigger: dict[str, Any] = EVERY_SECOND, **fields: Any) -> Schedule:
        """Create or replace a schedule; what is no field of a schedule is a policy."""
        own = {name: fields.pop(name) for name in list(fields) if name in ScheduleSpec.__struct_fields__}
        spec = ScheduleSpec(handler_id="demo", job_method="noop", trigger=trigger, policies=Policies(**fields), **own)
        row, _ = await self.schedules.put(ANN, id_, spec)
        return row

    async def pass_(self, seconds: float, *, step_s: float | None = None) -> None:
        """Let time pass, at once or in steps, each of which is decided before the next."""
        for _ in range(round(seconds / step_s) if step_s else 1):
            self.clock.advance(step_s or seconds)
            await self.decided()

    async def decided(self) -> None:
        """Everything that is due by now has its outcome."""

        async def nothing_due() -> bool:
            due_us = await self.server.store.read(schedules.next_due_us)
            return due_us is None or due_us > self.clock.wall_us()

        await eventually(nothing_due)

    async def freezes_hold(self) -> bool:
        """Something is due, and the timer, which has looked at it since, leaves it alone."""
        due_us = await self.server.store.read(schedules.next_due_us)
        assert due_us is not None
        assert due_us <= self.clock.wall_us()
        for _ in range(5):
            await asyncio.sleep(2 * RESTLESS.timing.max_sleep_s)
        return await self.server.store.read(schedules.next_due_us) == due_us

    async def get(self, id_: str = "a") -> Schedule:
        return await self.schedules.get(id_)

    async def ledger(self, id_: str = "a") -> list[Fire]:
        """The oldest first."""
        page = await self.server.store.read(lambda conn: fires.find(conn, schedule_id=id_, limit=500))
        return page.rows[::-1]

    async def outcomes(self, id_: str = "a") -> list[tuple[FireOutcome, SkipReason | None]]:
        return [(fire.outcome, fire.reason) for fire in await self.ledger(id_)]

    async def executions(self, id_: str = "a") -> list[Execution]:
        """The oldest first."""
        page = await self.server.store.read(lambda conn: executions.find(conn, Filter(schedule_id=id_, limit=500)))
        return page.rows[::-1]

    async def states(self, id_: str = "a") -> list[State]:
        return [row.state for row in await self.executions(id_)]

    async def until(self, *wanted: State, id_: str = "a") -> None:
        """Wait for these states of the schedule's executions, the oldest first."""

        async def reached() -> bool:
            return await self.states(id_) == list(wanted)

        await eventually(reached)

    async def start(self, row: Execution) -> None:
        """A node begins with it."""
        self._token += 1
        await self.server.store.write(executions.start, [start_item(row.id, self._token)])

    async def end(self, row: Execution, state: State = State.COMPLETED) -> None:
        """It runs, and is over."""
        if row.state is not State.RUNNING:
            await self.start(row)
        [found] = [one for one in await self.executions(row.schedule_id or "") if one.id == row.id]
        now_us = self.clock.wall_us()
        outcome = AttemptOutcome.COMPLETED if state is State.COMPLETED else AttemptOutcome.FAILED
        item = end_item(
            row.id, found.token, state, schedule_id=row.schedule_id, outcome=outcome, started_us=now_us,
            finished_us=now_us, stored_us=now_us,
        )  # fmt: skip
        await self.server.store.write(executions.end, [item])


@asynccontextmanager
async def life(state_dir: Path, clock: ManualClock) -> AsyncIterator[Life]:
    """A server over what the last one left."""
    async with running_server(state_dir, RESTLESS, clock) as server:
        know_demo(server)
        yield Life(server, clock)
