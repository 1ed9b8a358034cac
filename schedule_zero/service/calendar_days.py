"""What a named calendar says about days, one after the other: for people who look at a month of it."""

from __future__ import annotations

from datetime import date, datetime, time
from itertools import islice
from zoneinfo import ZoneInfo

from msgspec import Struct

from schedule_zero.clock import to_us
from schedule_zero.timing.calendars import CalendarWindow, NamedCalendar
from schedule_zero.timing.walltime import day_number, from_day_number

# Windows that are told of one day.
MOST_OF_A_DAY = 20


class CalendarDay(Struct, kw_only=True):
    """One day in the calendar's zone: why it is no business day (None: it is one), and what covers some of it."""

    day: date
    start_us: int
    end_us: int
    why_off: str | None
    windows: list[CalendarWindow]
    # There are more windows than these.
    more: bool


def days_of(calendar: NamedCalendar, first: date, count: int) -> list[CalendarDay]:
    """``count`` days from ``first`` on. May compute for a while: not for the event loop."""
    days = []
    for number in range(day_number(first), day_number(first) + count):
        start_us, end_us = _bounds(calendar.zone, number)
        found = list(islice(calendar.iter_windows(start_us, end_us), MOST_OF_A_DAY + 1))
        days.append(
            CalendarDay(
                day=from_day_number(number),
                start_us=start_us,
                end_us=end_us,
                why_off=calendar.day_off(number),
                windows=found[:MOST_OF_A_DAY],
                more=len(found) > MOST_OF_A_DAY,
            )
        )
    return days


def _bounds(zone: ZoneInfo, number: int) -> tuple[int, int]:
    """From midnight to midnight on the wall of the zone (of a day without a midnight, from where it begins)."""
    starts = [datetime.combine(from_day_number(day), time.min, zone) for day in (number, number + 1)]
    return to_us(starts[0]), to_us(starts[1])
