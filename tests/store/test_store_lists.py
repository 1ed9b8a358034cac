"""Lists: newest first, by keyset, and the same whatever the filter walks along."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest

from schedule_zero.errors import InvalidField
from schedule_zero.model import Execution, State
from schedule_zero.store import Store, execution_lists, execution_walks, executions
from schedule_zero.store.executions import Filter
from tests.store.builders import T0, execution, insert

pytestmark = pytest.mark.anyio

HOUR_US = 3_600_000_000


def many(count: int) -> list[Execution]:
    """Executions of all states, three handlers, some schedules, one a minute."""
    dice = random.Random(7)
    return [
        execution(
            f"e{n:05}",
            handler_id=dice.choice(["h1", "h2", "h3"]),
            job_method=dice.choice(["a", "b"]),
            schedule_id=dice.choice([None, None, "s1", "s2"]),
            state=dice.choice(list(State)),
            node_id=dice.choice([None, "n1"]),
            created_us=T0 + n * 60_000_000,
        )
        for n in range(count)
    ]


def matches(row: Execution, wanted: Filter) -> bool:
    """The filter in plain words."""
    return (
        wanted.handler_id in (None, row.handler_id)
        and wanted.schedule_id in (None, row.schedule_id)
        and wanted.job_method in (None, row.job_method)
        and wanted.node_id in (None, row.node_id)
        and (not wanted.states or row.state in wanted.states)
        and (wanted.since_us is None or row.created_us >= wanted.since_us)
        and (wanted.until_us is None or row.created_us <= wanted.until_us)
    )


async def walk(store: Store, wanted: Filter) -> list[str]:
    """Every page of a list, by id."""
    found: list[str] = []
    for _ in range(10_000):
        page = await store.read(lambda conn: executions.find(conn, wanted))
        assert len(page.rows) <= wanted.limit
        found += [row.id for row in page.rows]
        if page.next_cursor is None:
            return found
        wanted.cursor = page.next_cursor
    raise AssertionError("the list never ends")


def filters() -> Iterator[dict[str, Any]]:
    """Every combination that walks along another index, with and without bounds."""
    keys: list[dict[str, Any]] = [
        {},
        {"handler_id": "h1"},
        {"schedule_id": "s1"},
        {"schedule_id": "s2", "handler_id": "h2"},
    ]
    states: list[list[State]] = [
        [],
        [State.COMPLETED],
        [State.FAILED],
        [State.RUNNING, State.PENDING],
        [State.COMPLETED, State.FAILED, State.DEAD],
        list(State),
    ]
    others: list[dict[str, Any]] = [
        {},
        {"job_method": "a"},
        {"node_id": "n1"},
        {"since_us": T0 + HOUR_US},
        {"until_us": T0 + HOUR_US + HOUR_US // 2, "since_us": T0 + HOUR_US},
    ]
    for key, chosen, other in itertools.product(keys, states, others):
        yield {**key, "states": chosen, **other}


async def every_filter_finds_what_it_says(store: Store, scan_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution_lists, "SCAN_ROWS", scan_rows)
    # As if there were many, so that states are walked along as well.
    monkeypatch.setattr(execution_walks, "FEW_ROWS", 5)
    rows = many(150)
    await insert(store, *rows)

    for fields in filters():
        wanted = Filter(**fields, limit=17)
        expected = [row.id for row in reversed(rows) if matches(row, wanted)]
        assert await walk(store, wanted) == expected, fields


async def test_every_filter_finds_what_it_says_newest_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await every_filter_finds_what_it_says(store, 50_000, monkeypatch)


async def test_a_walk_that_is_cut_short_goes_on_with_the_next_page(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await every_filter_finds_what_it_says(sqlite_store, 7, monkeypatch)


async def test_a_page_is_not_disturbed_by_what_is_inserted_meanwhile(store: Store) -> None:
    await insert(store, *many(20))
    first = await store.read(lambda conn: executions.find(conn, Filter(limit=10)))

    await insert(store, execution("new"))
    second = await store.read(lambda conn: executions.find(conn, Filter(limit=10, cursor=first.next_cursor)))

    assert [row.id for row in [*first.rows, *second.rows]] == [f"e{n:05}" for n in reversed(range(20))]
    assert second.next_cursor is None


async def test_errors_are_the_bad_ends(store: Store) -> None:
    await insert(store, *(execution(state.value, state=state) for state in State))

    page = await store.read(lambda conn: executions.errors(conn, limit=10))

    assert [row.id for row in page.rows] == ["dead", "timeout", "failed"]


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "٣", "9" * 40])
async def test_a_cursor_that_no_page_came_with_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidField) as caught:
        await store.read(lambda conn: executions.find(conn, Filter(cursor=cursor)))

    assert caught.value.pointer == "/cursor"


async def test_a_page_of_large_documents_ends_early_and_nothing_is_left_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution_lists, "PAGE_BYTES", 1000)
    document = b'"' + b"x" * 398 + b'"'
    rows = [execution(f"e{n}", params=document, result=document if n == 5 else None) for n in range(8)]
    rows.append(execution("huge", error=b'"' + b"x" * 5000 + b'"'))
    await insert(store, *rows)

    first = await store.read(lambda conn: executions.find(conn, Filter(limit=5)))
    assert [row.id for row in first.rows] == ["huge"]
    for wanted in (Filter(limit=5), Filter(limit=5, states=[State.PENDING, State.FAILED])):
        assert await walk(store, wanted) == [row.id for row in reversed(rows)]


async def test_an_empty_store_has_empty_lists(store: Store) -> None:
    for fields in filters():
        assert await walk(store, Filter(**fields)) == []
    assert await store.read(executions.running) == []
    assert await store.read(executions.next_due_us) is None
    assert (await store.read(executions.stats)).total == 0


PLANS = [
    ({}, "SCAN executions"),
    ({"handler_id": "h1"}, "ix_executions_handler"),
    ({"schedule_id": "s1"}, "ix_executions_schedule"),
    ({"group_id": "g1"}, "ix_executions_group"),
    ({"states": [State.RUNNING]}, "ix_executions_state"),
    ({"states": [State.FAILED]}, "ix_executions_state"),
    ({"states": [State.FAILED], "handler_id": "h1"}, "COVERING INDEX ix_executions_state"),
    ({"states": [State.FAILED], "schedule_id": "s1"}, "COVERING INDEX ix_executions_state"),
    ({"states": [State.COMPLETED], "handler_id": "h1"}, "ix_executions_handler"),
]


@pytest.mark.parametrize(("fields", "index"), PLANS)
async def test_a_list_walks_along_its_index_and_never_sorts_the_history(
    sqlite_store: Store, fields: dict[str, Any], index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The promise behind W7: a page doesn't get slower with the history."""
    # As if there were many of everything.
    monkeypatch.setattr(execution_walks, "FEW_ROWS", -1)
    wanted = Filter(**fields)

    def plan(conn: Any) -> str:
        [walked] = execution_walks.walks(conn, wanted)
        way = execution_lists.Way(conn, wanted, walked, execution_lists.Span(10**9, 0), scan=1000)
        sql, order, constants = execution_lists._page_query(way.shape)._compile(conn)
        given = {**constants, **way._values, "most": 51, "page_bytes": 1 << 20, "scan": 1000}
        rows = conn.exec_driver_sql("EXPLAIN QUERY PLAN " + sql, tuple(given[name] for name in order)).fetchall()
        return "\n".join(row[3] for row in rows)

    found = await sqlite_store.read(plan)

    walking = [
        line for line in found.splitlines() if index in line or line == "SEARCH executions USING INTEGER PRIMARY KEY"
    ]
    assert index in found or index == "SCAN executions", found
    assert walking or "rowid" in found, found
    # The page itself (51 rows) may be sorted, what is walked may not.
    assert found.count("USE TEMP B-TREE FOR ORDER BY") == 0, found
