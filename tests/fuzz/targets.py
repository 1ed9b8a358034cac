"""What is fuzzed: bytes in; a value, or the one refusal that is allowed, out. Anything else is a finding.

Also what no input may cost: time of the processor, and memory.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from msgspec import Struct

from schedule_zero.errors import ProtocolError
from schedule_zero.node import worker_frames
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
