"""What a node and its worker processes say to each other over a pair of sockets: a length and one msgpack map each.

Pure: types, and bytes to messages. Nothing but plain values is built from what comes, and a frame has a limit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from schedule_zero.model import AttemptOutcome, JobError
from schedule_zero.node.context import StopReason
from schedule_zero.wire.messages import DispatchItem

_LENGTH = struct.Struct(">I")
HEAD_BYTES = _LENGTH.size
# Beside a result or parameters: an error with its traceback, a name, a few numbers.
MARGIN_BYTES = 1 << 20
# A worker that finds its descriptor of the line closed ends with this exit code.
LINE_LOST_CODE = 117


class _Frame(Struct, tag_field="t", kw_only=True, omit_defaults=True):
    """Common to all: the discriminating ``t``."""


# --- node → worker ---------------------------------------------------------------------------------


class Begin(_Frame, tag="begin"):
    """Load these handlers; answered by ``Ready`` or ``Broken``."""

    targets: list[str]
    node_id: str
    state_dir: str
    result_limit: int
    log_level: Literal["debug", "info", "warning", "error"]


class Run(_Frame, tag="run"):
    """Run this attempt; answered by ``Done``."""

    item: DispatchItem


class Stop(_Frame, tag="stop"):
    """The attempt is to end."""

    reason: StopReason


class Quit(_Frame, tag="quit"):
    """Tear the handlers down and end."""


# --- worker → node ---------------------------------------------------------------------------------


class Ready(_Frame, tag="ready"):
    """The handlers are set up, and this is what that took."""

    rss_bytes: int
    # As the kernel counts it, with what the process was forked from.
    most_rss_bytes: int
    total_cpu_us: int


class Broken(_Frame, tag="broken"):
    """They can't be; the worker ends."""

    message: str


class Told(_Frame, tag="told"):
    """The progress of the attempt."""

    token: int
    percent: float
    text: str


class Alive(_Frame, tag="alive"):
    """The job says that it goes on."""

    token: int


class Said(_Frame, tag="said"):
    """What the attempt says, for its log; ``code`` as in ``log_lines``."""

    token: int
    code: str
    text: str


class Logged(_Frame, tag="logged"):
    """A line of this process's log, as a JSON object."""

    line: bytes


class Done(_Frame, tag="done"):
    """How the attempt ended, and what this process and those that it waited for used."""

    token: int
    kind: AttemptOutcome
    result: bytes | None = None
    error: JobError | None = None
    retry_after_s: float | None = None
    give_up: bool = False
    cpu_us: int = 0
    peak_rss_bytes: int = 0
    # What it takes now, and used in all its life.
    rss_bytes: int = 0
    total_cpu_us: int = 0
    # The job left processes behind.
    leftovers: bool = False


ToWorker = Begin | Run | Stop | Quit
FromWorker = Ready | Broken | Told | Alive | Said | Logged | Done

M = TypeVar("M")
_encode = msgspec.msgpack.Encoder().encode


class BadFrame(Exception):
    """What came is not a frame."""


def frame(message: ToWorker | FromWorker) -> bytes:
    body = _encode(message)
    return _LENGTH.pack(len(body)) + body


class Frames(Generic[M]):
    """Bytes in, messages out."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[M], limit: int) -> None:
        self._decode = decoder.decode
        self._limit = limit
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[M]:
        """The messages that are complete now; raises BadFrame, after which nothing more can be read."""
        self._bytes += data
        while len(self._bytes) >= HEAD_BYTES:
            (length,) = _LENGTH.unpack_from(self._bytes)
            if length > self._limit:
                raise BadFrame(f"a frame of {length} bytes; at most {self._limit} are allowed")
            end = HEAD_BYTES + length
            if len(self._bytes) < end:
                return
            body = bytes(memoryview(self._bytes)[HEAD_BYTES:end])
            del self._bytes[:end]
            try:
                yield self._decode(body)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, OverflowError) as error:
                raise BadFrame(str(error)[:200]) from None


def from_worker(limit: int) -> Frames[FromWorker]:
    return Frames(msgspec.msgpack.Decoder(FromWorker), limit)


def to_worker() -> Frames[ToWorker]:
    # A worker believes its node.
    return Frames(msgspec.msgpack.Decoder(ToWorker), (1 << 32) - 1)
