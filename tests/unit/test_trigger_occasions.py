"""Times that something else makes: relative dates, starts of the server, ends of runs, people; and moved days."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from schedule_zero.clock import from_us
from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing import first_fire, load_trigger, parse_trigger, preview
from schedule_zero.timing.pattern import Days
from tests.unit.trigger_bed import DAY, HOUR, MINUTE, SECOND, Document

# 2026-11-20T13:24:51Z, a Friday.
NOW_US = 1_795_181_091_000_000
DELAY: Document = {"type": "interval", "minutes": 5, "anchor": "end"}
DAILY: Document = {"type": "cron", "expression": "0 9 * * *"}


# --- relative moments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "later_us"),
    [
        ("+2h", 2 * HOUR),
        ("+90s", 90 * SECOND),
        ("+1d12h", 36 * HOUR),
        ("+1w2d3h4m5s6ms", 7 * DAY + 2 * DAY + 3 * HOUR + 4 * MINUTE + 5 * SECOND + 6000),
        ("+15m", 15 * MINUTE),
        ("+15ms", 15_000),
        ("+0s", 0),
    ],
)
def test_a_relative_date_is_resolved_once_and_stored_as_a_moment(text: str, later_us: int) -> None:
    trigger = parse_trigger({"type": "date", "run_date": text}, now_us=NOW_US)

    assert first_fire(trigger, NOW_US) == NOW_US + later_us
    assert load_trigger(trigger.encoded()) == trigger
    assert "+" not in trigger.document()["run_date"]


def test_start_and_end_may_be_relative_as_well() -> None:
    trigger = parse_trigger({"type": "interval", "minutes": 20, "start": "+10m", "end": "+1h"}, now_us=NOW_US)

    assert preview(trigger, NOW_US, 9) == [NOW_US + minutes * MINUTE for minutes in (10, 30, 50)]


@pytest.mark.parametrize(
    "text", ["+", "+2", "+h", "+2h1d", "+1h1h", "+1.5h", "+2 h", "+2H", "-2h", "2h", "+9999999999w"]
)
def test_a_relative_date_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidTrigger) as caught:
        parse_trigger({"type": "date", "run_date": text}, now_us=NOW_US)

    assert caught.value.pointer == "/trigger/run_date"


def test_without_a_now_a_relative_date_is_refused() -> None:
    with pytest.raises(InvalidTrigger, match="expected an absolute moment, because there is no now"):
        parse_trigger({"type": "date", "run_date": "+2h"})


# --- after the end of the last run -----------------------------------------------------------------


def test_a_fixed_delay_knows_only_its_first_time_and_what_follows_a_run() -> None:
    trigger = parse_trigger(DELAY, now_us=NOW_US)

    assert trigger.document() == DELAY | {"start": "2026-11-20T13:29:51.000000Z"}
    assert preview(trigger, NOW_US, 3) == [NOW_US + 5 * MINUTE]
    assert trigger.last_before(NOW_US + HOUR) == NOW_US + 5 * MINUTE
    assert trigger.count(NOW_US, NOW_US + HOUR) == 1
    assert trigger.after_run(NOW_US + HOUR) == NOW_US + HOUR + 5 * MINUTE
    assert trigger.endless


def test_a_fixed_delay_begins_at_its_start_and_stops_at_its_end() -> None:
    trigger = parse_trigger(DELAY | {"start": "2027-01-01T00:00:00Z", "end": "2027-01-01T01:00:00Z"}, now_us=NOW_US)
    start_us = trigger.next_after(NOW_US)

    assert start_us is not None
    assert first_fire(trigger, NOW_US) == start_us
    assert trigger.after_run(start_us + 55 * MINUTE) == start_us + HOUR
    assert trigger.after_run(start_us + 55 * MINUTE + 1) is None


def test_a_fixed_delay_whose_start_has_passed_begins_at_once_because_nothing_else_would_begin_it() -> None:
    trigger = parse_trigger(DELAY | {"start": 0}, now_us=NOW_US)

    assert trigger.next_after(NOW_US) is None
    assert first_fire(trigger, NOW_US) == NOW_US
    assert first_fire(parse_trigger(DELAY | {"start": 0, "end": 10}), NOW_US) is None


def test_other_triggers_do_not_follow_their_runs() -> None:
    for document in ({"type": "interval", "minutes": 5, "anchor": "start"}, DAILY, {"type": "startup"}):
        assert parse_trigger(document, now_us=NOW_US).after_run(NOW_US) is None
    assert parse_trigger({"type": "interval", "minutes": 5, "anchor": "start", "start": 0}) == parse_trigger(
        {"type": "interval", "minutes": 5, "start": 0}
    )


# --- startup and manual ----------------------------------------------------------------------------


def test_startup_is_the_moment_of_the_start_it_is_bound_to() -> None:
    trigger = parse_trigger({"type": "startup"})

    bound = trigger.bound(NOW_US)

    assert (trigger.has_startup, trigger.endless, bound.endless) == (True, True, True)
    assert trigger.next_after(0) is None
    assert first_fire(trigger, NOW_US) is None
    assert preview(bound, NOW_US - 1, 3) == [NOW_US]
    assert bound.next_after(NOW_US) is None
    assert bound.document() == trigger.document() == {"type": "startup"}


def test_startup_in_a_list_is_one_of_its_times_and_keeps_it_from_ending() -> None:
    trigger = parse_trigger([{"type": "date", "run_date": "+1d"}, {"type": "startup"}], now_us=NOW_US)

    bound = trigger.bound(NOW_US + HOUR)

    assert preview(trigger, NOW_US, 3) == [NOW_US + DAY]
    assert preview(bound, NOW_US, 3) == [NOW_US + HOUR, NOW_US + DAY]
    assert bound.endless
    assert bound.has_startup
    assert bound.encoded() == trigger.encoded()


def test_what_has_no_startup_is_bound_to_none() -> None:
    for document in (DAILY, [DAILY, DAILY | {"timezone": "Asia/Tokyo"}]):
        trigger = parse_trigger(document)
        assert trigger.bound(NOW_US) is trigger
        assert not trigger.has_startup
        assert not trigger.endless


def test_manual_never_fires_and_never_ends() -> None:
    trigger = parse_trigger({"type": "manual"})

    assert trigger.next_after(0) is None
    assert trigger.last_before(2**52) is None
    assert trigger.count(0, 2**52) == 0
    assert first_fire(trigger, NOW_US) is None
    assert trigger.endless
    assert load_trigger(trigger.encoded()) == trigger


@pytest.mark.parametrize(
    ("document", "pointer", "message"),
    [
        ([{"type": "manual"}, DAILY], "/trigger/0", "manual never fires: expected it alone, not in or"),
        ([DAILY, DELAY], "/trigger/1/anchor", "anchor end follows its own runs: expected it alone, not in or"),
        ({"type": "and", "triggers": [DAILY, {"type": "startup"}]}, "/trigger/triggers/1", "expected no and around it"),
        (
            [DAILY, {"type": "except", "trigger": [DAILY, {"type": "startup"}], "except": DAILY}],
            "/trigger/1/trigger/1",
            "expected no except around it",
        ),
        ({"type": "startup", "delay": 5}, "/trigger/delay", "unknown key delay"),
        ({"type": "manual", "timezone": "UTC"}, "/trigger/timezone", "unknown key timezone"),
        (DELAY | {"anchor": "middle"}, "/trigger/anchor", "start or end, got 'middle'"),
        (DELAY | {"end": "+1m"}, "/trigger/end", "before the first run, at 2026-11-20T13:29:51"),
    ],
)
def test_where_they_make_no_sense_they_are_refused(document: object, pointer: str, message: str) -> None:
    with pytest.raises(InvalidTrigger, match=message) as caught:
        parse_trigger(document, now_us=NOW_US)

    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"type": "startup"}, "at each start of the server"),
        ({"type": "manual"}, "only when somebody runs it"),
        (DELAY, "5 minutes after each run's end, first at 2026-11-20T13:29:51.000000Z"),
        (
            {"type": "interval", "hours": 1, "anchor": "end", "start": 0, "end": 7200},
            "1 hour after each run's end, first at 1970-01-01T00:00:00.000000Z, until 1970-01-01T02:00:00.000000Z",
        ),
        ([DAILY, {"type": "startup"}], "At 09:00 (UTC); or at each start of the server"),
        (
            {"type": "date", "run_date": "2026-12-24T18:00:00", "timezone": "Europe/Berlin"},
            "once at 2026-12-24 18:00:00+01:00 (Europe/Berlin)",
        ),
    ],
)
def test_they_are_told_in_words(document: object, words: str) -> None:
    assert parse_trigger(document, now_us=NOW_US).words() == words


# --- other days ------------------------------------------------------------------------------------


class NextMonday(Days):
    """What falls on a weekend moves to Monday: a business-day rule without holidays."""

    def __init__(self, days: Days) -> None:
        self.days = days

    def of_year(self, year: int) -> Sequence[int]:
        # Of the last days of the year before as well. 1970-01-01, day 0, was a Thursday.
        found = {*self.days.of_year(year - 1), *self.days.of_year(year)}
        moved = {day + {2: 2, 3: 1}.get(day % 7, 0) for day in found}
        return sorted(day for day in moved if from_us(day * DAY).year == year)


def fires(document: Any, n: int = 3) -> list[str]:
    trigger = parse_trigger(document, now_us=NOW_US).with_days(NextMonday)
    return [from_us(us).strftime("%Y-%m-%d %H:%M:%S") for us in preview(trigger, NOW_US, n)]


def test_cron_and_calendar_fire_on_other_days_at_the_same_local_time() -> None:
    last = {"type": "calendar", "months": 1, "on": "last day", "at": "09:00", "timezone": "Europe/Berlin"}

    assert fires({"type": "cron", "expression": "0 9 28 * *"}) == [
        "2026-11-30 09:00:00",
        "2026-12-28 09:00:00",
        "2027-01-28 09:00:00",
    ]
    assert fires(last, 5)[2:] == ["2027-02-01 08:00:00", "2027-03-01 08:00:00", "2027-03-31 07:00:00"]


def test_a_date_moves_with_its_local_time_of_day() -> None:
    # Saturday; the clock is set forward in the night to Sunday.
    document = {"type": "date", "run_date": "2027-03-27T09:00:00.5", "timezone": "Europe/Berlin"}

    assert parse_trigger(document).document()["timezone"] == "Europe/Berlin"
    assert fires(document) == ["2027-03-29 07:00:00"]
    assert fires({"type": "date", "run_date": "2027-03-26T09:00:00Z"}) == ["2027-03-26 09:00:00"]


def test_a_combination_moves_all_of_its_members_and_a_start_stays() -> None:
    document = [{"type": "cron", "expression": "0 9 28 * *"}, {"type": "cron", "expression": "0 9 30 * *"}]

    assert fires(document) == ["2026-11-30 09:00:00", "2026-12-28 09:00:00", "2026-12-30 09:00:00"]
    moved = parse_trigger([document[0], {"type": "startup"}]).with_days(NextMonday).bound(NOW_US + 4 * DAY)
    # A Saturday: NOW is a Friday.
    assert parse_trigger({"type": "startup"}).bound(NOW_US + DAY).with_days(NextMonday).next_after(0) == NOW_US + DAY
    assert moved.next_after(NOW_US) == NOW_US + 4 * DAY


def test_moved_days_are_no_part_of_the_document() -> None:
    trigger = parse_trigger({"type": "cron", "expression": "0 9 28 * *"})

    assert trigger.with_days(NextMonday).encoded() == trigger.encoded()
    assert trigger.with_days(NextMonday) != trigger


@pytest.mark.parametrize("document", [{"type": "interval", "days": 1}, DELAY, [DAILY, {"type": "interval", "days": 1}]])
def test_what_names_no_days_cannot_be_moved(document: object) -> None:
    with pytest.raises(InvalidTrigger, match="need a trigger that names days"):
        parse_trigger(document).with_days(NextMonday)


class NoDay(Days):
    def __init__(self, days: Days) -> None: ...

    def of_year(self, year: int) -> Sequence[int]:
        return ()


def test_a_date_for_which_no_day_is_left_is_refused() -> None:
    with pytest.raises(InvalidTrigger, match="no business day is left for 2027-03-27"):
        parse_trigger({"type": "date", "run_date": "2027-03-27T09:00:00Z"}).with_days(NoDay)
