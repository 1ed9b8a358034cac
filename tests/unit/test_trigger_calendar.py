"""``calendar``: which day of which week, month or year, against the calendar of Python alone."""

from __future__ import annotations

import calendar
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.clock import from_us
from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing import parse_trigger, preview
from schedule_zero.timing.recurring import COUNTED, DayOfMonth, ordinal

# 2026-11-20T13:24:51Z, a Friday.
NOW_US = 1_795_181_091_000_000
DAYS_OF_WEEK = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"]


def days(document: dict[str, Any], n: int = 4) -> list[str]:
    trigger = parse_trigger({"type": "calendar", **document}, now_us=NOW_US)
    return [from_us(us).strftime("%Y-%m-%d") for us in preview(trigger, NOW_US, n)]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"months": 1, "on": "last friday"}, ["2026-11-27", "2026-12-25", "2027-01-29", "2027-02-26"]),
        ({"months": 1, "on": "2nd tuesday"}, ["2026-12-08", "2027-01-12", "2027-02-09", "2027-03-09"]),
        ({"months": 1, "on": "second tue"}, ["2026-12-08", "2027-01-12", "2027-02-09", "2027-03-09"]),
        ({"months": 1, "on": "last day"}, ["2026-11-30", "2026-12-31", "2027-01-31", "2027-02-28"]),
        ({"months": 1, "on": "1st weekday"}, ["2026-12-01", "2027-01-01", "2027-02-01", "2027-03-01"]),
        ({"months": 1, "on": "Last Weekday"}, ["2026-11-30", "2026-12-31", "2027-01-29", "2027-02-26"]),
        ({"months": 1, "on": "5th monday"}, ["2026-11-30", "2027-03-29", "2027-05-31", "2027-08-30"]),
        ({"months": 1, "on": "31st day"}, ["2026-12-31", "2027-01-31", "2027-03-31", "2027-05-31"]),
        ({"months": 1, "on": ["15th day", "last day"]}, ["2026-11-30", "2026-12-15", "2026-12-31", "2027-01-15"]),
        # One day by two names is one day.
        ({"months": 1, "on": ["first day", "first weekday"]}, ["2026-12-01", "2027-01-01", "2027-02-01", "2027-03-01"]),
        # Months are counted from that of the start, although its own day has passed.
        ({"months": 3, "on": "1st monday"}, ["2027-02-01", "2027-05-03", "2027-08-02", "2027-11-01"]),
        ({"weeks": 1, "on": ["MON", "THU"]}, ["2026-11-23", "2026-11-26", "2026-11-30", "2026-12-03"]),
        ({"weeks": 2, "on": ["thursday", "mon"]}, ["2026-11-30", "2026-12-03", "2026-12-14", "2026-12-17"]),
        ({"weeks": 2, "on": "SUN"}, ["2026-11-22", "2026-12-06", "2026-12-20", "2027-01-03"]),
        ({"weeks": 1}, ["2026-11-27", "2026-12-04", "2026-12-11", "2026-12-18"]),
        ({"years": 1, "month": "NOV", "on": "4th thursday"}, ["2026-11-26", "2027-11-25", "2028-11-23", "2029-11-22"]),
        ({"years": 1, "month": 5}, ["2027-05-20", "2028-05-20", "2029-05-20", "2030-05-20"]),
        ({"years": 1, "on": "last day"}, ["2026-11-30", "2027-11-30", "2028-11-30", "2029-11-30"]),
        # Years are counted from that of the start.
        ({"years": 2, "month": "march", "on": "1st day"}, ["2028-03-01", "2030-03-01", "2032-03-01", "2034-03-01"]),
        ({"years": 1, "month": 2, "on": "29th day"}, ["2028-02-29", "2032-02-29", "2036-02-29", "2040-02-29"]),
        ({"years": 1, "month": 2, "on": "5th sunday"}, ["2032-02-29", "2060-02-29", "2088-02-29", "2128-02-29"]),
        # However far ahead it begins.
        ({"months": 1, "on": "last friday", "start_date": "2500-01-01"}, ["2500-01-29", "2500-02-26", "2500-03-26"]),
        ({"years": 1, "month": 2, "on": "29th day", "start_date": "2401-01-01"}, ["2404-02-29", "2408-02-29"]),
        ({"years": 1, "start_date": "2500-01-01"}, ["2500-01-01", "2501-01-01"]),
    ],
)
def test_which_day_it_is(document: dict[str, Any], expected: list[str]) -> None:
    assert days(document, len(expected)) == expected


def test_a_rule_that_pauses_for_centuries_goes_on() -> None:
    assert days({"years": 25, "start_date": "2000-02-29"}, 2) == ["2400-02-29", "2800-02-29"]
    assert days({"years": 300, "start_date": "2000-06-01"}, 2) == ["2300-06-01", "2600-06-01"]


@given(
    nth=st.sampled_from([1, 2, 3, 4, 5, -1]),
    what=st.sampled_from(sorted(COUNTED)),
    months=st.integers(1, 13),
    start=st.dates(date(1970, 1, 1), date(2060, 1, 1)),
)
def test_days_of_a_month_are_those_that_one_finds_by_counting(nth: int, what: str, months: int, start: date) -> None:
    names = [name.lower() for name in calendar.day_name]
    expected, day = [], start
    while day < start + timedelta(days=900):
        month = [date(day.year, day.month, 1) + timedelta(days=n) for n in range(31)]
        month = [other for other in month if other.month == day.month]
        wanted = [
            other
            for other in month
            if what == "day" or (what == "weekday" and other.weekday() < 5) or (what == names[other.weekday()])
        ]
        in_turn = (day.year * 12 + day.month - start.year * 12 - start.month) % months == 0
        if in_turn and day in wanted and wanted.index(day) == (nth - 1 if nth > 0 else len(wanted) - 1):
            expected.append(day)
        day += timedelta(days=1)

    trigger = parse_trigger(
        {"type": "calendar", "months": months, "on": f"{ordinal(nth)} {what}", "start_date": start.isoformat()}
    )

    fires = [from_us(us).date() for us in preview(trigger, -1, len(expected) + 1)]
    assert [fire for fire in fires if fire < start + timedelta(days=900)] == expected


@given(
    on=st.sets(st.sampled_from(DAYS_OF_WEEK), min_size=1),
    weeks=st.integers(1, 6),
    start=st.dates(date(1970, 1, 1), date(2060, 1, 1)),
)
def test_days_of_a_week_are_those_that_one_finds_by_counting(on: set[str], weeks: int, start: date) -> None:
    first_monday = start - timedelta(days=start.weekday())
    expected = [
        day
        for day in (start + timedelta(days=n) for n in range(120))
        if DAYS_OF_WEEK[day.weekday()] in on and (day - first_monday).days // 7 % weeks == 0
    ]

    trigger = parse_trigger(
        {"type": "calendar", "weeks": weeks, "on": sorted(on), "start_date": start.isoformat(), "at": "00:00"}
    )

    fires = [from_us(us).date() for us in preview(trigger, -1, len(expected) + 1)]
    assert [fire for fire in fires if fire < start + timedelta(days=120)] == expected


def test_the_document_says_every_day_in_one_way() -> None:
    def on(document: dict[str, Any]) -> Any:
        document = parse_trigger({"type": "calendar", **document}, now_us=NOW_US).document()
        return document["on"], document.get("month")

    assert on({"months": 1, "on": ["LAST  Friday", "first mon", "1st monday"]}) == (["1st monday", "last friday"], None)
    assert on({"weeks": 1, "on": ["friday", "MON", "Fri"]}) == (["MON", "FRI"], None)
    assert on({"years": 1, "month": "February"}) == (["20th day"], 2)
    assert on({"years": 1, "on": "22nd day"}) == (["22nd day"], 11)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"months": 1, "on": "last friday", "at": "09:30"}, "every month on the last Friday at 09:30:00 (UTC)"),
        (
            {"months": 2, "on": ["1st weekday", "15th day", "last day"]},
            "every 2 months on the 1st weekday, the 15th day and the last day at 00:00:00 (UTC)",
        ),
        ({"weeks": 2, "on": ["MON", "THU"]}, "every 2 weeks on Monday and Thursday at 00:00:00 (UTC)"),
        (
            {"years": 1, "month": 11, "on": "4th thursday"},
            "every year on the 4th Thursday of November at 00:00:00 (UTC)",
        ),
        ({"years": 1}, "every year at 00:00:00 (UTC)"),
    ],
)
def test_the_day_is_told_in_words(document: dict[str, Any], words: str) -> None:
    trigger = parse_trigger({"type": "calendar", **document}, now_us=NOW_US)

    assert trigger.words() == f"{words}, from 2026-11-20"


@pytest.mark.parametrize(("at", "clock"), [("9:30", "09:30:00"), ("09:30", "09:30:00"), ("23:59:59", "23:59:59")])
def test_a_time_of_day_has_its_minutes(at: str, clock: str) -> None:
    trigger = parse_trigger({"type": "calendar", "days": 1, "at": at}, now_us=NOW_US)

    assert trigger.document()["at"] == clock


@pytest.mark.parametrize(
    ("document", "pointer", "message"),
    [
        ({"days": 1, "on": "MON"}, "/trigger/on", "on goes with weeks, months or years, not with days"),
        ({"months": 1, "month": 3}, "/trigger/month", "month goes with years, not with months"),
        ({"months": 1, "on": []}, "/trigger/on", "at least one day"),
        ({"months": 1, "on": "friday"}, "/trigger/on", "expected \"last friday\", .* got 'friday'"),
        ({"months": 1, "on": "MON"}, "/trigger/on", 'expected "last friday"'),
        ({"months": 1, "on": 15}, "/trigger/on", "got 15"),
        ({"months": 1, "on": "2th tuesday"}, "/trigger/on", "got '2th tuesday'"),
        ({"months": 1, "on": "0th day"}, "/trigger/on", "got '0th day'"),
        ({"months": 1, "on": "1st moonday"}, "/trigger/on", "got '1st moonday'"),
        ({"months": 1, "on": "6th monday"}, "/trigger/on", "no month has a 6th monday, at most a 5th"),
        ({"months": 1, "on": "24th weekday"}, "/trigger/on", "no month has a 24th weekday, at most a 23rd"),
        ({"months": 1, "on": "32nd day"}, "/trigger/on", "got '32nd day'"),
        ({"weeks": 1, "on": "last friday"}, "/trigger/on", "one of a month goes with months or years"),
        ({"weeks": 1, "on": ["MON", 5]}, "/trigger/on", "weekdays such as MON or monday, got 5"),
        ({"weeks": 1, "on": {"MON": 1}}, "/trigger/on", "weekdays such as MON"),
        ({"years": 1, "month": 13}, "/trigger/month", "1 to 12 or the name of a month, got 13"),
        ({"years": 1, "month": True}, "/trigger/month", "got true"),
        ({"years": 1, "month": "Brumaire"}, "/trigger/month", "got 'Brumaire'"),
        ({"years": 1, "month": 2, "on": "30th day"}, "/trigger/on", "this never fires: February has no 30th day"),
        ({"years": 2, "month": 2, "on": "29th day", "start_date": "2027-01-01"}, "/trigger/on", "no 29th day"),
        ({"years": 1, "month": 2, "on": "29th day", "start_date": "9997-01-01"}, "/trigger/on", "years up to 9998"),
        (
            {"months": 12, "on": "31st day", "start_date": "2026-04-01"},
            "/trigger/on",
            "this never fires: none of its months has a 31st day",
        ),
        (
            {"months": 1, "on": "31st day", "start_date": "2026-04-01", "end_date": "2026-04-30"},
            "/trigger/on",
            "31st day does not come between 2026-04-01 and 2026-04-30",
        ),
        (
            {"weeks": 1, "on": ["MON", "SUN"], "start_date": "2027-01-05", "end_date": "2027-01-09"},
            "/trigger/on",
            "this never fires: Monday or Sunday does not come between 2027-01-05 and 2027-01-09",
        ),
    ],
)
def test_nonsense_is_refused_with_the_reason(document: dict[str, Any], pointer: str, message: str) -> None:
    with pytest.raises(InvalidTrigger, match=message) as caught:
        parse_trigger({"type": "calendar", **document}, now_us=NOW_US)

    assert caught.value.pointer == pointer


def test_ordinals_read_as_people_write_them() -> None:
    said = [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 31, -1)]

    assert said == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "31st", "last"]
    assert str(DayOfMonth(-1, "friday")) == "last friday"
