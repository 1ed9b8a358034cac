"""Which parts of logs to send, and when again, until the server has acknowledged them. Pure: no socket, no clock.

At most ``WINDOW_BYTES`` are under way, so that a result or a heartbeat that comes next never stands behind more than
that. What is under way and not acknowledged in time is sent again from there on, in order; so is everything after a
reconnect. The server takes the parts of one attempt in order only, and drops what it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from schedule_zero.wire.messages import LogAcked, LogChunk

WINDOW_BYTES = 1 << 20
# Nor more chunks than these, among which an acknowledgement looks for its own.
WINDOW_CHUNKS = 1_000
MESSAGE_BYTES = 256 << 10
MESSAGE_ITEMS = 500
RESEND_S = 5.0
# So much is kept for a server that is away or slow; beyond it jobs' lines are left out until there is room again.
KEEP_BYTES = 32 << 20
ROOM_BYTES = 24 << 20
# What a chunk costs beside its body.
HEAD_BYTES = 150


class LogSender:
    """``add`` chunks, in order; ``take`` what to send; ``ack`` what the server answered."""

    def __init__(self) -> None:
        self._waiting: deque[LogChunk] = deque()
        self._in_flight: deque[tuple[float, LogChunk]] = deque()
        self._in_flight_bytes = 0
        # What the server has of each attempt whose log goes on.
        self._acked: dict[int, int] = {}
        self.bytes = 0
        self._full = False

    @property
    def idle(self) -> bool:
        """Nothing waits, nothing is under way."""
        return not (self._waiting or self._in_flight)

    @property
    def full(self) -> bool:
        """Whether to take no more for now."""
        self._full = self.bytes > (ROOM_BYTES if self._full else KEEP_BYTES)
        return self._full

    def add(self, chunks: Iterable[LogChunk]) -> None:
        for chunk in chunks:
            self._waiting.append(chunk)
            self.bytes += _cost(chunk)

    def opened(self) -> None:
        """A new session: what was under way may have been lost."""
        self._waiting.extendleft(chunk for _, chunk in reversed(self._in_flight))
        self._in_flight.clear()
        self._in_flight_bytes = 0

    def take(self, now_s: float) -> list[LogChunk]:
        """One message to send now; empty: there is none, or the window is full."""
        items: list[LogChunk] = []
        size = 0
        while self._waiting and len(items) < MESSAGE_ITEMS and size < MESSAGE_BYTES:
            cost = _cost(self._waiting[0])
            if self._in_flight and self._in_flight_bytes + cost > WINDOW_BYTES:
                break
            if len(self._in_flight) >= WINDOW_CHUNKS:
                break
            chunk = self._waiting.popleft()
            chunk.acked = self._acked.get(chunk.token, 0)
            self._in_flight.append((now_s, chunk))
            self._in_flight_bytes += cost
            size += cost
            items.append(chunk)
        return items

    def ack(self, items: Iterable[LogAcked]) -> None:
        """All of these attempts before that line is stored."""
        upto = {item.token: item for item in items}
        for token, item in upto.items():
            if item.last:
                self._acked.pop(token, None)
            else:
                self._acked[token] = max(item.lines, self._acked.get(token, 0))

        def stored(chunk: LogChunk) -> bool:
            item = upto.get(chunk.token)
            return item is not None and _stored(chunk, item)

        self._drop(stored)
        # To be sent again, and had arrived all the same. (One that isn't the first is sent twice.)
        while self._waiting and stored(self._waiting[0]):
            self.bytes -= _cost(self._waiting.popleft())

    def forget(self, tokens: Iterable[int]) -> None:
        """The server wants nothing of these."""
        gone = frozenset(tokens)
        for token in gone:
            self._acked.pop(token, None)
        self._drop(lambda chunk: chunk.token in gone)
        self._waiting = deque(chunk for chunk in self._waiting if chunk.token not in gone)
        self.bytes = self._in_flight_bytes + sum(map(_cost, self._waiting))

    def overdue(self, now_s: float) -> int:
        """Queue again what is under way for too long, and all after it; how many chunks that were."""
        if not self._in_flight or now_s - self._in_flight[0][0] < RESEND_S:
            return 0
        again = len(self._in_flight)
        self.opened()
        return again

    def _drop(self, done: Callable[[LogChunk], bool]) -> None:
        """Of what is under way."""
        kept: deque[tuple[float, LogChunk]] = deque()
        for sent in self._in_flight:
            if done(sent[1]):
                self.bytes -= _cost(sent[1])
                self._in_flight_bytes -= _cost(sent[1])
            else:
                kept.append(sent)
        self._in_flight = kept


def _stored(chunk: LogChunk, acked: LogAcked) -> bool:
    return acked.last or (not chunk.last and chunk.line + chunk.lines <= acked.lines)


def _cost(chunk: LogChunk) -> int:
    return len(chunk.body) + HEAD_BYTES
