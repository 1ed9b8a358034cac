"""Business-day moves against a walk from day to day."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedule_zero.clock import from_us, to_us
from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing import Trigger, parse_trigger, preview
from schedule_zero.timing.business import FARTHEST, MovedDays, moved
from schedule_zero.timing.calendar_parse import parse_calendar
from schedule_zero.timing.trigger import SpannedTrigger
from schedule_zero.timing.walltime import Days, Fold, Gap, Pattern, TimesOfDay, WallTimes, day_number, from_day_number

WORKS = parse_calendar(
    {
        "timezone": "Europe/Berlin",
        "holidays": [{"country": "DE", "subdivision": "BE"}],
        "weekly": [{"days": ["SAT", "SUN"]}],
        "dates": [{"from": "2026-12-24", "to": "2027-01-03", "label": "works holidays"}],
    },
    "works",
)


class Some(Days):
    """Days by name."""

    def __init__(self, *days: str) -> None:
        self._days = sorted(day_number(date.fromisoformat(day)) for day in days)

    def of_year(self, year: int) -> Sequence[int]:
        return [day for day in self._days if from_day_number(day).year == year]


def days_of(moved_days: Days, *years: int) -> list[str]:
    return [from_day_number(day).isoformat() for year in years for day in moved_days.of_year(year)]


def test_a_day_that_is_no_business_day_is_moved_to_the_one_after_or_before() -> None:
    days = Some("2026-11-21", "2026-11-24", "2026-12-25")

    assert days_of(MovedDays(days, WORKS.is_business_day, "next"), 2026) == ["2026-11-23", "2026-11-24"]
    assert days_of(MovedDays(days, WORKS.is_business_day, "next"), 2027) == ["2027-01-04"], "into the next year"
    assert days_of(MovedDays(days, WORKS.is_business_day, "previous"), 2026, 2027) == [
        "2026-11-20", "2026-11-24", "2026-12-23",
    ]  # fmt: skip


def test_days_that_are_moved_to_the_same_day_are_one() -> None:
    days = Some("2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23")

    assert days_of(MovedDays(days, WORKS.is_business_day, "next"), 2026) == ["2026-11-20", "2026-11-23"]


def test_a_day_without_a_business_day_near_is_left_out() -> None:
    start = day_number(date(2026, 6, 1))

    def closed_for(length: int) -> Callable[[int], bool]:
        return lambda day: not start <= day < start + length

    assert days_of(MovedDays(Some("2026-06-01"), closed_for(FARTHEST), "next"), 2026) == ["2026-07-02"]
    assert days_of(MovedDays(Some("2026-06-01"), closed_for(FARTHEST + 1), "next"), 2026) == []
    assert days_of(MovedDays(Some("2026-06-01"), closed_for(FARTHEST + 1), "previous"), 2026) == ["2026-05-31"]


@given(
    st.lists(st.dates(date(2025, 11, 1), date(2027, 3, 1)), max_size=20),
    st.sets(st.dates(date(2025, 9, 1), date(2027, 5, 1)), max_size=300),
    st.sampled_from(["next", "previous"]),
)
@settings(max_examples=100, deadline=None)
def test_moving_is_walking_from_day_to_day(days: list[date], closed: set[date], rule: Any) -> None:
    step = timedelta(days=1 if rule == "next" else -1)
    expected = set()
    for day in days:
        near = day
        while near in closed and abs(near - day).days <= FARTHEST:
            near += step
        if abs(near - day).days <= FARTHEST:
            expected.add(near.isoformat())

    found = MovedDays(Some(*{day.isoformat() for day in days}), lambda day: from_day_number(day) not in closed, rule)

    assert days_of(found, 2025, 2026, 2027) == sorted(expected)
    assert found.count(day_number(date(2025, 1, 1)), day_number(date(2027, 12, 31))) == len(expected)


def test_the_first_and_the_last_year_have_days() -> None:
    everyday = MovedDays(
        parse_trigger({"type": "cron", "expression": "@daily"}).times.pattern.days, lambda _: True, "next"
    )

    assert len(everyday.of_year(1970)) == 365
    assert len(everyday.of_year(9998)) == 365


# --- as a trigger ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Daily(SpannedTrigger):
    """At a time of the day on some days: as little of a trigger as can be moved."""

    days: Days
    hour: int
    zone: ZoneInfo

    @property
    def times(self) -> WallTimes:
        return WallTimes(Pattern(self.days, TimesOfDay([self.hour], [0], [0])), self.zone, Gap.SHIFT, Fold.FIRST)

    span = None  # type: ignore[assignment]

    def next_after(self, us: int) -> int | None:
        utc = self.times.next_after(us // 1_000_000, 4_000_000_000)
        return None if utc is None else utc * 1_000_000

    _next_after = _last_before = _count = document = words = None  # type: ignore[assignment]

    def with_days(self, change: Callable[[Days], Days]) -> Trigger:
        return Daily(change(self.days), self.hour, self.zone)


def test_a_moved_trigger_keeps_its_time_of_the_day() -> None:
    trigger = Daily(Some("2026-11-21", "2026-11-24", "2026-12-26"), 9, ZoneInfo("Europe/Berlin"))

    times = preview(moved(trigger, WORKS, "next"), to_us(datetime(2026, 11, 1, tzinfo=UTC)), 10)

    assert [from_us(us).isoformat() for us in times] == [
        "2026-11-23T08:00:00+00:00", "2026-11-24T08:00:00+00:00", "2027-01-04T08:00:00+00:00",
    ]  # fmt: skip


def test_a_trigger_without_days_is_refused() -> None:
    with pytest.raises(InvalidTrigger, match="cron, calendar, date"):
        moved(parse_trigger({"type": "interval", "seconds": 10}), WORKS, "next")
