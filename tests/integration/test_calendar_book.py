"""The book of calendars: what is committed is in it, what can't be used is said, and the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from schedule_zero.config import StoreConfig
from schedule_zero.errors import InvalidCalendar, StoreUnavailable
from schedule_zero.store import Store, calendars
from schedule_zero.store.calendars import Delete, Put
from schedule_zero.timing import calendar_book
from schedule_zero.timing.calendar_book import CalendarBook
from schedule_zero.timing.calendar_parse import load_calendar, parse_calendar
from tests.support import ManualClock, eventually

pytestmark = pytest.mark.anyio

WEEKEND = {"timezone": "UTC", "weekly": [{"days": ["SAT", "SUN"]}]}


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    store = Store.open(StoreConfig(durability="fast"), tmp_path, clock=clock)
    yield store
    await store.close()


@pytest.fixture
def book(store: Store, clock: ManualClock) -> CalendarBook:
    return CalendarBook(store, clock)


async def put(store: Store, name: str, document: Any = WEEKEND) -> int:
    encoded = document if isinstance(document, bytes) else parse_calendar(document, name).encoded()
    return (await store.write(calendars.put, Put(name=name, document=encoded))).calendar.version


async def test_what_was_stored_before_is_loaded(store: Store, clock: ManualClock) -> None:
    for number in range(3):
        await put(store, f"c{number}", {"dates": [f"2026-12-0{number + 1}"]})

    book = CalendarBook(store, clock)
    await book.load()

    assert [book.get(f"c{number}").document()["dates"] for number in range(3)] == [
        ["2026-12-01"], ["2026-12-02"], ["2026-12-03"],
    ]  # fmt: skip
    assert (book.get("nothing"), book.current_version("nothing")) == (None, None)
    assert book.current_version("c1") == 1


async def test_more_calendars_than_one_page_are_loaded(
    store: Store, book: CalendarBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calendar_book, "_NAMES", 2)
    for number in range(5):
        await put(store, f"c{number}")

    await book.load()

    assert all(book.get(f"c{number}") is not None for number in range(5))


async def test_what_is_committed_is_known_once_it_has_settled(store: Store, book: CalendarBook) -> None:
    await book.load()

    await put(store, "a")
    await book.settled()
    first = book.get("a")
    await put(store, "a", {"dates": ["2026-12-24"]})
    assert book.get("a") is first, "until then the one before is in force"
    await book.settled()

    assert book.get("a").document()["dates"] == ["2026-12-24"]
    assert book.current_version("a") == 2
    await store.write(calendars.delete, Delete(name="a"))
    await book.settled()
    assert book.get("a") is None


async def test_the_loop_keeps_up_by_itself(store: Store, book: CalendarBook) -> None:
    task = asyncio.create_task(book.run())
    try:
        await put(store, "a")
        await eventually(lambda: book.get("a") is not None)
        await store.write(calendars.delete, Delete(name="a"))
        await eventually(lambda: book.get("a") is None)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_change_while_one_is_read_is_not_lost(
    store: Store, book: CalendarBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    again: list[asyncio.Future[int]] = []

    def changed_meanwhile(row: Any, now_us: int) -> Any:
        if not again:
            again.append(asyncio.run_coroutine_threadsafe(put(store, "a", {"dates": ["2026-12-24"]}), loop))
            again[0].result(10)
        return load_calendar(row.document, row.name)

    monkeypatch.setattr(calendar_book, "_ready", changed_meanwhile)
    await put(store, "a")

    await book.settled()

    assert book.current_version("a") == 2
    assert book.get("a").document()["dates"] == ["2026-12-24"]


async def test_a_calendar_that_can_not_be_read_any_more_is_not_silently_none(store: Store, book: CalendarBook) -> None:
    await put(store, "gone", b'{"timezone":"UTC","holidays":[{"country":"ZZ"}]}')
    await put(store, "fine")

    await book.load()

    assert book.get("fine") is not None
    with pytest.raises(InvalidCalendar, match=r"calendar 'gone' \(version 1\) can't be used any more: .*'ZZ'"):
        book.get("gone")
    await put(store, "gone")
    await book.settled()
    assert book.get("gone") is not None


async def test_a_store_that_is_away_loses_no_change(
    store: Store, book: CalendarBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, "a")

    async def away(query: Any) -> Any:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(store, "read", away)
        with pytest.raises(StoreUnavailable):
            await book.settled()
    await book.settled()

    assert book.get("a") is not None


async def test_earlier_versions_can_be_had_and_few_are_kept(
    store: Store, book: CalendarBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calendar_book, "KEPT_VERSIONS", 2)
    for day in ("01", "02", "03", "04"):
        await put(store, "a", {"dates": [f"2026-12-{day}"]})
    await store.write(calendars.delete, Delete(name="a"))
    await put(store, "a")
    await book.load()

    first = await book.version("a", 1)

    assert first.document()["dates"] == ["2026-12-01"]
    assert await book.version("a", 1) is first
    assert await book.version("a", 6) is book.get("a"), "the current one is there already"
    for version in (2, 3, 4):
        assert (await book.version("a", version)).document()["dates"] == [f"2026-12-0{version}"]
    assert len(book._versions) == 2
    assert await book.version("a", 5) is None, "it was deleted then"
    assert await book.version("a", 7) is None
    assert await book.version("b", 1) is None


async def test_the_version_before_is_remembered(store: Store, book: CalendarBook) -> None:
    await put(store, "a")
    await book.settled()
    first = book.get("a")

    await put(store, "a", {"dates": ["2026-12-24"]})
    await book.settled()

    assert book.known_version("a", 1) is first
    assert book.known_version("a", 2) is book.get("a")
    assert book.known_version("a", 3) is None
    assert await book.version("a", 1) is first


async def test_the_time_ahead_is_computed_before_a_calendar_comes_into_force(
    store: Store, book: CalendarBook, clock: ManualClock
) -> None:
    await put(store, "a")
    await book.load()
    known = set(book.get("a")._days)

    clock.advance(30 * 86_400)
    await book.warm()

    today = clock.wall_us() // calendar_book.DAY_US
    assert today in known
    assert max(known) < max(book.get("a")._days)


async def test_calendars_are_read_on_another_thread_than_the_loops(
    store: Store, book: CalendarBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()

    def noting(encoded: bytes, name: str) -> Any:
        threads.add(threading.get_ident())
        return load_calendar(encoded, name)

    monkeypatch.setattr(calendar_book, "load_calendar", noting)
    await put(store, "a")
    await put(store, "a", {"dates": ["2026-12-24"]})

    await book.load()
    await book.version("a", 1)

    assert threads
    assert threading.get_ident() not in threads
