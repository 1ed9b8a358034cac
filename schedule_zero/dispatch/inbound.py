"""What nodes send: decoded, held to its sender's key, and turned into events of the core. Nothing here raises (C17)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from schedule_zero.clock import Clock
from schedule_zero.dispatch.core import Core
from schedule_zero.dispatch.curve import CurveKeys
from schedule_zero.dispatch.effects import Now
from schedule_zero.dispatch.log_intake import LogIntake
from schedule_zero.dispatch.peers import Peers
from schedule_zero.dispatch.recording import Recorder
from schedule_zero.dispatch.registry import Registry
from schedule_zero.dispatch.result_intake import ResultIntake
from schedule_zero.dispatch.views import DispatchStats
from schedule_zero.errors import ProtocolError
from schedule_zero.model import Handler
from schedule_zero.rules.eta import advance
from schedule_zero.store import handlers
from schedule_zero.wire import messages as m
from schedule_zero.wire.codec import MAX_HELLO_BYTES, decode_node

log = structlog.get_logger(__name__)

# Newest progress of so many executions is kept.
MAX_PROGRESS = 10_000
# Of the methods that are not taken from one HELLO, so many are told in the log.
MAX_IGNORED_TOLD = 20


class Inbound:
    """The way of a message from the socket into the core."""

    def __init__(
        self,
        *,
        core: Core,
        registry: Registry,
        curve: CurveKeys,
        recorder: Recorder,
        logs: LogIntake,
        results: ResultIntake,
        send: Callable[[bytes, m.ServerMessage], None],
        expel: Callable[[bytes], None],
        stats: DispatchStats,
        clock: Clock,
        max_bytes: int,
    ) -> None:
        self._core = core
        self._registry = registry
        self._curve = curve
        self._recorder = recorder
        self._logs = logs
        self._results = results
        self._send = send
        self._stats = stats
        self._clock = clock
        self._max_bytes = max_bytes
        self._peers = Peers(stats, clock, expel=expel)
        self.events: dict[type, Callable[[bytes, Any, Now], None]] = {
            m.Heartbeat: core.heartbeat,
            m.Credit: core.credit,
            m.Accept: core.accept,
            m.Reject: core.reject,
            m.Result: self._result,
            m.ResultChunk: self._result_chunk,
            m.Log: self._log,
            m.Progress: self._note_progress,
            m.NodeDrain: lambda peer, message, now: core.leaving(peer, message.s, now),
            m.Bye: lambda peer, message, now: core.bye(peer, message.s, now),
        }

    def _now(self) -> Now:
        return Now(self._clock.mono_s(), self._clock.wall_us())

    def message(self, peer: bytes, key: str, frames: Sequence[bytes]) -> None:
        """One message, whatever it is: never an exception (C17)."""
        self._stats.messages_in += 1
        if peer in self._peers.ignored:
            return
        try:
            session = self._core.sessions.get(peer)
            limit = MAX_HELLO_BYTES if session is None else self._max_bytes
            message = decode_node(frames, max_bytes=limit)
            if self._curve.enabled and not self._key_fits(peer, key):
                return
            event = self.events.get(type(message))
            if event is not None:
                event(peer, message, self._now())
            elif isinstance(message, m.Hello):
                if self._peers.count_hello(peer):
                    raise ProtocolError("expected one HELLO on a connection, got many")
                self._hello(peer, key, message)
        except ProtocolError as error:
            self._bad(peer, error.message)
        except Exception:  # a bug of ours: one message must not stop the server
            self._stats.internal_errors += 1
            log.exception("message_failed", peer=peer.hex())
            self._bad(peer, "could not be handled")

    def _key_fits(self, peer: bytes, key: str) -> bool:
        """Whether ``key`` is in force, and the one with which the peer's session began."""
        session = self._core.sessions.get(peer)
        if self._curve.in_force(key) and (session is None or session.key == key):
            return True
        self._stats.wrong_keys += 1
        if self._peers.count_bad(peer, "its key is not in force, or not that of the session"):
            self._peers.ignore(peer)
        self._core.drop(peer, "revoked", "this key is not (or no longer) in force here", self._now())
        return False

    def _bad(self, peer: bytes, reason: str) -> None:
        self._stats.bad_messages += 1
        session = self._core.sessions.get(peer)
        if self._peers.count_bad(peer, reason, node_id=None if session is None else session.node.node_id):
            self._peers.ignore(peer)
            self._core.drop(peer, "too_many_bad_messages", "ignored from now on", self._now())
        else:
            self._send(peer, m.ErrorMessage(code="protocol", message=reason[:200]))

    def _hello(self, peer: bytes, key: str, hello: m.Hello) -> None:
        denial = self._curve.objection(key, hello) if self._curve.enabled else None
        self.hello(peer, key, hello, denial)

    def hello(
        self,
        peer: bytes,
        key: str,
        hello: m.Hello,
        denial: m.Deny | None = None,
        *,
        adds: frozenset[str] = frozenset(),
    ) -> None:
        """Whoever may be here says what it is; WELCOME or DENY answers. ``adds``: see ``Registry.changes``."""
        denial = denial or self._core.refusal(hello, self._now())
        if denial is not None:
            self._deny(peer, hello, denial)
            return
        declared, refused = self._registry.screen(hello.handlers)
        for number, one in enumerate(refused[:MAX_IGNORED_TOLD], 1):
            log.warning(
                "method_ignored",
                node_id=hello.node_id,
                handler_id=one.handler_id,
                job_method=one.job_method,
                reason=one.reason[:300],
                not_logged=len(refused) - number if number == MAX_IGNORED_TOLD else 0,
            )
        changed = self._registry.changes(hello.node_id, declared, adds=adds)
        if not changed:
            self._welcome(peer, key, hello, declared)
            return

        def stored(result: list[Handler] | Exception) -> None:
            if isinstance(result, Exception):
                reason = "the server can't store what this node declares"
                self._deny(peer, hello, m.Deny(code="store_unavailable", reason=reason, retry=True))
            else:
                self._registry.learn(result)
                self._welcome(peer, key, hello, declared)
            self._recorder.changed()

        now_us = self._clock.wall_us()
        declares = [
            handlers.Declare(handler_id=one.handler_id, methods=one.methods, node_id=hello.node_id, now_us=now_us)
            for one in changed
        ]
        self._recorder.submit(handlers.declare, declares, stored)

    def _welcome(self, peer: bytes, key: str, hello: m.Hello, declared: list[m.HandlerDeclaration]) -> None:
        served = [(one.handler_id, method.name) for one in declared for method in one.methods]
        self._core.hello(peer, hello, served, self._now(), key=key)
        session = self._core.sessions.get(peer)
        if session is not None and session.node.node_id == hello.node_id:
            now_us = self._clock.wall_us()
            self._recorder.handlers_moved(self._registry.serving(hello.node_id, declared, now_us), now_us)

    def _deny(self, peer: bytes, hello: m.Hello, denial: m.Deny) -> None:
        self._peers.denied(hello.node_id, denial.code, denial.reason)
        self._send(peer, denial)

    def _result(self, peer: bytes, message: m.Result, now: Now) -> None:
        if any(item.result_bytes for item in message.items):
            message = self._without_large(peer, message)
        self.whole_result(peer, message, now)

    def whole_result(self, peer: bytes, message: m.Result, now: Now) -> None:
        """RESULT whose large results are known to be here."""
        for item in message.items:
            if item.log_lines:
                self._logs.ended(item)
        self._core.result(peer, message, now)

    def _without_large(self, peer: bytes, message: m.Result) -> m.Result:
        """The results that can be recorded now; the others come to the core when their chunks are known to be here."""

        def checked(result: m.Result) -> None:
            self.whole_result(peer, result, self._now())
            self._recorder.changed()

        for item in message.items:
            if item.result_bytes:
                self._results.check(peer, message.s, item, checked)
        return m.Result(s=message.s, items=[item for item in message.items if not item.result_bytes])

    def _result_chunk(self, peer: bytes, message: m.ResultChunk, now: Now) -> None:
        node_id = self._core.node_of(peer, message.s, now)
        if node_id is not None:
            self._results.chunk(peer, node_id, message)

    def _log(self, peer: bytes, message: m.Log, now: Now) -> None:
        node_id = self._core.node_of(peer, message.s, now)
        if node_id is not None:
            self._logs.message(peer, node_id, message)

    def _note_progress(self, peer: bytes, message: m.Progress, now: Now) -> None:
        row = self._core.execution_of(peer, message.s, message.token, now)
        if row is None:
            return
        # The newest last, so that the oldest is the first to go.
        progress = self._recorder.progress
        progress[row.id] = advance(progress.pop(row.id, None), message.percent, message.text, now.wall_us)
        if len(progress) > MAX_PROGRESS:
            del progress[next(iter(progress))]
        self._logs.wake(row.id)
