"""What this node has in hand, and what it says about it: attempts come in, outcomes go to disk and then to the server.

The owner of the link (see ``link.Owner``): it answers DISPATCH, CANCEL and the acknowledgements, and sends ACCEPT,
REJECT, RESULT, PROGRESS and CREDIT. All of it runs on the loop's thread, in batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog
from msgspec import Struct

from schedule_zero.clock import Clock
from schedule_zero.node.attempt import LiveAttempt, Phase
from schedule_zero.node.big_results import BigResults
from schedule_zero.node.context import StopReason
from schedule_zero.node.credit import CreditWindow
from schedule_zero.node.delivery import Delivery, EncodedResult, big_of, encode_result, token_of, without_result
from schedule_zero.node.drain import DrainDeadline, Step
from schedule_zero.node.identity import Identity
from schedule_zero.node.isolation import WorkerPool
from schedule_zero.node.lease import Lease, ServerTime
from schedule_zero.node.link import Conversation, Line
from schedule_zero.node.log_book import LogBook
from schedule_zero.node.log_sender import LogSender
from schedule_zero.node.mailbox import Mailbox
from schedule_zero.node.methods import BoundMethod
from schedule_zero.node.outbox import Durable, Outbox
from schedule_zero.node.progress import Newest, ProgressBoard
from schedule_zero.node.runner import Runner
from schedule_zero.wire.messages import (
    MAX_BATCH,
    PROTOCOL_VERSION,
    Accept,
    AcceptedItem,
    Cancel,
    Credit,
    Dispatch,
    DispatchItem,
    HandlerDeclaration,
    Held,
    Hello,
    Log,
    LogAck,
    LogChunk,
    NodeDrain,
    Progress,
    Reject,
    RejectedItem,
    ResultAck,
    ResultChunk,
    ResultChunkAck,
    ServerDrain,
    Welcome,
)

log = structlog.get_logger(__name__)

SWEEP_S = 0.05
# What runs for longer than this is announced by ACCEPT, with its start; a result says it for shorter ones.
ACCEPT_RUNNING_S = 0.05
# What waits for longer is announced too: the server repeats a DISPATCH that it hears nothing of for 2 s.
ACCEPT_QUEUED_S = 0.5
# What was prefetched and has not come to its turn by then is given back: another node may be free.
HOARD_S = 1.0
POLL_S = 0.02
# Tokens of ended attempts are remembered, two generations of so many, to recognise a late duplicate.
REMEMBER = 8_192


class About(Struct, frozen=True, kw_only=True):
    """What HELLO says of the process."""

    slots: int
    version: str
    host: str
    pid: int
    labels: dict[str, str]
    facts: dict[str, str] = {}


class Work:
    """The attempts and results of one node process."""

    def __init__(
        self,
        *,
        identity: Identity,
        methods: Iterable[BoundMethod],
        about: About,
        result_limit: int,
        clock: Clock,
        lease: Lease,
        time: ServerTime,
        isolation: WorkerPool | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._identity = identity
        self._about = about
        self._clock = clock
        self._lease = lease
        self._methods: dict[tuple[str, str], BoundMethod] = {}
        declared: dict[str, HandlerDeclaration] = {}
        for method in methods:
            self._methods[method.handler_id, method.name] = method
            handler = declared.setdefault(
                method.handler_id, HandlerDeclaration(handler_id=method.handler_id, methods=[])
            )
            handler.methods.append(method.declaration)
        self._declared = declared
        durable: Mailbox[list[Durable[LiveAttempt]]] = Mailbox(loop, self._durable)
        health: Mailbox[OSError | None] = Mailbox(loop, self._disk_health)
        broken: Mailbox[Exception] = Mailbox(loop, self._outbox_broken)
        # Gets the error after which this node can't go on, if there is one.
        self.broken: asyncio.Future[None] = loop.create_future()
        self.outbox: Outbox[LiveAttempt] = Outbox(
            identity.folder / "outbox",
            encode=lambda attempt: encode_result(attempt, time),
            on_durable=durable.post,
            on_health=health.post,
            on_broken=broken.post,
        )
        self.big = BigResults(identity.folder / "results", self.outbox.put)
        # A larger result is sent in chunks.
        self._inline_bytes = self._result_limit = result_limit
        self.delivery = Delivery()
        self._progress = ProgressBoard(loop, self._send_progress)
        self.credit = CreditWindow(about.slots)
        self.log_sender = LogSender()
        self.logs = LogBook(
            clock=clock,
            time=time,
            execution_of=self._execution_of,
            post=Mailbox[list[LogChunk]](loop, self._logged).post,
        )
        self.runner = Runner(
            slots=about.slots,
            clock=clock,
            lease=lease,
            node_id=identity.node_id,
            result_limit=result_limit,
            deliver=self._deliver,
            report=self._note_progress,
            too_late=lambda tokens: self._reject([RejectedItem(token=token, reason="too_late") for token in tokens]),
            book=self.logs,
            isolation=isolation,
        )
        self._time = time
        self._link: Line | None = None
        self._fenced = True
        self._refusing: set[str] = set()
        self._operator_drain = DrainDeadline()
        self._sweep_due = self._logs_due = self._parts_due = False
        self._recent: set[int] = set()
        self._older: set[int] = set()

    def open(self, link: Line) -> None:
        """Recover the outbox and work for this link."""
        self._link = link
        _, waiting = self.outbox.open(token_of)
        self.big.recover(token for token, _ in waiting)
        self.delivery.add(self._with_result(token, record) for token, record in waiting)
        if waiting:
            log.info("outbox_recovered", results=len(waiting))

    def close(self) -> None:
        """End the threads; what the outbox has taken is written first."""
        self.runner.close()
        self.logs.close()
        self.big.close()
        self.outbox.close()

    # --- for the link ------------------------------------------------------------------------------------

    def hello(self) -> Hello:
        return Hello(
            protocol=PROTOCOL_VERSION,
            node_id=self._identity.node_id,
            instance=self._identity.instance,
            epoch=self._identity.epoch,
            state_key=self._identity.state_key,
            handlers=list(self._declared.values()),
            slots=self._about.slots,
            running=[Held(id=attempt.item.id, token=token) for token, attempt in self.runner.attempts.items()],
            outbox=len(self.delivery),
            version=self._about.version,
            host=self._about.host,
            pid=self._about.pid,
            labels=self._about.labels,
            facts=self._about.facts,
        )

    def holds(self) -> list[int]:
        return [*self.runner.attempts, *self.delivery]

    def heartbeat(self) -> tuple[int, int]:
        return len(self.runner.attempts), len(self.delivery)

    def opened(self, welcome: Welcome) -> None:
        self._fenced = False
        self.logs.limit_bytes = welcome.log_bytes
        self._inline_bytes = welcome.result_bytes or self._result_limit
        self.runner.allow_results(max(self._inline_bytes, welcome.big_result_bytes))
        self.log_sender.opened()
        self.delivery.opened()
        for token in self.big.opened(welcome.big_result_bytes):
            self.delivery.release(token)
        self.credit.forget_sent()
        # The server says it again if it still holds; if it doesn't, it would say nothing.
        self._end_operator_drain()
        for attempt in self.runner.attempts.values():
            attempt.accepted = attempt.start_told = False
            if attempt.progress is not None:
                # A server that was started again has forgotten it.
                percent, text, _ = attempt.progress
                self._progress.report(attempt.token, percent, text)
        if "drain" in self._refusing:
            self._say_drain()
        self.flush()
        self._arm_sweep()

    def closed(self) -> None:
        """Attempts go on while the lease holds; their results wait in the outbox."""

    def receive(self, message: Conversation) -> None:
        if isinstance(message, Dispatch):
            self._dispatched(message.items)
        elif isinstance(message, ResultAck):
            self._acknowledged(message)
        elif isinstance(message, Cancel):
            self._cancelled(message.tokens)
        elif isinstance(message, ResultChunkAck):
            self._part_stored(message)
        elif isinstance(message, LogAck):
            self._logs_stored(message)
        else:
            self._drained_by_operator(message)

    # --- attempts come in --------------------------------------------------------------------------------

    def _dispatched(self, items: list[DispatchItem]) -> None:
        now_s = self._clock.mono_s()
        held = self.runner.attempts
        fresh: dict[int, LiveAttempt] = {}
        rejected: list[RejectedItem] = []
        for item in items:
            token = item.token
            if token in held:
                held[token].accepted = False  # the server did not hear of it: say it again
            elif token in self.delivery:
                self.delivery.resend(token)
            elif token in fresh or token in self._recent or token in self._older:
                continue
            elif self._refusing:
                rejected.append(RejectedItem(token=token, reason="draining"))
            else:
                method = self._methods.get((item.handler_id, item.job_method))
                if method is None:
                    known = item.handler_id in self._declared
                    rejected.append(RejectedItem(token=token, reason="unknown_method" if known else "unknown_handler"))
                else:
                    fresh[token] = LiveAttempt(item, method, now_s, self._start_by_s(item, now_s))
        if fresh:
            self.runner.submit(fresh.values())
        if rejected:
            self._reject(rejected)
        self._arm_sweep()

    def _start_by_s(self, item: DispatchItem, now_s: float) -> float | None:
        """The moment by this node's own clock."""
        return None if item.start_by_us is None else now_s + (item.start_by_us - self._time.at_us(now_s)) / 1e6

    def _cancelled(self, tokens: list[int]) -> None:
        gone = [token for token in tokens if not self.runner.cancel(token) and token not in self.delivery]
        if gone:
            # Its DISPATCH never came (if it comes yet, it is too late), or it was handed back when its lease was over.
            self._remember(gone)
            self._reject([RejectedItem(token=token, reason="not_held") for token in gone])

    def _drained_by_operator(self, message: ServerDrain) -> None:
        if message.on:
            log.info("node_drained_by_operator", deadline_s=message.deadline_s, running=self.runner.busy)
            self._operator_drain.set(message.deadline_s, self._clock.mono_s())
            self.refuse("operator")
            self._arm_sweep(0.0)
        elif "operator" in self._refusing:
            log.info("node_resumed_by_operator")
            self._end_operator_drain()
            self._offer_credit()

    def _end_operator_drain(self) -> None:
        self._operator_drain.set(None, 0.0)
        self._refusing.discard("operator")
        self.credit.unpause("operator")

    def _keep_operators_deadline(self, now_s: float) -> None:
        step = self._operator_drain.step(now_s)
        if step is Step.ASK:
            self.runner.stop_running(StopReason.DRAIN)
        elif step is Step.GIVE_UP:
            self.runner.give_up_running(process_ends=False)

    # --- outcomes go out -----------------------------------------------------------------------------------

    def _durable(self, batches: list[list[Durable[LiveAttempt]]]) -> None:
        """These results are on disk: send them, and ask for more."""
        done = 0
        busy_s = 0.0
        now_s = first_s = self._clock.mono_s()
        for batch in batches:
            for item in batch:
                if item.entry.outcome is not None and item.entry.outcome.result_bytes:
                    self._hold(item.entry.item.id, item.token, item.entry.outcome.result_bytes)
            self.delivery.add((item.token, item.record) for item in batch)
            self.runner.release(item.token for item in batch)
            for item in batch:
                started_s, finished_s = item.entry.started_s, item.entry.finished_s
                if started_s is not None and finished_s is not None:
                    weight = item.entry.weight
                    done += weight
                    busy_s += (finished_s - started_s) * weight
                    first_s = min(first_s, started_s)
        if done:
            self.credit.note(done, busy_s, first_s, now_s)
        self.flush()

    def _acknowledged(self, ack: ResultAck) -> None:
        tokens = [*ack.recorded, *ack.duplicate, *ack.superseded, *ack.unknown]
        known = self.delivery.ack(tokens)
        self.outbox.ack(known)
        for token in known:
            self.big.forget(token)
        self._remember(known)
        if ack.superseded or ack.unknown:
            log.warning("results_not_taken", superseded=len(ack.superseded), unknown=len(ack.unknown))
        self.flush()

    def flush(self) -> None:
        """Send what may be sent: results first, then (once all old ones are acknowledged) the window."""
        link = self._link
        if link is None or link.session is None:
            return
        for items in self.delivery.take(self._clock.mono_s()):
            link.send(EncodedResult(s=link.session, items=items))
        self._offer_credit()
        self._send_parts_soon()
        self._send_logs_soon()

    def _offer_credit(self) -> None:
        link = self._link
        if link is None or link.session is None or not self.delivery.synced:
            return
        window = self.credit.change(self._clock.mono_s())
        if window is not None:
            link.send(Credit(s=link.session, window=window))

    def _reject(self, items: list[RejectedItem]) -> None:
        link = self._link
        if link is not None and link.session is not None:
            for start in range(0, len(items), MAX_BATCH):
                link.send(Reject(s=link.session, items=items[start : start + MAX_BATCH]))

    def _remember(self, tokens: Iterable[int]) -> None:
        self._recent.update(tokens)
        if len(self._recent) > REMEMBER:
            self._older, self._recent = self._recent, set()

    def _disk_health(self, states: list[OSError | None]) -> None:
        if states[-1] is None:
            self.credit.unpause("disk")
        else:
            self.credit.pause("disk")
        self._offer_credit()

    def _outbox_broken(self, errors: list[Exception]) -> None:
        if not self.broken.done():
            self.broken.set_exception(errors[0])

    def _note_progress(self, token: int, percent: float, text: str) -> None:
        """From any thread."""
        attempt = self.runner.attempts.get(token)
        if attempt is not None:
            # Goes with the result, too: what was said just before the end would come too late by itself.
            attempt.progress = (percent, text, self._clock.mono_s())
            self._progress.report(token, percent, text)

    def _send_progress(self, newest: Newest) -> None:
        link = self._link
        if link is None or link.session is None:
            return
        for token, (percent, text) in newest.items():
            if token in self.runner.attempts:
                link.send(Progress(s=link.session, token=token, percent=percent, text=text))

    # --- big results -------------------------------------------------------------------------------------

    def _deliver(self, attempt: LiveAttempt) -> None:
        """Any thread: an attempt has its outcome."""
        result = None if attempt.outcome is None else attempt.outcome.result
        if result is not None and len(result) > self._inline_bytes:
            self.big.keep(attempt)
        else:
            self.outbox.put(attempt)

    def _with_result(self, token: int, record: bytes) -> tuple[int, bytes]:
        """A record that was found at start, its result beside it if it is to have one there."""
        execution_id, size = big_of(record)
        if size:
            if self.big.size_of(token) == size:
                self._hold(execution_id, token, size)
            else:
                log.error("big_result_lost", execution_id=execution_id, bytes=size)
                record = without_result(record, "the file with the result was not there after a restart of the node")
        return token, record

    def _hold(self, execution_id: str, token: int, size: int) -> None:
        self.delivery.hold(token)
        self.big.add(execution_id, token, size)

    def _part_stored(self, ack: ResultChunkAck) -> None:
        # Where nobody wants it, its RESULT is answered by why.
        if self.big.ack(ack.token, ack.upto, self._clock.mono_s(), unknown=ack.unknown):
            self.delivery.release(ack.token)
        elif ack.token in self.big:
            self.delivery.hold(ack.token)
        self.flush()

    def _send_parts_soon(self) -> None:
        if not self._parts_due and len(self.delivery):
            self._parts_due = True
            self._loop.call_soon(self._send_parts)

    def _send_parts(self) -> None:
        """One at a time: whatever else there is to send has its turn in between."""
        self._parts_due = False
        link = self._link
        if link is None or link.session is None or self.delivery.waiting:
            return
        part = self.big.take(self._clock.mono_s())
        if part is None:
            return
        sent = link.send(
            ResultChunk(
                s=link.session,
                id=part.execution_id,
                token=part.token,
                offset=part.offset,
                bytes=part.raw_bytes,
                total=part.total,
                body=part.body,
            )
        )
        if sent:
            self._send_parts_soon()

    # --- logs --------------------------------------------------------------------------------------------

    def _execution_of(self, token: int) -> str | None:
        attempt = self.runner.attempts.get(token)
        return None if attempt is None or attempt.phase is Phase.ENDED else attempt.item.id

    def _logged(self, batches: list[list[LogChunk]]) -> None:
        for chunks in batches:
            self.log_sender.add(chunks)
        self.logs.full = self.log_sender.full
        self._send_logs_soon()

    def _logs_stored(self, ack: LogAck) -> None:
        if ack.unknown:
            self.log_sender.forget(ack.unknown)
        self.log_sender.ack(ack.items)
        self.logs.full = self.log_sender.full
        self._send_logs_soon()

    def _send_logs_soon(self) -> None:
        """In a turn of its own: whatever else there is to send in this one goes first."""
        if not self._logs_due and not self.log_sender.idle:
            self._logs_due = True
            self._loop.call_soon(self._send_logs)

    def _send_logs(self) -> None:
        self._logs_due = False
        link = self._link
        # What results wait for, logs wait for.
        if link is None or link.session is None or self.delivery.waiting:
            return
        items = self.log_sender.take(self._clock.mono_s())
        if items and link.send(Log(s=link.session, items=items)):
            self._send_logs_soon()

    # --- time passes -----------------------------------------------------------------------------------------

    def _arm_sweep(self, delay_s: float = SWEEP_S) -> None:
        if not self._sweep_due and self.runner.attempts:
            self._sweep_due = True
            self._loop.call_later(delay_s, self._sweep_turn)

    def _sweep_turn(self) -> None:
        self._sweep_due = False
        self._arm_sweep(self.sweep())

    def sweep(self) -> float:
        """Look at what is held: announce, time out, give back. Returns when to look again, in seconds."""
        now_s = self._clock.mono_s()
        self.check_lease(now_s)
        self._keep_operators_deadline(now_s)
        next_s = self.runner.check_deadlines(now_s)
        self.credit.block(sum(attempt.weight for attempt in self.runner.overdue))
        if self.runner.oldest_wait_s(now_s) > HOARD_S:
            self.credit.overcommitted()
            self._give_back(self._about.slots, "overcommitted")
        self._announce(now_s)
        self._offer_credit()
        return SWEEP_S if next_s is None else max(0.001, min(SWEEP_S, next_s - now_s))

    def _announce(self, now_s: float) -> None:
        link = self._link
        if link is None or link.session is None:
            return
        items: list[AcceptedItem] = []
        for attempt in self.runner.attempts.values():
            started_s = attempt.started_s
            if attempt.phase is Phase.RUNNING and started_s is not None:
                told = attempt.accepted and attempt.start_told
                if not told and now_s - started_s >= ACCEPT_RUNNING_S:
                    attempt.accepted = attempt.start_told = True
                    items.append(AcceptedItem(token=attempt.token, started_us=self._time.at_us(started_s)))
            elif not attempt.accepted and now_s - attempt.received_s >= ACCEPT_QUEUED_S:
                attempt.accepted = True
                items.append(AcceptedItem(token=attempt.token))
        for start in range(0, len(items), MAX_BATCH):
            link.send(Accept(s=link.session, items=items[start : start + MAX_BATCH]))

    def tick(self) -> None:
        """Every second: what must happen although nothing else does."""
        now_s = self._clock.mono_s()
        self.check_lease(now_s)
        again = self.delivery.overdue(now_s)
        if again:
            log.info("results_resent", results=again)
        again = self.big.overdue(now_s)
        if again:
            log.info("big_results_resent", results=again)
        again = self.log_sender.overdue(now_s)
        if again:
            log.info("logs_resent", chunks=again)
        self.credit.block(sum(attempt.weight for attempt in self.runner.overdue))
        self.flush()

    def check_lease(self, now_s: float) -> None:
        """When the lease is over this node stops believing in its attempts, before the server gives them away."""
        if self._fenced or self._lease.held(now_s):
            return
        self._fenced = True
        running = self.runner.fence()
        log.warning("lease_over", running=running)

    # --- stopping --------------------------------------------------------------------------------------------

    def refuse(self, reason: str) -> None:
        """Take no more work, and give back what has not started."""
        self._refusing.add(reason)
        self.credit.pause(reason)
        self._give_back(0, "draining")

    def _give_back(self, keep: int, reason: str) -> None:
        # The smaller window first, or the server might send them right back.
        self._offer_credit()
        given_back = self.runner.take_back(keep)
        self._reject([RejectedItem(token=token, reason=reason) for token in given_back])

    async def drain(self, deadline_s: float, grace_s: float, flush_s: float) -> None:
        """Finish what runs, within ``deadline_s``; then hand it back; then see the results recorded.

        What runs at the deadline is asked to stop, and has ``grace_s`` for it. What still runs then is handed back
        all the same: the process is expected to end right after this.
        """
        self._say_drain()
        self.refuse("drain")
        if not await self._until(lambda: not self.runner.attempts, deadline_s):
            log.warning("drain_deadline", running=len(self.runner.attempts))
            self.runner.stop_running(StopReason.DRAIN)
            if not await self._until(lambda: not self.runner.attempts, grace_s):
                self.runner.give_up_running(process_ends=True)
                await self._until(lambda: not self.runner.attempts, grace_s)
        self.flush()
        if self._link is not None and self._link.session is not None:
            await self._until(lambda: not len(self.delivery), flush_s)
            # Of what jobs said in their last moment, as much as the server takes in that time.
            await asyncio.to_thread(self.logs.turn)
            await asyncio.sleep(0)
            await self._until(lambda: self.log_sender.idle, flush_s)
        if len(self.delivery):
            log.warning("results_kept_in_outbox", results=len(self.delivery))

    def _say_drain(self) -> None:
        if self._link is not None and self._link.session is not None:
            self._link.send(NodeDrain(s=self._link.session))

    async def _until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for ``condition``, which changes on this thread only; False after ``timeout_s``."""
        deadline_s = self._clock.mono_s() + timeout_s
        while not condition():
            if self._clock.mono_s() >= deadline_s:
                return False
            await asyncio.sleep(POLL_S)
        return True
