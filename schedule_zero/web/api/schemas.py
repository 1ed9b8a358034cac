"""What the API takes: one Struct per body and per query string. They validate, and they are the documentation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from schedule_zero.clock import rfc3339, to_us
from schedule_zero.errors import InvalidField
from schedule_zero.job_options import JobOptions
from schedule_zero.model import MAX_SKIPS, NO_POLICIES, CatchUp, FireOutcome, Policies, Role, ScheduleState
from schedule_zero.rules.change_log import NOUNS, ChangeVerb
from schedule_zero.service.specs import EMPTY_PARAMS, ScheduleSpec, SubmitItem
from schedule_zero.timing.trigger import LATEST_US, LATEST_WORDS
from schedule_zero.wire.messages import Name

T = TypeVar("T")

DEFAULT_LIMIT = 100
MAX_LIMIT = 500
DEFAULT_WAIT_S = 30.0
# 9999-12-31T23:59:59Z, the last second that RFC 3339 can write.
MAX_UNIX_S = 253_402_300_799

Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="At most so many records.")]
Cursor = Annotated[str, Meta(min_length=1, max_length=400, description="`next_cursor` of the page before.")]
Wait = Annotated[float, Meta(ge=0, le=86_400, description="Seconds; cut to the server's `http.max_wait_s`.")]
NameOrAny = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^(\*|[A-Za-z0-9_][A-Za-z0-9_.:@/-]*)(?!\n)$")]
Printable = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*(?!\n)$")]
Moment = Annotated[datetime, Meta(tz=True)] | Annotated[float, Meta(ge=0, le=MAX_UNIX_S)]
# Of what is reckoned with; ``bounded_us`` holds to it, for dates as well.
BoundedUnix = Annotated[
    float, Meta(ge=0, le=MAX_UNIX_S, extra_json_schema={"exclusiveMaximum": (LATEST_US + 1) // 1_000_000})
]
Params = Annotated[Raw, Meta(description="The job's parameters by name.", extra_json_schema={"type": "object"})]
_TriggerObject = Annotated[
    dict[str, Any],
    Meta(
        description=(
            'Tagged by `type`: `{"type": "cron", "expression": "*/5 * * * *"}`, `{"type": "interval", "seconds": 10}`,'
            ' `{"type": "date", "run_date": "2030-01-01T00:00:00Z"}`, `calendar`, `and`, `or`, `except`, `startup`,'
            " `manual`."
        ),
        extra_json_schema={
            "required": ["type"],
            "properties": {
                "type": {
                    "enum": [
                        "date",
                        "interval",
                        "cron",
                        "calendar",
                        "and",
                        "or",
                        "except",
                        "startup",
                        "manual",
                    ]
                },
                "timezone": {"type": "string"},
            },
        },
    ),
]
Trigger = (
    _TriggerObject
    | Annotated[list[_TriggerObject], Meta(min_length=1, max_length=20, description="Several: each of them fires.")]
)
Zone = Annotated[str, Meta(min_length=1, max_length=64, description="An IANA zone, for triggers that name none.")]
Note = Annotated[str, Meta(max_length=500, description="Why, for the people who will read it.")]
Grace = Annotated[
    float,
    Meta(
        ge=0,
        le=86_400 * 365,
        description="A fire that is at most so late simply runs; what is later, `catch_up` decides.",
    ),
]
JobKey = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        description=(
            "What the job sees as `ctx.idempotency_key` (unless given: its id), to do a side effect only once."
            " The server compares it with nothing: two submissions with the same one are two executions."
            " What keeps a repeated request from being carried out twice is the header `Idempotency-Key`."
        ),
    ),
]


def _no_params() -> Raw:
    # A factory, because a Raw default can't be shown in a JSON schema.
    return EMPTY_PARAMS


class Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON object that refuses unknown fields."""


class Query(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A query string that refuses unknown parameters."""


def given(value: T | UnsetType) -> T | None:
    """A query parameter, None where it was not given."""
    return None if isinstance(value, UnsetType) else value


def moment_us(moment: datetime | float | UnsetType | None) -> int | None:
    """Microseconds since the epoch of what a client wrote as RFC 3339 or as unix seconds; from 1970 to 9999."""
    if moment is None or isinstance(moment, UnsetType):
        return None
    us = to_us(moment) if isinstance(moment, datetime) else round(moment * 1e6)
    # Beyond that a moment can't be shown; "before 1970" and "at 1970" mean the same to every filter.
    return min(max(us, 0), MAX_UNIX_S * 1_000_000)


def bounded_us(moment: datetime | float | UnsetType | None, *, pointer: str | None = None, **data: str) -> int | None:
    """``moment_us`` for what is reckoned with rather than compared: InvalidField with the bound."""
    us = moment_us(moment)
    if us is None or moment is None or isinstance(moment, UnsetType):
        return None
    too_early = (to_us(moment) if isinstance(moment, datetime) else moment) < 0
    if too_early or us > LATEST_US:
        expected = "a moment from 1970 on" if too_early else LATEST_WORDS
        got = moment.isoformat() if isinstance(moment, datetime) else f"{moment:.0f} ({rfc3339(us)})"
        raise InvalidField(f"expected {expected}, got {got}", pointer=pointer, **data)
    return us


def at_of(at: datetime | float | UnsetType) -> datetime | int | None:
    """A moment for an explanation: what names no offset stays as it is; None: now. InvalidField."""
    if isinstance(at, datetime) and 1970 < at.year < 9999:
        return at
    # Beyond that there is no schedule, and no zone to think about.
    return bounded_us(at.replace(tzinfo=at.tzinfo or UTC) if isinstance(at, datetime) else at, parameter="at")


def catch_up_of(word: str) -> CatchUp | None:
    """What is made up for; ``None``: each schedule's own policy says."""
    return None if word == "policy" else CatchUp(word)


# --- executions -----------------------------------------------------------------------------------


class SubmitBody(Body, frozen=True, kw_only=True):
    """One execution to be created."""

    handler_id: Name
    job_method: Name
    job_params: Params = field(default_factory=_no_params)
    options: JobOptions = JobOptions()
    not_before: Moment | None = None
    idempotency_key: JobKey | None = None

    def item(self) -> SubmitItem:
        return SubmitItem(
            handler_id=self.handler_id,
            job_method=self.job_method,
            job_params=self.job_params,
            options=self.options,
            not_before_us=moment_us(self.not_before),
            idempotency_key=self.idempotency_key,
        )


class SubmitManyBody(Body, frozen=True, kw_only=True):
    """Executions to be created in one transaction, all or none."""

    executions: Annotated[list[SubmitBody], Meta(min_length=1)]


class GroupBody(Body, frozen=True, kw_only=True):
    """One wish that becomes several executions: on every matching node (``broadcast``), or in parts (``shards``)."""

    handler_id: Name
    job_method: Name
    job_params: Params = field(default_factory=_no_params)
    options: JobOptions = JobOptions()
    not_before: Moment | None = None
    broadcast: bool = False
    shards: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None

    def item(self) -> SubmitItem:
        return SubmitItem(
            handler_id=self.handler_id,
            job_method=self.job_method,
            job_params=self.job_params,
            options=self.options,
            not_before_us=moment_us(self.not_before),
        )


class ClearBody(Body, frozen=True, kw_only=True):
    """Which finished executions to forget."""

    before: Annotated[Moment | None, Meta(description="Only those created before this moment.")] = None


class WaitQuery(Query, frozen=True, kw_only=True):
    wait_s: Wait = 0.0


class ErrorsQuery(Query, frozen=True, kw_only=True):
    limit: Limit = DEFAULT_LIMIT


# --- schedules ------------------------------------------------------------------------------------


class ScheduleBody(Body, frozen=True, kw_only=True):
    """A schedule to be created or replaced."""

    id: Name | None = None
    handler_id: Name
    job_method: Name
    job_params: Params = field(default_factory=_no_params)
    trigger: Trigger
    timezone: Zone | None = None
    options: JobOptions = JobOptions()
    policies: Policies = NO_POLICIES
    misfire_grace_s: Grace | None = None
    paused: bool = False
    note: Note | None = None

    def spec(self) -> ScheduleSpec:
        return ScheduleSpec(
            id=self.id,
            handler_id=self.handler_id,
            job_method=self.job_method,
            job_params=self.job_params,
            trigger=self.trigger,
            timezone=self.timezone,
            options=self.options,
            policies=self.policies,
            misfire_grace_s=self.misfire_grace_s,
            paused=self.paused,
            note=self.note,
        )


class SchedulesBody(Body, frozen=True, kw_only=True):
    """Schedules to be created in one transaction, all or none."""

    schedules: Annotated[list[ScheduleBody], Meta(min_length=1)]


class SchedulePatch(Body, frozen=True, kw_only=True):
    """RFC 7386 merge patch of a schedule: what is absent stays, null goes back to the default."""

    handler_id: Name | UnsetType = UNSET
    job_method: Name | UnsetType = UNSET
    job_params: Annotated[dict[str, Any], Meta(description="Merged member by member.")] | UnsetType | None = UNSET
    trigger: (
        Annotated[dict[str, Any], Meta(description="Merged member by member; a list replaces all of it.")]
        | list[_TriggerObject]
        | UnsetType
    ) = UNSET
    timezone: Zone | UnsetType | None = UNSET
    options: JobOptions | UnsetType | None = UNSET
    policies: Annotated[dict[str, Any], Meta(description="Merged member by member.")] | UnsetType | None = UNSET
    misfire_grace_s: Grace | UnsetType | None = UNSET
    paused: bool | UnsetType | None = UNSET
    note: Note | UnsetType | None = UNSET


class DeleteBody(Body, frozen=True, kw_only=True):
    """Schedules to be deleted in one transaction."""

    ids: Annotated[list[Name], Meta(min_length=1)]


class PauseBody(Body, frozen=True, kw_only=True):
    note: Note | None = None
    until: Annotated[Moment | None, Meta(description="When it goes on by itself.")] = None


class NodeBody(Body, frozen=True, kw_only=True):
    """Why a node is taken out of service, or back."""

    note: Note | None = None


class DrainBody(Body, frozen=True, kw_only=True):
    """A node is to be empty."""

    note: Note | None = None
    deadline_s: (
        Annotated[float, Meta(ge=0, le=86_400 * 365, description="After so long what still runs is handed back, too.")]
        | None
    ) = None


class SkipBody(Body, frozen=True, kw_only=True):
    """Fires to be left out."""

    count: Annotated[int, Meta(ge=1, le=MAX_SKIPS, description="How many of the next fires.")] = 1


class FreezeBody(Body, frozen=True, kw_only=True):
    """All schedules stand still."""

    note: Note | None = None
    until: Annotated[Moment | None, Meta(description="When they go on by themselves.")] = None
    catch_up: Annotated[
        Literal["none", "latest", "all", "policy"] | None,
        Meta(description="Only with `until`: what is made up for then. `policy` (default): what each schedule says."),
    ] = None


class ThawBody(Body, frozen=True, kw_only=True):
    """All schedules go on."""

    catch_up: Annotated[
        Literal["none", "latest", "all", "policy"],
        Meta(description="Which fires of the frozen time are made up for. `policy`: what each schedule says."),
    ]


class BackfillBody(Body, frozen=True, kw_only=True):
    """A past range of nominal times to be run."""

    from_: Annotated[Moment, Meta(description="The first moment, included.")] = field(name="from")
    to: Annotated[Moment, Meta(description="The last moment, included; not after now.")]
    rate_per_s: Annotated[float, Meta(ge=0.001, le=1000, description="Executions created per second.")] = 10.0
    count: (
        Annotated[int, Meta(ge=1, description="The count that was agreed to; 409 if it is another one by now.")] | None
    ) = None
    dry_run: Annotated[bool, Meta(description="Only count.")] = False


class FeedQuery(Query, frozen=True, kw_only=True):
    days: Annotated[float, Meta(gt=0, le=366, description="How far ahead.")] = 30.0
    schedule_id: Name | UnsetType = UNSET


class ForecastQuery(Query, frozen=True, kw_only=True):
    from_: Annotated[Moment, Meta(description="From when on; now unless given.")] | UnsetType = field(
        name="from", default=UNSET
    )
    to: Annotated[Moment, Meta(description="Until when; a day later unless given.")] | UnsetType = UNSET
    bucket_s: Annotated[float, Meta(ge=1, le=31 * 86_400, description="Length of a bucket, in seconds.")] = 3600.0
    quiet_s: (
        Annotated[float, Meta(ge=1, le=366 * 86_400, description="Look for the quietest stretch of this length.")]
        | UnsetType
    ) = UNSET


class SeriesQuery(Query, frozen=True, kw_only=True):
    since: Annotated[Moment, Meta(description="From when on; an hour before `until` unless given.")] | UnsetType = UNSET
    until: Annotated[Moment, Meta(description="Until when; now unless given.")] | UnsetType = UNSET
    step_s: (
        Annotated[
            float,
            Meta(
                ge=1,
                le=86_400,
                description=(
                    "Length of a bucket, in seconds; taken is the next of 60, 120, 300, 600, 3600, 7200, 14400, 21600,"
                    " 43200, 86400. There may be 200 of them; unless given, there are up to 180."
                ),
            ),
        ]
        | UnsetType
    ) = UNSET


class PageQuery(Query, frozen=True, kw_only=True):
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | UnsetType = UNSET


class ChangesWanted(Query, frozen=True, kw_only=True):
    noun: Annotated[str, Meta(max_length=20, description=f"Of one kind of thing: {', '.join(NOUNS)}.")] | UnsetType = (
        UNSET
    )
    verb: ChangeVerb | UnsetType = UNSET
    subject: (
        Annotated[Printable, Meta(min_length=1, max_length=200, description="The id of what was changed.")] | UnsetType
    ) = UNSET
    by: (
        Annotated[
            Printable, Meta(min_length=1, max_length=100, description="The name of who did it; `server`: itself.")
        ]
        | UnsetType
    ) = UNSET
    since: Annotated[Moment, Meta(description="At this moment or later.")] | UnsetType = UNSET
    until: Annotated[Moment, Meta(description="At this moment or earlier.")] | UnsetType = UNSET


class ChangesQuery(ChangesWanted, frozen=True, kw_only=True):
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | UnsetType = UNSET


class SchedulesQuery(Query, frozen=True, kw_only=True):
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | UnsetType = UNSET
    handler_id: Name | UnsetType = UNSET
    state: ScheduleState | UnsetType = UNSET


class FiresQuery(Query, frozen=True, kw_only=True):
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | UnsetType = UNSET
    outcome: FireOutcome | UnsetType = UNSET
    since: Annotated[Moment, Meta(description="With a nominal time at this moment or later.")] | UnsetType = UNSET


class AuditQuery(Query, frozen=True, kw_only=True):
    since: Annotated[Moment, Meta(description="Nominal times at this moment or later; a day before `until`.")] | (
        UnsetType
    ) = UNSET
    until: Annotated[Moment, Meta(description="Nominal times at this moment or earlier; now.")] | UnsetType = UNSET


class ExplainQuery(Query, frozen=True, kw_only=True):
    at: (
        Annotated[
            Annotated[datetime, Meta(extra_json_schema={"format": "date-time"})] | BoundedUnix,
            Meta(
                description="The moment; now. Without an offset: on the wall of the schedule's zone. Whole seconds "
                "mean the first nominal time within that second."
            ),
        ]
        | UnsetType
    ) = UNSET


class VersionsQuery(Query, frozen=True, kw_only=True):
    version: Annotated[int, Meta(ge=1, le=2**53, description="This one only, with its content.")] | UnsetType = UNSET
    generation: Annotated[int, Meta(ge=1, le=2**53, description="Of that version; the newest.")] | UnsetType = UNSET
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | UnsetType = UNSET


class DiffQuery(Query, frozen=True, kw_only=True):
    from_: Annotated[int, Meta(ge=1, le=2**53, description="A version; the one before `to`.")] | UnsetType = field(
        name="from", default=UNSET
    )
    to: Annotated[int, Meta(ge=1, le=2**53, description="A version; the newest.")] | UnsetType = UNSET
    generation: Annotated[int, Meta(ge=1, le=2**53, description="Of both; the newest.")] | UnsetType = UNSET


class RestoreBody(Body, frozen=True, kw_only=True):
    """An old version to be brought back, as a new one."""

    version: Annotated[int, Meta(ge=1, le=2**53)]
    generation: Annotated[int, Meta(ge=1, le=2**53, description="Of that version; the newest.")] | None = None


class PreviewBody(Body, frozen=True, kw_only=True):
    """A trigger to be explained, as a schedule with these policies would have it."""

    trigger: Trigger
    timezone: Zone | None = None
    policies: Policies = NO_POLICIES
    id: Annotated[Name, Meta(description="The schedule's id: what `H` in cron depends on.")] | None = None
    n: Annotated[int, Meta(ge=1, le=1000, description="How many fires.")] = 10
    after: Annotated[
        Annotated[datetime, Meta(tz=True)] | BoundedUnix | None, Meta(description="From when on; now unless given.")
    ] = None


# --- the earlier ScheduleZero's -------------------------------------------------------------------


class EarlierScheduleBody(Body, frozen=True, kw_only=True):
    """A schedule as the earlier ScheduleZero took it."""

    handler_id: Name
    job_method: Name | UnsetType = UNSET
    method_name: Annotated[Name, Meta(description="The same as `job_method`.")] | UnsetType = UNSET
    job_params: Params = field(default_factory=_no_params)
    trigger: Trigger | UnsetType = UNSET
    # The same as ``trigger``.
    trigger_config: Trigger | UnsetType = UNSET
    job_id: Name | None = None


class RunNowBody(Body, frozen=True, kw_only=True):
    """A job to be run at once and waited for."""

    handler_id: Name
    job_method: Name | UnsetType = UNSET
    method_name: Annotated[Name, Meta(description="The same as `job_method`.")] | UnsetType = UNSET
    job_params: Params = field(default_factory=_no_params)
    wait_s: Wait = DEFAULT_WAIT_S
    options: JobOptions = JobOptions()
    idempotency_key: JobKey | None = None


# --- system ---------------------------------------------------------------------------------------

Word = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[a-z_]+(\.[a-z_]+)?(?!\n)$")]


class EventsQuery(Query, frozen=True, kw_only=True):
    topics: Annotated[list[Word], Meta(description="`execution`, `schedule`, `node` …")] | UnsetType = UNSET
    kinds: Annotated[list[Word], Meta(description="`execution.finished` …")] | UnsetType = UNSET
    since: (
        Annotated[
            str,
            Meta(pattern=r"^[0-9]{1,18}(-[0-9]{1,9})?(?!\n)$", description="Replay what came after this event id."),
        ]
        | UnsetType
    ) = UNSET


class ReadyQuery(Query, frozen=True, kw_only=True):
    verbose: Literal["", "1", "true", "0", "false"] | UnsetType = UNSET


class LoginLinkBody(Body, frozen=True, kw_only=True):
    """A sign-in link to be made."""

    role: Annotated[Role, Meta(description="What the browser may do; at most what the asker may.")] | None = None


class TokenBody(Body, frozen=True, kw_only=True):
    """An API token to be made."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    role: Role
    expires_s: (
        Annotated[float, Meta(gt=0, le=86_400 * 3650, description="It is refused after so many seconds.")] | None
    ) = None

    bot_id: Annotated[NameOrAny, Meta(description="A worker's: the only bot that it may be. `*`: any.")] = "*"
    handlers: Annotated[
        list[NameOrAny],
        Meta(min_length=1, max_length=1000, description='A worker\'s: it runs jobs of these only. `["*"]`: of any.'),
    ] = field(default_factory=lambda: ["*"])


class NodeKeyBody(Body, frozen=True, kw_only=True):
    """A CURVE key pair to be made for one node."""

    node_id: Annotated[str, Meta(min_length=1, max_length=128, description="`*`: any node.")]
    handlers: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=128)]],
        Meta(min_length=1, max_length=1000, description='`["*"]`: any handler.'),
    ]
