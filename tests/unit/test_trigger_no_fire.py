"""A trigger that has no fire any more says why: its date, its end, or what its parts leave."""

from __future__ import annotations

from typing import Any

import pytest

from schedule_zero.timing import load_trigger, parse_trigger
from schedule_zero.timing.no_fire import never_fires, next_of_new, why_no_fire

# 2026-11-20T13:24:51Z, a Friday.
NOW_US = 1_795_181_091_000_000


def cron(expression: str, **more: Any) -> dict[str, Any]:
    return {"type": "cron", "expression": expression, **more}


DAILY = cron("0 9 * * *")
PAST = "2020-01-01T00:00:00Z"
ENDED = "its end, 2020-01-01T00:00:00.000000Z, has passed"


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"type": "date", "run_date": 0}, "its run_date, 1970-01-01T00:00:00.000000Z, has passed"),
        ({"type": "interval", "hours": 1, "start": 0, "end": PAST}, ENDED),
        ({"type": "interval", "hours": 1, "start": 0, "end": PAST, "anchor": "end"}, ENDED),
        ({"type": "interval", "weeks": 418_000}, "the next one would lie behind the year 9998"),
        (DAILY | {"end": PAST}, ENDED),
        (
            cron("0 0 1 1 *", start="2030-02-01", end="2030-03-01"),
            "it names no moment between its start, 2030-02-01T00:00:00.000000Z, and its end, 2030-03-01T00:00:00.00000",
        ),
        (cron("0 0 1 1 *", end="2026-12-01"), "it names no moment up to its end, 2026-12-01T00:00:00.000000Z"),
        (
            {"type": "calendar", "days": 1, "start_date": "2020-01-01", "end_date": "2020-02-01"},
            "its end_date, 2020-02-01, has passed",
        ),
        (
            {"type": "calendar", "days": 1, "end_date": "2026-11-20"},
            "it names no moment up to its end_date, 2026-11-20, any more",
        ),
        ({"type": "calendar", "years": 10_000}, "the next one would lie behind the year 9998"),
        (
            [{"type": "date", "run_date": 0}, DAILY | {"end": PAST}],
            f"1. its run_date, 1970-01-01T00:00:00.000000Z, has passed; 2. {ENDED}",
        ),
        ({"type": "or", "triggers": [DAILY, DAILY], "end": PAST}, ENDED),
        (
            {"type": "or", "triggers": [cron("0 0 1 1 *"), cron("0 0 1 2 *")], "end": "2026-12-01"},
            "it names no moment up to its end, 2026-12-01T00:00:00.000000Z",
        ),
        ({"type": "and", "triggers": [DAILY, DAILY | {"end": PAST}]}, ENDED),
        ({"type": "and", "triggers": [DAILY, cron("0 8 * * *")]}, "its triggers have no time in common any more"),
        ({"type": "except", "trigger": DAILY | {"end": PAST}, "except": cron("0 9 1 * *")}, ENDED),
        ({"type": "except", "trigger": DAILY, "except": DAILY}, "the exception leaves nothing of it"),
    ],
)
def test_a_trigger_without_a_fire_says_why(document: Any, why: str) -> None:
    # What is stored is not asked for a fire when it is read.
    trigger = load_trigger(parse_trigger(document, now_us=NOW_US if "weeks" in document else None).encoded())

    assert never_fires(trigger, NOW_US)
    assert why_no_fire(trigger, NOW_US).startswith(why)


@pytest.mark.parametrize("document", [DAILY, {"type": "startup"}, {"type": "manual"}, [DAILY, {"type": "startup"}]])
def test_what_fires_or_waits_has_a_fire(document: Any) -> None:
    assert not never_fires(parse_trigger(document, now_us=NOW_US), NOW_US)


def test_what_follows_its_runs_begins_now_if_its_start_has_passed() -> None:
    trigger = parse_trigger({"type": "interval", "minutes": 5, "anchor": "end", "start": 0}, now_us=NOW_US)

    assert next_of_new(trigger, NOW_US) == NOW_US
    assert not never_fires(trigger, NOW_US)
