"""Verdicts on attempts: one at a time, one result each, nothing lost, nothing run again without cause.

C5, C6, C7, C9, C10, C11, C16, C22, and the durations of C12. Order and overlap are judged by the monotonic clock that
all processes of a run share.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from schedule_zero.job_options import OnLost
from schedule_zero.rules.states import TERMINAL
from schedule_zero.testbed.final import AttemptRow, Row
from schedule_zero.testbed.history import SERVER, FaultKind
from schedule_zero.testbed.losses import explained, kept_s, outage_only, too_soon
from schedule_zero.testbed.matching import Matched, Run, node
from schedule_zero.testbed.verdicts import Report, Verdict

OVER = frozenset(state.value for state in TERMINAL)
# What the store may say of an attempt whose job came to its own end, and of one whose job raised.
# (``running``: it is not over, which is told as such.)
UNTOLD = frozenset({"cancelled", "handed_back", "timeout", "lost", "dead", "misfired", "running"})
AFTER_OK = UNTOLD | {"completed"}
AFTER_ERROR = UNTOLD | {"failed"}
# An attempt after which its body may go on, since nobody can stop it.
LET_GO = frozenset({"timeout", "cancelled", "handed_back"})
# Why a job that ended well has failed: its result could not be taken, or it was lost, or stopped by its node; and given
# back by it, when it was too late to begin anew.
NOT_TAKEN = frozenset({"ResultTooLarge", "InvalidResult", "NodeLost", "Interrupted", "HandedBack"})


def check_attempts(m: Matched, report: Report) -> None:
    """Everything that is to be said of executions and the runs of their jobs."""
    tokens: dict[int, str] = {}
    for row in m.final.executions:
        archived = m.attempts.get(row.id, ())
        runs = m.runs.get(row.id, ())
        if row.token:
            _unique(tokens, row.token, row.id, report)
        _end(m, row, runs, report)
        for attempt in archived:
            if attempt.token != row.token:
                _unique(tokens, attempt.token, row.id, report)
        _archive(m, row, archived, report)
        if len(runs) > 1:
            _several(m, row, runs, report)
        for run in runs:
            _recorded(m, row, run, report)
    looked = len(m.final.executions)
    for promise in ("C5", "C7", "C16"):
        report.look(promise, looked)
    for promise in ("C6", "C9"):
        report.look(promise, sum(map(len, m.runs.values())))
    report.look("C10", len(m.final.attempts))
    report.look("C11", len(m.final.attempts))
    _strangers(m, report)
    for run in m.again:
        said = f"attempt {run.token} was begun twice"
        report.found("C6", Verdict.DUPLICATE, f"execution {run.execution_id}", said, node=run.node_id, pid=run.pid)


def _unique(tokens: dict[int, str], token: int, id_: str, report: Report) -> None:
    holder = tokens.setdefault(token, id_)
    if holder != id_:
        said = f"token {token} was given to execution {holder} as well"
        report.found("C6", Verdict.DUPLICATE, f"execution {id_}", said)


# --- one execution ----------------------------------------------------------------------------------------


def _end(m: Matched, row: Row, runs: Sequence[Run], report: Report) -> None:
    """It came to an end, and to one that its facts allow."""
    state, subject = row.state, f"execution {row.id}"
    if state == "completed":
        if not runs and m.ledgered(row):
            report.found("C7", Verdict.EXTRA, subject, "it is completed, and its job never ran", token=row.token)
    elif state not in OVER:
        _open(m, row, runs, subject, report)
    elif state == "dead" and row.lost_count < m.terms.max_lost:
        said = f"it is dead after {row.lost_count} losses; {m.terms.max_lost} are allowed"
        report.found("C16", Verdict.NOT_RERUN, subject, said)
    elif state == "misfired" and _too_early(m, row):
        report.found("C5", Verdict.EARLY, subject, "it misfired before its time was over", start_by_us=row.start_by_us)
    elif state == "timeout":
        options = m.options(row)
        if options.timeout_s is None and options.heartbeat_timeout_s is None:
            report.found("C12", Verdict.EARLY, subject, "it timed out, and has no timeout")
        elif options.heartbeat_timeout_s is None and options.timeout_s is not None:
            for run in runs:
                _timed(m, run, row.token, options.timeout_s, subject, report)
    if row.lost_count > m.terms.max_lost:
        said = f"it was begun anew after {row.lost_count} losses; {m.terms.max_lost} are allowed"
        report.found("C16", Verdict.RERUN, subject, said)
    if row.started_us is not None and row.finished_us is not None and row.finished_us < row.started_us:
        report.found("C12", Verdict.UNBALANCED, subject, "it ended before it began", started_us=row.started_us)


def _too_early(m: Matched, row: Row) -> bool:
    """Whether it misfired before its time was over. (A clock may be set back between the decision and its commit.)"""
    if row.start_by_us is None:
        return True
    return row.stored_us is not None and row.stored_us < row.start_by_us and not m.stepped(SERVER)


def _timed(m: Matched, run: Run, token: int, timeout_s: float, subject: str, report: Report) -> None:
    if run.token != token or run.end_ns is None or run.outcome != "ok":
        return
    took_s = (run.end_ns - run.start_ns) / 1e9
    if took_s < timeout_s - m.terms.margin_s:
        said = f"it timed out after {timeout_s:g} s; its job was done after {took_s:.3f} s"
        report.found("C12", Verdict.EARLY, subject, said, token=token)


def _open(m: Matched, row: Row, runs: Sequence[Run], subject: str, report: Report) -> None:
    """What is not over although the run waited for it."""
    for run in runs:
        if run.token == row.token and run.outcome is not None and row.state == "running" and m.terms.settled:
            said = f"attempt {run.token} ended ({run.outcome}), and its result is nowhere"
            report.found("C9", Verdict.LOST_RESULT, subject, said, node=run.node_id, ended_us=run.end_us)
            return
    if not m.terms.settled:
        return
    if row.not_before_us is not None and row.not_before_us > m.until_us:
        return
    if row.state == "running" and m.options(row).on_lost is OnLost.WAIT:
        # For an operator.
        return
    report.found("C5", Verdict.NOT_OVER, subject, f"it is {row.state}, and nobody cared for it", token=row.token)


def _archive(m: Matched, row: Row, archived: Sequence[AttemptRow], report: Report) -> None:
    """The attempts that are over: numbered without a gap, counted as they ended, each recorded once."""
    subject = f"execution {row.id}"
    lost = sum(attempt.outcome == "lost" for attempt in archived)
    if lost != row.lost_count:
        said = f"it counts {row.lost_count} losses, its attempts {lost}"
        report.found("C16", Verdict.UNBALANCED, subject, said)
    expected = 1
    for attempt in archived:
        if not attempt.attempt:
            # A result that was refused; how it was numbered, nobody knew any more.
            continue
        if attempt.token == row.token and row.state == "completed":
            said = f"attempt {attempt.token} is recorded twice: {attempt.outcome}, and completed"
            report.found("C7", Verdict.DUPLICATE, subject, said)
        if attempt.attempt != expected:
            said = f"attempt {attempt.token} has number {attempt.attempt}, not {expected}"
            report.found("C22", Verdict.UNBALANCED, subject, said, outcome=attempt.outcome)
        expected = attempt.attempt + (attempt.outcome != "handed_back")
        if attempt.token > row.token:
            said = f"attempt {attempt.token} is over, and an older one ({row.token}) is the current one"
            report.found("C6", Verdict.REVIVED, subject, said)
    last = archived[-1] if archived else None
    is_later = row.token > (last.token if last else 0)
    if is_later and row.state in OVER and (last is None or last.attempt) and row.attempt != expected:
        said = f"its last attempt has number {row.attempt}, not {expected}"
        report.found("C22", Verdict.UNBALANCED, subject, said)
    failures = sum(attempt.outcome in ("failed", "timeout") for attempt in archived if attempt.attempt)
    failures += row.state in ("failed", "timeout") and (last is None or row.token != last.token)
    most = m.options(row).max_attempts
    if failures > most:
        said = f"it was tried {failures} times on its own account; {most} are allowed"
        report.found("C5", Verdict.RERUN, subject, said)
    for place, attempt in enumerate(archived):
        if attempt.outcome == "handed_back":
            _given_back(m, row, attempt, report)
        elif attempt.outcome == "lost":
            follower = archived[place + 1] if place + 1 < len(archived) else None
            _lost(m, row, attempt, follower, report)


def _given_back(m: Matched, row: Row, attempt: AttemptRow, report: Report) -> None:
    """What had begun is given back by a node that drains, or has lost its lease; by no other."""
    run = next((run for run in m.runs.get(row.id, ()) if run.token == attempt.token), None)
    if run is None:
        return
    to_us = attempt.finished_us or m.until_us
    if explained(m, attempt.node_id, run.start_us, to_us):
        return
    promise = "C11" if outage_only(m, attempt.node_id, run.start_us, to_us) else "C22"
    said = "it had begun, and its node gave it back without a cause"
    report.found(promise, Verdict.RERUN, f"execution {row.id}", said, token=attempt.token, node=attempt.node_id)


def _lost(m: Matched, row: Row, attempt: AttemptRow, follower: AttemptRow | None, report: Report) -> None:
    """A loss: whether there was a cause, whether the lease was waited for, whether the job's wish was obeyed."""
    subject = f"execution {row.id}"
    runs = m.runs.get(row.id, ())
    run = next((run for run in runs if run.token == attempt.token), None)
    later = [run for run in runs if run.token > attempt.token]
    next_us = min((run.start_us for run in later), default=None)
    given_us = None
    if follower is not None or row.token > attempt.token:
        given_us = follower.dispatched_us if follower is not None else row.dispatched_us
    # It is given to a node before it begins there, and may have been given back once before.
    if given_us is not None and (next_us is None or (given_us < next_us and not m.stepped(SERVER))):
        next_us = given_us
    from_us = attempt.dispatched_us or (row.created_us if run is None else run.start_us)
    to_us = next_us or attempt.finished_us or m.until_us
    said = None
    if outage_only(m, attempt.node_id, from_us, to_us):
        said = "the server was away for less than a lease, and its attempt was not re-attached"
        report.found("C11", Verdict.RERUN, subject, said, token=attempt.token, node=attempt.node_id)
    elif not m.stepped(SERVER) and not explained(m, attempt.node_id, from_us, to_us):
        said = "its node was taken for lost, and nothing had happened to it"
        report.found("C8", Verdict.UNEXPLAINED_LOSS, subject, said, token=attempt.token, node=attempt.node_id)
    if said is not None and run is not None and run.outcome == "ok":
        finding = f"attempt {run.token} was done, and its result was not taken"
        report.found("C9", Verdict.LOST_RESULT, subject, finding, ended_us=run.end_us)
    elif said is None and run is not None and (kept := kept_s(m, run, attempt.finished_us)) is not None:
        finding = f"attempt {run.token} was done {kept:.2f} s before its node died, and its outbox was not heard"
        report.found("C9", Verdict.LOST_RESULT, subject, finding, ended_us=run.end_us, lost_us=attempt.finished_us)
    if next_us is None:
        return
    soon = too_soon(m, attempt.node_id, from_us, next_us)
    if soon is not None:
        finding = f"it was run again {soon:.2f} s after its node was heard last; the lease is {m.terms.lease_s:g} s"
        report.found("C10", Verdict.EARLY, subject, finding, token=attempt.token, node=attempt.node_id)
    on_lost = m.options(row).on_lost
    if on_lost is not OnLost.RERUN and run is not None and later:
        finding = f"it was lost and run again; its on_lost is {on_lost.value}"
        report.found("C10", Verdict.RERUN, subject, finding, tokens=[attempt.token, later[0].token])


def _several(m: Matched, row: Row, runs: Sequence[Run], report: Report) -> None:
    """Several runs of one execution: in the order of their tokens, one after the other."""
    subject = f"execution {row.id}"
    ordered = sorted(runs, key=_start)
    margin_ns = m.margin_us * 1000
    for before, after in pairwise(ordered):
        tokens = [before.token, after.token]
        if after.token < before.token:
            if not _was_stopped(m, after):
                said = f"attempt {after.token} began after a newer one ({before.token}) had begun"
                report.found("C6", Verdict.OVERLAP, subject, said, nodes=[before.node_id, after.node_id])
            continue
        if before.end_ns is None or after.start_ns >= before.end_ns - margin_ns:
            continue
        outcome = m.outcome(row, row.id, before.token)
        if outcome in LET_GO:
            continue
        if outcome == "lost" and explained(m, before.node_id, before.start_us, after.start_us):
            continue
        overlap_s = (min(before.end_ns, after.end_ns or before.end_ns) - after.start_ns) / 1e9
        said = f"two attempts ran at once for {overlap_s:.3f} s, and nothing had cut the first one off"
        report.found("C6", Verdict.OVERLAP, subject, said, tokens=tokens, nodes=[before.node_id, after.node_id])


def _was_stopped(m: Matched, run: Run) -> bool:
    """Whether its process was stopped as it was about to begin: between its look at the lease and its first line."""
    lately_us = run.start_us - m.late_us
    kinds = frozenset({FaultKind.STOP, FaultKind.LOAD})
    return m.trouble.any(lately_us, run.start_us, node(run.node_id), kinds=kinds)


def _recorded(m: Matched, row: Row, run: Run, report: Report) -> None:
    """A run that the ledger tells of is on record, and as what it was."""
    subject = f"execution {row.id}"
    outcome = m.outcome(row, row.id, run.token)
    if outcome is None:
        said = f"attempt {run.token} ran, and the store does not know it"
        report.found("C6", Verdict.UNRECORDED, subject, said, node=run.node_id, attempt=run.attempt)
        return
    if run.outcome is None:
        if outcome == "completed":
            said = f"attempt {run.token} is completed, and its job never came to its end"
            report.found("C7", Verdict.WRONG_RESULT, subject, said, node=run.node_id)
        return
    right = outcome in (AFTER_OK if run.outcome == "ok" else AFTER_ERROR)
    if not right and not (outcome == "failed" and row.error in NOT_TAKEN):
        verdict, promise = (Verdict.LOST_RESULT, "C9") if run.outcome == "ok" else (Verdict.WRONG_RESULT, "C7")
        said = f"attempt {run.token} ended with {run.outcome}, and is recorded as {outcome}"
        report.found(promise, verdict, subject, said, node=run.node_id, error=row.error)
    elif outcome == "completed" and row.token == run.token and _differ(row.result, run.result):
        said = f"its result is not what attempt {run.token} returned"
        report.found("C7", Verdict.WRONG_RESULT, subject, said, stored=row.result, returned=run.result)


def _differ(stored: int | None, returned: int | None) -> bool:
    return stored is not None and returned is not None and stored != returned


def _start(run: Run) -> int:
    return run.start_ns


# --- runs without an execution ------------------------------------------------------------------------------


def _strangers(m: Matched, report: Report) -> None:
    """Runs of executions that the store does not know, unless so many were removed."""
    strangers = [id_ for id_ in m.runs if id_ not in m.rows]
    if len(strangers) <= m.final.removed:
        return
    for id_ in strangers:
        run = m.runs[id_][0]
        said = "its job ran, and the store does not know it"
        report.found("C4", Verdict.UNRECORDED, f"execution {id_}", said, node=run.node_id, began_us=run.start_us)


def drained(m: Matched, report: Report) -> None:
    """No new work on a node that drains (C22)."""
    drains = [fault for fault in m.trouble.faults if fault.fault is FaultKind.DRAIN and fault.target != SERVER]
    if not drains:
        return
    slack_us = max(m.margin_us, round(m.terms.heartbeat_s * 1e6))
    for fault in drains:
        heard_us = fault.begin_us
        # One that is stopped, or hardly gets a turn, hears of it later.
        for other in m.trouble.touching(fault.begin_us, fault.begin_us, fault.target):
            if other.fault in (FaultKind.STOP, FaultKind.LOAD):
                heard_us = max(heard_us, m.until_us if other.end_us is None else other.end_us)
        for run in m.by_node.get(fault.target.partition(":")[2], ()):
            report.look("C22")
            if heard_us + slack_us < run.start_us < (fault.end_us or m.until_us):
                said = "it was begun on a node that was draining"
                report.found("C22", Verdict.LATE, f"execution {run.execution_id}", said, node=run.node_id)
