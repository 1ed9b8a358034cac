"""Verbs of bots, which run jobs over HTTP: claim, heartbeat, result. The dispatcher decides; here words meet.

``token`` is an attempt's fencing token: what carries an old one is refused; a result is then kept as stale (C6).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial

from msgspec import Struct

from schedule_zero.clock import Clock
from schedule_zero.config import DispatchConfig
from schedule_zero.dispatch.dispatcher import Dispatcher
from schedule_zero.dispatch.endings import encode_error, reached
from schedule_zero.dispatch.http_claims import Ask, Beat, Given
from schedule_zero.dispatch.http_peers import INSTANCE
from schedule_zero.errors import LeaseLost, NotFound
from schedule_zero.model import Attempt, JobMethod
from schedule_zero.service.access import AccessService
from schedule_zero.service.specs import Principal
from schedule_zero.store import Store, executions
from schedule_zero.store.executions import Refusal
from schedule_zero.wire.messages import PROTOCOL_VERSION, HandlerDeclaration, Hello, ResultItem

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

        DuplicateNode: another process has this bot id. Unavailable and its kinds: try again.
        """
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
        beat = self._dispatcher.http.heartbeat(bot_id, execution_id, token, progress)
        if beat is not None:
            return beat
        await self._classify(bot_id, execution_id, token)
        raise LeaseLost(f"attempt {token} of execution {execution_id} is over; stop working on it")

    async def result(self, principal: Principal, bot_id: str, item: ResultItem) -> str:
        """How an attempt ended, once it is committed: ``recorded``, or ``duplicate``.

        LeaseLost: superseded, and kept as stale. NotFound: no such attempt. Unavailable: not recorded, repeat it.
        """
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

    async def reject(self, principal: Principal, bot_id: str, execution_id: str, token: int, reason: str) -> str:
        """The bot gives back what it has not started; the attempt counts for nothing."""
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
        progress=None if item.progress is None else reached(item.progress, now_us),
        error=None if item.error is None else encode_error(item.error),
    )
