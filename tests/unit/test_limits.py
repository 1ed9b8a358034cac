"""The token bucket, and what options say of limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.job_options import JobOptions
from schedule_zero.rules.birth import outfit
from schedule_zero.rules.limits import Limits, limits_of, next_ns, rate_of, taken_ns, weight_of
from schedule_zero.rules.options import NO_OPTIONS, Source

S = 10**9


def stored(source=Source.SUBMISSION, method=NO_OPTIONS, **options):
    return outfit(JobOptions(**options), method, source).options


@pytest.mark.parametrize(
    ("text", "interval_ns"),
    [("10/s", S // 10), ("1/s", S), ("100/m", 6 * S // 10), ("5/h", 720 * S), ("1/d", 86_400 * S)],
)
def test_a_rate_is_an_interval(text, interval_ns):
    assert rate_of(text).interval_ns == interval_ns


def test_a_rate_that_does_not_divide_is_rounded_down():
    assert rate_of("3/s").interval_ns * 3 >= S
    assert rate_of("999999999/s").interval_ns * 999_999_999 >= S


@given(
    per_s=st.integers(1, 2_000),
    burst=st.integers(1, 20),
    gaps_ns=st.lists(st.integers(0, 3 * S) | st.integers(0, S // 100), max_size=200),
)
def test_in_no_window_are_there_more_starts_than_the_burst_and_the_rate(per_s, burst, gaps_ns):
    rate = rate_of(f"{per_s}/s", burst)
    now_ns, full_ns, starts = 5 * S, 0, []
    for gap_ns in gaps_ns:
        now_ns += gap_ns
        while next_ns(full_ns, rate) <= now_ns:
            full_ns = taken_ns(full_ns, rate, now_ns)
            starts.append(now_ns)
    # The tightest windows begin and end with a start.
    for first in range(len(starts)):
        for last in range(first, min(len(starts), first + 60)):
            window_ns = starts[last] - starts[first]
            assert last - first + 1 <= burst + window_ns * per_s / S + 1e-6


@given(per_s=st.integers(1, 1_000), burst=st.integers(1, 20), seconds=st.integers(1, 20))
def test_who_asks_at_the_moment_that_is_said_gets_the_whole_rate(per_s, burst, seconds):
    rate = rate_of(f"{per_s}/s", burst)
    full_ns, starts, now_ns = 0, 0, 0
    while now_ns < seconds * S:
        full_ns = taken_ns(full_ns, rate, now_ns)
        starts += 1
        now_ns = max(next_ns(full_ns, rate), now_ns)
    expected = burst + seconds * S // rate.interval_ns
    assert expected - 1 <= starts <= expected


def test_without_options_there_is_no_limit():
    assert limits_of(None) is None
    assert limits_of(stored(priority=9, max_attempts=3)) is None


def test_max_instances_is_of_whoever_says_it():
    assert limits_of(stored(max_instances=3)) == Limits(per_job=3)
    assert limits_of(stored(Source.SCHEDULE, max_instances=3)) == Limits(per_schedule=3)
    assert limits_of(stored(Source.SCHEDULE, JobOptions(max_instances=4), priority=2)) == Limits(per_job=4)
    assert limits_of(stored(Source.SCHEDULE, JobOptions(max_instances=4), max_instances=2)) == Limits(per_schedule=2)


def test_a_key_admits_one_unless_more_are_said():
    assert limits_of(stored(concurrency_key="c:{c}")) == Limits(per_key=1)
    assert limits_of(stored(concurrency_key="c:{c}", max_per_key=7)) == Limits(per_key=7)
    # Without a key there is nothing to count.
    assert limits_of(stored(max_per_key=7)) is None


def test_a_rate_has_its_burst():
    assert limits_of(stored(rate_limit="10/s", rate_burst=5)) == Limits(rate=rate_of("10/s", 5))


def test_the_weight_is_that_of_the_lane():
    assert weight_of(None) == 1
    assert weight_of(outfit(JobOptions(weight=4), NO_OPTIONS, Source.SUBMISSION).lane) == 4
