"""The glue around the pure core: store, socket, keys, registry and clock on one side, events and effects on the other.

Everything here runs on the loop's thread and never waits: a message or a finished store operation becomes an event
of the core, the core's effects become store operations and sends. Effects of everything that happened in one turn of
the loop are done together, so that work travels in batches.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version as package_version
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
import zmq

from schedule_zero.clock import Clock
from schedule_zero.config import HandlerRule, ServerConfig
from schedule_zero.dispatch import effects as fx
from schedule_zero.dispatch.core import Core
from schedule_zero.dispatch.curve import CurveKeys
from schedule_zero.dispatch.due import ends_expired, wakes
from schedule_zero.dispatch.http_peers import HttpPeers
from schedule_zero.dispatch.inbound import Inbound
from schedule_zero.dispatch.log_intake import LogIntake
from schedule_zero.dispatch.membership import TICK_S
from schedule_zero.dispatch.on_nodes import HeldView, QueueView, has_waiting, held_views, queue_view
from schedule_zero.dispatch.recording import Recorder
from schedule_zero.dispatch.registry import Registry
from schedule_zero.dispatch.result_intake import ResultIntake
from schedule_zero.dispatch.router import Router, Sent
from schedule_zero.dispatch.sessions import LiveAttempt, LiveNode
from schedule_zero.dispatch.views import DispatchStats, NodeView, ProgressView, node_view
from schedule_zero.dispatch.waiting import WaitingFor
from schedule_zero.errors import NotFound
from schedule_zero.model import Execution, Handler, LaneKey, Node, NodeOperation, NodeState, OperationKind, State
from schedule_zero.ops.backlog import Backlog
from schedule_zero.ops.series import Series
from schedule_zero.rules.change_log import Actor
from schedule_zero.rules.eta import eta_s
from schedule_zero.store import Store, executions, handlers, nodes, rate_buckets
from schedule_zero.store.executions import CancelAnswer
from schedule_zero.wire import messages as m
from schedule_zero.wire.codec import encode

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["DispatchStats", "Dispatcher", "NodeView", "ProgressView"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

# After a socket closed somewhere: libzmq forgets the peer a little later than it tells of it.
PROBE_EVERY_S = 0.1
PROBE_FOR_S = 0.4
CLOSE_LINGER_MS = 300


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
        self.backlog = Backlog(store.tally, limit=config.limits.backlog, rules=declarations, clock=clock)
        self.stats = DispatchStats()
        self.series = Series(store=store, clock=clock, running=self._running)
        # Where nodes connect, once started.
        self.address = ""
        self._core = core = Core(
            config.dispatch,
            epoch=store.epoch,
            new_session_id=partial(secrets.token_hex, 8),
            rules=declarations,
            result_bytes=config.limits.result_bytes,
            server_version=package_version("schedule-zero"),
            limits=config.limits,
        )
        self._recorder = recorder = Recorder(
            core=core,
            store=store,
            clock=clock,
            stats=self.stats,
            changed=self._flush_soon,
            send=self._send,
            failed=self._unrecorded,
            params_bytes=config.limits.params_bytes,
            series=self.series,
        )
        self.handover, self.run_time = recorder.handover, recorder.run_time
        self.logs = LogIntake(
            submit=recorder.submit, send=self._send, stats=self.stats, limit_bytes=config.limits.log_bytes
        )
        self.results = ResultIntake(
            store=store,
            submit=recorder.submit,
            spawn=recorder.spawn,
            send=self._send,
            limit_bytes=config.limits.big_result_bytes,
        )
        self._inbound = Inbound(
            core=core,
            registry=self.registry,
            curve=curve,
            recorder=recorder,
            logs=self.logs,
            results=self.results,
            send=self._send,
            expel=self._expel,
            stats=self.stats,
            clock=clock,
            max_bytes=config.zmq.max_message_bytes,
        )
        # Nodes that speak HTTP.
        self.http = HttpPeers(
            core=core, inbound=self._inbound, config=config.dispatch, clock=clock, changed=self._flush_soon
        )
        # As many at once as fit the window, however large they are: they are all in memory for a moment.
        batch = max(1, config.dispatch.window_bytes // config.limits.params_bytes)
        self._due = wakes(store, clock, self.committed, batch=batch)
        self._expiry = ends_expired(store, clock, self._expired)
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._router: Router | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flushing = False
        self._stopping = False
        self._probing: asyncio.TimerHandle | None = None
        self._probe_until_s = 0.0
        self._waking: asyncio.TimerHandle | None = None
        curve.on_revoked = self._revoked
        self._do: dict[type, Callable[[Any], None]] = {
            fx.Send: lambda effect: self._send(effect.peer, effect.message),
            fx.RecordStart: recorder.record_start,
            fx.RecordEnd: recorder.record_end,
            fx.RecordStarted: recorder.record_started,
            fx.RecordStale: recorder.record_stale,
            fx.Classify: recorder.classify,
            fx.Refill: recorder.refill,
            fx.CancelAgain: recorder.cancel_again,
            fx.NodeChanged: self._node_changed,
            fx.NodeOperated: self._node_operated,
            fx.NodeForgotten: recorder.node_forgotten,
            fx.DueAt: lambda effect: self._due.at(effect.wall_us),
            fx.WakeAt: self._wake_at,
            fx.KeepBuckets: recorder.keep_buckets,
            fx.ExpiresAt: lambda effect: self._expiry.at(effect.wall_us),
            fx.Note: lambda effect: log.warning(effect.event, **effect.fields),
        }

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load what the store knows, bind, and begin to listen. ConfigError, AddressInUse."""
        self._loop = asyncio.get_running_loop()
        await self._curve.load()
        known, rows, running, waiting, buckets = await self._store.read(partial(_load, now_us=self._clock.wall_us()))
        self.registry.learn(known)
        self._forget_who_served(rows)
        self._core.restore(rows, running, waiting, self._now(), buckets)
        if running:
            log.info("attempts_restored", count=len(running))
        self._context = context = zmq.Context(io_threads=1)
        try:
            await self._listen(context)
        except BaseException:
            self._close_sockets()
            context.destroy(linger=0)
            raise
        self._store.on_clock_set(self._clock_set)
        self._due.start()
        self._expiry.start()
        self._perform()

    def _forget_who_served(self, known: list[Node]) -> None:
        """Nodes that were here when the last server ended are not, until they come back: their handlers show that."""
        here = [node for node in known if node.state in (NodeState.ONLINE, NodeState.SUSPECT)]
        handler_ids = sorted({handler_id for node in here for handler_id in node.handlers})
        now_us = self._clock.wall_us()
        self.registry.moved(handler_ids, now_us)
        self._recorder.handlers_moved(handler_ids, now_us)

    async def _listen(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        curve = self._curve
        if curve.enabled:
            curve.serve(context)
        self._router = router = Router(
            context,
            self._config.zmq,
            on_message=self._inbound.message,
            on_disconnect=self._on_disconnect,
            on_turn_end=self._perform,
            has_session=self._core.sessions.__contains__,
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
        self.http.tick()
        self._core.tick(self._now())
        self.stats.resends = self._core.resent
        if self._router is not None:
            self.stats.connections_closed = self._router.connections.closed
        self._store.look_at_clock()
        self._due.look()
        self._expiry.look()
        self.backlog.look()
        self._perform()

    async def stop(self, deadline_s: float) -> None:
        """Send nothing new, record what came, say GOAWAY, close. Safe to call twice."""
        if self._stopping or self._loop is None:
            return
        self._stopping = True
        self._core.close()
        self.logs.close()
        self.results.close()
        self._due.stop()
        if self._waking is not None:
            self._waking.cancel()
        self._expiry.stop()
        self.http.close()
        for peer, session in list(self._core.sessions.items()):
            self._send(peer, m.Goaway(s=session.s, reason="the server is stopping"))
        await self._recorder.close(deadline_s)
        self._perform()
        self._close_sockets()
        if self._context is not None:
            # Waits for the sockets' linger, which is short.
            await asyncio.to_thread(self._context.term)
        log.info("dispatch_stopped")

    def _close_sockets(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
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
        # (Before the core starts others of them.)
        self.series.sent(rows)
        self._core.committed(rows, self._now())
        self._flush_soon()

    def abandoned(self, rows: Sequence[Execution]) -> None:
        """The insert of ``rows`` failed: their places are free."""
        self._core.abandoned(rows, self._now())
        self._flush_soon()

    def _expired(self, ids: list[str]) -> None:
        """They were not started in time. What of them is in the lanes is refused by the store, should it come up."""
        self.stats.misfired += len(ids)
        self._core.forget(frozenset(ids))

    def _clock_set(self, moved_us: int) -> None:
        self._core.clock_set(moved_us, self._now())
        self._due.moved()
        self._expiry.moved()
        self._flush_soon()

    async def cancel(self, ids: list[str], *, by: Actor | None = None) -> list[CancelAnswer]:
        """End what waits; tell nodes to end what runs. One answer per id; StoreUnavailable: nothing was changed."""
        return await _answer(partial(self._recorder.cancel, ids, by=by))

    def cancelled(self, answers: list[CancelAnswer]) -> None:
        """Cancels that another verb has committed, in the order of the commits: nodes are told to end what runs."""
        self._recorder.cancelled(answers)

    def progress(self, execution_id: str) -> ProgressView | None:
        """What a running execution last said of its progress."""
        trail = self._recorder.progress.get(execution_id)
        if trail is None:
            return None
        left_s = eta_s(trail, self._clock.wall_us())
        return ProgressView(percent=trail.percent, text=trail.text, at_us=trail.at_us, eta_s=left_s)

    def why_nobody(self, key: LaneKey) -> str | None:
        """Why no connected node may run what is in this lane; None: one may."""
        return self._core.why_nobody(key)

    def awaits_nodes(self) -> bool:
        """Whether nodes that were connected when the last server ended may still be on their way back."""
        return self._core.awaits_nodes(self._clock.mono_s())

    def takers(self, key: LaneKey) -> list[str]:
        """The connected nodes that may run what is in this lane and take new work, by id."""
        return self._core.takers(key)

    def _running(self) -> int:
        """How many executions run, as the store knows them."""
        return sum(len(node.attempts) for node in self._core.nodes.values())

    # --- nodes: for the API -------------------------------------------------------------------------

    def nodes(self) -> list[NodeView]:
        """Every node that is known, connected or not, by id."""
        now_s = self._clock.mono_s()
        return [node_view(node, now_s) for _, node in sorted(self._core.nodes.items())]

    def node_states(self) -> Counter[NodeState]:
        """How many nodes are in each state; a hundredth of what ``nodes`` costs."""
        return Counter(node.state for node in self._core.nodes.values())

    def node(self, node_id: str) -> NodeView:
        """One node, connected or not. NotFound."""
        return node_view(self._known(node_id), self._clock.mono_s())

    def held(self, node_id: str, most: int) -> list[HeldView]:
        """What a node holds now, at most so many. NotFound."""
        return held_views(self._known(node_id), most)

    def queues(self, handler_id: str) -> list[QueueView]:
        """What waits for the nodes of one handler, and why."""
        core, now = self._core, self._now()
        lanes = [lane for lane in core.lanes.values() if lane.handler_id == handler_id and has_waiting(lane)]
        lanes.sort(key=lambda lane: (lane.job_method, lane.key[2] or ""))
        return [queue_view(lane, now, core.waiting_for, core.why_nobody) for lane in lanes]

    def _known(self, node_id: str) -> LiveNode:
        node = self._core.nodes.get(node_id)
        if node is None:
            raise NotFound(f"there is no node {node_id!r}")
        return node

    async def operate(self, node_id: str, operation: NodeOperation | None, *, by: Actor, note: str = "") -> NodeView:
        """Cordon, drain or quarantine a node, or (None) release it from whatever it is; ``by`` and ``note`` say who did
        it and why.

        NotFound; StoreUnavailable: nothing was changed.
        """
        node = self._known(node_id).record()
        wanted = nodes.Operate(node=node, operation=operation, by=by.name, note=note)
        await _answer(partial(self._recorder.operate, wanted, by=by))
        if operation is None:
            log.info("node_released", node_id=node_id, by=by.name, note=note)
        elif operation.kind is OperationKind.DRAIN:
            log.info("node_drained", node_id=node_id, by=by.name, note=note)
        elif operation.kind is OperationKind.QUARANTINE:
            log.info("node_quarantined", node_id=node_id, by=by.name, note=note)
        else:
            log.info("node_cordoned", node_id=node_id, by=by.name, note=note)
        return self.node(node_id)

    def waiting(self) -> dict[LaneKey, int]:
        """Executions that wait in memory, by lane; more may wait in the store."""
        return {key: lane.count for key, lane in self._core.lanes.items() if lane.count}

    def unserved(self) -> list[LaneKey]:
        """Lanes in which something waits (or did) that no connected node may run."""
        return self._core.unserved()

    def waiting_for(self, row: Execution) -> WaitingFor | None:
        """Why this execution has not started; None if it is not pending."""
        return self._core.waiting_for(row, self._now()) if row.state is State.PENDING else None

    def parked(self) -> Mapping[str, int]:
        """Executions that wait in memory for a limit of their own, by its kind."""
        return self._core.parked()

    def set_rules(self, rules: Mapping[str, HandlerRule]) -> None:
        """What operators declare about handlers is something else now."""
        self.registry.set_rules(rules)
        self._core.set_rules(dict(rules), self._now())
        self._flush_soon()

    # --- sockets --------------------------------------------------------------------------------------

    def _on_disconnect(self) -> None:
        if self._loop is not None and not self._stopping:
            self._probe_until_s = self._loop.time() + PROBE_FOR_S
            if self._probing is None:
                self._probe()

    def _expel(self, peer: bytes) -> None:
        if self._router is not None:
            self._router.expel(peer)

    def _probe(self) -> None:
        """Some socket closed: a send tells whose. HB_ACK 0 answers no heartbeat, so it extends no lease."""
        loop = asyncio.get_running_loop()
        more = loop.time() < self._probe_until_s
        self._probing = loop.call_later(PROBE_EVERY_S, self._probe) if more else None
        now_us = self._clock.wall_us()
        for peer, session in list(self._core.sessions.items()):
            self._send(peer, m.HbAck(s=session.s, seq=0, server_us=now_us))
        self._flush_soon()

    def _revoked(self, public_key: str) -> None:
        """A key is not in force any more: neither is what lives by it."""
        now = self._now()
        for peer, session in list(self._core.sessions.items()):
            if session.key == public_key:
                self._send(peer, m.Goaway(s=session.s, reason="this node's key was revoked"))
                self._core.drop(peer, "revoked", "this node's key was revoked", now)
        self._flush_soon()

    # --- effects out ------------------------------------------------------------------------------------

    def _wake_at(self, effect: fx.WakeAt) -> None:
        if self._waking is not None:
            self._waking.cancel()
        if self._loop is not None and not self._stopping:
            self._waking = self._loop.call_later(max(effect.mono_s - self._clock.mono_s(), 0.0), self._wake)

    def _wake(self) -> None:
        self._waking = None
        self._core.wake(self._now())
        self._perform()

    def _flush_soon(self) -> None:
        """Do the effects at the end of this turn of the loop, together with whatever else it brings."""
        if not self._flushing and self._loop is not None:
            self._flushing = True
            self._loop.call_soon(self._perform)

    def _perform(self) -> None:
        self._flushing = False
        while effects := self._core.take():
            for effect in effects:
                try:
                    self._do[type(effect)](effect)
                except Exception:  # a bug of ours must not take the effects after it along
                    self.stats.internal_errors += 1
                    log.exception("effect_failed", effect=type(effect).__name__)
        self.http.settle()

    def _send(self, peer: bytes, message: m.ServerMessage) -> None:
        if self._router is None:
            return
        stats = self.stats
        stats.messages_out += 1
        if type(message) is m.Dispatch:
            stats.dispatched += len(message.items)
        if peer in self.http.peers:
            self.http.receive(peer, message)
            return
        outcome = self._router.send(peer, encode(message))
        if outcome is not Sent.OK:
            stats.sends_failed += 1
            if outcome is Sent.GONE:
                self._core.disconnected(peer, self._now())
                self._flush_soon()

    def _unrecorded(self, attempts: list[LiveAttempt]) -> None:
        self.http.unrecorded(attempts)

    def _node_changed(self, effect: fx.NodeChanged) -> None:
        node = effect.node
        if node.state in (NodeState.LOST, NodeState.OFFLINE):
            now_us = self._clock.wall_us()
            self._recorder.handlers_moved(self.registry.serving(node.node_id, (), now_us), now_us)
        if node.state is NodeState.LOST:
            self.stats.nodes_lost += 1
        speak = log.warning if node.state in (NodeState.LOST, NodeState.SUSPECT) else log.info
        speak(f"node_{node.state}", node_id=node.node_id, reason=effect.reason, host=node.host, pid=node.pid)
        self._recorder.node_changed(effect)

    def _node_operated(self, effect: fx.NodeOperated) -> None:
        node_id, operation = effect.node.node_id, effect.node.operation
        if operation is None:
            log.info("node_released", node_id=node_id, by="", note=effect.why)
        else:
            self.stats.nodes_quarantined += 1
            log.warning("node_quarantined", node_id=node_id, reason=effect.why, times=operation.times)
        self._recorder.node_operated(node_id, effect.why)


async def _answer(ask: Callable[[Callable[[T | Exception], None]], None]) -> T:
    """What the store answers to ``ask``, which tells it to a callback; raises what it could not do."""
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def answered(result: T | Exception) -> None:
        if done.done():
            return
        if isinstance(result, Exception):
            done.set_exception(result)
        else:
            done.set_result(result)

    ask(answered)
    return await done


_Loaded = tuple[list[Handler], list[Node], list[Execution], list[LaneKey], list[rate_buckets.BucketRow]]


def _load(conn: Connection, now_us: int) -> _Loaded:
    """What a server needs to know at its start, in one snapshot."""
    return (
        handlers.all(conn),
        nodes.all(conn),
        executions.running(conn),
        list(executions.pending_counts(conn)),
        rate_buckets.not_full(conn, now_us),
    )
