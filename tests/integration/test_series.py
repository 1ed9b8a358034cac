"""The series behind the charts: each counts once, whatever becomes of a flush, of the clock or of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from schedule_zero.config import StoreConfig
from schedule_zero.errors import InvalidField, StoreUnavailable
from schedule_zero.model import State
from schedule_zero.ops.series import MOST_WAITING, Series
from schedule_zero.rules.series import HOUR_US, MINUTE_US, Stats, bounds_of
from schedule_zero.service.series import SeriesService, SeriesView
from schedule_zero.store import Store, executions
from schedule_zero.store import series as store_series
from schedule_zero.store.executions import Insert
from tests.integration.timing_bed import FailingStore
from tests.store.builders import T0, end_item, execution, running
from tests.support import ManualClock

pytestmark = pytest.mark.anyio

START_US = T0 - T0 % HOUR_US
DAY_US = 24 * HOUR_US


class Life:
    """One life of a server, as far as its series go. The clock stands at a quarter past the hour."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.faults = FailingStore(store)
        self.running = 0
        self.series = Series(store=cast("Store", self.faults), clock=clock, running=lambda: self.running)
        self.service = SeriesService(store=store, series=self.series, clock=clock)
        self._made = 0

    async def complete(self, count: int, state: State = State.COMPLETED) -> None:
        """So many executions come and end now."""
        names = [(f"{self.store.epoch}-{self._made + n}", self._made + n) for n in range(count)]
        self._made += count
        await self.store.write(executions.insert, Insert(rows=[running(id_, n) for id_, n in names]))
        await self.store.write(executions.end, [end_item(id_, n, state) for id_, n in names])

    async def stored(self) -> dict[int, int]:
        """Minute → how many executions were created in it."""
        rows = await self.store.read(lambda conn: store_series.between(conn, MINUTE_US, 0, 1 << 62))
        return {start_us: stats.created for start_us, stats in rows}

    async def shown(self, hours: int = 1) -> int:
        """How many executions were created in the last hours, by the charts."""
        return created(await self.service.read(self.clock.wall_us() - hours * HOUR_US))


def created(view: SeriesView) -> int:
    return sum(bucket.stats.created for bucket in view.buckets)


class Lives:
    """One after the other, on one database."""

    def __init__(self, state_dir: Path, clock: ManualClock) -> None:
        self._state_dir = state_dir
        self._clock = clock
        self._store: Store | None = None

    async def begin(self) -> Life:
        """The one before was killed, unless it has flushed."""
        await self.end()
        self._store = Store.open(StoreConfig(durability="fast"), self._state_dir, clock=self._clock)
        life = Life(self._store, self._clock)
        await life.series.load()
        return life

    async def end(self) -> None:
        if self._store is not None:
            await self._store.close()


@pytest.fixture
async def lives(tmp_path: Path) -> AsyncIterator[Lives]:
    made = Lives(tmp_path, ManualClock(START_US + 15 * MINUTE_US))
    yield made
    await made.end()


@pytest.fixture
async def life(lives: Lives) -> Life:
    return await lives.begin()


NOW_US = START_US + 15 * MINUTE_US

# --- counting -------------------------------------------------------------------------------------


async def test_what_ends_is_counted_in_its_minute_and_shown_before_it_is_written(life: Life) -> None:
    await life.complete(2)
    life.clock.advance(60)
    await life.complete(3, State.FAILED)

    view = await life.service.read()

    assert await life.stored() == {}
    assert [(one.from_us, one.stats.ended) for one in view.buckets if one.stats.ended] == [
        (NOW_US, {"completed": 2}),
        (NOW_US + MINUTE_US, {"failed": 3}),
    ]
    assert view.failed == [("demo", 3)]
    assert (view.buckets[-1].from_us, view.step_us) == (NOW_US + MINUTE_US, MINUTE_US)


async def test_how_late_it_was_how_long_it_waited_and_ran_are_three_things(life: Life) -> None:
    now_us = life.clock.wall_us()
    fire = running("a", 1, nominal_us=now_us - 3_000_000, created_us=now_us - 1_000_000)
    # It was to start two seconds after it was created.
    delayed = running("b", 2, created_us=now_us - 10_000_000, not_before_us=now_us - 8_000_000)
    waiting = execution("c", created_us=now_us - 50_000_000)
    lost_before = running("d", 3, created_us=now_us - 90_000_000, lost_count=1)

    life.series.fired([fire])
    life.series.sent([fire, delayed, waiting, lost_before])
    ran = end_item("a", 1, started_us=now_us, finished_us=now_us + 500_000)
    life.series.ran([ran, end_item("b", 2, started_us=None)])

    [stats] = [stats for _, stats in life.series.recent(now_us - now_us % MINUTE_US, now_us + 1)]
    for times, lengths_us in (
        (stats.lateness, [2_000_000]),
        (stats.queue_wait, [1_000_000, 8_000_000]),
        (stats.run_time, [500_000]),
    ):
        assert sorted(times.values()) == [1] * len(lengths_us)
        for place, us in zip(sorted(times), lengths_us, strict=True):
            low, high = bounds_of(place)
            assert low <= us < high


async def test_how_much_is_open_and_running_is_seen_at_each_look(life: Life) -> None:
    await life.store.write(executions.insert, Insert(rows=[execution("a"), running("b", 1)]))
    life.running = 1

    last = (await life.service.read()).buckets[-1].stats

    assert (last.open, last.running) == (2, 1)


# --- writing --------------------------------------------------------------------------------------


async def test_an_orderly_restart_loses_nothing_and_the_minute_goes_on(lives: Lives) -> None:
    first = await lives.begin()
    await first.complete(2)
    await first.series.flush()
    await first.complete(1)
    await first.series.flush(ends=True)

    second = await lives.begin()
    await second.complete(4)

    assert await second.shown() == 7
    await second.series.flush()
    assert await second.stored() == {NOW_US: 7}
    assert await second.shown() == 7


async def test_a_killed_server_loses_what_it_counted_since_its_last_flush_and_nothing_else(lives: Lives) -> None:
    first = await lives.begin()
    await first.complete(2)
    await first.series.flush()
    await first.complete(5)

    assert await (await lives.begin()).shown() == 2


async def test_what_could_not_be_written_is_written_with_the_next_flush_once(life: Life) -> None:
    await life.complete(2)
    life.faults.failing_writes = 1
    with pytest.raises(StoreUnavailable):
        await life.series.flush()
    await life.complete(1)

    assert await life.shown() == 3
    await life.series.flush()
    await life.series.flush()
    assert await life.stored() == {NOW_US: 3}
    assert await life.shown() == 3


async def test_a_flush_that_nobody_waits_for_any_more_counts_once(life: Life) -> None:
    await life.complete(2)
    flush = asyncio.create_task(life.series.flush())
    await asyncio.sleep(0)
    flush.cancel()
    await asyncio.wait([flush])
    assert flush.cancelled()

    # As a stop does it.
    await life.complete(1)
    await life.series.flush(ends=True)

    assert await life.stored() == {NOW_US: 3}
    assert await life.shown() == 3


async def test_what_is_being_written_is_shown_once(life: Life) -> None:
    await life.complete(2)
    flush = asyncio.create_task(life.series.flush())
    await asyncio.sleep(0)

    [(_, stats)] = life.series.recent(NOW_US, NOW_US + MINUTE_US)

    assert stats.created == 2
    await flush


async def test_a_minute_in_which_nothing_happened_is_written_when_it_is_over(life: Life) -> None:
    await life.series.flush()
    assert await life.stored() == {}
    life.clock.advance(60)
    await life.series.flush()

    rows = await life.store.read(lambda conn: store_series.between(conn, MINUTE_US, 0, 1 << 62))
    assert rows == [(NOW_US, Stats(open=0, running=0))]


async def test_a_clock_that_is_set_back_adds_to_what_was_counted_then(life: Life) -> None:
    await life.complete(2)
    await life.series.flush()
    for _ in range(5):
        life.clock.advance(3_600)
        await life.complete(1)
        await life.series.flush()
    life.clock.step_wall(-5 * 3_600)

    await life.complete(4)
    await life.series.flush()

    assert (await life.stored())[NOW_US] == 6
    assert created(await life.service.read(NOW_US - HOUR_US, NOW_US + 6 * HOUR_US)) == 6
    life.clock.step_wall(5 * 3_600)
    assert await life.shown(hours=6) == 11


async def test_no_more_minutes_wait_for_the_store_than_there_may(life: Life) -> None:
    life.faults.failing_writes = MOST_WAITING + 20
    for _ in range(MOST_WAITING + 20):
        life.clock.advance(60)
        with pytest.raises(StoreUnavailable):
            await life.series.flush(ends=True)
    await life.series.flush(ends=True)

    assert len(await life.stored()) == MOST_WAITING


# --- reading --------------------------------------------------------------------------------------


async def test_minutes_that_memory_has_let_go_of_are_read_from_the_store(life: Life) -> None:
    for _ in range(4 * 60):
        await life.complete(1)
        await life.series.flush()
        life.clock.advance(60)

    assert len(life.series._kept) <= 120
    assert await life.shown() == 60
    assert await life.shown(hours=3) == 180
    assert await life.shown(hours=30) == 240


async def test_the_last_hour_costs_no_read(life: Life) -> None:
    await life.complete(2)
    await life.complete(1, State.TIMEOUT)
    life.clock.advance(120)
    await life.store.close()

    spark = life.service.spark()

    assert (len(spark.completed), spark.completed[-3:], spark.failed[-3:]) == (60, [2, 0, 0], [1, 0, 0])
    assert (spark.open[-1], spark.open[-2], spark.fires[-1]) == (0, None, 0)
    assert len((await life.service.read()).buckets) == 61


async def test_a_week_is_read_by_the_hour(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    now_us = life.clock.wall_us()
    first_us = now_us - 7 * DAY_US
    there = {first_us + index * MINUTE_US: Stats(created=1, run_time={9: 2}, open=index) for index in range(7 * 1_440)}
    await life.store.write(store_series.add, there)
    await life.series.load()
    reads: list[int] = []
    monkeypatch.setattr(life.store, "read", counting(life.store.read, reads))

    week = await life.service.read(first_us)
    day = await life.service.read(now_us - DAY_US)

    assert (week.step_us, len(week.buckets), created(week)) == (HOUR_US, 169, 7 * 1_440)
    # The first one began a quarter of an hour before the range, and what is counted in the last one is yet to come.
    assert {bucket.stats.created for bucket in week.buckets} == {45, 60, 15}
    assert [bucket.stats.open for bucket in week.buckets[-2:]] == [7 * 1_440 - 16, 0]
    assert (day.step_us, len(day.buckets), created(day)) == (10 * MINUTE_US, 145, 1_440 + 5)
    assert len(reads) == 2


def counting(read: Any, calls: list[int]) -> Any:
    async def counted(query: Any) -> Any:
        calls.append(1)
        return await read(query)

    return counted


@pytest.mark.parametrize(
    ("from_us", "to_us", "step_s", "parameter"),
    [
        (NOW_US, NOW_US, None, "until"),
        (NOW_US, NOW_US - 1, None, "until"),
        (0, NOW_US, None, "since"),
        (NOW_US - DAY_US, NOW_US, 60, "step_s"),
    ],
)
async def test_a_range_that_makes_no_chart_is_refused_by_name(
    life: Life, from_us: int, to_us: int, step_s: float | None, parameter: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        await life.service.read(from_us, to_us, step_s)

    assert caught.value.data["parameter"] == parameter


async def test_a_range_that_is_all_to_come_has_no_buckets(life: Life) -> None:
    view = await life.service.read(NOW_US + HOUR_US, NOW_US + 2 * HOUR_US)

    assert view.buckets == []
