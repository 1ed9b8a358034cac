"""The core's effects on the store: each record is submitted, and its outcome told to the core, exactly once.

Writes are callbacks, no tasks: their outcomes come in the order of the commits, and cost nothing per execution.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from schedule_zero.clock import Clock
from schedule_zero.dispatch import effects as fx
from schedule_zero.dispatch.core import Core
from schedule_zero.dispatch.sessions import LiveAttempt
from schedule_zero.dispatch.views import DispatchStats
from schedule_zero.errors import StoreUnavailable
from schedule_zero.model import Node, Reached
from schedule_zero.ops.histogram import Histogram
from schedule_zero.ops.series import Series
from schedule_zero.rules.change_log import Actor
from schedule_zero.rules.eta import Trail
from schedule_zero.store import Store, executions, handlers, nodes, rate_buckets
from schedule_zero.store.execution_window import fill_window
from schedule_zero.store.executions import CancelAnswer, CancelOutcome, Refusal
from schedule_zero.store.tx import Verb
from schedule_zero.wire.messages import ServerMessage

log = structlog.get_logger(__name__)

_encode = msgspec.json.encode

CANCEL_AGAIN_S = 1.0
OPERATE_AGAIN_S = 1.0
NODE_AGAIN_S = 1.0


class Recorder:
    """Writes what the core decides, reads what it asks for."""

    def __init__(
        self,
        *,
        core: Core,
        store: Store,
        clock: Clock,
        stats: DispatchStats,
        changed: Callable[[], None],
        send: Callable[[bytes, ServerMessage], None],
        failed: Callable[[list[LiveAttempt]], None],
        params_bytes: int,
        series: Series,
    ) -> None:
        self._core = core
        self._store = store
        self._clock = clock
        self._stats = stats
        # The core has new effects.
        self.changed = changed
        self._send = send
        # Neither their start nor their end was committed.
        self._failed = failed
        # The largest parameters that one execution may have.
        self._params_bytes = params_bytes
        self._series = series
        # Seconds from being handed to the wire to the method's entry, and from there to its end (on the node's clock).
        self.handover = Histogram()
        self.run_time = Histogram()
        # Execution id → what its current attempt last said; forgotten when that ends.
        self.progress: dict[str, Trail] = {}
        # Writes whose outcome isn't known yet; the event exists while somebody waits for none.
        self._in_flight = 0
        self._idle: asyncio.Event | None = None
        self._reads: set[asyncio.Task[None]] = set()
        # Nodes whose change could not be written; that is tried again.
        self._unnoted: set[str] = set()
        self._closing = False

    def _now(self) -> fx.Now:
        return fx.Now(self._clock.mono_s(), self._clock.wall_us())

    async def close(self, deadline_s: float) -> None:
        """Wait for the outcomes of what was submitted; drop the reads."""
        self._closing = True
        if self._in_flight:
            self._idle = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), deadline_s)
        if self._in_flight:
            log.warning("dispatch_stopped_with_records_open", records=self._in_flight)
        for task in self._reads:
            task.cancel()

    def submit(
        self, verb: Verb[Any, Any], arg: Any, on_done: Callable[[Any], None], *, by: Actor | None = None
    ) -> None:
        """Queue a write; ``on_done`` gets its result or its error, exactly once."""
        self._in_flight += 1

        def done(result: Any) -> None:
            self._in_flight -= 1
            if self._idle is not None and not self._in_flight:
                self._idle.set()
            if isinstance(result, Exception) and not isinstance(result, StoreUnavailable):
                self._stats.internal_errors += 1
                log.error("record_failed", verb=getattr(verb, "__name__", str(verb)), error=repr(result)[:300])
            on_done(result)

        try:
            self._store.submit(verb, arg, done, by=by)
        except Exception as error:  # noqa: BLE001 - closed, or a bug: the outcome has to be told in any case
            done(error)

    def record_start(self, effect: fx.RecordStart) -> None:
        def done(result: set[str] | Exception) -> None:
            if isinstance(result, Exception):
                self._core.start_failed(effect.attempts, self._now())
                self._failed(effect.attempts)
            else:
                self._core.started(effect.attempts, result, self._now())
                # (Those refused do not run any more.)
                self._series.sent([att.row for att in effect.attempts])
            self.changed()

        self.submit(executions.start, effect.items, done)

    def record_end(self, effect: fx.RecordEnd) -> None:
        if self.progress:
            self._keep_progress(effect.items)

        def done(result: dict[int, Refusal] | Exception) -> None:
            if isinstance(result, Exception):
                self._core.record_failed(effect.attempts, effect.items)
                self._failed(effect.attempts)
            else:
                self._observe(effect.items)
                self._series.ran(effect.items)
                self._core.recorded(effect.attempts, result, self._now())
            self.changed()

        self.submit(executions.end, effect.items, done)

    def _keep_progress(self, items: list[executions.EndItem]) -> None:
        """With the end of an attempt goes what it said last, where its node can't say it any more: that is lost."""
        for item in items:
            if item.progress is None and (trail := self.progress.get(item.id)) is not None:
                item.progress = _encode(Reached(percent=trail.percent, text=trail.text, at_us=trail.at_us))

    def _observe(self, items: list[executions.EndItem]) -> None:
        handover, run_time = self.handover.observe, self.run_time.observe
        progress = self.progress
        lost = 0
        for item in items:
            if item.started_us is not None and item.finished_us is not None:
                run_time((item.finished_us - item.started_us) / 1e6)
                if item.dispatched_us is not None:
                    handover((item.started_us - item.dispatched_us) / 1e6)
            lost += item.lost
            if progress:
                progress.pop(item.id, None)
        self._stats.attempts_lost += lost
        self._stats.results += len(items) - lost

    def record_started(self, effect: fx.RecordStarted) -> None:
        # Nobody waits for it; the end of the attempt brings it again.
        self.submit(executions.mark_started, effect.items, ignore)

    def record_stale(self, effect: fx.RecordStale) -> None:
        def done(result: Exception | None) -> None:
            if not isinstance(result, Exception):
                self._stats.results_stale += len(effect.rows)
                self._send(effect.peer, effect.ack)

        self.submit(executions.record_stale, effect.rows, done)

    def classify(self, effect: fx.Classify) -> None:
        pairs = [(item.id, item.token) for item in effect.items]

        async def look_up() -> None:
            try:
                verdicts = await self._store.read(lambda conn: executions.classify(conn, pairs))
            except StoreUnavailable:
                return  # the node repeats
            self._stats.results_duplicate += sum(verdict is Refusal.DUPLICATE for verdict in verdicts.values())
            self._core.classified(effect.peer, effect.s, effect.items, verdicts, self._now())
            self.changed()

        self.spawn(look_up(), "dispatch.classify")

    def refill(self, effect: fx.Refill) -> None:
        key = effect.lane

        async def read() -> None:
            limits = (effect.limit, effect.max_bytes, self._params_bytes)
            try:
                rows, more = await self._store.read(lambda conn: fill_window(conn, key, *limits, effect.without))
            except StoreUnavailable:
                self._core.refill_failed(key)
                return
            self._core.refilled(key, rows, self._now(), more=more)
            self.changed()

        self.spawn(read(), "dispatch.refill")

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """A read: rare, and per batch, never per execution."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._reads.add(task)
        task.add_done_callback(self._read_done)

    def _read_done(self, task: asyncio.Task[None]) -> None:
        self._reads.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._stats.internal_errors += 1
            log.error("read_failed", read=task.get_name(), error=repr(error)[:300], exc_info=error)

    def cancel_again(self, effect: fx.CancelAgain) -> None:
        def done(answers: list[CancelAnswer] | Exception) -> None:
            if isinstance(answers, Exception):
                # They can't be started, so nothing is lost but time.
                asyncio.get_running_loop().call_later(CANCEL_AGAIN_S, self.cancel_again, effect)
            else:
                self.cancelled(answers)

        if not self._closing:
            self.submit(executions.cancel, effect.ids, done)

    def cancel(
        self, ids: list[str], on_done: Callable[[list[CancelAnswer] | Exception], None], *, by: Actor | None = None
    ) -> None:
        """End what waits, tell nodes to end what runs. The core hears of it in the order of the commits."""

        def done(answers: list[CancelAnswer] | Exception) -> None:
            if not isinstance(answers, Exception):
                self.cancelled(answers)
            on_done(answers)

        self.submit(executions.cancel, ids, done, by=by)

    def cancelled(self, answers: list[CancelAnswer]) -> None:
        now = self._now()
        for answer in answers:
            if answer.outcome is CancelOutcome.REQUESTED and answer.node_id is not None:
                self._core.cancel(answer.node_id, answer.token, now)
        over = frozenset(answer.id for answer in answers if answer.outcome is CancelOutcome.CANCELLED)
        if over:
            self._core.forget(over)
        self.changed()

    def keep_buckets(self, effect: fx.KeepBuckets) -> None:
        # Submitted before the starts: committed before them, or with them.
        self.submit(rate_buckets.keep, effect.rows, ignore)

    def operate(self, operation: nodes.Operate, on_done: Callable[[bool | Exception], None], *, by: Actor) -> None:
        """Take a node out of service, or back, for an operator. The core hears of it in the order of the commits."""

        def done(result: bool | Exception) -> None:
            if not isinstance(result, Exception):
                self._core.operate(operation.node.node_id, operation.operation, self._now())
                self.changed()
            on_done(result)

        self.submit(nodes.operate, operation, done, by=by)

    def node_operated(self, node_id: str, why: str) -> None:
        """Store what the server itself did to a node: what holds in memory by now, until the two agree.

        An operator's word is stored before it holds in memory. One that is under way right now is either committed
        first, and ours refused; or a release that found nothing to release: then ours is taken back here.
        """
        live = self._core.nodes.get(node_id)
        if self._closing or live is None or (live.operation is not None and not live.quarantined):
            return
        operation = live.operation

        def done(result: bool | Exception) -> None:
            if isinstance(result, Exception):
                asyncio.get_running_loop().call_later(OPERATE_AGAIN_S, self.node_operated, node_id, why)
            elif result and live.operation != operation:
                self.node_operated(node_id, "")

        self.submit(nodes.operate, nodes.Operate(node=live.record(), operation=operation, note=why, own=True), done)

    def node_changed(self, effect: fx.NodeChanged) -> None:
        """A server that is started again has to know which process of a node its attempts are with (C11)."""
        self._note_node(effect.node)

    def _note_node(self, node: Node) -> None:
        def done(result: Exception | None) -> None:
            if isinstance(result, Exception) and node.node_id not in self._unnoted:
                self._unnoted.add(node.node_id)
                asyncio.get_running_loop().call_later(NODE_AGAIN_S, self._note_again, node.node_id)

        self.submit(nodes.upsert, node, done)

    def _note_again(self, node_id: str) -> None:
        """As it is by now: it may have been noted since, which does no harm."""
        self._unnoted.discard(node_id)
        live = self._core.nodes.get(node_id)
        if live is not None and not self._closing:
            self._note_node(live.record())

    def handlers_moved(self, handler_ids: list[str], now_us: int) -> None:
        """Other nodes than before serve these handlers."""
        if handler_ids:
            self.submit(handlers.touch, handlers.Touch(handler_ids=handler_ids, now_us=now_us), ignore)

    def node_forgotten(self, effect: fx.NodeForgotten) -> None:
        self.submit(nodes.forget, effect.node_id, ignore)


def ignore(result: object) -> None:
    """Nothing depends on it."""
