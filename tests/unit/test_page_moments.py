"""Moments as people type them, and months as calendars."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.clock import from_us, to_us
from schedule_zero.errors import InvalidField
from schedule_zero.service.schedule_views import MonthDay
from schedule_zero.store.fire_outcomes import Day
from schedule_zero.web.pages.days import Month, day_of, month_of
from schedule_zero.web.pages.moments import moment_us
from schedule_zero.web.pages.schedule_month import weeks as weeks_of

BERLIN = ZoneInfo("Europe/Berlin")
# 11:30 in Berlin.
NOW_US = to_us(datetime(2026, 11, 27, 10, 30, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("+2h", "2026-11-27 12:30:00"),
        ("+ 1h 30min", "2026-11-27 12:00:00"),
        ("-1d", "2026-11-26 10:30:00"),
        ("+1.5h", "2026-11-27 12:00:00"),
        ("now", "2026-11-27 10:30:00"),
        ("12:00", "2026-11-27 11:00:00"),
        # The next time that it is.
        ("9:00", "2026-11-28 08:00:00"),
        ("tomorrow 09:00", "2026-11-28 08:00:00"),
        ("Tomorrow at 09:00:30", "2026-11-28 08:00:30"),
        ("yesterday 18:15", "2026-11-26 17:15:00"),
        ("today", "2026-11-26 23:00:00"),
        ("2026-12-24 18:00", "2026-12-24 17:00:00"),
        # What a browser's field for a moment says.
        ("2026-12-24T18:00", "2026-12-24 17:00:00"),
        ("2026-12-24", "2026-12-23 23:00:00"),
        ("2026-12-24T18:00:00Z", "2026-12-24 18:00:00"),
        ("2026-12-24T18:00:00+05:00", "2026-12-24 13:00:00"),
    ],
)
def test_a_moment_is_read_as_it_is_said(text: str, utc: str) -> None:
    assert f"{from_us(moment_us(text, NOW_US, BERLIN, field='until')):%Y-%m-%d %H:%M:%S}" == utc


@pytest.mark.parametrize("text", ["", " ", "soon", "+2", "+2h x", "25:00", "2026-13-01", "+9999999999d", "1969-12-31"])
def test_what_is_no_moment_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(InvalidField, match=r"expected a moment such as \+2h") as refused:
        moment_us(text, NOW_US, BERLIN, field="until")
    assert refused.value.data["parameter"] == "until"


@given(st.text(max_size=40))
def test_whatever_is_typed_is_a_moment_or_refused(text: str) -> None:
    try:
        us = moment_us(text, NOW_US, BERLIN, field="at")
    except InvalidField:
        return
    assert us >= 0


def test_a_month_has_its_days_on_the_wall_of_its_zone() -> None:
    month = month_of("2026-03", NOW_US, BERLIN)

    bounds = month.bounds
    assert len(bounds) == 32
    assert from_us(bounds[0]).isoformat() == "2026-02-28T23:00:00+00:00"
    # The clock was set forward on the 29th.
    assert bounds[29] - bounds[28] == 23 * 3_600_000_000
    assert (month.title, month.beside(-1), month.beside(1)) == ("March 2026", "2026-02", "2026-04")


def test_the_calendar_says_what_each_day_brought_and_brings() -> None:
    month = month_of("", NOW_US, BERLIN)
    days = [MonthDay(past=Day()) for _ in month.days]
    days[25] = MonthDay(past=Day(executed=1300, failed=2, skipped=3, more=True))
    days[26] = MonthDay(past=Day(executed=1), to_come=5, left_out=1)

    weeks = weeks_of(month, days, NOW_US)

    assert [len(week) for week in weeks] == [7] * 6
    assert weeks[0] == [None] * 6 + [weeks[0][6]]
    thursday, friday = weeks[4][3], weeks[4][4]
    assert thursday is not None
    assert friday is not None
    assert thursday.words == "26 November: 2 failed, 1,298 ran, 3 skipped and more"
    assert friday.words == "27 November: 1 ran, 5 to come, 1 to come, left out"
    assert (thursday.today, thursday.past, friday.today, friday.past) == (False, True, True, True)
    assert not weeks[4][5].past  # type: ignore[union-attr]


@pytest.mark.parametrize("month", ["2026-00", "0000-01", "1969-12", "9999-01"])
def test_a_month_that_there_is_not_is_refused(month: str) -> None:
    with pytest.raises(InvalidField, match="expected a month from 1970-01 to 9998-12"):
        month_of(month, NOW_US, BERLIN)


def test_the_first_and_the_last_month_lead_nowhere_else() -> None:
    assert month_of("1970-01", NOW_US, BERLIN).beside(-1) == ""
    assert month_of("9998-12", NOW_US, BERLIN).beside(1) == ""


def test_a_month_after_the_last_one_that_can_be_shown_is_neither_offered_nor_taken() -> None:
    last = date(2099, 12, 1)

    assert month_of("2099-12", NOW_US, BERLIN, last=last).beside(1) == ""
    assert month_of("2099-11", NOW_US, BERLIN, last=last).beside(1) == "2099-12"
    with pytest.raises(InvalidField, match="from 1970-01 to 2099-12, got '2100-01'"):
        month_of("2100-01", NOW_US, BERLIN, last=last)


@pytest.mark.parametrize("year", [1970, 2026, 2027, 2099, 9998])
def test_the_weeks_of_a_month_are_whole_and_hold_each_of_its_days_once(year: int) -> None:
    for number in range(1, 13):
        month = Month(date(year, number, 1), BERLIN)

        shown = [day for week in month.grid for day in week]

        assert {len(week) for week in month.grid} == {7}
        assert shown == sorted(set(shown))
        assert [day for day in shown if day.month == number] == month.days
        assert len(month.bounds) == len(month.days) + 1


@pytest.mark.parametrize("text", ["", "x", "2026-02-30", "1969-12-31", "9999-01-01"])
def test_a_day_that_there_is_not_is_refused_with_those_that_there_are(text: str) -> None:
    with pytest.raises(InvalidField, match="expected a date from 1970-01-01 to 9998-12-31, got"):
        day_of(text, parameter="day")
