"""What a named calendar may look like, and what is said about one that doesn't."""

from __future__ import annotations

from typing import Any

import pytest

from schedule_zero.errors import InvalidCalendar
from schedule_zero.timing.calendar_parse import load_calendar, parse_calendar

FULL = {
    "timezone": "Europe/Berlin",
    "description": "what the works council agreed to",
    "holidays": [{"country": "DE", "subdivision": "BE", "categories": ["public"]}],
    "dates": ["2026-12-24", {"from": "2026-12-27", "to": "2026-12-31", "label": "works holidays"}],
    "weekly": [{"days": ["SAT", "SUN"]}, {"days": ["FRI"], "from": "22:00", "to": "06:00", "label": "night"}],
    "monthly": [{"day": -1, "from": "00:00", "to": "06:00"}],
    "cron": [{"expression": "0 2 * * *", "duration_s": 7200, "label": "backup"}],
}
EVENT = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART;VALUE=DATE:20261224\nEND:VEVENT\nEND:VCALENDAR\n"


def test_what_is_canonical_stays_as_it_is() -> None:
    assert parse_calendar(FULL, "c").document() == FULL


def test_what_is_not_canonical_becomes_so() -> None:
    made = parse_calendar(
        {
            "description": "",
            "holidays": [{"country": "deu", "subdivision": "Berlin", "categories": []}],
            "dates": [{"from": "2026-12-24"}, {"from": "2026-12-25", "to": None, "label": ""}],
            "weekly": [
                {"days": ["sun", "SAT", "SUN"], "from": "00:00", "to": "24:00"},
                {"days": ["MON"], "from": "22:00"},
            ],
            "monthly": [{"day": "last"}],
            "cron": [{"expression": " 0  2 * * * ", "duration_s": 1}],
            "ical": None,
        },
        "c",
    )

    assert made.document() == {
        "timezone": "UTC",
        "holidays": [{"country": "DE", "subdivision": "BE"}],
        "dates": [{"from": "2026-12-24", "to": "2026-12-24"}, {"from": "2026-12-25", "to": "2026-12-25"}],
        "weekly": [{"days": ["SAT", "SUN"]}, {"days": ["MON"], "from": "22:00", "to": "24:00"}],
        "monthly": [{"day": -1}],
        "cron": [{"expression": "0 2 * * *", "duration_s": 1}],
    }
    assert parse_calendar(made.document(), "c").document() == made.document()


def test_a_stored_calendar_is_loaded_again() -> None:
    made = load_calendar(parse_calendar({**FULL, "ical": EVENT}, "c").encoded(), "c")

    assert made.document()["ical"].count("BEGIN:VEVENT") == 1
    assert made.name == "c"
    with pytest.raises(InvalidCalendar, match="not JSON"):
        load_calendar(b"{", "c")


def test_an_empty_calendar_covers_nothing() -> None:
    assert parse_calendar({}, "c").covering(0) is None


BAD: list[tuple[Any, str, str]] = [
    ([], "", "expected an object, got a list"),
    ({"timezone": "Mars/Olympus"}, "/timezone", "IANA zone"),
    ({"timezone": "../../etc/passwd"}, "/timezone", "IANA zone"),
    ({"timezone": 3}, "/timezone", "a text"),
    ({"description": "x" * 501}, "/description", "at most 500"),
    ({"colour": "red", "a/b~c": 1}, "/a~1b~0c", "unknown keys a/b~c, colour; known here: timezone, description"),
    ({"holidays": {"country": "DE"}}, "/holidays", "expected a list, got an object"),
    ({"holidays": ["DE"]}, "/holidays/0", "expected an object, got 'DE'"),
    ({"holidays": [{}]}, "/holidays/0/country", "expected a text, got nothing"),
    ({"holidays": [{"country": "DE", "state": "BE"}]}, "/holidays/0/state", "unknown key state; known here: country"),
    ({"holidays": [{"country": "HolidayBase"}]}, "/holidays/0/country", "ISO 3166"),
    ({"holidays": [{"country": "DE", "subdivision": "XX"}]}, "/holidays/0/subdivision", "a subdivision of DE"),
    ({"holidays": [{"country": "SA", "subdivision": "01"}]}, "/holidays/0/subdivision", "SA has no subdivisions"),
    (
        {"holidays": [{"country": "DE", "categories": ["public", "bank"]}]},
        "/holidays/0/categories/1",
        "(catholic, public, school)",
    ),
    ({"holidays": [{"country": "DE", "categories": [1]}]}, "/holidays/0/categories/0", "a text"),
    ({"dates": ["tomorrow"]}, "/dates/0", "a date such as 2026-12-24, got 'tomorrow'"),
    ({"dates": ["20261224"]}, "/dates/0", "a date such as"),
    ({"dates": ["1969-12-31"]}, "/dates/0", "expected a date from 1970 to 9998, got '1969-12-31'"),
    ({"dates": ["9999-12-31"]}, "/dates/0", "expected a date from 1970 to 9998, got '9999-12-31'"),
    ({"dates": ["2027-02-29"]}, "/dates/0", "got '2027-02-29': there is no day 29 in month 02 of 2027"),
    ({"dates": [5]}, "/dates/0", "an object, got 5"),
    ({"dates": [{"to": "2026-12-24"}]}, "/dates/0/from", "a date such as 2026-12-24, got nothing"),
    ({"dates": [{"from": "2026-12-24", "to": "2026-12-23"}]}, "/dates/0/to", "not before from"),
    ({"dates": [{"from": "2026-12-24", "until": "2026-12-25"}]}, "/dates/0/until", "unknown key until"),
    ({"dates": [{"from": "1970-01-01", "to": "2100-01-01"}]}, "/dates/0", "at most 20000 days"),
    ({"dates": ["2026-12-24", {"from": "2026-12-24", "label": "x" * 201}]}, "/dates/1/label", "at most 200"),
    ({"weekly": [{}]}, "/weekly/0/days", "at least one of MON"),
    ({"weekly": [{"days": []}]}, "/weekly/0/days", "at least one of MON"),
    ({"weekly": [{"days": ["MON", "FUNDAY"]}]}, "/weekly/0/days/1", "one of MON, TUE"),
    ({"weekly": [{"days": ["MON"], "from": "25:00"}]}, "/weekly/0/from", "a time of day such as 22:00"),
    ({"weekly": [{"days": ["MON"], "to": 6}]}, "/weekly/0/to", "a time of day such as 22:00"),
    ({"weekly": [{"days": ["MON"], "from": "06:00+01:00"}]}, "/weekly/0/from", "a time of day"),
    ({"weekly": [{"days": ["MON"], "from": "06:00", "to": "06:00"}]}, "/weekly/0/to", "differs from the start"),
    (
        {"weekly": [{"days": ["MON"], "from": "24:00", "to": "06:00"}]},
        "/weekly/0/from",
        "24:00 is the end of a day: expected 00:00",
    ),
    ({"weekly": [{"days": ["MON"], "at": "06:00"}]}, "/weekly/0/at", "unknown key at"),
    ({"monthly": [{}]}, "/monthly/0/day", "a day from 1 to 31"),
    ({"monthly": [{"day": 0}]}, "/monthly/0/day", "a day from 1 to 31"),
    ({"monthly": [{"day": 32}]}, "/monthly/0/day", "a day from 1 to 31"),
    ({"monthly": [{"day": -32}]}, "/monthly/0/day", "a day from 1 to 31"),
    ({"monthly": [{"day": True}]}, "/monthly/0/day", "a day from 1 to 31"),
    ({"monthly": [{"day": "first"}]}, "/monthly/0/day", "a day from 1 to 31"),
    ({"cron": [{"duration_s": 5}]}, "/cron/0/expression", "a text"),
    ({"cron": [{"expression": "0 2 * * *"}]}, "/cron/0/duration_s", "a whole number from 1 to 2678400"),
    ({"cron": [{"expression": "0 2 * * *", "duration_s": 0}]}, "/cron/0/duration_s", "a whole number"),
    ({"cron": [{"expression": "0 2 * * *", "duration_s": 1.5}]}, "/cron/0/duration_s", "a whole number"),
    ({"cron": [{"expression": "61 2 * * *", "duration_s": 60}]}, "/cron/0/expression", "minute: expected 0–59"),
    ({"cron": [{"expression": "0 0 31 2 *", "duration_s": 60}]}, "/cron/0/expression", "never fires"),
    ({"cron": [{"expression": "*/5 * * * * *", "duration_s": 1}]}, "/cron/0/expression", "at most 288 times a day"),
    ({"cron": [{"expression": "* * 29 2 *", "duration_s": 60}]}, "/cron/0/expression", "together, got 1440"),
    (
        {"cron": [{"expression": "*/5 * * * *", "duration_s": 60}, {"expression": "0 2 * * *", "duration_s": 60}]},
        "/cron/1/expression",
        "together, got 289",
    ),
    ({"cron": [{"expression": "H 2 * * *", "duration_s": 60}]}, "/cron/0/expression", "H"),
    (
        {"cron": [{"expression": "0 2 * * *", "duration_s": 60}] * 21},
        "/cron",
        "cron: expected at most 20 entries, got 21",
    ),
    ({"dates": ["2026-12-24"] * 1001}, "/dates", "at most 1000 entries, got 1001"),
    ({"weekly": [{"days": ["MON"]}] * 101}, "/weekly", "at most 100 entries"),
    ({"monthly": [{"day": 1}] * 101}, "/monthly", "at most 100 entries"),
    ({"holidays": [{"country": "DE"}] * 101}, "/holidays", "at most 100 entries"),
    ({"ical": 5}, "/ical", "a text"),
    ({"ical": "hello"}, "/ical", "line 1"),
    ({"ical": ""}, "/ical", "BEGIN:VCALENDAR is missing"),
]


@pytest.mark.parametrize(("document", "pointer", "said"), BAD)
def test_what_is_wrong_is_said_with_its_place(document: Any, pointer: str, said: str) -> None:
    with pytest.raises(InvalidCalendar) as caught:
        parse_calendar(document, "c", pointer="/document")

    assert caught.value.pointer == f"/document{pointer}"
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("entry", "hint"),
    [
        ({"country": "Germany"}, "DE (Germany)"),
        ({"country": "Grmany"}, "DE (Germany)"),
        ({"country": "DEUT"}, "DE (Germany)"),
        ({"country": "united states"}, "US (United States)"),
        ({"country": "DE", "subdivision": "Bavaria"}, "known are BB, BE, BW"),
        ({"country": "DE", "subdivision": "Bayer"}, "BY (Bayern)"),
        ({"country": "GB", "subdivision": "Scotlan"}, "SCT (Scotland)"),
    ],
)
def test_an_unknown_place_comes_with_close_matches(entry: dict[str, str], hint: str) -> None:
    with pytest.raises(InvalidCalendar) as caught:
        parse_calendar({"holidays": [entry]}, "c")

    assert hint in (caught.value.hint or "")


def test_every_country_of_the_library_can_be_had() -> None:
    from holidays.registry import COUNTRIES

    codes = [names[1] for names in COUNTRIES.values()]
    for at in range(0, len(codes), 50):
        made = parse_calendar({"holidays": [{"country": code} for code in codes[at : at + 50]]}, "all")
        assert [entry["country"] for entry in made.document()["holidays"]] == codes[at : at + 50]
        assert made.covering(1_767_225_600_000_000) is not None, "the first of January"
