"""What the pure core asks the world to do. The shell (``dispatcher``, or a simulation) does it and tells the outcome.

A record is answered by exactly one call of the core: ``started``/``start_failed``, ``recorded``/``record_failed``,
``refilled``/``refill_failed``, ``classified`` (or silence: the node repeats). Sends are never answered; one to a
peer that is gone is told as ``disconnected``.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct

from schedule_zero.dispatch.sessions import LiveAttempt
from schedule_zero.model import Attempt, LaneKey, Node
from schedule_zero.store.execution_window import NOTHING, Without
from schedule_zero.store.executions import EndItem, StartedItem, StartItem
from schedule_zero.store.rate_buckets import BucketRow
from schedule_zero.wire.messages import ResultAck, ResultItem, ServerMessage


class Now(Struct, frozen=True):
    """The moment of an event: monotonic for durations, wall for facts."""

    mono_s: float
    wall_us: int

    @property
    def ns(self) -> int:
        """The monotonic moment, for what must not be rounded."""
        return int(self.mono_s * 1e9)


class RecordStart(Struct):
    """Commit these attempts; only then are they sent."""

    items: list[StartItem]
    attempts: list[LiveAttempt]


class RecordEnd(Struct):
    """Commit these outcomes; only then are they acknowledged."""

    items: list[EndItem]
    attempts: list[LiveAttempt]


class RecordStarted(Struct):
    """Commit when methods were entered; nothing depends on it."""

    items: list[StartedItem]


class RecordStale(Struct):
    """Keep these refused results, then acknowledge."""

    rows: list[Attempt]
    peer: bytes
    ack: ResultAck


class Classify(Struct):
    """Look in the store what became of attempts that are not in memory, then ``classified``."""

    peer: bytes
    s: str
    items: list[ResultItem]


class Refill(Struct):
    """Read the next pending executions of one lane, so many or so many bytes of parameters, then ``refilled``."""

    lane: LaneKey
    limit: int
    max_bytes: int
    without: Without = NOTHING


class CancelAgain(Struct):
    """These wait although a cancel was requested: cancel them in the store."""

    ids: list[str]


class Send(Struct):
    """Send ``message`` to ``peer``."""

    peer: bytes
    message: ServerMessage


class NodeChanged(Struct):
    """Store the node's new state, and say so."""

    node: Node
    reason: str = ""


class NodeOperated(Struct):
    """The server itself quarantined or released ``node``: say so, and store it unless an operator said otherwise."""

    node: Node
    why: str


class NodeForgotten(Struct):
    """The node was away for long and holds nothing."""

    node_id: str


class DueAt(Struct):
    """An execution waits for this moment."""

    wall_us: int


class WakeAt(Struct):
    """Call ``wake`` at this moment of the monotonic clock (the last one said counts)."""

    mono_s: float


class KeepBuckets(Struct):
    """Keep the levels of these token buckets over a restart, before the starts that took from them."""

    rows: list[BucketRow]


class ExpiresAt(Struct):
    """An execution has to be started by this moment."""

    wall_us: int


class Note(Struct):
    """Something that an operator should see: the event's name and its fields."""

    event: str
    fields: dict[str, Any]


Effect: TypeAlias = (
    RecordStart
    | RecordEnd
    | RecordStarted
    | RecordStale
    | Classify
    | Refill
    | CancelAgain
    | Send
    | NodeChanged
    | NodeOperated
    | NodeForgotten
    | DueAt
    | WakeAt
    | KeepBuckets
    | ExpiresAt
    | Note
)


class Collector:
    """Collects effects over a run of events, so that a hundred results become one record and one send."""

    def __init__(self) -> None:
        self.other: list[Effect] = []
        self.starts: list[StartItem] = []
        self.starting: list[LiveAttempt] = []
        self.ends: list[EndItem] = []
        self.ending: list[LiveAttempt] = []
        self.marks: list[StartedItem] = []
        # The newest level of each, by its name.
        self.buckets: dict[tuple[str, str], BucketRow] = {}

    def send(self, peer: bytes, message: ServerMessage) -> None:
        self.other.append(Send(peer, message))

    def note(self, event: str, **fields: Any) -> None:
        self.other.append(Note(event, fields))

    def take(self) -> list[Effect]:
        """What is to be done now. Ends come before starts, so that they share a transaction."""
        effects, self.other = self.other, []
        if self.ends:
            effects.append(RecordEnd(self.ends, self.ending))
            self.ends, self.ending = [], []
        if self.buckets:
            effects.append(KeepBuckets(list(self.buckets.values())))
            self.buckets = {}
        if self.starts:
            effects.append(RecordStart(self.starts, self.starting))
            self.starts, self.starting = [], []
        if self.marks:
            effects.append(RecordStarted(self.marks))
            self.marks = []
        return effects
