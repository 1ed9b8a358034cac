"""The contract of schedules and the ledger: C1, the fence, and what a user's change does to a release in flight."""

from __future__ import annotations

from typing import Any

import pytest

from schedule_zero.errors import AlreadyExists, IdempotencyMismatch, InvalidField, NotFound, PreconditionFailed
from schedule_zero.model import Fire, FireOutcome, Schedule, ScheduleState, SkipReason
from schedule_zero.store import IdempotencyRecord, IdempotentReplay, Store, executions, fires, schedules
from schedule_zero.store.schedules import Create, Delete, Put, ReleaseItem, ReleaseRefusal, SetState, Update, etag
from tests.store.builders import T0, execution, insert, journal, release_item, schedule
from tests.support import nothing_owed

pytestmark = pytest.mark.anyio

SECOND = 1_000_000


async def create(store: Store, *rows: Schedule) -> list[Schedule]:
    answer = await store.write(schedules.create, Create(rows=list(rows)))
    assert isinstance(answer, list)
    return answer


async def get(store: Store, id_: str) -> Schedule | None:
    return await store.read(lambda conn: schedules.get(conn, id_))


async def ledger(store: Store, id_: str | None = None, **fields: Any) -> list[Fire]:
    return (await store.read(lambda conn: fires.find(conn, schedule_id=id_, limit=1000, **fields))).rows


def skipped(row: Schedule, nominal_us: int, reason: SkipReason = SkipReason.PAUSED, **fields: Any) -> Fire:
    return Fire(
        **{
            "schedule_id": row.id,
            "generation": row.generation,
            "nominal_us": nominal_us,
            "outcome": FireOutcome.SKIPPED,
            "reason": reason,
            "decided_us": nominal_us,
            **fields,
        }
    )


def release_without_execution(row: Schedule, *rows: Fire, **fields: Any) -> ReleaseItem:
    return release_item(row, "unused", **{"fires": list(rows), "executions": [], **fields})


# --- create, replace, change, delete -----------------------------------------------------------------


async def test_every_field_of_a_schedule_comes_back_as_it_was_written(store: Store) -> None:
    full = schedule(
        "s/1:ä",
        params='{"x":"ü"}'.encode(),
        options=b'{"priority":1}',
        state=ScheduleState.PAUSED,
        note="why",
        misfire_grace_s=0.1,
        next_fire_us=None,
        last_fire_us=T0 + 1,
    )

    [created] = await create(store, full)

    assert created.version == 1
    assert await get(store, "s/1:ä") == created == full


async def test_creating_an_existing_id_names_it_and_writes_nothing_of_that_request(store: Store) -> None:
    await create(store, schedule("a"))

    with pytest.raises(AlreadyExists) as caught:
        await create(store, schedule("b"), schedule("a"))

    assert caught.value.data == {"id": "a"}
    assert await get(store, "b") is None


async def test_a_request_that_names_an_id_twice_is_refused(store: Store) -> None:
    with pytest.raises(AlreadyExists):
        await create(store, schedule("a"), schedule("a"))

    assert await store.read(schedules.count) == 0


async def test_of_two_requests_for_one_id_in_one_transaction_the_first_wins(store: Store) -> None:
    outcomes: list[Any] = []
    store.submit(schedules.create, Create(rows=[schedule("a", note="first")]), outcomes.append)
    store.submit(schedules.create, Create(rows=[schedule("b"), schedule("a", note="second")]), outcomes.append)
    await create(store, schedule("c"))

    assert isinstance(outcomes[1], AlreadyExists)
    row = await get(store, "a")
    assert row is not None
    assert row.note == "first"
    assert await get(store, "b") is None


async def test_a_key_that_was_refused_is_not_remembered(store: Store) -> None:
    record = IdempotencyRecord(key="k", fingerprint="f", status=201, response=b"{}", created_us=T0)
    await create(store, schedule("a"))

    with pytest.raises(AlreadyExists):
        await store.write(schedules.create, Create(rows=[schedule("a")], idem=record))
    await store.write(schedules.delete, Delete(handover=nothing_owed, ids=["a"]))

    assert isinstance(await store.write(schedules.create, Create(rows=[schedule("a")], idem=record)), list)
    assert isinstance(await store.write(schedules.create, Create(rows=[schedule("a")], idem=record)), IdempotentReplay)
    record.fingerprint = "other"
    with pytest.raises(IdempotencyMismatch):
        await store.write(schedules.create, Create(rows=[schedule("z")], idem=record))


async def test_put_creates_and_then_replaces_in_place(store: Store) -> None:
    first = await store.write(schedules.put, Put(handover=nothing_owed, row=schedule("a", note="1")))
    await store.write(schedules.release, [release_item(first.schedule, "x1")])
    second = await store.write(
        schedules.put,
        Put(handover=nothing_owed, row=schedule("a", note="2", created_us=T0 + 5, next_fire_us=T0 + SECOND)),
    )

    assert first.created
    assert not second.created
    row = await get(store, "a")
    assert row == second.schedule
    assert (row.note, row.version, row.generation, row.created_us) == ("2", 2, first.schedule.generation, T0)
    assert (row.next_fire_us, row.last_fire_us) == (T0 + SECOND, T0)
    assert (await store.read(lambda conn: fires.counts(conn, "a"))).executed == 1


async def test_put_honours_its_preconditions(store: Store) -> None:
    with pytest.raises(PreconditionFailed):
        await store.write(schedules.put, Put(handover=nothing_owed, row=schedule("a"), if_match="1-1"))
    [a] = await create(store, schedule("a", note="1"))

    with pytest.raises(PreconditionFailed) as caught:
        await store.write(schedules.put, Put(handover=nothing_owed, row=schedule("a", note="2"), if_match="1-2"))
    with pytest.raises(AlreadyExists):
        await store.write(schedules.put, Put(handover=nothing_owed, row=schedule("a", note="2"), create_only=True))

    assert caught.value.data == {"version": etag(a)}
    row = await get(store, "a")
    assert row is not None
    assert (row.note, row.version) == ("1", 1)


async def test_an_update_changes_the_named_fields_and_the_version(store: Store) -> None:
    [a] = await create(store, schedule("a"))

    changed = await store.write(
        schedules.update, Update(id="a", changes={"note": "n", "next_fire_us": T0 + 5}, if_match=etag(a))
    )

    assert (changed.note, changed.next_fire_us, changed.version) == ("n", T0 + 5, 2)
    assert await get(store, "a") == changed
    with pytest.raises(PreconditionFailed):
        await store.write(schedules.update, Update(id="a", changes={"note": "x"}, if_match=etag(a)))
    with pytest.raises(NotFound):
        await store.write(schedules.update, Update(id="nobody", changes={"note": "x"}))
    with pytest.raises(AssertionError, match="generation"):
        await store.write(schedules.update, Update(id="a", changes={"generation": 7}))
    assert await get(store, "a") == changed


async def test_two_updates_in_one_transaction_build_on_each_other(store: Store) -> None:
    [a] = await create(store, schedule("a"))
    second = f"{a.generation}-2"
    outcomes: list[Any] = []
    store.submit(schedules.update, Update(id="a", changes={"note": "1"}), outcomes.append)
    store.submit(schedules.update, Update(id="a", changes={"misfire_grace_s": 3.0}, if_match=second), outcomes.append)
    store.submit(schedules.update, Update(id="a", changes={"note": "lost"}, if_match=second), outcomes.append)
    await create(store, schedule("z"))

    row = await get(store, "a")
    assert row is not None
    assert (row.note, row.misfire_grace_s, row.version) == ("1", 3.0, 3)
    assert isinstance(outcomes[2], PreconditionFailed)


async def test_pausing_twice_is_pausing_once(store: Store) -> None:
    await create(store, schedule("a"))

    first = await store.write(schedules.set_state, SetState(id="a", state=ScheduleState.PAUSED, note="by ann"))
    again = await store.write(schedules.set_state, SetState(id="a", state=ScheduleState.PAUSED, note="by ann"))
    resumed = await store.write(schedules.set_state, SetState(id="a", state=ScheduleState.ACTIVE, next_fire_us=T0 + 9))

    assert (first.version, again.version, resumed.version) == (2, 2, 3)
    assert (resumed.note, resumed.next_fire_us) == (None, T0 + 9)
    with pytest.raises(NotFound):
        await store.write(schedules.set_state, SetState(id="nobody", state=ScheduleState.PAUSED))
    kinds = [kind for kind, _ in await journal(store)]
    assert kinds == ["schedule.created", "schedule.paused", "schedule.resumed"]


async def test_deleting_says_what_was_there_and_keeps_the_ledger(store: Store) -> None:
    [a, _] = await create(store, schedule("a"), schedule("b"))
    await store.write(schedules.release, [release_item(a, "x1")])

    assert await store.write(schedules.delete, Delete(handover=nothing_owed, ids=["a", "nobody", "a"])) == ["a"]
    assert await store.write(schedules.delete, Delete(handover=nothing_owed, ids=["a"])) == []

    assert await get(store, "a") is None
    assert [fire.nominal_us for fire in await ledger(store, "a")] == [T0]
    assert (await store.read(lambda conn: fires.counts(conn, "a"))).executed == 1


async def test_deleting_and_pausing_honour_the_etag(store: Store) -> None:
    [old] = await create(store, schedule("a"))
    await store.write(schedules.delete, Delete(handover=nothing_owed, ids=["a"], if_match=etag(old)))
    [new] = await create(store, schedule("a"))

    with pytest.raises(PreconditionFailed):
        await store.write(schedules.delete, Delete(handover=nothing_owed, ids=["a"], if_match=etag(old)))
    with pytest.raises(PreconditionFailed):
        await store.write(schedules.set_state, SetState(id="a", state=ScheduleState.PAUSED, if_match=etag(old)))

    assert await get(store, "a") == new


async def test_many_are_created_and_deleted_at_once(store: Store) -> None:
    ids = [f"s{n:05}" for n in range(1000)]

    await create(store, *(schedule(id_) for id_ in ids))
    assert await store.read(schedules.count) == 1000

    assert await store.write(schedules.delete, Delete(handover=nothing_owed, ids=ids)) == ids
    assert await store.read(schedules.count) == 0


async def test_schedules_are_listed_by_id_in_pages(store: Store) -> None:
    await create(
        store,
        *(schedule(id_, handler_id="h" + id_[0]) for id_ in ("b1", "a1", "B1", "a2", "_", "ä", "b2")),
    )
    await store.write(schedules.set_state, SetState(id="a2", state=ScheduleState.PAUSED))

    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.read(lambda conn, at=cursor: schedules.find(conn, limit=2, cursor=at))
        found += [row.id for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert found == ["B1", "_", "a1", "a2", "b1", "b2", "ä"]
    by_handler = await store.read(lambda conn: schedules.find(conn, handler_id="ha"))
    assert [row.id for row in by_handler.rows] == ["a1", "a2"]
    paused = await store.read(lambda conn: schedules.find(conn, state=ScheduleState.PAUSED, handler_id="ha"))
    assert [row.id for row in paused.rows] == ["a2"]


async def test_schedules_are_counted_by_what_is_asked_for(store: Store) -> None:
    paused = {"state": ScheduleState.PAUSED}
    await create(
        store,
        schedule("a"),
        schedule("b", **paused),
        schedule("c", handler_id="other", **paused),
        schedule("d", handler_id="other"),
        schedule("e", handler_id="other", **paused),
    )

    for wanted, many in [
        ({}, 5),
        ({"handler_id": "demo"}, 2),
        (paused, 3),
        ({"handler_id": "other", **paused}, 2),
        ({"handler_id": "nobody"}, 0),
    ]:
        assert await store.read(lambda conn, wanted=wanted: schedules.count(conn, **wanted)) == many, wanted


async def test_the_due_ones_come_earliest_first_paused_ones_too(store: Store) -> None:
    await create(
        store,
        schedule("late", next_fire_us=T0 + 1),
        schedule("early", next_fire_us=T0 - 5),
        schedule("now", next_fire_us=T0, state=ScheduleState.PAUSED),
        schedule("over", next_fire_us=None),
        schedule("broken", next_fire_us=T0 - 9, state=ScheduleState.QUARANTINED),
    )

    assert [row.id for row in await store.read(lambda conn: schedules.due(conn, T0, 10))] == ["early", "now"]
    assert [row.id for row in await store.read(lambda conn: schedules.due(conn, T0, 1))] == ["early"]
    assert await store.read(schedules.next_due_us) == T0 - 5


# --- release: C1 ------------------------------------------------------------------------------------


async def test_a_release_writes_ledger_execution_and_next_time_together(store: Store) -> None:
    [a] = await create(store, schedule("a"))

    assert await store.write(schedules.release, [release_item(a, "x1")]) == {}

    row = await get(store, "a")
    assert row is not None
    assert (row.next_fire_us, row.last_fire_us, row.version) == (T0 + 10 * SECOND, T0, 1)
    [fire] = await ledger(store, "a")
    assert (fire.nominal_us, fire.outcome, fire.execution_id, fire.count) == (T0, FireOutcome.EXECUTED, "x1", 1)
    detail = await store.read(lambda conn: executions.get(conn, "x1"))
    assert detail is not None
    assert (detail.execution.schedule_id, detail.execution.nominal_us) == ("a", T0)
    assert await journal(store) == [("schedule.created", "a"), ("execution.created", "x1")]


async def test_the_same_fire_is_never_released_twice(store: Store) -> None:
    [a] = await create(store, schedule("a"))
    await store.write(schedules.release, [release_item(a, "x1")])

    assert await store.write(schedules.release, [release_item(a, "x2")]) == {"a": ReleaseRefusal.FENCE}

    assert len(await ledger(store, "a")) == 1
    assert await store.read(lambda conn: executions.get(conn, "x2")) is None


async def test_the_last_decision_before_a_moment_is_found_over_all_schedules(store: Store) -> None:
    async def last_before(at_s: int) -> int | None:
        us = await store.read(lambda conn: fires.last_decided(conn, T0 + at_s * 1_000_000))
        return None if us is None else (us - T0) // 1_000_000

    assert await last_before(99) is None
    for id_, due_s in (("a", 10), ("b", 15), ("c", 40)):
        row = schedule(id_, next_fire_us=T0 + due_s * 1_000_000)
        await store.write(schedules.create, Create(rows=[row]))
        await store.write(schedules.release, [release_item(row, f"e{id_}")])

    assert [await last_before(at_s) for at_s in (10, 11, 15, 40, 99)] == [None, 10, 10, 15, 40]


async def test_two_releases_of_one_fire_in_one_transaction_are_one(store: Store) -> None:
    [a, b] = await create(store, schedule("a"), schedule("b"))
    outcomes: list[Any] = []
    store.submit(schedules.release, [release_item(a, "x1")], outcomes.append)
    store.submit(schedules.release, [release_item(a, "x2"), release_item(b, "x3")], outcomes.append)
    await insert(store, execution("z"))

    assert outcomes == [{}, {"a": ReleaseRefusal.FENCE}]
    assert {fire.execution_id for fire in await ledger(store)} == {"x1", "x3"}
    assert await store.read(lambda conn: executions.get(conn, "x2")) is None


@pytest.mark.parametrize("what", ["update", "pause", "put", "delete", "recreate"])
async def test_a_user_s_change_makes_a_release_in_flight_fail_its_fence(store: Store, what: str) -> None:
    [a, b] = await create(store, schedule("a"), schedule("b"))
    if what == "update":
        await store.write(schedules.update, Update(id="a", changes={"params": b"[]"}))
    elif what == "pause":
        await store.write(schedules.set_state, SetState(id="a", state=ScheduleState.PAUSED))
    elif what == "put":
        await store.write(schedules.put, Put(handover=nothing_owed, row=schedule("a", params=b"[]")))
    else:
        await store.write(schedules.delete, Delete(handover=nothing_owed, ids=["a"]))
        if what == "recreate":
            await create(store, schedule("a"))
    before = await get(store, "a")

    refused = await store.write(schedules.release, [release_item(a, "x1"), release_item(b, "x2")])

    assert refused == {"a": ReleaseRefusal.FENCE}
    assert await get(store, "a") == before
    assert [fire.execution_id for fire in await ledger(store)] == ["x2"]
    assert await store.read(lambda conn: executions.get(conn, "x1")) is None


@pytest.mark.parametrize("what", ["update", "put"])
async def test_what_says_the_same_as_before_is_no_new_version_and_tells_nothing(store: Store, what: str) -> None:
    await create(store, schedule("a"))
    before, told = await get(store, "a"), await journal(store)

    if what == "update":
        answer = await store.write(schedules.update, Update(id="a", changes={"params": before.params}, by="bob"))
    else:
        put = Put(handover=nothing_owed, row=schedule("a", updated_us=T0 + SECOND, updated_by="bob"))
        answer = (await store.write(schedules.put, put)).schedule

    assert answer == before == await get(store, "a")
    assert await journal(store) == told


@pytest.mark.parametrize(("params", "same"), [(b'{"b": 2, "a": [1, 2]}', True), (b'{"a":[2,1],"b":2}', False)])
async def test_spaces_and_the_order_of_keys_say_nothing(store: Store, params: bytes, same: bool) -> None:
    await create(store, schedule("a", params=b'{"a":[1,2],"b":2}'))

    put = Put(handover=nothing_owed, row=schedule("a", params=params))
    answer = (await store.write(schedules.put, put)).schedule

    assert answer.version == (1 if same else 2)


async def test_a_nominal_time_is_in_the_ledger_once_whatever_a_trigger_says(store: Store) -> None:
    [a, b] = await create(store, schedule("a"), schedule("b"))
    await store.write(schedules.release, [release_item(a, "x1", next_fire_us=T0)])
    again = await get(store, "a")
    assert again is not None

    refused = await store.write(schedules.release, [release_item(b, "x2"), release_item(again, "x3")])

    assert refused == {"a": ReleaseRefusal.DUPLICATE}
    assert await get(store, "a") == again
    assert {fire.execution_id for fire in await ledger(store)} == {"x1", "x2"}
    assert await store.read(lambda conn: executions.get(conn, "x3")) is None
    assert (await store.read(executions.stats)).total == 2


async def test_a_release_that_names_a_time_twice_is_refused(store: Store) -> None:
    [a] = await create(store, schedule("a"))

    refused = await store.write(
        schedules.release, [release_without_execution(a, skipped(a, T0), skipped(a, T0), due_us=T0)]
    )

    assert refused == {"a": ReleaseRefusal.DUPLICATE}
    assert await ledger(store) == []


async def test_a_recreated_schedule_is_a_new_generation_with_a_ledger_of_its_own(store: Store) -> None:
    [old] = await create(store, schedule("a"))
    await store.write(schedules.release, [release_item(old, "x1")])
    await store.write(schedules.delete, Delete(handover=nothing_owed, ids=["a"]))

    [new] = await create(store, schedule("a"))
    assert await store.write(schedules.release, [release_item(new, "x2")]) == {}

    assert new.generation > old.generation
    assert [(fire.generation, fire.execution_id) for fire in await ledger(store, "a")] == [
        (new.generation, "x2"),
        (old.generation, "x1"),
    ]


async def test_skipped_missed_and_caught_up_fires_are_kept_with_their_reasons_and_counts(store: Store) -> None:
    [a] = await create(store, schedule("a", next_fire_us=T0))
    rows = [
        Fire(
            schedule_id="a", generation=a.generation, nominal_us=T0, outcome=FireOutcome.MISSED,
            reason=SkipReason.CATCH_UP_LIMIT, count=40, last_nominal_us=T0 + 39 * SECOND, decided_us=T0 + 99 * SECOND,
        ),
        skipped(a, T0 + 40 * SECOND),
        Fire(
            schedule_id="a", generation=a.generation, nominal_us=T0 + 41 * SECOND, outcome=FireOutcome.CAUGHT_UP,
            execution_id="x1", decided_us=T0 + 99 * SECOND,
        ),
    ]  # fmt: skip

    item = release_item(a, "x1", fires=rows, last_fire_us=None, note="was away")
    assert await store.write(schedules.release, [item]) == {}

    assert await ledger(store, "a") == rows[::-1]
    counts = await store.read(lambda conn: fires.counts(conn, "a"))
    assert counts == fires.FireCounts(executed=0, caught_up=1, skipped=1, missed=40)
    row = await get(store, "a")
    assert row is not None
    assert (row.note, row.last_fire_us) == ("was away", None)
    kinds = [kind for kind, _ in await journal(store)][1:]
    assert sorted(kinds) == ["execution.created", "schedule.missed", "schedule.skipped"]


async def test_a_release_may_finish_or_quarantine_a_schedule(store: Store) -> None:
    [a, b] = await create(store, schedule("a"), schedule("b"))

    await store.write(
        schedules.release,
        [
            release_item(a, "x1", next_fire_us=None, state=ScheduleState.FINISHED),
            release_item(b, "x2", next_fire_us=None, state=ScheduleState.QUARANTINED, note="its trigger raised"),
        ],
    )

    rows = [await get(store, "a"), await get(store, "b")]
    assert [(row.state, row.note, row.next_fire_us) for row in rows if row] == [
        (ScheduleState.FINISHED, None, None),
        (ScheduleState.QUARANTINED, "its trigger raised", None),
    ]
    assert await store.read(schedules.next_due_us) is None
    assert {"schedule.finished", "schedule.quarantined"} <= {kind for kind, _ in await journal(store)}


async def test_a_thousand_schedules_are_released_in_one_transaction(store: Store) -> None:
    rows = await create(store, *(schedule(f"s{n:04}") for n in range(1000)))
    before = store.stats.commits

    refused = await store.write(schedules.release, [release_item(row, f"x-{row.id}") for row in rows])

    assert refused == {}
    assert store.stats.commits == before + 1
    assert len(await ledger(store)) == 1000
    assert (await store.read(executions.stats)).by_state["pending"] == 1000


# --- the ledger's lists -----------------------------------------------------------------------------


async def test_the_ledger_is_listed_newest_first_in_pages(store: Store) -> None:
    [a] = await create(store, schedule("a"))
    [b] = await create(store, schedule("b"))
    outcomes = [FireOutcome.EXECUTED, FireOutcome.SKIPPED, FireOutcome.MISSED]
    for n in range(12):
        for row in (a, b):
            nominal = T0 + n * 10 * SECOND
            fire = skipped(row, nominal, outcome=outcomes[n % 3], reason=None)
            fire.execution_id = f"x{row.id}{n}" if fire.outcome is FireOutcome.EXECUTED else None
            refused = await store.write(schedules.release, [release_without_execution(row, fire, due_us=nominal)])
            assert refused == {}

    async def pages(**fields: Any) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        cursor = None
        while True:
            page = await store.read(lambda conn, at=cursor: fires.find(conn, limit=5, cursor=at, **fields))
            found += [(fire.schedule_id, (fire.nominal_us - T0) // (10 * SECOND)) for fire in page.rows]
            cursor = page.next_cursor
            if cursor is None:
                return found

    every = [(id_, n) for n in reversed(range(12)) for id_ in ("b", "a")]
    assert await pages() == every
    assert await pages(schedule_id="a") == [("a", n) for n in reversed(range(12))]
    assert await pages(schedule_id="a", outcome=FireOutcome.MISSED) == [("a", n) for n in (11, 8, 5, 2)]
    assert await pages(outcome=FireOutcome.EXECUTED) == [(id_, n) for id_, n in every if n % 3 == 0]
    assert await pages(schedule_id="b", since_us=T0 + 100 * SECOND) == [("b", 11), ("b", 10)]
    assert await pages(since_us=T0 + 100 * SECOND) == every[:4]
    assert await pages(schedule_id="nobody") == []


@pytest.mark.parametrize("cursor", ["7", "x.y", "1.", ".1"])
async def test_a_ledger_cursor_that_no_page_came_with_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidField):
        await store.read(lambda conn: fires.find(conn, schedule_id="a", cursor=cursor))


@pytest.mark.parametrize("cursor", ["xx", "", "%00", "YQ=="])
async def test_a_cursor_of_schedules_that_no_page_came_with_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidField, match="cursor"):
        await store.read(lambda conn: schedules.find(conn, cursor=cursor))
