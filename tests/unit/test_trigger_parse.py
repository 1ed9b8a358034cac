"""Trigger documents: what is understood, what is refused and where the error points."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.clock import from_us, rfc3339
from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing import cron_text, first_fire, load_trigger, parse, parse_trigger, preview, recurring

# 2026-11-20T13:24:51Z, a Friday.
NOW_US = 1_795_181_091_000_000


def times(document: dict[str, Any], n: int = 3, after_us: int = NOW_US) -> list[str]:
    trigger = parse_trigger(document, now_us=NOW_US)
    return [from_us(us).strftime("%Y-%m-%d %H:%M:%S") for us in preview(trigger, after_us, n)]


# --- date ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "run_date",
    ["2026-12-24T18:00:00Z", "2026-12-24T19:00:00+01:00", 1_798_135_200, 1_798_135_200.0, "2026-12-24 18:00:00"],
)
def test_a_date_is_read_as_iso_or_unix_seconds(run_date: object) -> None:
    assert times({"type": "date", "run_date": run_date}) == ["2026-12-24 18:00:00"]


def test_a_date_without_offset_is_in_the_triggers_zone() -> None:
    document = {"type": "date", "run_date": "2026-12-24T18:00:00", "timezone": "Europe/Berlin"}

    assert times(document) == ["2026-12-24 17:00:00"]


def test_a_local_date_in_a_dst_gap_is_the_first_moment_after_it_and_in_a_fold_the_first_of_two() -> None:
    gap = {"type": "date", "run_date": "2027-03-28T02:30:00", "timezone": "Europe/Berlin"}
    fold = {"type": "date", "run_date": "2027-10-31T02:30:00", "timezone": "Europe/Berlin"}

    assert times(gap) == ["2027-03-28 01:00:00"]
    assert times(fold) == ["2027-10-31 00:30:00"]


@pytest.mark.parametrize(
    "document",
    [
        {"type": "interval", "hours": 1, "start": 0, "end": "9999-12-31T23:59:59Z"},
        {"type": "interval", "hours": 1, "start": 0, "end": "9999-12-31"},
        {"type": "cron", "expression": "0 * * * *", "end_time": "9999-12-31T23:59:59"},
        {"type": "calendar", "days": 1, "end_date": "9999-12-31"},
    ],
)
def test_an_end_in_the_year_9999_means_that_there_is_none(document: dict[str, Any]) -> None:
    without = {key: value for key, value in document.items() if not key.startswith("end")}

    assert parse_trigger(document, now_us=NOW_US).encoded() == parse_trigger(without, now_us=NOW_US).encoded()


def test_a_date_that_has_just_passed_is_still_owed_once() -> None:
    trigger = parse_trigger({"type": "date", "run_date": rfc3339(NOW_US - 1)})

    assert first_fire(trigger, NOW_US) == NOW_US - 1
    assert trigger.next_after(NOW_US - 1) is None


@pytest.mark.parametrize(
    ("run_date", "expected"),
    [
        ("2027-02-03", "2027-02-03 00:00:00"),
        ("2027-W01-1", "2027-01-04 00:00:00"),
        ("20270101T093000Z", "2027-01-01 09:30:00"),
        ("2027-01-01T09:30Z", "2027-01-01 09:30:00"),
    ],
)
def test_other_forms_of_iso_8601_are_read(run_date: str, expected: str) -> None:
    assert times({"type": "date", "run_date": run_date}) == [expected]


def test_digits_beyond_microseconds_are_dropped() -> None:
    trigger = parse_trigger({"type": "date", "run_date": "2027-01-01T00:00:00.1234569Z"})

    assert trigger.document()["run_date"] == "2027-01-01T00:00:00.123456Z"


# --- interval --------------------------------------------------------------------------------------


def test_an_interval_counts_from_the_moment_it_was_made_and_says_so_in_its_document() -> None:
    trigger = parse_trigger({"type": "interval", "seconds": 10}, now_us=NOW_US)

    assert preview(trigger, NOW_US, 2) == [NOW_US + 10_000_000, NOW_US + 20_000_000]
    assert trigger.document() == {"type": "interval", "seconds": 10, "start": "2026-11-20T13:24:51.000000Z"}


def test_an_interval_keeps_its_rate_whenever_it_is_asked() -> None:
    document = {"type": "interval", "minutes": 90, "start": "2020-01-01T00:00:00Z"}

    assert times(document) == ["2026-11-20 13:30:00", "2026-11-20 15:00:00", "2026-11-20 16:30:00"]


def test_start_and_end_are_part_of_the_span() -> None:
    document = {
        "type": "interval",
        "hours": 1,
        "start_time": "2027-01-01T00:00:00Z",
        "end_time": "2027-01-01T01:00:00Z",
    }

    assert times(document) == ["2027-01-01 00:00:00", "2027-01-01 01:00:00"]


@pytest.mark.parametrize(
    ("amounts", "document"),
    [
        ({"seconds": 300}, {"minutes": 5}),
        ({"seconds": 90}, {"seconds": 90}),
        ({"days": 7}, {"weeks": 1}),
        ({"hours": 1, "minutes": 30}, {"minutes": 90}),
        ({"milliseconds": 10}, {"milliseconds": 10}),
        ({"seconds": 0.0015}, {"milliseconds": 1.5}),
    ],
)
def test_a_period_is_told_in_the_largest_unit_it_is_a_multiple_of(
    amounts: dict[str, float], document: dict[str, float]
) -> None:
    said = parse_trigger({"type": "interval", "start": 0, **amounts}).document()

    assert said == {"type": "interval", "start": "1970-01-01T00:00:00.000000Z", **document}


def test_an_interval_below_the_minimum_is_refused() -> None:
    with pytest.raises(InvalidTrigger, match=r"at least 1 ms, got 0\.5 ms"):
        parse_trigger({"type": "interval", "milliseconds": 0.5})
    with pytest.raises(InvalidTrigger, match="at least 1000 ms, got 10 ms"):
        parse_trigger({"type": "interval", "milliseconds": 10}, min_interval_ms=1000)
    with pytest.raises(InvalidTrigger, match="at least 1 ms, got 0 ms"):
        parse_trigger({"type": "interval", "seconds": 0})


# --- cron ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "expression"),
    [
        ({"minute": "*/5"}, "*/5 * * * *"),
        ({"hour": 3}, "0 3 * * *"),
        ({"day_of_week": "mon-fri"}, "0 0 * * MON-FRI"),
        ({"day_of_week": "mon", "hour": "9-17", "minute": 30}, "30 9-17 * * MON"),
        ({"month": 2}, "0 0 1 2 *"),
        ({"month": 2, "day_of_week": "mon"}, "0 0 * 2 MON"),
        ({"day": "L"}, "0 0 L * *"),
        ({"second": "*/10"}, "*/10 * * * * *"),
        ({"hour": "*/2", "second": 5}, "5 * */2 * * *"),
    ],
)
def test_the_keyword_form_fills_in_what_is_left_out_as_apscheduler_does(
    keywords: dict[str, Any], expression: str
) -> None:
    trigger = parse_trigger({"type": "cron", **keywords})

    assert trigger.document() == {"type": "cron", "expression": expression, "timezone": "UTC"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("@daily", ["2026-11-21 00:00:00", "2026-11-22 00:00:00", "2026-11-23 00:00:00"]),
        ("@Hourly", ["2026-11-20 14:00:00", "2026-11-20 15:00:00", "2026-11-20 16:00:00"]),
        ("*/10 * * * * *", ["2026-11-20 13:25:00", "2026-11-20 13:25:10", "2026-11-20 13:25:20"]),
        ("0 12 1 * MON", ["2026-11-23 12:00:00", "2026-11-30 12:00:00", "2026-12-01 12:00:00"]),
        ("0 12 */2 * MON", ["2026-11-23 12:00:00", "2026-12-07 12:00:00", "2026-12-21 12:00:00"]),
        ("0 12 * * MON#1", ["2026-12-07 12:00:00", "2027-01-04 12:00:00", "2027-02-01 12:00:00"]),
        ("0 12 * * 5L", ["2026-11-27 12:00:00", "2026-12-25 12:00:00", "2027-01-29 12:00:00"]),
        ("0 12 LW * *", ["2026-11-30 12:00:00", "2026-12-31 12:00:00", "2027-01-29 12:00:00"]),
        ("0 12 * * FRI-SUN", ["2026-11-21 12:00:00", "2026-11-22 12:00:00", "2026-11-27 12:00:00"]),
        ("0 12 * * 7", ["2026-11-22 12:00:00", "2026-11-29 12:00:00", "2026-12-06 12:00:00"]),
        ("0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00", "2036-02-29 00:00:00"]),
    ],
)
def test_cron_expressions_mean_what_crontab_5_says(expression: str, expected: list[str]) -> None:
    assert times({"type": "cron", "expression": expression}) == expected


def test_cron_is_read_in_its_zone() -> None:
    document = {"type": "cron", "expression": "0 9 * * *", "timezone": "America/New_York"}

    assert times(document, 1) == ["2026-11-20 14:00:00"]


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("0 0 31 2 *", "day 31 does not exist in month 2, which has at most 29 days"),
        ("0 0 31 4,6 *", "day 31 does not exist in month 4,6, which has at most 30 days"),
        ("0 0 30 FEB *", "day 30 does not exist in month FEB, which has at most 29 days"),
        ("0 0 * 2 */9#5", "day_of_week: expected"),
        ("0 0 * * MON#6", "day_of_week: expected"),
        ("60 * * * *", "minute: expected 0–59"),
        ("* 24 * * *", "hour: expected 0–23"),
        ("* * * 13 *", "month: expected 1–12"),
        ("*/100 * * * *", "minute: a step of 100 is larger than the field"),
        ("* * * *", r"expected 5 fields .* got 4"),
        ("0 0 * * * * 2027", r"expected 5 fields .* got 7"),
        ("@reboot", 'expected {"type": "startup"}'),
        ("@fortnightly", "expected one of @yearly"),
        ("? * * * *", "minute: expected"),
        ("", r"got 0"),
        ("1," * 400 + "1 * * * *", "at most 500 characters"),
    ],
)
def test_a_wrong_or_impossible_expression_is_refused_with_the_reason(expression: str, reason: str) -> None:
    with pytest.raises(InvalidTrigger, match=reason) as caught:
        parse_trigger({"type": "cron", "expression": expression})

    assert caught.value.pointer == "/trigger/expression"


# --- calendar --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"days": 2, "at": "09:30"}, ["2026-11-22 09:30:00", "2026-11-24 09:30:00", "2026-11-26 09:30:00"]),
        ({"days": 1, "hour": 14}, ["2026-11-20 14:00:00", "2026-11-21 14:00:00", "2026-11-22 14:00:00"]),
        (
            {"weeks": 2, "at": "00:00", "start_date": "2026-11-02", "end_date": "2026-12-14"},
            ["2026-11-30 00:00:00", "2026-12-14 00:00:00"],
        ),
        (
            {"months": 1, "start_date": "2026-10-31"},
            ["2026-12-31 00:00:00", "2027-01-31 00:00:00", "2027-03-31 00:00:00"],
        ),
        (
            {"years": 1, "start_date": "2024-02-29"},
            ["2028-02-29 00:00:00", "2032-02-29 00:00:00", "2036-02-29 00:00:00"],
        ),
    ],
)
def test_calendar_intervals(document: dict[str, Any], expected: list[str]) -> None:
    assert times({"type": "calendar", **document}) == expected


def test_a_calendar_trigger_says_everything_in_its_document() -> None:
    trigger = parse_trigger(
        {"type": "calendar", "days": 1, "at": "9:30".zfill(5), "timezone": "Europe/Berlin"}, now_us=NOW_US
    )

    assert trigger.document() == {
        "type": "calendar",
        "days": 1,
        "at": "09:30:00",
        "start_date": "2026-11-20",
        "timezone": "Europe/Berlin",
        "dst_gap": "shift",
        "dst_fold": "first",
    }


# --- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "pointer", "message"),
    [
        ([], "/trigger", "at least one trigger, got an empty list"),
        ("daily", "/trigger", "expected an object with a type, got a string"),
        (None, "/trigger", "got null"),
        ({}, "/trigger/type", "expected a trigger type"),
        ({"type": "sundial"}, "/trigger/type", "date, interval, cron, calendar"),
        ({"type": ["cron"]}, "/trigger/type", "expected a trigger type"),
        ({"type": "date"}, "/trigger/run_date", "expected an ISO 8601"),
        ({"type": "date", "run_date": "soon"}, "/trigger/run_date", "got 'soon'"),
        ({"type": "date", "run_date": True}, "/trigger/run_date", "got true"),
        ({"type": "date", "run_date": [None]}, "/trigger/run_date", r"got \[null\]"),
        ({"type": "date", "run_date": float("nan")}, "/trigger/run_date", "got NaN"),
        ({"type": "date", "run_date": 10**400}, "/trigger/run_date", "before the year 9999.*got a number of about 400"),
        ({"type": "date", "run_date": -(10**400)}, "/trigger/run_date", "from 1970 on, got a number of about 400"),
        ({"type": "date", "run_date": 1e308}, "/trigger/run_date", r"before the year 9999.*got 1e\+308"),
        ({"type": "date", "run_date": "9999-01-01T00:00:00Z"}, "/trigger/run_date", "before the year 9999, got '9999"),
        ({"type": "date", "run_date": "+" + 30 * "9" + "w"}, "/trigger/run_date", "before the year 9999, got '\\+999"),
        ({"type": "interval", "hours": 1, "start": 10**400}, "/trigger/start", "a moment before the year 9999"),
        ({"type": "interval", "hours": 1, "end": 10**400}, "/trigger/end", "a moment before the year 9999"),
        ({"type": "interval", "weeks": 418_000, "anchor": "end"}, "/trigger", "first run: expected a moment before"),
        ({"type": "date", "run_date": 1_798_135_200_000}, "/trigger/run_date", "unix time counts in seconds"),
        ({"type": "date", "run_date": -1}, "/trigger/run_date", "a moment from 1970 on"),
        ({"type": "date", "run_date": 0, "run_time": 0}, "/trigger/run_time", "another name for run_date"),
        ({"type": "date", "run_date": 0, "timezone": "Mars/Base"}, "/trigger/timezone", "IANA zone"),
        ({"type": "date", "run_date": 0, "timezone": "../../etc/passwd"}, "/trigger/timezone", "IANA zone"),
        ({"type": "date", "run_date": 0, "timezone": "America"}, "/trigger/timezone", "IANA zone"),
        ({"type": "date", "run_date": 0, "timezone": "right/Europe/Berlin"}, "/trigger/timezone", "IANA zone"),
        ({"type": "date", "run_date": 0, "timezone": "posix/Europe/Berlin"}, "/trigger/timezone", "IANA zone"),
        ({"type": "date", "run_date": 0, "timezone": "localtime"}, "/trigger/timezone", "IANA zone"),
        ({"type": "date", "run_date": 0, "timezone": "posixrules"}, "/trigger/timezone", "IANA zone"),
        ({"type": "date", "run_date": 0, "timezone": "Factory"}, "/trigger/timezone", "IANA zone"),
        ({"type": "date", "run_date": 0, "timezone": 1}, "/trigger/timezone", "IANA zone"),
        ({"type": "interval"}, "/trigger", "at least one of weeks"),
        ({"type": "interval", "seconds": "10"}, "/trigger/seconds", "got '10'"),
        ({"type": "interval", "seconds": -1}, "/trigger/seconds", "a number from 0 to "),
        ({"type": "interval", "seconds": float("inf")}, "/trigger/seconds", "got Infinity"),
        (
            {"type": "interval", "seconds": 10**400},
            "/trigger/seconds",
            r"to 252979200000 \(8,000 years\), got a number",
        ),
        ({"type": "interval", "seconds": 1e300}, "/trigger/seconds", r"to 252979200000 \(8,000 years\), got 1e\+300"),
        ({"type": "interval", "weeks": 10**9}, "/trigger/weeks", r"to 418285 \(8,000 years\), got 1000000000"),
        ({"type": "interval", "weeks": 418_285, "days": 9}, "/trigger", "at most 8,000 years"),
        ({"type": "interval", "seconds": 1, "microseconds": 5}, "/trigger/microseconds", "unknown key microseconds"),
        ({"type": "interval", "seconds": 1, "a/b": 5, "~": 1}, "/trigger/a~1b", "unknown keys a/b, ~"),
        ({"type": "interval", "seconds": 1, "start": 10, "end": 9}, "/trigger/end", "before the start"),
        ({"type": "interval", "seconds": 1, "start_time": 10, "end_time": 9}, "/trigger/end_time", "before the start"),
        ({"type": "cron"}, "/trigger", "expected expression or at least one of"),
        ({"type": "cron", "expression": 5}, "/trigger/expression", "expected a cron expression"),
        ({"type": "cron", "expression": "* * * * *", "hour": 1}, "/trigger/hour", "either expression or fields"),
        ({"type": "cron", "minute": "61"}, "/trigger/minute", "minute: expected 0–59"),
        ({"type": "cron", "minute": True}, "/trigger/minute", "got true"),
        ({"type": "cron", "minute": "* *"}, "/trigger/minute", r"got '\* \*'"),
        ({"type": "cron", "day": 31, "month": "feb"}, "/trigger/day", "does not exist in month feb"),
        ({"type": "cron", "hour": 1, "week": 3}, "/trigger/week", "unknown key week"),
        # Rather than that the key which was meant is missing.
        ({"type": "interval", "sec": 5}, "/trigger/sec", "unknown key sec; known here: type, weeks"),
        ({"type": "cron", "dow": 1}, "/trigger/dow", "unknown key dow; known here: type, expression, second"),
        ({"type": "cron", "year": 2030}, "/trigger/year", "unknown key year"),
        ({"type": "calendar", "day": 1}, "/trigger/day", "unknown key day; known here: type, days"),
        ({"type": "date", "date": 0}, "/trigger/date", "unknown key date; known here: type, run_date"),
        ({"type": "or", "members": []}, "/trigger/members", "unknown key members; known here: type, triggers"),
        ({"type": "startup", "at": 1}, "/trigger/at", "unknown key at; known here: type$"),
        ({"type": "cron", "expression": "0 0 * * sunday"}, "/trigger/expression", "day_of_week: .* got 'sunday'"),
        ({"type": "cron", "day_of_week": "Sunday"}, "/trigger/day_of_week", "got 'Sunday'"),
        ({"type": "cron", "expression": "0 0 31 feb *"}, "/trigger/expression", "does not exist in month feb,"),
        (
            {"type": "date", "run_date": "2027-02-31T00:00:00Z"},
            "/trigger/run_date",
            r"expected a day that exists \(February 2027 has 28 days\), got '2027-02-31T00:00:00Z'",
        ),
        ({"type": "interval", "hours": 1, "end": "2027-04-31"}, "/trigger/end", r"\(April 2027 has 30 days\)"),
        ({"type": "calendar", "days": 1, "start_date": "2026-02-30"}, "/trigger/start_date", "February 2026 has 28"),
        ({"type": "cron", "hour": 1, "dst_gap": "jump"}, "/trigger/dst_gap", "shift or skip"),
        ({"type": "cron", "hour": 1, "dst_fold": 2}, "/trigger/dst_fold", "first or second or both"),
        ({"type": "calendar"}, "/trigger", "exactly one of days, weeks, months, years, got none"),
        ({"type": "calendar", "days": 1, "weeks": 1}, "/trigger", "got days, weeks"),
        ({"type": "calendar", "days": 0}, "/trigger/days", "from 1 to 10000"),
        ({"type": "calendar", "days": 1, "at": "25:00"}, "/trigger/at", "a time of day"),
        ({"type": "calendar", "days": 1, "at": "24:00"}, "/trigger/at", "a time of day"),
        ({"type": "calendar", "days": 1, "at": "09"}, "/trigger/at", "such as 09:30 or 09:30:15, got '09'"),
        ({"type": "calendar", "days": 1, "at": "0930"}, "/trigger/at", "a time of day"),
        ({"type": "calendar", "days": 1, "at": 9}, "/trigger/at", "a time of day"),
        ({"type": "calendar", "days": 1, "at": "09:00", "hour": 9}, "/trigger/at", "either at or hour"),
        ({"type": "calendar", "days": 1, "start_date": "tomorrow"}, "/trigger/start_date", "a date such as"),
        (
            {"type": "calendar", "days": 1, "end_date": "2026-11-19"},
            "/trigger/end_date",
            "from today, 2026-11-20, on, as there is no start_date, got 2026-11-19",
        ),
        (
            {"type": "calendar", "days": 1, "start_date": "2030-01-02", "end_date": "2030-01-01"},
            "/trigger/end_date",
            "from the start_date, 2030-01-02, on, got 2030-01-01",
        ),
    ],
)
def test_a_wrong_document_is_refused_with_a_pointer(document: object, pointer: str, message: str) -> None:
    with pytest.raises(InvalidTrigger, match=message) as caught:
        parse_trigger(document, now_us=NOW_US)

    assert caught.value.pointer == pointer


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind, keys in parse._KEYS.items() for key in keys])
def test_every_known_key_is_read(kind: str, key: str) -> None:
    least: dict[str, dict[str, Any]] = {
        "date": {} if key.startswith("run_") else {"run_date": 0},
        "interval": {"seconds": 1},
        "cron": {} if key == "expression" or key in cron_text.FIELDS else {"hour": 1},
        "calendar": {} if key in recurring.UNITS else {"years": 1},
        "except": {"trigger": {"type": "cron", "hour": 1}, "except": {"type": "cron", "hour": 2}},
    }
    members = {"triggers": [{"type": "cron", "hour": 1}] * 2}

    with pytest.raises(InvalidTrigger) as caught:
        parse_trigger({"type": kind} | least.get(kind, members) | {key: {}})

    assert (caught.value.pointer or "").startswith(f"/trigger/{key}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
OPTIONAL_KEYS = """
    run_date timezone weeks seconds milliseconds start end expression second minute hour day month day_of_week
    dst_gap dst_fold days months years on at start_date end_date anchor seed triggers trigger except
"""
TYPES = ["date", "interval", "cron", "calendar", "or", "and", "except", "startup", "manual"]
KEYS = st.sampled_from(OPTIONAL_KEYS.split())
VALUES = (
    JSON
    | st.from_regex(r"[0-9*/,#LW-]{1,6}", fullmatch=True)
    | st.integers(-1, 70)
    | st.sampled_from(["end", "H", "last friday", "+2h", ["MON"], {"type": "interval", "seconds": 60}])
    | st.lists(st.sampled_from([{"type": "cron", "hour": 3}, {"type": "interval", "seconds": 60}]), max_size=3)
)


@given(st.sampled_from(TYPES), st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_document_is_a_trigger_or_an_invalid_trigger(kind: str, rest: dict[str, Any]) -> None:
    try:
        trigger = parse_trigger({"type": kind, **rest}, now_us=NOW_US)
    except InvalidTrigger as error:
        where = error.pointer
    else:
        where = "/trigger"
        preview(trigger, NOW_US, 3)
        assert trigger.words()

    assert (where or "").startswith("/trigger")


@given(st.text(alphabet="0123456789*/,-#LWSUNMOH() ", max_size=30))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        trigger = parse_trigger({"type": "cron", "expression": text, "seed": "s"})
    except InvalidTrigger:
        return
    assert trigger.next_after(NOW_US) is not None


# --- document and words ----------------------------------------------------------------------------

SAMPLES: list[dict[str, Any]] = [
    {"type": "date", "run_date": "2026-12-24T18:00:00.5+01:00"},
    {"type": "interval", "minutes": 5, "end": 2_000_000_000},
    {"type": "cron", "expression": "@daily", "timezone": "Europe/Berlin", "dst_fold": "both"},
    {"type": "cron", "minute": "*/5", "start": "2027-01-01"},
    {"type": "calendar", "months": 3, "at": "09:30", "timezone": "Asia/Tokyo", "dst_gap": "skip"},
]


@pytest.mark.parametrize("document", SAMPLES)
def test_the_stored_document_makes_an_equal_trigger(document: dict[str, Any]) -> None:
    trigger = parse_trigger(document, now_us=NOW_US)

    stored = load_trigger(trigger.encoded())

    assert stored == trigger
    assert stored.encoded() == trigger.encoded() == msgspec.json.encode(trigger.document(), order="sorted")
    assert load_trigger(trigger.encoded()) is stored


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"type": "date", "run_date": 0}, "once at 1970-01-01 00:00:00 (UTC)"),
        ({"type": "interval", "seconds": 10}, "every 10 seconds, from 2026-11-20T13:24:51.000000Z"),
        ({"type": "interval", "hours": 1, "start": 0}, "every hour, from 1970-01-01T00:00:00.000000Z"),
        ({"type": "cron", "expression": "30 9 * * MON-FRI"}, "At 09:30, Monday through Friday (UTC)"),
        ({"type": "cron", "expression": "*/10 * * * * *", "timezone": "Asia/Tokyo"}, "Every 10 seconds (Asia/Tokyo)"),
        ({"type": "calendar", "weeks": 2, "at": "09:30"}, "every 2 weeks at 09:30:00 (UTC), from 2026-11-20"),
    ],
)
def test_a_trigger_is_told_in_words(document: dict[str, Any], words: str) -> None:
    assert parse_trigger(document, now_us=NOW_US).words() == words


def test_a_stored_document_that_is_not_json_is_an_invalid_trigger() -> None:
    with pytest.raises(InvalidTrigger, match="not JSON"):
        load_trigger(b"\x80\x04pickle")
