"""The glue around the pure core: store, socket, keys, registry and clock on one side, events and effects on the other.

Everything here runs on the loop's thread and never waits: a message or a finished store operation becomes an event
of the core, the core's effects become store operations and sends. Effects of everything that happened in one turn of
the loop are done together, so that work travels in batches.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import version as package_version
from typing import TYPE_CHECKING, Any

import structlog
import zmq
from msgspec import Struct

from schedule_zero.clock import Clock
from schedule_zero.config import HandlerRule, ServerConfig
from schedule_zero.dispatch import effects as fx
from schedule_zero.dispatch.core import TICK_S, Core
from schedule_zero.dispatch.curve import CurveKeys
from schedule_zero.dispatch.due import DueTimer
from schedule_zero.dispatch.peers import Peers
from schedule_zero.dispatch.registry import Registry
from schedule_zero.dispatch.router import Router, Sent
from schedule_zero.dispatch.sessions import LiveNode
from schedule_zero.errors import NotFound, ProtocolError, StoreUnavailable
from schedule_zero.model import Execution, Handler, Node, NodeState
from schedule_zero.ops.histogram import Histogram
from schedule_zero.store import Store, executions, handlers, nodes
from schedule_zero.store.executions import CancelAnswer, CancelOutcome
from schedule_zero.store.tx import Verb
from schedule_zero.wire import messages as m
from schedule_zero.wire.codec import MAX_HELLO_BYTES, decode_node, encode

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = structlog.get_logger(__name__)

# After a socket closed somewhere: libzmq forgets the peer a little later than it tells of it.
PROBE_AFTER_S = (0.0, 0.05, 0.3)
# Newest progress of so many executions is kept.
MAX_PROGRESS = 10_000
CLOSE_LINGER_MS = 300


class NodeView(Struct, kw_only=True):
    """One node as the API shows it. Times that depend on a session are None without one."""

    node_id: str
    state: NodeState
    handlers: list[str]
    slots: int
    running: int
    window: int
    outbox: int
    draining: bool
    heartbeat_age_s: float | None
    version: str
    host: str
    pid: int
    instance: str
    connected_us: int | None
    last_seen_us: int


class ProgressView(Struct, kw_only=True):
    """The newest progress of a running attempt."""

    percent: float | None
    text: str
    at_us: int


class DispatchStats(Struct):
    """Counters since the start, for /metrics."""

    messages_in: int = 0
    messages_out: int = 0
    # Sends to a peer that was gone or did not read; the protocol repeats what matters.
    sends_failed: int = 0
    dispatched: int = 0
    resends: int = 0
    results: int = 0
    results_duplicate: int = 0
    results_stale: int = 0
    attempts_lost: int = 0
    nodes_lost: int = 0
    nodes_denied: int = 0
    bad_messages: int = 0
    peers_dropped: int = 0
    # Messages whose key was not that of their session, or not in force.
    wrong_keys: int = 0
    # A message or an outcome that our own code could not handle.
    internal_errors: int = 0


class Dispatcher:
    """Gives executions to nodes and takes their results; see ``core`` for what it decides."""

    def __init__(
        self,
        *,
        store: Store,
        config: ServerConfig,
        curve: CurveKeys,
        declarations: Mapping[str, HandlerRule],
        clock: Clock,
    ) -> None:
        self._store = store
        self._config = config
        self._curve = curve
        self._clock = clock
        self.registry = Registry(declarations)
        self.stats = DispatchStats()
        # From dispatch to the method being entered, and from there to its end; of recorded results.
        self.handover = Histogram()
        self.run_time = Histogram()
        # Where nodes connect, once started.
        self.address = ""
        self._core = Core(
            config.dispatch,
            epoch=store.epoch,
            new_session_id=partial(secrets.token_hex, 8),
            rules=declarations,
            result_bytes=config.limits.result_bytes,
            server_version=package_version("schedule-zero"),
        )
        self._peers = Peers(self.stats, clock)
        self._due = DueTimer(store, clock, self._released)
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._router: Router | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flushing = False
        # Writes whose outcome isn't known yet; the event exists while somebody waits for none.
        self._in_flight = 0
        self._idle: asyncio.Event | None = None
        self._stopping = False
        self._probes: list[asyncio.TimerHandle] = []
        self._reads: set[asyncio.Task[None]] = set()
        self._progress: dict[str, ProgressView] = {}
        curve.on_revoked = self._revoked
        core = self._core
        self._events: dict[type, Callable[[bytes, Any, fx.Now], None]] = {
            m.Heartbeat: core.heartbeat,
            m.Credit: core.credit,
            m.Accept: core.accept,
            m.Reject: core.reject,
            m.Result: self._result,
            m.Progress: self._note_progress,
            m.NodeDrain: lambda peer, message, now: core.leaving(peer, message.s, now),
            m.Bye: lambda peer, message, now: core.bye(peer, message.s, now),
        }
        self._do: dict[type, Callable[[Any], None]] = {
            fx.Send: self._send,
            fx.RecordStart: self._record_start,
            fx.RecordEnd: self._record_end,
            fx.RecordStarted: self._record_started,
            fx.RecordStale: self._record_stale,
            fx.Classify: self._classify,
            fx.Refill: self._refill,
            fx.CancelAgain: self._cancel_again,
            fx.NodeChanged: self._node_changed,
            fx.NodeForgotten: lambda effect: self._submit(nodes.forget, effect.node_id, _ignore),
            fx.DueAt: lambda effect: self._due.at(effect.wall_us),
            fx.Note: self._note,
        }

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load what the store knows, bind, and begin to listen. ConfigError, AddressInUse."""
        self._loop = asyncio.get_running_loop()
        await self._curve.load()
        known, rows, running, waiting = await self._store.read(_load)
        self.registry.learn(known)
        self._core.restore(rows, running, waiting, self._now())
        if running:
            log.info("attempts_restored", count=len(running))
        self._context = context = zmq.Context(io_threads=1)
        try:
            await self._listen(context)
        except BaseException:
            self._close_sockets()
            context.destroy(linger=0)
            raise
        self._due.start()
        self._perform()

    async def _listen(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        curve = self._curve
        if curve.enabled:
            curve.serve(context)
        self._router = router = Router(
            context,
            self._config.zmq,
            on_message=self._on_message,
            on_disconnect=self._on_disconnect,
            on_turn_end=self._perform,
            keyed=curve.enabled,
        )
        if curve.enabled:
            curve.secure(router.socket)
        self.address = router.bind()
        if curve.enabled:
            await curve.self_test(self.address)
        router.start()
        log.info("dispatch_listening", address=self.address, curve=curve.enabled)

    async def run(self) -> None:
        """The heartbeat of the core; never returns."""
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()

    def tick(self) -> None:
        """Let the core look at the time."""
        self._core.tick(self._now())
        self._due.look()
        self._perform()

    async def stop(self, deadline_s: float) -> None:
        """Send nothing new, record what came, say GOAWAY, close. Safe to call twice."""
        if self._stopping or self._loop is None:
            return
        self._stopping = True
        self._core.close()
        self._due.stop()
        for peer, session in list(self._core.sessions.items()):
            self._send(fx.Send(peer, m.Goaway(s=session.s, reason="the server is stopping")))
        if self._in_flight:
            self._idle = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), deadline_s)
        if self._in_flight:
            log.warning("dispatch_stopped_with_records_open", records=self._in_flight)
        for task in self._reads:
            task.cancel()
        self._perform()
        self._close_sockets()
        if self._context is not None:
            # Waits for the sockets' linger, which is short.
            await asyncio.to_thread(self._context.term)
        log.info("dispatch_stopped")

    def _close_sockets(self) -> None:
        for handle in self._probes:
            handle.cancel()
        if self._router is not None:
            self._router.close(linger_ms=CLOSE_LINGER_MS if self._stopping else 0)
        self._curve.close()

    def _now(self) -> fx.Now:
        clock = self._clock
        return fx.Now(clock.mono_s(), clock.wall_us())

    # --- executions: for service and timing ---------------------------------------------------------

    def place(self, rows: Sequence[Execution]) -> None:
        """Before the insert of ``rows``: what finds a free place on a node becomes ``running``, the rest stays.

        Must be followed by exactly one of ``committed`` and ``abandoned``.
        """
        self._core.place(rows, self._now())

    def committed(self, rows: Sequence[Execution]) -> None:
        """The insert of ``rows`` is committed: they are sent, or wait for a node, or for their time."""
        self._core.committed(rows, self._now())
        self._flush_soon()

    def abandoned(self, rows: Sequence[Execution]) -> None:
        """The insert of ``rows`` failed: their places are free."""
        self._core.abandoned(rows, self._now())
        self._flush_soon()

    async def cancel(self, ids: list[str]) -> list[CancelAnswer]:
        """End what waits; tell nodes to end what runs. One answer per id; StoreUnavailable: nothing was changed."""
        done: asyncio.Future[list[CancelAnswer]] = asyncio.get_running_loop().create_future()

        def answered(answers: list[CancelAnswer] | Exception) -> None:
            # In the callback, not after the await: in the order of the commits.
            if isinstance(answers, Exception):
                if not done.done():
                    done.set_exception(answers)
                return
            self._cancelled(answers)
            if not done.done():
                done.set_result(answers)

        self._submit(executions.cancel, ids, answered)
        return await done

    def _cancelled(self, answers: list[CancelAnswer]) -> None:
        now = self._now()
        for answer in answers:
            if answer.outcome is CancelOutcome.REQUESTED and answer.node_id is not None:
                self._core.cancel(answer.node_id, answer.token, now)
        self._flush_soon()

    def progress(self, execution_id: str) -> ProgressView | None:
        """What a running execution last said of its progress."""
        return self._progress.get(execution_id)

    # --- nodes: for the API -------------------------------------------------------------------------

    def nodes(self) -> list[NodeView]:
        """Every node that is known, connected or not, by id."""
        now_s = self._clock.mono_s()
        return [self._view(node, now_s) for _, node in sorted(self._core.nodes.items())]

    def _view(self, node: LiveNode, now_s: float) -> NodeView:
        session = node.session
        return NodeView(
            node_id=node.node_id,
            state=node.state,
            handlers=list(node.handlers),
            slots=node.slots,
            running=len(node.attempts),
            window=node.window if session is not None else 0,
            outbox=node.outbox,
            draining=node.draining or node.leaving,
            heartbeat_age_s=None if session is None else round(max(now_s - node.heard_s, 0.0), 3),
            version=node.version,
            host=node.host,
            pid=node.pid,
            instance=node.instance.id,
            connected_us=None if session is None else session.since_us,
            last_seen_us=node.last_seen_us,
        )

    async def drain(self, node_id: str) -> NodeView:
        """Give this node no new work; it hands back what it has not started. NotFound."""
        return await self._set_draining(node_id, on=True)

    async def resume(self, node_id: str) -> NodeView:
        """Give this node work again. NotFound."""
        return await self._set_draining(node_id, on=False)

    async def _set_draining(self, node_id: str, *, on: bool) -> NodeView:
        node = self._core.nodes.get(node_id)
        if node is None:
            raise NotFound(f"there is no node {node_id!r}")
        state = nodes.SetState(node_id=node_id, state=node.state, now_us=self._clock.wall_us(), draining=on)
        await self._store.write(nodes.set_state, state)
        node = self._core.drain(node_id, on=on, now=self._now()) or node
        self._flush_soon()
        return self._view(node, self._clock.mono_s())

    def waiting(self) -> dict[tuple[str, str], int]:
        """Executions that wait in memory, by (handler, method); more may wait in the store."""
        return {key: lane.count for key, lane in self._core.lanes.items() if lane.count}

    # --- messages in ----------------------------------------------------------------------------------

    def _on_message(self, peer: bytes, key: str, frames: Sequence[bytes]) -> None:
        """One message, whatever it is: never an exception (C17)."""
        self.stats.messages_in += 1
        if peer in self._peers.ignored:
            return
        try:
            session = self._core.sessions.get(peer)
            limit = MAX_HELLO_BYTES if session is None else self._config.zmq.max_message_bytes
            message = decode_node(frames, max_bytes=limit)
            if self._curve.enabled and not self._key_fits(peer, key):
                return
            event = self._events.get(type(message))
            if event is not None:
                event(peer, message, self._now())
            elif isinstance(message, m.Hello):
                self._hello(peer, key, message)
        except ProtocolError as error:
            self._bad(peer, error.message)
        except Exception:  # a bug of ours: one message must not stop the server
            self.stats.internal_errors += 1
            log.exception("message_failed", peer=peer.hex())
            self._bad(peer, "could not be handled")

    def _key_fits(self, peer: bytes, key: str) -> bool:
        """Whether ``key`` is in force, and the one with which the peer's session began."""
        session = self._core.sessions.get(peer)
        if self._curve.in_force(key) and (session is None or session.key == key):
            return True
        self.stats.wrong_keys += 1
        if self._peers.count_bad(peer, "its key is not in force, or not that of the session"):
            self._peers.ignore(peer)
        self._core.drop(peer, "revoked", "this key is not (or no longer) in force here", self._now())
        return False

    def _bad(self, peer: bytes, reason: str) -> None:
        self.stats.bad_messages += 1
        session = self._core.sessions.get(peer)
        if self._peers.count_bad(peer, reason, node_id=None if session is None else session.node.node_id):
            self._peers.ignore(peer)
            self._core.drop(peer, "too_many_bad_messages", "ignored from now on", self._now())
        else:
            self._send(fx.Send(peer, m.ErrorMessage(code="protocol", message=reason[:200])))

    def _hello(self, peer: bytes, key: str, hello: m.Hello) -> None:
        denial = self._curve.objection(key, hello) if self._curve.enabled else None
        denial = denial or self._core.refusal(hello, self._now())
        if denial is not None:
            self._deny(peer, hello, denial)
            return
        declared, refused = self.registry.screen(hello.handlers)
        for one in refused:
            log.warning(
                "method_ignored",
                node_id=hello.node_id,
                handler_id=one.handler_id,
                job_method=one.job_method,
                reason=one.reason,
            )
        changed = self.registry.changes(hello.node_id, declared)
        if not changed:
            self._welcome(peer, key, hello, declared)
            return

        def stored(result: list[Handler] | Exception) -> None:
            if isinstance(result, Exception):
                reason = "the server can't store what this node declares"
                self._deny(peer, hello, m.Deny(code="store_unavailable", reason=reason, retry=True))
            else:
                self.registry.learn(result)
                self._welcome(peer, key, hello, declared)
            self._flush_soon()

        now_us = self._clock.wall_us()
        declares = [
            handlers.Declare(
                handler_id=one.handler_id, methods=one.methods, node_id=hello.node_id, now_us=now_us
            )
            for one in changed
        ]
        self._submit(handlers.declare, declares, stored)

    def _welcome(self, peer: bytes, key: str, hello: m.Hello, declared: list[m.HandlerDeclaration]) -> None:
        served = [(one.handler_id, method.name) for one in declared for method in one.methods]
        self._core.hello(peer, hello, served, self._now(), key=key)
        session = self._core.sessions.get(peer)
        if session is not None and session.node.node_id == hello.node_id:
            self.registry.serving(hello.node_id, declared)

    def _deny(self, peer: bytes, hello: m.Hello, denial: m.Deny) -> None:
        self.stats.nodes_denied += 1
        log.warning("node_denied", node_id=hello.node_id, code=denial.code, reason=denial.reason)
        self._send(fx.Send(peer, denial))

    def _result(self, peer: bytes, message: m.Result, now: fx.Now) -> None:
        self.stats.results += len(message.items)
        self._core.result(peer, message, now)

    def _note_progress(self, peer: bytes, message: m.Progress, now: fx.Now) -> None:
        row = self._core.execution_of(peer, message.s, message.token, now)
        if row is None:
            return
        # The newest last, so that the oldest is the first to go.
        self._progress.pop(row.id, None)
        self._progress[row.id] = ProgressView(percent=message.percent, text=message.text, at_us=now.wall_us)
        if len(self._progress) > MAX_PROGRESS:
            del self._progress[next(iter(self._progress))]

    def _on_disconnect(self) -> None:
        if self._loop is not None and not self._stopping:
            self._probes = [handle for handle in self._probes if handle.when() > self._loop.time()]
            if len(self._probes) < 10:
                self._probes += [self._loop.call_later(after_s, self._probe) for after_s in PROBE_AFTER_S]

    def _probe(self) -> None:
        """Some socket closed: a send tells whose. HB_ACK 0 answers no heartbeat, so it extends no lease."""
        now_us = self._clock.wall_us()
        for peer, session in list(self._core.sessions.items()):
            self._send(fx.Send(peer, m.HbAck(s=session.s, seq=0, server_us=now_us)))
        self._perform()

    def _revoked(self, public_key: str) -> None:
        """A key is not in force any more: neither is what lives by it."""
        now = self._now()
        for peer, session in list(self._core.sessions.items()):
            if session.key == public_key:
                self._send(fx.Send(peer, m.Goaway(s=session.s, reason="this node's key was revoked")))
                self._core.drop(peer, "revoked", "this node's key was revoked", now)
        self._flush_soon()

    # --- effects out ------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        """Do the effects at the end of this turn of the loop, together with whatever else it brings."""
        if not self._flushing and self._loop is not None:
            self._flushing = True
            self._loop.call_soon(self._perform)

    def _perform(self) -> None:
        self._flushing = False
        while effects := self._core.take():
            for effect in effects:
                self._do[type(effect)](effect)

    def _send(self, effect: fx.Send) -> None:
        message = effect.message
        if type(message) is m.Dispatch:
            self.stats.dispatched += len(message.items)
        if self._router is None:
            return
        self.stats.messages_out += 1
        outcome = self._router.send(effect.peer, encode(message))
        if outcome is not Sent.OK:
            self.stats.sends_failed += 1
            if outcome is Sent.GONE:
                self._core.disconnected(effect.peer, self._now())

    def _submit(self, verb: Verb[Any, Any], arg: Any, on_done: Callable[[Any], None]) -> None:
        """Queue a write; ``on_done`` gets its result or its error, exactly once."""
        self._in_flight += 1

        def done(result: Any) -> None:
            self._in_flight -= 1
            if self._idle is not None and not self._in_flight:
                self._idle.set()
            if isinstance(result, Exception) and not isinstance(result, StoreUnavailable):
                self.stats.internal_errors += 1
                log.error("record_failed", verb=getattr(verb, "__name__", str(verb)), error=repr(result)[:300])
            on_done(result)

        try:
            self._store.submit(verb, arg, done)
        except StoreUnavailable as error:
            done(error)

    def _record_start(self, effect: fx.RecordStart) -> None:
        def done(result: set[str] | Exception) -> None:
            if isinstance(result, Exception):
                self._core.start_failed(effect.attempts, self._now())
            else:
                self._core.started(effect.attempts, result, self._now())
            self._flush_soon()

        self._submit(executions.start, effect.items, done)

    def _record_end(self, effect: fx.RecordEnd) -> None:
        def done(result: dict[int, executions.Refusal] | Exception) -> None:
            if isinstance(result, Exception):
                self._core.record_failed(effect.attempts, effect.items)
            else:
                if self._progress:
                    for item in effect.items:
                        self._progress.pop(item.id, None)
                self._observe(effect.items)
                self._core.recorded(effect.attempts, result, self._now())
            self._flush_soon()

        for item in effect.items:
            if item.lost:
                self.stats.attempts_lost += 1
        self._submit(executions.end, effect.items, done)

    def _observe(self, items: list[executions.EndItem]) -> None:
        handover, run_time = self.handover.observe, self.run_time.observe
        for item in items:
            if item.started_us is not None and item.finished_us is not None:
                run_time((item.finished_us - item.started_us) / 1e6)
                if item.dispatched_us is not None:
                    handover((item.started_us - item.dispatched_us) / 1e6)

    def _record_started(self, effect: fx.RecordStarted) -> None:
        # Nothing depends on it; the end of the attempt brings it again.
        self._submit(executions.mark_started, effect.items, _ignore)

    def _record_stale(self, effect: fx.RecordStale) -> None:
        def done(result: Exception | None) -> None:
            if not isinstance(result, Exception):
                self.stats.results_stale += len(effect.rows)
                self._send(fx.Send(effect.peer, effect.ack))
                self._flush_soon()

        self._submit(executions.record_stale, effect.rows, done)

    def _classify(self, effect: fx.Classify) -> None:
        pairs = [(item.id, item.token) for item in effect.items]

        async def look_up() -> None:
            try:
                verdicts = await self._store.read(lambda conn: executions.classify(conn, pairs))
            except StoreUnavailable:
                return  # the node repeats
            self.stats.results_duplicate += sum(
                verdict is executions.Refusal.DUPLICATE for verdict in verdicts.values()
            )
            self._core.classified(effect.peer, effect.s, effect.items, verdicts, self._now())
            self._flush_soon()

        self._spawn(look_up(), "dispatch.classify")

    def _refill(self, effect: fx.Refill) -> None:
        key = (effect.handler_id, effect.job_method)

        async def read() -> None:
            try:
                rows = await self._store.read(lambda conn: executions.pending_window(conn, *key, effect.limit))
            except StoreUnavailable:
                self._core.refill_failed(key)
                return
            self._core.refilled(key, rows, effect.limit, self._now())
            self._flush_soon()

        self._spawn(read(), "dispatch.refill")

    def _spawn(self, work: Any, name: str) -> None:
        """A read: rare, and per batch, never per execution."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._reads.add(task)
        task.add_done_callback(self._read_done)

    def _read_done(self, task: asyncio.Task[None]) -> None:
        self._reads.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stats.internal_errors += 1
            log.error("read_failed", read=task.get_name(), error=repr(error)[:300], exc_info=error)

    def _cancel_again(self, effect: fx.CancelAgain) -> None:
        def done(answers: list[CancelAnswer] | Exception) -> None:
            if isinstance(answers, Exception):
                # They can't be started, so nothing is lost but time.
                self._loop_of().call_later(1.0, self._cancel_again, effect)
            else:
                self._cancelled(answers)

        if not self._stopping:
            self._submit(executions.cancel, effect.ids, done)

    def _loop_of(self) -> asyncio.AbstractEventLoop:
        return self._loop or asyncio.get_running_loop()

    def _released(self, rows: list[Execution]) -> None:
        """The time of these executions has come."""
        self._core.committed(rows, self._now())
        self._flush_soon()

    def _node_changed(self, effect: fx.NodeChanged) -> None:
        node = effect.node
        if node.state in (NodeState.LOST, NodeState.OFFLINE):
            self.registry.serving(node.node_id, ())
        if node.state is NodeState.LOST:
            self.stats.nodes_lost += 1
        speak = log.warning if node.state in (NodeState.LOST, NodeState.SUSPECT) else log.info
        speak(f"node_{node.state}", node_id=node.node_id, reason=effect.reason, host=node.host, pid=node.pid)
        self._submit(nodes.upsert, node, _ignore)

    def _note(self, effect: fx.Note) -> None:
        log.warning(effect.event, **effect.fields)


_Loaded = tuple[list[Handler], list[Node], list[Execution], list[tuple[str, str]]]


def _load(conn: Connection) -> _Loaded:
    """What a server needs to know at its start, in one snapshot."""
    return (
        handlers.all(conn),
        nodes.all(conn),
        executions.running(conn),
        list(executions.pending_counts(conn)),
    )


def _ignore(result: object) -> None:
    """Nothing depends on it."""
