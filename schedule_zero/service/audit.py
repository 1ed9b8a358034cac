"""The audit: what the versions of a schedule had to decide, compared with what stands in the ledger.

All of one schedule is read in one snapshot, on a reader thread. The work is bounded: up to ``EXACT`` nominal times are
walked through; more are counted, and only where the numbers differ is the range cut, until it is clear which are meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import structlog
from msgspec import Struct
from msgspec.structs import replace

from schedule_zero.clock import Clock
from schedule_zero.errors import InvalidField, NotFound
from schedule_zero.model import ScheduleState
from schedule_zero.rules.audit import (
    Finding,
    FindingKind,
    Span,
    Tally,
    clipped,
    compare,
    compare_chain,
    expected_count,
    joined,
    overlap,
)
from schedule_zero.store import Store, failures, fire_audit, schedule_history, server_runs
from schedule_zero.store import executions as store_executions
from schedule_zero.store import schedules as store_schedules
from schedule_zero.timing import Timer
from schedule_zero.timing.spans import Chain, Owed, Version, owed

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = structlog.get_logger(__name__)

DAY_US = 86_400_000_000
# Nominal times that are walked through one by one.
EXACT = 20_000
# Ledger rows that are summed up; with more than these, the audit begins later.
MAX_ROWS = 1_000_000
# Versions that are looked at; with more of them, too.
MAX_VERSIONS = 2000
MAX_LIVES = 1000
# Ranges that are walked through to trace a difference.
MAX_TRACED = 16
# How often a range that can't be counted is made shorter.
MAX_TRIES = 100


class Detail(Struct, frozen=True):
    """A finding, and in which generation of the schedule."""

    generation: int
    finding: Finding


class AuditReport(Struct):
    """What an audit found in the nominal times from ``since_us`` to ``until_us``."""

    schedule_id: str
    since_us: int
    until_us: int
    tally: Tally
    details: list[Detail]
    undecided_us: int | None


class Generation(Struct):
    """One life of an id: its versions, the oldest first, and before when they are not known."""

    number: int
    versions: list[Version]
    known_after_us: int = -1


class AuditService:
    """Audits one schedule when asked to."""

    def __init__(self, *, store: Store, timer: Timer, clock: Clock) -> None:
        self._store = store
        self._resolver = timer.resolver
        self._clock = clock

    async def audit(self, schedule_id: str, since_us: int | None = None, until_us: int | None = None) -> AuditReport:
        """Compare the nominal times from ``since_us`` (a day ago) to ``until_us`` (now), both included.

        The report says from when on it is complete. InvalidField; NotFound: there never was such a schedule.
        """
        now_us = self._clock.wall_us()
        until_us = now_us if until_us is None else min(until_us, now_us)
        since_us = max(0, until_us - DAY_US) if since_us is None else since_us
        if since_us > until_us:
            raise InvalidField("expected a range that lies back, from since to until", pointer="/since")
        report = await self._store.read(lambda conn: self.audit_in(conn, schedule_id, since_us - 1, until_us))
        if report is None:
            raise NotFound(f"there is no schedule {schedule_id!r}")
        return report

    def audit_in(self, conn: Connection, schedule_id: str, after_us: int, until_us: int) -> AuditReport | None:
        """The audit of ``(after_us, until_us]`` within one snapshot; None: nothing of such a schedule is known."""
        report = AuditReport(schedule_id, after_us + 1, until_us, Tally(), [], None)
        on_record = list(fire_audit.generations(conn, schedule_id))
        # A summarising row that reaches over an edge is audited as a whole.
        after_us = min((_before_rows(conn, schedule_id, number, after_us) for number in on_record), default=after_us)
        until_us = max((_behind_rows(conn, schedule_id, number, until_us) for number in on_record), default=until_us)
        generations = _load(conn, schedule_id, after_us)
        if not generations and not on_record and not schedule_history.find(conn, schedule_id, limit=1).rows:
            return None
        for generation in generations:
            self._add(conn, generation, report, after_us, until_us)
        newest = max((generation.number for generation in generations), default=None)
        for number in set(on_record) - {generation.number for generation in generations}:
            _add_stray(conn, number, newest, report, after_us, until_us)
        report.details.sort(key=lambda detail: detail.finding.from_us)
        return report

    def _add(self, conn: Connection, generation: Generation, report: AuditReport, after_us: int, until_us: int) -> None:
        schedule_id = report.schedule_id
        try:
            found = self._owed(conn, schedule_id, generation, until_us)
            report.undecided_us = found.undecided_us or report.undecided_us
            _Comparison(conn, schedule_id, generation.number, found, until_us).into(report, after_us)
        except Exception as error:  # a trigger's own failure: nothing can be said of its schedule, and others go on
            if failures.is_unavailable(error):
                raise
            log.exception("audit_failed", schedule_id=schedule_id, generation=generation.number)
            report.since_us, report.tally.exact = report.until_us + 1, False

    def _owed(self, conn: Connection, schedule_id: str, generation: Generation, until_us: int) -> Owed:
        lives = server_runs.between(conn, generation.versions[0].from_us, until_us, limit=MAX_LIVES)
        known_us = generation.known_after_us
        if len(lives) == MAX_LIVES:
            known_us = max(known_us, lives[0].started_us)
        return owed(
            generation.versions,
            known_us,
            until_us,
            trigger_of=partial(self._resolver.trigger_then, conn),
            lives=lives,
            decided_upto=lambda us: fire_audit.decided_upto(conn, schedule_id, generation.number, us),
        )


# --- reading ----------------------------------------------------------------------------------------


def _load(conn: Connection, schedule_id: str, after_us: int) -> list[Generation]:
    """The generations that reach into the time after ``after_us``, the newest first, with their versions of then."""
    generations: list[Generation] = []
    for count, version in enumerate(_newest_first(conn, schedule_id), 1):
        if version.to_us is not None and version.to_us < after_us:
            break
        last = generations[-1] if generations else None
        if last is None or last.number != version.schedule.generation:
            generations.append(Generation(version.schedule.generation, [version]))
        elif last.versions[0].schedule.version == version.schedule.version + 1:
            last.versions.insert(0, version)
        # Else one between the two is missing: what came before it is of no use.
        if count == MAX_VERSIONS:
            break
    for generation in generations:
        first = generation.versions[0]
        # Before the first version there was nothing to be known.
        if first.schedule.version > 1 and first.from_us > after_us:
            generation.known_after_us = first.from_us
    return generations


def _newest_first(conn: Connection, schedule_id: str) -> Iterator[Version]:
    row = store_schedules.get(conn, schedule_id)
    if row is not None:
        yield Version(replace(row, params=b"{}"), row.updated_us, None)
    for version in schedule_history.walk(conn, schedule_id):
        # Parameters may be large, and bear on nothing here.
        yield Version(replace(version.schedule, params=b"{}"), version.from_us, version.to_us)


def _add_stray(
    conn: Connection, number: int, newest: int | None, report: AuditReport, after_us: int, until_us: int
) -> None:
    """Rows of a generation that has no version of that time."""
    last_us = fire_audit.decided_upto(conn, report.schedule_id, number, until_us)
    ended = schedule_history.last_of(conn, report.schedule_id, number)
    if ended is not None:
        after_us = max(after_us, ended.to_us)
    if last_us is None or last_us <= after_us:
        return
    if ended is None and (newest is None or number < newest):
        # It was deleted before versions were kept: what it had to decide is not known.
        report.since_us = max(report.since_us, last_us + 1)
        return
    _Comparison(conn, report.schedule_id, number, Owed([], [], -1), until_us).into(report, after_us)


def _before_rows(conn: Connection, schedule_id: str, number: int, us: int) -> int:
    """``us``, or the nearest earlier moment over which no summarising row reaches."""
    while over := fire_audit.reaching_over(conn, schedule_id, number, us):
        us = over[0] - 1
    return us


def _behind_rows(conn: Connection, schedule_id: str, number: int, us: int) -> int:
    """``us``, or the nearest later moment over which no summarising row reaches."""
    while over := fire_audit.reaching_over(conn, schedule_id, number, us):
        us = over[1]
    return us


# --- comparing --------------------------------------------------------------------------------------


class _Comparison:
    """One generation of one schedule."""

    def __init__(self, conn: Connection, schedule_id: str, number: int, found: Owed, until_us: int) -> None:
        self._conn = conn
        self._id = schedule_id
        self._number = number
        self._owed = found
        self._until_us = until_us
        self._traces = MAX_TRACED

    def into(self, report: AuditReport, after_us: int) -> None:
        """Add what is found after ``after_us`` to a report, and from when on it is complete."""
        if self._owed.known_after_us > after_us:
            after_us = self._later(report, self._owed.known_after_us)
        tally = Tally()
        at_us = after_us
        for chain in self._owed.chains:
            if chain.upto_us <= at_us:
                continue
            if chain.after_us > at_us:
                tally.add(self._spans(report, at_us, chain.after_us))
            tally.add(self._chain(report, chain, max(chain.after_us, after_us)))
            at_us = chain.upto_us
        if at_us < self._until_us:
            tally.add(self._spans(report, at_us, self._until_us))
        report.tally.add(tally)
        report.details += [Detail(self._number, finding) for finding in tally.findings]

    def _later(self, report: AuditReport, us: int) -> int:
        """Begin after ``us`` instead, where no summarising row reaches over, and say so."""
        us = self._clear(us)
        report.since_us = max(report.since_us, us + 1)
        return us

    def _clear(self, us: int) -> int:
        return _behind_rows(self._conn, self._id, self._number, us)

    # --- spans ------------------------------------------------------------------------------------------

    def _spans(self, report: AuditReport, after_us: int, upto_us: int) -> Tally:
        """Compare ``(after_us, upto_us]``: as much of it as is not too much."""
        oldest_us = fire_audit.nth_newest(self._conn, self._id, self._number, upto_us, MAX_ROWS)
        if oldest_us is not None and oldest_us > after_us:
            after_us = self._later(report, oldest_us)
        for _ in range(MAX_TRIES):
            spans = joined(clipped(self._owed.spans, after_us, upto_us))
            count = expected_count(spans)
            if count is not None:
                return self._compare(spans, count, after_us, upto_us)
            after_us = self._later(report, upto_us - (upto_us - after_us) // 4)
        self._later(report, upto_us)
        return Tally(exact=False)

    def _compare(self, spans: list[Span], count: int, after_us: int, upto_us: int) -> Tally:
        if self._few(count, after_us, upto_us):
            return compare(spans, fire_audit.entries(self._conn, self._id, self._number, after_us, upto_us))
        recorded = fire_audit.total(self._conn, self._id, self._number, after_us, upto_us)
        overlaps = overlap(spans)
        if recorded == count and not overlaps:
            return Tally(expected=count, recorded=recorded, exact=False)
        middle_us = self._clear((after_us + upto_us) // 2)
        if self._traces > 0 and after_us < middle_us < upto_us:
            return self._traced(after_us, middle_us, upto_us)
        tally = Tally(expected=count, recorded=recorded, exact=False)
        if recorded != count and not overlaps:
            kind = FindingKind.MISSED if recorded < count else FindingKind.EXTRA
            tally.found(kind, after_us + 1, upto_us, abs(recorded - count))
        return tally

    def _few(self, count: int, after_us: int, upto_us: int) -> bool:
        if count > EXACT:
            return False
        # What was tampered with may have far more rows than nominal times.
        beyond = fire_audit.nth_newest(self._conn, self._id, self._number, upto_us, 2 * EXACT)
        return beyond is None or beyond <= after_us

    def _traced(self, after_us: int, middle_us: int, upto_us: int) -> Tally:
        """Both halves of a range that is not as it should be."""
        tally = Tally()
        for low_us, high_us in ((after_us, middle_us), (middle_us, upto_us)):
            spans = joined(clipped(self._owed.spans, low_us, high_us))
            part = self._compare(spans, expected_count(spans) or 0, low_us, high_us)
            self._traces -= part.exact and bool(part.expected or part.recorded)
            tally.add(part)
        return tally

    # --- chains -----------------------------------------------------------------------------------------

    def _chain(self, report: AuditReport, chain: Chain, after_us: int) -> Tally:
        conn, id_, number = self._conn, self._id, self._number
        oldest_us = fire_audit.nth_newest(conn, id_, number, chain.upto_us, EXACT)
        if oldest_us is not None and oldest_us > after_us:
            after_us = self._later(report, oldest_us)
        base_us = fire_audit.decided_upto(conn, id_, number, after_us)
        first_us = base_us if base_us is not None and base_us > chain.after_us else None
        links = fire_audit.links(conn, id_, number, after_us if first_us is None else first_us - 1, chain.upto_us)
        starts = [start for start in chain.starts if start[0] >= after_us or first_us is None]
        tally = compare_chain(links, chain.after_run, starts)
        if first_us is not None:
            # The one before the range is what the first one in it has to follow; it was audited itself before.
            tally.expected -= 1
            tally.recorded -= 1
        current = chain.current
        if current is not None and current.state is ScheduleState.ACTIVE and current.next_fire_us is None:
            base = links[-1].base_us if links else None
            if current.waits_for is not None:
                ends = store_executions.get(conn, current.waits_for)
                base = None if ends is None else ends.execution.finished_us or ends.execution.stored_us
            due_us = None if base is None else chain.after_run(base)
            if due_us is not None and due_us <= self._until_us:
                if current.waits_for is not None:
                    report.undecided_us = due_us
                else:
                    tally.expected += 1
                    tally.found(FindingKind.MISSED, due_us, due_us)
        return tally
