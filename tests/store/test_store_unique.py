"""Unique keys, decided in the transaction that gives birth: who is kept out, and what becomes of him."""

from __future__ import annotations

import asyncio

import pytest

from schedule_zero.errors import Duplicate
from schedule_zero.job_options import JobOptions
from schedule_zero.model import (
    Backfill,
    BackfillState,
    Execution,
    FireOutcome,
    Origin,
    ScheduleState,
    SkipReason,
    State,
)
from schedule_zero.rules.birth import outfit
from schedule_zero.rules.options import Source
from schedule_zero.store import IdempotencyRecord, IdempotentReplay, Store, backfills, executions, fires, schedules
from schedule_zero.store.executions import Insert, Joined, StartItem
from schedule_zero.store.schedules import Otherwise, ReleaseItem
from tests.store.builders import (
    T0,
    end_item,
    execution,
    get,
    insert,
    journal,
    release_item,
    running,
    schedule,
    state_of,
)

pytestmark = pytest.mark.anyio


def unique(id_: str, *, make=execution, key: str = "demo.noop:k", **fields) -> Execution:
    """With the options of a job that says them, and the key that they come to."""
    said = {name: fields.pop(name) for name in ("unique_while", "unique_for_s", "on_duplicate") if name in fields}
    options = outfit(JobOptions(unique_key="k", **said), JobOptions(), Source.SUBMISSION).options
    return make(id_, **{"unique_key": key, "options": options, **fields})


async def submit(store: Store, *rows: Execution, idem: IdempotencyRecord | None = None):
    return await store.write(executions.insert, Insert(rows=list(rows), idem=idem))


async def there(store: Store, id_: str) -> bool:
    return await store.read(lambda conn: executions.get(conn, id_)) is not None


# --- who keeps others out ---------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.BLOCKED, State.SCHEDULED, State.PENDING, State.RETRY_SCHEDULED])
async def test_what_waits_keeps_others_with_its_key_out(store: Store, state: State) -> None:
    await insert(store, unique("a", state=state, not_before_us=T0 + 10**12))

    with pytest.raises(Duplicate) as refused:
        await submit(store, unique("b"))

    assert refused.value.data == {"index": 0, "execution_id": "a"}
    assert not await there(store, "b")


async def test_what_runs_keeps_others_out_unless_it_only_does_so_while_it_is_pending(store: Store) -> None:
    await insert(store, unique("open", make=lambda id_, **fields: running(id_, 1, **fields)))
    await insert(
        store,
        unique("pending", make=lambda id_, **fields: running(id_, 2, **fields), key="p", unique_while="pending"),
    )

    with pytest.raises(Duplicate):
        await submit(store, unique("b"))
    assert await submit(store, unique("c", key="p")) is None


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED])
async def test_a_key_is_free_again_when_its_holder_is_over(store: Store, state: State) -> None:
    await insert(store, unique("a", make=lambda id_, **fields: running(id_, 1, **fields)))
    await store.write(executions.end, [end_item("a", 1, state)])

    assert await submit(store, unique("b")) is None


@pytest.mark.parametrize(("state", "free"), [(State.COMPLETED, False), (State.FAILED, True), (State.TIMEOUT, True)])
async def test_for_its_period_what_completed_keeps_others_out_and_what_failed_does_not(
    store: Store, clock, state: State, free: bool
) -> None:
    now_us = clock.wall_us()
    await insert(
        store,
        unique("a", make=lambda id_, **f: running(id_, 1, **f), unique_for_s=60.0, created_us=now_us),
    )
    await store.write(executions.end, [end_item("a", 1, state)])

    if free:
        assert await submit(store, unique("b")) is None
        return
    with pytest.raises(Duplicate):
        await submit(store, unique("b"))
    clock.advance(60.0)
    assert await submit(store, unique("b")) is None


async def test_a_cancelled_one_keeps_nobody_out_even_in_its_period(store: Store, clock) -> None:
    await insert(store, unique("a", unique_for_s=60.0, created_us=clock.wall_us()))
    await store.write(executions.cancel, ["a"])

    assert await submit(store, unique("b")) is None


async def test_other_keys_and_none_are_not_in_the_way(store: Store) -> None:
    await insert(store, unique("a"), execution("plain"))

    assert await submit(store, unique("b", key="other"), execution("plain2")) is None


async def test_those_of_one_group_are_one_piece_of_work(store: Store) -> None:
    assert await submit(store, unique("a", group_id="g"), unique("b", group_id="g")) is None

    with pytest.raises(Duplicate):
        await submit(store, unique("c"))


# --- what becomes of the newcomer --------------------------------------------------------------------


async def test_a_rejected_item_keeps_the_whole_request_out_and_is_named(store: Store) -> None:
    await insert(store, unique("a"))

    with pytest.raises(Duplicate) as refused:
        await submit(store, execution("x"), unique("free", key="f"), unique("b"))

    assert refused.value.data["index"] == 2
    assert not await there(store, "x")
    # What it had claimed is free.
    assert await submit(store, unique("free", key="f")) is None


async def test_the_existing_one_stands_in_its_place_and_the_others_are_born(store: Store) -> None:
    await insert(store, unique("a"))

    joined = await submit(store, execution("x"), unique("b", on_duplicate="return_existing"), execution("y"))

    assert joined == Joined(ids=["x", "a", "y"], existing=["a"], instead={"b": "a"})
    assert [await there(store, id_) for id_ in ("x", "b", "y")] == [True, False, True]


async def test_one_that_waits_is_replaced_in_the_same_transaction(store: Store) -> None:
    await insert(store, unique("a"))

    assert await submit(store, unique("b", on_duplicate="replace")) is None

    assert (await state_of(store, "a"), await state_of(store, "b")) == (State.CANCELLED, State.PENDING)
    kinds = (await journal(store))[-2:]
    assert kinds == [("execution.created", "b"), ("execution.finished", "a")]
    stats = await store.read(executions.stats)
    assert (stats.by_state["cancelled"], stats.by_state["pending"]) == (1, 1)


async def test_one_that_runs_or_is_done_for_its_period_is_not_replaced(store: Store, clock) -> None:
    await insert(store, unique("a", make=lambda id_, **fields: running(id_, 1, **fields)))

    with pytest.raises(Duplicate):
        await submit(store, unique("b", on_duplicate="replace"))

    assert await state_of(store, "a") == State.RUNNING


async def test_a_replaced_one_is_never_started(store: Store) -> None:
    await insert(store, unique("a"))
    await submit(store, unique("b", on_duplicate="replace"))

    assert await store.write(executions.start, [StartItem("a", 1, 5, "n1", T0)]) == {"a"}


# --- two at once -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("on_duplicate", "ids"), [("return_existing", ["a", "a", "a"]), ("replace", ["c", "c", "c"])])
async def test_of_several_in_one_request_one_is_written(store: Store, on_duplicate: str, ids: list[str]) -> None:
    rows = [unique(id_, on_duplicate=on_duplicate) for id_ in "abc"]

    joined = await submit(store, *rows)

    assert joined.ids == ids
    assert joined.existing == []
    assert [await there(store, id_) for id_ in "abc"] == [id_ == ids[0] for id_ in "abc"]


async def test_two_in_one_request_that_reject_each_other_are_refused(store: Store) -> None:
    with pytest.raises(Duplicate) as refused:
        await submit(store, unique("a"), unique("b"))

    assert refused.value.data == {"index": 1, "execution_id": None}
    assert not await there(store, "a")


async def test_of_many_requests_at_once_exactly_one_is_accepted(store: Store) -> None:
    outcomes = await asyncio.gather(*(submit(store, unique(f"e{n:03}")) for n in range(200)), return_exceptions=True)

    accepted = [n for n, outcome in enumerate(outcomes) if outcome is None]
    assert accepted == [0]
    assert {outcome.data["execution_id"] for outcome in outcomes if isinstance(outcome, Duplicate)} == {"e000"}
    assert sum(isinstance(outcome, Duplicate) for outcome in outcomes) == 199


async def test_of_many_replacements_at_once_the_last_one_is_left(store: Store) -> None:
    await asyncio.gather(*(submit(store, unique(f"e{n:03}", on_duplicate="replace")) for n in range(100)))

    states = [await state_of(store, f"e{n:03}") for n in range(100)]
    assert states == [State.CANCELLED] * 99 + [State.PENDING]
    assert store.tally.total == 1


async def test_a_repetition_gets_the_ids_that_the_first_one_got(store: Store) -> None:
    await insert(store, unique("a"))
    idem = IdempotencyRecord(key="k", fingerprint="f", status=200, response=b'["b"]', created_us=T0)
    await submit(store, unique("b", on_duplicate="return_existing"), idem=idem)

    again = await submit(store, unique("c", on_duplicate="return_existing"), idem=idem)

    assert again == IdempotentReplay(status=200, response=b'{"ids":["a"],"existing":["a"]}')


async def test_a_long_history_of_a_key_is_not_walked(sqlite_store: Store) -> None:
    from schedule_zero.store.uniqueness import _HOLDERS

    sql = _HOLDERS.sql("sqlite", 1)
    plan = await sqlite_store.read(
        lambda conn: [row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", ("k",))]
    )

    assert [step for step in plan if "SCAN" in step and "executions" in step] == []
    assert all("ix_executions_unique" in step or "rowid=" in step or "INTEGER PRIMARY KEY" in step
               for step in plan if step.startswith("SEARCH")), plan  # fmt: skip


# --- fires and backfills -----------------------------------------------------------------------------


def unique_release(row, id_: str, **said) -> ReleaseItem:
    item = release_item(row, id_, otherwise=Otherwise(last_fire_us=None))
    item.executions = [unique(id_, schedule_id=row.id, nominal_us=row.next_fire_us, **said)]
    return item


async def created(store: Store, *rows):
    await store.write(schedules.create, schedules.Create(rows=list(rows)))
    return rows


@pytest.mark.parametrize("on_duplicate", ["reject", "return_existing"])
async def test_a_fire_whose_key_is_taken_is_skipped_in_its_own_release(store: Store, on_duplicate: str) -> None:
    [row] = await created(store, schedule("s"))
    await insert(store, unique("a"))

    answer = await store.write(schedules.release, [unique_release(row, "f", on_duplicate=on_duplicate)])

    assert isinstance(answer["s"], ReleaseItem)
    [fire] = (await store.read(lambda conn: fires.find(conn, schedule_id="s"))).rows
    assert (fire.outcome, fire.reason, fire.detail, fire.execution_id) == (
        FireOutcome.SKIPPED, SkipReason.DUPLICATE, "a", None,
    )  # fmt: skip
    assert not await there(store, "f")
    counts = await store.read(lambda conn: fires.counts(conn, "s"))
    assert (counts.executed, counts.skipped) == (0, 1)
    kept = await store.read(lambda conn: schedules.get(conn, "s"))
    assert (kept.last_fire_us, kept.next_fire_us, kept.runs) == (None, T0 + 10_000_000, 0)


async def test_a_fire_may_replace_what_waits(store: Store) -> None:
    [row] = await created(store, schedule("s"))
    await insert(store, unique("a"))

    assert await store.write(schedules.release, [unique_release(row, "f", on_duplicate="replace")]) == {}

    assert (await state_of(store, "a"), await state_of(store, "f")) == (State.CANCELLED, State.PENDING)


async def test_of_two_schedules_that_fire_at_once_with_one_key_one_runs(store: Store) -> None:
    one, two = await created(store, schedule("one"), schedule("two"))

    answer = await store.write(schedules.release, [unique_release(one, "f1"), unique_release(two, "f2")])

    assert list(answer) == ["two"]
    assert await there(store, "f1")
    assert not await there(store, "f2")


async def test_a_fire_that_the_fence_refuses_holds_no_key(store: Store) -> None:
    one, two = await created(store, schedule("one"), schedule("two"))
    stale = unique_release(one, "f1")
    stale.version = 99

    answer = await store.write(schedules.release, [stale, unique_release(two, "f2")])

    assert answer == {"one": schedules.ReleaseRefusal.FENCE}
    assert await there(store, "f2")


async def test_a_last_run_that_was_skipped_is_not_the_last(store: Store) -> None:
    [row] = await created(store, schedule("s"))
    await insert(store, unique("a"))
    item = unique_release(row, "f")
    item.state, item.next_fire_us, item.note, item.plain = ScheduleState.FINISHED, None, "finished after 1 runs", False
    item.otherwise = Otherwise(last_fire_us=None, next_fire_us=T0 + 10_000_000, state=ScheduleState.ACTIVE)

    await store.write(schedules.release, [item])

    kept = await store.read(lambda conn: schedules.get(conn, "s"))
    assert (kept.state, kept.next_fire_us) == (ScheduleState.ACTIVE, T0 + 10_000_000)


async def test_a_backfill_goes_on_where_its_key_was_taken_and_leaves_nothing_out(store: Store) -> None:
    row = Backfill(id="bf", schedule_id="s", generation=1, version=1, from_us=T0, to_us=T0 + 2, next_us=T0,
                   rate_per_s=10.0, total=3)  # fmt: skip
    await store.write(backfills.create, backfills.Create(row=row))

    def rows(*times: int) -> list[Execution]:
        return [
            unique(
                f"b{us}",
                origin=Origin.BACKFILL,
                group_id="bf",
                schedule_id="s",
                nominal_us=T0 + us,
                on_duplicate="replace",
            )
            for us in times
        ]

    def step(*times: int) -> backfills.Advance:
        return backfills.Advance(id="bf", schedule_id="s", at_us=T0 + times[0], next_us=None, executions=rows(*times))

    assert await store.write(backfills.advance, step(0, 1, 2)) == 1
    assert await store.write(backfills.advance, step(1, 2)) == 0
    await store.write(executions.cancel, ["b0"])
    assert await store.write(backfills.advance, step(1, 2)) == 1
    await store.write(executions.cancel, ["b1"])
    assert await store.write(backfills.advance, step(2)) == 1

    kept = await store.read(lambda conn: backfills.get(conn, "bf"))
    assert (kept.created, kept.state) == (3, BackfillState.COMPLETED)
    assert (await get(store, "b2")).state is State.PENDING
