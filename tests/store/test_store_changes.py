"""The change log: written with the change or not at all, by whom it was asked for, found newest first, pruned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from schedule_zero.errors import InvalidField, WrongState
from schedule_zero.model import Freeze, NodeOperation, OperationKind, Schedule, ScheduleState, State
from schedule_zero.rules.change_log import Actor, ChangeVerb, Deed
from schedule_zero.store import Store, Tx, changes, executions, freezes, nodes, schedules
from schedule_zero.store.changes import Change, Entry, Filter, Prune
from schedule_zero.store.schedules import ReleaseItem
from tests.store.builders import T0, execution, get, insert, release_item, running, schedule
from tests.store.test_store_nouns import node
from tests.support import ManualClock, nothing_owed

pytestmark = pytest.mark.anyio

ANN = Actor(name="ann", token_id="t1", address="192.0.2.7", request_id="r1")
BOB = Actor(name="bob", token_id="t2")


async def all_changes(store: Store, **wanted: Any) -> list[Change]:
    return (await store.read(lambda conn: changes.find(conn, Filter(limit=500, **wanted)))).rows


async def newest(store: Store) -> Change:
    return (await all_changes(store))[0]


def document(text: bytes | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


async def add(store: Store, subject: str, verb: ChangeVerb = ChangeVerb.NODE_DRAINED, by: Actor = ANN) -> None:
    await store.write(changes.add, Entry(verb=verb, subject=subject), by=by)


# --- written with the change ------------------------------------------------------------------------


async def test_a_change_says_who_when_and_what_it_was_before(store: Store, clock: ManualClock) -> None:
    await store.write(nodes.upsert, node())
    clock.advance(5)
    cordon = NodeOperation(kind=OperationKind.CORDON, since_us=T0, note="new disk", by="ann")

    await store.write(nodes.operate, nodes.Operate(node=node(), operation=cordon), by=ANN)
    await store.write(nodes.operate, nodes.Operate(node=node(), operation=None, note="done"), by=BOB)

    released, cordoned = await all_changes(store)
    assert (cordoned.verb, cordoned.noun, cordoned.subject, cordoned.count) == ("node.cordoned", "node", "n1", 1)
    assert cordoned.at_us == clock.wall_us()
    assert (cordoned.by, cordoned.token_id, cordoned.address, cordoned.request_id) == ("ann", "t1", "192.0.2.7", "r1")
    assert (document(cordoned.before), document(cordoned.after)["kind"]) == (None, "cordon")
    assert (released.verb, released.by, released.token_id, released.address) == ("node.released", "bob", "t2", None)
    assert (cordoned.note, released.note) == ("new disk", "done")
    assert (document(released.before), released.after) == (document(cordoned.after), None)


async def test_neighbours_in_one_transaction_are_each_recorded_for_whoever_asked(sqlite_store: Store) -> None:
    done: list[Any] = []
    for id_, actor in (("a", ANN), ("b", BOB), ("c", None), ("d", ANN)):
        sqlite_store.submit(schedules.create, schedules.Create(rows=[schedule(id_)]), done.append, by=actor)

    await sqlite_store.write(schedules.create, schedules.Create(rows=[schedule("e")]), by=BOB)

    made = [(row.subject, row.by, row.token_id) for row in await all_changes(sqlite_store)][::-1]
    assert made == [
        ("a", "ann", "t1"),
        ("b", "bob", "t2"),
        ("c", "server", None),
        ("d", "ann", "t1"),
        ("e", "bob", "t2"),
    ]


async def test_a_change_that_is_rolled_back_leaves_no_row_and_others_of_its_batch_do(store: Store) -> None:
    def breaks(tx: Tx, args: list[None]) -> Sequence[None]:
        changes.record(tx, ANN, ChangeVerb.NODE_DRAINED, "n1")
        raise RuntimeError("something is wrong with it")

    done: list[Any] = []
    store.submit(schedules.create, schedules.Create(rows=[schedule("a")]), done.append, by=ANN)
    store.submit(breaks, None, done.append, by=ANN)
    await store.write(schedules.create, schedules.Create(rows=[schedule("b")]), by=ANN)

    assert isinstance(done[1], RuntimeError)
    assert [row.subject for row in await all_changes(store)] == ["b", "a"]


async def test_what_can_not_be_recorded_is_not_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Tx) -> int:
        if self.changes:
            raise OSError("no room for the change log")
        return finish(self)

    finish = Tx.finish
    monkeypatch.setattr(Tx, "finish", full)

    with pytest.raises(OSError, match="no room"):
        await store.write(schedules.create, schedules.Create(rows=[schedule("a")]), by=ANN)

    assert await store.read(lambda conn: schedules.get(conn, "a")) is None


async def test_what_is_refused_or_changes_nothing_has_no_row(store: Store) -> None:
    await store.write(freezes.freeze, Freeze(id="f", from_us=T0, by="ann"), by=ANN)
    with pytest.raises(WrongState):
        await store.write(freezes.freeze, Freeze(id="g", from_us=T0, by="bob"), by=BOB)
    paused = schedules.SetState(id="a", state=ScheduleState.PAUSED, by="ann")
    await store.write(schedules.create, schedules.Create(rows=[schedule("a")]), by=ANN)
    for _ in range(2):
        await store.write(schedules.set_state, paused, by=ANN)

    verbs = [row.verb for row in await all_changes(store)]
    assert verbs == ["schedule.paused", "schedule.created", "schedules.frozen"]


# --- schedules --------------------------------------------------------------------------------------


async def test_a_replaced_schedule_shows_what_differs(store: Store) -> None:
    def put(row: Schedule) -> schedules.Put:
        return schedules.Put(row=row, handover=nothing_owed)

    await store.write(schedules.put, put(schedule("a", params=b'{"n":1}')), by=ANN)
    made = await newest(store)
    await store.write(schedules.put, put(schedule("a", params=b'{"n":2}', note="two")), by=BOB)
    replaced = await newest(store)
    # The same once more.
    await store.write(schedules.put, put(schedule("a", params=b'{"n":2}', note="two")), by=ANN)

    assert (made.verb, document(made.after)["trigger"]) == ("schedule.created", {"type": "interval", "seconds": 10})
    assert document(replaced.before) == {"version": 1, "job_params": {"n": 1}, "note": None}
    assert document(replaced.after) == {"version": 2, "job_params": {"n": 2}, "note": "two"}
    assert (await newest(store)).seq == replaced.seq


async def test_what_the_server_does_to_a_schedule_by_itself_is_told_with_its_reason(store: Store) -> None:
    [row] = await store.write(schedules.create, schedules.Create(rows=[schedule("a")]), by=ANN)
    fails = schedules.SetState(id="a", state=ScheduleState.PAUSED, note="3 failures", by="max_failures")
    row = await store.write(schedules.set_state, fails)
    paused = await newest(store)
    await store.write(schedules.set_state, schedules.SetState(id="a", state=ScheduleState.ACTIVE, by="ann"), by=ANN)
    row = await store.read(lambda conn: schedules.get(conn, "a"))
    assert row is not None
    broken: ReleaseItem = release_item(row, "x", state=ScheduleState.QUARANTINED, note="it raises", plain=False)
    assert await store.write(schedules.release, [broken]) == {}
    quarantined = await newest(store)

    assert (paused.verb, paused.by, paused.token_id, paused.note) == ("schedule.paused", "server", None, "max_failures")
    assert document(paused.after) == {"version": 2, "state": "paused", "note": "3 failures"}
    assert (quarantined.verb, quarantined.by) == ("schedule.quarantined", "server")
    assert document(quarantined.after) == {"state": "quarantined", "note": "it raises"}


async def test_schedules_that_are_deleted_together_have_a_row_each(store: Store) -> None:
    await store.write(schedules.create, schedules.Create(rows=[schedule(id_) for id_ in "abc"]), by=ANN)

    delete = schedules.Delete(ids=["a", "b", "nobody"], handover=nothing_owed, by="bob")
    await store.write(schedules.delete, delete, by=BOB)

    deleted = await all_changes(store, verb="schedule.deleted")
    assert [(row.subject, row.by, row.after) for row in deleted] == [("b", "bob", None), ("a", "bob", None)]
    assert document(deleted[0].before)["handler_id"] == "demo"


# --- deeds ------------------------------------------------------------------------------------------


def deed(verb: ChangeVerb, subject: str, **fields: Any) -> Actor:
    return msgspec.structs.replace(ANN, deed=Deed(verb=verb, subject=subject, **fields))


async def test_steps_of_one_deed_add_up_in_one_row(store: Store) -> None:
    await insert(store, *(execution(f"e{n}") for n in range(5)))
    cancelling = deed(ChangeVerb.EXECUTION_CANCELLED, "d1", in_steps=True, asked={"filter": {"handler_id": "demo"}})

    for ids in (["e0", "e1"], ["e2", "nobody"], ["e0"]):
        await store.write(executions.cancel, ids, by=cancelling)

    [row] = await all_changes(store)
    assert (row.verb, row.subject, row.count) == ("execution.cancelled", "d1", 3)
    assert document(row.after) == {"filter": {"handler_id": "demo"}, "ids": ["e0", "e1"]}


async def test_a_cancel_shows_the_state_before_and_once_is_enough(store: Store) -> None:
    await insert(store, execution("waits"), running("runs", 7))

    for id_ in ("waits", "runs", "runs", "waits"):
        await store.write(executions.cancel, [id_], by=deed(ChangeVerb.EXECUTION_CANCELLED, id_))

    rows = [(row.subject, document(row.before), document(row.after)) for row in await all_changes(store)]
    assert rows == [
        ("runs", {"state": "running"}, {"cancel_requested": True}),
        ("waits", {"state": "pending"}, {"state": "cancelled"}),
    ]


async def test_what_nobody_asked_for_by_hand_is_no_deed(store: Store) -> None:
    await insert(store, execution("a"), execution("b"))

    await store.write(executions.cancel, ["a"])
    await store.write(executions.insert, executions.Insert(rows=[execution("c")]))
    await store.write(executions.insert, executions.Insert(rows=[execution("d")]), by=ANN)
    await store.write(executions.cancel_unstarted, ["b"], by=ANN)

    assert (await get(store, "b")).state is State.CANCELLED
    assert await all_changes(store) == []


async def test_an_execution_that_another_one_replaces_is_not_taken_for_the_deed(store: Store) -> None:
    unique = {"unique_key": "k", "options": b'{"unique_key":"k","on_duplicate":"replace"}'}
    await insert(store, execution("old", **unique))

    again = executions.Insert(rows=[execution("new", parent_id="x", **unique)])
    await store.write(executions.insert, again, by=deed(ChangeVerb.EXECUTION_RETRIED, "x"))

    [row] = await all_changes(store)
    assert (await get(store, "old")).state is State.CANCELLED
    assert (row.subject, row.count, document(row.after)) == ("x", 1, {"execution_id": "new"})


async def test_clearing_in_steps_is_one_row_and_clearing_nothing_is_none(store: Store) -> None:
    await insert(store, *(execution(f"e{n}", state=State.PENDING) for n in range(30)))
    await store.write(executions.cancel, [f"e{n}" for n in range(25)])
    clearing = deed(ChangeVerb.EXECUTION_CLEARED, "d1", in_steps=True)
    for after in (0, 10, 20):
        await store.write(executions.clear, executions.Clear(after=after, limit=10), by=clearing)
    again = deed(ChangeVerb.EXECUTION_CLEARED, "d2", in_steps=True)
    await store.write(executions.clear, executions.Clear(), by=again)

    [row] = await all_changes(store)
    assert (row.subject, row.count) == ("d1", 25)


# --- found --------------------------------------------------------------------------------------------


@pytest.fixture
async def some(store: Store, clock: ManualClock) -> Store:
    """Nine changes, a minute apart: three nouns, three names, and a subject that two nouns have."""
    for n in range(9):
        verb = (ChangeVerb.NODE_DRAINED, ChangeVerb.SCHEDULE_CREATED, ChangeVerb.TOKEN_REVOKED)[n % 3]
        subject = "same" if n < 3 else f"s{n}"
        await add(store, subject, verb, (ANN, BOB, Actor(name="eve"))[n // 3])
        clock.advance(60)
    return store


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ({"noun": "node"}, [6, 3, 0]),
        ({"noun": "schedule"}, [7, 4, 1]),
        ({"verb": "token.revoked"}, [8, 5, 2]),
        ({"verb": "token.created"}, []),
        ({"subject": "same"}, [2, 1, 0]),
        ({"subject": "same", "noun": "schedule"}, [1]),
        ({"by": "bob"}, [5, 4, 3]),
        ({"by": "bob", "noun": "node", "verb": "node.drained"}, [3]),
        ({"noun": "node", "verb": "token.revoked"}, []),
        ({"since_us": T0 + 360_000_000}, [8, 7, 6]),
        ({"until_us": T0 + 60_000_000}, [1, 0]),
        ({"since_us": T0 + 60_000_000, "until_us": T0 + 180_000_000, "by": "ann"}, [2, 1]),
        ({"since_us": T0 + 10**12}, []),
    ],
)
async def test_changes_are_found_newest_first(some: Store, wanted: dict[str, Any], found: list[int]) -> None:
    first = (await all_changes(some))[-1].seq
    assert [row.seq - first for row in await all_changes(some, **wanted)] == found


@pytest.mark.parametrize("wanted", [{}, {"noun": "node"}, {"noun": "schedule"}, {"by": "bob"}, {"subject": "same"}])
async def test_pages_together_are_all_of_it_however_little_one_looks_at(
    some: Store, wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await all_changes(some, **wanted)
    monkeypatch.setattr(changes, "SCAN_ROWS", 2)
    changes._queries.cache_clear()
    try:
        walked: list[Change] = []
        cursor, pages = None, 0
        while pages == 0 or cursor is not None:
            at = Filter(limit=2, cursor=cursor, **wanted)
            page = await some.read(lambda conn, at=at: changes.find(conn, at))  # type: ignore[misc]
            walked += page.rows
            cursor, pages = page.next_cursor, pages + 1
            assert pages < 20
    finally:
        changes._queries.cache_clear()

    assert walked == whole


async def test_a_cursor_of_something_else_is_refused(store: Store) -> None:
    with pytest.raises(InvalidField):
        await store.read(lambda conn: changes.find(conn, Filter(cursor="x")))


# --- pruned -------------------------------------------------------------------------------------------


async def test_old_changes_go_by_age_and_by_number_and_the_newest_stays(some: Store) -> None:
    async def prune(before_us: int | None, keep_rows: int | None, limit: int = 100) -> int:
        return await some.write(changes.prune, Prune(before_us=before_us, keep_rows=keep_rows, limit=limit))

    first = (await all_changes(some))[-1].seq
    assert await prune(None, None) == 0
    assert await prune(T0 + 180_000_000, None, limit=2) == 2
    assert await prune(T0 + 180_000_000, 100) == 1
    assert await prune(None, 4) == 2
    assert [row.seq - first for row in await all_changes(some)] == [8, 7, 6, 5]
    assert await prune(T0 * 2, 0) == 3
    assert [row.seq - first for row in await all_changes(some)] == [8]
    await add(some, "next")
    assert (await newest(some)).seq == first + 9


async def test_an_empty_log_has_nothing_to_prune_and_nothing_to_find(store: Store) -> None:
    assert await store.write(changes.prune, Prune(before_us=T0 * 2, keep_rows=0)) == 0
    assert await all_changes(store, since_us=0, until_us=T0) == []
