"""Named calendars as the API shows them."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Raw, UnsetType

from schedule_zero.model import Calendar, CalendarVersion, SkipReason
from schedule_zero.service.calendars import CalendarCheck, CalendarSummary
from schedule_zero.timing.calendars import CalendarWindow
from schedule_zero.web.api.records import Count, Moment, Record, moment, raw

Day = Annotated[str, Meta(extra_json_schema={"format": "date"})]

# --- shapes ---------------------------------------------------------------------------------------


class CalendarRecord(Record, kw_only=True):
    """One named calendar. ``document`` is what `PUT` takes, in its canonical form.

    ``warnings``, only after a write: what may not be meant as it is, such as a file that covers nothing.
    """

    name: str
    version: int
    created_at: Moment
    updated_at: Moment
    document: Annotated[Raw, Meta(extra_json_schema={"type": "object"})]
    warnings: list[str] | UnsetType = UNSET


class CalendarSummaryRecord(Record, kw_only=True):
    """A calendar as lists show it: how many ``entries`` of each kind it has (`ical`: events)."""

    name: str
    version: int
    created_at: Moment
    updated_at: Moment
    timezone: str
    description: str
    entries: dict[str, int]


class CalendarPage(Record, kw_only=True):
    """``count`` is that of all calendars, not of this page."""

    calendars: list[CalendarSummaryRecord]
    count: Count
    limit: int
    next_cursor: str | None


class CalendarDeleted(Record, kw_only=True):
    status: str
    message: str
    name: str


class WindowRecord(Record, kw_only=True):
    """``[start, end)`` that the calendar covers."""

    start: Moment
    end: Moment
    reason: SkipReason
    label: str


class WindowPage(Record, kw_only=True):
    records: list[WindowRecord]
    limit: int
    next_cursor: str | None


class CheckRecord(Record, kw_only=True):
    """What the calendar says about one moment, and about its day in the calendar's zone."""

    at: Moment
    covered: bool
    # The window that counts, where several overlap.
    window: WindowRecord | None
    day: Day
    business_day: bool
    # Why it is not a business day.
    why: str | None
    next_business_day: Day | None


class CalendarVersionRecord(Record, kw_only=True):
    """What the calendar was from ``from_time`` on, until the next version. ``document`` only if one was asked for."""

    name: str
    version: int
    from_time: Moment
    deleted: bool
    document: Raw


class CalendarVersionPage(Record, kw_only=True):
    records: list[CalendarVersionRecord]
    limit: int
    next_cursor: str | None


# --- making them ------------------------------------------------------------------------------------


def calendar_record(calendar: Calendar, warnings: list[str] | None = None) -> CalendarRecord:
    return CalendarRecord(
        name=calendar.name,
        version=calendar.version,
        created_at=moment(calendar.created_us),
        updated_at=moment(calendar.updated_us),
        document=Raw(calendar.document),
        warnings=warnings or UNSET,
    )


def summary_record(summary: CalendarSummary) -> CalendarSummaryRecord:
    return CalendarSummaryRecord(
        name=summary.name,
        version=summary.version,
        created_at=moment(summary.created_us),
        updated_at=moment(summary.updated_us),
        timezone=summary.timezone,
        description=summary.description,
        entries=summary.entries,
    )


def window_record(window: CalendarWindow) -> WindowRecord:
    return WindowRecord(
        start=moment(window.start_us), end=moment(window.end_us), reason=window.reason, label=window.label
    )


def check_record(check: CalendarCheck) -> CheckRecord:
    following = check.next_business_day
    return CheckRecord(
        at=moment(check.at_us),
        covered=check.window is not None,
        window=None if check.window is None else window_record(check.window),
        day=check.day.isoformat(),
        business_day=check.business_day,
        why=check.why,
        next_business_day=None if following is None else following.isoformat(),
    )


def version_record(version: CalendarVersion) -> CalendarVersionRecord:
    return CalendarVersionRecord(
        name=version.name,
        version=version.version,
        from_time=moment(version.from_us),
        deleted=version.deleted,
        document=raw(version.document),
    )
