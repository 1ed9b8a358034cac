"""iCalendar files: what they mean, what is left of them, and what is refused before it can do harm."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedule_zero.clock import from_us, to_us
from schedule_zero.errors import InvalidCalendar
from schedule_zero.model import SkipReason
from schedule_zero.timing.calendar_parse import parse_calendar
from schedule_zero.timing.calendars import NamedCalendar
from schedule_zero.timing.ical_recurrence import times_a_year
from schedule_zero.timing.ical_text import distil, merged
from schedule_zero.timing.walltime import day_number

FROM, TO = to_us(datetime(2026, 1, 1, tzinfo=UTC)), to_us(datetime(2028, 1, 1, tzinfo=UTC))


def event(*lines: str, summary: str = "x") -> str:
    return "\r\n".join(["BEGIN:VEVENT", "UID:1@test", *lines, f"SUMMARY:{summary}", "END:VEVENT", ""])


def file(*parts: str) -> str:
    head = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//EN", ""]
    return "\r\n".join(head) + "".join(parts) + "END:VCALENDAR\r\n"


def calendar(*parts: str, zone: str = "Europe/Berlin") -> NamedCalendar:
    return parse_calendar({"timezone": zone, "ical": file(*parts)}, "c")


def shown(made: NamedCalendar, from_us_: int = FROM, to_us_: int = TO) -> list[tuple[str, str]]:
    return [
        (from_us(window.start_us).isoformat()[:16], from_us(window.end_us).isoformat()[:16])
        for window in made.windows(from_us_, to_us_)
    ]


# --- what events mean --------------------------------------------------------------------------------


def test_an_all_day_event_is_a_holiday_of_the_calendars_zone() -> None:
    made = calendar(event("DTSTART;VALUE=DATE:20260710", "DTEND;VALUE=DATE:20260712", summary="Summer\\, party"))

    [window] = made.windows(FROM, TO)

    assert (window.reason, window.label) == (SkipReason.HOLIDAY, "Summer, party")
    assert shown(made) == [("2026-07-09T22:00", "2026-07-11T22:00")]
    days = [day_number(datetime(2026, 7, day, tzinfo=UTC).date()) for day in (9, 10, 11, 12)]
    assert [made.is_business_day(day) for day in days] == [True, False, False, True]


def test_a_timed_event_is_a_blackout() -> None:
    made = calendar(event("DTSTART:20260710T100000Z", "DTEND:20260710T113000Z"))

    [window] = made.windows(FROM, TO)

    assert window.reason is SkipReason.BLACKOUT
    assert shown(made) == [("2026-07-10T10:00", "2026-07-10T11:30")]
    assert made.is_business_day(day_number(datetime(2026, 7, 10, tzinfo=UTC).date()))


def test_a_timed_event_from_midnight_to_midnight_makes_no_business_day() -> None:
    made = calendar(event("DTSTART;TZID=Europe/Berlin:20260710T000000", "DURATION:P1D"))

    assert not made.is_business_day(day_number(datetime(2026, 7, 10, tzinfo=UTC).date()))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["DTSTART:20260710T100000", "DURATION:PT90M"], [("2026-07-10T08:00", "2026-07-10T09:30")]),
        (["DTSTART;TZID=Asia/Tokyo:20260710T100000", "DURATION:PT1H"], [("2026-07-10T01:00", "2026-07-10T02:00")]),
        (["DTSTART;VALUE=DATE:20260710"], [("2026-07-09T22:00", "2026-07-10T22:00")]),
        # Without a duration there is nothing to cover.
        (["DTSTART:20260710T100000Z"], []),
        (["DTSTART:20260710T100000Z", "DURATION:PT0S"], []),
        (["DTSTART:20260710T100000Z", "DURATION:PT1H", "STATUS:CANCELLED"], []),
        (["DTSTART;VALUE=DATE:20260710", "TRANSP:TRANSPARENT"], [("2026-07-09T22:00", "2026-07-10T22:00")]),
        # Over a gap, as the wall shows it; in the gap, from its end on.
        (["DTSTART:20260328T220000", "DTEND:20260329T060000"], [("2026-03-28T21:00", "2026-03-29T04:00")]),
        (["DTSTART:20260329T023000", "DTEND:20260329T040000"], [("2026-03-29T01:00", "2026-03-29T02:00")]),
        # Over the turn of the year.
        (["DTSTART:20261231T230000Z", "DTEND:20270101T010000Z"], [("2026-12-31T23:00", "2027-01-01T01:00")]),
    ],
)  # fmt: skip
def test_when_an_event_is(lines: list[str], expected: list[tuple[str, str]]) -> None:
    assert shown(calendar(event(*lines))) == expected


def test_repetitions_keep_the_time_on_the_wall() -> None:
    made = calendar(
        event("DTSTART;TZID=Europe/Berlin:20260327T100000", "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=4"),
    )

    assert [start[5:] for start, _ in shown(made)] == ["03-27T09:00", "03-28T09:00", "03-29T08:00", "03-30T08:00"]


@pytest.mark.parametrize(
    ("lines", "days"),
    [
        (["RRULE:FREQ=WEEKLY;BYDAY=MO,FR;UNTIL=20260717"], "07-10 07-13 07-17"),
        (["RRULE:FREQ=MONTHLY;BYDAY=2FR;COUNT=3"], "07-10 08-14 09-11"),
        (["RRULE:FREQ=MONTHLY;BYMONTHDAY=-1;COUNT=3", "EXDATE;VALUE=DATE:20260710"], "07-31 08-31 09-30"),
        (["RRULE:FREQ=YEARLY;UNTIL=20271231"], "07-10 07-10"),
        (["RRULE:FREQ=DAILY;COUNT=5", "EXDATE;VALUE=DATE:20260711,20260713"], "07-10 07-12 07-14"),
        (["RDATE;VALUE=DATE:20260801,20260901"], "07-10 08-01 09-01"),
        (["RRULE:FREQ=DAILY;INTERVAL=10;COUNT=2", "RDATE;VALUE=DATE:20260801"], "07-10 07-20 08-01"),
    ],
)
def test_recurrence_rules_and_their_exceptions(lines: list[str], days: str) -> None:
    made = calendar(event("DTSTART;VALUE=DATE:20260710", *lines), zone="UTC")

    assert [start[5:10] for start, _ in shown(made)] == days.split()


def test_a_single_repetition_may_be_moved_or_cancelled() -> None:
    made = calendar(
        event("DTSTART:20260706T100000Z", "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=4"),
        event("RECURRENCE-ID:20260707T100000Z", "DTSTART:20260707T150000Z", "DURATION:PT2H", summary="late"),
        event("RECURRENCE-ID:20260708T100000Z", "DTSTART:20260708T100000Z", "DURATION:PT1H", "STATUS:CANCELLED"),
    )

    assert [start[8:] for start, _ in shown(made)] == ["06T10:00", "07T15:00", "09T10:00"]
    assert [window.label for window in made.windows(FROM, TO)] == ["x", "late", "x"]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC"])
def test_what_a_rule_has_in_a_gap_of_the_clock_is_left_out_and_what_the_file_names_there_is_not(zone: str) -> None:
    tzid = ";TZID=Europe/Berlin" if zone == "UTC" else ""
    made = calendar(
        event(f"DTSTART{tzid}:20260327T023000", "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=4"),
        event(f"DTSTART{tzid}:20270328T024500", "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=1").replace("1@", "2@"),
        event(
            f"DTSTART{tzid}:20260701T021500",
            "DURATION:PT1H",
            "RRULE:FREQ=YEARLY;COUNT=1",
            f"RDATE{tzid}:20270328T021500",
        ).replace("1@", "3@"),
        zone=zone,
    )

    days = [from_us(window.end_us).strftime("%m-%d") for window in made.windows(FROM, TO)]

    assert days == ["03-27", "03-28", "03-30", "07-01", "03-28", "03-28"]


@pytest.mark.parametrize(
    ("parts", "note"),
    [
        ((event("DTSTART;VALUE=DATE:20260710"),), None),
        ((), "it has no event"),
        (("BEGIN:VTODO\r\nDTSTART:20260101T000000Z\r\nEND:VTODO\r\n",), "it has no event"),
        (
            (event("DTSTART:20260710T100000Z"), event("DTSTART;VALUE=DATE:20260710", "STATUS:CANCELLED")),
            "all of its 2 events are cancelled or of no length",
        ),
    ],
)
def test_a_file_that_covers_nothing_is_taken_with_a_warning(parts: tuple[str, ...], note: str | None) -> None:
    expected = [] if note is None else [f"the iCalendar file covers nothing: {note}"]

    assert calendar(*parts).warnings == expected


def test_an_event_that_lasts_over_several_years_covers_each_of_them_once() -> None:
    made = calendar(event("DTSTART;VALUE=DATE:20251201", "DTEND;VALUE=DATE:20280201"), zone="UTC")

    assert shown(made) == [("2025-12-01T00:00", "2028-02-01T00:00")]
    assert all(made.covering(us) is not None for us in range(FROM, TO, 86_400_000_000))


def test_repetitions_go_on_to_the_end_of_the_century() -> None:
    made = calendar(event("DTSTART;VALUE=DATE:20260101", "RRULE:FREQ=YEARLY"), zone="UTC")

    assert made.covering(to_us(datetime(2099, 1, 1, tzinfo=UTC))) is not None
    assert made.covering(to_us(datetime(2100, 1, 1, tzinfo=UTC))) is None


def test_a_label_is_one_line_of_bounded_length() -> None:
    made = calendar(event("DTSTART;VALUE=DATE:20260710", summary="a\\nb\x07  c" + "x" * 500), zone="UTC")

    [window] = made.windows(FROM, TO)

    assert window.label.startswith("a b cxxx")
    assert len(window.label) == 200


def test_an_event_without_a_summary_is_called_something() -> None:
    text = file("BEGIN:VEVENT\nDTSTART;VALUE=DATE:20260710\nEND:VEVENT\n")

    [window] = parse_calendar({"ical": text}, "c").windows(FROM, TO)

    assert window.label == "iCal event"


# --- time zones --------------------------------------------------------------------------------------

CUSTOM = """BEGIN:VTIMEZONE
TZID:{name}
X-LIC-LOCATION:somewhere
BEGIN:STANDARD
DTSTART:16010101T000000
TZOFFSETFROM:{offset}
TZOFFSETTO:{offset}
TZNAME:X
END:STANDARD
END:VTIMEZONE
"""


@pytest.mark.parametrize(
    "tzid",
    [
        "Europe/Berlin", '"Europe/Berlin"', "W. Europe Standard Time", "/freeassociation.sourceforge.net/Europe/Berlin",
    ],
)  # fmt: skip
def test_a_zone_is_known_by_several_names(tzid: str) -> None:
    made = calendar(event(f"DTSTART;TZID={tzid}:20260710T100000", "DURATION:PT1H"), zone="UTC")

    assert shown(made) == [("2026-07-10T08:00", "2026-07-10T09:00")]
    assert ";TZID=Europe/Berlin:" in made.document()["ical"]


def test_zones_of_the_same_name_in_two_files_are_two_zones() -> None:
    lines = event("DTSTART;TZID=My Zone:20260710T100000", "DURATION:PT1H")

    early = calendar(CUSTOM.format(name="My Zone", offset="+0300"), lines)
    late = calendar(CUSTOM.format(name="My Zone", offset="-0500"), lines)

    assert shown(early) == [("2026-07-10T07:00", "2026-07-10T08:00")]
    assert shown(late) == [("2026-07-10T15:00", "2026-07-10T16:00")]
    again = parse_calendar(early.document(), "c")
    assert (again.document(), shown(again)) == (early.document(), shown(early))


def test_a_file_cannot_redefine_a_zone_that_everybody_knows() -> None:
    made = calendar(
        CUSTOM.format(name="Europe/Berlin", offset="-0500"),
        event("DTSTART;TZID=Europe/Berlin:20260710T100000", "DURATION:PT1H"),
    )

    assert shown(made) == [("2026-07-10T08:00", "2026-07-10T09:00")]
    assert "VTIMEZONE" not in made.document()["ical"]


def test_a_zone_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidCalendar, match=r"line 6 .* TZID: expected an IANA zone, .* got 'Nowhere'"):
        calendar(event("DTSTART;TZID=Nowhere:20260710T100000", "DURATION:PT1H"))


def test_daylight_saving_of_a_zone_of_the_file_is_kept() -> None:
    zone = """BEGIN:VTIMEZONE
TZID:Own
BEGIN:DAYLIGHT
DTSTART:20000326T020000
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
END:DAYLIGHT
BEGIN:STANDARD
DTSTART:20001029T030000
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
END:STANDARD
END:VTIMEZONE
"""
    made = calendar(zone, event("DTSTART;TZID=Own:20260115T100000", "DURATION:PT1H", "RRULE:FREQ=MONTHLY;COUNT=7"))

    assert [start[5:] for start, _ in shown(made)] == [
        "01-15T09:00", "02-15T09:00", "03-15T09:00", "04-15T08:00", "05-15T08:00", "06-15T08:00", "07-15T08:00",
    ]  # fmt: skip


# --- what is kept ------------------------------------------------------------------------------------


def test_only_what_bears_on_time_is_kept() -> None:
    text = file(
        "METHOD:PUBLISH\r\nX-WR-CALNAME:private\r\n",
        "BEGIN:VTODO\r\nDTSTART:20260101T000000Z\r\nSUMMARY:todo\r\nEND:VTODO\r\n",
        event(
            "DTSTAMP:20260101T000000Z", "DTSTART:20260710T100000Z", "DURATION:PT1H", "DESCRIPTION:private\r\n  indeed",
            "ATTENDEE;CN=Ann:mailto:ann@example.org", "X-THING:1", "BEGIN:VALARM", "TRIGGER:-PT5M", "SUMMARY:wake up",
            "END:VALARM", summary="one\r\n  two",
        ),
    )  # fmt: skip

    assert distil(text, "/ical").text == (
        "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//ScheduleZero//named calendar//EN\n"
        "BEGIN:VEVENT\nUID:1@test\nDTSTART:20260710T100000Z\nDURATION:PT1H\nSUMMARY:one two\nEND:VEVENT\n"
        "END:VCALENDAR\n"
    )
    assert distil(distil(text, "").text, "").text == distil(text, "").text


def test_a_file_of_two_calendars_is_one() -> None:
    first, second = event("DTSTART;VALUE=DATE:20260710"), event("DTSTART;VALUE=DATE:20260711").replace("UID:1", "UID:2")

    made = parse_calendar({"ical": "\ufeff" + file(first) + file(second)}, "c")

    assert len(made.windows(FROM, TO)) == 2


def test_merging_keeps_what_the_new_file_does_not_have() -> None:
    def distilled(*events: str) -> str:
        return distil(file(*events), "").text

    def named(uid: str, *lines: str) -> str:
        return event(*lines).replace("UID:1@test", f"UID:{uid}")

    old = distilled(
        CUSTOM.format(name="Z", offset="+0100"),
        named("a", "DTSTART;TZID=Z:20260701T100000", "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=2"),
        named("a", "RECURRENCE-ID;TZID=Z:20260702T100000", "DTSTART;TZID=Z:20260702T150000", "DURATION:PT1H"),
        named("b", "DTSTART;TZID=Z:20260710T100000", "DURATION:PT1H"),
    )
    new = distilled(
        CUSTOM.format(name="Z", offset="+0300"), named("a", "DTSTART;TZID=Z:20260801T100000", "DURATION:PT1H")
    )

    made = parse_calendar({"ical": merged(old, new)}, "c")

    assert [start[5:] for start, _ in shown(made)] == ["07-10T09:00", "08-01T07:00"]
    assert merged(new, new) == new
    assert merged(distilled(), new) == new


# --- what is refused ---------------------------------------------------------------------------------

DAILY = "DTSTART:20260710T100000Z"

REFUSED: list[tuple[str, str]] = [
    (" ", "expected BEGIN:VCALENDAR"),
    ("\r\n\n", "BEGIN:VCALENDAR is missing"),
    ("hello", "line 1 of the iCalendar text: expected BEGIN:VCALENDAR"),
    ("BEGIN:VEVENT\nEND:VEVENT\n", "expected BEGIN:VCALENDAR around everything else"),
    (
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\nEND:VCALENDAR\n",
        "line 3 of the iCalendar text: expected END:VEVENT (it began in line 2), got END:VCALENDAR",
    ),
    ("END:VCALENDAR\n", "line 1 of the iCalendar text: END:VCALENDAR without its BEGIN"),
    (
        file("BEGIN:VTODO\nhello\nEND:VTODO\n"),
        "line 5 of the iCalendar text: expected a property as NAME:value, got 'hello'",
    ),
    (file(event("DTSTART 20260710")), "line 6 of the iCalendar text: expected a property as NAME:value"),
    ("BEGIN:VCALENDAR\nBEGIN:VEVENT\n", "END:VEVENT is missing"),
    ("BEGIN:VCALENDAR\nBEGIN:VCALENDAR\n", "around everything else"),
    ("BEGIN:VCALENDAR\n" + "BEGIN:X\n" * 10_000, "nested deeper than 4 levels"),
    (file(event()), "an event without DTSTART"),
    (file(event("DTSTART:soon")), "expected DTSTART as 20261224 or 20261224T180000, got 'soon'"),
    (
        file(event("DTSTART:18991231T000000Z")),
        "line 6 of the iCalendar text: expected DTSTART in a year from 1900 to 9998",
    ),
    (file(event("DTSTART;VALUE=DATE:99990101")), "expected DTSTART in a year from 1900 to 9998, got '99990101'"),
    (file(event("DTSTART:20260230T000000Z")), "line 6 of the iCalendar text: DTSTART: there is no 20260230T000000Z"),
    (file(event(DAILY, DAILY)), "a second DTSTART in one event"),
    (
        file(event(DAILY, "DTEND:20260709T080000Z")),
        "line 7 of the iCalendar text: DTEND: the event 'x' ends before it begins",
    ),
    (
        file(event(DAILY, "DTEND:20260710T095959Z")),
        "line 7 of the iCalendar text: DTEND: the event 'x' ends before it begins",
    ),
    (file(event(DAILY, "DTEND;TZID=Europe/Berlin:20260710T115959")), "DTEND: the event 'x' ends before it begins"),
    (file(event("DTSTART:20260710T100000", "DTEND:20260710T090000")), "DTEND: the event 'x' ends before it begins"),
    (file(event("DTSTART;VALUE=DATE:20260710", "DTEND;VALUE=DATE:20260709")), "ends before it begins"),
    (
        file(event(DAILY, "DURATION:-PT1H")),
        "line 7 of the iCalendar text: DURATION: the event 'x' ends before it begins",
    ),
    (
        file(event(DAILY, "DTEND:20390709T080000Z")),
        "line 7 of the iCalendar text: DTEND: the event 'x' is 4746 days long",
    ),
    (file(event(DAILY, "DURATION:P9999D")), "line 7 of the iCalendar text: DURATION: the event 'x' is 9999 days long"),
    (file(event("DTSTART:99981231T000000Z", "DURATION:P9999W")), "line 7 of the iCalendar text: the event ends after"),
    (
        file(event(DAILY, "DTEND:20260710T110000Z", "DURATION:PT1H")),
        "line 8 of the iCalendar text: expected either DTEND or",
    ),
    (file(event(DAILY, "DTEND;VALUE=DATE:20260711")), "a date and a time as its start and end"),
    (file(event(DAILY, "DTEND:2026x")), "line 7 of the iCalendar text: DTEND"),
    (file(event(DAILY, "DURATION:forever")), "line 7 of the iCalendar text: DURATION: expected a length such as P1D"),
    (file(event(DAILY, "DURATION:P99999999999W")), "line 7 of the iCalendar text: DURATION: expected a length"),
    (file(event(DAILY, "DURATION:P")), "DURATION: expected a length"),
    (file(event(DAILY, "EXRULE:FREQ=DAILY")), "EXRULE is not taken"),
    (file(event(DAILY, "EXDATE:yesterday")), "line 7 of the iCalendar text: EXDATE"),
    (file(event(DAILY, "RRULE:FREQ=SECONDLY")), "FREQ: expected DAILY, WEEKLY, MONTHLY, YEARLY, got 'SECONDLY'"),
    (file(event(DAILY, "RRULE:COUNT=3")), "FREQ: expected DAILY"),
    (file(event(DAILY, "RRULE:FREQ=DAILY;INTERVAL=0")), "INTERVAL: expected 1 to 1000, got '0'"),
    (file(event(DAILY, "RRULE:FREQ=DAILY;INTERVAL=-1")), "INTERVAL: expected 1 to 1000"),
    (file(event(DAILY, "RRULE:FREQ=DAILY;COUNT=1000000")), "COUNT: expected 1 to 100000"),
    (file(event(DAILY, "RRULE:FREQ=DAILY;COUNT=1;UNTIL=20270101T000000Z")), "either UNTIL or COUNT, got both"),
    (file(event(DAILY, "RRULE:FREQ=DAILY;FREQ=DAILY")), "expected a recurrence rule of"),
    (file(event(DAILY, "RRULE:FREQ=YEARLY;BYEASTER=0")), "expected a recurrence rule of"),
    (file(event(DAILY, "RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30")), "the rule never matches"),
    (file(event(DAILY, "RRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30")), "the rule never matches"),
    (file(event(DAILY, "RRULE:FREQ=DAILY;INTERVAL=7;BYDAY=MO")), "the rule never matches"),
    (file(event(DAILY, "RRULE:FREQ=WEEKLY;BYMONTH=2;BYMONTHDAY=30")), "the rule never matches"),
    (file(event(DAILY, "RRULE:FREQ=DAILY;BYSETPOS=2")), "BYSETPOS and BYDAY with a number are not for FREQ=DAILY"),
    (file(event(DAILY, "RRULE:FREQ=WEEKLY;BYDAY=2MO")), "BYSETPOS and BYDAY with a number are not for FREQ=WEEKLY"),
    (file(event(DAILY, "RRULE:FREQ=MONTHLY;BYDAY=0MO")), "not a recurrence rule"),
    (file(event(DAILY, "RRULE:FREQ=YEARLY;BYMONTH=13")), "iCalendar"),
    (file(event(DAILY, "RRULE:FREQ=DAILY;BYHOUR=" + ",".join(map(str, range(11))))), "more than 3660 times a year"),
    (file(*[event(DAILY, "RRULE:FREQ=DAILY")] * 11), "more than 3660 times a year, taken together"),
    (file(*[event(DAILY)] * 1001), "at most 1000 events, got 1001"),
    (file(event(DAILY, "EXDATE:" + ",".join(["20260710T100000Z"] * 5001))), "at most 5000 dates"),
    (file(*[CUSTOM.format(name=f"Z{n}", offset="+0100") for n in range(51)]), "at most 50 time zones"),
    ("BEGIN:VCALENDAR\nX:" + "x" * (1 << 20) + "\nEND:VCALENDAR\n", "at most 1048576 bytes"),
    (file(CUSTOM.format(name="Z", offset="nothing"), event("DTSTART;TZID=Z:20260710T100000")), "can be used"),
    (
        file(
            CUSTOM.format(name="Z", offset="+0100").replace("TZNAME:X", "RRULE:FREQ=DAILY"),
            event("DTSTART;TZID=Z:20260710T100000"),
        ),
        "a time zone changes by FREQ=YEARLY",
    ),
    (
        file(
            CUSTOM.format(name="Z", offset="+0100").replace("TZNAME:X\n", "TZNAME:X\n" * 501),
            event("DTSTART;TZID=Z:20260710T100000"),
        ),
        "at most 500 lines of one time zone",
    ),
]


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[said[:40] for _, said in REFUSED])
def test_what_cannot_be_used_is_refused_soon_and_says_why(text: str, said: str) -> None:
    started = time.thread_time()

    with pytest.raises(InvalidCalendar) as caught:
        parse_calendar({"ical": text}, "c")

    assert said in caught.value.message
    assert caught.value.pointer == "/ical"
    assert len(caught.value.message) < 600
    assert time.thread_time() - started < 5


SOUND = file(
    CUSTOM.format(name="My Zone", offset="+0300"),
    event(
        "DTSTART;TZID=My Zone:20260710T100000", "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=5", "EXDATE:20260711T070000Z"
    ),
    event("DTSTART;VALUE=DATE:20260710", "DTEND;VALUE=DATE:20260712", "RRULE:FREQ=YEARLY;BYMONTH=7;BYMONTHDAY=10"),
)
FRAGMENTS = [
    "", "0", "9", "-", ";", ":", "=", ",", '"', "\n", "\r\n ", "\0", "T", "Z", "MO", "2MO", "COUNT=0", ";UNTIL=2",
    "VALUE=", "BEGIN:", "END:", "VEVENT\n", "99999999", "P1Y", "\u20ac", "TZID=", "FREQ=WEEKLY", "INTERVAL=9",
    "BYDAY=FR", "RDATE:20260712",
]  # fmt: skip


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(FRAGMENTS)), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_a_damaged_file_is_used_or_refused_and_nothing_else(damage: list[tuple[float, int, str]]) -> None:
    text = SOUND
    for place, length, fragment in damage:
        at = int(place * len(text))
        text = text[:at] + fragment + text[at + length :]

    try:
        made = parse_calendar({"ical": text}, "c")
    except InvalidCalendar:
        return

    made.windows(FROM, FROM + 400 * 86_400_000_000)
    assert parse_calendar(made.document(), "c").document() == made.document()


@pytest.mark.parametrize(
    ("rule", "most"),
    [
        ("FREQ=DAILY", 366), ("FREQ=DAILY;INTERVAL=2", 183), ("FREQ=WEEKLY;BYDAY=MO,TU", 106), ("FREQ=MONTHLY", 12),
        ("FREQ=MONTHLY;BYDAY=MO", 60), ("FREQ=MONTHLY;BYDAY=2MO,-1FR", 24), ("FREQ=YEARLY", 1),
        ("FREQ=YEARLY;BYMONTH=12;BYDAY=1SU", 1), ("FREQ=YEARLY;BYDAY=20MO", 1), ("FREQ=YEARLY;BYDAY=MO", 53),
        ("FREQ=YEARLY;BYMONTHDAY=1", 12), ("FREQ=YEARLY;BYYEARDAY=1,100", 2), ("FREQ=YEARLY;BYWEEKNO=1", 14),
        ("FREQ=YEARLY;BYMONTH=1,2,3;BYHOUR=1,2", 6),
    ],
)  # fmt: skip
def test_the_bound_on_repetitions_is_one(rule: str, most: int) -> None:
    from dateutil.rrule import rrulestr

    parts = dict(part.split("=") for part in rule.split(";"))
    matches = rrulestr(rule, dtstart=datetime(2024, 1, 1)).between(datetime(2023, 12, 31), datetime(2025, 1, 1))

    assert times_a_year(parts) == most
    assert len(matches) <= most


def test_a_large_calendar_is_ready_in_a_moment() -> None:
    events = [
        event("DTSTART;VALUE=DATE:20200101", "RRULE:FREQ=YEARLY", "DESCRIPTION:" + "x" * 700).replace(
            "UID:1", f"UID:{n}"
        )
        for n in range(1000)
    ]
    started = time.thread_time()

    made: Any = calendar(*events)
    made.covering(FROM)

    assert time.thread_time() - started < 10
