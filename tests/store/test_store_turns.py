"""What follows from ends and pauses, as the store tells and writes it: open executions, failures, what is owed."""

from __future__ import annotations

import pytest

from schedule_zero.model import (
    AttemptOutcome,
    Fire,
    FireOutcome,
    Origin,
    Policies,
    Schedule,
    ScheduleState,
    SkipReason,
    State,
)
from schedule_zero.rules.policies import stored_policies
from schedule_zero.store import Store, executions, fires, schedules
from schedule_zero.store.schedules import Create, Delete, Put, SetState, Settled
from tests.store.builders import T0, end_item, execution, insert, journal, release_item, running, schedule

pytestmark = pytest.mark.anyio

SECOND = 1_000_000


async def create(store: Store, *rows: Schedule) -> list[Schedule]:
    answer = await store.write(schedules.create, Create(rows=list(rows)))
    assert isinstance(answer, list)
    return answer


async def get(store: Store, id_: str) -> Schedule:
    row = await store.read(lambda conn: schedules.get(conn, id_))
    assert row is not None
    return row


async def ledger(store: Store, id_: str) -> list[Fire]:
    return (await store.read(lambda conn: fires.find(conn, schedule_id=id_))).rows[::-1]


def paused(row: Schedule, nominal_us: int, **fields: int) -> Fire:
    return Fire(
        schedule_id=row.id, generation=row.generation, nominal_us=nominal_us, outcome=FireOutcome.SKIPPED,
        reason=SkipReason.PAUSED, decided_us=T0 + 99, **fields,
    )  # fmt: skip


# --- what is open -----------------------------------------------------------------------------------


async def test_open_are_those_of_tracked_schedules_and_whatever_is_blocked_but_no_backfill(store: Store) -> None:
    await create(store, schedule("tracked", tracked=True), schedule("not"))
    await insert(
        store,
        execution("a", schedule_id="tracked", state=State.BLOCKED),
        running("b", 7, schedule_id="tracked"),
        execution("c", schedule_id="not"),
        execution("d", schedule_id="not", state=State.BLOCKED),
        execution("e", schedule_id="gone", state=State.BLOCKED),
        execution("f", schedule_id="tracked", origin=Origin.BACKFILL, group_id="g"),
        execution("h", schedule_id="tracked", origin=Origin.RUN_NOW),
        execution("i"),
    )

    found = await store.read(executions.open_of_schedules)
    of_one = await store.read(lambda conn: executions.open_of_schedules(conn, "not"))

    assert found == [
        ("tracked", "a", State.BLOCKED),
        ("tracked", "b", State.RUNNING),
        ("not", "d", State.BLOCKED),
        ("gone", "e", State.BLOCKED),
        ("tracked", "h", State.PENDING),
    ]
    assert of_one == [("not", "c", State.PENDING), ("not", "d", State.BLOCKED)]


async def test_the_event_of_a_birth_says_that_it_is_a_backfill_s(store: Store) -> None:
    from schedule_zero.store import events

    await insert(store, execution("a", schedule_id="s", origin=Origin.BACKFILL), execution("b", schedule_id="s"))

    [(_, told)] = await store.read(lambda conn: events.read_after(conn, 0, 10))
    assert [event.data.get("origin") for event in told] == ["backfill", None]


async def test_followers_are_those_that_wait_for_an_end_or_count_failures(store: Store) -> None:
    overlap = stored_policies(Policies(max_fires=3))
    await create(
        store,
        schedule("overlap", tracked=True, policies=overlap),
        schedule("failures", tracked=True, policies=stored_policies(Policies(max_failures=3))),
        schedule("delay", tracked=True, waits_for="x", next_fire_us=None),
        schedule("plain"),
    )

    assert sorted(await store.read(schedules.followers)) == ["delay", "failures"]


# --- how they ended ---------------------------------------------------------------------------------


async def test_the_newest_ends_are_told_that_say_something_about_the_job(store: Store) -> None:
    ends = [State.COMPLETED, State.FAILED, State.CANCELLED, State.TIMEOUT, State.DEAD, State.FAILED]
    for n, state in enumerate(ends):
        origin = Origin.BACKFILL if n == 5 else Origin.FIRE
        await insert(store, running(f"x{n}", n + 1, schedule_id="s", origin=origin))
        outcome = AttemptOutcome.COMPLETED if state is State.COMPLETED else AttemptOutcome.FAILED
        item = end_item(f"x{n}", n + 1, state, outcome=outcome, schedule_id="s", stored_us=T0 + n)
        await store.write(executions.end, [item])
    await insert(store, running("open", 99, schedule_id="s"))

    async def ended(limit: int, after_us: int = -1) -> list[State]:
        return await store.read(lambda conn: executions.ended_of_schedule(conn, "s", limit, after_us=after_us))

    assert await ended(10) == [State.DEAD, State.TIMEOUT, State.FAILED, State.COMPLETED]
    assert await ended(2) == [State.DEAD, State.TIMEOUT]
    assert await ended(10, T0 + 1) == [State.DEAD, State.TIMEOUT]


# --- what is owed -----------------------------------------------------------------------------------


async def test_a_pause_that_ends_writes_what_came_due_in_it(store: Store) -> None:
    [row] = await create(store, schedule("a", state=ScheduleState.PAUSED, note="why"))
    owed = [paused(row, T0), paused(row, T0 + SECOND, count=3, last_nominal_us=T0 + 3 * SECOND)]
    resume = SetState(
        id="a", state=ScheduleState.ACTIVE, settle=lambda _: Settled(fires=owed, next_fire_us=T0 + 4 * SECOND)
    )

    resumed = await store.write(schedules.set_state, resume)
    again = await store.write(schedules.set_state, resume)

    assert (resumed.state, resumed.note, resumed.next_fire_us) == (ScheduleState.ACTIVE, None, T0 + 4 * SECOND)
    assert again == resumed == await get(store, "a")
    assert await ledger(store, "a") == owed
    assert (await store.read(lambda conn: fires.counts(conn, "a"))).skipped == 4
    assert [kind for kind, _ in await journal(store)] == [
        "schedule.created",
        "schedule.resumed",
        "schedule.skipped",
        "schedule.skipped",
    ]
    # Who read it before is refused.
    assert await store.write(schedules.release, [release_item(row, "x")]) == {"a": schedules.ReleaseRefusal.FENCE}


async def test_a_pause_that_leaves_nothing_to_come_ends_as_finished(store: Store) -> None:
    [row] = await create(store, schedule("a", state=ScheduleState.PAUSED))
    settled = Settled(fires=[paused(row, T0)], next_fire_us=None, finished=True)

    ended = await store.write(
        schedules.set_state, SetState(id="a", state=ScheduleState.ACTIVE, settle=lambda _: settled)
    )

    assert (ended.state, ended.next_fire_us) == (ScheduleState.FINISHED, None)
    assert "schedule.finished" in {kind for kind, _ in await journal(store)}


@pytest.mark.parametrize("how", ["put", "delete"])
async def test_what_is_in_the_ledger_already_is_neither_written_nor_counted_again(store: Store, how: str) -> None:
    [row] = await create(store, schedule("a"))
    await store.write(schedules.release, [release_item(row, "x1")])
    owed = [paused(row, T0), paused(row, T0 + SECOND)]

    def handover(old: Schedule, new: Schedule | None, decided_us: int) -> list[Fire]:
        return owed

    if how == "put":
        await store.write(schedules.put, Put(row=schedule("a"), handover=handover))
        counts = await store.read(lambda conn: fires.counts(conn, "a"))
        assert (counts.executed, counts.skipped) == (1, 1)
    else:
        await store.write(schedules.delete, Delete(ids=["a"], handover=handover))

    assert [(fire.nominal_us, fire.outcome) for fire in await ledger(store, "a")] == [
        (T0, FireOutcome.EXECUTED),
        (T0 + SECOND, FireOutcome.SKIPPED),
    ]
    assert [kind for kind, _ in await journal(store)].count("schedule.skipped") == 1
