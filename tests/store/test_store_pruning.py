"""Executions that have been kept long enough are deleted in small steps, and nothing else is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from schedule_zero.config import RetentionConfig, StoreConfig
from schedule_zero.model import Attempt, AttemptOutcome, Event, Policies, State
from schedule_zero.ops import retention
from schedule_zero.ops.retention import Retention
from schedule_zero.rules.policies import stored_policies
from schedule_zero.store import Store, dead_letters, executions, fires, pruning, schedules
from schedule_zero.store.execution_reads import Stats
from schedule_zero.store.executions import Insert
from schedule_zero.store.pruning import Prune
from tests.store.builders import end_item, execution, release_item, running, schedule
from tests.support import ManualClock

pytestmark = pytest.mark.anyio

DAY_S = 86_400
DAY_US = DAY_S * 1_000_000
STATES = ("completed", "failed", "timeout", "dead", "cancelled", "misfired")
FOR_EVER = dict.fromkeys((f"{state}_s" for state in STATES), 0.0)
LETTER = "demo.noop:aaaaaaaaaaaaaaaa"


class Pruner:
    """Retention over a store; its pauses take no time and are kept."""

    def __init__(self, store: Store, clock: ManualClock, **config: Any) -> None:
        self.pauses: list[float] = []
        said = RetentionConfig(**{**FOR_EVER, **config})
        self.retention = Retention(store=store, clock=clock, config=said, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    async def __call__(self) -> int:
        return await self.retention.run_once()


class Past:
    """Puts executions into the past of a store."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.token = 0

    async def put(
        self, *ids: str, state: State = State.COMPLETED, days: float = 0, letter: str | None = None, **fields: Any
    ) -> None:
        """Executions that were created, and ended in ``state``, so many days ago."""
        at_us = self.clock.wall_us() - round(days * DAY_US)
        if state in (State.CANCELLED, State.MISFIRED):
            rows = [execution(id_, state=state, created_us=at_us, stored_us=at_us, **fields) for id_ in ids]
            await self.store.write(executions.insert, Insert(rows=rows))
            await self.store.write(count_ends, [(row.handler_id, state.value) for row in rows])
            return
        if state not in (State.COMPLETED, State.FAILED, State.TIMEOUT, State.DEAD):
            rows = [execution(id_, state=state, created_us=at_us, **fields) for id_ in ids]
            await self.store.write(executions.insert, Insert(rows=rows))
            return
        rows = []
        for id_ in ids:
            self.token += 1
            rows.append(running(id_, self.token, created_us=at_us, **fields))
        await self.store.write(executions.insert, Insert(rows=rows))
        times = {"started_us": at_us, "finished_us": at_us + 7, "stored_us": at_us}
        ends = [end_item(row.id, row.token, state, dead_letter=letter, schedule_id=row.schedule_id, **times)
                for row in rows]  # fmt: skip
        assert await self.store.write(executions.end, ends) == {}

    async def left(self) -> set[str]:
        page = await self.store.read(lambda conn: executions.find(conn, executions.Filter(limit=10_000)))
        return {row.id for row in page.rows}

    async def attempts(self) -> set[str]:
        rows = await self.store.read(lambda conn: conn.execute(text("SELECT execution_id FROM attempts")).all())
        return {row[0] for row in rows}

    async def stats(self) -> Stats:
        return await self.store.read(executions.stats)


def count_ends(tx: Any, args: list[list[tuple[str, str]]]) -> list[None]:
    """What the verbs that end them would have counted."""
    for arg in args:
        for handler_id, state in arg:
            tx.count(handler_id, state, 1)
    return [None] * len(args)


@pytest.fixture
def past(store: Store, clock: ManualClock) -> Past:
    return Past(store, clock)


# --- by age -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
async def test_each_state_has_an_age_of_its_own(store: Store, clock: ManualClock, past: Past, state: str) -> None:
    for each in STATES:
        await past.put(f"{each}-old", state=State(each), days=3)
        await past.put(f"{each}-new", state=State(each), days=1)
    assert await Pruner(store, clock, **{f"{state}_s": 2.0 * DAY_S})() == 1
    assert await past.left() == {f"{each}-{age}" for each in STATES for age in ("old", "new")} - {f"{state}-old"}


async def test_what_is_not_over_stays_whatever_its_age(store: Store, clock: ManualClock, past: Past) -> None:
    for state in (State.PENDING, State.SCHEDULED, State.RETRY_SCHEDULED, State.BLOCKED):
        await past.put(state.value, state=state, days=1000)
    await store.write(executions.insert, Insert(rows=[running("r", 99, created_us=1)]))
    limits = {f"{state}_s": 1.0 for state in STATES} | {f"{state}_rows": 1 for state in STATES}
    assert await Pruner(store, clock, **limits)() == 0
    assert len(await past.left()) == 5


async def test_the_age_is_that_of_the_end_not_of_the_beginning(store: Store, clock: ManualClock, past: Past) -> None:
    now_us = clock.wall_us()
    await store.write(executions.insert, Insert(rows=[running("long", 1, created_us=now_us - 9 * DAY_US)]))
    await store.write(executions.end, [end_item("long", 1, stored_us=now_us - DAY_US)])
    await past.put("short", days=3)
    assert await Pruner(store, clock, completed_s=2.0 * DAY_S)() == 1
    assert await past.left() == {"long"}


async def test_without_limits_nothing_is_deleted(store: Store, clock: ManualClock, past: Past) -> None:
    await past.put("a", days=30_000)
    assert await Pruner(store, clock)() == 0


async def test_rows_from_a_clock_that_was_ahead_do_not_keep_the_others(
    store: Store, clock: ManualClock, past: Past
) -> None:
    await past.put("future", days=-400)
    await past.put("old", days=3)
    assert await Pruner(store, clock, completed_s=2.0 * DAY_S)() == 1
    assert await past.left() == {"future"}


# --- by number ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
async def test_the_newest_so_many_of_a_state_are_kept(store: Store, clock: ManualClock, past: Past, state: str) -> None:
    for n in range(10):
        for each in STATES:
            await past.put(f"{each}-{n}", state=State(each))
    pruner = Pruner(store, clock, **{f"{state}_rows": 3})
    assert await pruner() == 7
    left = await past.left()
    assert {id_ for id_ in left if id_.startswith(f"{state}-")} == {f"{state}-{n}" for n in (7, 8, 9)}
    assert len(left) == 53
    assert await pruner() == 0


@pytest.mark.parametrize("state", ["completed", "failed"])
async def test_many_are_counted_in_bounded_steps(
    store: Store, clock: ManualClock, past: Past, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(0, 60, 2):
        await past.put(f"{n:03}", state=State(state))
        await past.put(f"{n + 1:03}", state=State.TIMEOUT)
    monkeypatch.setattr(pruning, "COUNT_ROWS", 7)
    step = await store.read(lambda conn: pruning.back(conn, State(state), pruning.MAX_SEQ, 20))
    assert step.count <= 7
    assert await Pruner(store, clock, **{f"{state}_rows": 20})() == 10
    assert await past.left() == {f"{n:03}" for n in range(60)} - {f"{n:03}" for n in range(0, 20, 2)}


async def test_age_and_number_both_count(store: Store, clock: ManualClock, past: Past) -> None:
    await past.put("old", "older", days=9)
    await past.put("a", "b", "c")
    assert await Pruner(store, clock, completed_s=2.0 * DAY_S, completed_rows=2)() == 3
    assert await past.left() == {"b", "c"}


# --- dead letters -------------------------------------------------------------------------------------


async def test_a_dead_letter_is_kept_until_somebody_deals_with_it(store: Store, clock: ManualClock, past: Past) -> None:
    await past.put("waits", state=State.FAILED, days=9, letter=LETTER)
    await past.put("dealt", state=State.FAILED, days=9)
    pruner = Pruner(store, clock, failed_s=float(DAY_S), failed_rows=1)
    assert await pruner() == 1
    assert await past.left() == {"waits"}

    await store.write(dead_letters.discard, dead_letters.Discard(id="d", ids=["waits"], by="me"))
    clock.advance(retention.FULL_S)
    assert await pruner() == 1


async def test_dead_letters_are_deleted_like_others_where_that_is_wanted(
    store: Store, clock: ManualClock, past: Past
) -> None:
    await past.put("a", "b", state=State.FAILED, days=9, letter=LETTER)
    assert await store.read(dead_letters.waiting) == {"demo": 2}
    assert await Pruner(store, clock, failed_s=float(DAY_S), keep_dead_letters=False)() == 2
    assert await store.read(dead_letters.waiting) == {"demo": 0}


# --- by schedule --------------------------------------------------------------------------------------


async def make(store: Store, id_: str, **policies: Any) -> None:
    row = schedule(id_, policies=stored_policies(Policies(**policies)))
    await store.write(schedules.create, schedules.Create(rows=[row]))


async def test_a_schedules_own_age_takes_the_place_of_the_servers(store: Store, clock: ManualClock, past: Past) -> None:
    await make(store, "long", keep_s=100.0 * DAY_S)
    await make(store, "short", keep_s=2.0 * DAY_S)
    await make(store, "plain")
    await past.put("none-20", days=20)
    for id_ in ("long", "short", "plain"):
        await past.put(f"{id_}-20", schedule_id=id_, days=20, state=State.FAILED)
    for id_ in ("long", "short", "plain"):
        await past.put(f"{id_}-3", schedule_id=id_, days=3)
    limits = {"completed_s": 10.0 * DAY_S, "failed_s": 10.0 * DAY_S}
    assert await Pruner(store, clock, **limits)() == 4
    assert await past.left() == {"long-3", "long-20", "plain-3"}


async def test_a_schedule_keeps_its_newest_so_many(store: Store, clock: ManualClock, past: Past) -> None:
    await make(store, "s", keep_last=2)
    await past.put("1", "2", schedule_id="s")
    await past.put("3", schedule_id="s", state=State.PENDING)
    await past.put("4", "5", schedule_id="s", state=State.FAILED)
    await past.put("other")
    assert await Pruner(store, clock)() == 2
    assert await past.left() == {"3", "4", "5", "other"}
    # What was not over then is one of too many by now; it is looked at again within the hour.
    await store.write(executions.cancel, ["3"])
    clock.advance(retention.FULL_S)
    pruner = Pruner(store, clock)
    assert await pruner() == 1
    assert await past.left() == {"4", "5", "other"}


async def test_a_schedules_number_counts_beside_the_servers_age(store: Store, clock: ManualClock, past: Past) -> None:
    await make(store, "s", keep_last=5)
    await past.put("old", schedule_id="s", days=9)
    await past.put("new", schedule_id="s")
    assert await Pruner(store, clock, completed_s=float(DAY_S))() == 1
    assert await past.left() == {"new"}


async def test_what_a_schedule_has_to_look_back_on_is_kept(store: Store, clock: ManualClock, past: Past) -> None:
    await make(store, "s", max_failures=3)
    await make(store, "t", max_failures=2, keep_last=1)
    for id_ in ("s", "t"):
        for n in range(5):
            await past.put(f"{id_}{n}", schedule_id=id_, state=State.FAILED, days=9 - n)
        await past.put(f"{id_}-cancelled", schedule_id=id_, state=State.CANCELLED, days=2)
    await Pruner(store, clock, failed_s=float(DAY_S), cancelled_s=float(DAY_S))()
    assert await past.left() == {"s2", "s3", "s4", "t3", "t4"}


async def test_a_schedule_that_is_gone_has_no_say(store: Store, clock: ManualClock, past: Past) -> None:
    await past.put("a", schedule_id="gone", days=9)
    assert await Pruner(store, clock, completed_s=float(DAY_S))() == 1


async def test_a_calendar_called_keep_is_no_policy(store: Store, clock: ManualClock, past: Past) -> None:
    await make(store, "s", exclude=('"keep_',))
    assert await store.read(pruning.keepers) == {}


async def test_many_schedules_each_keep_their_own(store: Store, clock: ManualClock, past: Past) -> None:
    for n in range(retention.SCHEDULES + 5):
        await make(store, f"s{n}", keep_last=1)
        await past.put(f"s{n}-old", f"s{n}-new", schedule_id=f"s{n}")
    assert await Pruner(store, clock)() == retention.SCHEDULES + 5
    assert await past.left() == {f"s{n}-new" for n in range(retention.SCHEDULES + 5)}


# --- what goes with them ------------------------------------------------------------------------------


async def test_attempts_go_with_their_execution_and_the_ledger_stays(
    store: Store, clock: ManualClock, past: Past
) -> None:
    row = schedule("s", next_fire_us=clock.wall_us() - 9 * DAY_US)
    await store.write(schedules.create, schedules.Create(rows=[row]))
    made = await store.read(lambda conn: schedules.get(conn, "s"))
    assert made is not None
    await past.put("a", "b", days=9)
    await store.write(schedules.release, [release_item(made, "x")])
    await past.put("c")
    stale = [Attempt(execution_id=id_, attempt=1, token=-1, node_id="n", outcome=AttemptOutcome.LOST) for id_ in "abc"]
    await store.write(executions.record_stale, stale)
    assert await past.attempts() == {"a", "b", "c"}
    await store.write(executions.cancel, ["x"])
    clock.advance(9 * DAY_S)
    await past.put("c2")

    await Pruner(store, clock, completed_s=10.0 * DAY_S, cancelled_s=1.0 * DAY_S)()

    assert await past.left() == {"c", "c2"}
    assert await past.attempts() == {"c"}
    [fire] = (await store.read(lambda conn: fires.find(conn, schedule_id="s"))).rows
    assert fire.execution_id == "x"


async def test_the_counters_are_right_after_it(store: Store, clock: ManualClock, past: Past) -> None:
    await past.put("a", "b", "c", days=9)
    await past.put("f", state=State.FAILED, days=9)
    await past.put("d")
    before = await past.stats()
    await Pruner(store, clock, completed_s=float(DAY_S), failed_s=float(DAY_S))()
    after = await past.stats()
    assert (before.total, after.total, after.lifetime) == (5, 1, 5)
    assert (after.by_state["completed"], after.by_state["failed"], after.by_state["pending"]) == (1, 0, 0)
    assert after.completed_run_us == 7
    assert after.handlers["demo"].by_state["open"] == 0


# --- in steps -----------------------------------------------------------------------------------------


async def test_each_transaction_deletes_a_bounded_number_and_is_followed_by_a_pause(
    store: Store, clock: ManualClock, past: Past
) -> None:
    count = retention.STEP_ROWS * 2 + 3
    await past.put(*(f"{n:05}" for n in range(count)), days=9)
    pruner = Pruner(store, clock, completed_s=float(DAY_S))
    sizes: list[int] = []
    write = store.write

    async def counted(verb: Any, arg: Any) -> Any:
        sizes.append(len(arg.seqs))
        return await write(verb, arg)

    store.write = counted  # type: ignore[method-assign]
    assert await pruner() == count
    assert sizes == [retention.STEP_ROWS, retention.STEP_ROWS, 3]
    assert len(pruner.pauses) >= 4
    assert min(pruner.pauses) >= retention.LEAST_PAUSE_S


def put_chunks(tx: Any, args: list[list[tuple[str, str, int, int]]]) -> list[None]:
    """(table, execution, number, size): logs and results, as far as retention is concerned."""
    for arg in args:
        for table, id_, number, size in arg:
            place = "line, byte, lines, last" if table == "log_chunks" else "first"
            values = f"{number}, 0, 1, 0" if table == "log_chunks" else str(number)
            tx.conn.execute(
                text(
                    f"INSERT INTO {table} (execution_id, token, {place}, bytes, created_us, body)"
                    f" VALUES (:id, 1, {values}, :size, 1, :body)"
                ),
                {"id": id_, "size": size, "body": b"\xa5" * size},
            )
    return [None] * len(args)


async def test_a_transaction_deletes_a_bounded_size_of_logs_and_results_but_one_execution_at_least(
    store: Store, clock: ManualClock, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP_BYTES", 1000)
    await past.put(*"abcdef", days=9)
    sizes = [("log_chunks", "a", 0, 400), ("log_chunks", "a", 1, 400), ("result_chunks", "b", 0, 200),
             ("result_chunks", "c", 0, 5000), ("log_chunks", "d", 0, 1000)]  # fmt: skip
    await store.write(put_chunks, sizes)
    steps: list[int] = []
    write = store.write

    async def counted(verb: Any, arg: Any) -> Any:
        steps.append(len(arg.seqs))
        return await write(verb, arg)

    store.write = counted  # type: ignore[method-assign]
    assert await Pruner(store, clock, completed_s=float(DAY_S))() == 6
    # a and b; c, which is larger than a step; d with the two that have nothing.
    assert steps == [2, 1, 3]
    for table in ("log_chunks", "result_chunks"):
        count = await store.read(lambda conn, table=table: conn.execute(text(f"SELECT count(*) FROM {table}")).scalar())
        assert count == 0


async def test_what_is_deleted_does_not_go_through_the_log_once_more(
    sqlite_store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    past = Past(sqlite_store, clock)
    await past.put("a", days=9)
    size = 4 << 20
    await sqlite_store.write(put_chunks, [("result_chunks", "a", 0, size)])
    written = log_bytes(tmp_path)

    assert await Pruner(sqlite_store, clock, completed_s=float(DAY_S))() == 1
    assert log_bytes(tmp_path) - written < size / 10


def log_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*-wal"))


async def test_a_step_that_took_long_is_followed_by_a_longer_pause(
    store: Store, clock: ManualClock, past: Past
) -> None:
    await past.put("a", days=9)
    pruner = Pruner(store, clock, completed_s=float(DAY_S))
    write = store.write

    async def slow(verb: Any, arg: Any) -> Any:
        clock.advance(0.1)
        return await write(verb, arg)

    store.write = slow  # type: ignore[method-assign]
    await pruner()
    assert max(pruner.pauses) == pytest.approx(0.1 * retention.PAUSE_RATIO)


async def test_a_round_that_goes_on_for_long_pauses_less(store: Store, clock: ManualClock, past: Past) -> None:
    await past.put(*(f"{n:05}" for n in range(retention.STEP_ROWS * 2)), days=9)
    pruner = Pruner(store, clock, completed_s=float(DAY_S))
    write = store.write

    async def slow(verb: Any, arg: Any) -> Any:
        clock.advance(0.1)
        return await write(verb, arg)

    async def sleep(seconds: float) -> None:
        pruner.pauses.append(seconds)
        clock.advance(retention.HURRY_AFTER_S / 2)

    store.write = slow  # type: ignore[method-assign]
    pruner.retention._sleep = sleep
    await pruner()
    assert pruner.pauses[1] == pytest.approx(0.1 * retention.PAUSE_RATIO)
    assert pruner.pauses[-1] == pytest.approx(0.1 * retention.HURRY_RATIO)


async def test_steps_get_smaller_while_the_writer_is_slow_and_larger_again(
    store: Store, clock: ManualClock, past: Past
) -> None:
    count = retention.STEP_ROWS * 4
    await past.put(*(f"{n:05}" for n in range(count)), days=9)
    pruner = Pruner(store, clock, completed_s=float(DAY_S))
    sizes: list[int] = []
    write = store.write

    async def slow(verb: Any, arg: Any) -> Any:
        sizes.append(len(arg))
        clock.advance(0.1 if len(sizes) <= 4 else 0.0)
        return await write(verb, arg)

    store.write = slow  # type: ignore[method-assign]
    assert await pruner() == count
    assert sizes[:8] == [200, 100, 50, 25, 25, 50, 100, 200]


async def test_a_round_that_was_cut_off_is_made_up_for_after_a_start(tmp_path: Path, clock: ManualClock) -> None:
    config = StoreConfig(durability="fast")
    store = Store.open(config, tmp_path, clock=clock)
    past = Past(store, clock)
    await past.put(*(f"{n:05}" for n in range(retention.STEP_ROWS * 3)), days=9)
    pruner = Pruner(store, clock, completed_s=float(DAY_S))
    pruner.retention._sleep = None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        await pruner()
    # As after a kill between two steps.
    seqs = [1, 2, 3]
    assert await store.write(pruning.prune, Prune(seqs)) == 3
    await store.close()

    store = Store.open(config, tmp_path, clock=clock)
    past = Past(store, clock)
    assert await Pruner(store, clock, completed_s=float(DAY_S))() == retention.STEP_ROWS * 3 - 3
    stats = await past.stats()
    assert (stats.total, stats.lifetime) == (0, retention.STEP_ROWS * 3)
    await store.close()


async def test_a_round_goes_on_where_the_last_one_stopped_and_looks_at_all_once_an_hour(
    store: Store, clock: ManualClock, past: Past
) -> None:
    await past.put("kept", state=State.FAILED, days=9, letter=LETTER)
    await past.put("young", state=State.FAILED, days=0.5)
    pruner = Pruner(store, clock, failed_s=float(DAY_S))
    await pruner()
    await store.write(dead_letters.discard, dead_letters.Discard(id="d", ids=["kept"], by="me"))
    clock.advance(60)
    assert await pruner() == 0
    clock.advance(DAY_S / 2)
    assert await pruner() == 2


async def test_what_was_cleared_meanwhile_is_not_counted_twice(store: Store, clock: ManualClock, past: Past) -> None:
    await past.put("a", "b")
    [seq, *_] = [row[0] for row in await store.read(lambda c: c.execute(text("SELECT seq FROM executions")).all())]
    assert await store.write(pruning.prune, Prune([seq, seq + 1000])) == 1
    assert await store.write(pruning.prune, Prune([seq])) == 0
    stats = await past.stats()
    assert (stats.total, stats.lifetime) == (1, 2)


async def test_a_letter_or_an_open_one_is_not_pruned_even_if_it_is_named(
    store: Store, clock: ManualClock, past: Past
) -> None:
    await past.put("a", state=State.FAILED, letter=LETTER)
    await past.put("b", state=State.PENDING)
    seqs = [row[0] for row in await store.read(lambda c: c.execute(text("SELECT seq FROM executions")).all())]
    assert await store.write(pruning.prune, Prune(seqs)) == 0
    assert await past.left() == {"a", "b"}


async def test_pruning_tells_no_events(store: Store, clock: ManualClock, past: Past) -> None:
    await past.put("a", days=9)
    told: list[tuple[int, Event]] = []
    store.on_commit(told.extend)
    await Pruner(store, clock, completed_s=float(DAY_S))()
    assert told == []
