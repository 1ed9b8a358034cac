"""Divides a span of time into a few equal parts that begin where people expect it, for histograms. Pure."""

from __future__ import annotations

from datetime import timedelta, tzinfo

from msgspec import Struct

from schedule_zero.clock import from_us
from schedule_zero.rules.search_values import midnight_us

MOST = 60
_S, _M, _H, _D = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000
HOUR_US = _H
# Up to half a day a part is so long; from a day on they begin at midnight, however long their days are.
_WIDTHS = (_S, 5 * _S, 10 * _S, 15 * _S, 30 * _S, _M, 5 * _M, 10 * _M, 15 * _M, 30 * _M, _H, 2 * _H, 3 * _H, 6 * _H,
           12 * _H)  # fmt: skip
_DAYS = (1, 2, 7, 14, 28, 91, 364, 3_640)
# All offsets from UTC are multiples of it: midnights are in between.
QUARTER_US = 15 * _M


class Buckets(Struct, frozen=True):
    """From each of ``edges`` up to the next one; the last one is an end. ``slot_us``: all edges are such multiples
    after the first.
    """

    edges: tuple[int, ...]
    slot_us: int


def buckets(first_us: int, last_us: int, zone: tzinfo, *, at_least_us: int = 0) -> Buckets:
    """At most ``MOST`` that hold both moments, as short as can be (and as said); they begin at round times of the
    zone.
    """
    last_us = max(first_us, last_us)
    local = from_us(first_us).astimezone(zone)
    offset_us = round((local.utcoffset() or timedelta()).total_seconds()) * _S
    for width in _WIDTHS:
        start = (first_us + offset_us) // width * width - offset_us
        if width >= at_least_us and last_us < start + MOST * width:
            count = (last_us - start) // width + 1
            return Buckets(tuple(start + n * width for n in range(count + 1)), width)
    for days in _DAYS:
        edges = [midnight_us(local.date(), zone)]
        while edges[-1] <= last_us and len(edges) <= MOST:
            edges.append(midnight_us(local.date() + timedelta(days=days * len(edges)), zone))
        if edges[-1] > last_us:
            return Buckets(tuple(edges), QUARTER_US)
    raise AssertionError("what is stored was created in less than five centuries")
