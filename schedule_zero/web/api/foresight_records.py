"""What will happen, as the API shows it."""

from __future__ import annotations

from msgspec import field

from schedule_zero.timing.forecast import Forecast
from schedule_zero.web.api.records import Count, Moment, Record, moment


class BucketRecord(Record, kw_only=True):
    """``busy_s``: the run time that these fires are expected to take, from the history."""

    time: Moment
    fires: Count
    busy_s: float


class PeakRecord(Record, kw_only=True):
    """A moment at which several schedules fire."""

    time: Moment
    fires: Count
    busy_s: float
    # Ten of them at most.
    schedule_ids: list[str]
    # With a `jitter_s` of this, or minutes chosen by `H`, they would not all start at once.
    suggestion: str


class QuietRecord(Record, kw_only=True):
    """The quietest stretch of the length that was asked for."""

    from_: Moment = field(name="from")
    to: Moment
    fires: Count
    busy_s: float


class ForecastRecord(Record, kw_only=True):
    """``complete`` is false where collisions with some schedules were not looked for: those that fire very often."""

    from_: Moment = field(name="from")
    to: Moment
    bucket_s: float
    schedules: Count
    fires: Count
    busy_s: float
    buckets: list[BucketRecord]
    peaks: list[PeakRecord]
    quietest: QuietRecord | None
    complete: bool


def forecast_record(found: Forecast, from_us: int, to_us: int) -> ForecastRecord:
    quiet = found.quietest
    return ForecastRecord(
        from_=moment(from_us),
        to=moment(to_us),
        bucket_s=found.bucket_us / 1e6,
        schedules=found.schedules,
        fires=found.fires,
        busy_s=round(found.busy_s, 3),
        buckets=[
            BucketRecord(time=moment(one.from_us), fires=one.fires, busy_s=round(one.busy_s, 3))
            for one in found.buckets
        ],
        peaks=[
            PeakRecord(
                time=moment(peak.at_us),
                fires=peak.fires,
                busy_s=round(peak.busy_s, 3),
                schedule_ids=peak.schedule_ids,
                suggestion=(
                    f"{peak.fires} schedules fire at this moment: a jitter_s of {peak.spread_s} or more on each"
                    f"{', or H for the minute of those by cron,' if peak.by_cron else ''} spreads them"
                ),
            )
            for peak in found.peaks
        ],
        quietest=None
        if quiet is None
        else QuietRecord(
            from_=moment(quiet.from_us), to=moment(quiet.to_us), fires=quiet.fires, busy_s=round(quiet.busy_s, 3)
        ),
        complete=not found.unseen,
    )
