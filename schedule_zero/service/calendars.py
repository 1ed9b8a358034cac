"""Verbs on named calendars: create, replace, import an iCalendar file, delete, and ask what they cover."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from functools import partial
from itertools import islice
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from schedule_zero.clock import Clock, rfc3339
from schedule_zero.errors import InUse, InvalidField, NotFound
from schedule_zero.model import Calendar, CalendarVersion
from schedule_zero.service.calendar_days import CalendarDay, days_of
from schedule_zero.service.idempotency import idempotency_record
from schedule_zero.service.specs import IdemKey, Principal
from schedule_zero.store import IdempotentReplay, Page, Store
from schedule_zero.store import calendars as store_calendars
from schedule_zero.store.calendars import etag
from schedule_zero.store.tx import parse_pair
from schedule_zero.timing.calendar_book import CalendarBook
from schedule_zero.timing.calendar_parse import parse_calendar
from schedule_zero.timing.calendar_rules import DAY_US
from schedule_zero.timing.calendars import END_US, CalendarWindow, NamedCalendar
from schedule_zero.timing.ical_text import merged, zone_of
from schedule_zero.timing.trigger import LATEST_WORDS
from schedule_zero.timing.walltime import from_day_number

log = structlog.get_logger(__name__)

# The longest range in which windows are listed: an empty calendar has to be looked through as well.
LONGEST_RANGE_US = 5 * 366 * DAY_US
SHOWN_USERS = 10
# How far the next business day is looked for.
FARTHEST_DAYS = 366


class CalendarSummary(Struct, kw_only=True):
    """A calendar as lists show it."""

    name: str
    version: int
    created_us: int
    updated_us: int
    timezone: str
    description: str
    # How many entries of each kind; ``ical``: how many events.
    entries: dict[str, int]


class CalendarWritten(Struct, kw_only=True):
    """A calendar as it is stored now."""

    calendar: Calendar
    created: bool = False
    # It is the answer to an earlier request with the same key.
    replayed: bool = False
    # What may not be meant as it is written.
    warnings: list[str] = []


class CalendarCheck(Struct, kw_only=True):
    """What a calendar says about one moment, and about its day."""

    at_us: int
    window: CalendarWindow | None
    day: date
    business_day: bool
    # Why it is not a business day.
    why: str | None
    next_business_day: date | None


class CalendarService:
    """Everything that can be done with named calendars. Parsing is done on threads."""

    def __init__(
        self,
        *,
        store: Store,
        book: CalendarBook,
        clock: Clock,
        users: Callable[[str], Awaitable[list[str]]],
        changed: Callable[[str], Awaitable[None]],
    ) -> None:
        """``users``: the ids of the schedules that use a calendar. ``changed``: what has to be done after a change."""
        self._store = store
        self._book = book
        self._clock = clock
        self._users = users
        self._changed = changed

    # --- write ------------------------------------------------------------------------------------

    async def create(
        self, principal: Principal, name: str, document: dict[str, Any], idem: IdemKey | None = None
    ) -> CalendarWritten:
        """A new calendar. AlreadyExists, InvalidCalendar."""
        parsed = await self._parsed(document, name)
        record = idempotency_record(principal, idem, [name], self._clock)
        outcome: Calendar | IdempotentReplay = await self._store.write(
            store_calendars.create,
            store_calendars.Create(name=name, document=parsed.encoded(), idem=record),
            by=principal.actor,
        )
        if isinstance(outcome, IdempotentReplay):
            [name] = msgspec.json.decode(outcome.response, type=list[str])
            return CalendarWritten(calendar=await self.get(name), replayed=True, warnings=parsed.warnings)
        await self._tell(principal, outcome)
        return CalendarWritten(calendar=outcome, created=True, warnings=parsed.warnings)

    async def put(
        self,
        principal: Principal,
        name: str,
        document: dict[str, Any],
        if_match: str | None = None,
        *,
        create_only: bool = False,
    ) -> CalendarWritten:
        """Replace or create. PreconditionFailed, InvalidCalendar.

        The same document again is no new version.
        """
        parsed = await self._parsed(document, name)
        return await self._put(principal, parsed, if_match, create_only=create_only)

    async def import_ical(
        self, principal: Principal, name: str, text: str, if_match: str | None = None, *, add: bool = False
    ) -> CalendarWritten:
        """Put an iCalendar file into a calendar, in the place of the one that was there, or beside it (``add``).

        With ``add``, events that are in both (by their UID) are those of the new file. A calendar that isn't there is
        created, in the zone that the file names.
        """
        there = await self._store.read(lambda conn: store_calendars.get(conn, name))
        document: dict[str, Any] = {} if there is None else msgspec.json.decode(there.document)

        def parse() -> NamedCalendar:
            if there is None and (zone := zone_of(text)) is not None:
                document["timezone"] = zone
            # The text as it came: an error names its line.
            new = parse_calendar({**document, "ical": text}, name)
            old = document.get("ical")
            if not (add and old):
                return new
            both = parse_calendar({**document, "ical": merged(old, new.document()["ical"])}, name)
            both.warnings = new.warnings
            return both

        parsed = await asyncio.to_thread(parse)
        if if_match is None and there is not None:
            # What was read is what has to be there still: an import never loses another's change.
            if_match = etag(there)
        return await self._put(principal, parsed, if_match, create_only=there is None)

    async def delete(self, principal: Principal, name: str, if_match: str | None = None) -> None:
        """Forget a calendar; its versions stay. InUse if schedules name it."""
        users = await self._users(name)
        if users:
            more = f" and {len(users) - SHOWN_USERS} more" if len(users) > SHOWN_USERS else ""
            raise InUse(
                f"calendar {name!r} is used by {len(users)} schedule{'s' if len(users) > 1 else ''}: "
                f"{', '.join(users[:SHOWN_USERS])}{more}",
                hint="take it out of their policies first",
                ids=users,
            )
        delete = store_calendars.Delete(name=name, if_match=if_match)
        await self._store.write(store_calendars.delete, delete, by=principal.actor)
        log.info("calendar_deleted", calendar=name, by=principal.name)
        await self._book.settled()
        await self._changed(name)

    async def _put(
        self, principal: Principal, parsed: NamedCalendar, if_match: str | None, *, create_only: bool
    ) -> CalendarWritten:
        put = store_calendars.Put(
            name=parsed.name, document=parsed.encoded(), if_match=if_match, create_only=create_only
        )
        answer: store_calendars.PutAnswer = await self._store.write(store_calendars.put, put, by=principal.actor)
        await self._tell(principal, answer.calendar)
        return CalendarWritten(calendar=answer.calendar, created=answer.created, warnings=parsed.warnings)

    async def _tell(self, principal: Principal, calendar: Calendar) -> None:
        log.info("calendar_written", calendar=calendar.name, version=calendar.version, by=principal.name)
        # Also if nothing changed: the first try may have been stored, and then failed right here.
        await self._book.settled()
        await self._changed(calendar.name)

    async def _parsed(self, document: dict[str, Any], name: str) -> NamedCalendar:
        return await asyncio.to_thread(parse_calendar, document, name)

    # --- look -------------------------------------------------------------------------------------

    async def get(self, name: str) -> Calendar:
        """A calendar as it is. NotFound."""
        found = await self._store.read(lambda conn: store_calendars.get(conn, name))
        if found is None:
            raise _unknown(name)
        return found

    def names(self) -> list[str]:
        """The calendars that can be used now, by name; in memory."""
        return self._book.names()

    async def find(self, *, cursor: str | None = None, limit: int = 50) -> tuple[Page[CalendarSummary], int]:
        """A page of calendars by name, and how many there are in all."""
        page, count = await self._store.read(
            lambda conn: (store_calendars.find(conn, cursor=cursor, limit=limit), store_calendars.count(conn))
        )
        summaries: list[CalendarSummary] = []
        for name in page.rows:
            # One by one: a calendar may be a megabyte.
            row = await self._store.read(partial(store_calendars.get, name=name))
            if row is not None:
                summaries.append(_summary(row))
        return Page(summaries, page.next_cursor), count

    async def versions(self, name: str, *, cursor: str | None = None, limit: int = 50) -> Page[CalendarVersion]:
        """A page of versions, newest first, without their documents. NotFound if there never was such a calendar."""
        page = await self._store.read(lambda conn: store_calendars.versions(conn, name, cursor=cursor, limit=limit))
        if not page.rows and cursor is None:
            raise _unknown(name)
        return page

    async def version(self, name: str, version: int) -> CalendarVersion:
        """One version with its document; also of a calendar that was deleted. NotFound."""
        found = await self._store.read(lambda conn: store_calendars.get_version(conn, name, version))
        if found is None:
            raise NotFound(f"calendar {name!r} has no version {version}")
        return found

    async def windows(
        self, name: str, from_us: int | None, to_us: int | None, *, cursor: str | None = None, limit: int = 50
    ) -> Page[CalendarWindow]:
        """A page of the windows that overlap ``[from_us, to_us)``, by start; from now, and for a year, if not said."""
        from_us = self._clock.wall_us() if from_us is None else from_us
        if from_us >= END_US:
            raise _too_late("from", from_us)
        to_us = from_us + 366 * DAY_US if to_us is None else to_us
        if to_us <= from_us:
            raise InvalidField("expected a moment after `from`", parameter="to")
        if to_us - from_us > LONGEST_RANGE_US:
            raise InvalidField("expected a range of at most five years", parameter="to")
        start_us, skip = parse_pair(cursor)
        calendar = await self._calendar(name)
        return await asyncio.to_thread(_page, calendar, from_us, to_us, start_us, skip or 0, limit)

    async def check(self, name: str, at_us: int | None = None) -> CalendarCheck:
        """Whether a moment (now) is covered, and by what; whether its day is a business day."""
        at = self._clock.wall_us() if at_us is None else at_us
        if at >= END_US:
            raise _too_late("at", at)
        calendar = await self._calendar(name)
        return await asyncio.to_thread(_check, calendar, at)

    async def days(self, name: str, first: date, count: int) -> list[CalendarDay]:
        """What a calendar says about days in its zone, one after the other. NotFound."""
        calendar = await self._calendar(name)
        return await asyncio.to_thread(days_of, calendar, first, count)

    async def users(self, name: str) -> list[str]:
        """The ids of the schedules whose policies name this calendar."""
        return await self._users(name)

    async def use_counts(self) -> dict[str, int]:
        """How many schedules name each calendar."""
        return await self._store.read(store_calendars.use_counts)

    async def _calendar(self, name: str) -> NamedCalendar:
        await self._book.settled()
        calendar = self._book.get(name)
        if calendar is None:
            raise _unknown(name)
        return calendar


def _page(
    calendar: NamedCalendar, from_us: int, to_us: int, start_us: int | None, skip: int, limit: int
) -> Page[CalendarWindow]:
    """``start_us`` and ``skip``: a page goes on after so many windows that begin at that moment."""
    # Windows that began before that moment were on an earlier page.
    after_us = 0 if start_us is None else start_us
    windows = (window for window in calendar.iter_windows(max(after_us, from_us), to_us) if window.start_us >= after_us)
    found = list(islice(windows, skip, skip + limit + 1))
    if len(found) <= limit:
        return Page(found)
    last_us = found[limit].start_us
    before = sum(window.start_us == last_us for window in found[:limit])
    return Page(found[:limit], f"{last_us}.{before + (skip if last_us == start_us else 0)}")


def _check(calendar: NamedCalendar, at_us: int) -> CalendarCheck:
    day = calendar.day_at(at_us)
    why = calendar.day_off(day)
    days = range(day + 1, min(day + 1 + FARTHEST_DAYS, END_US // DAY_US))
    ahead = (near for near in days if calendar.is_business_day(near))
    following = next(ahead, None)
    return CalendarCheck(
        at_us=at_us,
        window=calendar.covering(at_us),
        day=from_day_number(day),
        business_day=why is None,
        why=why,
        next_business_day=None if following is None else from_day_number(following),
    )


def _summary(row: Calendar) -> CalendarSummary:
    document: dict[str, Any] = msgspec.json.decode(row.document)
    entries = {key: len(value) for key, value in document.items() if isinstance(value, list)}
    if "ical" in document:
        entries["ical"] = document["ical"].count("BEGIN:VEVENT\n")
    return CalendarSummary(
        name=row.name,
        version=row.version,
        created_us=row.created_us,
        updated_us=row.updated_us,
        timezone=document["timezone"],
        description=document.get("description", ""),
        entries=entries,
    )


def _too_late(parameter: str, us: int) -> InvalidField:
    return InvalidField(f"expected {LATEST_WORDS}, got {rfc3339(us)}", parameter=parameter)


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no calendar {name!r}")
