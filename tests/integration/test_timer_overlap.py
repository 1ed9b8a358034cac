"""Overlap, failures in a row and fixed delays, by executions that really end in the store, also across a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from schedule_zero.config import TimingConfig
from schedule_zero.errors import StoreUnavailable
from schedule_zero.model import AttemptOutcome, Event, FireOutcome, Overlap, Policies, ScheduleState, SkipReason, State
from schedule_zero.rules.policies import stored_policies
from schedule_zero.store import executions
from schedule_zero.timing import Timer
from tests.integration.timing_bed import Bed, S, bed_in, running
from tests.store.builders import end_item, start_item
from tests.support import ManualClock, eventually

if TYPE_CHECKING:
    from schedule_zero.dispatch.dispatcher import Dispatcher
    from schedule_zero.store import Store

pytestmark = pytest.mark.anyio

EVERY_SECOND = {"type": "interval", "seconds": 1}
# It looks at its clock, which only the test moves, as often as it can.
RESTLESS = TimingConfig(max_sleep_s=0.01)


@pytest.fixture
async def bed(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Bed]:
    async with bed_in(tmp_path / "state", clock) as made:
        yield made


class Run:
    """A timer at work, and what a node would do with its executions."""

    def __init__(self, bed: Bed, clock: ManualClock) -> None:
        self.bed = bed
        self.clock = clock
        self._token = 100

    async def fire(self) -> None:
        """A second passes, and what is due by then is decided."""
        due = len(await self.bed.ledger("a"))
        self.clock.advance(1)

        async def decided() -> bool:
            return len(await self.bed.ledger("a")) > due

        await eventually(decided)

    async def states(self) -> list[State]:
        return [row.state for row in await self.bed.executions("a")]

    async def until(self, *wanted: State) -> None:
        """Wait for these states of the schedule's executions, the oldest first."""

        async def reached() -> bool:
            return await self.states() == list(wanted)

        await eventually(reached)

    async def start(self, place: int = -1) -> None:
        """A node begins with one of its executions."""
        row = (await self.bed.executions("a"))[place]
        self._token += 1
        await self.bed.store.write(executions.start, [start_item(row.id, self._token)])

    async def end(self, place: int, state: State = State.COMPLETED) -> None:
        """A running one of its executions is over."""
        row = (await self.bed.executions("a"))[place]
        outcome = {State.COMPLETED: AttemptOutcome.COMPLETED, State.CANCELLED: AttemptOutcome.CANCELLED}
        item = end_item(
            row.id,
            row.token,
            state,
            schedule_id="a",
            group_id=row.group_id,
            outcome=outcome.get(state, AttemptOutcome.FAILED),
            finished_us=self.clock.wall_us(),
            stored_us=self.clock.wall_us(),
        )
        await self.bed.store.write(executions.end, [item])


class CancellingDispatcher:
    """Notes what is to be cancelled and does it in the store, as the real one does."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self.registry, self.backlog = bed.dispatcher.registry, bed.dispatcher.backlog
        self.series = bed.dispatcher.series
        self.place, self.committed, self.abandoned = (
            bed.dispatcher.place,
            bed.dispatcher.committed,
            bed.dispatcher.abandoned,
        )

    async def cancel(self, ids: list[str]) -> list[executions.CancelAnswer]:
        return await self._bed.store.write(executions.cancel, ids)


@asynccontextmanager
async def timer_over(bed: Bed, clock: ManualClock) -> AsyncIterator[Run]:
    timer = Timer(
        store=cast("Store", bed.faults),
        dispatcher=cast("Dispatcher", CancellingDispatcher(bed)),
        clock=clock,
        config=RESTLESS,
    )
    async with running(timer):
        yield Run(bed, clock)


async def create(bed: Bed, **policies: object) -> None:
    row = bed.row("a", EVERY_SECOND, policies=stored_policies(Policies(**policies)), tracked=True)  # type: ignore[arg-type]
    await bed.create(row)


async def outcomes(bed: Bed) -> list[tuple[FireOutcome, SkipReason | None]]:
    return [(fire.outcome, fire.reason) for fire in await bed.ledger("a")]


EXECUTED, OVERLAP = (FireOutcome.EXECUTED, None), (FireOutcome.SKIPPED, SkipReason.OVERLAP)


async def test_skip_leaves_out_what_comes_while_another_is_open(bed: Bed, clock: ManualClock) -> None:
    await create(bed, overlap=Overlap.SKIP)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.fire()
        await run.start()
        await run.fire()
        await run.end(0)
        await run.fire()

        assert await outcomes(bed) == [EXECUTED, OVERLAP, OVERLAP, EXECUTED]


@pytest.mark.parametrize("restarts", [1, 3])
async def test_overlap_is_known_again_after_a_restart(bed: Bed, clock: ManualClock, restarts: int) -> None:
    await create(bed, overlap=Overlap.SKIP)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.start()
    for _ in range(restarts):
        async with timer_over(bed, clock) as run:
            await run.fire()

    async with timer_over(bed, clock) as run:
        await run.end(0)
        await run.fire()
        # Nothing was open when this one came up; what it makes itself is.
        await run.fire()

    assert await outcomes(bed) == [EXECUTED, *[OVERLAP] * restarts, EXECUTED, OVERLAP]


async def test_a_schedule_with_nothing_open_at_the_start_is_tracked_all_the_same(bed: Bed, clock: ManualClock) -> None:
    await create(bed, overlap=Overlap.SKIP)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.fire()

    assert await outcomes(bed) == [EXECUTED, OVERLAP]


async def test_buffer_one_keeps_one_that_waits_and_lets_it_go(bed: Bed, clock: ManualClock) -> None:
    await create(bed, overlap=Overlap.BUFFER_ONE)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.start()
        await run.fire()
        await run.fire()
        await run.until(State.RUNNING, State.BLOCKED)

        await run.end(0)
        await run.until(State.COMPLETED, State.PENDING)

    assert await outcomes(bed) == [EXECUTED, EXECUTED, OVERLAP]
    released = (await bed.executions("a"))[1].id
    assert bed.dispatcher.told("committed").count(released) == 2


async def test_buffer_all_runs_them_one_after_the_other(bed: Bed, clock: ManualClock) -> None:
    await create(bed, overlap=Overlap.BUFFER_ALL)
    async with timer_over(bed, clock) as run:
        for _ in range(3):
            await run.fire()
        await run.until(State.PENDING, State.BLOCKED, State.BLOCKED)
        await run.start(0)
        await run.end(0, State.FAILED)
        await run.until(State.FAILED, State.PENDING, State.BLOCKED)


async def test_what_waits_for_its_turn_gets_it_after_a_restart(bed: Bed, clock: ManualClock) -> None:
    await create(bed, overlap=Overlap.BUFFER_ALL)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.start()
        await run.fire()
    # It ends while no timer is there to see it.
    await run.end(0)

    async with timer_over(bed, clock) as run:
        await run.until(State.COMPLETED, State.PENDING)


async def test_what_waits_gets_its_turn_although_its_schedule_is_deleted(bed: Bed, clock: ManualClock) -> None:
    await create(bed, overlap=Overlap.BUFFER_ALL)
    async with timer_over(bed, clock) as run:
        for _ in range(3):
            await run.fire()
        await bed.delete("a")
        await run.start(0)
        await run.end(0)
        await run.until(State.COMPLETED, State.PENDING, State.PENDING)


async def test_cancel_running_ends_the_one_before_and_waits_for_its_end(bed: Bed, clock: ManualClock) -> None:
    await create(bed, overlap=Overlap.CANCEL_RUNNING)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.start()
        await run.fire()

        async def asked() -> bool:
            return (await bed.executions("a"))[0].cancel_requested

        await eventually(asked)
        assert await run.states() == [State.RUNNING, State.BLOCKED]

        await run.end(0, State.CANCELLED)
        await run.until(State.CANCELLED, State.PENDING)


async def test_a_cancel_that_the_store_refuses_is_asked_for_again(
    bed: Bed, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(bed, overlap=Overlap.CANCEL_RUNNING)
    cancel, refusals = CancellingDispatcher.cancel, [StoreUnavailable("database or disk is full")]

    async def refuses_once(self: CancellingDispatcher, ids: list[str]) -> list[executions.CancelAnswer]:
        if refusals:
            raise refusals.pop()
        return await cancel(self, ids)

    monkeypatch.setattr(CancellingDispatcher, "cancel", refuses_once)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.fire()
        await run.until(State.CANCELLED, State.PENDING)


async def test_replace_pending_leaves_what_runs_alone(bed: Bed, clock: ManualClock) -> None:
    await create(bed, overlap=Overlap.REPLACE_PENDING)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.start()
        await run.fire()
        await run.fire()
        await run.until(State.RUNNING, State.CANCELLED, State.BLOCKED)
        assert not (await bed.executions("a"))[0].cancel_requested

        await run.end(0)
        await run.until(State.COMPLETED, State.CANCELLED, State.PENDING)


async def test_a_pending_one_is_replaced_before_it_ever_starts(bed: Bed, clock: ManualClock) -> None:
    await create(bed, overlap=Overlap.REPLACE_PENDING)
    async with timer_over(bed, clock) as run:
        await run.fire()
        await run.fire()
        await run.until(State.CANCELLED, State.PENDING)


async def test_a_policy_that_is_changed_lets_go_what_waited(bed: Bed, clock: ManualClock) -> None:
    await create(bed, overlap=Overlap.BUFFER_ALL)
    async with timer_over(bed, clock) as run:
        for _ in range(3):
            await run.fire()
        await run.until(State.PENDING, State.BLOCKED, State.BLOCKED)
        changed = await bed.get("a")
        changed.policies, changed.tracked, changed.next_fire_us = None, False, clock.wall_us() + 3600 * S
        await bed.replace(changed)
        await run.until(State.PENDING, State.PENDING, State.PENDING)


async def test_failures_in_a_row_pause_the_schedule_and_say_so(bed: Bed, clock: ManualClock) -> None:
    await create(bed, max_failures=2)
    async with timer_over(bed, clock) as run:
        for state in (State.FAILED, State.COMPLETED, State.TIMEOUT, State.FAILED):
            await run.fire()
            await run.start()
            assert (await bed.get("a")).state is ScheduleState.ACTIVE
            await run.end(-1, state)

        async def paused() -> bool:
            return (await bed.get("a")).state is ScheduleState.PAUSED

        await eventually(paused)

    row = await bed.get("a")
    assert row.note == "paused after 2 failed executions in a row"
    assert row.updated_by == "max_failures"


@pytest.mark.parametrize("ended", [False, True])
async def test_what_begins_while_what_is_open_is_read_for_the_first_time_is_known(
    bed: Bed, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """By hand, right after the server's start: what was read is older than that."""
    await bed.create(bed.row("a", EVERY_SECOND, tracked=True))
    turns, read = bed.rounds().turns, bed.faults.read
    told = {
        "schedule_id": "a",
        "handler_id": "demo",
        "job_method": "hello",
        "state": State.PENDING,
        "origin": "run_now",
    }

    async def read_then_hear(query: Any) -> Any:
        found = await read(query)
        turns.heard(Event("execution.created", "x", told))
        turns.heard(Event("execution.created", "other", told | {"schedule_id": "not-tracked"}))
        if ended:
            turns.heard(Event("execution.finished", "x", told | {"state": State.COMPLETED}))
        return found

    monkeypatch.setattr(bed.faults, "read", read_then_hear)
    await turns.refresh()

    assert turns.count("a") == ((0, 0) if ended else (1, 0))
    assert turns.count("not-tracked") == (0, 0)
