"""Group commit: order, isolation of a bad operation, completions, listeners, closing."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from schedule_zero.config import StoreConfig
from schedule_zero.errors import Conflict, NotFound, StoreUnavailable
from schedule_zero.model import Event
from schedule_zero.store import Store, Tx, executions, writer
from schedule_zero.store.executions import Insert
from tests.store.builders import execution, get, insert
from tests.support import ManualClock, eventually

pytestmark = pytest.mark.anyio


class Gate:
    """A verb that holds the writer until the test lets it go on, so that what is queued meanwhile becomes one group."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._open = threading.Event()

    def hold(self, tx: Tx, args: list[None]) -> list[None]:
        self._entered.set()
        assert self._open.wait(10)
        return [None for _ in args]

    def close(self, store: Store) -> None:
        store.submit(self.hold, None, lambda _: None)
        assert self._entered.wait(10)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
async def gate(sqlite_store: Store) -> Gate:
    gate = Gate()
    gate.close(sqlite_store)
    return gate


class Verbs:
    """Verbs that leave a trail."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[Any]]] = []

    def first(self, tx: Tx, args: list[Any]) -> list[Any]:
        self.calls.append(("first", args))
        return args

    def second(self, tx: Tx, args: list[Any]) -> list[Any]:
        self.calls.append(("second", args))
        return args


async def test_operations_run_in_the_order_they_were_queued_and_neighbours_together(
    sqlite_store: Store, gate: Gate
) -> None:
    verbs = Verbs()
    done: list[Any] = []
    for verb, arg in ((verbs.first, 1), (verbs.first, 2), (verbs.second, 3), (verbs.first, 4)):
        sqlite_store.submit(verb, arg, done.append)
    before = sqlite_store.stats.commits

    gate.open()
    await sqlite_store.write(verbs.second, 5)

    assert verbs.calls == [("first", [1, 2]), ("second", [3]), ("first", [4]), ("second", [5])]
    assert done == [1, 2, 3, 4]
    # The gate's own transaction, and one for all the others.
    assert sqlite_store.stats.commits == before + 2


async def test_one_bad_operation_fails_alone(sqlite_store: Store, gate: Gate) -> None:
    await_all = [asyncio.ensure_future(insert(sqlite_store, execution(id_))) for id_ in ("a", "b", "a", "c")]
    await asyncio.sleep(0)

    gate.open()
    results = await asyncio.gather(*await_all, return_exceptions=True)

    assert [type(result) for result in results] == [type(None), type(None), Conflict, type(None)]
    for id_ in "abc":
        assert (await get(sqlite_store, id_)).id == id_
    assert sqlite_store.stats.isolated == 1
    assert sqlite_store.stats.failures == 1
    assert sqlite_store.healthy


async def test_what_a_failed_operation_wrote_or_told_is_gone(sqlite_store: Store) -> None:
    told: list[tuple[int, Event]] = []
    sqlite_store.on_commit(told.extend)

    def half_done(tx: Tx, args: list[str]) -> list[None]:
        executions.insert(tx, [Insert(rows=[execution(id_)]) for id_ in args])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await sqlite_store.write(half_done, "a")
    await insert(sqlite_store, execution("b"))

    assert await sqlite_store.read(lambda conn: executions.get(conn, "a")) is None
    assert (await sqlite_store.read(executions.stats)).total == 1
    assert [event.id for _, event in told] == ["b"]


async def test_a_result_that_is_an_error_fails_its_operation_and_no_other(sqlite_store: Store, gate: Gate) -> None:
    def picky(tx: Tx, args: list[int]) -> list[int | NotFound]:
        return [arg if arg % 2 else NotFound(f"no {arg}") for arg in args]

    answers = [asyncio.ensure_future(sqlite_store.write(picky, n)) for n in range(4)]
    await asyncio.sleep(0)
    gate.open()
    results = await asyncio.gather(*answers, return_exceptions=True)

    assert [str(result) for result in results] == ["no 0", "1", "no 2", "3"]
    assert sqlite_store.stats.isolated == 0


async def test_a_verb_that_forgets_an_answer_is_a_mistake_that_is_noticed(sqlite_store: Store) -> None:
    def forgetful(tx: Tx, args: list[int]) -> list[int]:
        return []

    with pytest.raises(AssertionError, match="forgetful gave 0 results for 1"):
        await sqlite_store.write(forgetful, 1)


async def test_a_transaction_is_bounded_in_rows_and_in_operations(
    sqlite_store: Store, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_ROWS", 10)
    monkeypatch.setattr(writer, "MAX_OPERATIONS", 4)
    sizes: list[int] = []

    def count(tx: Tx, args: list[list[int]]) -> list[None]:
        sizes.append(sum(len(arg) for arg in args))
        return [None for _ in args]

    operations = [[0] * 4, [0] * 4, [0] * 4, [0] * 30, *([[0]] * 6)]
    answers = [asyncio.ensure_future(sqlite_store.write(count, arg)) for arg in operations]
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(*answers)

    # No one is split, however large; order is kept.
    assert sizes == [8, 4, 30, 4, 2]


async def test_listeners_hear_before_the_writer_of_it_does_and_in_order(sqlite_store: Store, gate: Gate) -> None:
    heard: list[str] = []
    pairs: list[tuple[int, Event]] = []

    def listener(told: list[tuple[int, Event]]) -> None:
        pairs.extend(told)
        heard.extend(f"told {event.id}" for _, event in told)

    sqlite_store.on_commit(listener)
    sqlite_store.submit(
        executions.insert, Insert(rows=[execution("a"), execution("b")]), lambda _: heard.append("done 1")
    )
    sqlite_store.submit(executions.insert, Insert(rows=[execution("c")]), lambda _: heard.append("done 2"))
    gate.open()
    await insert(sqlite_store, execution("d"))

    # The gate's group ends before "d" is queued or after; either way, telling comes before completing.
    assert [word for word in heard if word.startswith("told")] == ["told a", "told b", "told c", "told d"]
    assert [word for word in heard if word.startswith("done")] == ["done 1", "done 2"]
    assert heard.index("told c") < heard.index("done 1")
    assert [seq for seq, _ in pairs] == sorted(seq for seq, _ in pairs)


async def test_a_listener_or_a_completion_that_raises_keeps_nobody_from_hearing(
    sqlite_store: Store, gate: Gate
) -> None:
    heard: list[str] = []

    def broken(told: object) -> None:
        raise ZeroDivisionError

    sqlite_store.on_commit(broken)
    sqlite_store.on_commit(lambda _: heard.append("told"))
    sqlite_store.submit(executions.insert, Insert(rows=[execution("a")]), broken)
    sqlite_store.submit(executions.insert, Insert(rows=[execution("b")]), lambda _: heard.append("done"))
    gate.open()
    await sqlite_store.write(Verbs().first, 1)

    assert heard == ["told", "done"]
    assert sqlite_store.stats.listener_errors == 2


async def test_a_caller_that_goes_away_takes_nothing_back(sqlite_store: Store, gate: Gate) -> None:
    gone = asyncio.ensure_future(insert(sqlite_store, execution("a")))
    await asyncio.sleep(0)
    gone.cancel()
    gate.open()
    await insert(sqlite_store, execution("b"))

    assert gone.cancelled()
    assert (await get(sqlite_store, "a")).id == "a"


async def test_closing_commits_what_is_queued(tmp_path: Path, clock: ManualClock) -> None:
    store = Store.open(StoreConfig(), tmp_path, clock=clock)
    done: list[Any] = []
    for n in range(100):
        store.submit(executions.insert, Insert(rows=[execution(f"e{n}")]), done.append)
    await store.close()
    await store.close()

    with pytest.raises(StoreUnavailable):
        await insert(store, execution("late"))
    with pytest.raises(StoreUnavailable):
        await store.read(executions.stats)

    again = Store.open(StoreConfig(), tmp_path, clock=clock)
    try:
        assert (await again.read(executions.stats)).total == 100
    finally:
        await again.close()
    assert done == [None] * 100


def test_a_closed_loop_does_not_kill_the_writer(tmp_path: Path, clock: ManualClock) -> None:
    store = Store.open(StoreConfig(), tmp_path, clock=clock)
    gate = Gate()

    async def leave() -> None:
        gate.close(store)
        store.submit(executions.insert, Insert(rows=[execution("a")]), lambda _: None)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    loop.close()
    gate.open()

    async def look() -> None:
        await insert(store, execution("b"))
        assert (await store.read(executions.stats)).total == 2
        await store.close()

    asyncio.run(look())


async def test_a_read_sees_one_moment(sqlite_store: Store) -> None:
    await insert(sqlite_store, execution("a"))
    looked, written = threading.Event(), threading.Event()

    def twice(conn: Any) -> tuple[int, int]:
        first = executions.stats(conn).total
        looked.set()
        assert written.wait(10)
        return first, executions.stats(conn).total

    reading = asyncio.ensure_future(sqlite_store.read(twice))
    await eventually(looked.is_set)
    await insert(sqlite_store, execution("b"))
    written.set()

    assert await reading == (1, 1)
    assert (await sqlite_store.read(executions.stats)).total == 2


async def test_a_read_cannot_write(store: Store) -> None:
    with pytest.raises(StoreUnavailable if store.dialect == "sqlite" else Exception):
        await store.read(lambda conn: conn.exec_driver_sql("DELETE FROM events"))


async def test_the_statistics_say_what_was_done(store: Store) -> None:
    await insert(store, execution("a"))
    with pytest.raises(Conflict):
        await insert(store, execution("a"))

    stats = store.stats
    assert (stats.commits, stats.operations, stats.failures, stats.queued) == (1, 2, 1, 0)
    assert stats.largest_batch == 1
