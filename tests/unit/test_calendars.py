"""Named calendars against a definition that asks the clock on the wall at each moment; holidays against known days."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedule_zero.clock import from_us, to_us
from schedule_zero.model import SkipReason
from schedule_zero.timing import calendars, parse_trigger
from schedule_zero.timing.calendar_parse import parse_calendar
from schedule_zero.timing.calendar_rules import DAY_US, WEEKDAYS, CalendarWindow
from schedule_zero.timing.calendars import Exclusions, NamedCalendar, Verdict
from schedule_zero.timing.walltime import day_number, from_day_number
from tests.unit.test_trigger_walltime import SEAMS

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
YEAR_2026 = to_us(datetime(2026, 1, 1, tzinfo=UTC))
YEAR_2027 = to_us(datetime(2027, 1, 1, tzinfo=UTC))


def calendar(name: str = "c", **document: Any) -> NamedCalendar:
    return parse_calendar(document, name)


def us(text: str) -> int:
    return to_us(datetime.fromisoformat(text))


# --- the definition ----------------------------------------------------------------------------------


def covers(document: dict[str, Any], us: int) -> set[str]:
    """The labels of the entries that cover a moment: what the wall shows, compared with what the entry says."""
    zone = zoneinfo.ZoneInfo(document["timezone"])
    local = from_us(us).astimezone(zone)
    found = set()
    for entry in document.get("dates", ()):
        if entry["from"] <= local.date().isoformat() <= entry["to"]:
            found.add(entry["label"])
    for entry in document.get("weekly", ()):
        if in_hours(entry, local, lambda day, entry=entry: WEEKDAYS[day.weekday()] in entry["days"]):
            found.add(entry["label"])
    for entry in document.get("monthly", ()):
        if in_hours(entry, local, lambda day, entry=entry: is_day_of_month(day, entry["day"])):
            found.add(entry["label"])
    for entry in document.get("cron", ()):
        trigger = parse_trigger({"type": "cron", "expression": entry["expression"], "timezone": zone.key})
        if trigger.count(us - entry["duration_s"] * 1_000_000, us):
            found.add(entry["label"])
    return found


def in_hours(entry: dict[str, Any], local: datetime, on: Any) -> bool:
    start = time.fromisoformat(entry.get("from", "00:00"))
    end = time.fromisoformat(entry.get("to", "00:00"))
    clock, today = local.time(), local.date()
    if start < end:
        return on(today) and start <= clock < end
    if end == time():
        return on(today) and clock >= start
    return (on(today) and clock >= start) or (on(today - timedelta(days=1)) and clock < end)


def is_day_of_month(day: date, wanted: int) -> bool:
    if wanted > 0:
        return day.day == wanted
    first = day.replace(day=1)
    length = ((first + timedelta(days=31)).replace(day=1) - first).days
    return day.day == length + 1 + wanted


times = st.builds(
    "{:02}:{:02}".format,
    st.integers(0, 23),
    st.sampled_from([0, 1, 15, 30, 59]),
)


@st.composite
def hours(draw: st.DrawFn) -> dict[str, str]:
    if draw(st.booleans()):
        return {}
    start, end = draw(times), draw(times)
    return {} if start == end else {"from": start, "to": end}


def days_near(day: str) -> st.SearchStrategy[date]:
    return st.integers(-3, 3).map(lambda shift: date.fromisoformat(day) + timedelta(days=shift))


@st.composite
def documents(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    """A calendar without holidays in a zone, and a day at which its clock is changed."""
    zone, day = draw(st.sampled_from(SEAMS))
    near = days_near(day)
    dates = [sorted(pair) for pair in draw(st.lists(st.tuples(near, near), max_size=2))]
    weekly = st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=4, unique=True)
    monthly = near.map(lambda there: there.day) | st.integers(-31, -1)
    cron = st.sampled_from(["0 2 * * *", "30 1 * * *", "0 0 * * *", "0 */6 * * *", "*/20 * * * *"])
    document = {
        "timezone": zone,
        "dates": [{"from": a.isoformat(), "to": b.isoformat(), "label": f"d{i}"} for i, (a, b) in enumerate(dates)],
        "weekly": [
            {"days": days, **draw(hours()), "label": f"w{i}"}
            for i, days in enumerate(draw(st.lists(weekly, max_size=2)))
        ],
        "monthly": [
            {"day": day, **draw(hours()), "label": f"m{i}"} for i, day in enumerate(draw(st.lists(monthly, max_size=2)))
        ],
        "cron": [
            {"expression": expression, "duration_s": draw(st.integers(1, 200)) * 60, "label": f"c{i}"}
            for i, expression in enumerate(draw(st.lists(cron, max_size=1)))
        ],
    }
    return document, day


def range_around(day: str) -> tuple[int, int]:
    middle = us(f"{day}T00:00:00+00:00")
    return middle - 2 * DAY_US, middle + 3 * DAY_US


@given(documents(), st.integers(0, 14))
@settings(max_examples=60, deadline=None)
def test_a_moment_is_covered_if_and_only_if_the_clock_on_the_wall_says_so(drawn: Any, offset: int) -> None:
    document, day = drawn
    made = parse_calendar(document, "c")
    low, high = range_around(day)
    # Every quarter of an hour, not all on the quarter.
    for moment in range(low + offset * MINUTE_US, high, 15 * MINUTE_US):
        window = made.covering(moment)
        expected = covers(document, moment)
        assert (window is not None) == bool(expected), from_us(moment)
        if window is not None:
            assert window.label in expected
            assert window.start_us <= moment < window.end_us
            assert window.reason is (SkipReason.HOLIDAY if window.label[0] == "d" else SkipReason.BLACKOUT)


@given(documents())
@settings(max_examples=60, deadline=None)
def test_a_moment_is_covered_exactly_if_it_lies_in_one_of_the_windows(drawn: Any) -> None:
    document, day = drawn
    made = parse_calendar(document, "c")
    low, high = range_around(day)

    windows = made.windows(low, high)

    assert windows == sorted(windows, key=lambda window: window.start_us)
    assert all(window.start_us < window.end_us and window.start_us < high and window.end_us > low for window in windows)
    edges = sorted({low, high - 1} | {edge for w in windows for edge in (w.start_us, w.end_us)})
    for edge in edges:
        for moment in (edge - 1, edge, edge + 1):
            if low <= moment < high:
                inside = [window for window in windows if window.start_us <= moment < window.end_us]
                covering = made.covering(moment)
                assert (covering in inside) if inside else covering is None


@given(documents(), documents(), documents())
@settings(max_examples=40, deadline=None)
def test_segments_tile_the_range_and_say_what_the_verdict_says(one: Any, two: Any, three: Any) -> None:
    low, high = range_around(one[1])
    excluded = [parse_calendar(one[0], "one"), parse_calendar({**two[0], "timezone": one[0]["timezone"]}, "two")]
    exclusions = Exclusions(excluded, [parse_calendar(three[0], "three")])

    segments = list(exclusions.segments(low, high))

    assert [segments[0][0], segments[-1][1]] == [low, high]
    assert all(before[1] == after[0] for before, after in pairwise(segments))
    assert all(before[2] != after[2] for before, after in pairwise(segments))
    for start, end, verdict in segments:
        assert start < end
        for moment in (start, (start + end) // 2, end - 1):
            assert exclusions.verdict(moment) == verdict


@given(documents())
@settings(max_examples=40, deadline=None)
def test_windows_are_the_same_whatever_range_they_are_asked_in(drawn: Any) -> None:
    document, day = drawn
    document = {**document, "cron": []}
    low, high = range_around(day)
    whole = parse_calendar(document, "c").windows(low, high)

    by_hours = [w for at in range(low, high, 7 * HOUR_US) for w in calendar(**document).windows(at, at + 7 * HOUR_US)]

    assert set(whole) <= set(by_hours)
    assert {window for window in by_hours if window.start_us < high} == set(whole)


# --- days and hours ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "hours"), [("2027-03-28", 23), ("2027-10-31", 25), ("2027-06-01", 24)], ids=["spring", "autumn", "summer"]
)
def test_a_day_has_as_many_hours_as_the_wall_has(day: str, hours: int) -> None:
    [window] = calendar(timezone="Europe/Berlin", dates=[day]).windows(us(f"{day}T12:00Z"), us(f"{day}T12:01Z"))

    assert window.end_us - window.start_us == hours * HOUR_US


@pytest.mark.parametrize(
    ("day", "entry", "spans"),
    [
        # Over the gap: an hour less. In the gap: nothing. Into it: up to it.
        ("2027-03-27", {"from": "22:00", "to": "06:00"}, [("2027-03-27T21:00Z", "2027-03-28T04:00Z")]),
        ("2027-03-28", {"from": "02:10", "to": "02:50"}, []),
        ("2027-03-28", {"from": "01:30", "to": "02:30"}, [("2027-03-28T00:30Z", "2027-03-28T01:00Z")]),
        ("2027-03-28", {"from": "02:30", "to": "03:30"}, [("2027-03-28T01:00Z", "2027-03-28T01:30Z")]),
        # Over the fold: an hour more. In the fold: twice.
        ("2027-10-30", {"from": "22:00", "to": "06:00"}, [("2027-10-30T20:00Z", "2027-10-31T05:00Z")]),
        (
            "2027-10-31",
            {"from": "02:00", "to": "02:30"},
            [("2027-10-31T00:00Z", "2027-10-31T00:30Z"), ("2027-10-31T01:00Z", "2027-10-31T01:30Z")],
        ),
        ("2027-10-31", {"from": "02:00", "to": "03:00"}, [("2027-10-31T00:00Z", "2027-10-31T02:00Z")]),
    ],
)
def test_hours_near_a_change_of_the_clock_are_those_that_the_wall_shows(day: str, entry: Any, spans: Any) -> None:
    weekday = WEEKDAYS[date.fromisoformat(day).weekday()]
    made = calendar(timezone="Europe/Berlin", weekly=[{"days": [weekday], **entry}])

    windows = made.windows(us(f"{day}T00:00+02:00"), us(f"{day}T00:00+02:00") + 2 * DAY_US)

    assert [(window.start_us, window.end_us) for window in windows] == [(us(a), us(b)) for a, b in spans]


def test_a_window_is_half_open() -> None:
    made = calendar(weekly=[{"days": ["MON"], "from": "10:00", "to": "11:00"}])
    start, end = us("2026-11-23T10:00Z"), us("2026-11-23T11:00Z")

    assert [made.covering(moment) is not None for moment in (start - 1, start, end - 1, end)] == [
        False, True, True, False,
    ]  # fmt: skip


def test_a_window_by_cron_lasts_as_long_as_it_says_whatever_the_clock_does() -> None:
    made = calendar(timezone="Europe/Berlin", cron=[{"expression": "0 1 * * *", "duration_s": 7200}])

    [window] = made.windows(us("2027-03-28T00:30Z"), us("2027-03-28T00:31Z"))

    assert (window.start_us, window.end_us) == (us("2027-03-28T00:00Z"), us("2027-03-28T02:00Z"))
    assert window.label == "cron 0 1 * * * for 2 h"


def test_the_last_day_of_a_month_is_counted_from_its_end() -> None:
    made = calendar(monthly=[{"day": "last"}, {"day": -31, "label": "31 before the end"}])

    days = [
        (from_us(window.start_us).date(), window.label) for window in made.windows(YEAR_2026, YEAR_2026 + 90 * DAY_US)
    ]

    assert days == [
        (date(2026, 1, 1), "31 before the end"),
        (date(2026, 1, 31), "monthly last day"),
        (date(2026, 2, 28), "monthly last day"),
        (date(2026, 3, 1), "31 before the end"),
        (date(2026, 3, 31), "monthly last day"),
    ]


def test_labels_say_what_the_window_is() -> None:
    made = calendar(
        weekly=[{"days": ["SUN", "SAT"]}, {"days": ["FRI"], "from": "22:00", "to": "06:00"}],
        monthly=[{"day": 1, "from": "00:00", "to": "24:00"}, {"day": 2, "from": "23:00", "to": "24:00"}],
        dates=["2026-12-24", {"from": "2026-12-27", "to": "2026-12-31"}, {"from": "2026-12-25", "label": "us"}],
        cron=[{"expression": "0 12 * * *", "duration_s": 90}],
    )

    assert {window.label for window in made.windows(YEAR_2026, YEAR_2027)} == {
        "weekly SAT SUN", "weekly FRI 22:00–06:00", "monthly day 1", "monthly day 2 23:00–24:00", "2026-12-24",
        "2026-12-27 to 2026-12-31", "us", "cron 0 12 * * * for 90 s",
    }  # fmt: skip


def test_where_windows_overlap_a_holiday_comes_first_and_then_the_entry_that_stands_first() -> None:
    made = calendar(
        weekly=[{"days": ["THU"], "label": "first"}, {"days": ["THU"], "label": "second"}], dates=["2026-12-24"]
    )

    assert made.covering(us("2026-12-24T12:00Z")).label == "2026-12-24"
    assert made.covering(us("2026-12-31T12:00Z")).label == "first"
    assert len(made.windows(us("2026-12-24T12:00Z"), us("2026-12-24T12:01Z"))) == 3


def test_nothing_covers_what_lies_outside_of_time() -> None:
    made = calendar(weekly=[{"days": list(WEEKDAYS)}])

    assert made.covering(-1) is None
    assert made.covering(0) is not None
    assert made.covering(calendars.END_US) is None
    assert made.windows(-5, -1) == []
    assert made.windows(calendars.END_US, calendars.END_US + 366 * DAY_US) == []
    assert list(Exclusions([made]).segments(-10, 5)) == [(-10, 0, None), (0, 5, Exclusions([made]).verdict(0))]


def test_every_rule_has_an_answer_up_to_the_last_moment() -> None:
    made = calendar(
        timezone="Pacific/Pago_Pago",
        monthly=[{"day": -31, "from": "22:00", "to": "02:00"}],
        cron=[{"expression": "0 2 * * *", "duration_s": 86_400}],
        dates=["9998-12-31"],
        holidays=[{"country": "DE"}],
    )

    last_month = made.windows(calendars.END_US - 31 * DAY_US, calendars.END_US)

    assert {window.label for window in last_month} == {
        "monthly day -31 22:00–02:00", "cron 0 2 * * * for 1 d", "9998-12-31",
    }  # fmt: skip
    assert made.covering(calendars.END_US - 1) is not None


def test_the_cache_stays_bounded_and_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calendars, "CACHED_STRETCHES", 20)
    monkeypatch.setattr(calendars, "CACHED_DAYS_OFF", 20)
    made = calendar(weekly=[{"days": ["SAT", "SUN"]}])
    fresh = calendar(weekly=[{"days": ["SAT", "SUN"]}])

    for day in [*range(day_number(date(2026, 1, 1)), day_number(date(2026, 12, 31))), day_number(date(2026, 1, 3))]:
        assert made.covering(day * DAY_US) == fresh.covering(day * DAY_US)
        assert made.is_business_day(day) == (from_day_number(day).weekday() < 5)
        assert len(made._days) <= 22
        assert len(made._days_off) <= 20


def test_a_year_of_a_window_each_five_minutes_is_never_held_as_a_whole() -> None:
    made = calendar(cron=[{"expression": "*/5 * * * *", "duration_s": 20}])

    windows = made.iter_windows(YEAR_2026, YEAR_2027)

    first = next(windows)
    assert (first.start_us, first.end_us) == (YEAR_2026, YEAR_2026 + 20_000_000)
    assert next(windows).start_us == YEAR_2026 + 5 * MINUTE_US


def test_of_windows_by_cron_that_overlap_the_newest_counts() -> None:
    made = calendar(cron=[{"expression": "0 * * * *", "duration_s": 7200}])

    assert made.covering(YEAR_2026 + HOUR_US // 2) == CalendarWindow(
        YEAR_2026, YEAR_2026 + 2 * HOUR_US, SkipReason.BLACKOUT, "cron 0 * * * * for 2 h"
    )
    [segment] = Exclusions([made]).segments(YEAR_2026, YEAR_2026 + DAY_US)
    assert segment[:2] == (YEAR_2026, YEAR_2026 + DAY_US)


# --- holidays ----------------------------------------------------------------------------------------


BERLIN = "01-01 03-08 04-03 04-06 05-01 05-14 05-25 10-03 12-25 12-26"
BAVARIA = "01-01 01-06 04-03 04-06 05-01 05-14 05-25 06-04 10-03 11-01 12-25 12-26"
# On a Saturday or Sunday, and observed on another day as well; one of them is of the next year.
UNITED_STATES = "01-01 01-18 02-15 05-31 06-18 06-19 07-04 07-05 09-06 10-11 11-11 11-25 12-24 12-25 12-31"
SCOTLAND = "01-01 01-02 04-03 05-04 05-25 08-03 11-30 12-25 12-28"
FRANCE = "01-01 04-01 05-01 05-08 05-09 05-20 07-14 08-15 11-01 11-11 12-25"


@pytest.mark.parametrize(
    ("entry", "year", "days"),
    [
        ({"country": "DE", "subdivision": "BE"}, 2026, BERLIN),
        ({"country": "DE", "subdivision": "BY"}, 2026, BAVARIA),
        ({"country": "US"}, 2021, UNITED_STATES),
        ({"country": "GB", "subdivision": "SCT"}, 2026, SCOTLAND),
        ({"country": "FR"}, 2024, FRANCE),
    ],
    ids=["Berlin", "Bavaria", "United States", "Scotland", "France"],
)
def test_holidays_are_those_of_the_place(entry: dict[str, Any], year: int, days: str) -> None:
    made = calendar(holidays=[entry])

    windows = made.windows(us(f"{year}-01-01T00:00Z"), us(f"{year + 1}-01-01T00:00Z"))

    found = [from_us(window.start_us).date().isoformat()[5:] for window in windows]
    # Days on which the moon or the government had a say are not ours to test.
    assert set(days.split()) <= set(found)
    assert len(set(found) - set(days.split())) <= 2
    assert {window.reason for window in windows} == {SkipReason.HOLIDAY}
    assert {window.end_us - window.start_us for window in windows} == {DAY_US}


def test_holidays_are_called_by_their_english_names_in_any_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "de")
    made = calendar(timezone="Europe/Berlin", holidays=[{"country": "DE"}])

    assert made.covering(us("2026-01-01T12:00Z")).label == "New Year's Day"
    assert made.covering(us("2025-12-31T22:59Z")) is None
    assert made.covering(us("2025-12-31T23:00Z")).label == "New Year's Day"


def test_categories_choose_which_holidays() -> None:
    government = calendar(holidays=[{"country": "US", "categories": ["government"]}])
    both = calendar(holidays=[{"country": "US", "categories": ["unofficial", "public"]}])

    christmas_eve_2025 = us("2025-12-24T12:00Z")
    assert "Groundhog Day" in {window.label for window in both.windows(YEAR_2026, YEAR_2027)}
    assert both.covering(us("2026-12-25T12:00Z")).label == "Christmas Day"
    assert government.covering(us("2026-02-02T12:00Z")) is None
    assert both.document()["holidays"] == [{"country": "US", "categories": ["public", "unofficial"]}]
    assert calendar(holidays=[{"country": "US"}]).covering(christmas_eve_2025) is None


def test_holidays_of_a_far_year_are_none_rather_than_an_error() -> None:
    made = calendar(holidays=[{"country": "DE"}, {"country": "SA"}])

    assert made.covering(us("5000-12-25T12:00Z")) is None
    assert made.covering(us("1970-12-25T12:00Z")) is None, "before Germany was one country again"
    assert made.covering(calendars.END_US - 1) is None


# --- business days -----------------------------------------------------------------------------------


def is_business_day(made: NamedCalendar, day: str) -> bool:
    return made.is_business_day(day_number(date.fromisoformat(day)))


def test_a_business_day_is_no_holiday_and_not_covered_from_its_beginning_to_its_end() -> None:
    made = calendar(
        timezone="Europe/Berlin",
        holidays=[{"country": "DE"}],
        dates=["2026-12-24"],
        weekly=[
            {"days": ["SAT", "SUN"]},
            {"days": ["WED"], "from": "00:00", "to": "12:00"},
            {"days": ["WED"], "from": "12:00", "to": "23:59"},
            {"days": ["TUE"], "from": "00:00", "to": "12:00"},
            {"days": ["TUE"], "from": "12:00", "to": "24:00"},
        ],
    )

    assert is_business_day(made, "2026-11-23")
    assert not is_business_day(made, "2026-11-24"), "two halves cover the whole of it"
    assert is_business_day(made, "2026-11-25"), "the last minute is open"
    assert not is_business_day(made, "2026-11-28")
    assert not is_business_day(made, "2026-12-24")
    assert not is_business_day(made, "2026-12-25")
    assert made.day_off(day_number(date(2026, 12, 25))) == "Christmas Day"
    assert made.day_off(day_number(date(2026, 11, 28))) == "weekly SAT SUN"


@pytest.mark.parametrize("day", ["2027-03-28", "2027-10-31"])
def test_a_day_of_23_or_25_hours_is_covered_in_full(day: str) -> None:
    assert not is_business_day(calendar(timezone="Europe/Berlin", weekly=[{"days": ["SUN"]}]), day)
    by_cron = calendar(timezone="Europe/Berlin", cron=[{"expression": "0 0 * * SUN", "duration_s": 24 * 3600}])
    assert is_business_day(by_cron, "2027-10-31"), "25 hours are not covered by 24"
    assert not is_business_day(by_cron, "2027-03-28")


@given(documents())
@settings(max_examples=25, deadline=None)
def test_a_day_off_is_one_of_own_dates_or_without_an_open_minute(drawn: Any) -> None:
    document, day = drawn
    made = parse_calendar(document, "c")
    zone = zoneinfo.ZoneInfo(document["timezone"])
    for shift in (-1, 0, 1):
        local = date.fromisoformat(day) + timedelta(days=shift)
        noon = to_us(datetime(local.year, local.month, local.day, 12, tzinfo=UTC))
        minutes = [m for m in range(noon - 30 * HOUR_US, noon + 30 * HOUR_US, MINUTE_US) if on(m, zone) == local]
        dates = any(entry["from"] <= local.isoformat() <= entry["to"] for entry in document["dates"])
        expected = dates or (bool(minutes) and all(made.covering(minute) is not None for minute in minutes))
        assert made.is_business_day(day_number(local)) is not expected


def on(us: int, zone: zoneinfo.ZoneInfo) -> date:
    return from_us(us).astimezone(zone).date()


# --- exclusions --------------------------------------------------------------------------------------


def test_a_verdict_names_the_calendar_and_what_in_it() -> None:
    holidays = calendar("de", holidays=[{"country": "DE"}])
    nights = calendar("nights", weekly=[{"days": list(WEEKDAYS), "from": "22:00", "to": "06:00"}])
    office = calendar("office", weekly=[{"days": ["FRI"]}])
    exclusions = Exclusions([holidays, nights], [office])

    christmas = exclusions.verdict(us("2026-12-25T23:00Z"))
    night = exclusions.verdict(us("2026-12-11T23:00Z"))
    outside = exclusions.verdict(us("2026-12-10T12:00Z"))

    assert christmas == Verdict(SkipReason.HOLIDAY, "de", "Christmas Day")
    assert christmas.detail == "de: Christmas Day"
    assert night.detail == "nights: weekly MON TUE WED THU FRI SAT SUN 22:00–06:00"
    assert outside == Verdict(SkipReason.BLACKOUT, "office", "outside of office")
    assert outside.detail == "outside of office"
    assert exclusions.verdict(us("2026-12-11T12:00Z")) is None
    assert Exclusions().verdict(YEAR_2026) is None


def test_days_that_are_not_business_days_are_skipped_as_holidays() -> None:
    made = calendar("de", timezone="Europe/Berlin", weekly=[{"days": ["SAT", "SUN"]}], holidays=[{"country": "DE"}])
    exclusions = Exclusions(business=(made, made.zone))

    assert exclusions.verdict(us("2026-12-27T12:00Z")) == Verdict(SkipReason.HOLIDAY, "de", "weekly SAT SUN")
    assert exclusions.verdict(us("2026-12-25T12:00Z")).label == "Christmas Day"
    assert exclusions.verdict(us("2026-12-28T12:00Z")) is None
    assert [(a, b) for a, b, _ in exclusions.segments(us("2026-12-24T12:00Z"), us("2026-12-28T12:00Z"))] == [
        (us("2026-12-24T12:00Z"), us("2026-12-24T23:00Z")),
        (us("2026-12-24T23:00Z"), us("2026-12-25T23:00Z")),
        (us("2026-12-25T23:00Z"), us("2026-12-26T23:00Z")),
        (us("2026-12-26T23:00Z"), us("2026-12-27T23:00Z")),
        (us("2026-12-27T23:00Z"), us("2026-12-28T12:00Z")),
    ]


def test_a_day_without_all_of_its_hours_is_still_open_for_business() -> None:
    made = calendar(weekly=[{"days": ["MON"], "from": "00:00", "to": "12:00"}])

    assert Exclusions(business=(made, made.zone)).verdict(us("2026-11-23T06:00Z")) is None


def test_a_segment_is_cut_at_some_length_so_that_each_step_is_short() -> None:
    exclusions = Exclusions([calendar(dates=["2026-01-01"])])

    segments = list(exclusions.segments(us("2000-01-01T00:00Z"), us("2026-01-02T00:00Z")))

    assert max(to - from_ for from_, to, _ in segments) <= calendars.LONGEST_SEGMENT_US
    assert segments[-1][2] is not None
    assert {verdict for _, _, verdict in segments[:-1]} == {None}
