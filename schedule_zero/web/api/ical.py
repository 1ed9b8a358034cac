"""Fires to come as an iCalendar document. Imported when the first feed is asked for: the library takes 0.2 s."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from icalendar import Calendar, Event

from schedule_zero.clock import from_us
from schedule_zero.model import Schedule

# How often a diary should look again.
REFRESH = timedelta(hours=1)


def calendar_of(name: str, coming: Sequence[tuple[Schedule, int]], now_us: int) -> bytes:
    """One entry without a length for each (schedule, nominal time)."""
    calendar = Calendar()
    calendar.add("prodid", "-//ScheduleZero//fires to come//EN")
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    calendar.add("x-wr-calname", name)
    calendar.add("refresh-interval", REFRESH, parameters={"value": "DURATION"})
    for row, nominal_us in coming:
        entry = Event()
        # The same fire is the same entry, whenever it is fetched.
        entry.add("uid", f"{row.id}/{row.generation}/{nominal_us}@schedule-zero")
        entry.add("dtstamp", from_us(now_us).replace(microsecond=0))
        entry.add("dtstart", from_us(nominal_us).replace(microsecond=0))
        entry.add("summary", row.id)
        entry.add("description", f"{row.handler_id}.{row.job_method}" + (f"\n{row.note}" if row.note else ""))
        entry.add("transp", "TRANSPARENT")
        calendar.add_component(entry)
    return bytes(calendar.to_ical())
