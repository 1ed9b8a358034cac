"""Groups in the store: born with their members, counted on in the transaction of each end, gone after the last."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.model import AttemptOutcome, Group, GroupKind, GroupState, State
from schedule_zero.rules.grouping import COUNTED_AS, outcome
from schedule_zero.rules.states import TERMINAL
from schedule_zero.store import IdempotencyRecord, IdempotentReplay, Store, events, executions, groups
from schedule_zero.store.executions import Filter, Insert
from tests.store.builders import T0, end_item, execution, running

pytestmark = pytest.mark.anyio


def group(id_: str = "g", total: int = 3, **fields: object) -> Group:
    return Group(
        id=id_,
        kind=GroupKind.SHARDS,
        handler_id="demo",
        job_method="noop",
        total=total,
        created_us=T0,
        **fields,  # type: ignore[arg-type]
    )


async def make(store: Store, *rows, id_: str = "g") -> None:
    for row in rows:
        row.group_id = id_
    await store.write(executions.insert, Insert(rows=list(rows), group=group(id_, len(rows), by="me")))


async def found(store: Store, id_: str = "g") -> Group:
    row = await store.read(lambda conn: groups.get(conn, id_))
    assert row is not None
    return row


async def test_a_group_is_born_with_its_members(store: Store) -> None:
    await make(store, execution("a", shard="0/2"), execution("b", shard="1/2"))

    assert await found(store) == group(total=2, by="me")
    page = await store.read(lambda conn: executions.find(conn, Filter(group_id="g")))
    assert [(row.id, row.shard) for row in page.rows] == [("b", "1/2"), ("a", "0/2")]
    assert await store.read(lambda conn: groups.open_members(conn, "g")) == ["a", "b"]
    assert await store.read(lambda conn: groups.members(conn, "g", 1)) == ["a"]


async def test_members_are_counted_by_state(store: Store) -> None:
    await make(store, execution("a"), running("b", 1), running("c", 2))
    await store.write(executions.end, [end_item("c", 2, State.FAILED)])
    await make(store, execution("d"), id_="other")

    found = await store.read(lambda conn: groups.states(conn, "g"))

    assert found == {State.PENDING: 1, State.RUNNING: 1, State.FAILED: 1}
    assert await store.read(lambda conn: groups.states(conn, "nobody")) == {}


async def test_a_replay_makes_no_second_group(store: Store) -> None:
    idem = IdempotencyRecord(key="k", fingerprint="f", status=200, response=b'["g"]', created_us=T0)
    first = await store.write(
        executions.insert, Insert(rows=[execution("a", group_id="g")], idem=idem, group=group("g", 1))
    )
    again = await store.write(
        executions.insert, Insert(rows=[execution("b", group_id="h")], idem=idem, group=group("h", 1))
    )
    assert first is None
    assert isinstance(again, IdempotentReplay)
    assert await store.read(lambda conn: groups.get(conn, "h")) is None


async def test_the_last_end_ends_the_group_in_the_same_transaction(store: Store) -> None:
    await make(store, running("a", 1), running("b", 2), running("c", 3))

    await store.write(executions.end, [end_item("a", 1, group_id="g"), end_item("c", 3, group_id="g")])
    row = await found(store)
    assert (row.state, row.completed, row.finished_us) == (GroupState.RUNNING, 2, None)

    await store.write(executions.end, [end_item("b", 2, group_id="g")])
    row = await found(store)
    assert (row.state, row.completed) == (GroupState.COMPLETED, 3)
    assert row.finished_us is not None
    rows = await store.read(lambda conn: events.read_after(conn, 0, 100))
    transactions = [told for _, told in rows]
    last = transactions[-1]
    assert [event.kind for event in last] == ["execution.finished", "group.finished"]
    assert last[-1].data["completed"] == 3
    assert sum(event.kind == "group.finished" for told in transactions for event in told) == 1


async def test_an_end_that_is_refused_counts_nothing(store: Store) -> None:
    await make(store, running("a", 1), running("b", 2))

    await store.write(executions.end, [end_item("a", 1, group_id="g")])
    await store.write(executions.end, [end_item("a", 1, group_id="g"), end_item("b", 7, group_id="g")])

    row = await found(store)
    assert (row.state, row.completed) == (GroupState.RUNNING, 1)


async def test_a_retry_is_no_end(store: Store) -> None:
    await make(store, running("a", 1))

    again = end_item("a", 1, state=State.RETRY_SCHEDULED, outcome=AttemptOutcome.FAILED, group_id="g", archive=True)
    await store.write(executions.end, [again])

    assert (await found(store)).state is GroupState.RUNNING


async def test_one_that_failed_fails_the_group_when_all_are_over(store: Store) -> None:
    await make(store, running("a", 1), running("b", 2), execution("c"))

    failed = end_item("a", 1, state=State.FAILED, outcome=AttemptOutcome.FAILED, group_id="g")
    await store.write(executions.end, [failed, end_item("b", 2, group_id="g")])
    assert (await found(store)).state is GroupState.RUNNING
    await store.write(executions.cancel, ["c"])

    row = await found(store)
    assert (row.state, row.completed, row.failed, row.cancelled) == (GroupState.FAILED, 1, 1, 1)


async def test_cancelled_members_cancel_the_group(store: Store) -> None:
    await make(store, running("a", 1), execution("b"), execution("c", state=State.SCHEDULED, not_before_us=T0 + 9))

    await store.write(executions.end, [end_item("a", 1, group_id="g")])
    await store.write(executions.cancel, ["b", "b", "c"])
    await store.write(executions.cancel, ["b", "c"])

    row = await found(store)
    assert (row.state, row.completed, row.cancelled) == (GroupState.CANCELLED, 1, 2)


async def test_the_end_of_a_backfills_execution_disturbs_nobody(store: Store) -> None:
    await make(store, running("a", 1))
    await store.write(executions.insert, Insert(rows=[running("x", 9, group_id="backfill")]))

    await store.write(executions.end, [end_item("x", 9, group_id="backfill"), end_item("a", 1, group_id="g")])

    assert (await found(store)).state is GroupState.COMPLETED


async def test_groups_are_listed_newest_first_by_page(store: Store) -> None:
    for id_ in ("g1", "g2", "g3"):
        await make(store, execution(f"e{id_}"), id_=id_)

    first = await store.read(lambda conn: groups.find(conn, limit=2))
    rest = await store.read(lambda conn: groups.find(conn, limit=2, cursor=first.next_cursor))

    assert [row.id for row in first.rows] == ["g3", "g2"]
    assert [row.id for row in rest.rows] == ["g1"]
    assert rest.next_cursor is None


async def test_a_group_is_forgotten_when_it_is_over_and_its_members_are_cleared(store: Store) -> None:
    await make(store, running("a", 1), id_="g")
    await make(store, execution("b"), id_="h")
    await store.write(executions.end, [end_item("a", 1, group_id="g")])

    assert await store.write(groups.prune, "") is None
    assert (await found(store)).state is GroupState.COMPLETED

    await executions.clear_all(store)
    assert await store.write(groups.prune, "") is None
    assert await store.read(lambda conn: groups.get(conn, "g")) is None
    assert (await found(store, "h")).state is GroupState.RUNNING


async def test_a_groups_members_are_read_along_their_index(sqlite_store: Store) -> None:
    def plan(conn) -> str:
        sql, order, constants = groups._OPEN_MEMBERS._compile(conn)
        given = {**constants, "wanted": "g"}
        return str(conn.exec_driver_sql("EXPLAIN QUERY PLAN " + sql, tuple(given[name] for name in order)).fetchall())

    assert "ix_executions_group" in await sqlite_store.read(plan)


def test_every_terminal_state_counts_as_something() -> None:
    assert set(COUNTED_AS) == TERMINAL


@given(st.lists(st.sampled_from(sorted(TERMINAL)), min_size=1, max_size=6), st.integers(0, 3))
def test_a_group_is_over_when_all_are_and_completed_only_if_all_are(ends: list[State], missing: int) -> None:
    row = group(total=len(ends) + missing)
    for state in ends:
        setattr(row, COUNTED_AS[state], getattr(row, COUNTED_AS[state]) + 1)
    became = outcome(row)
    assert (became is GroupState.RUNNING) == (missing > 0)
    if not missing:
        assert (became is GroupState.COMPLETED) == all(state is State.COMPLETED for state in ends)
        bad = any(state not in (State.COMPLETED, State.CANCELLED) for state in ends)
        assert (became is GroupState.FAILED) == bad
