"""Which nominal times a backfill runs: those of a range that no calendar forbids, whatever the range holds."""

from __future__ import annotations

import time

import pytest

from schedule_zero.model import Policies, Schedule, SkipReason
from schedule_zero.timing import parse_trigger
from schedule_zero.timing.backfills import nominal_times
from schedule_zero.timing.resolve import Resolver
from tests.unit.test_catchup_policies import Windows

S = 1_000_000
DAY = 86_400 * S


def schedule(**trigger: object) -> Schedule:
    document = parse_trigger({"type": "interval", **trigger}).encoded()
    return Schedule(id="a", handler_id="h", job_method="m", trigger=document)


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> object:
    def forbid(*windows: tuple[int, int, SkipReason]) -> None:
        def exclusions(self: Resolver, policies: Policies, trigger: object) -> Windows:
            return Windows(*windows)

        monkeypatch.setattr(Resolver, "exclusions", exclusions)

    return forbid


def test_both_ends_are_included() -> None:
    assert list(nominal_times(Resolver(0), schedule(seconds=1), 3 * S, 5 * S)) == [3 * S, 4 * S, 5 * S]
    assert list(nominal_times(Resolver(0), schedule(seconds=10), 3 * S, 9 * S)) == []


def test_a_schedule_that_fires_at_a_start_runs_those_that_it_is_told() -> None:
    document = parse_trigger([{"type": "startup"}, {"type": "interval", "seconds": 4}]).encoded()
    row = Schedule(id="a", handler_id="h", job_method="m", trigger=document)

    assert list(nominal_times(Resolver(3 * S), row, S, 9 * S, [2 * S, 7 * S])) == [2 * S, 4 * S, 7 * S, 8 * S]
    assert list(nominal_times(Resolver(3 * S), row, S, 9 * S)) == [4 * S, 8 * S]


def test_what_a_calendar_forbids_is_left_out(forbid) -> None:
    forbid((2 * S, 4 * S, SkipReason.HOLIDAY), (5 * S, 6 * S, SkipReason.BLACKOUT))

    assert list(nominal_times(Resolver(0), schedule(seconds=1), S, 7 * S)) == [S, 4 * S, 6 * S, 7 * S]


def test_ten_years_in_which_nothing_is_allowed_are_not_walked_one_by_one(forbid) -> None:
    forbid((0, 20_000 * DAY, SkipReason.BLACKOUT))

    before = time.process_time()
    found = list(nominal_times(Resolver(0), schedule(milliseconds=10), 10_000 * DAY, 13_650 * DAY))

    assert found == []
    assert time.process_time() - before < 1
