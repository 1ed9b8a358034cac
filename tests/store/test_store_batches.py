"""Batches and saved views: each step is done once, with what it did; views are kept by name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schedule_zero.errors import Conflict, NotFound, WrongState
from schedule_zero.model import Batch, BatchKind, BatchState, Execution, Origin, SavedView, State
from schedule_zero.store import Store, batches, dead_letters, execution_lists, executions, saved_views
from schedule_zero.store.batches import OVER, UNIQUE, Create, Step, Stop, What
from schedule_zero.store.idempotency import IdempotencyRecord, IdempotentReplay
from tests.store.builders import T0, execution, insert, journal, running, state_of

pytestmark = pytest.mark.anyio


def batch(id_: str = "b1", kind: BatchKind = BatchKind.CANCEL, **fields: Any) -> Batch:
    what = msgspec.json.encode(fields.pop("what", What()))
    return Batch(**{"id": id_, "kind": kind, "what": what, "up_to_seq": 9, "at_seq": 10, "total": 3, "exact": True,
                    "created_us": T0, **fields})  # fmt: skip


async def begin(store: Store, row: Batch) -> None:
    await store.write(batches.create, Create(row=row))


async def shown(store: Store, id_: str = "b1") -> Batch:
    found = await store.read(lambda conn: batches.get(conn, id_))
    assert found is not None
    return found


def again(parent_id: str, **fields: Any) -> Execution:
    return execution(f"{parent_id}-again", parent_id=parent_id, origin=Origin.RETRY, group_id="b1", **fields)


async def test_a_batch_is_kept_with_all_that_it_knows(store: Store) -> None:
    what = What(q="state:failed", states=[State.FAILED], since_us=5, handler_id="h")
    await begin(store, batch(what=what, by="ann", exact=False))

    row = await shown(store)

    assert (row.kind, row.state, row.total, row.exact, row.by) == (
        BatchKind.CANCEL,
        BatchState.RUNNING,
        3,
        False,
        "ann",
    )
    assert batches.what_of(row) == what
    assert [one.id for one in await store.read(batches.running)] == ["b1"]
    assert ("batch.created", "b1") in await journal(store)


async def test_what_is_open_is_cancelled_and_what_was_over_by_then_is_skipped(store: Store) -> None:
    await insert(store, execution("e1"), running("e2", 1), execution("e3", state=State.COMPLETED))
    await begin(store, batch())

    step = Step(id="b1", at_seq=10, next_seq=0, ids=["e3", "e2", "e1", "nobody"], finished=True)
    answers = await store.write(batches.cancel, step)

    assert [(one.id, one.outcome) for one in answers] == [
        ("e3", "terminal"), ("e2", "requested"), ("e1", "cancelled"), ("nobody", "unknown"),
    ]  # fmt: skip
    row = await shown(store)
    assert (row.done, row.skipped, row.failed, row.reasons) == (2, 2, 0, {OVER: 1, "gone": 1})
    assert (row.state, row.at_seq) == (BatchState.COMPLETED, 0)
    assert row.ended_us is not None
    assert await state_of(store, "e1") is State.CANCELLED
    assert ("batch.completed", "b1") in await journal(store)


async def test_what_has_begun_is_left_alone_where_only_what_waits_was_meant(store: Store) -> None:
    await insert(store, running("e1", 1))
    await begin(store, batch())

    await store.write(batches.cancel, Step(id="b1", at_seq=10, next_seq=4, ids=["e1"], running=False))

    row = await shown(store)
    assert (row.done, row.reasons, row.state) == (0, {"began": 1}, BatchState.RUNNING)
    assert await state_of(store, "e1") is State.RUNNING


async def test_retries_are_created_once_however_often_a_step_is_repeated(store: Store) -> None:
    await insert(store, execution("e1", state=State.FAILED), execution("e2", state=State.DEAD))
    await begin(store, batch(kind=BatchKind.RETRY))
    step = Step(id="b1", at_seq=10, next_seq=2, rows=[again("e2"), again("e1")], failed={"unknown_method": 1}, note="x")

    first = await store.write(batches.retry, step)
    repeated = await store.write(batches.retry, step)

    assert first == {"e1-again", "e2-again"}
    assert repeated is None
    row = await shown(store)
    assert (row.done, row.skipped, row.failed, row.reasons, row.note) == (2, 0, 1, {"unknown_method": 1}, "x")
    page = await store.read(lambda conn: executions.find(conn, executions.Filter(group_id="b1")))
    assert [one.parent_id for one in page.rows] == ["e1", "e2"]


async def test_what_is_retried_is_no_dead_letter_any_more(store: Store) -> None:
    await insert(store, execution("e1", state=State.FAILED, dead_letter="demo.noop:x"))
    await begin(store, batch(kind=BatchKind.RETRY))

    await store.write(batches.retry, Step(id="b1", at_seq=10, next_seq=0, rows=[again("e1")], finished=True))

    assert (await store.read(lambda conn: dead_letters.groups(conn, dead_letters.Which()))).rows == []


async def test_what_another_has_the_unique_key_of_is_skipped(store: Store) -> None:
    key = "demo.noop:k"
    await insert(store, execution("e1", state=State.FAILED, unique_key=key), execution("holder", unique_key=key))
    await begin(store, batch(kind=BatchKind.RETRY))

    born = await store.write(batches.retry, Step(id="b1", at_seq=10, next_seq=0, rows=[again("e1", unique_key=key)]))

    row = await shown(store)
    assert born == set()
    assert (row.done, row.skipped, row.reasons) == (0, 1, {UNIQUE: 1})
    assert "holder" in (row.note or "")


async def test_a_batch_that_was_stopped_does_no_more(store: Store) -> None:
    await insert(store, execution("e1"))
    await begin(store, batch())

    stopped = await store.write(batches.stop, Stop("b1", "enough"))
    answer = await store.write(batches.cancel, Step(id="b1", at_seq=10, next_seq=0, ids=["e1"]))

    assert (stopped.state, stopped.note) == (BatchState.CANCELLED, "enough")
    assert answer is None
    assert await state_of(store, "e1") is State.PENDING
    with pytest.raises(WrongState):
        await store.write(batches.stop, Stop("b1"))
    with pytest.raises(NotFound):
        await store.write(batches.stop, Stop("b2"))


async def test_a_batch_is_begun_once_for_a_key_and_not_for_nothing(store: Store) -> None:
    def record() -> IdempotencyRecord:
        return IdempotencyRecord(key="k", fingerprint="f", status=200, response=b'["b1"]', created_us=T0)

    await store.write(batches.create, Create(row=batch(), idem=record()))
    again_ = await store.write(batches.create, Create(row=batch("b2", total=0), idem=record()))

    assert isinstance(again_, IdempotentReplay)
    with pytest.raises(NotFound):
        await store.write(batches.create, Create(row=batch("b3", total=0)))
    await store.write(batches.create, Create(row=batch("b4", total=0, exact=False)))
    assert [one.id for one in (await store.read(batches.find)).rows] == ["b4", "b1"]


@pytest.mark.parametrize(
    ("what", "kind", "expected"),
    [
        (What(), BatchKind.CANCEL, ["e4", "e3"]),
        (What(), BatchKind.RETRY, ["e2", "e1"]),
        (What(q="state:failed,pending"), BatchKind.RETRY, ["e2"]),
        (What(q="state:failed,pending"), BatchKind.CANCEL, ["e3"]),
        (What(ids=["e1", "e3"]), BatchKind.RETRY, ["e1"]),
        (What(handler_id="other"), BatchKind.CANCEL, ["e4"]),
        (What(states=[State.COMPLETED]), BatchKind.CANCEL, []),
        (What(until_us=T0), BatchKind.RETRY, ["e2", "e1"]),
        (What(since_us=T0 + 1), BatchKind.RETRY, []),
    ],
)
async def test_a_batch_is_about_what_can_be_cancelled_or_retried(
    store: Store, what: What, kind: BatchKind, expected: list[str]
) -> None:
    await insert(
        store,
        execution("e1", state=State.COMPLETED),
        execution("e2", state=State.FAILED),
        execution("e3"),
        execution("e4", state=State.RUNNING, handler_id="other"),
    )
    wanted = what.filter(kind, T0)

    found = await store.read(lambda conn: execution_lists.look(conn, wanted))

    assert [row.id for _, row in found.rows] == expected
    assert batches.touches_running(wanted) is (kind is BatchKind.CANCEL and not what.q and not what.states)


# --- saved views --------------------------------------------------------------------------------------


def view(id_: str, name: str, page: str = "executions", query: str = "state:failed") -> SavedView:
    return SavedView(id=id_, page=page, name=name, query=query, created_us=T0, by="ann")


async def test_views_are_listed_by_name_and_one_of_the_same_name_is_replaced(store: Store) -> None:
    for one in (view("v1", "b"), view("v2", "a"), view("v3", "a", page="schedules")):
        await store.write(saved_views.save, one)

    replaced = await store.write(saved_views.save, view("v4", "a", query="state:dead"))

    assert replaced.id == "v2"
    found = await store.read(lambda conn: saved_views.find(conn, "executions"))
    assert [(one.id, one.name, one.query) for one in found] == [("v2", "a", "state:dead"), ("v1", "b", "state:failed")]
    assert [one.id for one in await store.read(saved_views.find)] == ["v2", "v1", "v3"]


async def test_a_view_is_deleted_once(store: Store) -> None:
    await store.write(saved_views.save, view("v1", "a"))
    assert (await store.write(saved_views.remove, "v1")).name == "a"
    with pytest.raises(NotFound):
        await store.write(saved_views.remove, "v1")
    assert ("view.deleted", "v1") in await journal(store)


async def test_a_page_keeps_a_bounded_number_of_views(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_views, "MAX_VIEWS", 2)
    await store.write(saved_views.save, view("v1", "a"))
    await store.write(saved_views.save, view("v2", "b"))
    with pytest.raises(Conflict):
        await store.write(saved_views.save, view("v3", "c"))
    assert (await store.write(saved_views.save, view("v4", "b"))).id == "v2"
