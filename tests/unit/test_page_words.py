"""How pages say moments, durations and numbers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.clock import to_us
from schedule_zero.web.pages import words
from schedule_zero.web.pages.preferences import Preferences, TimeIn, preferences

BERLIN = ZoneInfo("Europe/Berlin")
NOW = to_us(datetime(2026, 11, 27, 8, tzinfo=UTC))


@pytest.mark.parametrize(
    ("wanted", "zone", "shown"),
    [
        (Preferences(), None, "09:30:00 UTC"),
        (Preferences(), BERLIN, "09:30:00 UTC"),
        (Preferences(time=TimeIn.SCHEDULE), BERLIN, "10:30:00 CET"),
        (Preferences(time=TimeIn.SCHEDULE), None, "09:30:00 UTC"),
        (Preferences(time=TimeIn.BROWSER, zone=ZoneInfo("America/New_York")), BERLIN, "04:30:00 EST"),
        (Preferences(time=TimeIn.BROWSER, zone=ZoneInfo("America/Sao_Paulo")), None, "06:30:00 UTC-0300"),
        (Preferences(time=TimeIn.RELATIVE), BERLIN, "in 1 h 30 min"),
    ],
)
def test_a_moment_is_shown_in_the_zone_that_is_wanted_and_says_which_that_is(wanted, zone, shown):
    text = words.moment(NOW + 5_400_000_000, NOW, wanted, zone)

    assert f">{shown}</time>" in text
    assert 'datetime="2026-11-27T09:30:00.000000Z"' in text
    assert "2026-11-27 09:30:00.000000 UTC" in text


def test_a_moment_of_another_day_has_its_date_and_of_another_year_that():
    assert ">26 Nov 08:00:00 UTC<" in words.moment(NOW - words.DAY_US, NOW, Preferences())
    assert ">27 Nov 2025 08:00:00 UTC<" in words.moment(NOW - 365 * words.DAY_US, NOW, Preferences())


def test_no_moment_is_a_dash():
    assert "–" in words.moment(None, NOW, Preferences())
    assert "–" in words.countdown(None, NOW, Preferences())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (3.5e-4, "350 µs"), (0.0123, "12.3 ms"), (4.561, "4.56 s"), (59.94, "59.9 s"), (60, "1 min"),
        (125, "2 min 5 s"), (3600, "1 h"), (93_600, "1 d 2 h"), (-0.5, "-500 ms"), (None, "–"),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "now"), (-12, "12 s ago"), (299.6, "in 5 min"), (-12_000, "3 h 20 min ago"), (90_000, "in 1 d 1 h")],
)
def test_relative_times(seconds, text):
    assert words.relative(round(NOW + seconds * 1e6), NOW) == text


def test_no_number_of_a_payload_is_mangled():
    text = '{"id":12345678901234567890123,"rate":1.10,"huge":1e400,"list":[1,2.50,{}],"empty":[],"s":"<é>\\n"}'

    assert words.json_text(text.encode()).split() == [
        "{", '"id":', "12345678901234567890123,", '"rate":', "1.10,", '"huge":', "1e400,", '"list":', "[", "1,",
        "2.50,", "{}", "],", '"empty":', "[],", '"s":', '"<é>\\n"', "}",
    ]  # fmt: skip


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_payload_that_is_shown_is_the_payload(document):
    assert json.loads(words.json_text(json.dumps(document))) == document


@pytest.mark.parametrize("text", ["", "no json", '{"a":', "[" * 100_000])
def test_what_is_no_json_is_shown_as_it_is(text):
    assert words.json_text(text) == text


@pytest.mark.parametrize(
    "cookie", ["", "sz_time=nonsense; sz_zone=No/Zone; sz_theme=pink", "sz_zone=../../etc/passwd", "sz_time"]
)
def test_preferences_that_are_none_of_ours_count_as_nothing(cookie):
    assert preferences({"Cookie": cookie}) == Preferences()


def test_preferences_come_from_cookies():
    wanted = preferences({"Cookie": "sz_time=browser; sz_zone=Europe%2FBerlin; sz_theme=dark"})

    assert (wanted.time, wanted.zone, wanted.theme) == ("browser", BERLIN, "dark")


def test_json_shows_what_would_turn_the_text_around_and_stays_the_same_document():
    document = {"a\u202eb": "x\u200b\u2066y ☃ ä"}

    text = words.json_text(json.dumps(document))

    assert "\\u202e" in text
    assert "\\u200b\\u2066y ☃ ä" in text
    assert json.loads(text) == document
