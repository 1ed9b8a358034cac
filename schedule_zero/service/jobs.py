"""Verbs of bots, which run jobs over HTTP: claim, heartbeat, result, and what goes in parts: logs, large results.

The dispatcher decides; here words meet. ``token`` is an attempt's fencing token: what carries an old one is refused; a
result is then kept as stale (C6). What a principal's API token is bound to is held to first, everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial

from msgspec import Struct

from schedule_zero.clock import Clock
from schedule_zero.config import DispatchConfig
from schedule_zero.dispatch.dispatcher import Dispatcher
from schedule_zero.dispatch.endings import encode_error, encode_progress
from schedule_zero.dispatch.http_claims import Ask, Beat, Given
from schedule_zero.dispatch.http_peers import INSTANCE
from schedule_zero.errors import InvalidField, LeaseLost, NotFound, ResultIncomplete, TooLarge
from schedule_zero.model import Attempt, JobMethod
from schedule_zero.service.access import AccessService, check_bot, check_handlers
from schedule_zero.service.specs import Principal
from schedule_zero.store import Store, executions
from schedule_zero.store.executions import Refusal
from schedule_zero.store.node_keys import ANY
from schedule_zero.wire import result_parts
from schedule_zero.wire.log_lines import lines_of, pack
from schedule_zero.wire.messages import (
    MAX_LOG_CHUNK,
    MAX_RESULT_CHUNK,
    PROTOCOL_VERSION,
    HandlerDeclaration,
    Hello,
    LogChunk,
    ResultChunk,
    ResultItem,
)

# What a method takes that is only named, and that nobody has described yet.
ANY_PARAMS = b'{"type":"object"}'


class ClaimSpec(Struct, kw_only=True):
    """What a bot asks for."""

    bot_id: str
    # Handler → what it serves of it. A name alone: as it is known, or with any parameters.
    operations: Mapping[str, Sequence[str | JobMethod]]
    batch_size: int
    wait_s: float
    instance: str | None
    epoch: int
    state_key: str | None
    running: frozenset[int] | None
    leaving: bool
    outbox: int
    slots: int
    version: str
    host: str
    pid: int
    labels: dict[str, str]
    facts: dict[str, str]


class ResultPart(Struct, kw_only=True):
    """Bytes of a large result, from ``offset`` on; it has ``total`` in all."""

    id: str
    token: int
    offset: int
    total: int
    body: bytes


class LogLine(Struct):
    """What was said: one line, or several of the same moment, the last without its line feed."""

    text: str
    # Of its stream and level, see ``log_lines``.
    code: str
    # None: now.
    at_us: int | None


class LogPart(Struct, kw_only=True):
    """Lines of an attempt's log, of which ``line`` came before; see ``messages.LogChunk``."""

    id: str
    token: int
    line: int
    lines: Sequence[LogLine]
    last: bool
    left_out: int
    acked: int


class Lease(Struct):
    """For how long what a bot holds is its own, and how often it should say so."""

    lease_s: float
    heartbeat_s: float
    now_us: int


class JobService:
    """Everything that a bot can say."""

    def __init__(
        self, *, store: Store, dispatcher: Dispatcher, clock: Clock, config: DispatchConfig, access: AccessService
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._config = config
        self._access = access

    def lease(self) -> Lease:
        """Of this moment."""
        return Lease(lease_s=self._config.lease_s, heartbeat_s=self._config.heartbeat_s, now_us=self._clock.wall_us())

    async def claim(self, principal: Principal, spec: ClaimSpec) -> Given:
        """Work for a bot, waiting up to ``wait_s`` for it.

        DuplicateNode: another process has this bot id. Forbidden: the API token is for another one, or for other
        handlers. Unavailable and its kinds: try again.
        """
        check_bot(principal, spec.bot_id)
        check_handlers(principal, spec.operations)
        # Named without more, all processes of one bot id are one; the name must outlive the server's restart (C11).
        instance = INSTANCE + (spec.instance or hashlib.sha256(spec.bot_id.encode()).hexdigest()[:32])
        registry = self._dispatcher.registry
        adds = set()
        handlers = []
        for handler_id, named in spec.operations.items():
            methods = []
            for one in named:
                if isinstance(one, str):
                    adds.add(handler_id)
                    methods.append(registry.method(handler_id, one) or JobMethod(name=one, schema=ANY_PARAMS))
                else:
                    methods.append(one)
            handlers.append(HandlerDeclaration(handler_id=handler_id, methods=methods))
        hello = Hello(
            protocol=PROTOCOL_VERSION,
            node_id=spec.bot_id,
            instance=instance,
            epoch=spec.epoch,
            state_key=spec.state_key or instance,
            handlers=handlers,
            slots=spec.slots,
            outbox=spec.outbox,
            version=spec.version,
            host=spec.host,
            pid=spec.pid,
            labels=spec.labels,
            facts=spec.facts,
        )
        return await self._dispatcher.http.claim(
            Ask(
                hello=hello,
                adds=frozenset(adds),
                want=spec.batch_size,
                wait_s=spec.wait_s,
                allowed=partial(self._access.is_living, principal),
                handlers=None if ANY in principal.handlers else frozenset(principal.handlers),
                running=spec.running,
                leaving=spec.leaving,
            )
        )

    async def heartbeat(
        self,
        principal: Principal,
        bot_id: str,
        execution_id: str,
        token: int,
        progress: tuple[float | None, str] | None,
    ) -> Beat:
        """The bot works on it. LeaseLost: it must stop, its attempt is over. NotFound: there is no such attempt."""
        await self._check(principal, bot_id, execution_id, token)
        beat = self._dispatcher.http.heartbeat(bot_id, execution_id, token, progress)
        if beat is not None:
            return beat
        await self._classify(bot_id, execution_id, token)
        raise LeaseLost(f"attempt {token} of execution {execution_id} is over; stop working on it")

    async def result(self, principal: Principal, bot_id: str, item: ResultItem) -> str:
        """How an attempt ended, once it is committed: ``recorded``, or ``duplicate``.

        LeaseLost: superseded, and kept as stale. NotFound: no such attempt. ResultIncomplete: its parts first.
        Unavailable: not recorded, repeat it.
        """
        await self._check(principal, bot_id, item.id, item.token)
        if item.result_bytes:
            upto = await self._dispatcher.results.lacks(item)
            if upto is not None:
                raise ResultIncomplete(
                    f"{upto} of {item.result_bytes} bytes of the result are stored: send the rest, then report again",
                    upto=upto,
                )
        now_us = self._clock.wall_us()
        # A bot's clock may be wrong; nothing has happened that is yet to come.
        item.started_us = _not_after(item.started_us, now_us)
        item.finished_us = _not_after(item.finished_us, now_us)
        verdict = await self._dispatcher.http.report(bot_id, item)
        if verdict is None:
            refusal = await self._classify(bot_id, item.id, item.token)
            verdict = refusal.value
            if refusal is Refusal.SUPERSEDED:
                await self._store.write(executions.record_stale, [_stale(bot_id, item, now_us)])
        if verdict == Refusal.SUPERSEDED.value:
            raise LeaseLost(
                f"attempt {item.token} of execution {item.id} lost its lease; its result was recorded as stale"
            )
        if verdict == Refusal.UNKNOWN.value:
            raise _no_such_attempt(item.id, item.token)
        return verdict

    async def result_part(self, principal: Principal, bot_id: str, part: ResultPart) -> int:
        """A part of a large result; how many bytes of it are stored then, once that is committed.

        A part that does not begin where the last one ended changes nothing. TooLarge: no result may have so many
        bytes. LeaseLost, NotFound: it isn't wanted (any more). Unavailable and its kinds: repeat it.
        """
        if not part.body:
            raise InvalidField("the part is empty, expected 1 byte or more", pointer="/body")
        if len(part.body) > MAX_RESULT_CHUNK:
            raise TooLarge(
                f"the part has {len(part.body)} bytes, at most {MAX_RESULT_CHUNK} are taken at once", pointer="/body"
            )
        if part.offset + len(part.body) > part.total:
            raise InvalidField(
                f"{len(part.body)} bytes from {part.offset} on go beyond the {part.total} that there are in all",
                pointer="/total",
            )
        await self._check(principal, bot_id, part.id, part.token)
        if self._dispatcher.http.holds(bot_id, part.id, part.token):
            chunk = ResultChunk(
                s="",
                id=part.id,
                token=part.token,
                offset=part.offset,
                bytes=len(part.body),
                total=part.total,
                body=result_parts.pack(part.body),
            )
            upto = await self._dispatcher.results.take(bot_id, chunk)
            if upto is not None:
                return upto
        await self._classify(bot_id, part.id, part.token)
        raise LeaseLost(f"attempt {part.token} of execution {part.id} is over; its result is not wanted any more")

    async def log(self, principal: Principal, bot_id: str, part: LogPart) -> tuple[int, bool]:
        """Lines of an attempt's log, also after its end: how many are stored then, and whether that is all.

        Lines that do not begin where the stored ones end change nothing. TooLarge: too much at once, or in all.
        LeaseLost: it never was this bot's. NotFound: no such attempt. Unavailable and its kinds: repeat it.
        """
        if not part.lines and not part.last:
            raise InvalidField("expected at least one line, or last: true", pointer="/lines")
        now_us = self._clock.wall_us()
        raw = b"".join(
            lines_of(now_us if line.at_us is None else min(line.at_us, now_us), line.code, line.text)
            for line in part.lines
        )
        if len(raw) > MAX_LOG_CHUNK:
            raise TooLarge(
                f"these lines are stored in {len(raw)} bytes (each with its time and stream), at most {MAX_LOG_CHUNK} "
                "are taken at once",
                pointer="/lines",
            )
        await self._check(principal, bot_id, part.id, part.token)
        if self._dispatcher.http.speaks_for(bot_id):
            chunk = LogChunk(
                id=part.id,
                token=part.token,
                line=part.line,
                # Where its bytes begin only the store knows.
                byte=0,
                lines=raw.count(b"\n"),
                bytes=len(raw),
                body=pack(raw),
                acked=min(part.acked, part.line),
                left_out=part.left_out,
                last=part.last,
            )
            done = await self._dispatcher.logs.take(bot_id, chunk)
            if part.token in done.upto:
                return done.upto[part.token]
        await self._classify(bot_id, part.id, part.token)
        raise LeaseLost(f"attempt {part.token} of execution {part.id} is not the bot's {bot_id!r}")

    async def _check(self, principal: Principal, bot_id: str, execution_id: str, token: int) -> None:
        """Forbidden if the API token is for another bot, or not for the handler of this execution."""
        check_bot(principal, bot_id)
        if ANY in principal.handlers:
            return
        handler_id = self._dispatcher.http.handler_of(bot_id, execution_id, token)
        if handler_id is None:
            handler_id = await self._store.read(lambda conn: executions.handler_of(conn, execution_id))
        # Of what there isn't, the answer is that.
        if handler_id is not None:
            check_handlers(principal, [handler_id])

    async def reject(self, principal: Principal, bot_id: str, execution_id: str, token: int, reason: str) -> str:
        """The bot gives back what it has not started; the attempt counts for nothing."""
        await self._check(principal, bot_id, execution_id, token)
        if self._dispatcher.http.reject(bot_id, execution_id, token, reason):
            return "rejected"
        await self._classify(bot_id, execution_id, token)
        raise LeaseLost(f"attempt {token} of execution {execution_id} is over already")

    async def _classify(self, bot_id: str, execution_id: str, token: int) -> Refusal:
        """What became of an attempt that this bot does not hold."""
        verdicts = await self._store.read(lambda conn: executions.classify(conn, [(execution_id, token)]))
        refusal = verdicts[token]
        if refusal is Refusal.UNKNOWN:
            raise _no_such_attempt(execution_id, token)
        if refusal is None:
            raise LeaseLost(f"attempt {token} of execution {execution_id} is not held by the bot {bot_id!r}")
        return refusal


def _no_such_attempt(execution_id: str, token: int) -> NotFound:
    return NotFound(f"there is no attempt {token} of an execution {execution_id!r}")


def _not_after(us: int | None, now_us: int) -> int | None:
    return None if us is None else min(us, now_us)


def _stale(bot_id: str, item: ResultItem, now_us: int) -> Attempt:
    return Attempt(
        execution_id=item.id,
        # Its number isn't known here; the token identifies it.
        attempt=0,
        token=item.token,
        node_id=bot_id,
        outcome=item.outcome,
        started_us=item.started_us,
        finished_us=item.finished_us or now_us,
        cpu_us=item.cpu_us,
        peak_rss_bytes=item.peak_rss_bytes,
        progress=encode_progress(item.progress, now_us),
        error=None if item.error is None else encode_error(item.error),
    )
