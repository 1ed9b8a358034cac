"""The shortest distance of two fires that a server allows holds for every trigger."""

from __future__ import annotations

from typing import Any

import pytest

from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing import parse_trigger, spacing
from schedule_zero.timing.combination import SEARCH_STEPS, Steps

# 2026-11-20T13:24:51Z, a Friday.
NOW_US = 1_795_181_091_000_000
BERLIN = "Europe/Berlin"


def cron(expression: str, zone: str = "UTC", **more: Any) -> dict[str, Any]:
    return {"type": "cron", "expression": expression, "timezone": zone, **more}


def every(seconds: float, **more: Any) -> dict[str, Any]:
    return {"type": "interval", "seconds": seconds, **more}


@pytest.mark.parametrize(
    ("document", "first", "second"),
    [
        (cron("* * * * * *"), "2026-11-20T13:24:52", "2026-11-20T13:24:53"),
        (cron("*/5 * * * * *"), "2026-11-20T13:24:55", "2026-11-20T13:25:00"),
        (cron("0,59 * * * * *"), "2026-11-20T13:24:59", "2026-11-20T13:25:00"),
        ([cron("0 * * * * *"), cron("1 * * * * *")], "2026-11-20T13:25:00", "2026-11-20T13:25:01"),
        ([every(10), every(10, start="+5s")], "2026-11-20T13:24:56", "2026-11-20T13:25:01"),
        ([cron("0 9 * * *"), cron("5 0 9 1 1 *")], "2027-01-01T09:00:00", "2027-01-01T09:00:05"),
        ([every(60), cron("0 9 29 2 *")], "2028-02-29T08:59:51", "2028-02-29T09:00:00"),
        (
            [{"type": "date", "run_date": 1_893_456_000}, {"type": "date", "run_date": 1_893_456_003}],
            "2030-01-01T00:00:00",
            "2030-01-01T00:00:03",
        ),
        (
            {"type": "and", "triggers": [cron("* * * * * *"), cron("*/3 * * * * *")]},
            "2026-11-20T13:24:54",
            "2026-11-20T13:24:57",
        ),
        (
            {"type": "except", "trigger": cron("*/4 * * * * *"), "except": cron("0 * * * * *")},
            "2026-11-20T13:24:52",
            "2026-11-20T13:24:56",
        ),
        # 02:59:55 does not exist on that day, and is made up for at 03:00:00.
        (
            {"type": "or", "triggers": [cron("55 59 2 * * *", BERLIN), cron("5 0 3 * * *", BERLIN)]},
            "2027-03-28T01:00:00",
            "2027-03-28T01:00:05",
        ),
    ],
)
def test_what_fires_more_often_than_the_minimum_is_refused_with_two_fires(
    document: Any, first: str, second: str
) -> None:
    with pytest.raises(InvalidTrigger, match="expected at least 10000 ms between two fires") as caught:
        parse_trigger(document, min_interval_ms=10_000, now_us=NOW_US)

    assert f"it fires at {first}.000000Z and at {second}.000000Z" in caught.value.message
    assert caught.value.pointer == "/trigger"
    parse_trigger(document, min_interval_ms=1000, now_us=NOW_US)


def test_a_fire_that_a_change_of_the_clock_moves_counts_where_it_goes() -> None:
    document = cron("10,50 2,3 * * *", BERLIN)
    parse_trigger(document, min_interval_ms=600_000, now_us=NOW_US)

    with pytest.raises(InvalidTrigger, match=r"it fires at 2027-03-28T01:00:00\.000000Z and at 2027-03-28T01:10:00"):
        parse_trigger(document, min_interval_ms=1_200_000, now_us=NOW_US)


@pytest.mark.parametrize(
    "document",
    [
        every(10),
        cron("*/10 * * * * *"),
        cron("0 9 * * *", BERLIN),
        cron("0 * * * *", BERLIN),
        cron("0 0 29 2 *"),
        {"type": "calendar", "months": 1, "on": "last friday", "timezone": BERLIN},
        [every(20), every(20, start="+10s")],
        [cron("0 9 * * *"), {"type": "startup"}],
        {"type": "and", "triggers": [cron("* * * * * *"), every(60, start=0)]},
        {"type": "except", "trigger": cron("*/5 * * * *"), "except": cron("0 12 * * *")},
        {
            "type": "except",
            "trigger": cron("*/5 * * * * *"),
            "except": cron("5,10,15,20,25,30,35,40,45,50,55 * * * * *"),
        },
        {"type": "startup"},
        {"type": "manual"},
        {"type": "date", "run_date": "+2h"},
        {"type": "interval", "seconds": 10, "anchor": "end"},
    ],
)
def test_what_keeps_its_distance_is_taken(document: Any) -> None:
    assert parse_trigger(document, min_interval_ms=10_000, now_us=NOW_US)


def test_a_minimum_of_1_ms_limits_intervals_only() -> None:
    assert parse_trigger([every(10, start=0), every(10, start=0.0004)], now_us=NOW_US)


def test_a_look_at_the_fires_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    all_steps: list[Steps] = []

    class Counted(Steps):
        def __init__(self) -> None:
            super().__init__()
            all_steps.append(self)

    monkeypatch.setattr(spacing, "Steps", Counted)
    odd = {"type": "and", "triggers": [cron("*/2 * * * * *"), every(10.001, start=0)]}
    trigger = parse_trigger([odd, odd | {"start": 1}], now_us=NOW_US)

    assert spacing.too_close(trigger, NOW_US, 10_000_000) is None

    assert all_steps[0].taken < 2 * spacing.MOST_STEPS + 4 * SEARCH_STEPS
