"""What was, by buckets, as the API shows it."""

from __future__ import annotations

from msgspec import field

from schedule_zero.rules.series import Bucket, Spread
from schedule_zero.service.series import SeriesView
from schedule_zero.web.api.records import Count, Moment, Record, moment


class EndedRecord(Record, kw_only=True):
    """Executions that came to their end, by state."""

    completed: Count = 0
    failed: Count = 0
    timeout: Count = 0
    cancelled: Count = 0
    misfired: Count = 0
    dead: Count = 0


class DecidedRecord(Record, kw_only=True):
    """Nominal times that were decided, by outcome."""

    executed: Count = 0
    caught_up: Count = 0
    skipped: Count = 0
    missed: Count = 0


class SpreadRecord(Record, kw_only=True):
    """How long something took, in seconds: so many times, and quantiles by interpolation."""

    n: Count
    p50_s: float
    p95_s: float
    p99_s: float


class SeriesBucketRecord(Record, kw_only=True):
    """From ``time`` on. Times are null where there were none; ``open`` and ``running`` where no server was there."""

    time: Moment
    created: Count
    ended: EndedRecord
    fires: DecidedRecord
    # From a fire's nominal time to its decision.
    lateness: SpreadRecord | None
    # From an execution's creation, or the moment from which it may start, until it is sent to a node.
    queue_wait: SpreadRecord | None
    # Of job methods.
    run_time: SpreadRecord | None
    # Executions that are not over, and that run, at the end of the bucket.
    open: Count | None
    running: Count | None


class HandlerFailures(Record, kw_only=True):
    """``failed``, ``timeout`` and ``dead``, together."""

    handler_id: str
    n: Count


class SeriesRecord(Record, kw_only=True):
    """``failed``: failures of the whole range by handler, the most first (``*``: of the others)."""

    from_: Moment = field(name="from")
    to: Moment
    step_s: Count
    buckets: list[SeriesBucketRecord]
    failed: list[HandlerFailures]


def series_record(view: SeriesView) -> SeriesRecord:
    return SeriesRecord(
        from_=moment(view.from_us),
        to=moment(view.to_us),
        step_s=view.step_us // 1_000_000,
        buckets=[_bucket(bucket) for bucket in view.buckets],
        failed=[HandlerFailures(handler_id=handler_id, n=n) for handler_id, n in view.failed],
    )


def _bucket(bucket: Bucket) -> SeriesBucketRecord:
    stats = bucket.stats
    return SeriesBucketRecord(
        time=moment(bucket.from_us),
        created=stats.created,
        ended=EndedRecord(**stats.ended),
        fires=DecidedRecord(**stats.fires),
        lateness=_spread(bucket.lateness),
        queue_wait=_spread(bucket.queue_wait),
        run_time=_spread(bucket.run_time),
        open=stats.open,
        running=stats.running,
    )


def _spread(spread: Spread | None) -> SpreadRecord | None:
    if spread is None:
        return None
    return SpreadRecord(
        n=spread.n, p50_s=round(spread.p50_s, 6), p95_s=round(spread.p95_s, 6), p99_s=round(spread.p99_s, 6)
    )
