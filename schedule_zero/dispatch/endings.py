"""How attempts end: by the node's report, by the server's decision, and what follows once that is committed.

Two kinds of end differ in who repeats them when the store can't be written: a report is on the node's disk and
comes again by itself; a decision of the server is kept here and tried again.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from schedule_zero.config import DispatchConfig
from schedule_zero.dispatch.effects import CancelAgain, Classify, Collector, DueAt, ExpiresAt, Now, RecordStale
from schedule_zero.dispatch.gates import Gates
from schedule_zero.dispatch.health import Health
from schedule_zero.dispatch.sessions import (
    COUNTED,
    ENDING,
    LOOSE,
    LOSING,
    REPORTED,
    UNRECORDED,
    LiveAttempt,
    LiveNode,
    Session,
)
from schedule_zero.model import Attempt, AttemptOutcome, Execution, JobError, Reached, State
from schedule_zero.rules import ending as rules
from schedule_zero.rules.birth import start_by_us
from schedule_zero.rules.ending import Ending
from schedule_zero.rules.limits import limits_of
from schedule_zero.rules.options import options_of
from schedule_zero.rules.signature import signature
from schedule_zero.store.executions import EndItem, Refusal, StartedItem
from schedule_zero.wire.messages import Cancel, LastProgress, ResultAck, ResultItem

COMPLETED = AttemptOutcome.COMPLETED
STATE_COMPLETED = State.COMPLETED
_check_json = msgspec.json.Decoder(msgspec.Raw).decode
_encode_json = msgspec.json.encode
# How much of a job's error text is kept.
MAX_ERROR_CHARS = 32_768
# At most one line in this time about results that their nodes can't have.
QUIET_S = 1.0


def not_before(us: int, earliest_us: int | None) -> int:
    """``us``, but not before something that came first: a node estimates the server's clock, a little wrongly (C12)."""
    return us if earliest_us is None or us >= earliest_us else earliest_us


class Endings:
    """Ends attempts. Knows nothing of lanes: what goes on is handed back to the caller of ``recorded``."""

    def __init__(self, config: DispatchConfig, result_bytes: int, health: Health, gates: Gates, out: Collector) -> None:
        self._max_lost = config.max_lost
        self._result_bytes = result_bytes
        self._health = health
        self._out = out
        # Results that came from nodes that never had the attempt, since that was last told.
        self._others = 0
        self._told_of_others_s = float("-inf")
        # Decisions that could not be committed.
        self._again: list[tuple[LiveAttempt, EndItem]] = []
        self._gates = gates
        # Gates that have room again; whoever ends attempts looks here afterwards.
        self.freed = gates.freed

    # --- the node's report ------------------------------------------------------------------------

    def report(self, att: LiveAttempt, item: ResultItem, now: Now) -> None:
        """The node says how ``att`` ended (any phase in which the node may have it)."""
        row = att.row
        outcome, result, error = item.outcome, item.result, item.error
        if result is not None:
            broken = self._broken(result)
            if broken is not None:
                outcome, result, error = AttemptOutcome.FAILED, None, broken
        started_us = item.started_us or row.started_us
        if started_us is not None:
            started_us = not_before(started_us, row.dispatched_us)
        finished_us = not_before(item.finished_us or now.wall_us, started_us)
        out = self._out
        self.uncount(att)
        att.phase = ENDING
        if outcome is COMPLETED:
            # The path of nearly all: no rule to ask, nothing to keep for later.
            att.ending = None
            node = att.node
            node.completed_s[att.lane] = now.mono_s
            if node.failing or node.probation:
                self._health.did_well(att)
            out.ends.append(
                EndItem(
                    id=row.id,
                    token=att.token,
                    outcome=COMPLETED,
                    state=STATE_COMPLETED,
                    result=result,
                    result_bytes=item.result_bytes or None,
                    started_us=started_us,
                    finished_us=finished_us,
                    stored_us=now.wall_us,
                    cpu_us=item.cpu_us,
                    peak_rss_bytes=item.peak_rss_bytes,
                    progress=encode_progress(item.progress, now.wall_us),
                    attempt=row.attempt,
                    node_id=row.node_id,
                    dispatched_us=row.dispatched_us,
                    handler_id=row.handler_id,
                    job_method=row.job_method,
                    schedule_id=row.schedule_id,
                    group_id=row.group_id,
                )
            )
            out.ending.append(att)
            return
        self._health.ended(att, item, now.mono_s)
        ending = rules.after_report(
            outcome,
            attempt=row.attempt,
            lost_count=row.lost_count,
            options=options_of(row.options),
            execution_id=row.id,
            error=error,
            cancel_requested=row.cancel_requested,
            retry_after_s=item.retry_after_s,
            give_up=item.give_up,
        )
        if ending is None:
            # Stays as it is, running on this node, and that is recorded already. That it had begun may not be: without
            # that, a server that is started again would take it for lost on its way.
            if started_us is not None and row.started_us is None:
                row.started_us = started_us
                out.marks.append(StartedItem(row.id, att.token, started_us))
            self._wait(att)
            session = att.node.session
            if session is not None:
                out.send(session.peer, ResultAck(s=session.s, recorded=[att.token]))
            return
        if ending.state is State.FAILED and outcome is AttemptOutcome.HANDED_BACK and error is None:
            error = JobError(type="Interrupted", message=f"node {row.node_id!r} stopped while the job was running")
        self._write(
            att,
            ending,
            now,
            error=error,
            started_us=started_us,
            finished_us=finished_us,
            result=result,
            used=(item.cpu_us, item.peak_rss_bytes),
            progress=encode_progress(item.progress, now.wall_us),
        )

    def _broken(self, result: bytes) -> JobError | None:
        """Why ``result`` can't be stored; what is stored is shown as part of JSON documents, so it has to be one."""
        if len(result) > self._result_bytes:
            return JobError(
                type="ResultTooLarge",
                message=f"the result has {len(result)} bytes as JSON, at most {self._result_bytes} are allowed",
            )
        try:
            _check_json(result)
            str(result, "utf-8")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return JobError(type="InvalidResult", message="the node sent a result that is not JSON")
        return None

    # --- the server's decision --------------------------------------------------------------------

    def hand_back(self, att: LiveAttempt, now: Now, *, pause: bool = False) -> None:
        """The node never started it and never will."""
        self._gates.refund(att)
        self.decide(att, rules.after_hand_back(cancel_requested=att.row.cancel_requested, pause=pause), now)

    def lose(self, att: LiveAttempt, now: Now) -> None:
        """Nobody holds a lease on it any more, and nobody knows how far it got."""
        row = att.row
        self._health.lost(att, now.mono_s)
        ending = rules.after_loss(
            lost_count=row.lost_count,
            options=options_of(row.options),
            max_lost=self._max_lost,
            cancel_requested=row.cancel_requested,
        )
        if ending is None:
            self._wait(att)
            return
        message = f"node {row.node_id!r} was lost while it held this attempt"
        if ending.state is State.DEAD:
            message += f"; {row.lost_count + 1} attempts were lost like this"
        error = None if ending.state is State.CANCELLED else JobError(type="NodeLost", message=message)
        self.decide(att, ending, now, error=error)

    def _wait(self, att: LiveAttempt) -> None:
        """Leave it as it is, until its result comes or an operator cancels it."""
        self.uncount(att)
        att.phase = LOOSE
        self._out.note("attempt_waits_for_operator", execution_id=att.row.id, node_id=att.row.node_id)

    def decide(self, att: LiveAttempt, ending: Ending, now: Now, *, error: JobError | None = None) -> None:
        self.uncount(att)
        att.phase = LOSING
        # Archived even where it is the last: a result that comes late is told by this row that it is superseded.
        self._write(att, ending, now, error=error, archive=True)

    def _write(
        self,
        att: LiveAttempt,
        ending: Ending,
        now: Now,
        *,
        error: JobError | None,
        result: bytes | None = None,
        started_us: int | None = None,
        finished_us: int | None = None,
        used: tuple[int | None, int | None] = (None, None),
        progress: bytes | None = None,
        archive: bool = False,
    ) -> None:
        row = att.row
        att.ending = ending
        delay_us = None if ending.delay_s is None else round(ending.delay_s * 1e6)
        if ending.goes_on and row.start_by_us is not None:
            self._renew(row, ending, now.wall_us + (delay_us or 0), begun=bool(started_us or row.started_us))
        began_us = started_us or row.started_us
        self._out.ends.append(
            EndItem(
                id=row.id,
                token=att.token,
                outcome=ending.outcome,
                state=ending.state,
                result=result,
                error=None if error is None else encode_error(error),
                started_us=began_us,
                # (A clock that was set back since does not end it before it began.)
                finished_us=finished_us or not_before(now.wall_us, began_us or row.dispatched_us),
                stored_us=now.wall_us,
                dead_letter=signature(row, ending.state, error),
                cpu_us=used[0],
                peak_rss_bytes=used[1],
                progress=progress,
                delay_us=delay_us,
                start_by_us=row.start_by_us if ending.goes_on else None,
                lost=ending.lost,
                archive=archive or ending.goes_on,
                attempt=row.attempt,
                node_id=row.node_id,
                dispatched_us=row.dispatched_us,
                burn=ending.burn,
                handler_id=row.handler_id,
                job_method=row.job_method,
                schedule_id=row.schedule_id,
                group_id=row.group_id,
            )
        )
        self._out.ending.append(att)

    def _renew(self, row: Execution, ending: Ending, due_us: int, *, begun: bool) -> None:
        """What goes on has its time to be started anew, from when it can be; but not what was given back unstarted."""
        if ending.burn or begun:
            row.start_by_us = start_by_us(row, due_us)

    # --- what the store said ----------------------------------------------------------------------

    def recorded(self, attempts: Iterable[LiveAttempt], refused: dict[int, Refusal], now: Now) -> list[Execution]:
        """The ends are committed, but for those refused. Acknowledges reports; returns what is pending again."""
        acks: dict[LiveNode, ResultAck] = {}
        again: list[Execution] = []
        cancel_again: list[str] = []
        for att in attempts:
            node = att.node
            token = att.token
            node.attempts.pop(token, None)
            if node.cancels:
                node.cancels.pop(token, None)
            refusal = refused.get(token) if refused else None
            session = node.session
            if session is None:
                pass
            elif att.phase == ENDING:
                ack = acks.get(node)
                if ack is None:
                    ack = acks[node] = ResultAck(s=session.s)
                # Refused: somebody else ended it (an operator cleared it, a backup was restored).
                (ack.recorded if refusal is None else _refused(ack, refusal)).append(token)
            elif token in session.confirmed:
                # The node still believes in an attempt that is over.
                self._out.send(session.peer, Cancel(s=session.s, tokens=[token]))
            if att.ending is not None and refusal is None:
                self._follow(att.row, att.ending, now, again, cancel_again)
        for node, ack in acks.items():
            if node.session is not None:
                self._out.send(node.session.peer, ack)
        if cancel_again:
            self._out.other.append(CancelAgain(cancel_again))
        return again

    def _follow(
        self, row: Execution, ending: Ending, now: Now, again: list[Execution], cancel_again: list[str]
    ) -> None:
        """What comes after an end that was not simply a completion."""
        if ending.lost:
            row.lost_count += 1
        if not ending.goes_on:
            return
        if row.start_by_us is not None:
            self._out.other.append(ExpiresAt(row.start_by_us))
        if row.cancel_requested:
            # The cancel was committed while this end was under way.
            cancel_again.append(row.id)
        elif ending.state is State.PENDING:
            again.append(_waiting(row, ending))
        elif ending.delay_s is not None:
            self._out.other.append(DueAt(now.wall_us + round(ending.delay_s * 1e6)))

    def record_failed(self, attempts: Iterable[LiveAttempt], items: Iterable[EndItem]) -> None:
        """Nothing was committed: nothing is acknowledged. Reports come again by themselves."""
        for att, item in zip(attempts, items, strict=True):
            if att.phase == ENDING:
                att.phase = REPORTED
            else:
                att.phase = UNRECORDED
                self._again.append((att, item))

    def retry(self, now: Now) -> None:
        """Try again to record what the server decided."""
        again, self._again = self._again, []
        for att, item in again:
            # A report, or the node's return, has settled the others meanwhile.
            if att.phase == UNRECORDED:
                att.phase = LOSING
                item.stored_us = now.wall_us
                self._out.ends.append(item)
                self._out.ending.append(att)

    def classified(
        self,
        session: Session,
        items: Iterable[ResultItem],
        verdicts: dict[int, Refusal | None],
        now: Now,
    ) -> None:
        """Answer results of attempts that are not in memory."""
        ack = ResultAck(s=session.s)
        stale = ResultAck(s=session.s)
        rows: list[Attempt] = []
        for item in items:
            verdict = verdicts.get(item.token, Refusal.UNKNOWN)
            if verdict is Refusal.DUPLICATE:
                ack.duplicate.append(item.token)
            elif verdict is Refusal.UNKNOWN:
                ack.unknown.append(item.token)
            elif verdict is Refusal.SUPERSEDED:
                stale.superseded.append(item.token)
                rows.append(_stale(item, session.node, now))
            else:
                # The store says that it runs with this token, and yet not on this node.
                self._others += 1
                if now.mono_s - self._told_of_others_s >= QUIET_S:
                    node_id, count = session.node.node_id, self._others
                    self._out.note("result_of_anothers_attempt", execution_id=item.id, node_id=node_id, count=count)
                    self._others, self._told_of_others_s = 0, now.mono_s
        if ack.duplicate or ack.unknown:
            self._out.send(session.peer, ack)
        if rows:
            self._out.note("stale_results", node_id=session.node.node_id, count=len(rows))
            self._out.other.append(RecordStale(rows, session.peer, stale))

    def look_up(self, session: Session, items: list[ResultItem]) -> None:
        self._out.other.append(Classify(session.peer, session.s, items))

    def uncount(self, att: LiveAttempt) -> None:
        """It takes no place on its node any more."""
        if att.phase in COUNTED:
            node = att.node
            if att.instance is node.instance:
                node.held -= att.weight
            if att.gates:
                self._gates.leave(att)
            limit = att.lane.limit
            if limit is not None:
                limit.running -= 1
                self.freed[limit] = None

    def count(self, att: LiveAttempt) -> None:
        """The opposite, for an attempt that turned up again."""
        if att.instance is att.node.instance:
            att.node.held += att.weight
        self._gates.enter(att, limits_of(att.row.options))
        if att.lane.limit is not None:
            att.lane.limit.running += 1


def _refused(ack: ResultAck, refusal: Refusal) -> list[int]:
    if refusal is Refusal.UNKNOWN:
        return ack.unknown
    return ack.duplicate if refusal is Refusal.DUPLICATE else ack.superseded


def _waiting(row: Execution, ending: Ending) -> Execution:
    """``row`` as the store has it after ``ending``."""
    row.state = State.PENDING
    if not ending.burn:
        row.attempt -= 1
    row.token = 0
    row.node_id = None
    row.dispatched_us = None
    row.started_us = None
    return row


def _stale(item: ResultItem, node: LiveNode, now: Now) -> Attempt:
    return Attempt(
        execution_id=item.id,
        # Its number isn't known here; the token identifies it.
        attempt=0,
        token=item.token,
        node_id=node.node_id,
        outcome=item.outcome,
        started_us=item.started_us,
        finished_us=item.finished_us or now.wall_us,
        cpu_us=item.cpu_us,
        peak_rss_bytes=item.peak_rss_bytes,
        progress=encode_progress(item.progress, now.wall_us),
        error=None if item.error is None else encode_error(item.error),
    )


def encode_progress(progress: LastProgress | None, now_us: int) -> bytes | None:
    """As it is stored (``views.reached`` reads it); never of a time to come."""
    if progress is None:
        return None
    at_us = now_us if progress.at_us is None else min(progress.at_us, now_us)
    return _encode_json(Reached(percent=progress.percent, text=progress.text, at_us=at_us))


def encode_error(error: JobError) -> bytes:
    """As it is stored: bounded."""
    if len(error.message) > MAX_ERROR_CHARS or len(error.traceback) > MAX_ERROR_CHARS or len(error.type) > 256:
        error = JobError(
            type=error.type[:256],
            message=error.message[:MAX_ERROR_CHARS],
            # The end of a traceback says where it was raised.
            traceback=error.traceback[-MAX_ERROR_CHARS:],
        )
    return _encode_json(error)
