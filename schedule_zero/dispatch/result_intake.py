"""Large results: their chunks into the store, and their RESULT to the core only when all of them are there.

As with logs, one write is under way at a time, of what came meanwhile up to ``WRITE_BYTES``, so that a large result
delays no small one. A chunk that isn't acknowledged comes again; a RESULT that comes before its chunks (they were lost
with a backup that was restored) is answered by how much is here, and comes again after them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from schedule_zero.errors import StoreUnavailable
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
        self._waiting: deque[tuple[bytes, str, results.Append]] = deque()
        self._waiting_bytes = 0
        self._under_way = 0
        self._closed = False

    def chunk(self, peer: bytes, node_id: str, message: ResultChunk) -> None:
        """A part of a result, from a node with a session."""
        if self._waiting_bytes + len(message.body) > MAX_WAITING_BYTES:
            return
        self._waiting.append((peer, message.s, results.Append(node_id, message, self._limit_bytes)))
        self._waiting_bytes += len(message.body)
        self._write()

    def close(self) -> None:
        """Write nothing more; what waits comes again, to the next server."""
        self._closed = True

    def _write(self) -> None:
        if self._under_way or self._closed:
            return
        size = 0
        while self._waiting and size < WRITE_BYTES:
            peer, s, part = self._waiting.popleft()
            size += len(part.chunk.body)
            self._under_way += 1
            self._submit(results.append, part, partial(self._written, peer, s, part.chunk))
        self._waiting_bytes -= size

    def _written(self, peer: bytes, s: str, chunk: ResultChunk, upto: int | Exception | None) -> None:
        self._under_way -= 1
        if not isinstance(upto, Exception):
            self._send(peer, ResultChunkAck(s=s, token=chunk.token, upto=upto or 0, unknown=upto is None))
        self._write()

    def check(self, peer: bytes, s: str, item: ResultItem, on_checked: Callable[[Result], None]) -> None:
        """Pass this RESULT on once its result is known to be here; tell the node where to go on if it isn't."""
        if item.result_bytes > self._limit_bytes:
            said = f"the result has {item.result_bytes} bytes as JSON, at most {self._limit_bytes} are allowed"
            item.outcome, item.result_bytes = AttemptOutcome.FAILED, 0
            item.error = JobError(type="ResultTooLarge", message=said)
            on_checked(Result(s=s, items=[item]))
            return

        async def look() -> None:
            try:
                stored, runs = await self._store.read(lambda conn: results.state_of(conn, item.id, item.token))
            except StoreUnavailable:
                return  # the node repeats
            if runs and stored != item.result_bytes:
                self._send(peer, ResultChunkAck(s=s, token=item.token, upto=stored))
            else:
                on_checked(Result(s=s, items=[item]))

        self._spawn(look(), "dispatch.big_result")
