"""How everything stands, for the page that many have open all day.

What does not depend on who looks is worked out once for all of them, at most about once a second, and only while
somebody looks. Most of it is in memory; what is read is bounded, however many executions and schedules there are.
While the store can't be read, what is in memory is still told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct

from schedule_zero.clock import Clock
from schedule_zero.dispatch.dispatcher import Dispatcher, NodeView
from schedule_zero.errors import StoreUnavailable
from schedule_zero.model import Execution, Freeze, JobError, LaneKey, State
from schedule_zero.rules.signature import signature
from schedule_zero.service.audit_rounds import AuditStats
from schedule_zero.service.dead_letters import DeadLetterService
from schedule_zero.service.foresight import ForesightService, NextRuns
from schedule_zero.service.freezes import FreezeService
from schedule_zero.service.series import SeriesService, SeriesView, Spark
from schedule_zero.service.shared import Shared
from schedule_zero.service.system import SystemService
from schedule_zero.store import Store, lane_sizes, recent_failures, schedule_overview
from schedule_zero.store import changes as store_changes
from schedule_zero.store.changes import Change, Filter
from schedule_zero.store.recent_failures import Failure
from schedule_zero.store.schedule_overview import ScheduleCounts

if TYPE_CHECKING:
    from sqlalchemy import Connection

MINUTE_US = 60_000_000
DAY_US = 86_400_000_000
# How old what is shown may be.
STANDING_S = 0.9
SPARK_S = 4.0
FAILURES_S = 8.0
CHANGES_S = 0.9
# How far ahead what comes is shown, and how many schedules of it.
AHEAD_US = 15 * MINUTE_US
AHEAD_ROWS = 10
# To find the next one at all.
FAR_US = 400 * DAY_US
# Failures that are looked at, the newest, and groups of them that are shown.
FAILURES = 300
GROUPS = 12
# Changes that are shown, the newest, of so many that are looked at.
CHANGES = 8
CHANGES_LOOKED_AT = 60
# Lanes without a node that are looked at, and how far what waits in one is counted.
LANES = 20
MOST_WAITING = 1_000


class Unserved(Struct, frozen=True, kw_only=True):
    """Jobs of a handler that wait and that no connected node may run; ``more``: at least so many."""

    handler_id: str
    waiting: int
    more: bool
    # Of the lane in which most wait.
    why: str


class Stored(Struct, frozen=True):
    """What the store says."""

    schedules: ScheduleCounts
    # Within ``AHEAD_US``; and where nothing comes in that time, what comes next at all.
    ahead: NextRuns
    next_at_all: NextRuns | None
    unserved: list[Unserved]
    # There is no schedule, and there never was an execution.
    unused: bool


class Standing(Struct, frozen=True, kw_only=True):
    """How everything stands at ``at_us``."""

    at_us: int
    nodes: list[NodeView]
    handlers: int
    running: int
    # Executions that are not over and do not run.
    waiting: int
    # Executions that may be open at once; and which limits are reached: ``all``, or handlers.
    backlog_limit: int
    backlog_full: list[str]
    # Of /readyz, those that fail: name → what is the matter.
    unwell: dict[str, str]
    freeze: Freeze | None
    dead_letters: int
    # What audits of the ledger found since the server began: nominal times, and one schedule that they are of.
    missed: int
    one_missed: str | None
    spark: Spark
    # None: the store can't be read.
    stored: Stored | None


class FailureGroup(Struct, kw_only=True):
    """What failed alike in the last day; what it said is of the newest."""

    handler_id: str
    job_method: str
    state: State
    error: JobError | None
    count: int
    last_us: int
    execution_id: str
    # The group that those of them are in that nobody has dealt with yet, and how many they are.
    dead_letter: str | None = None
    waiting: int = 0


class Failures(Struct, frozen=True, kw_only=True):
    """Of the last day, by job and error, those with most first; ``complete``: no more than the newest are counted."""

    since_us: int
    looked_at: int
    complete: bool
    groups: list[FailureGroup]
    more_groups: int


class OverviewService:
    """Reads only."""

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        system: SystemService,
        series: SeriesService,
        foresight: ForesightService,
        freezes: FreezeService,
        dead_letters: DeadLetterService,
        audit: AuditStats,
        clock: Clock,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._system = system
        self._series = series
        self._foresight = foresight
        self._freezes = freezes
        self._letters = dead_letters
        self._audit = audit
        self._clock = clock
        self._standing = Shared(clock, STANDING_S, self._stand, name="overview standing")
        self._failures = Shared(clock, FAILURES_S, self._fail, name="overview failures")
        self._changes = Shared(clock, CHANGES_S, self._change, name="overview changes")
        self._charts: dict[tuple[int, int], Shared[SeriesView]] = {}
        self._spark: tuple[float, Spark] | None = None

    async def standing(self) -> Standing:
        """How everything stands; who asks within a second gets the very same object."""
        return await self._standing.get()

    async def failures(self) -> Failures:
        """What failed in the last day. StoreUnavailable."""
        return await self._failures.get()

    async def changes(self) -> list[Change]:
        """The last changes that somebody, or the server, made; not who signed in. StoreUnavailable."""
        return await self._changes.get()

    async def chart(self, range_s: int, step_s: int) -> SeriesView:
        """The series of the last ``range_s`` seconds; its newest bucket grows. StoreUnavailable."""
        shared = self._charts.get((range_s, step_s))
        if shared is None:
            read = partial(self._chart, range_s, step_s)
            shared = self._charts[range_s, step_s] = Shared(
                self._clock, renewed_s(step_s) * 0.8, read, name=f"overview chart {range_s}"
            )
        return await shared.get()

    async def _chart(self, range_s: int, step_s: int) -> SeriesView:
        now_us = self._clock.wall_us()
        # Whole buckets, with the one that is not over as the last.
        return await self._series.read(max(0, now_us - (range_s - step_s) * 1_000_000), None, step_s)

    # --- how it stands ------------------------------------------------------------------------------

    async def _stand(self) -> Standing:
        dispatcher, audit = self._dispatcher, self._audit
        _, checks = self._system.ready()
        nodes = dispatcher.nodes()
        # As the store knows them, so that what waits is never less than none.
        running = min(sum(node.running for node in nodes), dispatcher.backlog.open)
        lanes = dispatcher.unserved()[:LANES]
        try:
            stored = await self._store.read(partial(self._stored, lanes=lanes))
        except StoreUnavailable:
            stored = None
        return Standing(
            at_us=self._clock.wall_us(),
            nodes=nodes,
            handlers=len(dispatcher.registry.handlers()),
            running=running,
            waiting=dispatcher.backlog.open - running,
            backlog_limit=dispatcher.backlog.limit,
            backlog_full=dispatcher.backlog.full,
            unwell={name: message for name, message in checks.items() if message is not None},
            freeze=self._freezes.current(),
            dead_letters=sum(self._letters.waiting.values()),
            missed=audit.missed,
            one_missed=next((id_ for id_, found in audit.found.items() if found[0]), None),
            spark=self._sparks(),
            stored=stored,
        )

    def _stored(self, conn: Connection, lanes: Sequence[LaneKey]) -> Stored:
        now_us = self._clock.wall_us()
        counts = schedule_overview.counts(conn)
        ahead = self._foresight.next_runs_in(conn, now_us + AHEAD_US, AHEAD_ROWS)
        return Stored(
            schedules=counts,
            ahead=ahead,
            next_at_all=None if ahead.rows else self._foresight.next_runs_in(conn, now_us + FAR_US, 1),
            unserved=self._unserved(lane_sizes.pending_up_to(conn, lanes, MOST_WAITING)),
            unused=counts.total == 0 and not schedule_overview.has_executions(conn),
        )

    def _unserved(self, sizes: dict[LaneKey, int]) -> list[Unserved]:
        """By handler, those first for which most wait."""
        waiting: Counter[str] = Counter()
        lanes: dict[str, LaneKey] = {}
        # (The longest lane of each handler stays.)
        for lane, n in sorted(sizes.items(), key=lambda pair: pair[1]):
            if n:
                waiting[lane[0]] += n
                lanes[lane[0]] = lane
        return [
            Unserved(
                handler_id=handler_id,
                waiting=n,
                more=sizes[lanes[handler_id]] >= MOST_WAITING,
                why=self._dispatcher.why_nobody(lanes[handler_id]) or "its nodes are just connecting",
            )
            for handler_id, n in waiting.most_common()
        ]

    def _sparks(self) -> Spark:
        """Sixty minutes are summed up: not anew for each that looks."""
        now_s = self._clock.mono_s()
        if self._spark is None or now_s - self._spark[0] > SPARK_S:
            self._spark = (now_s, self._series.spark())
        return self._spark[1]

    # --- what failed ----------------------------------------------------------------------------------

    async def _fail(self) -> Failures:
        since_us = self._clock.wall_us() - DAY_US
        return await self._store.read(partial(_failures, since_us=since_us))

    # --- what was changed -----------------------------------------------------------------------------

    async def _change(self) -> list[Change]:
        found = await self._store.read(partial(store_changes.find, wanted=Filter(limit=CHANGES_LOOKED_AT)))
        # A browser that comes or goes changes nothing.
        return [change for change in found.rows if change.noun != "session"][:CHANGES]


def renewed_s(step_s: int) -> float:
    """How often a chart of buckets of that length is worth being asked for again."""
    return min(60.0, max(5.0, step_s / 12))


def _failures(conn: Connection, *, since_us: int) -> Failures:
    rows, complete = recent_failures.newest(conn, since_us, FAILURES)
    groups = grouped(rows)
    return Failures(
        since_us=since_us,
        looked_at=len(rows),
        complete=complete,
        groups=groups[:GROUPS],
        more_groups=max(0, len(groups) - GROUPS),
    )


def grouped(rows: Iterable[Failure]) -> list[FailureGroup]:
    """By what they have in common (``rules.signature``), those with most first; ``rows`` are the newest first."""
    groups: dict[str, FailureGroup] = {}
    for row in rows:
        like = Execution(id=row.id, handler_id=row.handler_id, job_method=row.job_method)
        key = row.dead_letter or signature(like, row.state, row.error) or row.id
        group = groups.get(key)
        if group is None:
            group = groups[key] = FailureGroup(
                handler_id=row.handler_id,
                job_method=row.job_method,
                state=row.state,
                error=row.error,
                count=0,
                last_us=row.ended_us,
                execution_id=row.id,
            )
        group.count += 1
        group.last_us = max(group.last_us, row.ended_us)
        if row.dead_letter is not None:
            group.dead_letter = row.dead_letter
            group.waiting += 1
    return sorted(groups.values(), key=lambda group: (-group.count, -group.last_us))
