"""What bots (nodes that speak HTTP) say and are told: the bodies and answers of ``/api/jobs``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, UnsetType, field

from schedule_zero.conditions import MAX_LABELS
from schedule_zero.job_options import Isolation, JobOptions
from schedule_zero.model import ErrorCategory
from schedule_zero.web.api.records import Count, Moment, Record
from schedule_zero.web.api.schemas import Body, Wait
from schedule_zero.web.api.schemas import Moment as GivenMoment
from schedule_zero.wire.messages import Bytes, LabelName, LabelValue, Micros, Name, RetryAfter, Size, Text, Token

MAX_CLAIM = 1000
# ``handler.method``; the method is what stands behind the last dot.
Operation = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=257,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:@/-]{0,127}\.[A-Za-z0-9_][A-Za-z0-9_:@/-]{0,127}(?!\n)$",
        description="`handler.method`",
    ),
]
BotId = Annotated[Name, Meta(description="Its name, as a `node_id`: among nodes and bots nobody else has it.")]
Fence = Annotated[Token, Meta(description="The `token` with which the job was claimed.")]


class MethodBody(Body, frozen=True, kw_only=True):
    """A method with what there is to know of it, as a node declares it."""

    name: Name
    schema: Annotated[dict[str, Any], Meta(description="JSON schema (2020-12) of the parameters.")] | UnsetType = UNSET
    options: JobOptions = JobOptions()
    doc: Annotated[str, Meta(max_length=4000)] = ""


class HandlerBody(Body, frozen=True, kw_only=True):
    """What a bot serves of one handler."""

    handler_id: Name
    methods: Annotated[list[Name | MethodBody], Meta(min_length=1, max_length=1000)]


class ClaimBody(Body, frozen=True, kw_only=True):
    """A bot asks for work."""

    bot_id: BotId
    operations: Annotated[list[Operation | HandlerBody], Meta(min_length=1, max_length=1000)]
    batch_size: Annotated[
        int, Meta(ge=0, le=MAX_CLAIM, description="At most so many jobs; 0: none, only what there is to know.")
    ] = 1
    wait_s: Wait = 0.0
    instance: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=48,
                pattern=r"^[!-~]+(?!\n)$",
                description="Random for each process: the same bot id with another one is another process.",
            ),
        ]
        | UnsetType
    ) = UNSET
    epoch: Annotated[int, Meta(ge=0, le=1_000_000, description="Counts the starts of this bot.")] = 0
    state_key: (
        Annotated[
            str,
            Meta(
                min_length=16,
                max_length=64,
                pattern=r"^[!-~]+(?!\n)$",
                description="A secret of all its processes: who shows it with a greater `epoch` takes over at once.",
            ),
        ]
        | UnsetType
    ) = UNSET
    running: (
        Annotated[
            list[Fence],
            Meta(
                max_length=100_000,
                description="The tokens of all that this bot holds: their leases are extended, and what is missing is "
                "delivered again. A bot that says it has one claim under way at a time.",
            ),
        ]
        | UnsetType
    ) = UNSET
    leaving: Annotated[bool, Meta(description="It takes no more work; once it holds nothing it is signed off.")] = False
    outbox: Annotated[int, Meta(ge=0, le=1_000_000, description="Results that it could not report yet.")] = 0
    slots: Annotated[int, Meta(ge=0, le=1_000_000, description="How many jobs it runs at once, to be shown.")] = 1
    version: Text = ""
    host: Text = ""
    pid: Annotated[int, Meta(ge=0, le=2**31)] = 0
    labels: Annotated[
        dict[LabelName, LabelValue], Meta(max_length=MAX_LABELS, description="What jobs may ask for of their node.")
    ] = field(default_factory=dict)
    facts: Annotated[
        dict[LabelName, LabelValue],
        Meta(max_length=MAX_LABELS, description="What it tells of itself: `os`, `cores`, `memory_gb` …"),
    ] = field(default_factory=dict)


class HeartbeatBody(Body, frozen=True, kw_only=True):
    """A bot still works on a job."""

    bot_id: BotId
    token: Fence
    percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    text: Text = ""


class ResultStatus(StrEnum):
    """How it ended. ``handed_back``: it was interrupted; ``rejected``: it was never begun."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    HANDED_BACK = "handed_back"
    REJECTED = "rejected"


class ErrorBody(Body, frozen=True, kw_only=True):
    """What went wrong, as ``retry_on`` and ``give_up_on`` know it."""

    message: str
    type: Annotated[str, Meta(min_length=1, max_length=256)] = "Error"
    traceback: str = ""
    category: ErrorCategory | None = None
    bases: Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(max_length=10)] = field(default_factory=list)


class ProgressBody(Body, frozen=True, kw_only=True):
    """What a job said last of how far it is. ``at``: absent, it is now."""

    percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    text: Text = ""
    at: GivenMoment | UnsetType = UNSET


class ResultBody(Body, frozen=True, kw_only=True):
    """How a claimed job ended."""

    bot_id: BotId
    token: Fence
    status: ResultStatus
    result: Annotated[Raw, Meta(description="Any JSON.", extra_json_schema={})] | UnsetType = UNSET
    error: str | ErrorBody | None = None
    started_at: GivenMoment | UnsetType = UNSET
    finished_at: GivenMoment | UnsetType = UNSET
    retry_after_s: RetryAfter | None = None
    give_up: bool = False
    result_bytes: Annotated[
        Bytes, Meta(description="A large result, sent in parts before: it has so many bytes, and `result` is left out.")
    ] = 0
    log_lines: Annotated[
        Size, Meta(description="So many lines has its log in all; some of them may still be on their way.")
    ] = 0
    # What the job's process and those that it started used.
    cpu_us: Micros | None = None
    peak_rss_bytes: Bytes | None = None
    progress: Annotated[
        ProgressBody | None, Meta(description="Kept with the attempt; without it, what a heartbeat told last is.")
    ] = None
    reason: Annotated[
        Text, Meta(description="Of a rejection: `unknown_method` is not given to this bot again until it claims anew.")
    ] = ""


class ResultPartBody(Body, frozen=True, kw_only=True):
    """A part of a large result (JSON, in UTF-8)."""

    bot_id: BotId
    token: Fence
    offset: Annotated[Size, Meta(description="Where it begins: so many bytes were sent before.")]
    total: Annotated[int, Meta(ge=1, le=2**53 - 1, description="So many bytes has the result in all.")]
    body: Annotated[bytes, Meta(description="Up to 131,072 bytes, in Base64.")]


LogText = Annotated[
    str, Meta(description="A line; with line feeds in it, several. One at the very end ends the last of them.")
]


class LogStream(StrEnum):
    """Where it was said: ``node`` is for words of the bot itself."""

    STDOUT = "stdout"
    STDERR = "stderr"
    LOG = "log"
    NODE = "node"


class LogLevel(StrEnum):
    """How grave it is."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class LogLineBody(Body, frozen=True, kw_only=True):
    """What a job said."""

    text: LogText
    stream: LogStream = LogStream.STDOUT
    level: LogLevel | None = None
    at: Annotated[GivenMoment, Meta(description="In the server's time; else that of its coming.")] | UnsetType = UNSET


class LogBody(Body, frozen=True, kw_only=True):
    """Some lines of an attempt's log."""

    bot_id: BotId
    token: Fence
    line: Annotated[Size, Meta(description="So many lines of this attempt were sent before.")]
    lines: Annotated[list[LogText | LogLineBody], Meta(max_length=20_000)] = field(default_factory=list)
    last: Annotated[bool, Meta(description="Nothing follows: the log is complete.")] = False
    left_out: Annotated[Count, Meta(description="So many lines were left out before these, to be counted.")] = 0
    acked: Annotated[
        Size, Meta(description="What is stored of it by an earlier answer, if the bot hasn't kept it to send it again.")
    ] = 0


# --- answers --------------------------------------------------------------------------------------


class JobRecord(Record, kw_only=True):
    """One attempt to run. ``id`` is the execution's; ``token`` grows with every attempt in the system."""

    id: str
    token: int
    attempt: int
    handler_id: str
    job_method: str
    job_params: Raw
    timeout_s: float | None
    idempotency_key: str | None
    schedule_id: str | None
    nominal_time: Moment | None
    # ``2/8``: part 2, counted from 0, of 8.
    shard: str | None
    # How many of the bot's places it takes; its claims count jobs, whatever they weigh.
    weight: int
    # It may be silent for so long; it may not be started after that moment (reject it, with ``too_late``).
    heartbeat_timeout_s: float | None
    start_by: Moment | None
    # ``process``: it wants a process of its own, which may use no more than this.
    isolation: Isolation
    memory_mb: int | None
    cpu_percent: int | None
    cpu_s: float | None


class ClaimRecord(Record, kw_only=True):
    """``cancel`` names tokens of jobs that are to be ended; ``drain``: an operator gives this bot no new work."""

    jobs: list[JobRecord]
    count: Count
    cancel: list[int]
    drain: bool
    # So long from now what still runs may go on; null: as long as it takes.
    drain_s: float | None
    # What is held is the bot's own for so long after its claim or heartbeat was sent …
    lease_s: float
    # … and it should say so this often.
    heartbeat_s: float
    server_time: Moment
    # How long the server let it wait.
    waited_s: float
    # What one attempt may log in bytes (0: nothing); the largest result in one piece, and in parts (0: none).
    log_bytes: int
    result_bytes: int
    big_result_bytes: int


class HeartbeatRecord(Record, kw_only=True):
    """``cancel``: end this job, and report it as cancelled."""

    cancel: bool
    drain: bool
    lease_s: float
    server_time: Moment


class ResultRecord(Record, kw_only=True):
    """``recorded``, ``duplicate`` (it was recorded before) or ``rejected`` (it was given back)."""

    status: str


class ResultPartRecord(Record, kw_only=True):
    """``upto``: so many bytes of the result are stored; go on from there."""

    upto: int


class LogRecord(Record, kw_only=True):
    """``line``: so many lines are stored; go on from there. ``last``: the log is complete."""

    line: int
    last: bool
