"""What nodes say of their jobs' logs, into the store, and who wants to hear that there is more.

Over ZeroMQ it comes as LOG and is answered by LOG_ACK (``message``); over HTTP somebody waits for it (``take``).

**It must never be in the way** of results and heartbeats, which share the socket and the writer: one write of at most
``WRITE_BYTES`` is under way at a time, so that a commit carries that much of logs and no more, and what comes meanwhile
waits here, up to ``MAX_WAITING_BYTES``.

**What can go wrong.** A message is lost, or dropped here because too much waits: nobody acknowledges, the node sends it
again. The write fails: the same. LOG_ACK is lost: the node repeats, the store finds what it has and says so again. The
server restarts: it asks for nothing; what was not acknowledged comes again with the next session. The execution was
cleared meanwhile, or never was this node's: ``unknown``, and the node forgets it. The node dies: the log stays
incomplete, which ``missing`` tells for as long as this server lives.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from schedule_zero.dispatch.answers import ANSWER_S, settle, within
from schedule_zero.dispatch.views import DispatchStats
from schedule_zero.errors import Draining, TooLarge, TooManyRequests
from schedule_zero.store import logs
from schedule_zero.store.tx import Verb
from schedule_zero.wire.messages import Log, LogAck, LogAcked, LogChunk, ResultItem, ServerMessage

if TYPE_CHECKING:
    from collections.abc import Iterator

# What one commit may carry, and what may wait.
WRITE_BYTES = 256 << 10
MAX_WAITING_BYTES = 32 << 20
# A node's own words, and the kept end of a log that was too long, may go beyond the limit.
SLACK_BYTES = 4 << 20
# Of so many attempts it is known that more lines are to come.
MAX_AWAITED = 10_000

Submit: TypeAlias = "Callable[[Verb[Any, Any], Any, Callable[[Any], None]], None]"
Done: TypeAlias = "Callable[[logs.Appended | Exception], None]"


class LogIntake:
    """Takes LOG, answers LOG_ACK. All on the loop's thread."""

    def __init__(
        self,
        *,
        submit: Submit,
        send: Callable[[bytes, ServerMessage], None],
        stats: DispatchStats,
        limit_bytes: int,
    ) -> None:
        self._submit = submit
        self._send = send
        self._stats = stats
        self._takes = limit_bytes > 0
        self._limit_bytes = limit_bytes + SLACK_BYTES
        self._waiting: deque[tuple[logs.Append, Done]] = deque()
        self._waiting_bytes = 0
        self._writing = self._closed = False
        # Token → how many lines its log has when it is complete.
        self._awaited: dict[int, int] = {}
        self._listeners: dict[str, set[asyncio.Event]] = {}

    # --- from nodes ---------------------------------------------------------------------------------

    def message(self, peer: bytes, node_id: str, message: Log) -> None:
        """Parts of logs, from a node with a session."""
        if not self._has_room(sum(len(chunk.body) for chunk in message.items)):
            return
        done = partial(self._acknowledge, peer, message.s)
        part: list[LogChunk] = []
        part_size = 0
        for chunk in message.items:
            if part and part_size + len(chunk.body) > WRITE_BYTES:
                self._queue(node_id, part, done)
                part, part_size = [], 0
            part.append(chunk)
            part_size += len(chunk.body)
        if part:
            self._queue(node_id, part, done)
        self._write()

    async def take(self, node_id: str, chunk: LogChunk) -> logs.Appended:
        """A part of one log, from a bot; what became of it, once that is committed.

        TooLarge: the log would have more than it may. TooManyRequests, StoreUnavailable, Draining: repeat it.
        """
        if not self._takes:
            raise TooLarge("this server keeps no logs: limits.log_bytes is 0")
        if self._closed:
            raise Draining
        if not self._has_room(len(chunk.body)):
            raise TooManyRequests(f"{self._waiting_bytes} bytes of logs wait to be written already")
        answer: asyncio.Future[logs.Appended] = asyncio.get_running_loop().create_future()
        self._queue(node_id, [chunk], partial(settle, answer))
        self._write()
        done = await within(ANSWER_S, answer, "these lines could not be stored in time; send them again")
        over = done.over.get(chunk.token)
        if over is not None:
            raise TooLarge(
                f"the log of an attempt may take {self._limit_bytes} bytes, its end included; with these lines it "
                f"would have {over}",
                pointer="/lines",
            )
        return done

    def _has_room(self, size: int) -> bool:
        if self._waiting_bytes + size <= MAX_WAITING_BYTES:
            return True
        self._stats.logs_refused += 1
        return False

    def ended(self, item: ResultItem) -> None:
        """The attempt is over, and its log has so many lines, some of which may be on their way."""
        awaited = self._awaited
        awaited[item.token] = item.log_lines
        if len(awaited) > MAX_AWAITED:
            del awaited[next(iter(awaited))]

    def _queue(self, node_id: str, chunks: list[LogChunk], done: Done) -> None:
        self._waiting.append((logs.Append(node_id, chunks, self._limit_bytes), done))
        self._waiting_bytes += sum(len(chunk.body) for chunk in chunks)

    def _write(self) -> None:
        if self._writing or not self._waiting:
            return
        self._writing = True
        part, answer = self._waiting.popleft()
        self._waiting_bytes -= sum(len(chunk.body) for chunk in part.chunks)

        def done(result: logs.Appended | Exception) -> None:
            self._writing = self._closed
            if not isinstance(result, Exception):
                self._stored(part, result)
            answer(result)
            self._write()

        self._submit(logs.append, part, done)

    def _acknowledge(self, peer: bytes, s: str, done: logs.Appended | Exception) -> None:
        if isinstance(done, Exception):
            return  # the node sends it again
        items = [LogAcked(token=token, lines=lines, last=last) for token, (lines, last) in done.upto.items()]
        self._send(peer, LogAck(s=s, items=items, unknown=done.unknown))

    def _stored(self, part: logs.Append, done: logs.Appended) -> None:
        self._stats.log_lines += done.lines
        self._stats.log_bytes += done.bytes
        self._stats.log_lines_left_out += done.left_out
        for token, (_, last) in done.upto.items():
            if last:
                self._awaited.pop(token, None)
        if self._listeners:
            for execution_id in {chunk.id for chunk in part.chunks}:
                self.wake(execution_id)

    def close(self) -> None:
        """Write nothing more; what waits comes again, to the next server."""
        waiting, self._waiting = self._waiting, deque()
        self._waiting_bytes = 0
        self._writing = self._closed = True
        for _, answer in waiting:
            answer(Draining())

    # --- for readers --------------------------------------------------------------------------------

    def missing(self, token: int, lines: int) -> bool:
        """Whether this attempt, which is over, has more lines than are stored."""
        return self._awaited.get(token, 0) > lines

    @property
    def followed(self) -> bool:
        return bool(self._listeners)

    def wake(self, execution_id: str) -> None:
        """Tell those who follow it to look again."""
        for event in self._listeners.get(execution_id, ()):
            event.set()

    @contextmanager
    def listening(self, execution_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever there is more of this execution's logs."""
        event = asyncio.Event()
        self._listeners.setdefault(execution_id, set()).add(event)
        try:
            yield event
        finally:
            listeners = self._listeners[execution_id]
            listeners.discard(event)
            if not listeners:
                del self._listeners[execution_id]
