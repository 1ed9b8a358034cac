"""Fires that are groups: born whole with their ledger row or not at all, and one run to every policy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec
import pytest

from schedule_zero.job_options import JobOptions
from schedule_zero.model import (
    CatchUp,
    FireOutcome,
    Group,
    GroupKind,
    GroupState,
    LaneKey,
    Origin,
    Overlap,
    Policies,
    ScheduleState,
    SkipReason,
    State,
)
from schedule_zero.ops.backlog import Backlog
from schedule_zero.rules.birth import lane_of
from schedule_zero.rules.policies import stored_policies
from schedule_zero.store import executions, fire_audit, groups
from schedule_zero.store.tally import Tally
from schedule_zero.timing import Timer
from tests.integration.test_timer_overlap import RESTLESS, CancellingDispatcher, Run
from tests.integration.timing_bed import Bed, NotingDispatcher, S, bed_in, one_round, running
from tests.store.builders import execution
from tests.support import ManualClock, eventually

if TYPE_CHECKING:
    from schedule_zero.clock import Clock
    from schedule_zero.dispatch.dispatcher import Dispatcher
    from schedule_zero.store import Store

pytestmark = pytest.mark.anyio

EVERY_SECOND = {"type": "interval", "seconds": 1}


class Nodes(NotingDispatcher):
    """Also says which nodes match, and whether others may be on their way back."""

    def __init__(self, store: Store, clock: Clock) -> None:
        super().__init__(store, clock)
        self.matching = ["n1", "n2"]
        self.awaited = False
        self.asked: list[LaneKey] = []

    def takers(self, key: LaneKey) -> list[str]:
        self.asked.append(key)
        return self.matching

    def why_nobody(self, key: LaneKey) -> str | None:
        return None if self.matching else "no node that serves demo.hello is connected"

    def awaits_nodes(self) -> bool:
        return self.awaited


@pytest.fixture
async def bed(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Bed]:
    async with bed_in(tmp_path / "state", clock) as made:
        made.dispatcher = Nodes(made.store, clock)
        yield made


def nodes_of(bed: Bed) -> Nodes:
    return cast("Nodes", bed.dispatcher)


async def create(bed: Bed, *, options: JobOptions | None = None, **policies: object) -> None:
    stored = stored_policies(Policies(**policies))  # type: ignore[arg-type]
    tracked = "overlap" in policies or "max_failures" in policies
    said = None if options is None else msgspec.json.encode(options)
    await bed.create(bed.row("a", EVERY_SECOND, policies=stored, options=said, tracked=tracked))


async def group_of(bed: Bed, place: int = -1) -> Group:
    id_ = (await bed.ledger("a"))[place].execution_id
    assert id_ is not None
    found = await bed.store.read(lambda conn: groups.get(conn, id_))
    assert found is not None
    return found


async def all_groups(bed: Bed) -> list[Group]:
    return (await bed.store.read(groups.find)).rows


def timer_over(bed: Bed, clock: ManualClock) -> Timer:
    canceller = CancellingDispatcher(bed)
    for name in ("takers", "why_nobody", "awaits_nodes"):
        setattr(canceller, name, getattr(bed.dispatcher, name))
    return Timer(
        store=cast("Dispatcher", bed.faults),  # type: ignore[arg-type]
        dispatcher=cast("Dispatcher", canceller),
        clock=clock,
        config=RESTLESS,
    )


# --- born whole -----------------------------------------------------------------------------------


async def test_a_fire_in_parts_is_one_ledger_row_one_group_and_all_its_parts(bed: Bed, clock: ManualClock) -> None:
    await create(bed, shards=3)
    clock.advance(1)
    assert await one_round(bed.rounds()) == ["a"]

    [fire] = await bed.ledger("a")
    group = await group_of(bed)
    members = await bed.executions("a")
    assert (fire.outcome, fire.is_group, fire.detail, fire.count) == (FireOutcome.EXECUTED, True, "shards: 3", 1)
    assert (group.id, group.kind, group.total, group.schedule_id) == (fire.execution_id, GroupKind.SHARDS, 3, "a")
    assert [(row.shard, row.group_id, row.nominal_us) for row in members] == [
        (f"{i}/3", group.id, fire.nominal_us) for i in range(3)
    ]
    counts = await bed.counts("a")
    assert (counts.executed, counts.skipped, (await bed.get("a")).runs) == (1, 0, 1)
    assert bed.dispatcher.told("committed") == [row.id for row in members]


async def test_a_broadcast_fire_records_who_was_chosen_and_is_for_nobody_else(bed: Bed, clock: ManualClock) -> None:
    await create(bed, options=JobOptions(require=("gpu",), prefer=("ssd",)), broadcast=True)
    clock.advance(1)
    await one_round(bed.rounds())

    [fire] = await bed.ledger("a")
    members = await bed.executions("a")
    assert fire.detail == "broadcast: n1, n2"
    assert [(lane_of(row.lane).node, lane_of(row.lane).require) for row in members] == [
        ("n1", ("gpu",)),
        ("n2", ("gpu",)),
    ]
    # Who never comes back keeps the group open for an hour, not for ever.
    assert {row.start_by_us for row in members} == {clock.wall_us() + 3600 * S}
    [(_, _, lane)] = nodes_of(bed).asked
    assert lane_of(lane).require == ("gpu",)


async def test_a_broadcast_that_nobody_matches_is_skipped_with_the_reason(bed: Bed, clock: ManualClock) -> None:
    await create(bed, broadcast=True)
    nodes_of(bed).matching = []
    clock.advance(1)
    await one_round(bed.rounds())

    [fire] = await bed.ledger("a")
    assert (fire.outcome, fire.reason, fire.execution_id) == (FireOutcome.SKIPPED, SkipReason.NO_NODE, None)
    assert fire.detail == "no node that serves demo.hello is connected"
    assert not fire.is_group
    assert ((await bed.counts("a")).skipped, await all_groups(bed), await bed.executions("a")) == (1, [], [])


async def test_a_broadcast_waits_for_nodes_that_may_be_on_their_way_back(bed: Bed, clock: ManualClock) -> None:
    await create(bed, broadcast=True)
    nodes_of(bed).matching, nodes_of(bed).awaited = ["n1"], True
    rounds = bed.rounds()
    due_us = (await bed.get("a")).next_fire_us
    clock.advance(1)
    for _ in range(2):
        assert await one_round(rounds) == []
        assert 0 < await rounds.wait_us() <= 100_000
    nodes_of(bed).matching, nodes_of(bed).awaited = ["n1", "n2"], False

    assert await one_round(rounds) == ["a"]
    [fire] = await bed.ledger("a")
    assert (fire.nominal_us, fire.detail) == (due_us, "broadcast: n1, n2")


async def test_a_schedule_changed_while_its_broadcast_waits_is_decided_as_it_is_now(
    bed: Bed, clock: ManualClock
) -> None:
    await create(bed, broadcast=True)
    nodes_of(bed).awaited = True
    rounds = bed.rounds()
    clock.advance(1)
    assert await one_round(rounds) == []
    await bed.delete("a")
    rounds.window.changed(["a"])
    nodes_of(bed).awaited = False

    await rounds.wait_us()
    assert await one_round(rounds) == []
    assert await bed.ledger("a") == []


@pytest.mark.parametrize("committed", [False, True])
async def test_a_crash_around_the_commit_leaves_all_of_a_group_or_nothing_and_no_second_one(
    bed: Bed, clock: ManualClock, committed: bool
) -> None:
    await create(bed, broadcast=True)
    rounds = bed.rounds()
    clock.advance(1)
    if committed:
        bed.faults.lying_writes = 1
    else:
        bed.faults.failing_writes = 1
    await one_round(rounds)
    assert (len(await bed.ledger("a")), len(await all_groups(bed)), len(await bed.executions("a"))) == (
        (1, 1, 2) if committed else (0, 0, 0)
    )
    # The next life, in which other nodes are there.
    nodes_of(bed).matching = ["n2", "n3", "n4"]
    await one_round(bed.rounds())

    [fire] = await bed.ledger("a")
    chosen = ["n1", "n2"] if committed else ["n2", "n3", "n4"]
    assert [lane_of(row.lane).node for row in await bed.executions("a")] == chosen
    assert [group.id for group in await all_groups(bed)] == [fire.execution_id]


async def test_a_group_that_does_not_fit_the_backlog_is_skipped_as_a_whole(bed: Bed, clock: ManualClock) -> None:
    bed.dispatcher.backlog = Backlog(Tally(), limit=2, rules={}, clock=clock)
    await create(bed, shards=3)
    clock.advance(1)
    await one_round(bed.rounds())

    [fire] = await bed.ledger("a")
    assert (fire.outcome, fire.reason) == (FireOutcome.SKIPPED, SkipReason.BACKPRESSURE)
    assert await bed.executions("a") == []
    assert bed.dispatcher.backlog.room("demo") == 2


async def test_a_unique_key_of_somebody_else_skips_the_whole_group_and_its_own_members_do_not_collide(
    bed: Bed, clock: ManualClock
) -> None:
    # The method got its key after the schedule was written.
    bed.dispatcher.registry.said = JobOptions(unique_key="one")
    holder = execution("other", unique_key="demo.hello:one")
    await bed.store.write(executions.insert, executions.Insert(rows=[holder]))
    await create(bed, shards=3)
    clock.advance(1)
    await one_round(bed.rounds())
    [fire] = await bed.ledger("a")
    assert (fire.reason, fire.detail, fire.execution_id) == (SkipReason.DUPLICATE, "other", None)
    assert (await all_groups(bed), await bed.executions("a")) == ([], [])

    await bed.store.write(executions.cancel, ["other"])
    clock.advance(1)
    await one_round(bed.rounds())
    assert [fire.outcome for fire in await bed.ledger("a")] == [FireOutcome.SKIPPED, FireOutcome.EXECUTED]
    assert ((await group_of(bed)).total, len(await bed.executions("a"))) == (3, 3)
    assert (await bed.get("a")).runs == 1


async def test_fires_that_are_caught_up_are_groups_and_count_once_each(bed: Bed, clock: ManualClock) -> None:
    await create(bed, shards=2, catch_up=CatchUp.ALL, catch_up_max=3)
    clock.advance(60)
    await one_round(bed.rounds())

    counts = await bed.counts("a")
    assert counts.executed + counts.caught_up + counts.skipped + counts.missed == 60
    assert counts.caught_up == 3
    ran = [fire for fire in await bed.ledger("a") if fire.execution_id is not None]
    assert len(await all_groups(bed)) == len(ran) == counts.executed + counts.caught_up == (await bed.get("a")).runs
    assert len(await bed.executions("a")) == 2 * len(ran)


async def test_max_fires_counts_runs_not_members(bed: Bed, clock: ManualClock) -> None:
    await create(bed, shards=4, max_fires=2)
    rounds = bed.rounds()
    for _ in range(3):
        clock.advance(1)
        await one_round(rounds)

    row = await bed.get("a")
    assert (row.state, row.runs, len(await all_groups(bed))) == (ScheduleState.FINISHED, 2, 2)


async def test_a_paused_schedule_makes_no_group(bed: Bed, clock: ManualClock) -> None:
    await create(bed, shards=2)
    await bed.set_state("a", ScheduleState.PAUSED)
    clock.advance(1)
    await one_round(bed.rounds())
    assert [fire.reason for fire in await bed.ledger("a")] == [SkipReason.PAUSED]
    assert await all_groups(bed) == []


# --- one run to what follows it -------------------------------------------------------------------

EXECUTED, OVERLAP = (FireOutcome.EXECUTED, None), (FireOutcome.SKIPPED, SkipReason.OVERLAP)


async def outcomes(bed: Bed) -> list[tuple[FireOutcome, SkipReason | None]]:
    return [(fire.outcome, fire.reason) for fire in await bed.ledger("a")]


@pytest.mark.parametrize("restarted", [False, True])
async def test_skip_sees_a_group_until_its_last_member_ends(bed: Bed, clock: ManualClock, restarted: bool) -> None:
    await create(bed, shards=2, overlap=Overlap.SKIP)
    async with running(timer_over(bed, clock)):
        run = Run(bed, clock)
        await run.fire()
        await run.start(0)
        await run.end(0)
        if not restarted:
            await run.fire()
    async with running(timer_over(bed, clock)):
        if restarted:
            await run.fire()
        await run.start(1)
        await run.end(1)
        await run.fire()

    assert await outcomes(bed) == [EXECUTED, OVERLAP, EXECUTED]


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_group_that_waits_is_let_go_as_a_whole_when_the_one_before_it_ends(
    bed: Bed, clock: ManualClock, restarted: bool
) -> None:
    await create(bed, shards=2, overlap=Overlap.BUFFER_ONE)
    run = Run(bed, clock)
    async with running(timer_over(bed, clock)):
        await run.fire()
        await run.start(0)
        await run.start(1)
        await run.fire()
        await run.until(State.RUNNING, State.RUNNING, State.BLOCKED, State.BLOCKED)
        await run.fire()
        await run.end(0)
        if not restarted:
            await run.end(1)
            await run.until(State.COMPLETED, State.COMPLETED, State.PENDING, State.PENDING)
    if restarted:
        await run.end(1)
        async with running(timer_over(bed, clock)):
            await run.until(State.COMPLETED, State.COMPLETED, State.PENDING, State.PENDING)

    assert await outcomes(bed) == [EXECUTED, EXECUTED, OVERLAP]
    assert (await group_of(bed, 0)).state is GroupState.COMPLETED


async def test_cancel_running_cancels_all_members_of_the_group_before(bed: Bed, clock: ManualClock) -> None:
    await create(bed, shards=2, overlap=Overlap.CANCEL_RUNNING)
    run = Run(bed, clock)
    async with running(timer_over(bed, clock)):
        await run.fire()
        await run.fire()
        await run.until(State.CANCELLED, State.CANCELLED, State.PENDING, State.PENDING)
    assert (await group_of(bed, 0)).state is GroupState.CANCELLED


async def test_replace_pending_takes_the_place_of_a_group_that_waits_but_not_of_one_that_has_begun(
    bed: Bed, clock: ManualClock
) -> None:
    await create(bed, shards=2, overlap=Overlap.REPLACE_PENDING)
    run = Run(bed, clock)
    async with running(timer_over(bed, clock)):
        await run.fire()
        await run.fire()
        await run.until(State.CANCELLED, State.CANCELLED, State.PENDING, State.PENDING)
        await run.start(2)
        await run.fire()
        await run.until(
            State.CANCELLED, State.CANCELLED, State.RUNNING, State.PENDING, State.BLOCKED, State.BLOCKED
        )  # fmt: skip
        await run.end(2)
        await run.start(3)
        await run.end(3)
        await run.until(*[State.CANCELLED] * 2, *[State.COMPLETED] * 2, *[State.PENDING] * 2)


async def test_max_failures_counts_groups_not_members(bed: Bed, clock: ManualClock) -> None:
    await create(bed, shards=3, max_failures=2)
    run = Run(bed, clock)
    async with running(timer_over(bed, clock)):
        await run.fire()
        for place in range(3):
            await run.start(place)
            await run.end(place, State.FAILED)
        await run.fire()
        assert (await bed.get("a")).state is ScheduleState.ACTIVE
        for place in (3, 4, 5):
            await run.start(place)
            # One of them is enough for its group to have failed.
            await run.end(place, State.FAILED if place == 3 else State.COMPLETED)

        async def paused() -> bool:
            return (await bed.get("a")).state is ScheduleState.PAUSED

        await eventually(paused)
    assert (await bed.get("a")).note == "paused after 2 failed executions in a row"


async def test_a_fixed_delay_follows_the_end_of_the_group_and_the_ledger_links_to_it(
    bed: Bed, clock: ManualClock
) -> None:
    policies = stored_policies(Policies(shards=2))
    trigger = {"type": "interval", "seconds": 10, "anchor": "end"}
    row = bed.row("a", trigger, policies=policies, tracked=True)
    await bed.create(row)
    assert row.next_fire_us is not None
    clock.advance((row.next_fire_us - clock.wall_us()) / S - 1)
    run = Run(bed, clock)
    async with running(timer_over(bed, clock)):
        await run.fire()
        group = await group_of(bed)
        assert (await bed.get("a")).waits_for == group.id
        await run.start(0)
        await run.end(0)
        clock.advance(5)
        await run.start(1)
        await run.end(1)

        async def armed() -> bool:
            return (await bed.get("a")).next_fire_us is not None

        await eventually(armed)
    ended_us = clock.wall_us()
    assert (await bed.get("a")).next_fire_us == ended_us + 10 * S
    generation = (await bed.get("a")).generation
    [link] = await bed.store.read(lambda conn: fire_audit.links(conn, "a", generation, 0, ended_us))
    assert (link.execution_id, link.ended_us) == (group.id, (await group_of(bed)).finished_us)


async def test_only_what_a_schedule_made_counts_as_its_runs(bed: Bed) -> None:
    """A backfill's and a requeue's id are ``group_id`` too: those are as many runs as executions."""
    await create(bed, overlap=Overlap.SKIP)
    rows = [
        execution(f"r{i}", schedule_id="a", group_id="g", origin=origin)
        for i, origin in enumerate((*[Origin.RUN_NOW] * 2, *[Origin.RETRY] * 2, Origin.BACKFILL))
    ]
    await bed.store.write(executions.insert, executions.Insert(rows=rows))
    found = await bed.store.read(executions.open_of_schedules)
    assert [unit for _, unit, _ in found] == ["g", "g", "r2", "r3"]
