"""The versions of a schedule: list them, compare two, and bring an old one back. They outlive their schedule."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import structlog
from msgspec import Struct
from msgspec.structs import replace

from schedule_zero.errors import BadRequest, NotFound, TooLarge, WrongState
from schedule_zero.model import Schedule, ScheduleState
from schedule_zero.rules.changes import Difference, changed_fields, differences
from schedule_zero.rules.facts import Ruling
from schedule_zero.service.schedule_rows import spec_of
from schedule_zero.service.schedules import ScheduleService
from schedule_zero.service.specs import Principal
from schedule_zero.store import Page, Store, schedule_history
from schedule_zero.store import schedules as store_schedules

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = structlog.get_logger(__name__)


class VersionView(Struct):
    """A version, and what it changed of the one before it (None: that one is not known)."""

    ruling: Ruling
    changed: list[str] | None


class VersionDiff(Struct):
    """Two versions of one generation, and what differs."""

    generation: int
    from_version: int
    to_version: int
    differences: list[Difference]


class VersionService:
    """Looks, and restores."""

    def __init__(self, *, store: Store, schedules: ScheduleService) -> None:
        self._store = store
        self._schedules = schedules

    async def find(self, schedule_id: str, *, cursor: str | None = None, limit: int = 50) -> Page[VersionView]:
        """A page, newest first: the version in force, then those that are over, over all generations. NotFound."""
        page = await self._store.read(lambda conn: _page(conn, schedule_id, cursor, limit))
        if not page.rows and cursor is None:
            raise NotFound(f"there is no schedule {schedule_id!r}")
        return page

    async def get(self, schedule_id: str, version: int, generation: int | None = None) -> VersionView:
        """One version, of the newest generation unless another is named. NotFound."""

        def read(conn: Connection) -> VersionView:
            ruling = _version(conn, schedule_id, version, generation)
            row = ruling.schedule
            before = schedule_history.get(conn, schedule_id, row.generation, version - 1)
            return VersionView(ruling, _changed(None if before is None else before.schedule, row))

        return await self._store.read(read)

    async def diff(
        self, schedule_id: str, from_version: int | None, to_version: int | None, generation: int | None = None
    ) -> VersionDiff:
        """What differs between two versions: by default between the newest one and the one before it. NotFound."""

        def read(conn: Connection) -> VersionDiff:
            number = _newest_generation(conn, schedule_id) if generation is None else generation
            newest = _newest_version(conn, schedule_id, number) if to_version is None else to_version
            before = max(newest - 1, 1) if from_version is None else from_version
            old = _version(conn, schedule_id, before, number).schedule
            new = _version(conn, schedule_id, newest, number).schedule
            return VersionDiff(number, before, newest, differences(old, new))

        return await self._store.read(read)

    async def restore(
        self,
        principal: Principal,
        schedule_id: str,
        version: int,
        generation: int | None = None,
        if_match: str | None = None,
    ) -> tuple[Schedule, bool]:
        """A new version with the content of an old one; a schedule that was deleted is made again.

        Everything is checked as if it had been written anew (``ScheduleService.put``). NotFound; WrongState if it is
        the version in force; PreconditionFailed.
        """
        old = await self._store.read(lambda conn: _version(conn, schedule_id, version, generation))
        row = old.schedule
        if old.to_us is None:
            raise WrongState(f"version {version} of schedule {schedule_id!r} is in force")
        spec = spec_of(row)
        if row.state in (ScheduleState.FINISHED, ScheduleState.QUARANTINED):
            # The note says how it ended; what is made of it begins anew.
            spec = replace(spec, note=None)
        resume_us = row.resume_us if row.state is ScheduleState.PAUSED else None
        if resume_us is not None and resume_us <= self._schedules.now_us():
            # It was to go on by itself, and that time has come.
            spec, resume_us = replace(spec, paused=False, note=None), None
        try:
            note = f"restored from version {version} of generation {row.generation}"
            written, created = await self._schedules.restore(principal, schedule_id, spec, if_match, resume_us, note)
        except (BadRequest, NotFound, TooLarge) as error:
            # What is wrong with it stands in that version, not in the request.
            error.pointer = "/version"
            raise
        log.info(
            "schedule_restored", schedule_id=schedule_id, generation=row.generation, version=version, by=principal.name
        )
        return written, created


def _page(conn: Connection, schedule_id: str, cursor: str | None, limit: int) -> Page[VersionView]:
    current = store_schedules.get(conn, schedule_id) if cursor is None else None
    rulings = [] if current is None else [Ruling(schedule=current, from_us=current.updated_us)]
    # One more than is shown: the last one is compared with it.
    page = schedule_history.find(conn, schedule_id, cursor=cursor, limit=limit - len(rulings) + 1)
    rulings += [Ruling.of(version) for version in page.rows]
    shown, more = rulings[:limit], len(rulings) > limit
    views = [VersionView(ruling, _changed(before.schedule, ruling.schedule)) for ruling, before in pairwise(rulings)][
        : len(shown)
    ]
    if len(views) < len(shown):
        views.append(VersionView(shown[-1], _changed(None, shown[-1].schedule)))
    if not more:
        return Page(views)
    last = shown[-1].schedule
    return Page(views, f"{last.generation}.{last.version}")


def _changed(before: Schedule | None, row: Schedule) -> list[str] | None:
    """Nothing by the first version, which made the schedule."""
    if row.version == 1:
        return []
    if before is None or (before.generation, before.version) != (row.generation, row.version - 1):
        return None
    return changed_fields(before, row)


def _version(conn: Connection, schedule_id: str, version: int, generation: int | None) -> Ruling:
    number = _newest_generation(conn, schedule_id) if generation is None else generation
    current = store_schedules.get(conn, schedule_id)
    if current is not None and (current.generation, current.version) == (number, version):
        return Ruling(schedule=current, from_us=current.updated_us)
    found = schedule_history.get(conn, schedule_id, number, version)
    if found is None:
        raise NotFound(f"there is no version {version} of schedule {schedule_id!r} (generation {number})")
    return Ruling.of(found)


def _newest_generation(conn: Connection, schedule_id: str) -> int:
    current = store_schedules.get(conn, schedule_id)
    if current is not None:
        return current.generation
    newest = schedule_history.find(conn, schedule_id, limit=1).rows
    if not newest:
        raise NotFound(f"there is no schedule {schedule_id!r}")
    return newest[0].schedule.generation


def _newest_version(conn: Connection, schedule_id: str, generation: int) -> int:
    current = store_schedules.get(conn, schedule_id)
    if current is not None and current.generation == generation:
        return current.version
    last = schedule_history.last_of(conn, schedule_id, generation)
    if last is None:
        raise NotFound(f"there is no generation {generation} of schedule {schedule_id!r}")
    return last.schedule.version
