"""What the API says about the ledger: audits, explanations, versions."""

from __future__ import annotations

from msgspec import field

from schedule_zero.clock import rfc3339
from schedule_zero.rules.audit import FindingKind
from schedule_zero.service.audit import AuditReport, Detail
from schedule_zero.web.api.records import Count, Moment, Record

# --- shapes ---------------------------------------------------------------------------------------


class AuditDetail(Record, kw_only=True):
    """`count` nominal times from `from` to `to` that are not accounted for as they should be."""

    kind: FindingKind
    generation: int
    from_: Moment | None = field(name="from")
    to: Moment | None
    count: Count


class AuditRecord(Record, kw_only=True):
    """What was expected and what the ledger has, in nominal times from `since` to `until`, both included."""

    schedule_id: str
    # Later than asked for where more is not known (versions are kept since the upgrade), or would be too much.
    since: Moment | None
    until: Moment | None
    expected: Count
    recorded: Count
    # Without a row; with several; rows for what is no nominal time.
    missed: Count
    duplicate: Count
    extra: Count
    ok: bool
    # Every nominal time was looked at; otherwise their number.
    exact: bool
    # What is due, but not decided yet (all schedules are frozen, or the server is behind), is not expected yet.
    undecided_since: Moment | None
    details: list[AuditDetail]


# --- making them ------------------------------------------------------------------------------------


def audit_record(report: AuditReport) -> AuditRecord:
    tally = report.tally
    return AuditRecord(
        schedule_id=report.schedule_id,
        since=rfc3339(report.since_us),
        until=rfc3339(report.until_us),
        expected=tally.expected,
        recorded=tally.recorded,
        missed=tally.missed,
        duplicate=tally.duplicate,
        extra=tally.extra,
        ok=tally.ok,
        exact=tally.exact,
        undecided_since=rfc3339(report.undecided_us),
        details=[_detail(detail) for detail in report.details],
    )


def _detail(detail: Detail) -> AuditDetail:
    found = detail.finding
    return AuditDetail(
        kind=found.kind,
        generation=detail.generation,
        from_=rfc3339(found.from_us),
        to=rfc3339(found.to_us),
        count=found.count,
    )
