"""The audit of all schedules, each hour: what has become due since the last one.

It never delays a fire: it reads a few schedules at a time, on a reader thread, and then leaves the machine alone for
several times as long. For nearly every schedule its numbers are enough, which the database compares: how many nominal
times there had to be, the first and the last one. Where they differ, or where the numbers alone can't say it (a
schedule that was changed, an interval that follows its runs), the schedule is audited as if somebody had asked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog
from msgspec import Struct

from schedule_zero.clock import Clock, rfc3339
from schedule_zero.model import Schedule
from schedule_zero.rules.audit import Span, expected_count
from schedule_zero.service.audit import DAY_US, AuditReport, AuditService
from schedule_zero.service.rest import Rest
from schedule_zero.store import Store, fire_audit, schedule_history
from schedule_zero.store import schedules as store_schedules
from schedule_zero.store.fire_audit import Expectation
from schedule_zero.store.schedule_history import Deleted
from schedule_zero.timing import Timer, first_fire

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

log = structlog.get_logger(__name__)

# Schedules read in one step.
PAGE = 50
# Nominal times whose rows are summed up in one step.
MOST_ROWS = 20_000
# After each step the audit pauses: so many times as long as the step took, and at least so long.
PAUSE_RATIO = 4.0
PAUSE_S = 0.005
# Schedules with findings that get a metric, and a line in the log, of their own.
MOST_LABELS = 1000
# The farthest that the first audit after a long stop goes back.
FARTHEST_US = 7 * DAY_US


class AuditStats(Struct):
    """What the audits of this life of the server found."""

    schedules: int = 0
    missed: int = 0
    duplicate: int = 0
    extra: int = 0
    last_s: float = 0.0
    # When the last one was complete; 0: none was.
    last_us: int = 0
    # By schedule: missed, duplicate, extra.
    found: dict[str, tuple[int, int, int]] = {}

    def add(self, report: AuditReport) -> None:
        tally = report.tally
        self.missed += tally.missed
        self.duplicate += tally.duplicate
        self.extra += tally.extra
        had = self.found.get(report.schedule_id)
        if had is not None or len(self.found) < MOST_LABELS:
            before = had or (0, 0, 0)
            now = (tally.missed, tally.duplicate, tally.extra)
            self.found[report.schedule_id] = (before[0] + now[0], before[1] + now[1], before[2] + now[2])


class _Step(Struct):
    """What one step saw."""

    seen: int
    # To be looked at closely.
    closely: list[str]
    # Not decided up to the end of this audit: up to where they are.
    behind: dict[str, int]
    cursor: str | None


class AuditRounds:
    """Audits everything, again and again."""

    def __init__(self, *, store: Store, timer: Timer, audits: AuditService, clock: Clock, every_s: float) -> None:
        self._store = store
        self._resolver = timer.resolver
        self._audits = audits
        self._clock = clock
        self._every_us = round(every_s * 1e6)
        self._since_us: int | None = None
        # Audited only up to there, because they had not decided more.
        self._behind: dict[str, int] = {}
        self.stats = AuditStats()

    async def run_if_due(self) -> bool:
        """Audit what became due since the last time, if that is long enough ago."""
        now_us = self._clock.wall_us()
        if self._since_us is None:
            marked_us = await self._store.read(fire_audit.marked)
            self._since_us = now_us - DAY_US if marked_us is None else max(marked_us, now_us - FARTHEST_US)
        # A clock that was set back has to come up again first.
        if now_us - self._since_us < self._every_us:
            return False
        await self.run_once(self._since_us, now_us)
        return True

    async def run_once(self, since_us: int, until_us: int) -> None:
        """Audit the nominal times in ``(since_us, until_us]`` of every schedule that there is, or was until then."""
        began_s = self._clock.mono_s()
        reports: list[AuditReport] = []
        behind: dict[str, int] = {}
        seen = 0
        cursor: str | None = None
        while True:
            step = await self._paced(partial(self._step, cursor=cursor, since_us=since_us, until_us=until_us))
            seen += step.seen
            behind |= step.behind
            for id_ in step.closely:
                await self._closely(id_, self._behind.get(id_, since_us), until_us, reports)
            cursor = step.cursor
            if cursor is None:
                break
        seen += await self._deleted(since_us, until_us, reports)
        self._behind = behind
        self._since_us = until_us
        # What it knows of those that are behind is lost with the process: the next one begins where they are.
        await self._store.write(fire_audit.mark, min([until_us, *behind.values()]))
        self._tell(reports, seen, self._clock.mono_s() - began_s)

    async def _deleted(self, since_us: int, until_us: int, reports: list[AuditReport]) -> int:
        seen, after = 0, Deleted(since_us)
        while found := await self._paced(partial(schedule_history.deleted, after=after, upto_us=until_us, limit=PAGE)):
            for id_ in dict.fromkeys(gone.schedule_id for gone in found):
                await self._closely(id_, self._behind.get(id_, since_us), until_us, reports)
            seen, after = seen + len(found), found[-1]
        return seen

    async def _closely(self, schedule_id: str, since_us: int, until_us: int, reports: list[AuditReport]) -> None:
        report = await self._paced(partial(self._audits.audit_in, schedule_id=schedule_id, after_us=since_us,
                                           until_us=until_us))  # fmt: skip
        if report is not None and not report.tally.ok:
            reports.append(report)

    async def _paced(self, query: Callable[[Connection], T]) -> T:
        began_s = self._clock.mono_s()
        answer = await self._store.read(query)
        took_s = self._clock.mono_s() - began_s
        await asyncio.sleep(max(PAUSE_S, took_s * PAUSE_RATIO))
        return answer

    def _tell(self, reports: list[AuditReport], seen: int, took_s: float) -> None:
        stats = self.stats
        stats.schedules += seen
        stats.last_s, stats.last_us = took_s, self._clock.wall_us()
        for report in reports:
            stats.add(report)
        for report in reports[:MOST_LABELS]:
            tally = report.tally
            log.error(
                "ledger_audit_failed",
                schedule_id=report.schedule_id,
                missed=tally.missed,
                duplicate=tally.duplicate,
                extra=tally.extra,
                since=rfc3339(report.since_us),
                until=rfc3339(report.until_us),
            )
        log.info("ledger_audited", schedules=seen, with_findings=len(reports), took_s=round(took_s, 3))

    # --- on a reader thread -------------------------------------------------------------------------------

    def _step(self, conn: Connection, *, cursor: str | None, since_us: int, until_us: int) -> _Step:
        page = store_schedules.find(conn, cursor=cursor, limit=PAGE)
        step = _Step(len(page.rows), [], {}, page.next_cursor)
        rest = Rest()
        expected: list[Expectation] = []
        rows = 0
        for row in page.rows:
            rest()
            if row.next_fire_us is not None and row.next_fire_us <= until_us:
                step.behind[row.id] = row.next_fire_us - 1
            numbers = self._numbers(row, self._behind.get(row.id, since_us), until_us)
            if numbers is None:
                step.closely.append(row.id)
                continue
            expected.append(numbers)
            rows += numbers.count
            if rows > MOST_ROWS:
                step.closely += fire_audit.unlike(conn, expected)
                expected, rows = [], 0
        step.closely += fire_audit.unlike(conn, expected)
        return step

    def _numbers(self, row: Schedule, since_us: int, until_us: int) -> Expectation | None:
        """What the ledger has to have of a schedule since the last audit; None: numbers can't say it."""
        after_us = since_us
        if row.updated_us > since_us:
            if row.version > 1:
                return None
            after_us = row.updated_us
        upto_us = until_us
        if row.next_fire_us is None:
            if row.last_fire_us is None or row.last_fire_us > after_us:
                return None
            # It ended before: there is nothing more to come.
            return Expectation(row.id, row.generation, after_us, until_us, 0, 0, 0)
        upto_us = min(until_us, row.next_fire_us - 1)
        if upto_us <= after_us:
            return Expectation(row.id, row.generation, after_us, max(after_us, upto_us), 0, 0, 0)
        try:
            return self._counted(row, after_us, upto_us)
        except Exception as error:  # noqa: BLE001  # whatever ails a trigger: the closer look says it
            log.debug("audit_cannot_count", schedule_id=row.id, error=str(error)[:200])
            return None

    def _counted(self, row: Schedule, after_us: int, upto_us: int) -> Expectation | None:
        trigger = self._resolver.trigger(row)
        first_us = first_fire(trigger, row.updated_us)
        if trigger.endless or (first_us is not None and first_us <= row.updated_us):
            return None
        count = expected_count([Span(trigger, after_us, upto_us, upto_us)])
        if count is None:
            return None
        if not count:
            return Expectation(row.id, row.generation, after_us, upto_us, 0, 0, 0)
        first, last = trigger.next_after(after_us), trigger.last_before(upto_us + 1)
        return Expectation(row.id, row.generation, after_us, upto_us, count, first or 0, last or 0)
