"""What is counted by the minute adds up, whatever is added first; quantiles are near those of the times themselves."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.rules.series import (
    HOUR_US,
    MINUTE_US,
    MOST_BUCKETS,
    MOST_HANDLERS,
    OTHERS,
    USUAL_BUCKETS,
    Stats,
    Times,
    bounds_of,
    buckets,
    by_unit,
    place_of,
    spread_of,
    step_us,
    total,
    unit_us,
)

SECOND_US = 1_000_000
DAY_US = 24 * HOUR_US
# Up to a year: a job that runs for longer than that has been forgotten.
TIMES = st.lists(st.integers(0, 365 * DAY_US), min_size=1, max_size=200)
NOON_US = 1_700_049_600_000_000


def times_of(*lengths_us: int) -> Times:
    found: Times = {}
    for us in lengths_us:
        found[place_of(us)] = found.get(place_of(us), 0) + 1
    return found


# --- the scale ------------------------------------------------------------------------------------


@given(st.integers(0, 365 * DAY_US))
def test_every_length_lies_within_the_bounds_of_its_place(us: int) -> None:
    low, high = bounds_of(place_of(us))

    assert low <= us < high
    assert high - low <= max(1, us // 4)


def test_places_follow_one_another_without_a_gap() -> None:
    assert [bounds_of(place)[1] for place in range(150)] == [bounds_of(place + 1)[0] for place in range(150)]


def test_a_negative_length_of_two_clocks_counts_as_none() -> None:
    assert place_of(-5) == place_of(0) == 0


# --- quantiles ------------------------------------------------------------------------------------


@given(TIMES)
def test_quantiles_are_within_a_quarter_of_those_of_the_times_themselves(lengths_us: list[int]) -> None:
    spread = spread_of(times_of(*lengths_us))

    assert spread is not None
    assert spread.n == len(lengths_us)
    ordered = sorted(lengths_us)
    for quantile, found_s in ((0.5, spread.p50_s), (0.95, spread.p95_s), (0.99, spread.p99_s)):
        exact = ordered[math.ceil(quantile * len(ordered)) - 1]
        assert abs(found_s * 1e6 - exact) <= max(1, exact // 4)
    assert spread.p50_s <= spread.p95_s <= spread.p99_s


def test_of_what_never_happened_there_are_no_quantiles() -> None:
    assert spread_of({}) is None


def test_one_slow_one_in_a_thousand_does_not_move_the_99th_hundredth() -> None:
    spread = spread_of(times_of(*[100_000] * 999, 60 * SECOND_US))

    assert spread is not None
    assert 0.09 <= spread.p50_s <= spread.p99_s <= 0.115


# --- adding up ------------------------------------------------------------------------------------


@given(st.lists(TIMES, max_size=6))
def test_added_distributions_are_the_distribution_of_everything(minutes: list[list[int]]) -> None:
    parts = [Stats(run_time=times_of(*lengths_us)) for lengths_us in minutes]

    together = total(parts)

    assert together.run_time == times_of(*(us for lengths_us in minutes for us in lengths_us))
    assert [part.run_time for part in parts] == [times_of(*lengths_us) for lengths_us in minutes]


def test_counts_are_added_and_of_what_was_looked_at_the_last_look_stands() -> None:
    first, later = Stats(created=2, fires={"executed": 1}, open=7, running=3), Stats(created=1, open=5, running=0)
    first.end("demo", "completed", 2)
    later.end("demo", "completed", 1)
    later.end("etl", "timeout", 4)

    found = total([first, None, later, Stats()])

    assert found == Stats(
        created=3,
        ended={"completed": 3, "timeout": 4},
        failed={"etl": 4},
        fires={"executed": 1},
        open=5,
        running=0,
    )


def test_failures_of_very_many_handlers_are_counted_together_from_some_on() -> None:
    stats = Stats()
    for number in range(MOST_HANDLERS + 10):
        stats.end(f"h{number}", "failed", 1)
    stats.end("h0", "dead", 1)

    assert (len(stats.failed), stats.failed["h0"], stats.failed[OTHERS]) == (MOST_HANDLERS + 1, 2, 10)
    assert sum(stats.failed.values()) == MOST_HANDLERS + 11


def test_minutes_make_hours_in_order_of_time() -> None:
    minutes = {NOON_US + MINUTE_US: Stats(created=2, open=2), NOON_US: Stats(created=1, open=1)}
    minutes[NOON_US + HOUR_US] = Stats(created=4)

    assert by_unit(minutes, HOUR_US) == {NOON_US: Stats(created=3, open=2), NOON_US + HOUR_US: Stats(created=4)}


def test_what_is_stored_is_read_as_it_was_and_nothing_takes_little() -> None:
    stats = Stats(created=3, ended={"completed": 3}, run_time=times_of(5, 5, 70_000), open=0, running=0)

    assert msgspec.json.decode(msgspec.json.encode(stats), type=Stats) == stats
    assert msgspec.json.encode(Stats(open=0, running=0)) == b'{"open":0,"running":0}'


# --- buckets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("range_us", "step_s", "unit"),
    [
        (15 * MINUTE_US, 60, MINUTE_US),
        (HOUR_US, 60, MINUTE_US),
        (6 * HOUR_US, 120, MINUTE_US),
        (DAY_US, 600, 10 * MINUTE_US),
        (33 * HOUR_US, 3_600, HOUR_US),
        (7 * DAY_US, 3_600, HOUR_US),
        (31 * DAY_US, 21_600, HOUR_US),
    ],
)
def test_a_usual_range_gets_a_length_that_makes_a_chart(range_us: int, step_s: int, unit: int) -> None:
    # From now back to then, asked a moment later.
    step = step_us(NOON_US + 7, NOON_US + range_us + 300_000, None)

    assert step == step_s * SECOND_US
    assert range_us <= USUAL_BUCKETS * step
    assert unit_us(step) == unit


def test_a_length_that_is_asked_for_is_rounded_up_unless_that_makes_too_many() -> None:
    assert step_us(NOON_US, NOON_US + HOUR_US, 1) == MINUTE_US
    assert step_us(NOON_US, NOON_US + HOUR_US, 301) == 600 * SECOND_US
    assert step_us(NOON_US, NOON_US + MOST_BUCKETS * MINUTE_US, 60) == MINUTE_US
    assert step_us(NOON_US + 1, NOON_US + MOST_BUCKETS * MINUTE_US + 1, 60) is None
    assert step_us(NOON_US, NOON_US + 200 * DAY_US, None) is None


def test_what_was_counted_outside_of_the_range_is_left_out_and_an_empty_bucket_is_there() -> None:
    rows = [(NOON_US + index * MINUTE_US, Stats(created=1, open=index)) for index in (-1, 0, 1, 4, 6)]

    found = buckets(rows, NOON_US, NOON_US + 6 * MINUTE_US - 1, 2 * MINUTE_US)

    assert [(one.from_us - NOON_US, one.stats.created, one.stats.open) for one in found] == [
        (0, 2, 1),
        (2 * MINUTE_US, 0, None),
        (4 * MINUTE_US, 1, 4),
    ]
    assert found[1].run_time is None


@given(st.integers(0, 10**16), st.integers(1, 400 * DAY_US), st.none() | st.floats(1, 86_400))
def test_no_chart_reads_many_minutes_or_hours(from_us: int, range_us: int, asked_s: float | None) -> None:
    step = step_us(from_us, from_us + range_us, asked_s)
    if step is None:
        return
    first_us = from_us - from_us % step

    assert (from_us + range_us - first_us) / step <= MOST_BUCKETS
    assert (from_us + range_us - first_us) / unit_us(step) <= MOST_BUCKETS * 24
    assert unit_us(step) == HOUR_US or (from_us + range_us - first_us) / unit_us(step) <= 1_000
