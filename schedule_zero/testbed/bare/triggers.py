"""Our triggers as APScheduler's own, as somebody would write them who knows its manual, and its traps with moments.

So it gets a start in the zone of its cron, without microseconds: what it does otherwise is a finding of its own, and
would only hide what a scenario is about. What it has no trigger for is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from apscheduler.abc import Trigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger  # noqa: TID251 - it is what is tested here
from apscheduler.triggers.cron import CronTrigger  # noqa: TID251
from apscheduler.triggers.date import DateTrigger  # noqa: TID251
from apscheduler.triggers.interval import IntervalTrigger  # noqa: TID251
from msgspec import Struct

from schedule_zero.clock import from_us, to_us
from schedule_zero.errors import InvalidTrigger
from schedule_zero.testbed.nominal import UNITS_S

SECOND_US = 1_000_000
CRON_FIELDS = ("second", "minute", "hour", "day", "month", "day_of_week")


class Grid(Struct, frozen=True):
    """Where a trigger's nominal times lie: so many microseconds apart (0: there is one), counted from there."""

    from_us: int
    every_us: int

    def nominal_us(self, us: int) -> int:
        """The time on the grid that is meant. The stock SQL stores lose a microsecond now and then (a float)."""
        steps = round((us - self.from_us) / self.every_us) if self.every_us else 0
        meant_us = self.from_us + steps * self.every_us
        return meant_us if abs(us - meant_us) <= 1 else us


class Translated(Struct, frozen=True):
    trigger: Trigger
    grid: Grid


def translated(document: Any, *, zone: str | None, now_us: int) -> Translated:
    """Of one of our triggers. InvalidTrigger: there is no stock one that says the same."""
    if not isinstance(document, dict) or document.get("type") not in _KINDS:
        raise _refused(f"expected a trigger of type {', '.join(_KINDS)}", document)
    fields = {name: value for name, value in document.items() if name not in ("type", "timezone")}
    kind, known = _KINDS[document["type"]]
    if unknown := sorted(fields.keys() - known):
        raise _refused(f"a bare APScheduler has no {unknown[0]!r} in a trigger of type {document['type']}", document)
    try:
        return kind(fields, ZoneInfo(document.get("timezone") or zone or "UTC"), now_us)
    except (ValueError, TypeError, KeyError) as error:
        raise _refused(f"APScheduler does not take it ({type(error).__name__}: {error})", document) from None


def _date(fields: Mapping[str, Any], zone: ZoneInfo, _: int) -> Translated:
    moment = _moment(fields["run_date"], zone)
    return Translated(DateTrigger(moment), Grid(to_us(moment), 0))


def _interval(fields: Mapping[str, Any], zone: ZoneInfo, now_us: int) -> Translated:
    every_us = round(sum(fields.get(unit, 0) * seconds for unit, seconds in UNITS_S.items()) * SECOND_US)
    every_us += round(fields.get("milliseconds", 0) * 1000)
    # Ours is due an interval from now where no start is said, its own at once.
    start = _moment(fields["start"], zone) if "start" in fields else from_us(now_us + every_us)
    span: dict[str, Any] = {"end_time": _moment(fields["end"], zone)} if "end" in fields else {}
    trigger = IntervalTrigger(microseconds=every_us, start_time=start, **span)
    return Translated(trigger, Grid(to_us(start), every_us))


def _cron(fields: Mapping[str, Any], zone: ZoneInfo, now_us: int) -> Translated:
    start = _whole_second(_moment(fields["start"], zone) if "start" in fields else from_us(now_us))
    span: dict[str, Any] = {"start_time": start.astimezone(zone)}
    if "end" in fields:
        span["end_time"] = _moment(fields["end"], zone).astimezone(zone)
    if "expression" in fields:
        trigger = CronTrigger.from_crontab(fields["expression"], timezone=zone, **span)
    else:
        said = {name: fields[name] for name in CRON_FIELDS if name in fields}
        trigger = CronTrigger(**said, timezone=zone, **span)
    return Translated(trigger, Grid(0, SECOND_US))


def _calendar(fields: Mapping[str, Any], zone: ZoneInfo, now_us: int) -> Translated:
    at = time.fromisoformat(fields.get("at", "00:00"))
    span: dict[str, Any] = {"start_date": from_us(now_us).astimezone(zone).date()}
    span |= {name: date.fromisoformat(fields[name]) for name in ("start_date", "end_date") if name in fields}
    every = {unit: fields[unit] for unit in ("years", "months", "weeks", "days") if unit in fields}
    trigger = CalendarIntervalTrigger(**every, hour=at.hour, minute=at.minute, second=at.second, timezone=zone, **span)
    return Translated(trigger, Grid(0, SECOND_US))


_Kind = Callable[[Mapping[str, Any], ZoneInfo, int], Translated]
_SPAN = {"start", "end"}
_KINDS: dict[str, tuple[_Kind, set[str]]] = {
    "date": (_date, {"run_date"}),
    "interval": (_interval, {*UNITS_S, "milliseconds", *_SPAN}),
    "cron": (_cron, {"expression", *CRON_FIELDS, *_SPAN}),
    "calendar": (_calendar, {"years", "months", "weeks", "days", "at", "start_date", "end_date"}),
}


def _moment(said: Any, zone: ZoneInfo) -> datetime:
    """Unix seconds, or ISO 8601; without an offset in that zone."""
    if isinstance(said, int | float):
        return from_us(round(said * SECOND_US))
    moment = datetime.fromisoformat(said)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)).astimezone(UTC)


def _whole_second(moment: datetime) -> datetime:
    return moment if not moment.microsecond else moment.replace(microsecond=0) + timedelta(seconds=1)


def _refused(why: str, document: Any) -> InvalidTrigger:
    return InvalidTrigger(f"{why}; got {document}")
