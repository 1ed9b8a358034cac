"""The contract of named calendars: versions that only grow, all of them kept, and who uses what."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schedule_zero.errors import AlreadyExists, IdempotencyMismatch, InvalidField, NotFound, PreconditionFailed
from schedule_zero.model import BusinessDays, Calendar, CalendarVersion, DayRule, Policies
from schedule_zero.store import IdempotencyRecord, IdempotentReplay, Store, calendars, events, schedules
from schedule_zero.store.calendars import Create, Delete, Put, PutAnswer, etag
from tests.store.builders import journal, schedule
from tests.support import ManualClock

pytestmark = pytest.mark.anyio

ONE, TWO = b'{"timezone":"UTC","dates":["2026-12-24"]}', '{"timezone":"UTC","description":"ü \\"x\\""}'.encode()


async def put(store: Store, name: str, document: bytes = ONE, **fields: Any) -> PutAnswer:
    return await store.write(calendars.put, Put(name=name, document=document, **fields))


async def get(store: Store, name: str) -> Calendar | None:
    return await store.read(lambda conn: calendars.get(conn, name))


async def versions(store: Store, name: str) -> list[CalendarVersion]:
    return (await store.read(lambda conn: calendars.versions(conn, name))).rows


async def test_a_calendar_comes_back_as_it_was_written(store: Store, clock: ManualClock) -> None:
    written = await store.write(calendars.create, Create(name="de/berlin", document=TWO))

    now_us = clock.wall_us()
    assert written == Calendar(name="de/berlin", document=TWO, version=1, created_us=now_us, updated_us=now_us)
    assert await get(store, "de/berlin") == written
    assert await get(store, "nothing") is None


async def test_creating_an_existing_name_is_refused(store: Store) -> None:
    await put(store, "a")

    with pytest.raises(AlreadyExists) as caught:
        await store.write(calendars.create, Create(name="a", document=TWO))

    assert caught.value.data == {"id": "a"}
    assert (await get(store, "a")).document == ONE


async def test_a_creation_with_the_same_key_is_done_once(store: Store) -> None:
    record = IdempotencyRecord(key="k", fingerprint="f", status=201, response=b'["a"]', created_us=0)
    first = await store.write(calendars.create, Create(name="a", document=ONE, idem=record))
    again = await store.write(calendars.create, Create(name="a", document=ONE, idem=record))

    assert isinstance(first, Calendar)
    assert isinstance(again, IdempotentReplay)
    record.fingerprint = "other"
    with pytest.raises(IdempotencyMismatch):
        await store.write(calendars.create, Create(name="b", document=ONE, idem=record))


async def test_put_creates_and_then_replaces(store: Store, clock: ManualClock) -> None:
    first = await put(store, "a")
    clock.advance(5)
    second = await put(store, "a", TWO)

    assert (first.created, first.changed, second.created, second.changed) == (True, True, False, True)
    row = await get(store, "a")
    assert row == second.calendar
    assert (row.version, row.document, row.updated_us - row.created_us) == (2, TWO, 5_000_000)


async def test_the_same_document_again_changes_nothing(store: Store, clock: ManualClock) -> None:
    first = await put(store, "a")
    before = await store.read(events.latest_seq)
    clock.advance(5)

    again = await put(store, "a")

    assert (again.created, again.changed) == (False, False)
    assert again.calendar == first.calendar == await get(store, "a")
    assert await store.read(events.latest_seq) == before
    assert len(await versions(store, "a")) == 1


async def test_put_and_delete_honour_their_preconditions(store: Store) -> None:
    with pytest.raises(PreconditionFailed):
        await put(store, "a", if_match="1")
    old = (await put(store, "a")).calendar
    new = (await put(store, "a", TWO, if_match=etag(old))).calendar

    for verb, arg in (
        (calendars.put, Put(name="a", document=ONE, if_match=etag(old))),
        (calendars.delete, Delete(name="a", if_match=etag(old))),
    ):
        with pytest.raises(PreconditionFailed) as caught:
            await store.write(verb, arg)
        assert caught.value.data == {"version": "2"}
    with pytest.raises(AlreadyExists):
        await put(store, "a", ONE, create_only=True)
    assert await get(store, "a") == new
    assert (await store.write(calendars.delete, Delete(name="a", if_match=etag(new)))) == new


async def test_of_two_changes_in_one_transaction_the_second_builds_on_the_first(store: Store) -> None:
    await put(store, "z")
    outcomes: list[Any] = []
    store.submit(calendars.put, Put(name="a", document=ONE), outcomes.append)
    store.submit(calendars.put, Put(name="a", document=TWO, if_match="1"), outcomes.append)
    store.submit(calendars.put, Put(name="a", document=ONE, if_match="1"), outcomes.append)
    store.submit(calendars.delete, Delete(name="a", if_match="2"), outcomes.append)
    await put(store, "y")

    assert [type(outcome) for outcome in outcomes] == [PutAnswer, PutAnswer, PreconditionFailed, Calendar]
    assert [(one.version, one.deleted) for one in await versions(store, "a")] == [(3, True), (2, False), (1, False)]


async def test_a_calendar_made_anew_goes_on_from_its_last_version(store: Store) -> None:
    old = (await put(store, "a")).calendar
    await store.write(calendars.delete, Delete(name="a"))
    with pytest.raises(NotFound):
        await store.write(calendars.delete, Delete(name="a"))

    new = (await put(store, "a")).calendar

    assert (old.version, new.version) == (1, 3)
    with pytest.raises(PreconditionFailed):
        await put(store, "a", TWO, if_match=etag(old))


async def test_every_version_is_kept_and_outlives_the_calendar(store: Store, clock: ManualClock) -> None:
    start_us = clock.wall_us()
    for document in (ONE, TWO, ONE):
        await put(store, "a", document)
        clock.advance(1)
    await store.write(calendars.delete, Delete(name="a"))
    await put(store, "ab")

    found = await versions(store, "a")

    assert found == [
        CalendarVersion(name="a", version=number, from_us=start_us + (number - 1) * 1_000_000, deleted=number == 4)
        for number in (4, 3, 2, 1)
    ]
    full = [await store.read(lambda conn, n=number: calendars.get_version(conn, "a", n)) for number in (1, 2, 3, 4, 5)]
    assert [None if one is None else one.document for one in full] == [ONE, TWO, ONE, ONE, None]
    assert full[3].deleted


async def test_versions_come_in_pages(store: Store) -> None:
    for number in range(5):
        await put(store, "a", msgspec.json.encode({"description": str(number)}))

    found: list[int] = []
    cursor: str | None = None
    while True:
        page = await store.read(lambda conn, at=cursor: calendars.versions(conn, "a", cursor=at, limit=2))
        found += [one.version for one in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert found == [5, 4, 3, 2, 1]
    with pytest.raises(InvalidField):
        await store.read(lambda conn: calendars.versions(conn, "a", cursor="x"))


async def test_names_come_in_pages_in_order(store: Store) -> None:
    for name in ("b", "a/2", "B", "a1", "_"):
        await put(store, name)

    first = await store.read(lambda conn: calendars.find(conn, limit=3))
    second = await store.read(lambda conn: calendars.find(conn, limit=3, cursor=first.next_cursor))

    assert (first.rows, first.next_cursor) == (["B", "_", "a/2"], "a/2")
    assert (second.rows, second.next_cursor) == (["a1", "b"], None)
    assert await store.read(calendars.count) == 5


async def test_each_change_is_told_with_its_version(store: Store) -> None:
    await put(store, "a")
    await put(store, "a", TWO)
    await store.write(calendars.delete, Delete(name="a"))

    assert await journal(store) == [("calendar.created", "a"), ("calendar.updated", "a"), ("calendar.deleted", "a")]
    rows = await store.read(lambda conn: events.read_after(conn, 0, 10))
    assert [event.data for _, told in rows for event in told] == [{"version": 1}, {"version": 2}, {"version": 3}]


async def test_the_schedules_that_use_a_calendar_are_found(store: Store) -> None:
    def with_policies(id_: str, **fields: Any) -> Any:
        return schedule(id_, policies=msgspec.json.encode(Policies(**fields)))

    rows = [
        schedule("none"),
        with_policies("other", exclude=("de_2", "xde")),
        with_policies("require", require=("x", "de")),
        with_policies("exclude", exclude=("de",)),
        with_policies("business", business_days=BusinessDays(calendar="de", rule=DayRule.NEXT)),
        with_policies("like", exclude=("d_",)),
    ]
    await store.write(schedules.create, schedules.Create(rows=rows))

    async def users(name: str) -> list[str]:
        return await store.read(lambda conn: calendars.users(conn, name))

    assert await users("de") == ["business", "exclude", "require"]
    assert await users("d_") == ["like"]
    assert await users("nobody") == []


async def test_the_newest_version_is_the_calendar_as_it_is_now(store: Store) -> None:
    await put(store, "a")
    now = (await put(store, "a", TWO)).calendar

    newest = await store.read(lambda conn: calendars.get_version(conn, "a", now.version))

    assert newest == CalendarVersion(name="a", version=2, from_us=now.updated_us, document=TWO)
