"""Buckets hold what is at most their bound, and add up."""

from __future__ import annotations

from schedule_zero.ops.histogram import BOUNDS_S, Histogram


def test_buckets_are_cumulative_and_end_in_everything() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.0001, 0.00011, 2.0, 1e9):
        histogram.observe(seconds)

    buckets = dict(histogram.cumulative())
    assert buckets["0.0001"] == 2
    assert buckets["0.00025"] == 3
    assert buckets["2.5"] == 4
    assert buckets["3600.0"] == 4
    assert buckets["+Inf"] == 5
    assert len(buckets) == len(BOUNDS_S) + 1


def test_a_negative_duration_of_two_clocks_counts_as_zero() -> None:
    histogram = Histogram()
    histogram.observe(-5.0)

    assert histogram.cumulative()[0] == ("0.0001", 1.0)
    assert histogram.sum_s == 0.0
