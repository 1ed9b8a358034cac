"""Nominal times worked out from a trigger's document alone, day by day, with nothing of the product's triggers.

A second opinion: the checker takes it where it can, so that a mistake in ``timing`` can't hide itself by being made
twice. It covers ``date``, ``interval`` at a fixed rate, and ``cron`` without ``H``, ``L``, ``W`` and ``#``; it is slow
and plain. Everything else is asked of the product's own triggers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from schedule_zero.clock import to_us

UNITS_S = {"weeks": 604_800, "days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
DAY = timedelta(days=1)
# Farther than this nobody looks for the next one.
FARTHEST_DAYS = 366 * 30
# Times of a day that are worked out one by one.
MOST_OF_A_DAY = 1440
LAST_DATE = date(9998, 12, 31)


class _NotPlain(Exception):
    """It says something that is not covered here."""


class PlainTimes(ABC):
    """Nominal times as sets of moments (``rules.catchup.NominalTimes``)."""

    @abstractmethod
    def next_after(self, us: int) -> int | None: ...

    @abstractmethod
    def last_before(self, us: int) -> int | None: ...

    def count(self, after_us: int, upto_us: int) -> int:
        """In ``(after_us, upto_us]``, one by one."""
        found, at_us = 0, self.next_after(after_us)
        while at_us is not None and at_us <= upto_us:
            found, at_us = found + 1, self.next_after(at_us)
        return found

    def reach(self, after_us: int, upto_us: int) -> int | None:  # noqa: ARG002  # as the protocol has it
        return None


class PlainDate(PlainTimes):
    def __init__(self, us: int) -> None:
        self._us = us

    def next_after(self, us: int) -> int | None:
        return self._us if us < self._us else None

    def last_before(self, us: int) -> int | None:
        return self._us if us > self._us else None


class PlainInterval(PlainTimes):
    def __init__(self, start_us: int, period_us: int, end_us: int | None) -> None:
        self._start_us, self._period_us, self._end_us = start_us, period_us, end_us

    def next_after(self, us: int) -> int | None:
        steps = 0 if us < self._start_us else (us - self._start_us) // self._period_us + 1
        found_us = self._start_us + steps * self._period_us
        return None if self._end_us is not None and found_us > self._end_us else found_us

    def last_before(self, us: int) -> int | None:
        if self._end_us is not None:
            us = min(us, self._end_us + 1)
        if us <= self._start_us:
            return None
        return self._start_us + (us - 1 - self._start_us) // self._period_us * self._period_us

    def count(self, after_us: int, upto_us: int) -> int:
        after_us = max(after_us, self._start_us - 1)
        upto_us = upto_us if self._end_us is None else min(upto_us, self._end_us)
        if upto_us <= after_us:
            return 0
        return (upto_us - self._start_us) // self._period_us - (after_us - self._start_us) // self._period_us


class PlainCron(PlainTimes):
    def __init__(self, document: dict[str, Any]) -> None:
        expression = document["expression"].lower()
        fields = ALIASES.get(expression, expression).split()
        if len(fields) == 5:
            fields.insert(0, "0")
        if len(fields) != 6:
            raise _NotPlain
        second, minute, hour, day, month, weekday = fields
        self._zone = ZoneInfo(document.get("timezone", "UTC"))
        by_real_time = minute.startswith("*") or hour.startswith("*")
        self._gap = document.get("dst_gap") or ("skip" if by_real_time else "shift")
        self._fold = document.get("dst_fold") or ("both" if by_real_time else "first")
        self._start_us, self._end_us = _moment(document.get("start")), _moment(document.get("end"))
        self._months = _values(month, 1, 12, MONTHS)
        self._days = _values(day, 1, 31)
        self._weekdays = {value % 7 for value in _values(weekday, 0, 7, WEEKDAYS)}
        self._either = not day.startswith("*") and not weekday.startswith("*")
        self._clock = [
            time(h, m, s)
            for h in sorted(_values(hour, 0, 23))
            for m in sorted(_values(minute, 0, 59))
            for s in sorted(_values(second, 0, 59))
        ]
        if len(self._clock) > MOST_OF_A_DAY:
            raise _NotPlain
        self._known: dict[date, Sequence[int]] = {}

    def next_after(self, us: int) -> int | None:
        if self._start_us is not None:
            us = max(us, self._start_us - 1)
        # A day early: the day of a moment depends on the offset, and its first times may be of the day before.
        day = self._day_of(us) - DAY
        for _ in range(FARTHEST_DAYS):
            if day > LAST_DATE:
                return None
            times = self._times(day)
            at = bisect_right(times, us)
            if at < len(times):
                return None if self._end_us is not None and times[at] > self._end_us else times[at]
            day += DAY
        return None

    def last_before(self, us: int) -> int | None:
        if self._end_us is not None:
            us = min(us, self._end_us + 1)
        day = self._day_of(us) + DAY
        for _ in range(FARTHEST_DAYS):
            times = self._times(day)
            at = bisect_right(times, us - 1)
            if at:
                return None if self._start_us is not None and times[at - 1] < self._start_us else times[at - 1]
            if day.year <= 1970:
                return None
            day -= DAY
        return None

    def _day_of(self, us: int) -> date:
        return datetime.fromtimestamp(us // 1_000_000, self._zone).date()

    def _times(self, day: date) -> Sequence[int]:
        known = self._known.get(day)
        if known is None:
            if len(self._known) > 2000:
                self._known.clear()
            known = self._known[day] = sorted(self._of_day(day)) if self._matches(day) else ()
        return known

    def _matches(self, day: date) -> bool:
        if day.month not in self._months:
            return False
        by_day, by_weekday = day.day in self._days, day.isoweekday() % 7 in self._weekdays
        return by_day or by_weekday if self._either else by_day and by_weekday

    def _of_day(self, day: date) -> set[int]:
        found: set[int] = set()
        for clock in self._clock:
            local = datetime.combine(day, clock)
            twice = [local.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
            real = [moment for moment in twice if moment.astimezone(self._zone).replace(tzinfo=None) == local]
            if not real:
                if self._gap == "shift":
                    found.add(to_us(self._after_gap(min(twice), max(twice))))
            elif len(set(real)) == 1 or self._fold == "first":
                found.add(to_us(min(real)))
            elif self._fold == "second":
                found.add(to_us(max(real)))
            else:
                found |= {to_us(moment) for moment in real}
        return found

    def _after_gap(self, low: datetime, high: datetime) -> datetime:
        """The moment between the two at which the offset changes, to the second."""
        before = low.astimezone(self._zone).utcoffset()
        while high - low > timedelta(seconds=1):
            middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
            if middle.astimezone(self._zone).utcoffset() == before:
                low = middle
            else:
                high = middle
        return high


def plain_times(trigger: bytes) -> PlainTimes | None:
    """From a stored trigger; None: it is not covered here."""
    document = msgspec.json.decode(trigger)
    try:
        if not isinstance(document, dict):
            return None
        if document.get("type") == "date":
            us = _moment(document["run_date"])
            return None if us is None else PlainDate(us)
        if document.get("type") == "interval":
            return _interval(document)
        if document.get("type") == "cron":
            return PlainCron(document)
    except _NotPlain:
        return None
    return None


def _interval(document: dict[str, Any]) -> PlainTimes | None:
    if document.get("anchor", "start") != "start":
        return None
    period_us = round(sum(document.get(unit, 0) * seconds for unit, seconds in UNITS_S.items()) * 1_000_000)
    period_us += round(document.get("milliseconds", 0) * 1000)
    return PlainInterval(_moment(document.get("start")) or 0, period_us, _moment(document.get("end")))


def _moment(text: str | None) -> int | None:
    return None if text is None else to_us(datetime.fromisoformat(text))


def _values(field: str, low: int, high: int, names: Sequence[str] = ()) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        if span == "*":
            first, last = low, high if high != 7 else 6
        elif "-" in span:
            first, last = (_value(end, low, names) for end in span.split("-", 1))
            if high == 7 and last == 0:
                last = 7
        else:
            first = _value(span, low, names)
            last = high if step else first
        if not step:
            step = "1"
        if not step.isdecimal() or not low <= first <= last <= high:
            raise _NotPlain
        found.update(range(first, last + 1, int(step)))
    return found


def _value(text: str, low: int, names: Sequence[str]) -> int:
    if text in names:
        return names.index(text) + low
    if not text.isdecimal():
        raise _NotPlain
    return int(text)
