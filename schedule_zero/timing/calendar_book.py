"""The named calendars as they are now, in memory and ready to answer: what the timer asks on its loop.

Parsing a calendar may import libraries and unroll years of an iCalendar file; all of that is done on a thread, also
for the time ahead, before the calendar is put into the book. Until then the one before it is in force.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

import structlog

from schedule_zero.clock import Clock
from schedule_zero.errors import InvalidCalendar
from schedule_zero.model import Calendar, Event
from schedule_zero.store import calendars as store_calendars
from schedule_zero.timing.calendar_parse import load_calendar
from schedule_zero.timing.calendar_rules import DAY_US

if TYPE_CHECKING:
    from schedule_zero.store import Store
    from schedule_zero.timing.calendars import NamedCalendar

log = structlog.get_logger(__name__)

CHANGES = frozenset({"calendar.created", "calendar.updated", "calendar.deleted"})
# What is computed before a calendar comes into force, and again each hour: catch-up looks back, previews look ahead.
BEHIND_US = 7 * DAY_US
AHEAD_US = 400 * DAY_US
# Earlier versions, for the schedules that are pinned to one.
KEPT_VERSIONS = 64
_NAMES = 500


class CalendarBook:
    """All named calendars by name, as committed."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._current: dict[str, tuple[int, NamedCalendar]] = {}
        # Stored, but not to be read any more: a library that dropped a country, say.
        self._broken: dict[str, InvalidCalendar] = {}
        self._versions: OrderedDict[tuple[str, int], NamedCalendar] = OrderedDict()
        self._stale: set[str] = set()
        self._loaded = False
        self._bell = asyncio.Event()
        # One at a time reads what is stale.
        self._reading = asyncio.Lock()
        store.on_commit(self._on_commit)

    async def load(self) -> None:
        """Read all of them; to be called before anything is decided."""
        cursor: str | None = None
        while True:
            page = await self._store.read(partial(store_calendars.find, cursor=cursor, limit=_NAMES))
            self._stale.update(page.rows)
            cursor = page.next_cursor
            if cursor is None:
                break
        self._loaded = True
        await self.settled()

    async def run(self) -> None:
        """Keep up with what is committed until cancelled (supervised)."""
        if not self._loaded:
            await self.load()
        while True:
            await self._bell.wait()
            self._bell.clear()
            await self.settled()

    async def settled(self) -> None:
        """Return when all that is committed by now is in the book. StoreUnavailable: it can't be read now."""
        async with self._reading:
            while self._stale:
                # Taken out first: a commit while it is read makes it stale again.
                name = self._stale.pop()
                try:
                    await self._read(name)
                except BaseException:
                    self._stale.add(name)
                    raise

    def names(self) -> list[str]:
        """Those that can be used, in order."""
        return sorted(self._current)

    def get(self, name: str) -> NamedCalendar | None:
        """The calendar in force; ``None``: there is none of that name. InvalidCalendar: it can't be used any more."""
        error = self._broken.get(name)
        if error is not None:
            raise InvalidCalendar(error.message, hint=error.hint)
        known = self._current.get(name)
        return None if known is None else known[1]

    def current_version(self, name: str) -> int | None:
        """The version in force."""
        known = self._current.get(name)
        return None if known is None else known[0]

    async def version(self, name: str, version: int) -> NamedCalendar | None:
        """A calendar as it was in that version; ``None``: there is no such version. InvalidCalendar, as ``get``."""
        known = self._current.get(name)
        if known is not None and known[0] == version:
            return known[1]
        calendar = self._versions.get((name, version))
        if calendar is None:
            row = await self._store.read(lambda conn: store_calendars.get_version(conn, name, version))
            if row is None or row.deleted or row.document is None:
                return None
            calendar = await asyncio.to_thread(load_calendar, row.document, name)
        self._keep(version, calendar)
        return calendar

    def known_version(self, name: str, version: int) -> NamedCalendar | None:
        """``version`` as far as memory goes: the one in force, or one that was until lately."""
        known = self._current.get(name)
        return known[1] if known is not None and known[0] == version else self._versions.get((name, version))

    def _keep(self, version: int, calendar: NamedCalendar) -> None:
        self._versions[calendar.name, version] = calendar
        self._versions.move_to_end((calendar.name, version))
        if len(self._versions) > KEPT_VERSIONS:
            self._versions.popitem(last=False)

    async def warm(self) -> None:
        """Compute the time ahead, as it has moved on (a chore)."""
        now_us = self._clock.wall_us()
        for _, calendar in list(self._current.values()):
            await asyncio.to_thread(calendar.warm, now_us - BEHIND_US, now_us + AHEAD_US)

    async def _read(self, name: str) -> None:
        row = await self._store.read(lambda conn: store_calendars.get(conn, name))
        if row is None:
            self._current.pop(name, None)
            self._broken.pop(name, None)
            return
        if self.current_version(name) == row.version:
            return
        try:
            calendar = await asyncio.to_thread(_ready, row, self._clock.wall_us())
        except InvalidCalendar as error:
            log.error("calendar_unusable", calendar=name, version=row.version, reason=error.message)
            self._current.pop(name, None)
            self._broken[name] = InvalidCalendar(
                f"calendar {name!r} (version {row.version}) can't be used any more: {error.message}", hint=error.hint
            )
            return
        self._broken.pop(name, None)
        before = self._current.get(name)
        if before is not None:
            # Schedules that are pinned to it go on with it until they are pinned anew.
            self._keep(*before)
        self._current[name] = (row.version, calendar)

    def _on_commit(self, events: list[tuple[int, Event]]) -> None:
        changed = [event.id for _, event in events if event.kind in CHANGES]
        if changed:
            self._stale.update(changed)
            self._bell.set()


def _ready(row: Calendar, now_us: int) -> NamedCalendar:
    calendar = load_calendar(row.document, row.name)
    calendar.warm(now_us - BEHIND_US, now_us + AHEAD_US)
    return calendar
