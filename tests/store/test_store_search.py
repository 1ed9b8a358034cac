"""Searching executions: each qualifier finds what it says on both databases, and no page looks at more than it may."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from schedule_zero.model import Execution, Origin, State
from schedule_zero.rules.search_parse import parse
from schedule_zero.store import Store, execution_lists, execution_walks, executions
from schedule_zero.store.executions import Filter
from tests.store.builders import T0, execution, insert

pytestmark = pytest.mark.anyio

S = 1_000_000
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def ulid(n: int) -> str:
    return "01k" + "".join(ALPHABET[n >> shift & 31] for shift in range(110, -1, -5))


def error(type_: str, message: str) -> bytes:
    return json.dumps({"type": type_, "message": message, "traceback": "in secret_function"}).encode()


def row(n: int, **fields: Any) -> Execution:
    params = fields.pop("params", {})
    return execution(ulid(n), created_us=T0 + n * S, params=json.dumps(params).encode(), **fields)


ROWS = [
    row(0, handler_id="etl", job_method="load", state=State.COMPLETED, node_id="n1", origin=Origin.FIRE,
        schedule_id="nightly-eu", started_us=T0, finished_us=T0 + 12 * S, attempt=1, params={"customer": 42}),
    row(1, handler_id="etl", job_method="dump", state=State.FAILED, node_id="n2", attempt=3, schedule_id="nightly_us",
        started_us=T0, finished_us=T0 + 2 * S, error=error("ValueError", "no route to Host 10.0.0.1"),
        params={"customer": "42", "deep": {"a": [{"b": True}, {"b": None}]}}),
    row(2, handler_id="etl.eu", job_method="load", state=State.TIMEOUT, node_id="n3", attempt=2,
        error=error("Timeout", "took too long: 100%_sure"), params={"customer": 42.0, "größe": "groß"}),
    row(3, handler_id="mailer", job_method="send", state=State.RUNNING, node_id="n3", attempt=1, started_us=T0 + 3 * S,
        concurrency_key="customer-7", params={"flag": True, "n": 10, "text": "a [b] c*d_e%f"}),
    row(4, handler_id="mailer", job_method="send", state=State.PENDING, rate_key="customer-7", priority=9,
        params={"flag": 1, "n": 9.5, "nothing": None}),
    row(5, handler_id="mailer", job_method="bulk", state=State.SCHEDULED, not_before_us=T0 + 99 * S,
        sticky_key="customer-8", params={"n": "11", "list": [1, 2, "x"], "a.b": 1}),
    row(6, handler_id="report", job_method="make", state=State.DEAD, group_id="g1", idempotency_key="customer-7",
        error=error("NodeLost", "the node went away"), lost_count=3, params={"customer": "42 "}),
    row(7, handler_id="report", job_method="make", state=State.CANCELLED, group_id="g1", origin=Origin.RETRY,
        unique_key="report.make:customer-7", params={"big": 12345678901234567890123, "customer": False}),
    row(8, handler_id="report", job_method="make", state=State.MISFIRED, group_id="g2", origin=Origin.BACKFILL,
        schedule_id="nightly-eu", params={"customer": {"id": 42}, "nul": "\0", "quote": 'say "hi"'}),
    row(9, handler_id="report", job_method="make", state=State.RETRY_SCHEDULED, attempt=1, not_before_us=T0 + 99 * S,
        error=error("KeyError", "'customer'"), params={}),
    row(10, handler_id="Report", job_method="Make", state=State.BLOCKED, origin=Origin.RUN_NOW,
        params={"customer": []}),
]  # fmt: skip
NOW_US = T0 + 63 * S

FOUND: list[tuple[str, list[int]]] = [
    ("", [*range(11)]),
    ("state:failed", [1]),
    ("state:open", [3, 4, 5, 9, 10]),
    ("state:over -state:completed", [1, 2, 6, 7, 8]),
    ("state:failed-like", [1, 2, 6]),
    ("state:failed state:dead", []),
    ("handler:etl", [0, 1]),
    ("handler:etl*", [0, 1, 2]),
    ("handler:etl,mailer state:open", [3, 4, 5]),
    ("-handler:etl*,report", [3, 4, 5, 10]),
    ("handler:report", [6, 7, 8, 9]),
    ("handler:*", [*range(11)]),
    ("job:etl.load", [0]),
    ("job:etl.*", [0, 1, 2]),
    ("job:*.load", [0, 2]),
    ("job:etl.eu.load", [2]),
    ("job:e*.l*d,mailer.send", [0, 2, 3, 4]),
    ("job:nobody.*", []),
    ("schedule:nightly-eu", [0, 8]),
    ("schedule:nightly*", [0, 1, 8]),
    # A star is the only one that stands for others.
    ("schedule:nightly_*", [1]),
    ("schedule:nightly?eu", []),
    ("-schedule:*", [2, 3, 4, 5, 6, 7, 9, 10]),
    ("-schedule:nightly-eu handler:report,etl", [1, 6, 7, 9]),
    ("node:n3", [2, 3]),
    ("node:n*", [0, 1, 2, 3]),
    ("-node:n3 state:open", [4, 5, 9, 10]),
    ("group:g1", [6, 7]),
    ("group:g1,g2 state:misfired", [8]),
    ("-group:g1 handler:report", [8, 9]),
    ("key:customer-7", [3, 4, 6, 7]),
    ("key:customer-*", [3, 4, 5, 6, 7]),
    ("key:report.make:customer-7", [7]),
    ("-key:* state:open", [9, 10]),
    ("origin:retry,backfill", [7, 8]),
    ("attempt:1", [0, 3, 9]),
    ("attempt:>1", [1, 2]),
    ("attempt:<1 handler:report", [6, 7, 8]),
    ("took:>10s", [0, 3]),
    ("took:>1m", []),
    # What runs has taken as long as it runs.
    ("took:>=1m", [3]),
    ("took:<10s", [1]),
    ("arg.customer:42", [0, 1, 2]),
    ("arg.customer:42 -handler:etl", [2]),
    ("arg.customer:42*", [0, 1, 2, 6]),
    ("-arg.customer:42 handler:etl,etl.eu,report", [6, 7, 8, 9]),
    ("arg.customer:*", [0, 1, 2, 6, 7, 8, 10]),
    ("arg.customer:false", [7]),
    ("arg.customer.id:42", [8]),
    ("arg.deep.a[0].b:true", [1]),
    ("arg.deep.a[1].b:null", [1]),
    ("arg.deep.a[1].b:*", []),
    ("arg.deep.a[2].b:*", []),
    ("arg.flag:true", [3]),
    ("arg.flag:1", [4]),
    ("arg.flag:t*", [3]),
    ("arg.n:10", [3]),
    ("arg.n:>9", [3, 4]),
    ("arg.n:<=9.5", [4]),
    ('arg.n:"11"', [5]),
    ("arg.nothing:null", [4]),
    ("arg.nothing:*", []),
    ("arg.list[2]:x", [5]),
    ("arg.list[0]:1", [5]),
    ("arg.list:x", []),
    ('arg."a.b":1', [5]),
    ("arg.a.b:1", []),
    ("arg.größe:groß", [2]),
    ('arg.text:"a [b] c*d_e%f"', [3]),
    ('arg.text:"a [b"*"*d_e%"*', [3]),
    ('arg.text:"a _b"*', []),
    ("arg.big:12345678901234567890123", [7]),
    ("arg.quote:*hi*", [8]),
    ('arg.quote:"say \\"hi\\""', [8]),
    ("arg.nul:*", [8]),
    ('error:"no route to host"', [1]),
    ('error:"valueerror: no"', [1]),
    ("error:100%_s", [2]),
    ("error:secret_function", []),
    ("-error:e state:failed-like", []),
    ("-error:route state:failed-like", [2, 6]),
    (f"id:{ulid(4)},{ulid(5)}", [4, 5]),
    (f"id:{ulid(4).upper()}", [4]),
    (f"id:{ulid(0)[:-1]}", [*range(11)]),
    (f"-id:{ulid(4)} handler:mailer", [3, 5]),
    ("id:zzz", []),
    # Words: how an id begins, or something in an error.
    (ulid(7), [7]),
    (ulid(7).upper(), [7]),
    ("customer", [9]),
    ("ROUTE", [1]),
    ("route host", [1]),
    ("route nothing", []),
    ("-01k", []),
    ("-went", [0, 1, 2, 3, 4, 5, 7, 8, 9, 10]),
    ("0", [*range(11)]),
]


def filter_of(text: str, **fields: Any) -> Filter:
    return Filter(terms=parse(text).terms, now_us=NOW_US, **fields)


async def every_page(store: Store, wanted: Filter) -> list[str]:
    found: list[str] = []
    for _ in range(10_000):
        page = await store.read(lambda conn: executions.find(conn, wanted))
        found += [row.id for row in page.rows]
        if page.next_cursor is None:
            assert page.searched_us is None
            return found
        wanted.cursor = page.next_cursor
    raise AssertionError("the list never ends")


async def test_each_qualifier_finds_what_it_says(store: Store) -> None:
    await insert(store, *ROWS)
    for text, expected in FOUND:
        found = await every_page(store, filter_of(text, limit=3))
        assert [ROWS[n].id for n in sorted(expected, reverse=True)] == found, text


async def test_a_search_narrows_what_the_other_filters_find(store: Store) -> None:
    await insert(store, *ROWS)
    found = await every_page(
        store, filter_of("state:over", handler_id="report", since_us=T0 + 7 * S, states=[State.MISFIRED, State.PENDING])
    )
    assert found == [ROWS[8].id]


@pytest.mark.parametrize("scan_rows", [1, 7, 50])
async def test_a_search_that_is_cut_short_finds_the_same_page_by_page(
    store: Store, monkeypatch: pytest.MonkeyPatch, scan_rows: int
) -> None:
    monkeypatch.setattr(execution_lists, "SCAN_ROWS", scan_rows)
    await insert(store, *ROWS)
    for text, expected in FOUND[::5]:
        found = await every_page(store, filter_of(text, limit=3))
        assert [ROWS[n].id for n in sorted(expected, reverse=True)] == found, text


async def test_a_page_that_was_cut_short_says_back_to_when_it_has_searched(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution_lists, "SCAN_ROWS", 4)
    await insert(sqlite_store, *ROWS)

    first = await sqlite_store.read(lambda conn: executions.find(conn, filter_of("origin:fire")))
    full = await sqlite_store.read(lambda conn: executions.find(conn, filter_of("-origin:run_now", limit=1)))

    assert (first.rows, first.searched_us) == ([], ROWS[7].created_us)
    assert first.next_cursor is not None
    assert full.searched_us is None


WIDE = [
    "node:nobody", "-node:n1", "key:nobody", "key:nobody*", "origin:backfill", "attempt:>5", "took:>1h", "arg.n:-1",
    "arg.n:>1000000", "arg.who:x*", "job:*.nothing", "schedule:*-nothing", "handler:*x", "-state:completed node:nobody",
    "error:nothing", "nothing", "0", "id:01k", "state:completed node:nobody", "state:failed-like arg.n:-1",
    "handler:h* node:nobody", "job:h1.* node:nobody", "since:2h node:nobody",
]  # fmt: skip


async def test_no_page_looks_at_more_rows_than_it_may_however_many_there_are(sqlite_store: Store) -> None:
    """30,000 rows, and what each walk is allowed to look at; counted by SQLite itself."""
    dice = random.Random(3)
    rows = [
        execution(
            ulid(n),
            handler_id=dice.choice(["h1", "h2", "h3"]),
            schedule_id=dice.choice([None, "s1", "s2"]),
            state=State.COMPLETED if n % 3 else State.FAILED,
            error=None if n % 3 else error("E", "m"),
            node_id="n1",
            created_us=T0 + n * S,
            params=b'{"n":1}',
        )
        for n in range(30_000)
    ]
    for at in range(0, len(rows), 1000):
        await insert(sqlite_store, *rows[at : at + 1000])
    allowed: list[int] = []
    original: Callable[..., None] = execution_lists.Way.__init__

    def counted(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        allowed.append(self._scan)

    for text in WIDE:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(execution_lists.Way, "__init__", counted)
            allowed.clear()
            await sqlite_store.read(lambda conn, text=text: executions.find(conn, filter_of(text, limit=50)))
        looked_at = await sqlite_store.read(lambda conn, text=text: steps(conn, filter_of(text, limit=50)))
        # SQLite's own steps: some twenty for each row that is looked at, and checked.
        assert looked_at < 60 * execution_lists.SCAN_ROWS, (text, looked_at)
        assert len(allowed) <= 2 * max(execution_walks.MAX_KEYS, len(State)), text


def steps(conn: Any, wanted: Filter) -> int:
    """Instructions of SQLite's virtual machine that a page takes."""
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1000

    raw = conn.connection.driver_connection
    raw.set_progress_handler(tick, 1000)
    try:
        executions.find(conn, wanted)
    finally:
        raw.set_progress_handler(None, 0)
    return count
