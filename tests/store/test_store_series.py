"""Minutes and hours in the store: they only grow; and what a transaction counted is told once, after its commit."""

from __future__ import annotations

from typing import Any

import pytest

from schedule_zero.errors import NotFound
from schedule_zero.model import Fire, FireOutcome, SkipReason, State
from schedule_zero.rules.series import HOUR_US, MINUTE_US, UNITS_US, Stats
from schedule_zero.store import Store, executions, schedules, series
from schedule_zero.store.execution_expiry import Expire, misfire_expired
from schedule_zero.store.executions import Insert
from schedule_zero.store.writer import Counted
from tests.store.builders import T0, end_item, execution, release_item, running, schedule

pytestmark = pytest.mark.anyio

START_US = T0 - T0 % HOUR_US
NEVER_US = 1 << 62


async def minutes(store: Store, from_us: int = 0, to_us: int = NEVER_US) -> list[tuple[int, Stats]]:
    return await store.read(lambda conn: series.between(conn, MINUTE_US, from_us, to_us))


async def hours(store: Store) -> list[tuple[int, Stats]]:
    return await store.read(lambda conn: series.between(conn, HOUR_US, 0, NEVER_US))


def listen(store: Store) -> list[Counted]:
    heard: list[Counted] = []
    store.on_counted(heard.extend)
    return heard


def of_the_hour(heard: list[Counted]) -> dict[tuple[str, str], int]:
    """What came and ended, by handler and state."""
    found: dict[tuple[str, str], int] = {}
    for counts, _ in heard:
        for (bucket_us, handler_id, state), (n, _) in counts.items():
            if bucket_us > 0:
                found[handler_id, state] = found.get((handler_id, state), 0) + n
    return found


async def test_what_comes_later_in_a_minute_is_added_to_what_is_there(store: Store) -> None:
    first = Stats(created=3, ended={"completed": 2}, run_time={5: 2}, open=1, running=1)
    await store.write(series.add, {START_US: first})
    second = Stats(created=1, ended={"failed": 1}, failed={"demo": 1}, run_time={9: 1})
    await store.write(series.add, {START_US: second})
    await store.write(series.add, {START_US + MINUTE_US: Stats(open=0, running=0)})

    both = Stats(created=4, ended={"completed": 2, "failed": 1}, failed={"demo": 1}, run_time={5: 2, 9: 1})
    assert await minutes(store) == [
        (START_US, Stats(**{**vars_of(both), "open": 1, "running": 1})),
        (START_US + MINUTE_US, Stats(open=0, running=0)),
    ]
    assert await hours(store) == [(START_US, Stats(**{**vars_of(both), "open": 0, "running": 0}))]
    assert first.created == 3


def vars_of(stats: Stats) -> dict[str, Any]:
    return {name: getattr(stats, name) for name in Stats.__struct_fields__}


async def test_writes_of_one_transaction_are_added_as_well(store: Store) -> None:
    def twice(tx: Any, args: list[Any]) -> list[None]:
        return series.add(tx, args * 2)[:1]

    await store.write(twice, {START_US: Stats(created=2)})

    assert await minutes(store) == [(START_US, Stats(created=4))]
    assert await hours(store) == [(START_US, Stats(created=4))]


async def test_a_range_is_read_in_order_and_without_its_end(store: Store) -> None:
    await store.write(series.add, {START_US + index * MINUTE_US: Stats(created=index) for index in (3, 1, 2)})

    found = await minutes(store, START_US + MINUTE_US, START_US + 3 * MINUTE_US)

    assert [stats.created for _, stats in found] == [1, 2]


async def test_what_is_too_old_is_deleted_of_every_length(store: Store) -> None:
    await store.write(series.add, {START_US + index * HOUR_US: Stats(created=1) for index in range(4)})

    assert await store.write(series.prune, START_US + 2 * HOUR_US) == 3 * 2
    assert await store.write(series.prune, START_US + 2 * HOUR_US) == 0

    left = [START_US + 2 * HOUR_US, START_US + 3 * HOUR_US]
    for unit_us in UNITS_US:
        rows = await store.read(lambda conn, unit_us=unit_us: series.between(conn, unit_us, 0, NEVER_US))
        assert [start_us for start_us, _ in rows] == left


async def test_births_and_every_kind_of_end_are_told_once(store: Store) -> None:
    heard = listen(store)
    rows = [running("a", 1), running("b", 2), running("c", 3, handler_id="etl"), execution("d"),
            execution("e", start_by_us=T0 - 1)]  # fmt: skip
    await store.write(executions.insert, Insert(rows=rows))
    ends = [end_item("a", 1), end_item("b", 2, State.FAILED), end_item("c", 3, State.DEAD, handler_id="etl")]
    await store.write(executions.end, ends)
    # A result that comes twice changes nothing.
    await store.write(executions.end, ends[:1])
    await store.write(executions.cancel, ["d"])
    await store.write(misfire_expired, Expire(now_us=T0))

    assert of_the_hour(heard) == {
        ("demo", "created"): 4,
        ("etl", "created"): 1,
        ("demo", "completed"): 1,
        ("demo", "failed"): 1,
        ("etl", "dead"): 1,
        ("demo", "cancelled"): 1,
        ("demo", "misfired"): 1,
    }


async def test_what_was_rolled_back_is_not_told_and_its_neighbours_are(store: Store) -> None:
    heard = listen(store)
    outcomes: list[Any] = []

    def count_and_fail(tx: Any, args: list[Any]) -> list[None]:
        tx.count("demo", "completed", 1)
        raise NotFound("on purpose")

    store.submit(executions.insert, Insert(rows=[execution("a")]), outcomes.append)
    store.submit(count_and_fail, None, outcomes.append)
    await store.write(executions.insert, Insert(rows=[execution("b")]))

    assert isinstance(outcomes[1], NotFound)
    assert of_the_hour(heard) == {("demo", "created"): 2}


async def test_fires_are_told_by_outcome_each_nominal_time_by_itself(store: Store) -> None:
    [a, b] = await store.write(schedules.create, schedules.Create(rows=[schedule("a"), schedule("b")]))
    heard = listen(store)
    skipped = Fire(
        schedule_id="b",
        generation=b.generation,
        nominal_us=T0,
        outcome=FireOutcome.SKIPPED,
        reason=SkipReason.PAUSED,
        count=40,
        last_nominal_us=T0 + 39,
        decided_us=T0 + 50,
    )
    await store.write(schedules.release, [release_item(a, "x"), release_item(b, "y", fires=[skipped], executions=[])])
    # Decided once more, behind the fence.
    await store.write(schedules.release, [release_item(a, "z")])

    assert [counted.fires for counted in heard] == [{"executed": 1, "skipped": 40}]


async def test_what_is_owed_by_a_version_that_ends_is_told(store: Store) -> None:
    [a] = await store.write(schedules.create, schedules.Create(rows=[schedule("a")]))
    heard = listen(store)
    owed = Fire(
        schedule_id="a", generation=a.generation, nominal_us=T0, outcome=FireOutcome.MISSED, count=3, decided_us=T0 + 9
    )

    await store.write(schedules.delete, schedules.Delete(ids=["a"], handover=lambda *_: [owed]))

    assert [counted.fires for counted in heard] == [{"missed": 3}]
