"""What lint says, marks of single nominal times, and the local times that a gap leaves out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedule_zero.clock import to_us
from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing import parse_trigger, preview
from schedule_zero.timing.lint import lint
from schedule_zero.timing.seams import skipped_by_gap
from tests.unit.trigger_bed import DAY, PLACES, any_document, middle_us

# 2026-11-20T13:24:51Z, a Friday. In Berlin the clock goes forward on 2027-03-28 and back on 2027-10-31.
NOW_US = 1_795_181_091_000_000
BERLIN = "Europe/Berlin"


def cron(expression: str, zone: str = "UTC", **more: Any) -> dict[str, Any]:
    return {"type": "cron", "expression": expression, "timezone": zone, **more}


def warnings(document: Any) -> list[str]:
    return lint(parse_trigger(document, now_us=NOW_US), NOW_US)


@pytest.mark.parametrize(
    ("document", "warning"),
    [
        (cron("0 0 31 * *"), "day 31 leaves out February, April, June, September, November; L is the last day"),
        (cron("0 0 30 * *"), "day 30 leaves out February; L"),
        (cron("0 0 29 * *"), "day 29 leaves out February in years that are no leap years; L"),
        (cron("0 0 1,31 4 *"), "day 31 leaves out April"),
        (cron("0 12 13 * FRI"), "day 13 and day of week FRI are alternatives: it fires on each day that is one of"),
        (cron("H 12 H * FRI", seed="x"), "are alternatives"),
        (cron("*/7 * * * *"), "*/7 in the minute field begins anew with each hour: the last distance is 4, not 7"),
        (cron("H/7 * * * *", seed="x"), "H/7 in the minute field begins anew with each hour"),
        (cron("0 */5 * * *"), "*/5 in the hour field begins anew with each day: the last distance is 4, not 5"),
        (cron("*/25 0 * * * *"), "*/25 in the second field begins anew with each minute"),
        (cron("0 0 1 */5 *"), "*/5 in the month field begins anew with each year: the last distance is 2, not 5"),
        (cron("0 0 */2 * *"), "*/2 in the day field begins anew with each month"),
        (cron("0 0 * * */2"), "*/2 in the day_of_week field begins anew with each week, on Sunday"),
        (cron("* * * * * *"), "it fires every second"),
        (cron("* * * * *"), "it fires every minute"),
        (cron("* * 1 * *"), "it fires every minute of the days that match"),
        (cron("* * 9 * * *"), "* in the second and minute fields: it fires 3600 times in each hour that matches 9"),
        (cron("0 12 */2 * MON"), "day */2 and day of week MON have to match both, because one of them begins with *"),
        (cron("0 12 13 * */2"), "day 13 and day of week */2 have to match both"),
        (cron("0 12 *,13 * MON"), "*,13 in the day field is every value of it, as * alone is"),
        (cron("* 9 * * *"), "* in the minute field: it fires 60 times in each hour that matches 9; 0 is once"),
        (cron("* 0 9 * * *"), "* in the second field: it fires 60 times in each minute that matches 0; 0 is once"),
        (
            cron("30 2 * * *", BERLIN),
            "Europe/Berlin jumps from 2027-03-28 02:00 to 03:00: 02:30 does not exist, it fires at 03:00 instead",
        ),
        (
            cron("30 2 * * *", BERLIN, dst_gap="skip"),
            "02:30 does not exist, it does not fire for it (dst_gap: skip)",
        ),
        (cron("0 2,3 * * *", BERLIN), "02:00 does not exist, it fires at 03:00 only, which it names as well"),
        (
            cron("30 2 * * *", BERLIN),
            "Europe/Berlin is set back from 2027-10-31 03:00: 02:30 comes twice, it fires at the first of them",
        ),
        (
            cron("30 0 * * *", "Africa/Cairo"),
            "jumps from 2027-04-30 00:00 to 01:00: 00:30 does not exist, it fires at 01:00 instead",
        ),
        (cron("30 2 * * *", BERLIN, dst_fold="second"), "it fires at the second of them (dst_fold: second)"),
        (cron("0 */2 * * *", BERLIN), "02:00 comes twice, it fires at both (dst_fold: both)"),
        ({"type": "calendar", "days": 1, "at": "02:30:30", "timezone": BERLIN}, "02:30:30 does not exist, it fires at"),
        ({"type": "interval", "days": 1}, "every day counts real time: where the clock is changed"),
        ({"type": "interval", "weeks": 2}, "every 2 weeks counts real time"),
        ({"type": "interval", "milliseconds": 10}, "it fires 100 times a second"),
        ({"type": "calendar", "months": 1, "start_date": "2026-10-31"}, "months without a day 31 are left out"),
        ({"type": "calendar", "months": 1, "on": "30th day"}, 'day 30 are left out; "last day" is one of every month'),
        ({"type": "calendar", "months": 1, "on": "5th monday"}, "months without a 5th monday are left out"),
        ({"type": "calendar", "months": 1, "on": "21st weekday"}, "months without a 21st weekday are left out"),
        ({"type": "calendar", "years": 1, "start_date": "2024-02-29"}, "29 February leaves out the years that are no"),
        ([cron("* * * * *"), {"type": "startup"}], "it fires every minute"),
        ([cron("0 9 * * *"), cron("0 9 * * *")], "a trigger stands in or twice, which changes nothing"),
        (
            {"type": "and", "triggers": [{"type": "interval", "seconds": 61, "start": 0}, cron("0 3 * * *")]},
            "its triggers meet rarely: next at 2026-11-21T03:00:00.000000Z, then at 2027-01-21T03:00:00.000000Z",
        ),
        (
            {"type": "except", "trigger": {"type": "interval", "seconds": 60}, "except": cron("0 3 * * *")},
            "the exception leaves nothing out: it names no moment at which the trigger fires",
        ),
        (
            {"type": "except", "trigger": cron("0 9 * * *"), "except": cron("0 9 13 * FRI")},
            "in the exception: day 13 and day of week FRI are alternatives",
        ),
    ],
)
def test_lint_warns_in_plain_words(document: Any, warning: str) -> None:
    assert [said for said in warnings(document) if warning in said], warnings(document)


@pytest.mark.parametrize(
    "document",
    [
        cron("30 9 * * MON-FRI", BERLIN),
        cron("*/15 * * * *", BERLIN),
        cron("0 * * * *", BERLIN),
        cron("0 12 L * *", BERLIN),
        cron("0 0 30 4 *"),
        cron("30 2 * * *", "Asia/Tokyo"),
        cron("30 2 1 6 *", BERLIN),
        {"type": "interval", "hours": 6},
        {"type": "interval", "minutes": 5, "anchor": "end"},
        {"type": "calendar", "months": 1, "on": "last day", "at": "09:00"},
        {"type": "calendar", "months": 1, "on": "last friday", "at": "09:00", "timezone": BERLIN},
        {"type": "calendar", "weeks": 1, "on": ["MON"], "at": "09:00"},
        {"type": "date", "run_date": "+2h"},
        {"type": "startup"},
        {"type": "manual"},
        [cron("0 9 * * *"), cron("0 17 * * *")],
        {"type": "and", "triggers": [cron("0 12 13 * *"), cron("0 12 * * FRI")]},
        {"type": "except", "trigger": cron("0 9 * * *"), "except": cron("0 9 25 12 *")},
        cron("*/10 * * * * *"),
        {"type": "and", "triggers": [cron("* * * * * *"), {"type": "interval", "milliseconds": 8}]},
    ],
)
def test_lint_is_silent_about_what_is_plain(document: Any) -> None:
    assert warnings(document) == []


def test_lint_speaks_of_how_often_the_whole_of_it_fires() -> None:
    lunch = {"type": "except", "trigger": cron("* 8-17 * * MON-FRI"), "except": cron("* 12 * * *")}

    assert warnings(lunch) == [
        "* in the minute field: it fires 60 times in each hour that matches 8-17; 0 is once, on the hour"
    ]


def test_a_day_that_was_left_out_is_told_with_both_dates() -> None:
    trigger = parse_trigger(cron("0 12 * * *", "Pacific/Apia"))

    assert (
        "the clock in Pacific/Apia jumps from 2011-12-30 00:00 to 2011-12-31 00:00: 12:00 does not exist, "
        "it fires at 2011-12-31 00:00 instead (dst_gap: shift)"
    ) in lint(trigger, to_us(datetime(2011, 12, 1, tzinfo=UTC)))


@settings(max_examples=50)
@given(st.data())
def test_lint_has_an_answer_for_any_trigger(data: st.DataObject) -> None:
    zone, day = data.draw(st.sampled_from(PLACES))
    try:
        trigger = parse_trigger(data.draw(any_document(zone, day)))
    except InvalidTrigger:
        return

    said = lint(trigger, middle_us(day) - 30 * DAY)

    assert len(said) == len(set(said))
    assert all(said)


# --- marks -----------------------------------------------------------------------------------------


def marked(document: Any, day: str, n: int) -> list[tuple[str, tuple[str, ...]]]:
    trigger = parse_trigger(document, now_us=NOW_US)
    after_us = to_us(datetime.fromisoformat(day).replace(tzinfo=UTC))
    return [
        (datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%H:%M"), trigger.marks(us))
        for us in preview(trigger, after_us, n)
    ]


def test_a_time_made_up_for_after_a_gap_is_marked() -> None:
    assert marked(cron("30 2 * * *", BERLIN), "2027-03-27", 3) == [
        ("01:30", ()),
        ("01:00", ("dst_gap",)),
        ("00:30", ()),
    ]
    # 03:00 exists, whatever else it stands for.
    assert marked(cron("0 2,3 * * *", BERLIN), "2027-03-28", 1) == [("01:00", ())]
    assert marked(cron("30 2 * * *", BERLIN, dst_gap="skip"), "2027-03-28", 1) == [("00:30", ())]


def date_in(zone: str, run_date: str) -> dict[str, Any]:
    return {"type": "date", "run_date": run_date, "timezone": zone}


@pytest.mark.parametrize(
    ("document", "marks", "warning"),
    [
        (
            date_in(BERLIN, "2027-03-28T02:30:00"),
            ("dst_gap",),
            "2027-03-28 02:30 does not exist in Europe/Berlin: it fires at 2027-03-28 03:00:00+02:00, the first moment",
        ),
        (
            date_in("Pacific/Apia", "2011-12-30T12:00:00"),
            ("dst_gap",),
            "2011-12-30 12:00 does not exist in Pacific/Apia: it fires at 2011-12-31 00:00:00+14:00",
        ),
        (
            date_in(BERLIN, "2027-10-31T02:30:00"),
            ("dst_fold",),
            "2027-10-31 02:30 comes twice in Europe/Berlin: it fires at the first of them, 2027-10-31 02:30:00+02:00",
        ),
        # Who says the offset knows which of the two it is.
        (date_in(BERLIN, "2027-10-31T02:30:00+01:00"), ("dst_fold",), None),
        (date_in(BERLIN, "2027-03-28T03:00:00"), (), None),
        (date_in(BERLIN, "2027-03-28T01:59:59.5"), (), None),
        (date_in("UTC", "2027-03-28T02:30:00"), (), None),
    ],
)
def test_a_date_whose_local_time_is_missing_or_comes_twice_is_marked_and_told(
    document: dict[str, Any], marks: tuple[str, ...], warning: str | None
) -> None:
    trigger = parse_trigger(document)

    assert trigger.marks(trigger.next_after(0) or 0) == marks
    said = lint(trigger, NOW_US)
    assert (said == []) if warning is None else said[0].startswith(warning), said


def test_both_of_two_equal_local_times_are_marked() -> None:
    both = marked(cron("0 1,2,3 * * *", BERLIN, dst_fold="both"), "2027-10-30T22:30", 4)

    assert both == [("23:00", ()), ("00:00", ("dst_fold",)), ("01:00", ("dst_fold",)), ("02:00", ())]
    assert marked(cron("30 2 * * *", BERLIN, dst_fold="second"), "2027-10-31", 1) == [("01:30", ("dst_fold",))]


def test_a_combination_has_the_marks_of_the_members_that_fire() -> None:
    hourly = {"type": "interval", "hours": 1, "start": 0}
    gap, fold = ("dst_gap",), ("dst_fold",)

    assert marked([hourly, cron("30 2 * * *", BERLIN)], "2027-03-28", 2) == [("01:00", gap), ("02:00", ())]
    daily = {"type": "and", "triggers": [hourly, cron("0 2 * * *", BERLIN)]}
    assert marked(daily, "2027-10-30T12:00", 2) == [("00:00", fold), ("01:00", ())]
    usual = {"type": "except", "trigger": cron("0 2 * * *", BERLIN), "except": cron("0 2 1 * *", BERLIN)}
    assert marked(usual, "2027-10-30T12:00", 1) == [("00:00", fold)]
    assert marked(hourly, "2027-10-31", 1) == [("01:00", ())]


def test_the_zone_is_that_of_the_rule() -> None:
    for document, zone in (
        (cron("0 9 * * *", BERLIN), BERLIN),
        ({"type": "calendar", "days": 1, "timezone": BERLIN}, BERLIN),
        ({"type": "date", "run_date": "2027-01-01T09:00", "timezone": BERLIN}, BERLIN),
        ({"type": "interval", "hours": 1, "timezone": BERLIN}, "UTC"),
        ([cron("0 9 * * *", BERLIN), cron("0 9 * * *", "Asia/Tokyo")], BERLIN),
        ({"type": "startup"}, "UTC"),
    ):
        assert parse_trigger(document).zone_key == zone


# --- left out --------------------------------------------------------------------------------------


def left_out(document: Any, upto: str = "2028-01-01", most: int = 100) -> list[str]:
    upto_us = to_us(datetime.fromisoformat(upto).replace(tzinfo=UTC))
    return [
        f"{skipped.local:%Y-%m-%d %H:%M} {skipped.zone_key}"
        for skipped in skipped_by_gap(parse_trigger(document, now_us=NOW_US), NOW_US, upto_us, most)
    ]


def test_local_times_that_nothing_makes_up_for_are_listed() -> None:
    skip = cron("*/20 2 * * *", BERLIN, dst_gap="skip")

    assert left_out(skip) == [f"2027-03-28 02:{minute} Europe/Berlin" for minute in ("00", "20", "40")]
    assert left_out(skip, most=2) == [f"2027-03-28 02:{minute} Europe/Berlin" for minute in ("00", "20")]
    assert left_out(skip, "2027-03-28T00:59:59") == []
    assert left_out(skip, "2029-01-01")[3:] == [
        f"2028-03-26 02:{minute} Europe/Berlin" for minute in ("00", "20", "40")
    ]
    assert left_out(cron("30 2 * * *", BERLIN)) == []
    # It goes by real time.
    assert left_out(cron("*/20 * * * *", BERLIN)) == []
    assert left_out(skip | {"end": "2027-03-01"}) == []
    assert left_out(skip | {"start": "2027-06-01"}) == []
    assert left_out({"type": "interval", "minutes": 1}) == []


def test_the_moment_of_a_left_out_time_is_the_first_one_after_the_jump() -> None:
    trigger = parse_trigger(cron("30 2 * * *", BERLIN, dst_gap="skip"))

    (skipped,) = skipped_by_gap(trigger, NOW_US, NOW_US + 366 * DAY)

    assert skipped.at_us == to_us(datetime(2027, 3, 28, 1, tzinfo=UTC))


def test_combinations_leave_out_what_their_members_do() -> None:
    half, quarter = cron("30 2 * * *", BERLIN, dst_gap="skip"), cron("15,30 2 * * *", BERLIN, dst_gap="skip")
    berlin = [f"2027-03-28 02:{minute} Europe/Berlin" for minute in ("15", "30")]

    assert left_out([half, quarter]) == berlin
    assert left_out({"type": "and", "triggers": [half, quarter]}) == berlin[1:]
    assert left_out({"type": "except", "trigger": quarter, "except": half}) == berlin[:1]
    assert left_out({"type": "or", "triggers": [half, quarter], "end": "2027-03-01"}) == []


def test_the_list_ends_after_ten_years() -> None:
    trigger = parse_trigger(cron("30 2 * * *", BERLIN, dst_gap="skip"))

    assert len(skipped_by_gap(trigger, NOW_US, 2**62)) == 10
