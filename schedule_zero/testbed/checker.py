"""The checker: four inputs, one report. After Jepsen's for Chronos, and stricter.

It believes the jobs' own ledger, the clients' history and the fault log; the store is what is judged. Each verdict
holds only what its inputs prove: where a fault, an unknown answer or a removed row leaves two possibilities, neither is
a violation. Read ``fires`` (C1–C3, C12), ``requests`` (C4, C21), ``attempts`` (C5–C7, C9–C11, C16, C22) and ``nodes``
(C8, C18–C20).
"""

from __future__ import annotations

from pathlib import Path

from schedule_zero.testbed.attempts import check_attempts, drained
from schedule_zero.testbed.final import FinalStore, load
from schedule_zero.testbed.fires import check_fires
from schedule_zero.testbed.history import Evidence, read_evidence
from schedule_zero.testbed.matching import Matched
from schedule_zero.testbed.nodes import check_nodes
from schedule_zero.testbed.requests import check_requests
from schedule_zero.testbed.verdicts import Report, Verdict


def check(evidence: Evidence, final: FinalStore) -> Report:
    """Judge a run. BadEvidence: an input contradicts itself, so that nothing can be said."""
    report = Report()
    m = Matched(evidence, final)
    for line in final.damage:
        report.found("C15", Verdict.DAMAGED, "the database", line)
    report.seen = {
        "calls": len(m.calls),
        "faults": len(m.trouble.faults),
        "ledger lines": m.lines,
        "executions": len(final.executions),
        "attempts": len(final.attempts),
        "fires": len(final.fires),
        "schedules": len(final.schedules),
    }
    check_fires(m, report)
    check_requests(m, report)
    check_attempts(m, report)
    drained(m, report)
    check_nodes(m, report)
    if m.final.removed:
        report.note(f"{m.final.removed} executions were removed before the end: what became of them is not known")
    return report


def check_folder(folder: Path, store: str | Path) -> Report:
    """Judge what a run left in its folder, and in its store (a file, a state directory, a ``postgresql://`` URL)."""
    return check(read_evidence(folder), load(store))
