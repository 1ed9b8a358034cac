"""The contract of what the fire policies write: releases that change more than times, waiting executions, freezes,
backfills, and the versions that are over.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from schedule_zero.errors import Conflict, IdempotencyMismatch, NotFound, WrongState
from schedule_zero.model import (
    Backfill,
    BackfillState,
    CatchUp,
    Fire,
    FireOutcome,
    Freeze,
    Schedule,
    ScheduleState,
    ScheduleVersion,
    SkipReason,
    State,
)
from schedule_zero.store import (
    IdempotencyRecord,
    IdempotentReplay,
    Store,
    backfills,
    executions,
    fires,
    freezes,
    schedule_history,
    schedules,
)
from schedule_zero.store.backfills import Advance
from schedule_zero.store.executions import CancelOutcome
from schedule_zero.store.freezes import Thaw
from schedule_zero.store.schedules import Create, Delete, Put, RearmItem, SetState, Update
from tests.store.builders import T0, execution, insert, journal, release_item, running, schedule
from tests.support import ManualClock, nothing_owed

pytestmark = pytest.mark.anyio

SECOND = 1_000_000


async def create(store: Store, *rows: Schedule) -> list[Schedule]:
    answer = await store.write(schedules.create, Create(rows=list(rows)))
    assert isinstance(answer, list)
    return answer


async def get(store: Store, id_: str = "s") -> Schedule:
    row = await store.read(lambda conn: schedules.get(conn, id_))
    assert row is not None
    return row


async def state_of(store: Store, id_: str) -> State:
    found = await store.read(lambda conn: executions.get(conn, id_))
    assert found is not None
    return found.execution.state


# --- releases that change more than times -------------------------------------------------------------


async def test_a_release_writes_what_is_left_of_snooze_and_skips(store: Store) -> None:
    [row] = await create(store, schedule("s", note="why", resume_us=T0 + 5, skips=b"[1,2]", waits_for="x"))
    item = release_item(row, "e", resume_us=T0 + 7, skips=b"[2]", waits_for="e", next_fire_us=None, plain=False)

    assert await store.write(schedules.release, [item]) == {}

    after = await get(store)
    assert (after.resume_us, after.skips, after.waits_for, after.note) == (T0 + 7, b"[2]", "e", "why")
    assert after.runs == 1


async def test_a_release_clears_snooze_skips_and_note(store: Store) -> None:
    [row] = await create(
        store, schedule("s", state=ScheduleState.PAUSED, note="why", resume_us=T0, skips=b"[1]", waits_for="x")
    )

    await store.write(schedules.release, [release_item(row, "e", note="", plain=False)])

    after = await get(store)
    assert (after.state, after.note) == (ScheduleState.ACTIVE, None)
    assert (after.resume_us, after.skips, after.waits_for) == (None, None, None)


async def test_a_release_may_replace_the_note(store: Store) -> None:
    [row] = await create(store, schedule("s", note="old"))
    done = release_item(row, "e", note="finished after 1 runs", state=ScheduleState.FINISHED, next_fire_us=None)

    await store.write(schedules.release, [done])

    after = await get(store)
    assert (after.state, after.note, after.next_fire_us) == (ScheduleState.FINISHED, "finished after 1 runs", None)
    assert ("schedule.finished", "s") in await journal(store)


async def test_ordinary_and_other_releases_share_a_transaction(store: Store) -> None:
    rows = await create(store, schedule("a"), schedule("b", skips=b"[1]"), schedule("c"))
    items = [
        release_item(rows[0], "e1"),
        release_item(rows[1], "e2", skips=b"[9]", plain=False),
        release_item(rows[2], "e3"),
    ]

    assert await store.write(schedules.release, items) == {}

    assert [(await get(store, id_)).runs for id_ in "abc"] == [1, 1, 1]
    assert [(await get(store, id_)).skips for id_ in "abc"] == [None, b"[9]", None]


async def test_a_release_keeps_the_detail_and_the_totals_count_what_a_row_stands_for(store: Store) -> None:
    [row] = await create(store, schedule("s"))
    many = Fire(
        schedule_id="s",
        generation=row.generation,
        nominal_us=T0,
        outcome=FireOutcome.SKIPPED,
        reason=SkipReason.FROZEN,
        count=7,
        last_nominal_us=T0 + 60 * SECOND,
        decided_us=T0,
        detail="somewhere",
    )
    await store.write(schedules.release, [release_item(row, "e", fires=[many], executions=[])])

    [stored] = (await store.read(lambda conn: fires.find(conn, schedule_id="s"))).rows
    assert stored == many
    assert await store.read(lambda conn: fires.counts(conn, "s")) == fires.FireCounts(skipped=7)
    assert (await get(store)).runs == 0


# --- rearm and arm ------------------------------------------------------------------------------------


async def test_a_schedule_that_waited_for_an_execution_gets_its_next_time(store: Store) -> None:
    [row] = await create(store, schedule("s", next_fire_us=None, waits_for="e"))

    await store.write(schedules.rearm, RearmItem(id="s", generation=row.generation, waits_for="e", next_fire_us=T0 + 5))

    after = await get(store)
    assert (after.next_fire_us, after.waits_for, after.version) == (T0 + 5, None, row.version)
    assert (await journal(store))[-1] == ("schedule.rearmed", "s")


@pytest.mark.parametrize("fence", [{"generation": 99}, {"waits_for": "other"}])
async def test_a_schedule_that_was_changed_meanwhile_is_not_rearmed(store: Store, fence: dict[str, Any]) -> None:
    [row] = await create(store, schedule("s", next_fire_us=None, waits_for="e"))
    before = await get(store)
    item = {"id": "s", "generation": row.generation, "waits_for": "e", "next_fire_us": T0 + 5, **fence}

    await store.write(schedules.rearm, RearmItem(**item))

    assert await get(store) == before
    assert ("schedule.rearmed", "s") not in await journal(store)


async def test_a_schedule_without_a_next_time_is_finished_and_its_snooze_is_over(store: Store) -> None:
    [row] = await create(
        store, schedule("s", state=ScheduleState.PAUSED, resume_us=T0 + 9, next_fire_us=None, waits_for="e")
    )

    await store.write(schedules.rearm, RearmItem(id="s", generation=row.generation, waits_for="e", next_fire_us=None))

    after = await get(store)
    assert (after.state, after.waits_for, after.resume_us) == (ScheduleState.FINISHED, None, None)
    assert (await journal(store))[-1] == ("schedule.finished", "s")


async def test_arming_makes_due_what_is_not_due_before(store: Store) -> None:
    rows = await create(
        store,
        schedule("earlier", next_fire_us=T0 - 5),
        schedule("later", next_fire_us=T0 + 5),
        schedule("never", next_fire_us=None, state=ScheduleState.FINISHED),
        schedule("paused", next_fire_us=None, state=ScheduleState.PAUSED),
        schedule("another", next_fire_us=None),
    )
    due = [(row.id, row.generation + (row.id == "another"), T0) for row in rows]

    assert await store.write(schedules.arm, due) == 3

    after = {row.id: await get(store, row.id) for row in rows}
    assert {id_: row.next_fire_us for id_, row in after.items()} == {
        "earlier": T0 - 5, "later": T0, "never": T0, "paused": T0, "another": None,
    }  # fmt: skip
    assert after["never"].state is ScheduleState.ACTIVE
    assert after["paused"].state is ScheduleState.PAUSED


# --- snoozed, tracked ---------------------------------------------------------------------------------


async def test_the_snoozed_whose_time_has_come_are_found_the_first_first(store: Store) -> None:
    def snoozed(id_: str, resume_us: int | None, state: ScheduleState = ScheduleState.PAUSED) -> Schedule:
        return schedule(id_, resume_us=resume_us, state=state)

    await create(
        store,
        snoozed("now", T0),
        snoozed("before", T0 - 5),
        snoozed("later", T0 + 1),
        snoozed("for ever", None),
        snoozed("over", T0 - 9, ScheduleState.FINISHED),
    )

    found = await store.read(lambda conn: schedules.snoozed(conn, T0, 10))
    assert [row.id for row in found] == ["before", "now"]
    assert len(await store.read(lambda conn: schedules.snoozed(conn, T0, 1))) == 1


async def test_pausing_until_another_moment_is_a_change_and_resuming_forgets_it(store: Store) -> None:
    await create(store, schedule("s"))

    for until in (T0 + 5, T0 + 5, T0 + 6):
        await store.write(schedules.set_state, SetState(id="s", state=ScheduleState.PAUSED, resume_us=until))
    assert ((await get(store)).resume_us, (await get(store)).version) == (T0 + 6, 3)
    resumed = await store.write(schedules.set_state, SetState(id="s", state=ScheduleState.ACTIVE))
    assert (resumed.resume_us, resumed.version) == (None, 4)


async def test_only_tracked_schedules_are_listed_as_such(store: Store) -> None:
    await create(store, schedule("a", tracked=True), schedule("b"))

    assert await store.read(schedules.tracked) == ["a"]


# --- executions that wait for their turn --------------------------------------------------------------


async def test_what_waits_for_its_turn_is_let_go_once(store: Store) -> None:
    await insert(store, execution("e", state=State.BLOCKED, schedule_id="s"))

    [released] = await store.write(executions.unblock, "e")

    assert released.state is State.PENDING
    assert await state_of(store, "e") is State.PENDING
    assert (await journal(store))[-1] == ("execution.unblocked", "e")
    assert await store.write(executions.unblock, "e") == []
    assert await store.write(executions.unblock, "nothing") == []


async def test_what_is_let_go_before_its_time_waits_for_that(store: Store, clock: ManualClock) -> None:
    await insert(store, execution("later", state=State.BLOCKED, not_before_us=clock.wall_us() + SECOND))
    await insert(store, execution("past", state=State.BLOCKED, not_before_us=clock.wall_us() - SECOND))

    assert (await store.write(executions.unblock, "later"))[0].state is State.SCHEDULED
    assert (await store.write(executions.unblock, "past"))[0].state is State.PENDING


async def test_what_has_not_started_is_cancelled_and_what_runs_is_left_alone(store: Store) -> None:
    await insert(
        store,
        execution("blocked", state=State.BLOCKED),
        execution("pending"),
        execution("scheduled", state=State.SCHEDULED, not_before_us=T0 + SECOND),
        running("running", 7),
        execution("over", state=State.BLOCKED),
    )
    await store.write(executions.cancel_unstarted, ["over"])

    ids = ["blocked", "pending", "scheduled", "running", "over", "nothing"]
    answers = await store.write(executions.cancel_unstarted, ids)

    assert [answer.outcome for answer in answers] == [
        *[CancelOutcome.CANCELLED] * 3, CancelOutcome.RUNNING, CancelOutcome.TERMINAL, CancelOutcome.UNKNOWN,
    ]  # fmt: skip
    assert [await state_of(store, id_) for id_ in ids[:4]] == [*[State.CANCELLED] * 3, State.RUNNING]
    left = await store.read(lambda conn: executions.get(conn, "running"))
    assert left is not None
    assert not left.execution.cancel_requested


# --- freezes ------------------------------------------------------------------------------------------


def a_freeze(id_: str, from_us: int = T0, **fields: Any) -> Freeze:
    return Freeze(id=id_, from_us=from_us, **fields)


async def test_a_freeze_comes_back_as_it_was_written(store: Store) -> None:
    full = a_freeze("f", to_us=T0 + 5, note="move", by="ada", catch_up=CatchUp.ALL)

    assert await store.write(freezes.freeze, full) == full

    assert await store.read(freezes.all_freezes) == [full]
    assert (await journal(store))[-1] == ("schedules.frozen", "f")


async def test_there_is_one_freeze_at_a_time(store: Store) -> None:
    await store.write(freezes.freeze, a_freeze("f", to_us=T0 + 5))

    with pytest.raises(WrongState):
        await store.write(freezes.freeze, a_freeze("g", T0 + 4))
    await store.write(freezes.freeze, a_freeze("g", T0 + 5))
    with pytest.raises(WrongState):
        await store.write(freezes.freeze, a_freeze("h", T0 + 1000))
    assert [one.id for one in await store.read(freezes.all_freezes)] == ["f", "g"]


@pytest.mark.parametrize("to_us", [None, T0 + 100])
async def test_a_thaw_ends_the_freeze_and_says_what_is_made_up_for(store: Store, to_us: int | None) -> None:
    await store.write(freezes.freeze, a_freeze("f", to_us=to_us, catch_up=CatchUp.NONE))

    thawed = await store.write(freezes.thaw, Thaw(now_us=T0 + 9, catch_up=CatchUp.LATEST, by="bob"))

    assert (thawed.id, thawed.to_us, thawed.catch_up, thawed.thawed_by) == ("f", T0 + 9, CatchUp.LATEST, "bob")
    assert await store.read(freezes.all_freezes) == [thawed]
    assert (await journal(store))[-1] == ("schedules.thawed", "f")
    with pytest.raises(WrongState):
        await store.write(freezes.thaw, Thaw(now_us=T0 + 10, catch_up=None, by="bob"))


async def test_a_clock_set_back_ends_no_freeze_before_it_began(store: Store) -> None:
    await store.write(freezes.freeze, a_freeze("f"))

    assert (await store.write(freezes.thaw, Thaw(now_us=T0 - 9, catch_up=None, by="bob"))).to_us == T0


async def test_what_was_thawed_stays_thawed_when_the_clock_is_set_back(store: Store) -> None:
    await store.write(freezes.freeze, a_freeze("f"))
    thawed = await store.write(freezes.thaw, Thaw(now_us=T0 + 9, catch_up=None, by="bob"))

    assert not thawed.in_force(T0 + 5)
    with pytest.raises(WrongState):
        await store.write(freezes.thaw, Thaw(now_us=T0 + 5, catch_up=None, by="bob"))
    assert await store.write(freezes.freeze, a_freeze("g", T0 + 5))


async def test_a_thaw_ends_a_freeze_too_whose_end_lies_ahead_again(store: Store) -> None:
    """The clock was set back to before the end of an earlier one while a later one holds."""
    await store.write(freezes.freeze, a_freeze("f", to_us=T0 + 5))
    await store.write(freezes.freeze, a_freeze("g", T0 + 7))

    await store.write(freezes.thaw, Thaw(now_us=T0 + 2, catch_up=CatchUp.ALL, by="bob"))

    assert not any(one.in_force(T0 + 3) for one in await store.read(freezes.all_freezes))


async def test_what_never_was_frozen_is_not_thawed(store: Store) -> None:
    with pytest.raises(WrongState):
        await store.write(freezes.thaw, Thaw(now_us=T0, catch_up=None, by="bob"))


# --- backfills ----------------------------------------------------------------------------------------


def a_backfill(id_: str = "b", **fields: Any) -> Backfill:
    return Backfill(
        **{
            "id": id_,
            "schedule_id": "s",
            "generation": 3,
            "version": 4,
            "from_us": T0 - 90,
            "to_us": T0 - 10,
            "next_us": T0 - 90,
            "rate_per_s": 2.5,
            "total": 3,
            "created_us": T0,
            "by": "ada",
            **fields,
        }
    )


def a_step(at_us: int, next_us: int | None, *ids: str) -> Advance:
    rows = [execution(id_, schedule_id="s", group_id="b") for id_ in ids]
    return Advance(id="b", schedule_id="s", at_us=at_us, next_us=next_us, executions=rows)


async def found(store: Store, id_: str = "b") -> Backfill:
    rows = (await store.read(lambda conn: backfills.find(conn, "s", limit=100))).rows
    return next(row for row in rows if row.id == id_)


async def test_a_backfill_comes_back_as_it_was_written(store: Store) -> None:
    full = a_backfill()

    assert await store.write(backfills.create, backfills.Create(row=full)) == full

    assert await found(store) == full
    assert await store.read(backfills.running) == [full]
    assert (await journal(store))[-1] == ("backfill.created", "b")


async def test_a_backfill_is_begun_once_for_a_key(store: Store) -> None:
    key = IdempotencyRecord(key="k", fingerprint="f", status=200, response=b'["b1"]', created_us=T0)
    first = a_backfill("b1")

    assert await store.write(backfills.create, backfills.Create(row=first, idem=key)) == first
    again = await store.write(backfills.create, backfills.Create(row=a_backfill("b2"), idem=key))
    with pytest.raises(IdempotencyMismatch):
        await store.write(
            backfills.create, backfills.Create(row=a_backfill("b3"), idem=replace(key, fingerprint="other"))
        )

    assert isinstance(again, IdempotentReplay)
    assert await store.read(backfills.running) == [first]
    assert await store.read(lambda conn: backfills.get(conn, "b1")) == first
    assert await store.read(lambda conn: backfills.get(conn, "b2")) is None


async def test_a_step_creates_its_executions_and_moves_on_together(store: Store) -> None:
    await store.write(backfills.create, backfills.Create(row=a_backfill()))

    assert await store.write(backfills.advance, a_step(T0 - 90, T0 - 50, "e1", "e2"))
    middle = await found(store)
    assert (middle.next_us, middle.created, middle.state) == (T0 - 50, 2, BackfillState.RUNNING)
    assert await store.write(backfills.advance, a_step(T0 - 50, None, "e3"))

    end = await found(store)
    assert (end.next_us, end.created, end.state) == (None, 3, BackfillState.COMPLETED)
    assert await store.read(backfills.running) == []
    assert [await state_of(store, id_) for id_ in ("e1", "e2", "e3")] == [State.PENDING] * 3
    assert (await journal(store))[-1] == ("backfill.completed", "b")


async def test_a_backfill_of_which_nothing_is_left_is_complete(store: Store) -> None:
    """A calendar that was changed forbids the rest of it."""
    await store.write(backfills.create, backfills.Create(row=a_backfill()))
    await store.write(backfills.advance, a_step(T0 - 90, T0 - 50, "e1"))

    await store.write(backfills.advance, a_step(T0 - 50, None))

    end = await found(store)
    assert (end.next_us, end.created, end.state) == (None, 1, BackfillState.COMPLETED)
    assert await store.read(backfills.running) == []
    assert (await journal(store))[-1] == ("backfill.completed", "b")


async def test_a_step_from_where_it_does_not_stand_any_more_writes_nothing(store: Store) -> None:
    await store.write(backfills.create, backfills.Create(row=a_backfill()))
    await store.write(backfills.advance, a_step(T0 - 90, T0 - 50, "e1"))
    before = await found(store)

    assert not await store.write(backfills.advance, a_step(T0 - 90, T0 - 50, "again"))

    assert await found(store) == before
    assert await store.read(lambda conn: executions.get(conn, "again")) is None


async def test_two_equal_steps_in_one_transaction_are_one(store: Store) -> None:
    await store.write(backfills.create, backfills.Create(row=a_backfill()))
    answers: list[Any] = []
    for id_ in ("e1", "e2"):
        store.submit(backfills.advance, a_step(T0 - 90, T0 - 50, id_), answers.append)
    await store.write(backfills.advance, a_step(T0 - 50, T0 - 40, "e3"))

    assert answers == [True, False]
    assert (await found(store)).created == 2


async def test_a_cancelled_backfill_goes_no_further(store: Store) -> None:
    await store.write(backfills.create, backfills.Create(row=a_backfill()))

    cancelled = await store.write(backfills.cancel, "b")

    assert cancelled.state is BackfillState.CANCELLED
    assert await found(store) == cancelled
    assert not await store.write(backfills.advance, a_step(T0 - 90, None, "e1"))
    assert (await journal(store))[-1] == ("backfill.cancelled", "b")
    with pytest.raises(WrongState):
        await store.write(backfills.cancel, "b")
    with pytest.raises(NotFound):
        await store.write(backfills.cancel, "nothing")


async def test_backfills_are_listed_newest_first_in_pages(store: Store) -> None:
    for id_ in ("b1", "b2", "b3"):
        await store.write(backfills.create, backfills.Create(row=a_backfill(id_)))
        await store.write(backfills.cancel, id_)
    await store.write(backfills.create, backfills.Create(row=a_backfill("other", schedule_id="t")))

    first = await store.read(lambda conn: backfills.find(conn, "s", limit=2))
    second = await store.read(lambda conn: backfills.find(conn, "s", limit=2, cursor=first.next_cursor))

    assert [row.id for row in first.rows + second.rows] == ["b3", "b2", "b1"]
    assert second.next_cursor is None


async def test_a_backfill_over_a_range_that_another_one_runs_over_is_refused_with_its_id(store: Store) -> None:
    first = a_backfill("b1")
    await store.write(backfills.create, backfills.Create(row=first))

    with pytest.raises(Conflict, match="backfill b1 of this schedule runs, and its range overlaps this one"):
        await store.write(backfills.create, backfills.Create(row=a_backfill("b2", from_us=first.to_us)))
    await store.write(backfills.create, backfills.Create(row=a_backfill("b3", from_us=first.to_us + 1, to_us=T0 * 2)))


# --- versions that are over ---------------------------------------------------------------------------


def full_schedule() -> Schedule:
    """No field has its default."""
    return schedule(
        "s",
        params='{"x":"ü"}'.encode(),
        options=b'{"priority":1}',
        policies=b'{"jitter_s":1.5}',
        state=ScheduleState.PAUSED,
        note="why",
        misfire_grace_s=0.1,
        resume_us=T0 + 1,
        skips=b"[2,3]",
        waits_for="e",
        tracked=True,
        next_fire_us=T0 + 2,
        last_fire_us=T0 - 1,
        updated_by="ada",
    )


async def versions(store: Store) -> list[ScheduleVersion]:
    return (await store.read(lambda conn: schedule_history.find(conn, "s"))).rows


async def test_every_field_of_a_version_that_is_over_comes_back(store: Store, clock: ManualClock) -> None:
    full = full_schedule()
    [made] = await create(store, full)
    plain = schedule("other", params=b"{}")
    # Otherwise a field that is lost would come back as its default.
    same = {"id", "handler_id", "job_method", "trigger", "version", "created_us", "updated_us", "runs", "generation"}
    defaults = [name for name in Schedule.__struct_fields__ if name not in same | {"next_fire_us"}]
    assert [name for name in defaults if getattr(full, name) == getattr(plain, name)] == []
    clock.advance(5)

    await store.write(schedules.update, Update(id="s", changes={"note": "new"}, by="bob"))

    [over] = await versions(store)
    assert over == ScheduleVersion(schedule=made, from_us=T0, to_us=T0 + 5 * SECOND, ended_by="bob")
    wanted = await store.read(lambda conn: schedule_history.get(conn, "s", made.generation, 1))
    assert wanted == over
    assert await store.read(lambda conn: schedule_history.get(conn, "s", made.generation, 2)) is None


async def test_each_kind_of_change_keeps_what_was_before_and_the_ends_meet(store: Store, clock: ManualClock) -> None:
    [made] = await create(store, schedule("s"))
    clock.advance(1)
    await store.write(schedules.update, Update(id="s", changes={"note": "two"}))
    clock.advance(1)
    await store.write(schedules.set_state, SetState(id="s", state=ScheduleState.PAUSED, note="three"))
    clock.advance(1)
    await store.write(
        schedules.put, Put(row=schedule("s", note="four", updated_us=clock.wall_us()), handover=nothing_owed)
    )
    clock.advance(1)
    await store.write(schedules.delete, Delete(ids=["s"], handover=nothing_owed))

    kept = await versions(store)

    assert [(one.schedule.version, one.schedule.note) for one in kept] == [
        (4, "four"), (3, "three"), (2, "two"), (1, None),
    ]  # fmt: skip
    assert [one.from_us for one in kept[:-1]] == [one.to_us for one in kept[1:]]
    assert kept[-1].from_us == made.created_us
    assert [one.deleted for one in kept] == [True, False, False, False]


async def test_a_change_that_changes_nothing_keeps_no_version(store: Store) -> None:
    await create(store, schedule("s"))

    await store.write(schedules.set_state, SetState(id="s", state=ScheduleState.ACTIVE))

    assert await versions(store) == []


async def test_versions_are_listed_in_pages_over_generations(store: Store) -> None:
    for _ in range(2):
        await create(store, schedule("s"))
        for note in ("x", "y"):
            await store.write(schedules.update, Update(id="s", changes={"note": note}))
        await store.write(schedules.delete, Delete(ids=["s"], handover=nothing_owed))

    pages, cursor = [], None
    while True:
        page = await store.read(lambda conn, cursor=cursor: schedule_history.find(conn, "s", cursor=cursor, limit=4))
        pages.append([(one.schedule.generation, one.schedule.version) for one in page.rows])
        cursor = page.next_cursor
        if cursor is None:
            break

    assert [len(page) for page in pages] == [4, 2]
    listed = [one for page in pages for one in page]
    assert listed == sorted(listed, reverse=True)
