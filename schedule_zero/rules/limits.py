"""How many executions may run at once, and how many may start in a time. Pure.

A rate is a token bucket: ``burst`` starts at once, and one more each ``interval``. A bucket is one number, the moment
at which it will be full again: a start moves that on by one interval, and is allowed while it lies less than ``burst``
intervals ahead. (This is the *generic cell rate algorithm*, ITU-T I.371: the same as counting tokens, without a
fraction of a token to lose in rounding.) So in any time T there are at most ``burst + T / interval`` starts.
Moments are whole nanoseconds, of any clock that only goes forward.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

from schedule_zero.rules.birth import lane_of
from schedule_zero.rules.options import Source, StoredOptions, options_of

_PERIOD_NS = {"s": 10**9, "m": 60 * 10**9, "h": 3_600 * 10**9, "d": 86_400 * 10**9}


class Rate(Struct, frozen=True):
    """``text`` as it was said, ``10/s``."""

    interval_ns: int
    burst: int
    text: str
    # How long an empty bucket takes to be full.
    fill_ns: int


@lru_cache(maxsize=4096)
def rate_of(text: str, burst: int = 1) -> Rate:
    """From ``10/s``, ``100/m``, ``5/h`` or ``1/d`` (checked already). Rounded so that it is never more."""
    count, _, period = text.partition("/")
    interval_ns = -(-_PERIOD_NS[period] // int(count))
    return Rate(interval_ns, burst, text, burst * interval_ns)


def next_ns(full_ns: int, rate: Rate) -> int:
    """When a bucket that is full at ``full_ns`` has a token."""
    return full_ns - (rate.burst - 1) * rate.interval_ns


def taken_ns(full_ns: int, rate: Rate, now_ns: int) -> int:
    """When it is full after one is taken now."""
    return (max(now_ns, full_ns)) + rate.interval_ns


class Limits(Struct, frozen=True):
    """What the options of an execution say of its limits; ``None``: nothing."""

    per_job: int | None = None
    per_schedule: int | None = None
    per_key: int | None = None
    rate: Rate | None = None


@lru_cache(maxsize=4096)
def limits_of(stored: bytes | None) -> Limits | None:
    """From ``Execution.options``; ``None``: it may start at any time, as far as it is concerned."""
    options = options_of(stored)
    most = options.max_instances
    # Whoever says it means its own: a schedule its fires, a method or a submission all of the method.
    by_schedule = (
        most is not None
        and isinstance(options, StoredOptions)
        and options.sources.get("max_instances") is Source.SCHEDULE
    )
    limits = Limits(
        per_job=None if by_schedule else most,
        per_schedule=most if by_schedule else None,
        per_key=None if options.concurrency_key is None else options.max_per_key,
        rate=None if options.rate_limit is None else rate_of(options.rate_limit, options.rate_burst),
    )
    return None if limits == Limits() else limits


def weight_of(lane: str | None) -> int:
    """How many slots an execution takes, from ``Execution.lane``."""
    return 1 if lane is None else lane_of(lane).weight
