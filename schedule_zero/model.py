"""The nouns of the system and their values: what the store keeps, the core decides about and the API shows.

Pure data, no behaviour beyond identity. Times are microseconds since the epoch (``…_us``). Payloads
(``params``, ``result``, ``error``, ``options``) stay encoded JSON from the request to the node and back:
the server checks them once and never rebuilds them. What exists by the ten thousand holds scalars only and stays out
of the garbage collector's sight (``gc=False``): walking it costs as much as the work itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

from schedule_zero.clock import Clock, SystemClock
from schedule_zero.job_options import JobOptions


class State(StrEnum):
    """What an execution is doing. The allowed transitions stand in ``rules.states``."""

    BLOCKED = "blocked"
    SCHEDULED = "scheduled"
    PENDING = "pending"
    RUNNING = "running"
    RETRY_SCHEDULED = "retry_scheduled"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    MISFIRED = "misfired"
    DEAD = "dead"


class Origin(StrEnum):
    """Where an execution came from."""

    FIRE = "fire"
    RUN_NOW = "run_now"
    SUBMIT = "submit"
    RETRY = "retry"
    # A past range of a schedule, run afterwards on request.
    BACKFILL = "backfill"


class FireOutcome(StrEnum):
    """What became of one nominal time of one schedule."""

    EXECUTED = "executed"
    CAUGHT_UP = "caught_up"
    SKIPPED = "skipped"
    MISSED = "missed"


class SkipReason(StrEnum):
    """Why a fire did not become an execution."""

    OVERLAP = "overlap"
    PAUSED = "paused"
    BLACKOUT = "blackout"
    HOLIDAY = "holiday"
    CATCH_UP_LIMIT = "catch_up_limit"
    DST_GAP = "dst_gap"
    QUARANTINED = "quarantined"
    # Too much of its handler, or in all, was not over.
    BACKPRESSURE = "backpressure"
    # Another execution had its unique key.
    DUPLICATE = "duplicate"
    # Several were due at once, and the schedule wants only the latest of them to run.
    COALESCED = "coalesced"
    # An operator asked to skip it.
    REQUESTED = "requested"
    # All schedules were frozen, and whoever thawed them did not want it to be made up for.
    FROZEN = "frozen"
    # The schedule was changed or deleted after it was due and before it was decided.
    CHANGED = "changed"
    # It was to run on every node that matches, and there was none.
    NO_NODE = "no_node"


class AttemptOutcome(StrEnum):
    """How one attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    LOST = "lost"
    HANDED_BACK = "handed_back"


class Role(StrEnum):
    """What a token may do. A worker runs jobs and sees nothing; operator and admin include the ones before them."""

    WORKER = "worker"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class ScheduleState(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    FINISHED = "finished"
    QUARANTINED = "quarantined"


class NodeState(StrEnum):
    """``online`` → ``suspect`` (6 s silent) → ``lost`` (10 s, or its socket closed) ; ``offline`` said goodbye."""

    ONLINE = "online"
    SUSPECT = "suspect"
    LOST = "lost"
    OFFLINE = "offline"


class OperationKind(StrEnum):
    """Why a connected node gets no new work; at most one at a time, until it is released."""

    # What it holds goes on, queued or running.
    CORDON = "cordon"
    # It hands back what it has not started, and at the deadline what still runs.
    DRAIN = "drain"
    # The server did it, because of what happened there; it ends by itself once the node does well again.
    QUARANTINE = "quarantine"


class CatchUp(StrEnum):
    """What becomes of nominal times that are later than the misfire grace."""

    NONE = "none"
    LATEST = "latest"
    ALL = "all"


class Overlap(StrEnum):
    """What a fire does while an earlier execution of its schedule is not over."""

    ALLOW = "allow"
    SKIP = "skip"
    # It waits until the earlier one is over; one that comes while another waits already is skipped.
    BUFFER_ONE = "buffer_one"
    BUFFER_ALL = "buffer_all"
    # The earlier ones are cancelled, and it starts when they are over.
    CANCEL_RUNNING = "cancel_running"
    # What has not started yet is cancelled; what runs is waited for.
    REPLACE_PENDING = "replace_pending"


class Spread(StrEnum):
    """How jitter is drawn: anew for each fire, or from the schedule's id, so that it stays the same."""

    UNIFORM = "uniform"
    HASH = "hash"


class DayRule(StrEnum):
    """What becomes of a fire on a day that is not a business day."""

    SKIP = "skip"
    PREVIOUS = "previous"
    NEXT = "next"


# How many fires a schedule may be asked to make up for, or to skip in advance.
MAX_CATCH_UP = 1000
# Parts of one fire.
MAX_FIRE_SHARDS = 1000
MAX_SKIPS = 100


class ErrorCategory(StrEnum):
    """What kind of failure it was, as far as its exception tells."""

    # It may go well the next time.
    TRANSIENT = "transient"
    # Something took too long: the attempt, or what it waited for.
    TIMEOUT = "timeout"
    # Something that the job needs did not answer, or isn't there.
    DEPENDENCY = "dependency"
    # It would fail in the same way again.
    CRITICAL = "critical"


CalendarName = Annotated[str, Meta(min_length=1, max_length=128)]


class BusinessDays(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named calendar's business days, and what becomes of a fire on another day."""

    calendar: CalendarName
    rule: DayRule
    # The calendar's version that the schedule's times are computed with; filled in by the server.
    version: int | None = None


class Policies(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What happens to a schedule's fires. ``None`` means the server's default."""

    catch_up: CatchUp = CatchUp.LATEST
    catch_up_window_s: Annotated[float, Meta(gt=0, le=86_400 * 365)] | None = None
    # With ``catch_up: all``: at most the newest so many.
    catch_up_max: Annotated[int, Meta(ge=1, le=MAX_CATCH_UP)] = 100
    # Of several that are due at once, run only the latest.
    coalesce: bool = False
    overlap: Overlap = Overlap.ALLOW
    # Finished after so many runs.
    max_fires: Annotated[int, Meta(ge=1, le=1_000_000_000)] | None = None
    # Paused after so many failed executions in a row.
    max_failures: Annotated[int, Meta(ge=1, le=1000)] | None = None
    # How long its executions are kept when they are over (instead of the server's ages), and the newest how many.
    keep_s: Annotated[float, Meta(gt=0, le=86_400 * 36_525)] | None = None
    keep_last: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    # Each execution starts up to so much after its nominal time.
    jitter_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    jitter: Spread = Spread.UNIFORM
    # Named calendars: no fire inside any of ``exclude``, nor outside any of ``require``.
    exclude: Annotated[tuple[CalendarName, ...], Meta(max_length=20)] = ()
    require: Annotated[tuple[CalendarName, ...], Meta(max_length=20)] = ()
    business_days: BusinessDays | None = None
    # Each run is a group: one execution on every node that matches, or so many parts.
    broadcast: bool = False
    shards: Annotated[int, Meta(ge=1, le=MAX_FIRE_SHARDS)] | None = None

    @property
    def grouped(self) -> bool:
        """Whether a run is several executions with one outcome."""
        return self.broadcast or self.shards is not None


NO_POLICIES = Policies()


class Execution(Struct, kw_only=True, gc=False):
    """One piece of work to be done; the fields are the columns of ``executions``."""

    id: str
    handler_id: str
    job_method: str
    params: bytes = b"{}"
    state: State = State.PENDING
    priority: int = 5
    origin: Origin = Origin.SUBMIT
    schedule_id: str | None = None
    nominal_us: int | None = None
    not_before_us: int | None = None
    parent_id: str | None = None
    # What it was made together with: the id of a backfill, or of a group.
    group_id: str | None = None
    # ``2/8``: part 2, counted from 0, of a job that was made as 8 parts.
    shard: str | None = None
    # Which nodes may run it (``rules.birth.LaneSpec`` as JSON); None: all that serve its method.
    lane: str | None = None
    # The templates of its options, filled in.
    concurrency_key: str | None = None
    rate_key: str | None = None
    sticky_key: str | None = None
    unique_key: str | None = None
    # Not started by then, it is ``misfired``.
    start_by_us: int | None = None
    attempt: int = 0
    token: int = 0
    node_id: str | None = None
    # How many attempts ended with the loss of their node; three make the execution ``dead`` (C16).
    lost_count: int = 0
    cancel_requested: bool = False
    # The effective JobOptions as JSON; ``None`` when all are defaults.
    options: bytes | None = None
    idempotency_key: str | None = None
    created_us: int = 0
    dispatched_us: int | None = None
    started_us: int | None = None
    finished_us: int | None = None
    stored_us: int | None = None
    # What the process of its last attempt used, where it had one of its own.
    cpu_us: int | None = None
    peak_rss_bytes: int | None = None
    # What its failure has in common with others, while it waits for somebody to look at it.
    dead_letter: str | None = None
    result: bytes | None = None
    # Of a result that is stored aside; ``result`` is None then.
    result_bytes: int | None = None
    error: bytes | None = None
    # How far its last attempt came (``Reached`` as JSON), once that is over.
    progress: bytes | None = None


# (handler, method, ``Execution.lane``): what agrees in these may run on the same nodes, and waits in one queue.
LaneKey: TypeAlias = tuple[str, str, str | None]


class Reached(Struct, kw_only=True):
    """What an attempt said last of how far it had come; kept with it, as JSON, when it is over."""

    percent: float | None = None
    text: str = ""
    # On the server's clock.
    at_us: int


class Attempt(Struct, kw_only=True, gc=False):
    """One delivery that is over while its execution went on; the current one is part of ``Execution``."""

    execution_id: str
    attempt: int
    token: int
    node_id: str | None
    outcome: AttemptOutcome
    dispatched_us: int | None = None
    started_us: int | None = None
    finished_us: int | None = None
    cpu_us: int | None = None
    peak_rss_bytes: int | None = None
    # ``Reached`` as JSON.
    progress: bytes | None = None
    error: bytes | None = None


class Schedule(Struct, kw_only=True, gc=False):
    """A trigger, a target and policies; the fields are the columns of ``schedules``."""

    id: str
    handler_id: str
    job_method: str
    params: bytes = b"{}"
    # The trigger as validated, tagged JSON (``{"type": "cron", …}``), never code.
    trigger: bytes
    options: bytes | None = None
    # ``Policies`` as JSON; ``None`` when all are defaults.
    policies: bytes | None = None
    state: ScheduleState = ScheduleState.ACTIVE
    # Why it is paused or quarantined, in the words of who or what did it.
    note: str | None = None
    misfire_grace_s: float = 10.0
    # Paused until this moment: it goes on by itself.
    resume_us: int | None = None
    # Nominal times to come that an operator asked to skip, in order, as JSON.
    skips: bytes | None = None
    # Its next fire follows the end of this execution (fixed delay).
    waits_for: str | None = None
    # What its executions do matters to its fires: overlap, failures in a row, fixed delay.
    tracked: bool = False
    # A deleted and re-created id is a new generation, so that its nominal times never meet the old ones'.
    generation: int = 1
    # Grows with every change by a user; the ETag.
    version: int = 1
    next_fire_us: int | None = None
    # The last nominal time that ran (executed or caught up).
    last_fire_us: int | None = None
    created_us: int = 0
    # When this version came into force, and who made it.
    updated_us: int = 0
    updated_by: str | None = None
    # How often this generation ran (the ledger's executed and caught up); written by the ledger only.
    runs: int = 0


class Fire(Struct, kw_only=True, gc=False):
    """One row of the ledger: what became of one nominal time (with ``count`` > 1: of a summarised run of them)."""

    schedule_id: str
    generation: int
    nominal_us: int
    outcome: FireOutcome
    reason: SkipReason | None = None
    execution_id: str | None = None
    # Summarising row: ``count`` nominal times from ``nominal_us`` to ``last_nominal_us``, both included.
    count: int = 1
    last_nominal_us: int | None = None
    decided_us: int = 0
    # More about the reason: which calendar, whose request. Of one that ran: what its group is made of.
    detail: str | None = None

    @property
    def is_group(self) -> bool:
        """Whether ``execution_id`` is the id of a group (``timing.fire_groups``)."""
        return self.execution_id is not None and self.detail is not None


class ScheduleVersion(Struct, kw_only=True):
    """A schedule as it was from ``from_us`` until it was changed or deleted at ``to_us``."""

    schedule: Schedule
    from_us: int
    to_us: int
    # It was deleted then, not replaced.
    deleted: bool = False
    ended_by: str | None = None


class ServerRun(Struct, kw_only=True):
    """One life of a server: from ``started_us`` to ``stopped_us``, or, if it was killed, to about ``alive_us``."""

    epoch: int
    started_us: int
    alive_us: int
    stopped_us: int | None = None


class Freeze(Struct, kw_only=True):
    """A time in which no schedule fired, at all."""

    id: str
    from_us: int
    # None: until somebody thaws it.
    to_us: int | None = None
    note: str | None = None
    by: str | None = None
    # What becomes of the fires of that time. None: each schedule's own policy decides, as after an outage.
    catch_up: CatchUp | None = None
    # Who ended it. None: nobody; it is over when its time has come.
    thawed_by: str | None = None

    def in_force(self, now_us: int) -> bool:
        """Whether it holds. It began when it was committed, even if the clock was set back since; a thawed one is
        over, even if the clock was set to before the thaw.
        """
        return self.thawed_by is None and (self.to_us is None or self.to_us > now_us)


class BackfillState(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Backfill(Struct, kw_only=True):
    """A past range of a schedule's nominal times that is run afterwards, ``rate_per_s`` at most."""

    id: str
    schedule_id: str
    # Of the schedule when it was asked for: it is run as it was then.
    generation: int
    version: int
    from_us: int
    to_us: int
    # The first nominal time that has no execution yet; None: all have.
    next_us: int | None
    rate_per_s: float
    total: int
    created: int = 0
    state: BackfillState = BackfillState.RUNNING
    created_us: int = 0
    by: str | None = None


class GroupKind(StrEnum):
    """Why several executions were made of one wish."""

    # One on each node that matched.
    BROADCAST = "broadcast"
    # Parts, each of which knows which it is.
    SHARDS = "shards"


class GroupState(StrEnum):
    """``running`` until all members are over; then one word for all of them (``rules.grouping``)."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Group(Struct, kw_only=True):
    """Executions that were made of one wish and have one outcome together."""

    id: str
    kind: GroupKind
    handler_id: str
    job_method: str
    schedule_id: str | None = None
    total: int
    # Members that are over.
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    state: GroupState = GroupState.RUNNING
    created_us: int = 0
    finished_us: int | None = None
    by: str | None = None


class RequeueState(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Requeue(Struct, kw_only=True):
    """Dead letters that are run again, ``rate_per_s`` at most: one group, or all of a job, of a handler, or all."""

    id: str
    dead_letter: str | None = None
    handler_id: str | None = None
    job_method: str | None = None
    # What came later is not meant.
    up_to_seq: int
    # Those up to here are done.
    at_letter: str = ""
    at_seq: int = 0
    rate_per_s: float
    # A merge patch of their parameters, and ``JobOptions`` that are to be others, as JSON.
    patch: bytes | None = None
    options: bytes | None = None
    # Dead letters when it began; executions created; those that their job would not take (they stay).
    total: int
    created: int = 0
    refused: int = 0
    # Why the first of those was refused.
    note: str | None = None
    state: RequeueState = RequeueState.RUNNING
    created_us: int = 0
    by: str | None = None


class BatchKind(StrEnum):
    """What is done to each."""

    CANCEL = "cancel"
    RETRY = "retry"


class BatchState(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    # Stopped: by somebody, or because something was wrong with it (``note``).
    CANCELLED = "cancelled"


class Batch(Struct, kw_only=True):
    """All executions that a search found are cancelled or retried, step by step, from the newest to the oldest."""

    id: str
    kind: BatchKind
    # ``store.batches.What`` as JSON: relative times are those of the moment it began.
    what: bytes
    # What came later is not meant.
    up_to_seq: int
    # Those from here on up are done.
    at_seq: int
    # How many there were when it began; not ``exact``: at least so many.
    total: int
    exact: bool
    # Cancelled (or told to end), or created anew; what had changed meanwhile; what could not be.
    done: int = 0
    skipped: int = 0
    failed: int = 0
    # Why some were skipped or failed: how many for each reason.
    reasons: dict[str, int] = {}
    # The first of them, in words; or why it ended early.
    note: str | None = None
    state: BatchState = BatchState.RUNNING
    created_us: int = 0
    ended_us: int | None = None
    by: str | None = None


class SavedView(Struct, kw_only=True):
    """A query of a page, by a name that is unique on that page."""

    id: str
    page: str
    name: str
    query: str
    created_us: int = 0
    by: str | None = None


class Calendar(Struct, kw_only=True):
    """A named calendar as it is stored."""

    name: str
    # Canonical JSON (``timing.calendar_parse``).
    document: bytes
    # Grows with every change, also over deletion and re-creation; the ETag.
    version: int = 1
    created_us: int = 0
    updated_us: int = 0


class CalendarVersion(Struct, kw_only=True):
    """What a named calendar was from ``from_us`` on, until the next version."""

    name: str
    version: int
    from_us: int
    # From then on there was none; ``document`` is what it had been.
    deleted: bool = False
    # ``None`` in lists.
    document: bytes | None = None


class JobMethod(Struct, kw_only=True):
    """One job method of a handler as a node declares it."""

    name: str
    # JSON schema (draft 2020-12) of the parameters, encoded.
    schema: bytes = b"{}"
    options: JobOptions = JobOptions()
    doc: str = ""
    version: int = 1


class Handler(Struct, kw_only=True):
    handler_id: str
    methods: list[JobMethod]
    registered_us: int = 0
    updated_us: int = 0


class NodeOperation(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What was done to a node, by whom and why."""

    kind: OperationKind
    since_us: int
    # A drain: when what runs is handed back. A quarantine: when the node is on probation.
    until_us: int | None = None
    note: str = ""
    # A principal's name; empty: the server itself.
    by: str = ""
    # A quarantine: the how manieth in a row.
    times: int = 0


class Node(Struct, kw_only=True):
    """One handler process as the store remembers it."""

    node_id: str
    instance: str
    epoch: int
    state: NodeState
    handlers: list[str]
    slots: int
    operation: NodeOperation | None = None
    version: str = ""
    host: str = ""
    pid: int = 0
    # Hash of the secret in the node's state directory: who shows it with a greater epoch is the successor (C18).
    identity: str = ""
    # Attempts with tokens up to this were given to earlier processes of the node than ``instance``.
    since_token: int = 0
    first_seen_us: int = 0
    last_seen_us: int = 0
    # What it was started with, and what it tells of itself (``rules.routing``).
    labels: dict[str, str] = {}
    facts: dict[str, str] = {}


class Event(Struct, array_like=True):
    """A fact that was committed. ``kind`` is ``noun.verb`` (``execution.finished``); ``id`` is its subject's."""

    kind: str
    id: str
    data: dict[str, Any] = {}


class JobError(Struct, kw_only=True, omit_defaults=True):
    """Why an attempt did not complete, as text: never a class to be revived."""

    type: str
    message: str
    traceback: str = ""
    category: ErrorCategory | None = None
    # The names of the exception's base classes, the nearest first; without those that all have.
    bases: tuple[str, ...] = ()


# --- ids ------------------------------------------------------------------------------------------

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
# Every pair of digits: ids are made on the hot path, ten bits at a time.
_PAIRS = [high + low for high in _CROCKFORD for low in _CROCKFORD]


def _base32(value: int, digits: int) -> str:
    """``value`` in ``digits`` (an even number of) digits."""
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(5 * (digits - 2), -1, -10)])


class IdSource:
    """ULIDs in lower case (26 characters): 48 bits of milliseconds, 80 random bits, growing within a process.

    Growing ids keep the primary key's index append-only, and make "newest first" a scan of it.
    A clock that steps back doesn't make them shrink. Source: github.com/ulid/spec.
    """

    def __init__(self, clock: Clock, randbytes: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._randbytes = randbytes
        self._lock = threading.Lock()
        self._ms = 0
        self._prefix = ""
        self._low = 0
        # All but the last two digits, as long as they stay the same.
        self._stem = ""

    def new(self) -> str:
        """The next id; greater than all before it from this source."""
        with self._lock:
            ms = self._clock.wall_us() // 1000
            if ms > self._ms:
                self._ms = ms
                high = int.from_bytes(self._randbytes(5), "big")
                # 10 characters of time, 8 of randomness; the last 8 count up from a random start.
                self._prefix = _base32(ms, 10) + _base32(high, 8)
                self._low = int.from_bytes(self._randbytes(4), "big")
                self._stem = self._prefix + _base32(self._low >> 10, 6)
            else:
                self._low += 1
                if not self._low & 1023:
                    self._stem = self._prefix + _base32(self._low >> 10, 6)
            return self._stem + _PAIRS[self._low & 1023]


new_id = IdSource(SystemClock()).new
