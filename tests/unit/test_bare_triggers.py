from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from schedule_zero.clock import from_us, to_us
from schedule_zero.errors import InvalidTrigger
from schedule_zero.testbed.accounts import nominal_times
from schedule_zero.testbed.bare.triggers import Grid, translated

NOW = datetime(2026, 11, 20, 12, 0, 0, 123_456, tzinfo=UTC)
NOW_US = to_us(NOW)


def fires(document, n=5, zone=None):
    """The first times of APScheduler's own trigger, in microseconds."""
    trigger = translated(document, zone=zone, now_us=NOW_US).trigger
    return [to_us(time) for time in islice(iter(trigger.next, None), n)]


@pytest.mark.parametrize(
    "document",
    [
        {"type": "date", "run_date": "2026-12-24T18:00:00.000007+01:00"},
        {"type": "interval", "milliseconds": 1.5, "start": "2026-11-20T12:00:00.1Z", "end": "2026-11-20T12:00:00.105Z"},
        {"type": "interval", "hours": 1, "minutes": 30, "start": "2026-11-20T12:00:00Z", "end": "2026-11-21T12:00:00Z"},
        {"type": "cron", "expression": "*/20 9 * * *", "timezone": "Europe/Berlin", "start": "2026-11-20T12:00:00.5Z",
         "end": "2026-11-23T12:00:00Z"},
    ],
)  # fmt: skip
def test_a_stock_trigger_fires_when_ours_does(document):
    assert fires(document, 50) == list(islice(nominal_times(document), 50))


def test_an_interval_without_a_start_is_due_an_interval_from_now():
    assert fires({"type": "interval", "seconds": 0.25}, 2) == [NOW_US + 250_000, NOW_US + 500_000]


def test_a_moment_may_be_unix_seconds_and_one_without_offset_is_in_the_zone():
    assert fires({"type": "date", "run_date": 1798135200.000001}) == [1798135200_000001]
    berlin = datetime(2026, 12, 24, 18, tzinfo=ZoneInfo("Europe/Berlin"))
    assert fires({"type": "date", "run_date": "2026-12-24T18:00:00"}, zone="Europe/Berlin") == [to_us(berlin)]


def test_cron_in_its_keyword_form_and_a_calendar_interval_say_the_same():
    daily = fires({"type": "cron", "hour": 3, "timezone": "America/New_York"}, 3)
    assert daily == fires({"type": "calendar", "days": 1, "at": "03:00", "timezone": "America/New_York",
                           "start_date": "2026-11-21"}, 3)  # fmt: skip
    assert [f"{from_us(us):%d %H:%M:%S.%f}" for us in daily] == [f"{day} 08:00:00.000000" for day in (21, 22, 23)]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"type": "startup"}, "expected a trigger of type date, interval, cron, calendar"),
        ([{"type": "date", "run_date": 1}], "expected a trigger of type"),
        ({"type": "interval", "seconds": 1, "anchor": "end"}, "has no 'anchor' in a trigger of type interval"),
        ({"type": "cron", "expression": "@daily"}, "APScheduler does not take it"),
        ({"type": "cron", "expression": "0 0 L * *"}, "APScheduler does not take it"),
        ({"type": "interval"}, "The time interval must be positive"),
        ({"type": "date"}, "KeyError: 'run_date'"),
        ({"type": "date", "run_date": 1, "timezone": "Mars/Olympus"}, "APScheduler does not take it"),
    ],
)
def test_what_there_is_no_stock_trigger_for_is_refused(document, said):
    with pytest.raises(InvalidTrigger, match=said):
        translated(document, zone=None, now_us=NOW_US)


def test_a_microsecond_that_a_store_lost_is_no_other_time_but_two_are():
    grid = Grid(1_000_000, 10_000)
    assert [grid.nominal_us(us) for us in (1_029_999, 1_030_000, 1_030_001)] == [1_030_000] * 3
    assert grid.nominal_us(1_029_998) == 1_029_998
    assert [Grid(5, 0).nominal_us(us) for us in (4, 5, 7)] == [5, 5, 7]
