"""Buckets of a histogram: few, equal, and at round times of the viewer's zone."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.clock import from_us, to_us
from schedule_zero.rules.buckets import MOST, buckets

M, H, D = 60_000_000, 3_600_000_000, 86_400_000_000
START = to_us(datetime(2026, 11, 27, 10, 7, 3, tzinfo=UTC))
ZONES = [ZoneInfo(key) for key in ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Pacific/Apia")]


@pytest.mark.parametrize(
    ("span_us", "width_us"),
    [(0, 1_000_000), (50_000_000, 1_000_000), (58 * M, M), (2 * H, 5 * M), (24 * H, 30 * M), (7 * D, 3 * H),
     (28 * D, 12 * H)],
)  # fmt: skip
def test_buckets_are_as_short_as_can_be_while_there_are_few(span_us, width_us):
    edges = buckets(START, START + span_us, ZONES[0]).edges
    assert {b - a for a, b in pairwise(edges)} == {width_us}
    assert edges[0] % width_us == 0


def test_whole_days_begin_at_midnight_also_where_a_day_has_25_hours():
    zone = ZoneInfo("Europe/Berlin")
    first, last = (to_us(datetime(2026, month, 15, tzinfo=zone)) for month in (10, 11))
    edges = buckets(first, last + 10 * D, zone).edges
    assert all(from_us(edge).astimezone(zone).time().isoformat() == "00:00:00" for edge in edges)
    assert {b - a for a, b in pairwise(edges)} == {D, 25 * H}


@given(st.integers(0, to_us(datetime(2100, 1, 1, tzinfo=UTC))), st.integers(-D, 200 * 365 * D), st.sampled_from(ZONES))
def test_whatever_the_span_buckets_hold_it_are_few_and_grow(first, span, zone):
    found = buckets(first, first + span, zone)
    edges = found.edges
    assert 2 <= len(edges) <= MOST + 1
    assert edges[0] <= first
    assert max(first, first + span) < edges[-1]
    assert list(edges) == sorted(set(edges))
    assert all((edge - edges[0]) % found.slot_us == 0 for edge in edges) or first < to_us(
        datetime(1980, 1, 1, tzinfo=UTC)
    )
