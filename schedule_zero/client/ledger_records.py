"""What the client gives back about the ledger: audits, explanations, versions. As in ``records``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import field

from schedule_zero.client.records import FireRecord, FreezeRecord, Record, ScheduleRecord
from schedule_zero.model import SkipReason, State


class AuditDetail(Record, frozen=True):
    """``count`` nominal times from ``from_`` to ``to`` that are ``missed``, ``duplicate`` or ``extra``."""

    kind: str
    from_: datetime = field(name="from")
    to: datetime
    count: int
    generation: int = 1


class AuditRecord(Record, frozen=True):
    """What was expected and what the ledger has, in nominal times from ``since`` to ``until``."""

    schedule_id: str
    since: datetime
    until: datetime
    expected: int
    recorded: int
    missed: int
    duplicate: int
    extra: int
    ok: bool
    exact: bool = True
    undecided_since: datetime | None = None
    details: list[AuditDetail] = field(default_factory=list)


class ExplainedExecution(Record, frozen=True):
    """What the fire's execution did; ``error`` is the type of its error."""

    id: str
    status: State
    node_id: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None


class ExplainedVersion(Record, frozen=True):
    """The version in force then; ``to`` is None while it is."""

    generation: int
    version: int
    from_: datetime = field(name="from")
    to: datetime | None = None
    by: str | None = None


class Outage(Record, frozen=True):
    """A time without a server; ``about``: when it began is known to a few seconds."""

    from_: datetime = field(name="from")
    to: datetime
    about: bool = False


class Explanation(Record, frozen=True):
    """Why a schedule ran, or did not run, at a moment."""

    schedule_id: str
    at: datetime
    sentence: str
    outcome: str
    timezone: str = "UTC"
    reason: SkipReason | None = None
    nominal_time: datetime | None = None
    fire: FireRecord | None = None
    execution: ExplainedExecution | None = None
    version: ExplainedVersion | None = None
    policy: dict[str, Any] = field(default_factory=dict)
    calendar: str | None = None
    outage: Outage | None = None
    freeze: FreezeRecord | None = None
    before: datetime | None = None
    after: datetime | None = None


class VersionRecord(Record, frozen=True):
    """A version of a schedule; ``changed`` is None where the one before it is not known."""

    generation: int
    version: int
    from_: datetime = field(name="from")
    to: datetime | None = None
    by: str | None = None
    ended_by: str | None = None
    deleted: bool = False
    changed: list[str] | None = None
    # Only where one version is asked for.
    schedule: ScheduleRecord | None = None


class Difference(Record, frozen=True):
    """``op`` is ``added``, ``removed`` or ``changed``; ``pointer`` a JSON pointer into the schedule."""

    op: str
    pointer: str
    before: Any = None
    after: Any = None


class Diff(Record, frozen=True):
    """What differs between two versions."""

    schedule_id: str
    generation: int
    from_: int = field(name="from")
    to: int
    changes: list[Difference]
