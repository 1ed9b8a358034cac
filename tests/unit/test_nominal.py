"""Nominal times worked out from the document alone are those of the product's triggers: two derivations, one answer."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedule_zero.testbed.nominal import plain_times
from schedule_zero.timing.parse import load_trigger

DAY_US = 86_400_000_000
# Around changes of the clock in the zones below, and far from any.
MOMENTS = [1711846800, 1729990800, 1710054000, 1730613600, 1712412000, 1728144000, 1700000000, 1709164800]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
FIELD = {
    "second": ["0", "15"],
    "minute": ["0", "30", "*/7", "5/10", "1-3", "*"],
    "hour": ["2", "*/2", "1-3", "*", "0,3,23"],
    "day": ["*", "1", "31", "*/2", "13-15"],
    "month": ["*", "3", "mar-apr", "*/2", "OCT,NOV"],
    "weekday": ["*", "MON-FRI", "0", "7", "FRI-SUN", "*/3"],
}
crons = st.builds(
    lambda fields, zone, gap, fold: {
        "type": "cron",
        "expression": " ".join(fields),
        "timezone": zone,
        **({"dst_gap": gap} if gap else {}),
        **({"dst_fold": fold} if fold else {}),
    },
    st.tuples(*(st.sampled_from(values) for values in FIELD.values())),
    st.sampled_from(ZONES),
    st.sampled_from([None, "shift", "skip"]),
    st.sampled_from([None, "first", "second", "both"]),
)
intervals = st.builds(
    lambda ms, start, end: {
        "type": "interval",
        "milliseconds": ms,
        "start": start,
        **({"end": end} if end else {}),
    },
    st.integers(1, 10**9),
    st.sampled_from(["2023-11-14T22:13:20.000001Z", "1999-01-01T00:00:00Z"]),
    st.sampled_from([None, "2024-10-01T00:00:00Z"]),
)
dates = st.just({"type": "date", "run_date": "2024-03-31T01:00:00Z"})
moments = st.builds(
    lambda second, us: second * 1_000_000 + us, st.sampled_from(MOMENTS), st.integers(-2 * DAY_US, 2 * DAY_US)
)


@settings(max_examples=150, deadline=None)
@given(document=st.one_of(crons, intervals, dates), us=moments)
def test_the_next_and_the_last_time_are_the_same_by_both(document: dict, us: int) -> None:
    encoded = msgspec.json.encode(document)
    plain, trigger = plain_times(encoded), load_trigger(encoded)
    assert plain is not None
    assert plain.next_after(us) == trigger.next_after(us)
    assert plain.last_before(us) == trigger.last_before(us)
    upto_us = us + 3_600_000_000
    if trigger.count(us, upto_us) < 5000:
        assert plain.count(us, upto_us) == trigger.count(us, upto_us)


@pytest.mark.parametrize("alias", ["@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@midnight", "@annually"])
def test_the_aliases_mean_the_same(alias: str) -> None:
    encoded = msgspec.json.encode({"type": "cron", "expression": alias, "timezone": "Europe/Berlin"})
    plain, trigger = plain_times(encoded), load_trigger(encoded)
    assert plain is not None
    for second in MOMENTS:
        assert plain.next_after(second * 1_000_000) == trigger.next_after(second * 1_000_000)


@pytest.mark.parametrize(
    "document",
    [
        {"type": "cron", "expression": "0 0 L * *"},
        {"type": "cron", "expression": "0 0 * * MON#2"},
        {"type": "cron", "expression": "H 3 * * *", "seed": "s"},
        {"type": "cron", "expression": "* * * * * *"},
        {"type": "interval", "seconds": 5, "anchor": "end"},
        {"type": "manual"},
        {"type": "startup"},
        [{"type": "date", "run_date": "2030-01-01T00:00:00Z"}],
    ],
)
def test_what_is_not_covered_is_left_to_the_product(document: object) -> None:
    assert plain_times(msgspec.json.encode(document)) is None
