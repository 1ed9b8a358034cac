"""Verdicts on what clients were told: what was acknowledged is there, what was refused isn't, a cancel ends (C4, C21).

An answer that is ``unknown`` leaves two states that are both right: it happened, or it did not. Half of it, or twice,
is right in neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from schedule_zero.model import Schedule
from schedule_zero.rules.states import TERMINAL
from schedule_zero.testbed.history import SERVER, BadEvidence, Call, Op, Phase
from schedule_zero.testbed.matching import Matched, Run, node
from schedule_zero.testbed.verdicts import Report, Verdict

OVER = frozenset(state.value for state in TERMINAL)
FOREVER_NS = 1 << 63
# What a schedule is after it: there or not, and whether it fires.
PRESENCE = {Op.CREATE_SCHEDULE: True, Op.UPDATE_SCHEDULE: True, Op.DELETE_SCHEDULE: False}
FIRING = {Op.PAUSE_SCHEDULE: "paused", Op.RESUME_SCHEDULE: "active"}


def check_requests(m: Matched, report: Report) -> None:
    """Everything that is to be said of the clients' history."""
    gone = _submissions(m, report)
    if gone:
        report.note(f"{gone} acknowledged executions are not there; retention or an operator removed {m.final.removed}")
    _marks(m, report)
    _schedules(m, report)
    _observations(m, report)
    _cancels(m, report)
    _groups(m, report)


def of_op(m: Matched, *ops: Op) -> Iterator[Call]:
    """The calls of these kinds, as they began."""
    return (call for call in m.calls if call.op in ops)


def told(call: Call, name: str, kind: type, where: dict[str, Any] | None = None) -> Any:
    """A field of a call's answer (or of ``where``). BadEvidence: it isn't there, or is of another kind."""
    value = (call.answer if where is None else where).get(name)
    if not isinstance(value, kind):
        side = "answer" if where is None else "args"
        raise BadEvidence(
            f"the history's {call.op.value} at {call.from_us}: "
            f"expected {side}.{name} of type {kind.__name__}, got {value!r}"
        )
    return value


# --- executions -----------------------------------------------------------------------------------------


def _submissions(m: Matched, report: Report) -> int:
    """Each execution that was acknowledged is there. Returns how many are not, but may have been removed."""
    gone: list[tuple[Call, str]] = []
    answers: dict[str, list[str]] = {}
    for call in of_op(m, Op.SUBMIT):
        if call.phase is not Phase.OK:
            continue
        ids = told(call, "ids", list)
        report.look("C4", len(ids))
        gone += [(call, id_) for id_ in ids if id_ not in m.rows]
        key = call.args.get("key")
        if key is not None and answers.setdefault(key, ids) != ids:
            said = "two requests with one Idempotency-Key were answered differently"
            report.found("C4", Verdict.DUPLICATE, f"request {key}", said, ids=[answers[key][:5], ids[:5]])
    if len(gone) <= m.final.removed:
        return len(gone)
    for call, id_ in gone:
        said = "it was acknowledged, and is not in the store"
        report.found("C4", Verdict.LOST_REQUEST, f"execution {id_}", said, acknowledged_us=call.to_us)
    return 0


def _marks(m: Matched, report: Report) -> None:
    """What clients marked (``mark`` is the jobs' own idempotency key) is there as often as they were told."""
    by_mark: dict[str, list[Call]] = {}
    for call in of_op(m, Op.SUBMIT):
        if call.args.get("mark") is not None:
            by_mark.setdefault(told(call, "mark", str, call.args), []).append(call)
    if not by_mark:
        return
    made: dict[str, int] = {}
    for row in m.final.executions:
        if row.idempotency_key in by_mark and row.origin != "retry":
            made[row.idempotency_key] = made.get(row.idempotency_key, 0) + 1
    report.look("C4", len(by_mark))
    for mark, calls in by_mark.items():
        wanted, there = told(calls[0], "count", int, calls[0].args), made.get(mark, 0)
        subject = f"request {mark}"
        phases = {call.phase for call in calls}
        if there > wanted:
            report.found("C4", Verdict.DUPLICATE, subject, f"{wanted} executions were asked for, {there} are there")
        elif phases == {Phase.FAIL} and there:
            report.found("C4", Verdict.REFUSED_DONE, subject, f"it was refused, and {there} executions are there")
        elif there < wanted and not m.final.removed and (there or Phase.OK in phases):
            verdict = Verdict.LOST_REQUEST if Phase.OK in phases else Verdict.REFUSED_DONE
            report.found("C4", verdict, subject, f"it was for {wanted} executions, {there} are there: half of it")


def _groups(m: Matched, report: Report) -> None:
    """A group has all its members, and its counts are theirs."""
    members: dict[str, dict[str, int]] = {}
    for row in m.final.executions:
        if row.group_id is not None:
            states = members.setdefault(row.group_id, {})
            states[row.state] = states.get(row.state, 0) + 1
    report.look("C4", len(m.final.groups))
    for group in m.final.groups:
        states = members.get(group.id, {})
        there, over = sum(states.values()), sum(n for state, n in states.items() if state in OVER)
        counted = group.completed + group.failed + group.cancelled
        subject = f"group {group.id}"
        if m.final.removed:
            continue
        if there != group.total:
            said = f"it has {group.total} members, {there} are there"
            report.found("C4", Verdict.LOST_REQUEST if there < group.total else Verdict.DUPLICATE, subject, said)
        elif counted != over or group.completed != states.get("completed", 0):
            said = f"it says {group.completed} completed of {counted} that are over; its members say otherwise"
            report.found("C7", Verdict.UNBALANCED, subject, said, members=states)
        elif (group.state == "running") != (over < group.total):
            said = f"it says {group.state}, and {over} of {group.total} members are over"
            report.found("C7", Verdict.UNBALANCED, subject, said)


# --- schedules ------------------------------------------------------------------------------------------


def _schedules(m: Matched, report: Report) -> None:
    """Each schedule is, in the end, what one of the calls that may have been the last has made it."""
    calls: dict[str, list[Call]] = {}
    for call in of_op(m, *PRESENCE, *FIRING):
        if call.phase is not Phase.FAIL:
            calls.setdefault(told(call, "id", str, call.args), []).append(call)
    there = {row.schedule.id: row.schedule for row in m.final.schedules}
    refused = {call.args.get("id") for call in of_op(m, Op.CREATE_SCHEDULE) if call.phase is Phase.FAIL} - calls.keys()
    for id_ in refused & there.keys():
        report.found("C4", Verdict.REFUSED_DONE, f"schedule {id_}", "creating it was refused, and it is there")
    for id_, mine in calls.items():
        report.look("C4")
        present = {PRESENCE[call.op] for call in _last(mine, PRESENCE)}
        if all(call.phase is not Phase.OK for call in mine if call.op in PRESENCE):
            present.add(False)
        if (id_ in there) not in present:
            verdict = Verdict.REVIVED if id_ in there else Verdict.LOST_REQUEST
            said = "it was deleted, and is there" if id_ in there else "it was acknowledged, and is not there"
            report.found("C4", verdict, f"schedule {id_}", said, calls=[call.op.value for call in mine[-5:]])
            continue
        if id_ in there:
            _version(there[id_], mine, report)
        # Creating or replacing it may say either.
        last = _last(mine, {**FIRING, Op.CREATE_SCHEDULE: "", Op.UPDATE_SCHEDULE: "", Op.DELETE_SCHEDULE: ""})
        if id_ not in there or any(call.op not in FIRING for call in last):
            continue
        state, note = there[id_].state.value, there[id_].note
        # It may have finished since, or have been paused by its own failures, which its note says.
        if {FIRING[call.op] for call in last} == {"paused"} and state == "active":
            report.found("C4", Verdict.LOST_REQUEST, f"schedule {id_}", "it was paused, and is active")
        if {FIRING[call.op] for call in last} == {"active"} and state == "paused" and not note:
            report.found("C4", Verdict.LOST_REQUEST, f"schedule {id_}", "it was resumed, and is paused")


def _version(row: Schedule, calls: Sequence[Call], report: Report) -> None:
    """No version that a client was told of is gone, with what it said."""
    answers = [call.answer for call in calls if call.phase is Phase.OK and "version" in call.answer]
    newest = max(((answer.get("generation", 0), answer["version"]) for answer in answers), default=(0, 0))
    if newest > (row.generation, row.version):
        there = f"it has version {row.version} of generation {row.generation}"
        said = f"version {newest[1]} of generation {newest[0]} was acknowledged, and {there}"
        report.found("C4", Verdict.LOST_REQUEST, f"schedule {row.id}", said)


def _last(calls: Sequence[Call], ops: dict[Op, Any]) -> list[Call]:
    """Those of these ops that may have been the last to take effect."""
    mine = [call for call in calls if call.op in ops]
    sure = [call.from_ns for call in mine if call.phase is Phase.OK]
    newest_ns = max(sure, default=0)
    return [call for call in mine if call.phase is not Phase.OK or (call.to_ns or FOREVER_NS) >= newest_ns]


# --- what was seen and what was ended ---------------------------------------------------------------------


def _observations(m: Matched, report: Report) -> None:
    """Who has seen an end has seen the end."""
    for call in of_op(m, Op.OBSERVE):
        if call.phase is not Phase.OK:
            continue
        id_, state = told(call, "id", str, call.args), told(call, "state", str)
        row = m.rows.get(id_)
        report.look("C4")
        if row is None:
            if not m.final.removed:
                said = f"it was seen {state}, and is not in the store"
                report.found("C4", Verdict.LOST_REQUEST, f"execution {id_}", said)
        elif state in OVER:
            report.look("C21")
            if row.state != state:
                said = f"it was seen {state}, and is {row.state}"
                report.found("C21", Verdict.REVIVED, f"execution {id_}", said)
            elif call.answer.get("result") not in (None, row.result):
                said = "its result was seen to be another one"
                report.found("C7", Verdict.WRONG_RESULT, f"execution {id_}", said, token=row.token)


def _cancels(m: Matched, report: Report) -> None:
    """A cancel that was confirmed leads to one end, and nothing begins after it."""
    report.look("C21", len(m.final.executions))
    for id_ in dict.fromkeys(m.final.ended_again):
        report.found("C21", Verdict.REVIVED, f"execution {id_}", "it ended twice, by the journal")
    for id_ in dict.fromkeys(m.final.revived):
        report.found("C21", Verdict.REVIVED, f"execution {id_}", "it went on after its end, by the journal")
    for call in of_op(m, Op.CANCEL):
        if call.phase is not Phase.OK:
            continue
        id_, outcome = told(call, "id", str, call.args), told(call, "outcome", str)
        row, subject = m.rows.get(id_), f"execution {id_}"
        if row is None:
            continue
        state = call.answer.get("state")
        if outcome == "cancelled" and row.state != "cancelled":
            said = f"its cancel was confirmed, and it is {row.state}"
            report.found("C21", Verdict.REVIVED, subject, said)
        elif outcome == "terminal" and state is not None and state != row.state:
            report.found("C21", Verdict.REVIVED, subject, f"its cancel found it {state}, and it is {row.state}")
        elif row.state not in OVER and m.terms.settled:
            report.found("C21", Verdict.NOT_OVER, subject, f"its cancel was confirmed, and it is {row.state}")
        if outcome in ("cancelled", "requested"):
            for run in m.runs.get(id_, ()):
                if _too_late(m, call, outcome, run):
                    said = f"attempt {run.token} began after its cancel had been confirmed"
                    report.found("C21", Verdict.REVIVED, subject, said, confirmed_us=call.to_us, began_us=run.start_us)


def _too_late(m: Matched, call: Call, outcome: str, run: Run) -> bool:
    """Whether a run began after its cancel, with no way to know of none."""
    if call.to_ns is None or call.to_us is None or run.start_ns <= call.to_ns:
        return False
    if outcome == "cancelled":
        return True
    # It had been given to its node, which hears of the cancel as soon as it can be told.
    told_ns = call.to_ns + m.late_us * 1000
    return run.start_ns > told_ns and not m.trouble.any(call.to_us, run.start_us, SERVER, node(run.node_id))
