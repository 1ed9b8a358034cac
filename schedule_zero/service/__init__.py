"""What a user can do, one verb each: validates, checks that it makes sense, writes once, and only then acknowledges.

The web layer calls nothing below this. Authorisation by role stands in the route table; here a principal is
only recorded. Every verb is one transaction.
"""

from __future__ import annotations

from msgspec import Struct

from schedule_zero.service.access import AccessService
from schedule_zero.service.audit import AuditService
from schedule_zero.service.backfills import BackfillService
from schedule_zero.service.batches import BatchService
from schedule_zero.service.bed_runs import BedRunService
from schedule_zero.service.calendars import CalendarService
from schedule_zero.service.changes import ChangeService
from schedule_zero.service.dead_letters import DeadLetterService
from schedule_zero.service.executions import ExecutionService
from schedule_zero.service.explain import ExplainService
from schedule_zero.service.finding import FindingService
from schedule_zero.service.foreseen import ForeseenService
from schedule_zero.service.foresight import ForesightService
from schedule_zero.service.freezes import FreezeService
from schedule_zero.service.groups import GroupService
from schedule_zero.service.installation import InstallationService
from schedule_zero.service.jobs import JobService
from schedule_zero.service.ledger import LedgerService
from schedule_zero.service.logs import LogService
from schedule_zero.service.overview import OverviewService
from schedule_zero.service.schedule_bulk import ScheduleBulk
from schedule_zero.service.schedule_views import ScheduleViews
from schedule_zero.service.schedules import ScheduleService
from schedule_zero.service.search import SearchService
from schedule_zero.service.series import SeriesService
from schedule_zero.service.sessions import SessionService
from schedule_zero.service.specs import (
    ExecutionView,
    IdemKey,
    PreviewSpec,
    Principal,
    RunNow,
    ScheduleSpec,
    SchedulesWritten,
    SubmitItem,
    Submitted,
)
from schedule_zero.service.system import SystemService
from schedule_zero.service.versions import VersionService
from schedule_zero.service.views import ViewService

__all__ = [
    "ExecutionView",
    "IdemKey",
    "PreviewSpec",
    "Principal",
    "RunNow",
    "ScheduleSpec",
    "SchedulesWritten",
    "Service",
    "SubmitItem",
    "Submitted",
]


class Service(Struct, frozen=True, kw_only=True):
    """The verbs by noun."""

    executions: ExecutionService
    search: SearchService
    batches: BatchService
    views: ViewService
    logs: LogService
    groups: GroupService
    dead_letters: DeadLetterService
    jobs: JobService
    schedules: ScheduleService
    schedule_views: ScheduleViews
    schedule_bulk: ScheduleBulk
    ledger: LedgerService
    audits: AuditService
    explain: ExplainService
    versions: VersionService
    freezes: FreezeService
    backfills: BackfillService
    foresight: ForesightService
    finding: FindingService
    foreseen: ForeseenService
    series: SeriesService
    overview: OverviewService
    calendars: CalendarService
    access: AccessService
    sessions: SessionService
    changes: ChangeService
    system: SystemService
    installation: InstallationService
    bed_runs: BedRunService
