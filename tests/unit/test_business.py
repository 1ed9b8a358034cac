"""Business-day moves against a walk from day to day."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from schedule_zero.timing.walltime import Days, day_number, from_day_number

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


def moments(trigger: Trigger, year: int) -> list[str]:
    start, end = to_us(datetime(year, 1, 1, tzinfo=UTC)), to_us(datetime(year + 1, 1, 1, tzinfo=UTC))
    found = [us for us in preview(trigger, start - 1, 500) if us < end]
    assert len(found) == trigger.count(start - 1, end - 1)
    return [from_us(us).astimezone(ZoneInfo("Europe/Berlin")).isoformat()[:16] for us in found]


@pytest.mark.parametrize(
    ("document", "rule", "expected"),
    [
        (
            {"type": "cron", "expression": "0 9 1 * *"},
            "next",
            "01-04 02-01 03-01 04-01 05-03 06-01 07-01 08-02 09-01 10-01 11-01 12-01",
        ),
        (
            {"type": "cron", "expression": "0 9 L * *"},
            "previous",
            "01-29 02-26 03-31 04-30 05-31 06-30 07-30 08-31 09-30 10-29 11-30 12-31",
        ),
        (
            {"type": "calendar", "months": 3, "at": "09:00", "start_date": "2027-01-01"},
            "next",
            "01-04 04-01 07-01 10-01",
        ),
        ({"type": "date", "run_date": "2027-03-28T09:00:00"}, "previous", "03-25"),
    ],
)
def test_a_moved_trigger_keeps_its_time_of_the_day(document: dict[str, Any], rule: Any, expected: str) -> None:
    trigger = parse_trigger({**document, "timezone": "Europe/Berlin"})

    found = moments(moved(trigger, WORKS, rule), 2027)

    assert found == [f"2027-{day}T09:00" for day in expected.split()]


def test_a_trigger_without_days_is_refused() -> None:
    with pytest.raises(InvalidTrigger, match="date, cron or calendar"):
        moved(parse_trigger({"type": "interval", "seconds": 10}), WORKS, "next")
