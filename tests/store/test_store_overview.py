"""What the overview asks of the store: bounded, and the same on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from schedule_zero.model import ScheduleState, State
from schedule_zero.store import Store, execution_reads, lane_sizes, recent_failures, schedule_overview, schedules
from schedule_zero.store.executions import end
from schedule_zero.store.schedules import Create, SetState
from tests.store.builders import T0, end_item, execution, insert, running, schedule

pytestmark = pytest.mark.anyio

HOUR_US = 3_600_000_000


async def keep(store: Store, *rows: Any) -> None:
    await store.write(schedules.create, Create(rows=list(rows)))


# --- schedules --------------------------------------------------------------------------------------


async def test_schedules_are_counted_by_state_and_those_that_need_somebody_are_named(store):
    await keep(store, *(schedule(f"s{n}") for n in range(6)))
    for id_, state, by in (
        ("s1", ScheduleState.PAUSED, "ann"),
        ("s2", ScheduleState.PAUSED, schedule_overview.BY_FAILURES),
        ("s3", ScheduleState.QUARANTINED, "timer"),
        ("s4", ScheduleState.FINISHED, None),
    ):
        await store.write(schedules.set_state, SetState(id=id_, state=state, by=by))

    found = await store.read(schedule_overview.counts)

    assert found.by_state == {
        ScheduleState.ACTIVE: 2,
        ScheduleState.PAUSED: 2,
        ScheduleState.FINISHED: 1,
        ScheduleState.QUARANTINED: 1,
    }
    assert found.total == 6
    assert (found.paused_by_failures, found.one_paused_by_failures, found.one_quarantined) == (1, "s2", "s3")


async def test_without_schedules_all_counts_are_zero(store):
    found = await store.read(schedule_overview.counts)

    assert (found.total, found.one_quarantined) == (0, None)


async def test_what_is_due_next_comes_first_and_what_cannot_fire_is_left_out(store):
    await keep(
        store,
        schedule("late", next_fire_us=T0 + 3),
        schedule("soon", next_fire_us=T0 + 1),
        schedule("snoozed", next_fire_us=T0 + 2, state=ScheduleState.PAUSED, resume_us=T0 + 9),
        schedule("paused", next_fire_us=T0 + 2, state=ScheduleState.PAUSED),
        schedule("finished", next_fire_us=None, state=ScheduleState.FINISHED),
        schedule("far", next_fire_us=T0 + HOUR_US),
    )

    found = await store.read(lambda conn: schedule_overview.upcoming(conn, T0 + 100, 10))
    first = await store.read(lambda conn: schedule_overview.upcoming(conn, T0 + 100, 1))

    assert [row.id for row in found] == ["soon", "snoozed", "late"]
    assert [row.id for row in first] == ["soon"]


async def test_it_is_known_whether_anything_ever_ran(store):
    before = await store.read(schedule_overview.has_executions)
    await insert(store, execution("e1"))

    assert (before, await store.read(schedule_overview.has_executions)) == (False, True)


# --- failures ---------------------------------------------------------------------------------------


async def failed(store: Store, id_: str, at_us: int, state: State = State.FAILED, **fields: Any) -> None:
    await insert(store, running(id_, 1, created_us=at_us))
    await store.write(end, [end_item(id_, 1, state, finished_us=at_us + 5, **fields)])


async def newest(store: Store, since_us: int, most: int) -> tuple[list[str], bool]:
    rows, complete = await store.read(lambda conn: recent_failures.newest(conn, since_us, most))
    return [row.id for row in rows], complete


async def test_failures_of_all_kinds_come_newest_first_and_nothing_else(store):
    await failed(store, "e1", T0 + 1)
    await failed(store, "e2", T0 + 2, State.DEAD)
    await failed(store, "e3", T0 + 3, State.TIMEOUT)
    await failed(store, "e4", T0 + 4, State.COMPLETED)
    await insert(store, execution("e5", created_us=T0 + 5))

    assert await newest(store, T0, 10) == (["e3", "e2", "e1"], True)
    assert await newest(store, T0, 2) == (["e3", "e2"], False)


async def test_failures_that_ended_before_are_left_out(store):
    await failed(store, "old", T0)
    await failed(store, "new", T0 + HOUR_US)

    assert await newest(store, T0 + HOUR_US, 10) == (["new"], True)
    assert await newest(store, T0 + 2 * HOUR_US, 10) == ([], True)


async def test_a_failure_has_what_it_said_unless_that_is_long(store):
    said = b'{"type":"E","message":"' + b"x" * recent_failures.MOST_BYTES + b'"}'
    await failed(store, "long", T0, error=said, dead_letter="demo.noop:1")
    await failed(store, "short", T0 + 1, error='{"type":"E","message":"größer"}'.encode())

    rows, _ = await store.read(lambda conn: recent_failures.newest(conn, T0, 10))

    assert [(row.id, None if row.error is None else row.error.message, row.dead_letter) for row in rows] == [
        ("short", "größer", None),
        ("long", None, "demo.noop:1"),
    ]


# --- lanes ------------------------------------------------------------------------------------------


async def test_what_waits_in_a_lane_is_counted_as_far_as_somebody_wants_to_know(store):
    await insert(store, *(execution(f"a{n}", job_method="a") for n in range(5)))
    await insert(store, execution("b1", job_method="b"), execution("b2", job_method="b", lane='{"node":"n7"}'))
    await insert(store, execution("s1", job_method="a", state=State.SCHEDULED, not_before_us=T0 + HOUR_US))
    lanes = [("demo", "a", None), ("demo", "b", None), ("demo", "b", '{"node":"n7"}'), ("demo", "c", None)]

    found = await store.read(lambda conn: lane_sizes.pending_up_to(conn, lanes, 3))

    assert list(found.values()) == [3, 1, 1, 0]
    # As the dispatcher counts them.
    assert (await store.read(execution_reads.pending_counts))[lanes[0]] == 5
