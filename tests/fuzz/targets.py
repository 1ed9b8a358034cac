"""What is fuzzed: bytes in; a value, or the one refusal that is allowed, out. Anything else is a finding.

Also what no input may cost: time of the processor, and memory.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec
from msgspec import Struct

from schedule_zero.errors import ProtocolError, ScheduleZeroError
from schedule_zero.node import http_link, http_parts, http_requests, worker_frames
from schedule_zero.web.api.decode import BodyDecoder, QueryDecoder
from schedule_zero.web.api.routes import ROUTES
from schedule_zero.wire import codec
from schedule_zero.wire import messages as m
from schedule_zero.wire.messages import PREFIX
from tests.fuzz import values
from tests.fuzz.mutator import Mutator

# No input may take longer (CPU time of the thread), in seconds and in seconds for each byte. Measured: a millisecond,
# and 0.13 µs for each byte of a RESULT that is all error. A machine that is busy with other things is slower.
MAX_S, MAX_S_PER_BYTE = 0.1, 1e-6
# So much memory for each byte, and that beside it. Measured: 14 times.
MAX_MEMORY, MEMORY_BESIDE = 20, 1 << 20
# A frame of a worker is held to the limit of results.
FRAME_LIMIT = 1 << 20


class Target(Struct, frozen=True):
    """One thing that reads bytes. ``read`` raises ``refusal`` and nothing else."""

    name: str
    read: Callable[[bytes], Any]
    refusal: type[Exception]
    # Of a message: its type, and its bytes.
    kind: Any = None
    write: Callable[[Any], bytes] | None = None

    def check(self, data: bytes) -> Any:
        """What was read; None for what was refused. AssertionError for whatever must not be."""
        began_s = time.thread_time()
        found = self._attempt(data)
        if time.thread_time() - began_s > (most_s := MAX_S + MAX_S_PER_BYTE * len(data)):
            # Once more, for it may have been the collector of garbage, or the machine.
            took_s = min(self._seconds(data) for _ in range(3))
            assert took_s <= most_s, f"{self.name} took {took_s:.2f} s{_told(data)}"
        return found

    def _seconds(self, data: bytes) -> float:
        began_s = time.thread_time()
        self._attempt(data)
        return time.thread_time() - began_s

    def _attempt(self, data: bytes) -> Any:
        try:
            return self.read(data)
        except self.refusal as error:
            said = getattr(error, "message", str(error))
            assert len(said) <= 1000, f"{self.name} refused in {len(said)} characters{_told(data)}"
            return None
        except Exception as error:
            raise AssertionError(f"{self.name} raised {type(error).__name__}: {error}{_told(data)}") from error


def _told(data: bytes) -> str:
    shown = data.hex() if len(data) <= 20_000 else f"{data[:2000].hex()}… ({len(data)} bytes)"
    return f"; the bytes in hex: {shown}"


# --- messages ------------------------------------------------------------------------------------


def _node(data: bytes) -> m.NodeMessage:
    return codec.decode_node([PREFIX, data])


def _server(data: bytes) -> m.ServerMessage:
    return codec.decode_server([PREFIX, data])


def _from_worker(data: bytes) -> Any:
    [found] = worker_frames.from_worker(FRAME_LIMIT).feed(struct.pack(">I", len(data)) + data)
    return found


def _to_worker(data: bytes) -> Any:
    [found] = worker_frames.to_worker().feed(struct.pack(">I", len(data)) + data)
    return found


def _body(message: Any) -> bytes:
    return codec.encode(message)[1]


def _frame_body(message: Any) -> bytes:
    return worker_frames.frame(message)[worker_frames.HEAD_BYTES :]


def message_targets() -> list[Target]:
    """Each type of message between processes."""
    wires = [
        ("node", m.NodeMessage, _node, ProtocolError, _body),
        ("server", m.ServerMessage, _server, ProtocolError, _body),
        ("worker", worker_frames.FromWorker, _from_worker, worker_frames.BadFrame, _frame_body),
        ("to worker", worker_frames.ToWorker, _to_worker, worker_frames.BadFrame, _frame_body),
    ]
    return [
        Target(f"{side}: {kind.__struct_config__.tag}", read, refusal, kind, write)
        for side, union, read, refusal, write in wires
        for kind in union.__args__
    ]


def stream(data: bytes) -> list[Any]:
    """A worker's bytes as they come: lengths and all, in pieces."""
    frames, found = worker_frames.from_worker(FRAME_LIMIT), []
    for at in range(0, len(data), 100):
        found += frames.feed(data[at : at + 100])
    return found


STREAM = Target("worker: stream", stream, worker_frames.BadFrame)


def inputs(target: Target, seed: object, count: int) -> Iterator[bytes]:
    """Right messages broken, and maps with the right tag and anything in them; two to one."""
    dice = Random(repr((seed, target.name)))
    samples = [target.write(values.right(target.kind, dice)) for _ in range(100)]
    mutator = Mutator((seed, target.name), samples, values.PIECES)
    for number in range(count):
        yield values.odd(target.kind, dice) if number % 3 == 0 else mutator.broken(dice.choice(samples))


# --- JSON ----------------------------------------------------------------------------------------

JSON_WORDS = [
    b"null", b"true", b"1e999", b"-1", b"NaN", b"Infinity", b"1" * 400, b"1" * 5000, b"0.1e-999", b'""', b"[]", b"{}",
    b'"\\ud800"', b'"\\u0000"', b'"\xff"', b'"\xed\xa0\x80"', b"\\", b'"', b"{", b"}", b"[", b"]", b",", b":",
    b'{"a":1,"a":2}', b"[" * 500, b'{"a":' * 500, b"[" * 12_000, b'"x":1,', b"\xef\xbb\xbf", b"/*x*/", b"\x00",
    b'"' + b"x" * 5000 + b'"',
    b'"2026-02-30T25:00:00Z"', b'"0001-01-01T00:00:00+23:59"', b'"9999-12-31T23:59:59-23:59"',
    b'"2026-01-01"', b"\\u003a", b"9007199254740993", b"18446744073709551616",
]  # fmt: skip


def _answer(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        return http_requests.decoded(http_requests.Reply(200, "", "", 0.0, data), decode)

    return read


CLAIMED = {
    "jobs": [
        {
            "id": "e", "token": 1, "attempt": 1, "handler_id": "h", "job_method": "m", "job_params": {"a": [1, None]},
            "nominal_time": "2026-01-01T00:00:00Z", "start_by": None, "timeout_s": 1.5, "shard": "2/8",
        }
    ],
    "cancel": [1], "drain": False, "drain_s": None, "lease_s": 15.0, "heartbeat_s": 2.0,
    "server_time": "2026-01-01T00:00:00Z", "waited_s": 0.1,
}  # fmt: skip
ANSWERS: dict[str, tuple[Callable[[bytes], Any], Any]] = {
    "claim": (http_link._decode_claimed, CLAIMED),
    "heartbeat": (http_link._decode_beaten, {"cancel": True}),
    "result": (http_link._decode_reported, {"status": "recorded"}),
    "incomplete": (http_link._decode_incomplete, {"upto": 5}),
    "part": (http_parts._decode_upto, {"upto": 5}),
    "log": (http_parts._decode_lines, {"line": 5, "last": True}),
}


def answer_targets() -> list[tuple[Target, list[bytes]]]:
    """What an HTTP node reads of its server's answers (or of a proxy's), each with a sample."""
    found = [
        (Target(f"answer: {name}", _answer(decode), http_requests.Over), [msgspec.json.encode(sample)])
        for name, (decode, sample) in ANSWERS.items()
    ]

    def moment(data: bytes) -> int:
        return http_requests.moment_us(data.decode("utf-8", "replace"))

    return [*found, (Target("answer: moment", moment, http_requests.Over), [b"2026-01-01T00:00:00.5+01:00"])]


def body_targets() -> list[tuple[Target, list[bytes]]]:
    """The body of each route that takes one, with samples out of its type."""
    dice = Random(1)
    found = []
    for route in ROUTES:
        if route.body is None:
            continue
        shapes = [getattr(route.body, name) for name in ("one", "many") if hasattr(route.body, name)] or [route.body]
        samples = [msgspec.json.encode(values.right(shape, dice)) for shape in shapes for _ in range(20)]
        target = Target(
            f"body: {route.method} {route.path}", BodyDecoder(route.body, 64).decode, ScheduleZeroError
        )  # fmt: skip
        found.append((target, samples))
    return found


def query_targets() -> list[tuple[Target, list[bytes]]]:
    """The query string of each route that takes parameters."""
    found = []
    for route in ROUTES:
        names = [field.encode_name for field in msgspec.structs.fields(route.query)]
        if not names:
            continue
        decoder = QueryDecoder(route.query)

        def read(data: bytes, decoder: QueryDecoder = decoder) -> Any:
            # As Tornado has read it.
            return decoder.decode(data.decode("latin-1"))

        samples = [f"{name}={value}".encode() for name in names for value in ("1", "x,y", "true", "2026-01-01")]
        found.append((Target(f"query: {route.method} {route.path}", read, ScheduleZeroError), samples))
    return found


QUERY_WORDS = [
    b"&",
    b"=",
    b"%",
    b"%zz",
    b"%ff",
    b"%00",
    b"+",
    b";",
    b",",
    b"&" * 60,
    b"%ed%a0%80",
    b"1" * 5000,
    b"\xff",
]
