"""Verdicts on nodes: dead ones are noticed, a name has one holder, a slow one slows no others (C8, C18, C19, C20)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import pairwise

from schedule_zero.job_options import Isolation
from schedule_zero.testbed.final import NodeEvent
from schedule_zero.testbed.history import SERVER, Fault, FaultKind, Op, Phase
from schedule_zero.testbed.losses import SILENT
from schedule_zero.testbed.matching import LOST, ONLINE, Matched, Run, node
from schedule_zero.testbed.requests import of_op, told
from schedule_zero.testbed.verdicts import Report, Verdict

SLOW = frozenset({FaultKind.STOP, FaultKind.NETWORK, FaultKind.PARTITION, FaultKind.PEER, FaultKind.DISK})
# From when a node counts as lost until that is told: 10 s of silence are noticed within 11 s.
NOTICE_S = 1.0
RELEASED = "node.released"
OUT_OF_SERVICE = frozenset({"node.cordoned", "node.drained", "node.quarantined"})
# Late starts that are looked into; they are rare where all is well.
MOST_LATE = 10_000


def check_nodes(m: Matched, report: Report) -> None:
    """Everything that is to be said of nodes."""
    _noticed(m, report)
    for node_id, mine in m.by_node.items():
        _one_holder(m, node_id, mine, report)
    _starts(m, report)
    _declared(m, report)


def _noticed(m: Matched, report: Report) -> None:
    """A node that was killed or stopped is told to be lost (or its successor to be there) in time."""
    if m.stepped(SERVER):
        report.note("the server's clock was set: how soon losses were noticed is not judged")
        return
    within_us = round((m.terms.lost_s + NOTICE_S) * 1e6)
    seen = {event.node_id for event in m.final.node_events}
    for fault in m.trouble.faults:
        target, _, node_id = fault.target.partition(":")
        if target != "node" or fault.fault not in SILENT or node_id not in seen:
            continue
        due_us = fault.begin_us + within_us
        back_us = m.until_us if fault.end_us is None else fault.end_us
        if back_us < due_us or m.until_us < due_us or m.trouble.any(fault.begin_us, due_us, SERVER):
            # It was back before it was due, or nobody was there to notice.
            continue
        report.look("C8")
        life = m.lives.get(node_id, [])
        first = bisect_left(life, fault.begin_us - m.margin_us, key=lambda event: event.at_us)
        since = [event.kind for event in life[first:] if event.at_us <= due_us]
        # It may be lost already, from what was done to it before, and not have been heard since.
        is_lost = not since and first > 0 and life[first - 1].kind == LOST
        if LOST not in since and not is_lost:
            said = f"it was gone, and not told to be lost within {within_us / 1e6:.1f} s"
            report.found("C8", Verdict.UNNOTICED, f"node {node_id}", said, begin_us=fault.begin_us)


def _one_holder(m: Matched, node_id: str, runs: list[Run], report: Report) -> None:
    """Once a new process has begun work under a name, the old one begins none."""
    report.look("C18")
    if len({run.pid for run in runs}) == 1:
        return
    current: int | None = None
    gone: set[int] = set()
    for run in runs:
        row = m.rows.get(run.execution_id)
        if row is None and m.final.removed:
            # It may have had a process of its own; that is not known any more.
            continue
        if row is not None and m.options(row).isolation is Isolation.PROCESS:
            continue
        if run.pid in gone:
            said = f"process {run.pid} began work after process {current} had taken over"
            report.found("C18", Verdict.DUPLICATE, f"node {node_id}", said, execution_id=run.execution_id)
            return
        if run.pid != current:
            if current is not None:
                gone.add(current)
            current = run.pid


# --- nobody waits beside an idle node ---------------------------------------------------------------------


def _starts(m: Matched, report: Report) -> None:
    """What waited longer than is right had no idle node to go to (C5), also while another one was slow (C20)."""
    if m.stepped(SERVER):
        return
    late: list[tuple[int, Run]] = []
    for several in m.runs.values():
        run = several[0]
        row = m.rows.get(run.execution_id)
        if row is None or not m.ledgered(row) or row.attempt != 1 or row.lane is not None or _is_stepped(m, run):
            continue
        due_us = max(row.created_us, row.not_before_us or 0)
        # (What was tried before has the time of its next attempt there.)
        first = row.not_before_us is not None and not m.attempts.get(row.id)
        if first and run.start_us < due_us - m.margin_us:
            said = f"it was begun {(due_us - run.start_us) / 1e6:.3f} s before its time"
            report.found("C5", Verdict.EARLY, f"execution {row.id}", said)
        report.look("C20")
        if run.start_us - due_us > m.late_us and _may_start(m, run):
            late.append((due_us, run))
    if not late:
        return
    idle = {node_id: _idle(mine) for node_id, mine in m.by_node.items() if not m.stepped(node(node_id))}
    events: dict[str, list[NodeEvent]] = {}
    for event in m.final.node_events:
        events.setdefault(event.node_id, []).append(event)
    for due_us, run in late[:MOST_LATE]:
        until_us = due_us + m.late_us
        if m.trouble.any(due_us - m.late_us, until_us, SERVER):
            continue
        for node_id, (begins, ends) in idle.items():
            at = bisect_right(begins, due_us) - 1
            if at < 0 or ends[at] < until_us or m.trouble.any(due_us - m.late_us, until_us, node(node_id)):
                continue
            if not _in_service(events.get(node_id, ()), due_us, until_us):
                continue
            slow = [fault for fault in m.trouble.faults if fault.fault in SLOW and _holds(fault, due_us)]
            said = f"it waited for {(run.start_us - due_us) / 1e6:.2f} s while node {node_id} had nothing to do"
            promise = "C20" if slow else "C5"
            report.found(promise, Verdict.LATE, f"execution {run.execution_id}", said, ran_on=run.node_id)
            break
    if len(late) > MOST_LATE:
        report.note(f"{len(late)} jobs began late; {MOST_LATE} of them were looked into")


def _is_stepped(m: Matched, run: Run) -> bool:
    return m.stepped(node(run.node_id))


def _in_service(events: Sequence[NodeEvent], from_us: int, to_us: int) -> bool:
    """Whether a node was given work all that time: it was not out of service (a cordon, a quarantine)."""
    is_there = is_given = True
    for event in events:
        if event.at_us > to_us:
            break
        if event.at_us >= from_us and not (is_there and is_given):
            return False
        if event.kind == RELEASED or event.kind in OUT_OF_SERVICE:
            # That holds for its next process, too.
            is_given = event.kind == RELEASED
        else:
            is_there = event.kind == ONLINE
    return is_there and is_given


def _may_start(m: Matched, run: Run) -> bool:
    """Whether nothing but a free node was missing: no limit, no turn to wait for."""
    row = m.rows[run.execution_id]
    options = m.options(row)
    unlimited = all(limit is None for limit in (options.max_instances, options.concurrency_key, options.rate_limit))
    return unlimited and options.weight == 1 and row.schedule_id is None and row.group_id is None


def _idle(runs: list[Run]) -> tuple[list[int], list[int]]:
    """From when to when a node did nothing at all, between two runs of one process (so it was there)."""
    begins: list[int] = []
    ends: list[int] = []
    open_: list[int] = []
    quiet_us: int | None = None
    pid = None
    for run in runs:
        if run.pid != pid:
            open_, quiet_us, pid = [], None, run.pid
        while open_ and open_[0] <= run.start_us:
            quiet_us = heappop(open_)
        if not open_ and quiet_us is not None:
            begins.append(quiet_us)
            ends.append(run.start_us)
        if run.end_us is None:
            # Nobody knows when it ended: nothing more is known of this process.
            heappush(open_, 1 << 63)
        else:
            heappush(open_, run.end_us)
    return begins, ends


def _holds(fault: Fault, us: int) -> bool:
    return fault.begin_us <= us and (fault.end_us is None or fault.end_us >= us)


# --- what nodes declared -------------------------------------------------------------------------------------


def _declared(m: Matched, report: Report) -> None:
    """A method has as many versions as it had different schemas, one after the other (C19)."""
    sure: dict[tuple[str, str], list[str]] = {}
    maybe: set[tuple[str, str]] = set()
    for call in of_op(m, Op.DECLARE):
        handler_id, methods = told(call, "handler_id", str, call.args), told(call, "methods", dict, call.args)
        for name, schema in methods.items():
            if call.phase is Phase.OK:
                sure.setdefault((handler_id, name), []).append(schema)
            elif call.phase is Phase.UNKNOWN:
                maybe.add((handler_id, name))
    versions = {(method.handler_id, method.name): method.version for method in m.final.methods}
    for key, schemas in sure.items():
        if key in maybe:
            continue
        report.look("C19")
        expected = 1 + sum(before != after for before, after in pairwise(schemas))
        found = versions.get(key)
        if found != expected:
            said = f"it has version {found}; its declarations make {expected}"
            report.found("C19", Verdict.UNBALANCED, f"method {key[0]}.{key[1]}", said)
