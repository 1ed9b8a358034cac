"""``H`` in cron: Jenkins' notation, stable for ever, spread evenly."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing import load_trigger, parse_trigger
from schedule_zero.timing.cron import CronTrigger
from schedule_zero.timing.hashed import chosen


def cron(expression: str, id_: str | None = None, **more: Any) -> CronTrigger:
    trigger = parse_trigger({"type": "cron", "expression": expression, **more}, seed=id_)
    assert isinstance(trigger, CronTrigger)
    return trigger


def test_the_seed_and_the_field_decide_and_nothing_else() -> None:
    """Written down once and for all: these times stay when the server is updated."""
    # printf 'nightly\0minute' | sha256sum | cut -c1-16, as a number, modulo 60.
    assert cron("H H(0-7) * * *", "nightly").chosen == ("0", "42", "2", "*", "*", "*")
    assert cron("H H H H H H", "nightly").chosen == ("16", "42", "18", "28", "2", "4")
    assert cron("H H(0-7) * * *", "hourly").chosen != cron("H H(0-7) * * *", "nightly").chosen


def test_another_process_chooses_the_same() -> None:
    code = "from schedule_zero.timing.hashed import chosen; print(chosen('minute', 'H/7', 'a schedule'))"

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == chosen("minute", "H/7", "a schedule")


@pytest.mark.parametrize(
    ("name", "field", "allowed"),
    [
        ("second", "H", range(60)),
        ("minute", "H", range(60)),
        ("hour", "H", range(24)),
        ("day", "H", range(1, 29)),
        ("month", "H", range(1, 13)),
        ("day_of_week", "H", range(7)),
        ("hour", "H(9-17)", range(9, 18)),
        ("month", "H(MAR-MAY)", range(3, 6)),
        ("day_of_week", "H(MON-FRI)", range(1, 6)),
        ("day", "H(1-31)", range(1, 32)),
    ],
)
def test_one_value_is_spread_evenly_over_the_field_or_the_range(name: str, field: str, allowed: range) -> None:
    rounds = 400 * len(allowed)
    counts = Counter(int(chosen(name, field, f"schedule-{n}")) for n in range(rounds))

    assert set(counts) == set(allowed)
    assert min(counts.values()) > 300
    assert max(counts.values()) < 500


@pytest.mark.parametrize(
    ("name", "field", "low", "high", "step"),
    [
        ("minute", "H/15", 0, 59, 15),
        ("minute", "H/7", 0, 59, 7),
        ("minute", "H(0-29)/10", 0, 29, 10),
        ("hour", "H(9-17)/2", 9, 17, 2),
        ("day", "H/10", 1, 28, 10),
    ],
)
def test_a_step_begins_anywhere_in_its_first_interval(name: str, field: str, low: int, high: int, step: int) -> None:
    seen = set()
    for n in range(300):
        values = [int(value) for value in chosen(name, field, str(n)).split(",")]
        assert values == list(range(values[0], high + 1, step))
        seen.add(values[0])

    assert seen == set(range(low, low + step))


def test_h_stands_in_lists_and_beside_names() -> None:
    assert cron("H,30 3 * * THU", "x").chosen[1] == f"{chosen('minute', 'H', 'x')},30"
    assert cron("0 3 * H(1-3) MON-THU", "x").chosen[5] == "MON-THU"


def test_the_document_keeps_the_letter_and_names_the_seed() -> None:
    trigger = cron("H H * * *", "nightly", timezone="Europe/Berlin")

    assert trigger.document() == {
        "type": "cron",
        "expression": "H H * * *",
        "timezone": "Europe/Berlin",
        "seed": "nightly",
    }
    assert load_trigger(trigger.encoded()) == trigger
    assert trigger.words() == "At 18:42 (Europe/Berlin), H chosen by 'nightly'"


def test_a_seed_in_the_document_counts_before_the_schedules_id() -> None:
    assert cron("H * * * *", "id", seed="mine").seed == "mine"
    assert cron("H * * * *", "id", seed="mine").chosen == cron("H * * * *", "mine").chosen


def test_without_h_a_seed_says_nothing() -> None:
    assert cron("5 * * * *", "id", seed="mine") == cron("5 * * * *")
    assert "seed" not in cron("5 * * * THU", "id").document()


def test_the_keyword_form_takes_it_too() -> None:
    trigger = parse_trigger({"type": "cron", "hour": "H(0-7)", "minute": "h"}, seed="nightly")

    assert trigger.document()["expression"] == "H H(0-7) * * *"
    assert trigger.next_after(0) == cron("H H(0-7) * * *", "nightly").next_after(0)


def test_a_spread_step_goes_by_real_time_as_the_plain_one_does() -> None:
    assert cron("H/15 H/2 * * *", "x").by_real_time
    assert cron("H * * * *", "x").by_real_time
    assert not cron("H H * * *", "x").by_real_time
    assert not cron("H(0-29)/10 3 * * *", "x").by_real_time


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("H/0 * * * *", "minute: expected a step from 2 to 60"),
        ("H/1 * * * *", "a step from 2 to 60, the number of values in 0-59, got 'H/1'"),
        ("H/61 * * * *", "a step from 2 to 60"),
        ("H(0-29)/31 * * * *", "a step from 2 to 30, the number of values in 0-29"),
        ("H(29-0) * * * *", "minute: expected H with a range in 0-59, got 'H\\(29-0\\)'"),
        ("* H(0-24) * * *", "hour: expected H with a range in 0-23"),
        ("H(5) * * * *", "expected H, H/15, H\\(0-7\\) or H\\(0-29\\)/10, got 'H\\(5\\)'"),
        ("HH * * * *", "minute: expected H, H/15"),
        ("H-5 * * * *", "minute: expected H, H/15"),
        ("H#2 * * * *", "minute: expected H, H/15"),
        ("5-H * * * *", "minute: expected 0–59"),
        ("0 0 31 H(2-2) *", "day 31 does not exist in month 2"),
    ],
)
def test_a_wrong_h_is_refused_with_the_reason(expression: str, message: str) -> None:
    with pytest.raises(InvalidTrigger, match=message) as caught:
        cron(expression, "x")

    assert caught.value.pointer == "/trigger/expression"


def test_without_a_seed_h_is_refused() -> None:
    with pytest.raises(InvalidTrigger, match="minute: H needs a seed to choose by"):
        cron("H * * * *")
    for seed in ("", "x" * 201, 5):
        with pytest.raises(InvalidTrigger, match="seed: expected a text of 1 to 200 characters") as caught:
            parse_trigger({"type": "cron", "expression": "H * * * *", "seed": seed})
        assert caught.value.pointer == "/trigger/seed"
