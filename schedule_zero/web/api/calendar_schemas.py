"""What the API takes about named calendars: shapes and bounds. What the values mean, ``calendar_parse`` checks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from schedule_zero.web.api.schemas import DEFAULT_LIMIT, Body, Cursor, Limit, Moment, Query
from schedule_zero.wire.messages import Name

Label = Annotated[str, Meta(max_length=200, description="What it is called in the ledger.")]
Day = Annotated[str, Meta(description="`2026-12-24`.", examples=["2026-12-24"])]
TimeOfDay = Annotated[str, Meta(description="`22:00`, on the wall of the calendar's zone.", examples=["22:00"])]
Ical = Annotated[
    str,
    Meta(max_length=1 << 20, description="The text of an iCalendar file (RFC 5545). Only what bears on time is kept."),
]


Subdivision = Annotated[str, Meta(max_length=200, description="ISO 3166-2, without the country: `BE`.")]
Categories = Annotated[
    list[str], Meta(max_length=20, description="`public` unless said. Which ones there are depends on the country.")
]


class HolidaysEntry(Body, frozen=True, kw_only=True, omit_defaults=True):
    """The public holidays of a country, or of a part of it."""

    country: Annotated[str, Meta(max_length=200, description="ISO 3166: `DE`.", examples=["DE"])]
    subdivision: Subdivision | None = None
    categories: Categories | None = None


class DateRange(Body, frozen=True, kw_only=True, omit_defaults=True):
    """Own dates, from one to the other, both included."""

    from_: Day = field(name="from")
    to: Day | None = None
    label: Label | None = None


class WeeklyEntry(Body, frozen=True, kw_only=True, omit_defaults=True):
    """The same hours on days of every week: the whole day without `from` and `to`, overnight if `to` is earlier."""

    days: Annotated[list[str], Meta(min_length=1, max_length=50, description="`MON` … `SUN`.")]
    from_: TimeOfDay | None = field(name="from", default=None)
    to: TimeOfDay | None = None
    label: Label | None = None


class MonthlyEntry(Body, frozen=True, kw_only=True, omit_defaults=True):
    """The same hours on one day of every month that has it."""

    day: Annotated[int, Meta(ge=-31, le=31)] | Literal["last"]
    from_: TimeOfDay | None = field(name="from", default=None)
    to: TimeOfDay | None = None
    label: Label | None = None


class CronEntry(Body, frozen=True, kw_only=True, omit_defaults=True):
    """From each nominal time of a cron expression on, for a fixed time."""

    expression: Annotated[str, Meta(max_length=200)]
    duration_s: Annotated[int, Meta(ge=1, le=31 * 86_400)]
    label: Label | None = None


class CalendarDocument(Body, frozen=True, kw_only=True, omit_defaults=True):
    """A named calendar."""

    timezone: Annotated[str, Meta(max_length=200, description="IANA zone; UTC unless said.")] | None = None
    description: Annotated[str, Meta(max_length=500)] | None = None
    holidays: Annotated[list[HolidaysEntry], Meta(max_length=100)] | None = None
    dates: Annotated[list[str | DateRange], Meta(max_length=1000, description="Days, and ranges of days.")] | None = (
        None
    )
    weekly: Annotated[list[WeeklyEntry], Meta(max_length=100)] | None = None
    monthly: Annotated[list[MonthlyEntry], Meta(max_length=100)] | None = None
    cron: Annotated[list[CronEntry], Meta(max_length=20)] | None = None
    ical: Ical | None = None

    def document(self) -> dict[str, Any]:
        """As ``parse_calendar`` takes it."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        document.pop("name", None)
        return document


class CalendarBody(CalendarDocument, frozen=True, kw_only=True, omit_defaults=True):
    """A named calendar to be created."""

    name: Name


class ImportBody(Body, frozen=True, kw_only=True):
    """An iCalendar file for a calendar."""

    ical: Ical
    add: Annotated[
        bool, Meta(description="Keep the events that are there, but those that are in the new file, too.")
    ] = False


class CalendarsQuery(Query, frozen=True, kw_only=True):
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | UnsetType = UNSET


class WindowsQuery(Query, frozen=True, kw_only=True):
    from_: Annotated[Moment, Meta(description="Now unless said.")] | UnsetType = field(name="from", default=UNSET)
    to: Annotated[Moment, Meta(description="A year later unless said; at most five.")] | UnsetType = UNSET
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | UnsetType = UNSET


class CheckQuery(Query, frozen=True, kw_only=True):
    at: Annotated[Moment, Meta(description="Now unless said.")] | UnsetType = UNSET


class CalendarVersionsQuery(Query, frozen=True, kw_only=True):
    version: Annotated[int, Meta(ge=1, le=2**53, description="This one only, with its document.")] | UnsetType = UNSET
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | UnsetType = UNSET
