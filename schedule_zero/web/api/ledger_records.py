"""What the API says about the ledger: audits, explanations, versions."""

from __future__ import annotations

from typing import Any

from msgspec import field

from schedule_zero.clock import rfc3339
from schedule_zero.model import Execution, SkipReason, State
from schedule_zero.rules.audit import FindingKind
from schedule_zero.rules.changes import Op
from schedule_zero.rules.facts import Answer, Ruling
from schedule_zero.rules.story import error_of
from schedule_zero.service.audit import AuditReport, Detail
from schedule_zero.service.explain import Explanation
from schedule_zero.service.versions import VersionDiff, VersionView
from schedule_zero.web.api.records import Count, Moment, Record
from schedule_zero.web.api.schedule_records import (
    FireRecord,
    FreezeRecord,
    ScheduleRecord,
    fire_record,
    freeze_record,
    schedule_record,
)

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


class ExplainedExecution(Record, kw_only=True):
    """What the fire's execution did; `error` is the type of its error."""

    id: str
    status: State
    node_id: str | None
    started_at: Moment | None
    finished_at: Moment | None
    error: str | None


class ExplainedVersion(Record, kw_only=True):
    """The version of the schedule that was in force then; `to` is null while it is."""

    generation: int
    version: int
    from_: Moment | None = field(name="from")
    to: Moment | None
    by: str | None


class VersionRecord(Record, kw_only=True):
    """A version of a schedule. What the timer changes by itself (`state`, `note`, `skips`) is as it was at its end."""

    generation: int
    version: int
    from_: Moment | None = field(name="from")
    # Null: it is in force.
    to: Moment | None
    # Who made it, and who ended it; `deleted`: by deleting the schedule.
    by: str | None
    ended_by: str | None
    deleted: bool
    # The fields that it changed; null: the version before it is not known.
    changed: list[str] | None
    # Left out of lists.
    schedule: ScheduleRecord | None


class VersionPage(Record, kw_only=True):
    """Newest first."""

    records: list[VersionRecord]
    limit: int
    next_cursor: str | None


class DifferenceRecord(Record, kw_only=True):
    """`op` is `added`, `removed` or `changed`; `pointer` is a JSON pointer into the schedule."""

    op: Op
    pointer: str
    before: Any
    after: Any


class DiffRecord(Record, kw_only=True):
    """What differs between two versions."""

    schedule_id: str
    generation: int
    from_: int = field(name="from")
    to: int
    changes: list[DifferenceRecord]


class OutageRecord(Record, kw_only=True):
    """The server was not there. `about`: it was killed, so that `from` is known to a few seconds only."""

    from_: Moment | None = field(name="from")
    to: Moment | None
    about: bool


class ExplainRecord(Record, kw_only=True):
    """Why the schedule ran, or did not run, at a moment: in a sentence, and what it stands on."""

    schedule_id: str
    at: Moment | None
    # The zone of the schedule's trigger.
    timezone: str
    sentence: str
    outcome: Answer
    reason: SkipReason | None
    nominal_time: Moment | None
    fire: FireRecord | None
    execution: ExplainedExecution | None
    version: ExplainedVersion | None
    # The policies that decided.
    policy: dict[str, Any]
    # Which named calendar forbids it, and what in it.
    calendar: str | None
    outage: OutageRecord | None
    freeze: FreezeRecord | None
    # The nearest nominal times.
    before: Moment | None
    after: Moment | None


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


def explain_record(explanation: Explanation) -> ExplainRecord:
    facts, said = explanation.facts, explanation.said
    fire, outage = facts.fire, facts.outage
    by_calendar = fire is not None and fire.reason in (SkipReason.BLACKOUT, SkipReason.HOLIDAY)
    return ExplainRecord(
        schedule_id=explanation.schedule_id,
        at=rfc3339(facts.at_us),
        timezone=facts.zone or "UTC",
        sentence=said.sentence,
        outcome=said.answer,
        reason=said.reason,
        nominal_time=rfc3339(facts.nominal_us),
        fire=None if fire is None else fire_record(fire),
        execution=None if facts.execution is None else _execution(facts.execution),
        version=None if facts.ruling is None else _version(facts.ruling),
        policy=said.policy,
        calendar=fire.detail if fire is not None and by_calendar else facts.forbidden,
        outage=None
        if outage is None
        else OutageRecord(from_=rfc3339(outage.from_us), to=rfc3339(outage.to_us), about=outage.about),
        freeze=None if facts.freeze is None else freeze_record(facts.freeze),
        before=rfc3339(facts.before_us),
        after=rfc3339(facts.after_us),
    )


def _execution(execution: Execution) -> ExplainedExecution:
    error = error_of(execution)
    return ExplainedExecution(
        id=execution.id,
        status=execution.state,
        node_id=execution.node_id,
        started_at=rfc3339(execution.started_us),
        finished_at=rfc3339(execution.finished_us),
        error=None if error is None else error.type,
    )


def _version(ruling: Ruling) -> ExplainedVersion:
    row = ruling.schedule
    return ExplainedVersion(
        generation=row.generation,
        version=row.version,
        from_=rfc3339(ruling.from_us),
        to=rfc3339(ruling.to_us),
        by=row.updated_by,
    )


def version_record(view: VersionView, *, whole: bool = False) -> VersionRecord:
    ruling, row = view.ruling, view.ruling.schedule
    return VersionRecord(
        generation=row.generation,
        version=row.version,
        from_=rfc3339(ruling.from_us),
        to=rfc3339(ruling.to_us),
        by=row.updated_by,
        ended_by=ruling.ended_by,
        deleted=ruling.deleted,
        changed=view.changed,
        schedule=schedule_record(row) if whole else None,
    )


def diff_record(schedule_id: str, diff: VersionDiff) -> DiffRecord:
    return DiffRecord(
        schedule_id=schedule_id,
        generation=diff.generation,
        from_=diff.from_version,
        to=diff.to_version,
        changes=[
            DifferenceRecord(
                op=change.op,
                pointer=change.pointer,
                before=change.before,
                after=change.after,
            )
            for change in diff.differences
        ],
    )
