"""The messages between node and server: typed, bounded, with no behaviour.

One message is two ZeroMQ frames: ``SZ1`` and one msgpack map whose ``t`` names its type. ``s`` is the
session that the server handed out in WELCOME: a message of another session is refused, so that nothing
stale from before a reconnect is believed. ``token`` identifies an attempt: it is unique in the system.
The prose is ``docs/reference/protocol.md``; a test holds the two together.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from schedule_zero.conditions import MAX_LABEL_VALUE, MAX_LABELS
from schedule_zero.job_options import Isolation
from schedule_zero.model import AttemptOutcome, JobError, JobMethod

PREFIX = b"SZ1"
PROTOCOL_VERSION = 1

# Ids that people choose: handler, method, node. One rule everywhere (API, registry, wire).
# (The look-ahead: Python's ``$`` alone would let a final line feed pass.)
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:@/-]*(?!\n)$")]
Id = Annotated[str, Meta(min_length=1, max_length=64)]
Text = Annotated[str, Meta(max_length=4096)]
Token = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Micros = Annotated[int, Meta(ge=0, le=2**53 - 1)]
# Of what may be more than a Count counts: lines, bytes, and all that only grows, as heartbeats do.
Size = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Bytes = Size
# The bounds also keep NaN out: no comparison with it holds.
RetryAfter = Annotated[float, Meta(ge=0, le=86_400 * 365)]
ShardText = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,6})/[1-9][0-9]{0,6}(?!\n)$")]
Percent = Annotated[float, Meta(ge=0, le=100)]
LabelName = Annotated[str, Meta(min_length=1, max_length=63, pattern=r"^[A-Za-z_][A-Za-z0-9_./-]*(?!\n)$")]
LabelValue = Annotated[str, Meta(max_length=MAX_LABEL_VALUE)]
MAX_BATCH = 5_000
# Of one chunk of a result, likewise.
MAX_RESULT_CHUNK = 128 << 10
ResultBody = Annotated[bytes, Meta(max_length=MAX_RESULT_CHUNK + 4096)]
# Of one chunk of a log, before it is compressed; and what a body of that may take.
MAX_LOG_CHUNK = 256 << 10
LogBody = Annotated[bytes, Meta(max_length=MAX_LOG_CHUNK + 4096)]


class _Message(Struct, tag_field="t", kw_only=True, omit_defaults=True):
    """Common to all: the discriminating ``t``."""


# --- node → server ---------------------------------------------------------------------------------


class HandlerDeclaration(Struct, kw_only=True):
    handler_id: Name
    methods: Annotated[list[JobMethod], Meta(max_length=1000)]


class Held(Struct, kw_only=True):
    """An attempt that the node still holds: queued or running, its result not yet acknowledged."""

    id: Id
    token: Token


class Hello(_Message, tag="HELLO"):
    """First message on a new socket, and the only one without a session."""

    protocol: int
    node_id: Name
    # Random per process; the same node_id with another instance is another process.
    instance: Id
    # Counts the starts from one state directory: the greater one is the successor (C18).
    epoch: Size
    # Proof that the newcomer owns the incumbent's state directory: a random secret kept in it.
    state_key: Id
    handlers: Annotated[list[HandlerDeclaration], Meta(max_length=1000)]
    slots: Count
    running: Annotated[list[Held], Meta(max_length=100_000)] = []
    # Results that wait in the outbox; the node sends them before its first CREDIT.
    outbox: Count = 0
    version: Text = ""
    host: Text = ""
    pid: Size = 0
    # What the node was labelled with, and what it tells of itself: where jobs may be routed by.
    labels: Annotated[dict[LabelName, LabelValue], Meta(max_length=MAX_LABELS)] = {}
    facts: Annotated[dict[LabelName, LabelValue], Meta(max_length=MAX_LABELS)] = {}


class Heartbeat(_Message, tag="HEARTBEAT"):
    """I am alive, and believe in my attempts until my lease (counted from sending this) is over."""

    s: Id
    seq: Size
    running: Count = 0
    outbox: Count = 0
    # For people: how long the last HB_ACK took, and this node's wall clock. Nothing depends on them (C12).
    rtt_us: Micros | None = None
    wall_us: Micros | None = None


class Credit(_Message, tag="CREDIT"):
    """How many attempts this node is willing to hold in all (not an increment). The first one ends syncing."""

    s: Id
    window: Count


class AcceptedItem(Struct, kw_only=True, omit_defaults=True):
    token: Token
    # When the method was entered, in the server's wall time; None while it waits for a slot.
    started_us: Micros | None = None


class Accept(_Message, tag="ACCEPT"):
    """I hold these. A result says the same, so short attempts never need one."""

    s: Id
    items: Annotated[list[AcceptedItem], Meta(max_length=MAX_BATCH)]


class RejectedItem(Struct, kw_only=True, omit_defaults=True):
    token: Token
    # ``draining`` hands it back without burning an attempt; ``unknown_method`` likewise, and it is shown.
    reason: Text = ""


class Reject(_Message, tag="REJECT"):
    """I give these back; I have not started them and never will."""

    s: Id
    items: Annotated[list[RejectedItem], Meta(max_length=MAX_BATCH)]


class Progress(_Message, tag="PROGRESS"):
    """The newest progress of a running attempt; may be dropped under load."""

    s: Id
    token: Token
    percent: Percent | None = None
    text: Text = ""


class LastProgress(Struct, kw_only=True, omit_defaults=True):
    """What an attempt said last of how far it is."""

    percent: Percent | None = None
    text: Text = ""
    # Wall time of the server, as estimated by the node; absent: when it comes.
    at_us: Micros | None = None


class ResultItem(Struct, kw_only=True, omit_defaults=True):
    """How an attempt ended. ``outcome`` is never ``lost``: that is for the server to say."""

    id: Id
    token: Token
    outcome: AttemptOutcome
    # JSON document, encoded.
    result: bytes | None = None
    error: JobError | None = None
    # Wall time of the server, as estimated by the node (C12: measured monotonically on the node).
    started_us: Micros | None = None
    finished_us: Micros | None = None
    # The job asked for another attempt not before this many seconds, or for none at all.
    retry_after_s: RetryAfter | None = None
    give_up: bool = False
    # So many lines has its log in all; some of them may still be on their way.
    log_lines: Size = 0
    # The result has so many bytes, and was sent in RESULT_CHUNKs before; ``result`` is None then.
    result_bytes: Size = 0
    # What its process and the processes that it started used, where it had one of its own.
    cpu_us: Micros | None = None
    peak_rss_bytes: Bytes | None = None
    # If it said any: a PROGRESS may have been dropped, or not be sent any more when the attempt ends.
    progress: LastProgress | None = None


class Result(_Message, tag="RESULT"):
    """Outcomes, on this node's disk already; repeated until RESULT_ACK names their tokens."""

    s: Id
    items: Annotated[list[ResultItem], Meta(max_length=MAX_BATCH)]


class ResultChunk(_Message, tag="RESULT_CHUNK"):
    """A part of a result that is too large for a RESULT; that one follows when all parts are acknowledged."""

    s: Id
    id: Id
    token: Token
    # Where it begins, how many bytes it holds, and how many there are in all.
    offset: Size
    bytes: Annotated[int, Meta(ge=1, le=MAX_RESULT_CHUNK)]
    total: Size
    # Compressed by zlib.
    body: ResultBody


class LogChunk(Struct, kw_only=True, omit_defaults=True):
    """Some lines of one attempt's log, in the form of ``log_lines``."""

    id: Id
    token: Token
    # Where it begins: lines and (uncompressed) bytes of the log before it.
    line: Size
    byte: Size
    # What it holds.
    lines: Count
    bytes: Annotated[int, Meta(ge=0, le=MAX_LOG_CHUNK)]
    body: LogBody
    # Lines acknowledged earlier: the node has none of before that any more.
    acked: Size = 0
    # Lines that were left out since the chunk before; the log says where.
    left_out: Size = 0
    # Nothing follows: the attempt is over.
    last: bool = False


class Log(_Message, tag="LOG"):
    """Parts of logs, after whatever results and heartbeats there are to send; repeated until LOG_ACK names them."""

    s: Id
    items: Annotated[list[LogChunk], Meta(max_length=1000)]


class NodeDrain(_Message, tag="DRAIN"):
    """I take no new work (SIGTERM); what runs will be finished or handed back."""

    s: Id


class Bye(_Message, tag="BYE"):
    """All I held is acknowledged or handed back; forget this session."""

    s: Id


# --- server → node ---------------------------------------------------------------------------------


class Welcome(_Message, tag="WELCOME"):
    s: Id
    server_us: int
    heartbeat_s: float
    lease_s: float
    server_version: Text = ""
    # One attempt's log may take so many bytes; 0: this server takes no logs.
    log_bytes: Size = 0
    # A result of more bytes than the first goes in chunks, up to the second; 0: the server doesn't say, takes none.
    result_bytes: Size = 0
    big_result_bytes: Size = 0


class Deny(_Message, tag="DENY"):
    """No session. With ``retry`` the node tries again with back-off, else it ends with ``reason``."""

    code: Text
    reason: Text
    retry: bool = False


class HbAck(_Message, tag="HB_ACK"):
    """Extends the lease to ``lease_s`` after the heartbeat ``seq`` was sent."""

    s: Id
    seq: Size
    server_us: int


class DispatchItem(Struct, kw_only=True, omit_defaults=True):
    """One attempt to run."""

    id: Id
    token: Token
    attempt: Count
    handler_id: Name
    job_method: Name
    params: bytes = b"{}"
    timeout_s: float | None = None
    # How many of the node's slots it takes; more than there are: all of them.
    weight: Annotated[int, Meta(ge=1, le=1_000)] = 1
    idempotency_key: str | None = None
    schedule_id: str | None = None
    nominal_us: int | None = None
    # ``2/8``: part 2, counted from 0, of 8.
    shard: ShardText | None = None
    # The attempt may be silent (no progress, no heartbeat of the job) for so long.
    heartbeat_timeout_s: float | None = None
    # The server's wall time: not to be started after it, but given back (REJECT, ``too_late``).
    start_by_us: int | None = None
    # ``process``: in a worker process, which may use no more than this.
    isolation: Isolation = Isolation.NONE
    memory_mb: int | None = None
    cpu_percent: int | None = None
    cpu_s: float | None = None


class Dispatch(_Message, tag="DISPATCH"):
    """Run these. Committed before it was sent; repeated if not accepted in 2 s; duplicates are dropped by token."""

    s: Id
    items: Annotated[list[DispatchItem], Meta(max_length=MAX_BATCH)]


class Cancel(_Message, tag="CANCEL"):
    """End these attempts; each is answered by a RESULT (``cancelled``, or how it ended instead)."""

    s: Id
    tokens: Annotated[list[Token], Meta(max_length=MAX_BATCH)]


class ResultAck(_Message, tag="RESULT_ACK"):
    """The server has committed (or refused for good) these results: the outbox may forget them."""

    s: Id
    recorded: list[Token] = []
    duplicate: list[Token] = []
    # Another attempt holds the lease by now; recorded as stale.
    superseded: list[Token] = []
    unknown: list[Token] = []


class ResultChunkAck(_Message, tag="RESULT_CHUNK_ACK"):
    """So much of this result is stored; go on from there. ``unknown``: the attempt is not (any more) the node's."""

    s: Id
    token: Token
    upto: Size
    unknown: bool = False


class LogAcked(Struct, kw_only=True, omit_defaults=True):
    """All lines of this attempt before ``lines`` are stored; with ``last``, the log is complete."""

    token: Token
    lines: Size
    last: bool = False


class LogAck(_Message, tag="LOG_ACK"):
    """The server has committed these logs, up to there."""

    s: Id
    items: list[LogAcked] = []
    # Attempts of which it wants no log: they are not (or no longer) known.
    unknown: list[Token] = []


class ServerDrain(_Message, tag="SERVER_DRAIN"):
    """Take no new work and hand back what has not started (``on``), or take work again.

    ``deadline_s`` from now what still runs is to be handed back too. The node forgets this with its session.
    """

    s: Id
    on: bool = True
    deadline_s: float | None = None


class Goaway(_Message, tag="GOAWAY"):
    """This server is stopping; keep what you hold, connect again after ``reconnect_s``."""

    s: Id
    reason: Text = ""
    reconnect_s: float = 1.0


class ErrorMessage(_Message, tag="ERROR"):
    """What you sent was refused. ``no_session`` means: say HELLO again, on a new socket."""

    code: Text
    message: Text


NodeMessage = Hello | Heartbeat | Credit | Accept | Reject | Progress | Result | ResultChunk | Log | NodeDrain | Bye
ServerMessage = (
    Welcome
    | Deny
    | HbAck
    | Dispatch
    | Cancel
    | ResultAck
    | ResultChunkAck
    | LogAck
    | ServerDrain
    | Goaway
    | ErrorMessage
)
