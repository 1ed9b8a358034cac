"""What lists and pictures of schedules are made of: found by text, in several orders, with their fires."""

from __future__ import annotations

import random
from typing import Any

import pytest

from schedule_zero.errors import InvalidField
from schedule_zero.model import Fire, FireOutcome, Group, GroupKind, Origin, Schedule, ScheduleState, SkipReason, State
from schedule_zero.store import Store, executions, fire_outcomes, fires, schedule_lists, schedules
from schedule_zero.store.executions import Insert
from schedule_zero.store.fire_outcomes import Day
from schedule_zero.store.schedule_lists import Order, Wanted
from schedule_zero.store.schedules import Create, ReleaseItem
from tests.store.builders import T0, end_item, execution, insert, running, schedule

pytestmark = pytest.mark.anyio

S = 1_000_000
DAY_US = 86_400 * S
NEWER_US = T0 + DAY_US


async def create(store: Store, *rows: Schedule) -> None:
    await store.write(schedules.create, Create(rows=list(rows)))


async def listed(store: Store, wanted: Wanted | None = None, order: Order = Order.ID, limit: int = 50) -> list[str]:
    """Every page of a list, by id."""
    found: list[str] = []
    cursor = None
    while True:
        page = await store.read(
            lambda conn: schedule_lists.find(
                conn,
                wanted or Wanted(),
                order=order,
                cursor=cursor,  # read before the next turn
                limit=limit,
            )
        )
        assert len(page.rows) <= limit
        found += [row.id for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            return found


def some(count: int) -> list[Schedule]:
    dice = random.Random(3)
    return [
        schedule(
            f"s{n:03}",
            handler_id=dice.choice(["a", "b", "c"]),
            state=dice.choice(list(ScheduleState)),
            next_fire_us=dice.choice([None, T0, T0 + S, T0 + n * S]),
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("limit", [1, 7, 500])
async def test_each_order_shows_each_schedule_once_on_any_number_of_pages(store: Store, limit: int) -> None:
    rows = some(100)
    await create(store, *rows)

    due = [row for row in rows if row.next_fire_us is not None and row.state.value in ("active", "paused")]
    assert await listed(store, order=Order.ID, limit=limit) == [row.id for row in rows]
    by_handler = sorted(rows, key=lambda row: (row.handler_id, row.id))
    assert await listed(store, order=Order.HANDLER, limit=limit) == [row.id for row in by_handler]
    by_time = sorted(due, key=lambda row: (row.next_fire_us, row.id))
    assert await listed(store, order=Order.NEXT, limit=limit) == [row.id for row in by_time]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", ["etl.load_a", "etl.load_b", "etlXload", "Report-1"]),
        ("load", ["etl.load_a", "etl.load_b", "etlXload"]),
        ("REPORT", ["Report-1"]),
        ("etl*", ["etl.load_a", "etl.load_b", "etlXload"]),
        ("etl?load", ["etlXload"]),
        ("etl.load_?", ["etl.load_a", "etl.load_b"]),
        # Nothing but * and ? has a meaning.
        ("_load", []),
        ("%", []),
        ("sum*.daily", ["Report-1"]),
        ("summer.daily", ["Report-1"]),
        ("*****************************", ["etl.load_a", "etl.load_b", "etlXload", "Report-1"]),
    ],
)
async def test_a_text_is_looked_for_in_ids_and_jobs(store: Store, text: str, ids: list[str]) -> None:
    await create(
        store,
        schedule("etl.load_a"),
        schedule("etl.load_b"),
        schedule("etlXload"),
        schedule("Report-1", handler_id="summer", job_method="daily"),
    )

    assert sorted(await listed(store, Wanted(text=text))) == sorted(ids)
    assert sum((await store.read(lambda conn: schedule_lists.counts(conn, Wanted(text=text)))).values()) == len(ids)


async def test_counts_and_ids_are_those_of_the_filter(store: Store) -> None:
    rows = some(200)
    await create(store, *rows)
    wanted = Wanted(handler_id="a", state=ScheduleState.PAUSED)

    counts = await store.read(lambda conn: schedule_lists.counts(conn, wanted))
    ids = await store.read(lambda conn: schedule_lists.ids(conn, wanted, limit=1000))

    mine = [row for row in rows if row.handler_id == "a"]
    assert counts == {state: sum(row.state is state for row in mine) for state in ScheduleState}
    assert ids == [row.id for row in mine if row.state is ScheduleState.PAUSED] == await listed(store, wanted)
    assert await store.read(lambda conn: schedule_lists.ids(conn, wanted, after=ids[1], limit=1)) == ids[2:3]
    assert await store.read(schedule_lists.handlers) == ["a", "b", "c"]


@pytest.mark.parametrize("cursor", ["x", "WyJhIl0=", "!", "WzFd", "1.2"])
async def test_a_cursor_of_another_order_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidField, match="cursor"):
        await store.read(lambda conn: schedule_lists.find(conn, Wanted(), order=Order.NEXT, cursor=cursor))


# --- what became of fires -----------------------------------------------------------------------------


async def fire(store: Store, row: Schedule, nominal_us: int, **fields: Any) -> None:
    """Put one row into the ledger; with ``state`` its execution has come so far."""
    state: State | None = fields.pop("state", None)
    execution_id = f"{row.id}-{nominal_us}"
    made = []
    if state is not None:
        fields["execution_id"] = execution_id
        running_ = state in (State.COMPLETED, State.FAILED, State.RUNNING)
        make = running if running_ else execution
        more: dict[str, Any] = {"token": nominal_us} if running_ else {"state": state}
        made = [make(execution_id, schedule_id=row.id, nominal_us=nominal_us, origin=Origin.FIRE,
                     created_us=nominal_us, **more)]  # fmt: skip
    ledger = Fire(
        schedule_id=row.id, generation=row.generation, nominal_us=nominal_us, decided_us=nominal_us,
        **{"outcome": FireOutcome.EXECUTED, **fields},
    )  # fmt: skip
    item = ReleaseItem(
        id=row.id, generation=row.generation, version=row.version, due_us=row.next_fire_us or 0,
        next_fire_us=nominal_us + 1, last_fire_us=nominal_us, state=row.state, fires=[ledger], executions=made,
    )  # fmt: skip
    assert await store.write(schedules.release, [item]) == {}
    row.next_fire_us = nominal_us + 1
    if state in (State.COMPLETED, State.FAILED):
        assert await store.write(executions.end, [end_item(execution_id, nominal_us, state)]) == {}


async def test_the_last_outcomes_of_many_schedules_say_what_became_of_the_runs(store: Store) -> None:
    rows = [schedule(f"s{n:02}", next_fire_us=T0) for n in range(60)]
    await create(store, *rows)
    for n in range(25):
        await fire(store, rows[3], T0 + n * S, state=State.FAILED if n == 24 else State.COMPLETED)
    await fire(store, rows[55], T0, outcome=FireOutcome.SKIPPED, reason=SkipReason.PAUSED)
    await fire(store, rows[55], T0 + S, state=State.RUNNING)
    # Its execution is deleted already.
    await fire(store, rows[55], T0 + 2 * S, execution_id="gone")

    found = await store.read(lambda conn: fire_outcomes.last_outcomes(conn, [row.id for row in rows]))

    assert list(found) == [row.id for row in rows]
    assert [one.word for one in found["s03"]] == ["completed"] * 19 + ["failed"]
    assert found["s03"][0].nominal_us == T0 + 5 * S
    assert [(one.word, one.reason) for one in found["s55"]] == [
        ("skipped", "paused"), ("running", None), ("executed", None),
    ]  # fmt: skip
    assert found["s00"] == []


async def test_states_are_those_of_executions_and_of_groups(store: Store) -> None:
    members = [execution(f"m{n}", group_id="g") for n in range(2)]
    group = Group(id="g", kind=GroupKind.SHARDS, handler_id="demo", job_method="noop", total=2, created_us=T0)
    await store.write(executions.insert, Insert(rows=members, group=group))
    await insert(store, *(execution(f"e{n:03}") for n in range(70)))

    ids = ["g", "unknown", *(f"e{n:03}" for n in range(70))]
    found = await store.read(lambda conn: fire_outcomes.states(conn, ids))

    assert found == {"g": "running", **{f"e{n:03}": "pending" for n in range(70)}}


async def test_days_count_what_became_of_their_times(store: Store) -> None:
    row, other = schedule("s", next_fire_us=T0), schedule("other", next_fire_us=T0)
    await create(store, row, other)
    await fire(store, other, T0 + 1, state=State.FAILED)
    for n in range(3):
        await fire(store, row, T0 + n * S, state=State.COMPLETED)
    await fire(store, row, T0 + 5 * S, state=State.FAILED)
    await fire(store, row, NEWER_US, outcome=FireOutcome.CAUGHT_UP, state=State.COMPLETED)
    await fire(store, row, NEWER_US + S, outcome=FireOutcome.SKIPPED, reason=SkipReason.PAUSED)
    summed = {"count": 7, "last_nominal_us": NEWER_US + DAY_US + 5}
    await fire(store, row, NEWER_US + 2 * S, outcome=FireOutcome.MISSED, **summed)
    # Run once more by hand: that changes nothing of what became of the fire.
    again = execution("again", schedule_id="s", nominal_us=T0, origin=Origin.RETRY, state=State.FAILED)
    await insert(store, again)

    bounds = [T0 + n * DAY_US for n in range(5)]
    found = await store.read(lambda conn: fire_outcomes.days(conn, "s", bounds))

    assert found == [
        Day(executed=4, failed=1), Day(caught_up=1, skipped=1, missed=7), Day(more=True), Day(),
    ]  # fmt: skip


async def test_a_day_is_counted_up_to_a_limit_and_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fire_outcomes, "MOST_OF_DAY", 3)
    monkeypatch.setattr(fire_outcomes, "MOST_FAILED", 2)
    row = schedule("s", next_fire_us=T0)
    await create(store, row)
    for n in range(5):
        await fire(store, row, T0 + n * S)
    await fire(store, row, NEWER_US, state=State.FAILED)
    await fire(store, row, NEWER_US + S, outcome=FireOutcome.SKIPPED, reason=SkipReason.PAUSED)
    await fire(store, row, NEWER_US + DAY_US, state=State.FAILED)
    bounds = [T0 + n * DAY_US for n in range(4)]

    found = await store.read(lambda conn: fire_outcomes.days(conn, "s", bounds))

    assert found == [
        Day(executed=3, more=True), Day(executed=1, failed=1, skipped=1, more=True), Day(executed=1, failed=1),
    ]  # fmt: skip


async def test_a_range_of_the_ledger_goes_over_generations_newest_first(store: Store) -> None:
    row = schedule("s", next_fire_us=T0)
    await create(store, row)
    for n in range(6):
        await fire(store, row, T0 + n * S, outcome=FireOutcome.MISSED if n % 2 else FireOutcome.EXECUTED)
    await store.write(schedules.delete, schedules.Delete(ids=["s"], handover=lambda *_: []))
    row = schedule("s", next_fire_us=T0)
    await create(store, row)
    for n in range(3):
        await fire(store, row, T0 + n * S)

    async def walk(outcome: FireOutcome | None, limit: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        cursor = None
        while True:
            page = await store.read(
                lambda conn: fires.between(
                    conn,
                    "s",
                    T0 + S,
                    T0 + 5 * S,
                    outcome=outcome,
                    cursor=cursor,
                    limit=limit,
                )
            )
            found += [(fire.generation - row.generation, (fire.nominal_us - T0) // S) for fire in page.rows]
            cursor = page.next_cursor
            if cursor is None:
                return found

    whole = [(0, 2), (0, 1), (-1, 4), (-1, 3), (-1, 2), (-1, 1)]
    assert [await walk(None, limit) for limit in (1, 2, 4, 50)] == [whole] * 4
    assert await walk(FireOutcome.MISSED, 1) == [(-1, 3), (-1, 1)]
    assert await walk(FireOutcome.EXECUTED, 2) == [(0, 2), (0, 1), (-1, 4), (-1, 2)]
