"""Dead letters in the store: set by the end, taken once, listed group by group, requeued behind a fence."""

from __future__ import annotations

from typing import Any

import pytest

from schedule_zero.errors import IdempotencyMismatch, NotFound, WrongState
from schedule_zero.model import Execution, Requeue, RequeueState, State
from schedule_zero.store import IdempotencyRecord, IdempotentReplay, Store, dead_letters, executions, requeues
from schedule_zero.store.dead_letters import Discard, Restore, Which
from schedule_zero.store.executions import Insert
from schedule_zero.store.requeues import Advance, Again, Create
from schedule_zero.store.tally import Tally
from tests.store.builders import T0, end_item, execution, get, journal, running

pytestmark = pytest.mark.anyio

ONE, TWO = "demo.noop:1111111111111111", "demo.noop:2222222222222222"
ALL = Which()
TOP = dead_letters.MAX_SEQ


async def put(store: Store, *ids: str, letter: str = ONE, **fields: Any) -> None:
    """Letters, in this order."""
    known = await store.read(dead_letters.newest_seq)
    rows = [running(id_, known + n + 1, **fields) for n, id_ in enumerate(ids)]
    await store.write(executions.insert, Insert(rows=rows))
    handler_id = rows[0].handler_id
    ends = [end_item(row.id, row.token, State.FAILED, dead_letter=letter, handler_id=handler_id) for row in rows]
    assert await store.write(executions.end, ends) == {}


def child(parent_id: str, id_: str | None = None, **fields: Any) -> Execution:
    return execution(id_ or f"{parent_id}-again", parent_id=parent_id, **fields)


def again(*rows: Execution, key: str | None = None, fingerprint: str = "f") -> Again:
    idem = None
    if key is not None:
        idem = IdempotencyRecord(key=key, fingerprint=fingerprint, status=200, response=b"[]", created_us=T0)
    return Again(id="deed", rows=list(rows), by="me", idem=idem)


async def onward(store: Store, which: Which, at: tuple[str, int] = ("", 0), limit: int = 100, up_to: int = TOP) -> Any:
    return await store.read(lambda conn: dead_letters.onward(conn, which, at, up_to, limit))


async def waiting(store: Store) -> dict[str, int]:
    return await store.read(dead_letters.waiting)


async def test_only_an_end_with_a_letter_makes_one(store: Store) -> None:
    await put(store, "a")
    await store.write(executions.insert, Insert(rows=[running("b", 77)]))
    await store.write(executions.end, [end_item("b", 77)])
    assert (await get(store, "a")).dead_letter == ONE
    assert (await get(store, "b")).dead_letter is None
    assert await waiting(store) == {"demo": 1}


async def test_one_that_was_to_be_cancelled_and_goes_on_is_no_letter(store: Store) -> None:
    await store.write(executions.insert, Insert(rows=[running("a", 1)]))
    await store.write(executions.cancel, ["a"])
    goes_on = end_item("a", 1, State.RETRY_SCHEDULED, delay_us=1, archive=True, result=None)
    await store.write(executions.end, [goes_on])
    assert ((await get(store, "a")).state, await waiting(store)) == (State.CANCELLED, {})


async def test_a_refused_end_leaves_no_letter_and_no_count(store: Store) -> None:
    await store.write(executions.insert, Insert(rows=[running("a", 1)]))
    assert await store.write(executions.end, [end_item("a", 9, State.FAILED, dead_letter=ONE)]) != {}
    assert await waiting(store) == {}


async def test_what_was_discarded_waits_again_in_its_group_when_that_is_taken_back(store: Store) -> None:
    await put(store, "a", "b")
    await put(store, "c", letter=TWO)
    taken = await store.write(dead_letters.discard, Discard(id="d", ids=["a", "c", "nobody"], by="me", note="known"))
    assert taken == {"a": ONE, "c": TWO}
    assert await waiting(store) == {"demo": 1}

    count = await store.write(dead_letters.restore, Restore(id="d2", letters=taken, by="me"))

    assert count == 2
    assert ((await get(store, "a")).dead_letter, (await get(store, "c")).dead_letter) == (ONE, TWO)
    assert await waiting(store) == {"demo": 3}
    assert [kind for kind, _ in await journal(store)][-2:] == ["dead_letters.discarded", "dead_letters.restored"]
    # Once more: nothing is counted twice.
    assert await store.write(dead_letters.restore, Restore(id="d3", letters=taken, by="me")) == 0
    assert await waiting(store) == {"demo": 3}


async def test_only_what_failed_and_is_still_there_is_brought_back(store: Store) -> None:
    await store.write(executions.insert, Insert(rows=[running("ok", 7)]))
    await store.write(executions.end, [end_item("ok", 7)])
    restored = Restore(id="d", letters={"ok": ONE, "gone": ONE}, by="me")
    assert await store.write(dead_letters.restore, restored) == 0
    assert (await get(store, "ok")).dead_letter is None
    assert await waiting(store) == {}


async def test_a_letter_is_taken_once(store: Store) -> None:
    await put(store, "a", "b")
    assert await store.write(requeues.again, again(child("a"), child("b"))) == {"a-again", "b-again"}
    with pytest.raises(WrongState):
        await store.write(requeues.again, again(child("a", "x")))
    assert await store.write(dead_letters.discard, Discard(id="d", ids=["a", "b", "nobody"], by="me")) == {}
    assert await waiting(store) == {"demo": 0}
    with pytest.raises(AssertionError):
        await get(store, "x")


async def test_two_at_once_in_one_transaction_make_one(store: Store) -> None:
    await put(store, "a")
    outcomes: list[Any] = []
    for name in ("x", "y"):
        store.submit(requeues.again, again(child("a", name)), outcomes.append)
    await store.write(executions.mark_started, [])
    assert [outcome if isinstance(outcome, set) else type(outcome) for outcome in outcomes] == [{"x"}, WrongState]


async def test_the_same_letter_named_twice_makes_one(store: Store) -> None:
    await put(store, "a")
    assert await store.write(requeues.again, again(child("a", "x"), child("a", "y"))) == {"x"}


async def test_a_repeated_key_gets_the_first_answer(store: Store) -> None:
    await put(store, "a", "b")
    await store.write(dead_letters.discard, Discard(id="d", ids=["b"], by="me"))
    rows = (child("a"), child("b"))
    assert await store.write(requeues.again, again(*rows, key="k")) == {"a-again"}
    replay = await store.write(requeues.again, again(child("a", "other"), child("b"), key="k"))
    assert isinstance(replay, IdempotentReplay)
    assert replay.response == b'{"id":"deed","ids":["a-again",null]}'
    with pytest.raises(IdempotencyMismatch):
        await store.write(requeues.again, again(*rows, key="k", fingerprint="g"))


async def test_a_retry_by_hand_settles_its_letter_in_its_own_transaction(store: Store) -> None:
    await put(store, "a")
    await store.write(executions.insert, Insert(rows=[child("a")], settles=("a",)))
    assert (await get(store, "a")).dead_letter is None
    # Once more is no mistake: it was asked for by hand.
    await store.write(executions.insert, Insert(rows=[child("a", "x")], settles=("a",)))
    assert (await get(store, "x")).parent_id == "a"


async def test_groups_come_by_job_with_their_numbers(store: Store) -> None:
    await put(store, "a", "b")
    await put(store, "c", letter=TWO)
    await put(store, "d", letter="demo.x.noop:1111111111111111", handler_id="demo.x")
    found = (await store.read(lambda conn: dead_letters.groups(conn, ALL))).rows
    assert [(group.id, group.count, group.sample_ids) for group in found] == [
        (ONE, 2, ["b", "a"]),
        (TWO, 1, ["c"]),
        ("demo.x.noop:1111111111111111", 1, ["d"]),
    ]
    assert found[0].error == b'{"type":"E","message":"m"}'
    of_demo = await store.read(lambda conn: dead_letters.groups(conn, Which(handler_id="demo")))
    assert [group.id for group in of_demo.rows] == [ONE, TWO]
    assert await store.read(lambda conn: dead_letters.count(conn, Which(handler_id="demo"), TOP)) == 3
    assert await store.read(lambda conn: dead_letters.count(conn, Which(dead_letter=TWO), TOP)) == 1
    assert await store.read(lambda conn: dead_letters.count(conn, Which(dead_letter="no"), TOP)) == 0


async def test_groups_page_even_where_most_are_somebody_elses(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "GROUPS_LOOKED_AT", 2)
    for n in range(5):
        await put(store, f"o{n}", letter=f"demo.x.m:{n:016}", handler_id="demo.x")
    await put(store, "mine", letter="demo.y:1111111111111111")
    which, cursor, found, pages = Which(handler_id="demo"), None, [], 0
    while True:
        page = await store.read(lambda conn, at=cursor: dead_letters.groups(conn, which, cursor=at))
        found += [group.id for group in page.rows]
        pages += 1
        if (cursor := page.next_cursor) is None:
            break
    assert (found, pages) == (["demo.y:1111111111111111"], 3)


async def test_onward_goes_group_by_group_oldest_first_up_to_a_bound(store: Store) -> None:
    await put(store, "a", "b", "c", letter=TWO)
    await put(store, "d", letter=ONE)
    bound = await store.read(dead_letters.newest_seq)
    await put(store, "later", letter=ONE)
    at, seen = ("", 0), []
    while found := await onward(store, ALL, at, 2, bound):
        seen.append([row.id for _, row in found])
        at = found[-1][0]
    assert seen == [["d"], ["a", "b"], ["c"]]
    ids = await store.read(lambda conn: dead_letters.onward_ids(conn, ALL, ("", 0), TOP, 9))
    assert [id_ for _, id_ in ids] == ["d", "later"]


async def test_a_page_of_large_ones_ends_early_and_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "PAGE_BYTES", 1000)
    await put(store, "a", "b", "c", params=b'{"x":"' + b"x" * 600 + b'"}')
    first = await store.read(lambda conn: dead_letters.find(conn, ONE))
    assert [row.id for row in first.rows] == ["c"]
    second = await store.read(lambda conn: dead_letters.find(conn, ONE, cursor=first.next_cursor))
    assert [row.id for row in second.rows] == ["b"]
    assert [row.id for _, row in await onward(store, ALL)] == ["a"]


# --- requeues -----------------------------------------------------------------------------------------


def requeue(**fields: Any) -> Requeue:
    return Requeue(**{"id": "r1", "up_to_seq": TOP, "rate_per_s": 5.0, "total": 2, "created_us": T0, **fields})


async def test_a_requeue_keeps_what_it_was_asked_for(store: Store) -> None:
    row = requeue(dead_letter=ONE, patch=b'{"a":1}', options=b'{"priority":3}', by="me")
    await store.write(requeues.create, Create(row=row))
    assert await store.read(lambda conn: requeues.get(conn, "r1")) == row
    assert await store.read(requeues.running) == [row]


async def test_a_requeue_of_nothing_is_refused(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.write(requeues.create, Create(row=requeue(total=0)))
    assert await store.read(requeues.running) == []


async def test_a_step_is_done_once_and_creates_what_still_waits(store: Store) -> None:
    await put(store, "a", "b", "c")
    await store.write(requeues.create, Create(row=requeue(total=3)))
    await store.write(dead_letters.discard, Discard(id="d", ids=["b"], by="me"))
    step = Advance(id="r1", at=("", 0), next=(ONE, 2), rows=[child("a"), child("b")], refused=1, note="why")
    assert await store.write(requeues.advance, step) == {"a-again"}
    # The same step again, as after an answer that was lost.
    assert await store.write(requeues.advance, step) is None
    more = Advance(id="r1", at=(ONE, 2), next=(ONE, 3), rows=[child("c")], note="later", done=True)
    assert await store.write(requeues.advance, more) == {"c-again"}
    row = await store.read(lambda conn: requeues.get(conn, "r1"))
    assert row is not None
    assert (row.created, row.refused, row.note, row.state) == (2, 1, "why", RequeueState.COMPLETED)
    assert (row.at_letter, row.at_seq) == (ONE, 3)
    kinds = [kind for kind, id_ in await journal(store) if id_ == "r1"]
    assert kinds == ["requeue.created", "requeue.completed"]


async def test_a_cancelled_requeue_takes_no_letter_any_more(store: Store) -> None:
    await put(store, "a")
    await store.write(requeues.create, Create(row=requeue(total=1)))
    assert (await store.write(requeues.cancel, "r1")).state is RequeueState.CANCELLED
    step = Advance(id="r1", at=("", 0), next=(ONE, 1), rows=[child("a")])
    assert await store.write(requeues.advance, step) is None
    assert (await get(store, "a")).dead_letter == ONE
    with pytest.raises(WrongState):
        await store.write(requeues.cancel, "r1")
    with pytest.raises(NotFound):
        await store.write(requeues.cancel, "r2")


async def test_requeues_come_in_pages_newest_first(store: Store) -> None:
    for n in range(3):
        await store.write(requeues.create, Create(row=requeue(id=f"r{n}")))
    first = await store.read(lambda conn: requeues.find(conn, limit=2))
    assert ([row.id for row in first.rows], first.next_cursor) == (["r2", "r1"], "r1")
    second = await store.read(lambda conn: requeues.find(conn, limit=2, cursor=first.next_cursor))
    assert ([row.id for row in second.rows], second.next_cursor) == (["r0"], None)


async def test_a_dead_letter_is_no_open_execution_nor_ended_twice(store: Store) -> None:
    await put(store, "a", "b", "c")
    assert (store.tally.total, store.tally.open, store.tally.ended) == (0, {"demo": 0}, 3)
    await store.write(requeues.again, again(child("a")))
    assert (store.tally.total, store.tally.ended) == (1, 3)
    # As the next server reads it.
    assert (await store.read(Tally.stored)).by_handler == {"demo": 1}
