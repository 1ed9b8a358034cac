"""A month of a named calendar, ready to be shown: weeks of days with what covers them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta, tzinfo
from zoneinfo import ZoneInfo

from msgspec import Struct

from schedule_zero.clock import from_us
from schedule_zero.errors import InvalidField
from schedule_zero.service.calendar_days import CalendarDay

FIRST, LAST = date(1970, 1, 1), date(2099, 12, 1)
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SHOWN = 3


class Month(Struct, frozen=True):
    """A month, with the whole weeks around it."""

    first: date

    @property
    def span(self) -> tuple[date, int]:
        """The Monday on or before its first day, and how many days to the Sunday on or after its last."""
        start = self.first - timedelta(days=self.first.weekday())
        last = self.after.first - timedelta(days=1)
        return start, (last - start).days + 7 - last.weekday()

    @property
    def after(self) -> Month:
        return Month((self.first + timedelta(days=31)).replace(day=1))

    @property
    def before(self) -> Month:
        return Month((self.first - timedelta(days=1)).replace(day=1))


class DayView(Struct, frozen=True):
    """One cell."""

    day: date
    in_month: bool
    is_today: bool
    # Why it is no business day.
    why_off: str | None
    # What covers a part of it: ``22:00–24:00 maintenance``.
    parts: list[str]
    more: bool


class MonthView(Struct, frozen=True):
    title: str
    weeks: list[list[DayView]]
    # Addresses' words for the months beside it; "" where there is none.
    before: str
    after: str


def month_of(text: str | None, zone: ZoneInfo, now_us: int) -> Month:
    """The month that is meant: ``2026-12``, or the present one. InvalidField."""
    if text is None:
        return Month(from_us(now_us).astimezone(zone).date().replace(day=1))
    try:
        first = date.fromisoformat(f"{text}-01")
    except ValueError:
        raise InvalidField(f"expected a month such as 2026-12, got {text!r}", parameter="month") from None
    if not FIRST <= first <= LAST:
        raise InvalidField(f"expected a month from 1970-01 to 2099-12, got {text!r}", parameter="month")
    return Month(first)


def month_view(month: Month, days: Sequence[CalendarDay], zone: tzinfo, now_us: int) -> MonthView:
    """The cells of a month; ``days`` are those of its span."""
    today = from_us(now_us).astimezone(zone).date()
    cells = [_cell(day, month, zone, today) for day in days]
    before, after = month.before.first, month.after.first
    return MonthView(
        title=f"{month.first:%B %Y}",
        weeks=[cells[at : at + 7] for at in range(0, len(cells), 7)],
        before=f"{before:%Y-%m}" if before >= FIRST else "",
        after=f"{after:%Y-%m}" if after <= LAST else "",
    )


def _cell(day: CalendarDay, month: Month, zone: tzinfo, today: date) -> DayView:
    parts = []
    for window in day.windows:
        start_us, end_us = max(window.start_us, day.start_us), min(window.end_us, day.end_us)
        whole = start_us == day.start_us and end_us == day.end_us
        if whole and day.why_off is not None:
            # Said already.
            continue
        from_ = f"{from_us(start_us).astimezone(zone):%H:%M}"
        to = "24:00" if end_us == day.end_us else f"{from_us(end_us).astimezone(zone):%H:%M}"
        parts.append(f"{from_}–{to} {window.label}".strip())
    return DayView(
        day=day.day,
        in_month=(day.day.year, day.day.month) == (month.first.year, month.first.month),
        is_today=day.day == today,
        why_off=day.why_off,
        parts=parts[:SHOWN],
        more=day.more or len(parts) > SHOWN,
    )
