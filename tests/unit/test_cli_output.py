from __future__ import annotations

import pytest

from schedule_zero.cli import output

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


def test_an_empty_table_says_so_on_stderr(capsys):
    output.show_table([], COLUMNS, none="no executions")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "no executions\n")


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
