"""What a node sends over HTTP in parts: large results and logs, each part one request, until it is acknowledged.

Part of ``http_link``, which decides when there is room for it: never before results, rejections and progress. What is
under way at a time, what comes again and how much is kept is decided where it is for ZeroMQ too (``BigResults``,
``LogSender``); here a part that is asked for twice waits once.

**What can go wrong.** Too many requests, a store that fails: the same part again, after what the server asks for; the
session goes on, for logs are not to stop results. The attempt is not ours any more (``lease_lost``, ``not_found``):
nothing more of it is wanted. The server, or a proxy, will never take it (400, 413): of a log, nothing more is sent; of
a result, ``refused`` says why, and that is reported in its place. All else ends the session.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from schedule_zero.node.http_requests import Over, Reply, Requests, decoded
from schedule_zero.node.link import End
from schedule_zero.wire.log_lines import grouped, unpack
from schedule_zero.wire.messages import Log, LogAck, LogAcked, LogChunk, ResultChunk, ResultChunkAck
from schedule_zero.wire.result_parts import unpack as unpack_part

log = structlog.get_logger(__name__)

ANSWER_S = 20.0
# Requests with logs under way at a time, each of another attempt.
LOGS_AT_ONCE = 2
# Where the server asks for patience and does not say how much.
PATIENCE_S = 1.0

# What repeating won't make better.
REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class _Upto(Struct):
    upto: int


class _Lines(Struct):
    line: int
    last: bool = False


_decode_upto = msgspec.json.Decoder(_Upto).decode
_decode_lines = msgspec.json.Decoder(_Lines).decode


class Parts:
    """``add`` what the owner sends; ``post`` some of it; what came of it is an acknowledgement for the owner."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._results: dict[tuple[int, int], ResultChunk] = {}
        self._logs: dict[tuple[int, int], LogChunk] = {}
        # Results whose parts are refused for good: token → the answer.
        self.refused: dict[int, Reply] = {}

    def __bool__(self) -> bool:
        return bool(self._results or self._logs)

    def add(self, message: Log | ResultChunk) -> None:
        """Parts to be sent; one that waits already, or is under way, does not wait twice."""
        if isinstance(message, ResultChunk):
            self._results.setdefault((message.token, message.offset), message)
            return
        for chunk in message.items:
            self._logs.setdefault((chunk.token, chunk.line), chunk)

    def clear(self) -> None:
        """The session is over: all of it comes again."""
        self._results.clear()
        self._logs.clear()

    async def post(self, bot_id: str, session: str) -> list[ResultChunkAck | LogAck]:
        """Send a part of a result, else of some logs. Raises Over."""
        if self._results:
            return await self._post_result_part(bot_id, session)
        return await self._post_logs(bot_id, session)

    async def _post_result_part(self, bot_id: str, session: str) -> list[ResultChunkAck | LogAck]:
        key, part = next(iter(self._results.items()))
        body = {
            "bot_id": bot_id,
            "token": part.token,
            "offset": part.offset,
            "total": part.total,
            "body": unpack_part(part.body, part.bytes),
        }
        reply = await self._requests.post(f"/api/jobs/{part.id}/result/part", body, ANSWER_S)
        if await _is_busy(reply):
            return []
        if reply.code in ("lease_lost", "not_found") or _is_refused(reply):
            if _is_refused(reply):
                self.refused[part.token] = reply
            # Its RESULT is answered by why.
            self._results = {other: one for other, one in self._results.items() if one.token != part.token}
            return [ResultChunkAck(s=session, token=part.token, upto=0, unknown=True)]
        upto = decoded(reply, _decode_upto).upto
        self._results.pop(key, None)
        return [ResultChunkAck(s=session, token=part.token, upto=upto)]

    async def _post_logs(self, bot_id: str, session: str) -> list[ResultChunkAck | LogAck]:
        first: dict[int, tuple[int, int]] = {}
        for key in self._logs:
            first.setdefault(key[0], key)
            if len(first) == LOGS_AT_ONCE:
                break
        posts = [self._post_log(bot_id, self._logs[key]) for key in first.values()]
        outcomes = await asyncio.gather(*posts, return_exceptions=True)
        ack = LogAck(s=session)
        for key, outcome in zip(first.values(), outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome is None:
                continue
            if isinstance(outcome, LogAcked):
                self._logs.pop(key, None)
                ack.items = [*ack.items, outcome]
            else:
                self._logs = {other: one for other, one in self._logs.items() if one.token != outcome}
                ack.unknown = [*ack.unknown, outcome]
        return [ack] if ack.items or ack.unknown else []

    async def _post_log(self, bot_id: str, chunk: LogChunk) -> LogAcked | int | None:
        """What is stored; the token of a log of which nothing more is wanted; None: the same again."""
        body: dict[str, Any] = {
            "bot_id": bot_id,
            "token": chunk.token,
            "line": chunk.line,
            "lines": [
                {"text": line.text + "\n", "stream": line.stream, "level": line.level, "at": line.at_us / 1e6}
                for line in grouped(unpack(chunk.body) or b"")
            ],
            "last": chunk.last,
            "left_out": chunk.left_out,
            "acked": chunk.acked,
        }
        reply = await self._requests.post(f"/api/jobs/{chunk.id}/log", body, ANSWER_S)
        if await _is_busy(reply):
            return None
        if reply.code in ("lease_lost", "not_found"):
            return chunk.token
        if _is_refused(reply):
            log.warning("log_refused", execution_id=chunk.id, status=reply.status, reason=reply.message[:200])
            return chunk.token
        answer = decoded(reply, _decode_lines)
        return LogAcked(token=chunk.token, lines=answer.line, last=answer.last)


def _is_refused(reply: Reply) -> bool:
    # A proxy's 400 may be about anything; its 413 is about this.
    return reply.status in REFUSED and bool(reply.code or reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


async def _is_busy(reply: Reply) -> bool:
    """Whether the server asks for patience; then that has been had."""
    if reply.status not in BUSY:
        return False
    if reply.code == "draining":
        raise Over(End(f"http_{reply.status}", reply.message[:200], reply.retry_after_s))
    await asyncio.sleep(reply.retry_after_s or PATIENCE_S)
    return True
