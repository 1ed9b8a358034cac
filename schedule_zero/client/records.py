"""What the client gives back: typed, with aware datetimes and decoded payloads. Unknown fields are ignored."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Generic, TypeVar

from msgspec import Struct, field

from schedule_zero.errors import JobFailed
from schedule_zero.job_options import Options
from schedule_zero.model import (
    AttemptOutcome,
    BackfillState,
    ErrorCategory,
    FireOutcome,
    ScheduleState,
    SkipReason,
    State,
)

T = TypeVar("T")

# A copy of ``rules.states.TERMINAL`` (a test holds them together): clients don't carry the rules.
OVER = frozenset({State.COMPLETED, State.FAILED, State.TIMEOUT, State.CANCELLED, State.MISFIRED, State.DEAD})


class Record(Struct, frozen=True, kw_only=True):
    """Something that the server told; it doesn't change when the server's does."""


class Job(Struct, kw_only=True, omit_defaults=True):
    """One job to be submitted, for ``submit_many``. The fields are those of ``POST /api/executions``.

    ``idempotency_key`` is for the job itself (``ctx.idempotency_key``). Here it keeps nothing from being submitted
    twice: two jobs with the same one are two executions, unlike in ``submit`` and ``run``.
    """

    handler_id: str
    job_method: str
    job_params: dict[str, Any] = {}
    options: Options = {}
    # Not before this moment (unix seconds, or aware); None: at once.
    not_before: datetime | float | None = None
    idempotency_key: str | None = None


class JobError(Record, frozen=True):
    """Why an attempt did not complete, in the words of the node."""

    type: str = ""
    message: str = ""
    traceback: str = ""
    category: ErrorCategory | None = None
    bases: list[str] = []


class AttemptRecord(Record, frozen=True):
    """One delivery to a node that is over, while the execution went on."""

    attempt: int
    token: int
    # None while it runs.
    outcome: AttemptOutcome | None
    node_id: str | None = None
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    # What its process used, where it had one of its own (``isolation``).
    cpu_ms: float | None = None
    peak_rss_bytes: int | None = None
    # How far it is, or was when it ended: {percent, text, at_us, eta_s}; None if it never said so.
    progress: dict[str, Any] | None = None
    error: JobError | None = None


class ExecutionRecord(Record, frozen=True):
    """One piece of work. Lists leave out parameters, attempts and progress, and name large payloads in ``omitted``."""

    id: str
    handler_id: str
    job_method: str
    status: State
    schedule_id: str | None = None
    priority: int = 5
    attempt: int = 0
    node_id: str | None = None
    origin: str = ""
    parent_id: str | None = None
    group_id: str | None = None
    # ``2/8``: part 2, counted from 0, of 8.
    shard: str | None = None
    nominal_time: datetime | None = None
    not_before: datetime | None = None
    created_at: datetime | None = None
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    stored_at: datetime | None = None
    duration_ms: float | None = None
    # What its last attempt used, where that ran in a process of its own.
    cpu_ms: float | None = None
    peak_rss_bytes: int | None = None
    cancel_requested: bool = False
    # The group of its failure, until somebody deals with it.
    dead_letter: str | None = None
    result: Any = None
    # Of a large result: ``result`` is None then, and ``client.result(id)`` gets it.
    result_bytes: int | None = None
    error: JobError | None = None
    omitted: list[str] = []
    job_params: dict[str, Any] = {}
    attempts: list[AttemptRecord] = []
    # How far its last attempt is, or came: {percent, text, at_us, eta_s}.
    progress: dict[str, Any] | None = None
    # While it is pending: {reason, detail, running, limit, until}.
    waiting_for: dict[str, Any] | None = None

    @property
    def over(self) -> bool:
        """Whether it is in a state that it never leaves."""
        return self.status in OVER

    def value(self) -> Any:
        """The job's result; raises JobFailed for one that is over without it."""
        if self.status is State.COMPLETED:
            return self.result
        raise job_failed(self.id, self.status, self.error, f"{self.handler_id}.{self.job_method}")


class LogLine(Record, frozen=True):
    """A line of a log. ``stream``: ``stdout``, ``stderr``, ``log`` (its logger) or ``node`` (words of its node)."""

    # 0: the first line of this attempt.
    line: int
    text: str
    at: datetime | None = None
    stream: str = "stdout"
    level: str | None = None
    # Only in a stream, which goes from one to the next.
    attempt: int = 0


class LogPage(Record, frozen=True):
    """Lines of one attempt's log, in order. ``next``: where to go on, None at the end of what there is."""

    id: str
    attempt: int
    lines: list[LogLine]
    total_lines: int
    # There will be no more of them.
    complete: bool
    next: int | None = None


class RunResult(Record, frozen=True):
    """A job that was run and has completed."""

    execution_id: str
    result: Any = None
    message: str = ""


class ScheduleRecord(Record, frozen=True):
    """One schedule; ``etag`` is what ``if_match`` takes, and says "as I saw it"."""

    id: str
    handler_id: str
    job_method: str
    trigger: dict[str, Any]
    job_params: dict[str, Any] = {}
    options: dict[str, Any] | None = None
    policies: dict[str, Any] = {}
    state: ScheduleState = ScheduleState.ACTIVE
    note: str | None = None
    paused_until: datetime | None = None
    misfire_grace_s: float | None = None
    next_fire_time: datetime | None = None
    last_fire_time: datetime | None = None
    skips: list[datetime] = []
    waits_for: str | None = None
    runs: int = 0
    generation: int = 1
    version: int = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None
    updated_by: str | None = None

    @property
    def etag(self) -> str:
        return f"{self.generation}-{self.version}"


class FireRecord(Record, frozen=True):
    """One row of a schedule's ledger; with ``count`` > 1 the fires from ``nominal_time`` to ``last_nominal_time``."""

    schedule_id: str
    nominal_time: datetime
    outcome: FireOutcome
    generation: int = 1
    reason: SkipReason | None = None
    execution_id: str | None = None
    group_id: str | None = None
    count: int = 1
    last_nominal_time: datetime | None = None
    decided_at: datetime | None = None
    lateness_s: float = 0.0
    detail: str | None = None


class Page(Record, Generic[T], frozen=True):
    """One page of a list; ``next_cursor`` None on the last."""

    records: list[T]
    next_cursor: str | None = None


class SchedulePage(Record, frozen=True):
    """``count`` is that of all schedules that match."""

    schedules: list[ScheduleRecord]
    count: int = 0
    next_cursor: str | None = None


class PreviewFire(Record, frozen=True):
    """A fire to come. Marks: ``dst_gap``, ``dst_fold``, ``shifted``; ``holiday``, ``blackout``: it will be skipped."""

    time: datetime
    local: str = ""
    marks: list[str] = []
    detail: str | None = None


class FreezeRecord(Record, frozen=True):
    """A time in which no schedule fired; ``to`` is None while it is in force without an end."""

    id: str
    from_: datetime = field(name="from")
    to: datetime | None = None
    note: str | None = None
    by: str | None = None
    # Who ended it; None if its own end came.
    thawed_by: str | None = None
    # What became of its fires: none, latest, all, or policy (each schedule's own).
    catch_up: str = "policy"


class Freezes(Record, frozen=True):
    """The freeze in force, and all that there were, the newest first."""

    current: FreezeRecord | None
    freezes: list[FreezeRecord]


class BackfillCount(Record, frozen=True):
    """What a backfill would run."""

    count: int
    first_time: datetime | None = None
    last_time: datetime | None = None
    takes_s: float = 0.0


class BackfillRecord(Record, frozen=True):
    """A past range that is run; its executions have its id as ``group_id``."""

    id: str
    schedule_id: str
    state: BackfillState
    from_: datetime = field(name="from")
    to: datetime
    rate_per_s: float
    count: int
    created: int = 0
    # The first nominal time that has no execution yet.
    next_time: datetime | None = None
    created_at: datetime | None = None
    by: str | None = None


class BackfillPage(Record, frozen=True):
    """One page of a schedule's backfills; ``next_cursor`` None on the last."""

    backfills: list[BackfillRecord]
    next_cursor: str | None = None


class Preview(Record, frozen=True):
    """A trigger in words, as the server understood it, its next nominal times, and what may be meant otherwise."""

    words: str
    trigger: dict[str, Any]
    fires: list[PreviewFire]
    zone: str = "UTC"
    warnings: list[str] = []


class CalendarRecord(Record, frozen=True):
    """One named calendar; ``etag`` is what ``if_match`` takes. ``warnings`` are about what was just written."""

    name: str
    document: dict[str, Any]
    version: int = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None
    warnings: list[str] = []

    @property
    def etag(self) -> str:
        return str(self.version)


class CalendarSummary(Record, frozen=True):
    """A calendar in a list: how many ``entries`` of each kind it has (``ical``: events)."""

    name: str
    version: int = 1
    timezone: str = "UTC"
    description: str = ""
    entries: dict[str, int] = {}
    created_at: datetime | None = None
    updated_at: datetime | None = None


class CalendarPage(Record, frozen=True):
    """``count`` is that of all calendars."""

    calendars: list[CalendarSummary]
    count: int = 0
    next_cursor: str | None = None


class CalendarWindow(Record, frozen=True):
    """``[start, end)`` that a calendar covers."""

    start: datetime
    end: datetime
    reason: SkipReason
    label: str


class CalendarCheck(Record, frozen=True):
    """What a calendar says about a moment, and about its day in the calendar's zone."""

    at: datetime
    covered: bool
    window: CalendarWindow | None
    day: date
    business_day: bool
    why: str | None = None
    next_business_day: date | None = None


class CalendarVersion(Record, frozen=True):
    """What a calendar was from ``from_time`` on. ``document`` only where one version was asked for."""

    name: str
    version: int
    from_time: datetime
    deleted: bool = False
    document: dict[str, Any] | None = None


class HandlerRecord(Record, frozen=True):
    """One handler; ``status`` is ``Connected`` or ``Disconnected``."""

    id: str
    status: str = ""
    methods: list[str] = []
    nodes: list[str] = []
    job_methods: list[dict[str, Any]] = []
    registered_at: datetime | None = None
    last_updated: datetime | None = None


class NodeOperation(Record, frozen=True):
    """Why a node gets no new work. ``kind``: ``cordon``, ``drain`` or ``quarantine``; ``by`` None: the server."""

    kind: str
    since: datetime
    # Of a drain the deadline, of a quarantine when the node is on probation.
    until: datetime | None = None
    note: str | None = None
    by: str | None = None
    probation: bool = False


class NodeRecord(Record, frozen=True):
    """One node, and its live session where it has one."""

    node_id: str
    state: str
    handlers: list[str] = []
    slots: int = 0
    running: int = 0
    draining: bool = False
    operation: NodeOperation | None = None
    heartbeat_age_s: float | None = None
    round_trip_s: float | None = None
    # How far its clock is ahead of the server's.
    clock_skew_s: float | None = None
    version: str = ""
    host: str = ""
    pid: int = 0
    connected_at: datetime | None = None
    labels: dict[str, str] = {}
    facts: dict[str, str] = {}


class CancelRecord(Record, frozen=True):
    """``outcome``: ``cancelled``, ``requested`` (it runs; its node confirms) or ``terminal`` (it was over already)."""

    id: str
    outcome: str
    status: State | None = None


class CancelledMany(Record, frozen=True):
    """How many were found: cancelled (they waited), told to end (they run), left alone (over, or begun meanwhile)."""

    matched: int
    cancelled: int
    requested: int
    left: int
    next_cursor: str | None = None

    def plus(self, other: CancelledMany) -> CancelledMany:
        """Both together."""
        return CancelledMany(
            self.matched + other.matched,
            self.cancelled + other.cancelled,
            self.requested + other.requested,
            self.left + other.left,
        )


def job_failed(execution_id: str, status: str, error: JobError | None, job: str) -> JobFailed:
    """The error for a job that ended without completing."""
    said = f"{error.type}: {error.message}" if error and error.type else (error.message if error else "")
    return JobFailed(
        f"{job} ended as {status}" + (f": {said}" if said else ""),
        execution_id=execution_id,
        status=str(status),
        type=error.type if error else "",
        traceback=error.traceback if error else "",
    )
