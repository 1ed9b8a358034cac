"""A month of a named calendar, ready to be shown: weeks of days with what covers them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from msgspec import Struct

from schedule_zero.clock import from_us
from schedule_zero.service.calendar_days import CalendarDay
from schedule_zero.web.pages.days import Month

# Holidays are known up to then.
LAST = date(2099, 12, 1)
SHOWN = 3


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


def span(month: Month) -> tuple[date, int]:
    """The first day that is shown, and how many are."""
    weeks = month.grid
    return weeks[0][0], 7 * len(weeks)


def weeks(month: Month, days: Sequence[CalendarDay], now_us: int) -> list[list[DayView]]:
    """The cells of a month by its weeks; ``days`` are those of its span."""
    today = from_us(now_us).astimezone(month.zone).date()
    cells = [_cell(day, month, today) for day in days]
    return [cells[at : at + 7] for at in range(0, len(cells), 7)]


def _cell(day: CalendarDay, month: Month, today: date) -> DayView:
    parts, zone = [], month.zone
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
        in_month=day.day in month,
        is_today=day.day == today,
        why_off=day.why_off,
        parts=parts[:SHOWN],
        more=day.more or len(parts) > SHOWN,
    )
