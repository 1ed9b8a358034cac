"""The forecast counts what the triggers say, finds where they meet, and where they leave room."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.clock import to_us
from schedule_zero.timing import parse_trigger
from schedule_zero.timing.forecast import MAX_MOMENTS, Bucket, Firing, forecast, quietest
from schedule_zero.timing.outlook import Outlook

S = 1_000_000
HOUR = 3600 * S
DAY = 24 * HOUR
MIDNIGHT = to_us(datetime(2026, 3, 2, tzinfo=UTC))


def firing(id_: str, document: dict[str, object], run_s: float | None = None) -> Firing:
    return Firing(schedule_id=id_, outlook=Outlook(trigger=parse_trigger(document)), run_s=run_s)


def cron(expression: str) -> dict[str, object]:
    return {"type": "cron", "expression": expression}


def test_each_fire_is_in_the_bucket_of_its_moment() -> None:
    found = forecast(
        [firing("a", cron("0 */6 * * *"), run_s=10.0), firing("b", cron("30 6 * * *"))],
        MIDNIGHT,
        MIDNIGHT + DAY,
        6 * HOUR,
    )

    assert [bucket.fires for bucket in found.buckets] == [1, 2, 1, 1]
    assert [bucket.busy_s for bucket in found.buckets] == [10.0, 10.0, 10.0, 10.0]
    assert (found.schedules, found.fires, found.busy_s) == (2, 5, 40.0)


def test_the_range_includes_its_start_and_not_its_end() -> None:
    found = forecast([firing("a", cron("0 0 * * *"))], MIDNIGHT, MIDNIGHT + DAY, DAY)

    assert found.fires == 1


def test_a_last_bucket_that_is_cut_counts_only_what_lies_in_the_range() -> None:
    found = forecast([firing("a", cron("0 * * * *"))], MIDNIGHT, MIDNIGHT + 90 * 60 * S, HOUR)

    assert [bucket.fires for bucket in found.buckets] == [1, 1]


def test_schedules_that_meet_at_one_moment_are_a_peak_with_their_names_and_a_spread() -> None:
    schedules = [firing(f"at-nine-{n}", cron("0 9 * * *"), run_s=3.0) for n in range(4)]
    schedules += [firing("alone", cron("17 9 * * *"))]

    found = forecast(schedules, MIDNIGHT, MIDNIGHT + DAY, HOUR)

    (peak,) = found.peaks
    assert (peak.at_us, peak.fires, peak.busy_s, peak.spread_s) == (MIDNIGHT + 9 * HOUR, 4, 12.0, 4)
    assert peak.schedule_ids == [f"at-nine-{n}" for n in range(4)]
    assert found.unseen == 0


def test_schedules_that_fire_too_often_to_be_looked_at_one_by_one_are_counted_as_unseen() -> None:
    often = [firing(f"often-{n}", cron("* * * * *")) for n in range(2)]

    found = forecast([*often, firing("daily", cron("0 9 * * *"))], MIDNIGHT, MIDNIGHT + DAY, HOUR)

    assert (found.schedules, found.unseen, found.peaks) == (3, 2, [])


def test_only_a_peak_with_a_cron_in_it_can_be_spread_by_h() -> None:
    every = {"type": "interval", "hours": 12, "start": "2026-03-02T09:00:00Z"}
    at_nine = firing("cron", {"type": "or", "triggers": [cron("0 9 * * *"), cron("30 9 * * *")]})

    found = forecast([firing("a", every), firing("b", every), at_nine], MIDNIGHT, MIDNIGHT + DAY, HOUR)

    assert [(peak.fires, peak.by_cron) for peak in found.peaks] == [(3, True), (2, False)]


def test_a_stream_is_counted_and_has_no_moments() -> None:
    streams = [firing(id_, {"type": "interval", "seconds": 1}) for id_ in ("a", "b")]

    found = forecast(streams, MIDNIGHT, MIDNIGHT + DAY, DAY)

    assert found.fires == 2 * 86_400 > 2 * MAX_MOMENTS
    assert found.peaks == []


def test_the_quietest_stretch_has_the_least_run_time_and_then_the_fewest_fires() -> None:
    buckets = [Bucket(from_us=n * HOUR, fires=fires, busy_s=busy_s) for n, (fires, busy_s) in enumerate(
        [(5, 0.0), (1, 9.0), (2, 1.0), (3, 0.5), (1, 0.5), (9, 0.0)]
    )]  # fmt: skip

    quiet = quietest(buckets, HOUR, 90 * 60 * S)

    assert quiet is not None
    assert (quiet.from_us, quiet.to_us, quiet.fires, quiet.busy_s) == (4 * HOUR, 6 * HOUR, 10, 0.5)


def test_there_is_no_quiet_stretch_longer_than_the_range() -> None:
    assert quietest([Bucket(from_us=0)], HOUR, 2 * HOUR) is None


@given(
    busy=st.lists(st.integers(0, 20), min_size=1, max_size=30),
    size=st.integers(1, 30),
)
def test_no_other_stretch_is_quieter(busy: list[int], size: int) -> None:
    buckets = [Bucket(from_us=n * HOUR, fires=n % 3, busy_s=float(busy_s)) for n, busy_s in enumerate(busy)]

    quiet = quietest(buckets, HOUR, size * HOUR)

    sums = [
        (sum(busy[at : at + size]), sum(bucket.fires for bucket in buckets[at : at + size]))
        for at in range(len(busy) - size + 1)
    ]
    assert (quiet is None) == (not sums)
    if quiet is not None:
        assert (quiet.busy_s, quiet.fires) == min(sums)
