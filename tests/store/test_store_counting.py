"""How many a filter finds and when they were created: exactly, or sampled and saying so."""

from __future__ import annotations

from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from schedule_zero.model import Execution, State
from schedule_zero.rules.buckets import buckets
from schedule_zero.rules.search import bounds_us
from schedule_zero.rules.search_parse import parse
from schedule_zero.store import Store, execution_counting, execution_lists, executions
from schedule_zero.store.execution_counting import Basis, Histogram
from schedule_zero.store.executions import Filter
from tests.store.builders import end_item, execution, insert, running
from tests.support import ManualClock

pytestmark = pytest.mark.anyio

M, H = 60_000_000, 3_600_000_000
UTC = ZoneInfo("UTC")
# On the hour.
START = 1_700_002_800_000_000
NOW_US = START + 10 * H


def rows(count: int) -> list[Execution]:
    """One a minute; every fifth failed, every second is of another handler."""
    return [
        execution(
            f"e{n:04}",
            created_us=START + n * M,
            handler_id="demo" if n % 2 else "other",
            state=State.COMPLETED if n % 5 else State.FAILED,
            node_id="n1",
        )
        for n in range(count)
    ]


def filter_of(text: str, **fields: Any) -> Filter:
    search = parse(text)
    since_us, until_us = bounds_us(search, NOW_US, UTC)
    return Filter(terms=search.terms, since_us=since_us, until_us=until_us, now_us=NOW_US, **fields)


async def count(store: Store, text: str) -> int:
    wanted, total = filter_of(text), 0
    for _ in range(1000):
        n, reached = await store.read(lambda conn: execution_counting.count(conn, wanted))
        total += n
        if not reached:
            return total
        wanted.cursor = str(reached)
    raise AssertionError("it never ends")


async def histogram(store: Store, text: str) -> Histogram:
    divide = partial(buckets, zone=UTC)
    return await store.read(lambda conn: execution_counting.histogram(conn, filter_of(text), divide))


@pytest.mark.parametrize("scan_rows", [20_000, 11])
async def test_all_are_counted_step_by_step(store: Store, monkeypatch: pytest.MonkeyPatch, scan_rows: int) -> None:
    monkeypatch.setattr(execution_lists, "SCAN_ROWS", scan_rows)
    await insert(store, *rows(100))
    for text, expected in {"": 100, "state:failed": 20, "handler:demo": 50, "-state:completed": 20, "node:n2": 0,
                           "handler:demo,other state:failed": 20, "nothing": 0, "state:open": 0,
                           "until:9h": 61}.items():  # fmt: skip
        assert await count(store, text) == expected, text


async def test_a_histogram_counts_all_where_they_are_few(store: Store) -> None:
    await insert(store, *rows(150))

    found = await histogram(store, "handler:demo")

    assert found.total == 75
    assert sum(n or 0 for n in found.counts) == 75
    assert sum(n or 0 for n in found.failed) == 15
    assert found.sampled_us is None
    assert (found.edges[0], found.edges[1] - found.edges[0]) == (START, 15 * M)
    assert found.counts[:2] == [7, 8]
    assert found.counts[-1] == 0


async def test_a_histogram_is_of_the_time_that_is_asked_for(store: Store) -> None:
    await insert(store, *rows(150))

    found = await histogram(store, "since:9h until:8h")

    assert found.total == 61
    assert found.edges[0] == START + H
    assert found.edges[-1] > START + 2 * H


async def test_a_histogram_of_many_is_a_sample_of_the_newest_and_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution_lists, "SCAN_ROWS", 30)
    await insert(store, *rows(150))

    whole = await histogram(store, "node:n1")
    asked = await histogram(store, "node:n1 since:10h")

    # The newest thirty, and only the time that they are of.
    assert (whole.total, whole.sampled_us) == (30, START + 120 * M)
    assert whole.edges[0] <= START + 120 * M < whole.edges[1]
    assert None not in whole.counts
    # The time that was asked for; what was not looked at is not said to be nothing.
    assert asked.total == 30
    assert asked.counts[0] is None
    assert asked.counts[-1] == 0


async def test_hourly_counters_tell_of_any_number_where_they_know_enough(
    store: Store, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    monkeypatch.setattr(execution_lists, "SCAN_ROWS", 5)
    clock.step_wall((START - clock.wall_us()) / 1e6)
    for hour in range(3):
        now = clock.wall_us()
        made = [running(f"e{hour}{n}", hour * 10 + n + 1, created_us=now) for n in range(8)]
        await insert(store, *made)
        ends = [end_item(row.id, row.token, State.FAILED if n < 2 else State.COMPLETED) for n, row in enumerate(made)]
        await store.write(executions.end, ends)
        clock.advance(3600)

    created = await histogram(store, "handler:demo")
    failed = await histogram(store, "state:failed,timeout")
    nobody = await histogram(store, "handler:nobody")
    other = await histogram(store, "handler:demo node:n1")

    assert (created.total, created.basis, created.with_cleared, created.sampled_us) == (24, Basis.CREATED, True, None)
    assert created.counts[:4] == [8, 8, 8, 0]
    assert (failed.total, failed.basis, failed.failed[:3]) == (6, Basis.ENDED, [2, 2, 2])
    assert nobody.total == 0
    assert other.sampled_us is not None


async def test_nothing_has_an_empty_histogram(store: Store) -> None:
    for text in ("", "state:failed", "since:2h node:x", "state:failed state:dead"):
        found = await histogram(store, text)
        assert (found.total, set(found.counts), found.sampled_us) == (0, {0}, None)
