from __future__ import annotations

import click
import pytest

from schedule_zero.cli import arguments


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("1.5", 1.5),
        ("10s", 10.0),
        ("250ms", 0.25),
        ("1h30m", 5400.0),
        ("2d", 172_800.0),
        ("1W", 604_800.0),
    ],
)
def test_a_duration_is_seconds_or_carries_its_units(text, seconds):
    assert arguments.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "10x", "1h30", "-5s", "1 h", "10s "[:3] + "!", "∞"])
def test_another_duration_says_what_was_expected(text):
    with pytest.raises(ValueError, match="expected a duration such as 10s"):
        arguments.duration_s(text)


@pytest.mark.parametrize(
    ("text", "unix_s"),
    [
        ("2030-01-01T00:00:00Z", 1_893_456_000.0),
        ("2030-01-01T01:00:00+01:00", 1_893_456_000.0),
        ("1893456000", 1_893_456_000.0),
        ("+10m", 1_700_000_600.0),
        ("-1h", 1_699_996_400.0),
    ],
)
def test_a_moment_is_absolute_or_from_now(clock, text, unix_s):
    assert arguments.Moment(clock).convert(text, None, None) == unix_s


@pytest.mark.parametrize("text", ["tomorrow", "2030-01-01", "2030-01-01T00:00:00", "+x", ""])
def test_a_moment_without_a_zone_or_a_sense_is_refused(clock, text):
    with pytest.raises(click.BadParameter, match=r"expected 2030-01-01T00:00:00Z|names no zone"):
        arguments.Moment(clock).convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2030-13-01T00:00:00Z", "there is no such moment"),
        ("2026-02-30T00:00:00", "there is no such moment"),
        ("2026-02-30", "there is no such moment"),
        ("+9999999d", "expected a moment in the years 1 to 9999"),
        ("-9999999d", "expected a moment in the years 1 to 9999"),
        ("1969-01-01T00:00:00Z", 'expected a moment from 1970 on, got "1969-01-01T00:00:00Z"'),
        ("-40000d", "expected a moment from 1970 on"),
    ],
)
def test_a_moment_that_has_the_form_of_one_is_not_told_the_form(clock, text, said):
    for kind in (arguments.Moment, arguments.LocalMoment):
        with pytest.raises(click.BadParameter, match=said):
            kind(clock).convert(text, None, None)


def test_a_local_moment_stays_as_it_is_written(clock):
    local = arguments.LocalMoment(clock)

    assert local.convert("2027-03-28 02:30", None, None) == "2027-03-28T02:30:00"
    assert local.convert("2030-01-01T01:00:00+01:00", None, None) == 1_893_456_000.0
    assert local.convert("20270101", None, None) == 20_270_101.0


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["demo.hello", "a=1"], ("demo", "hello", ["a=1"])),
        (["demo", "hello", "a=1"], ("demo", "hello", ["a=1"])),
        (["demo", "hello"], ("demo", "hello", [])),
        (["a.b.c"], ("a.b", "c", [])),
        (["a.b", "c.d"], ("a.b", "c.d", [])),
    ],
)
def test_a_job_is_named_in_one_word_or_two(words, found):
    assert arguments.job_target(words) == found


@pytest.mark.parametrize("words", [["demo"], ["demo."], [".hello"], ["demo", "a=1"]])
def test_half_a_job_is_refused(words):
    with pytest.raises(click.UsageError, match=r"expected a job as HANDLER\.METHOD"):
        arguments.job_target(words)


def test_parameters_are_json_where_they_can_be_and_text_else(tmp_path):
    pairs = [
        "n=3",
        "ok=true",
        "none=null",
        "list=[1, 2]",
        'text="3"',
        "plain=hello world",
        "empty=",
        "eq=a=b",
        "nan=NaN",
    ]
    assert arguments.job_params(pairs, None) == {
        "n": 3,
        "ok": True,
        "none": None,
        "list": [1, 2],
        "text": "3",
        "plain": "hello world",
        "empty": "",
        "eq": "a=b",
        "nan": "NaN",
    }
    file = tmp_path / "params.json"
    file.write_text('{"a": 1, "b": 2}')
    assert arguments.job_params(["b=3"], f"@{file}") == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("pairs", "document", "said"),
    [
        (["a"], None, "key=value"),
        (["=1"], None, "key=value"),
        ([], "{", "--params: not JSON"),
        ([], "[" * 100_000, "--params: nested far too deeply"),
        ([], '{"b": {"a": 1, "c": 2, "a": 3}}', "the key 'a' stands twice"),
        (["a=1", "b=2", "a=3"], None, "the parameter 'a' is given twice"),
        ([], "[1]", "expected a JSON object"),
        ([], '{"a": NaN}', "not JSON"),
        ([], "@/nowhere/at/all", "No such file"),
    ],
)
def test_bad_parameters_say_what_was_expected(pairs, document, said):
    with pytest.raises(click.UsageError, match=said):
        arguments.job_params(pairs, document)


def trigger(**said):
    names = dict.fromkeys(("cron", "every", "at", "trigger", "timezone", "start", "end"))
    return arguments.trigger_document(**names | said)


def test_each_way_to_say_when_is_a_trigger():
    assert trigger(cron="*/5 * * * *", timezone="Europe/Berlin") == {
        "type": "cron",
        "expression": "*/5 * * * *",
        "timezone": "Europe/Berlin",
    }
    assert trigger(every=10.0, start=5.0) == {"type": "interval", "seconds": 10, "start": 5.0}
    assert trigger(every=0.25) == {"type": "interval", "seconds": 0.25}
    assert trigger(at=7.0) == {"type": "date", "run_date": 7.0}
    assert trigger(trigger='{"type": "calendar", "weeks": 1}') == {"type": "calendar", "weeks": 1}


def test_several_triggers_are_a_list():
    assert trigger(trigger='[{"type": "startup"}, {"type": "cron", "hour": 3}]', timezone="Europe/Berlin") == {
        "type": "or",
        "triggers": [{"type": "startup"}, {"type": "cron", "hour": 3}],
        "timezone": "Europe/Berlin",
    }
    assert trigger(trigger='[{"type": "startup"}]') == {"type": "startup"}


def test_when_is_said_exactly_once():
    with pytest.raises(click.UsageError, match="got none of them"):
        trigger()
    with pytest.raises(click.UsageError, match="got --every and --at"):
        trigger(every=0.0, at=1.0)
    with pytest.raises(click.UsageError, match="expected a JSON object"):
        trigger(trigger="[]")


def test_local_times_are_meant_in_the_zone_that_is_said_and_need_one():
    local = "2027-03-28T02:30:00"

    assert trigger(at=local, timezone="Europe/Berlin") == {
        "type": "date", "run_date": local, "timezone": "Europe/Berlin",
    }  # fmt: skip
    assert trigger(every=10.0, start=local, zone_around="Europe/Berlin")["start"] == local
    assert trigger(trigger='{"type": "cron", "hour": 3, "timezone": "UTC"}', end=local)["end"] == local
    with pytest.raises(click.UsageError, match=r"--at: .* names no zone: .* or give a --timezone"):
        trigger(at=local)


@pytest.mark.parametrize("said", [{"at": 5.0}, {"trigger": '{"type": "calendar", "weeks": 1}'}])
def test_a_start_does_not_go_with_every_trigger(said):
    with pytest.raises(click.UsageError, match="--start does not go with a trigger of type"):
        trigger(**said, start=1.0)
