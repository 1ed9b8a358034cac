from __future__ import annotations

import json
import re
import sys

import pytest

from schedule_zero.cli import app, output, terminal

RECORDS = [
    {"id": "a", "status": "completed", "n": 1, "tags": ["x", "y"], "at": "2026-11-20T13:24:51.123456Z"},
    {"id": "longer", "status": None, "n": True, "tags": [], "at": None, "text": "two\nlines\x1b[31m"},
]
COLUMNS = [("ID", "id"), ("STATUS", "status"), ("TAGS", "tags"), ("AT", output.moment("at")), ("TEXT", "text")]


def test_a_table_has_aligned_columns_and_one_line_per_record(capsys):
    output.show_table(RECORDS, COLUMNS, none="nothing")
    assert capsys.readouterr().out.splitlines() == [
        "ID      STATUS     TAGS  AT                    TEXT",
        "a       completed  x,y   2026-11-20 13:24:51Z  -",
        "longer  -          -     -                     two lines [31m",
    ]


# Sets the title of the window, ends a string, turns the direction of writing, and begins a sequence without an ESC.
OBEYED = "\x1b]0;title\x07\x1b\\\u202e\x9b31m"


@pytest.mark.parametrize("on_terminal", [False, True])
def test_nothing_that_is_printed_makes_a_terminal_obey(capsys, monkeypatch, on_terminal):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: on_terminal)

    terminal.say(f"one\n\ttwo {OBEYED}", terminal.Styled(OBEYED, fg="red"))
    terminal.say(OBEYED, err=True)
    output.show_table([{"id": OBEYED, "tags": [OBEYED, "x\ny"]}], [("ID", "id"), ("TAGS", "tags")], none=OBEYED)
    output.show_table([], [], none=OBEYED)
    output.show_fields({"id": OBEYED, "options": {OBEYED: OBEYED}}, ["id", "options"])
    output.show_json({OBEYED: OBEYED})
    with pytest.raises(SystemExit):
        app.fail(OBEYED, hint=OBEYED)

    captured = capsys.readouterr()
    own_colours = re.compile(r"\x1b\[[0-9;]*m") if on_terminal else re.compile(r"(?!)")
    shown = own_colours.sub("", captured.out + captured.err)
    assert "one\n\ttwo " in shown
    assert shown.replace("\n", "").replace("\t", "").isprintable()
    assert len(captured.out.splitlines()) == 2 + 2 + 2 + 3


def test_json_loses_nothing_by_being_shown(capsys):
    document = {OBEYED: [OBEYED, "ä", "\U000e0001", "\ud800"]}

    output.show_json(document)

    assert json.loads(capsys.readouterr().out) == document


def test_a_result_goes_into_a_pipe_as_it_is_and_is_cleaned_on_a_terminal(capsys, monkeypatch):
    output.show_value("\x1b[31mred\r\n")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output.show_value("\x1b[31mred\r\n")

    assert capsys.readouterr().out == "\x1b[31mred\r\n\n [31mred \n\n"


def test_an_empty_table_says_so_on_stderr(capsys):
    output.show_table([], COLUMNS, none="no executions")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "no executions\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-20T13:24:51.000000Z", "2026-11-20 13:24:51Z"),
        ("2026-11-20T13:24:51.500000Z", "2026-11-20 13:24:51.500Z"),
        ("2026-11-20T13:24:51.000015Z", "2026-11-20 13:24:51.000015Z"),
    ],
)
def test_a_nominal_time_is_shown_as_exactly_as_it_is(text, shown):
    assert output.exact_moment(text) == shown
    assert output.exact("at")({"at": text}) == shown
    assert output.exact("at")({"at": None}) is None


def test_fields_without_a_value_are_left_out(capsys):
    output.show_fields(
        {"id": "a", "note": None, "options": {}, "job_params": {"a": 1}, "draining": False},
        ["id", "note", "options", "job_params", "draining"],
    )
    assert capsys.readouterr().out == 'id          a\njob_params  {"a":1}\ndraining    no\n'


def test_a_result_is_text_or_json(capsys):
    output.show_value("hello")
    output.show_value({"ä": [1]})
    assert capsys.readouterr().out == 'hello\n{\n  "ä": [\n    1\n  ]\n}\n'


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        ({"type": "cron", "expression": "0 9 * * *", "timezone": "Europe/Berlin"}, "cron 0 9 * * * (Europe/Berlin)"),
        ({"type": "cron", "expression": "0 9 * * *", "timezone": "UTC"}, "cron 0 9 * * *"),
        ({"type": "interval", "seconds": 10, "start": "…"}, "interval seconds=10"),
        ({"type": "date", "run_date": "2038-01-19T03:14:07Z"}, "at 2038-01-19T03:14:07Z"),
        ({"type": "startup"}, "startup"),
        (
            {"type": "or", "triggers": [{"type": "cron", "expression": "0 9 * * *"}, {"type": "startup"}]},
            "cron 0 9 * * * or startup",
        ),
        (
            {
                "type": "except",
                "trigger": {"type": "interval", "hours": 1},
                "except": {"type": "cron", "expression": "@daily"},
            },
            "interval hours=1 except cron @daily",
        ),
    ],
)
def test_a_trigger_fits_a_cell(trigger, words):
    assert output.trigger_words(trigger) == words
