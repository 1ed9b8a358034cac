"""Large results: their chunks into the store, and their RESULT to the core only when all of them are there.

As with logs, one write is under way at a time, of what came meanwhile up to ``WRITE_BYTES``, so that a large result
delays no small one. A chunk that isn't acknowledged comes again; a RESULT that comes before its chunks (they were lost
with a backup that was restored) is answered by how much is here, and comes again after them. Over HTTP somebody waits
for the answer (``take``, ``lacks``); over ZeroMQ it is RESULT_CHUNK_ACK.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from schedule_zero.dispatch.answers import ANSWER_S, settle, within
from schedule_zero.errors import Draining, StoreUnavailable, TooLarge, TooManyRequests
from schedule_zero.model import AttemptOutcome, JobError
from schedule_zero.store import results
from schedule_zero.store.tx import Verb
from schedule_zero.wire.messages import Result, ResultChunk, ResultChunkAck, ResultItem, ServerMessage

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from schedule_zero.store import Store

WRITE_BYTES = 512 << 10
MAX_WAITING_BYTES = 32 << 20

Submit: TypeAlias = "Callable[[Verb[Any, Any], Any, Callable[[Any], None]], None]"
Done: TypeAlias = "Callable[[int | Exception | None], None]"


class ResultIntake:
    """Takes RESULT_CHUNK, answers RESULT_CHUNK_ACK, and lets a RESULT pass. All on the loop's thread."""

    def __init__(
        self,
        *,
        store: Store,
        submit: Submit,
        spawn: Callable[[Coroutine[Any, Any, None], str], None],
        send: Callable[[bytes, ServerMessage], None],
        limit_bytes: int,
    ) -> None:
        self._store = store
        self._submit = submit
        self._spawn = spawn
        self._send = send
        self._limit_bytes = limit_bytes
        self._waiting: deque[tuple[results.Append, Done]] = deque()
        self._waiting_bytes = 0
        self._under_way = 0
        self._closed = False

    def chunk(self, peer: bytes, node_id: str, message: ResultChunk) -> None:
        """A part of a result, from a node with a session."""
        if self._waiting_bytes + len(message.body) <= MAX_WAITING_BYTES:
            self._queue(node_id, message, partial(self._acknowledge, peer, message))

    async def take(self, node_id: str, message: ResultChunk) -> int | None:
        """A part of a result, from a bot: how much of it is stored then. None: no such attempt runs on this bot.

        TooLarge: no result may have as many bytes. TooManyRequests, StoreUnavailable, Draining: repeat it.
        """
        if message.total > self._limit_bytes:
            raise TooLarge(self._too_large(message.total), pointer="/total")
        if self._closed:
            raise Draining
        if self._waiting_bytes + len(message.body) > MAX_WAITING_BYTES:
            raise TooManyRequests(f"{self._waiting_bytes} bytes of results wait to be written already")
        answer: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._queue(node_id, message, partial(settle, answer))
        return await within(ANSWER_S, answer, "this part could not be stored in time; send it again")

    def close(self) -> None:
        """Write nothing more; what waits comes again, to the next server."""
        self._closed = True
        waiting, self._waiting = self._waiting, deque()
        for _, answer in waiting:
            answer(Draining())

    def _queue(self, node_id: str, chunk: ResultChunk, done: Done) -> None:
        self._waiting.append((results.Append(node_id, chunk, self._limit_bytes), done))
        self._waiting_bytes += len(chunk.body)
        self._write()

    def _write(self) -> None:
        if self._under_way or self._closed:
            return
        size = 0
        while self._waiting and size < WRITE_BYTES:
            part, done = self._waiting.popleft()
            size += len(part.chunk.body)
            self._under_way += 1
            self._submit(results.append, part, partial(self._written, done))
        self._waiting_bytes -= size

    def _written(self, done: Done, upto: int | Exception | None) -> None:
        self._under_way -= 1
        done(upto)
        self._write()

    def _acknowledge(self, peer: bytes, chunk: ResultChunk, upto: int | Exception | None) -> None:
        if not isinstance(upto, Exception):
            self._send(peer, ResultChunkAck(s=chunk.s, token=chunk.token, upto=upto or 0, unknown=upto is None))

    async def lacks(self, item: ResultItem) -> int | None:
        """How much of this result is here, if that is not all of it; None: it may be recorded.

        One that is larger than any may be becomes a failure. StoreUnavailable: nobody knows, repeat it.
        """
        if item.result_bytes > self._limit_bytes:
            item.error = JobError(type="ResultTooLarge", message=self._too_large(item.result_bytes))
            item.outcome, item.result_bytes = AttemptOutcome.FAILED, 0
            return None
        stored, runs = await self._store.read(lambda conn: results.state_of(conn, item.id, item.token))
        return stored if runs and stored != item.result_bytes else None

    def _too_large(self, size: int) -> str:
        return f"the result has {size} bytes as JSON, at most {self._limit_bytes} are allowed"

    def check(self, peer: bytes, s: str, item: ResultItem, on_checked: Callable[[Result], None]) -> None:
        """Pass this RESULT on once its result is known to be here; tell the node where to go on if it isn't."""

        async def look() -> None:
            try:
                stored = await self.lacks(item)
            except StoreUnavailable:
                return  # the node repeats
            if stored is None:
                on_checked(Result(s=s, items=[item]))
            else:
                self._send(peer, ResultChunkAck(s=s, token=item.token, upto=stored))

        self._spawn(look(), "dispatch.big_result")
