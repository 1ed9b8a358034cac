"""What is kept of schedules that were changed or deleted, and of the server's lives."""

from __future__ import annotations

from typing import Any

import pytest

from schedule_zero.model import Schedule, ScheduleState, ScheduleVersion, ServerRun
from schedule_zero.store import Store, schedule_history, schedules, server_runs
from schedule_zero.store.schedule_history import Deleted as Gone
from schedule_zero.store.schedules import Create, Delete, Put, SetState, Update
from schedule_zero.store.server_runs import Begin
from tests.store.builders import T0, journal, schedule
from tests.support import ManualClock, nothing_owed

pytestmark = pytest.mark.anyio

S = 1_000_000


async def create(store: Store, *rows: Schedule) -> list[Schedule]:
    answer = await store.write(schedules.create, Create(rows=list(rows)))
    assert isinstance(answer, list)
    return answer


async def history(store: Store, id_: str = "a", **fields: Any) -> list[ScheduleVersion]:
    return (await store.read(lambda conn: schedule_history.find(conn, id_, **fields))).rows


def shown(versions: list[ScheduleVersion]) -> list[tuple[int, int, int, bool, str | None]]:
    return [(v.schedule.version, v.from_us - T0, v.to_us - T0, v.deleted, v.ended_by) for v in versions]


# --- versions ---------------------------------------------------------------------------------------


async def test_every_change_keeps_what_was_with_its_time_and_who_ended_it(store: Store, clock: ManualClock) -> None:
    [first] = await create(store, schedule("a", params=b'{"x":[1,null]}', options=b'{"priority":1}', updated_by="ada"))
    clock.advance(1)
    await store.write(schedules.set_state, SetState(id="a", state=ScheduleState.PAUSED, note="why", by="bob"))
    clock.advance(1)
    await store.write(schedules.update, Update(id="a", changes={"skips": b"[5]"}, by="cyd"))
    clock.advance(1)
    new = schedule("a", updated_us=clock.wall_us(), updated_by="dan", job_method="other")
    await store.write(schedules.put, Put(row=new, handover=nothing_owed))
    clock.advance(1)
    await store.write(schedules.delete, Delete(ids=["a"], handover=nothing_owed, by="eve"))

    versions = await history(store)

    assert shown(versions) == [
        (4, 3 * S, 4 * S, True, "eve"),
        (3, 2 * S, 3 * S, False, "dan"),
        (2, 1 * S, 2 * S, False, "cyd"),
        (1, 0, 1 * S, False, "bob"),
    ]
    assert versions[3].schedule == first
    assert (versions[2].schedule.state, versions[2].schedule.note) == (ScheduleState.PAUSED, "why")
    assert versions[1].schedule.skips == b"[5]"
    assert (versions[0].schedule.job_method, versions[0].schedule.options) == ("other", None)


async def test_versions_are_paged_newest_first_over_generations(store: Store, clock: ManualClock) -> None:
    for _ in range(2):
        await create(store, schedule("a"))
        for number in range(3):
            await store.write(schedules.update, Update(id="a", changes={"note": str(number)}))
        await store.write(schedules.delete, Delete(ids=["a"], handover=nothing_owed))

    page = await store.read(lambda conn: schedule_history.find(conn, "a", limit=5))
    rest = await store.read(lambda conn: schedule_history.find(conn, "a", limit=5, cursor=page.next_cursor))
    every = await store.read(lambda conn: list(schedule_history.walk(conn, "a")))

    places = [(version.schedule.generation, version.schedule.version) for version in [*page.rows, *rest.rows]]
    assert places == sorted(places, reverse=True)
    assert len(places) == 8
    assert rest.next_cursor is None
    assert every == [*page.rows, *rest.rows]


async def test_a_clock_that_was_set_back_never_makes_a_version_older_than_the_one_before(
    store: Store, clock: ManualClock
) -> None:
    await create(store, schedule("a"))
    clock.step_wall(-3600)

    await store.write(schedules.set_state, SetState(id="a", state=ScheduleState.PAUSED))
    await store.write(schedules.update, Update(id="a", changes={"note": "x"}))
    await store.write(schedules.delete, Delete(ids=["a"], handover=nothing_owed))

    assert [(from_us, to_us) for _, from_us, to_us, _, _ in shown(await history(store))] == [(0, 0)] * 3


async def test_what_was_deleted_since_a_moment_is_found_in_pages(store: Store, clock: ManualClock) -> None:
    rows = await create(store, *(schedule(f"s{n}") for n in range(6)))
    generation = rows[0].generation
    await store.write(schedules.delete, Delete(ids=["s0"], handover=nothing_owed))
    clock.advance(1)
    await store.write(schedules.delete, Delete(ids=["s1", "s2", "s3"], handover=nothing_owed))
    clock.advance(1)
    await store.write(schedules.delete, Delete(ids=["s4"], handover=nothing_owed))

    found: list[Gone] = []
    after = Gone(T0)
    while page := await store.read(lambda conn, after=after: schedule_history.deleted(conn, after, T0 + S, limit=2)):
        found += page
        after = page[-1]

    assert found == [Gone(to_us, f"s{n}", generation) for n, to_us in enumerate([T0, T0 + S, T0 + S, T0 + S])]


# --- the server's lives -----------------------------------------------------------------------------


def run(epoch: int, from_s: int, to_s: int, *, stopped: bool = False) -> ServerRun:
    us = T0 + to_s * S
    return ServerRun(epoch=epoch, started_us=T0 + from_s * S, alive_us=us, stopped_us=us if stopped else None)


async def test_a_life_is_on_record_from_its_beginning_to_its_end(store: Store) -> None:
    await store.write(server_runs.begin, Begin(run=run(1, 0, 0), due=[]))
    await store.write(server_runs.seen, run(1, 0, 10))
    await store.write(server_runs.seen, run(1, 0, 20, stopped=True))

    assert await store.read(lambda conn: server_runs.between(conn, T0, T0 + S)) == [run(1, 0, 20, stopped=True)]


async def test_what_has_not_begun_is_not_seen(store: Store) -> None:
    await store.write(server_runs.seen, run(1, 0, 10))

    assert await store.read(lambda conn: server_runs.between(conn, 0, T0 + 99 * S)) == []


async def test_a_life_and_what_is_due_because_of_it_begin_in_one_transaction(store: Store) -> None:
    startup = b'{"type":"startup"}'
    [a, b] = await create(
        store, schedule("a", trigger=startup, next_fire_us=None, state=ScheduleState.FINISHED), schedule("b")
    )
    before = store.stats.commits

    due = [(a.id, a.generation, T0 + S), (b.id, b.generation, T0 + S)]
    await store.write(server_runs.begin, Begin(run=run(1, 1, 1), due=due))

    assert store.stats.commits == before + 1
    rows = [await store.read(lambda conn, id_=id_: schedules.get(conn, id_)) for id_ in "ab"]
    assert [(row.state, row.next_fire_us) for row in rows if row] == [
        (ScheduleState.ACTIVE, T0 + S),
        # It was due before.
        (ScheduleState.ACTIVE, T0),
    ]
    assert ("schedule.rearmed", "a") in await journal(store)


async def test_a_moment_lies_between_the_last_life_that_had_begun_and_the_next(store: Store) -> None:
    for life in (run(1, 0, 10, stopped=True), run(2, 20, 30), run(3, 40, 50)):
        await store.write(server_runs.begin, Begin(run=life, due=[]))

    async def around(at_s: int) -> list[int | None]:
        found = await store.read(lambda conn: server_runs.around(conn, T0 + at_s * S))
        return [None if life is None else life.epoch for life in found]

    assert await around(-1) == [None, None]
    assert [await around(at_s) for at_s in (0, 15, 20)] == [[1, 2], [1, 2], [2, 3]]
    assert await around(99) == [3, None]


async def test_the_lives_of_a_time_come_with_the_one_before_it(store: Store) -> None:
    lives = [run(1, 0, 10, stopped=True), run(2, 20, 30), run(3, 40, 50, stopped=True), run(4, 60, 70)]
    for life in lives:
        await store.write(server_runs.begin, Begin(run=life, due=[]))

    async def between(from_s: int, to_s: int, **fields: int) -> list[int]:
        found = await store.read(lambda conn: server_runs.between(conn, T0 + from_s * S, T0 + to_s * S, **fields))
        return [life.epoch for life in found]

    assert await between(-5, -1) == []
    assert await between(5, 6) == [1]
    assert await between(15, 45) == [1, 2, 3]
    assert await between(35, 36) == [2]
    assert await between(0, 99) == [1, 2, 3, 4]
    assert await between(0, 99, limit=2) == [3, 4]
