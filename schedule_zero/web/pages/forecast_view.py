"""The forecast as its page shows it: a heat map of days and hours, the quiet windows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta, tzinfo
from enum import StrEnum

from msgspec import Struct

from schedule_zero.clock import from_us
from schedule_zero.timing.forecast import Bucket, Forecast, Quiet, quietest
from schedule_zero.web.pages.days import midnight_us
from schedule_zero.web.pages.words import duration

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
# Shades of the heat map, beside none.
SHADES = 5
QUIET_HOURS = (1, 2, 4, 8)


class Span(StrEnum):
    """What a heat map spans: hours of one day in five minutes, or days in hours."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Measure(StrEnum):
    """How many fires, or how long they are expected to run."""

    FIRES = "fires"
    BUSY = "busy"


DAYS = {Span.DAY: 1, Span.WEEK: 7, Span.MONTH: 31}
BUCKETS_US = {Span.DAY: 5 * MINUTE_US, Span.WEEK: HOUR_US, Span.MONTH: HOUR_US}


class Scale(Struct, frozen=True):
    """From the least value that isn't nothing to the greatest: in shades, 1 to ``SHADES``.

    By the square: a few crowded moments leave something to be seen of the others.
    """

    least: float
    most: float

    def shade(self, value: float) -> int:
        width = self.most - self.least
        return 1 + (round(((value - self.least) / width) ** 0.5 * (SHADES - 1)) if width > 0 else SHADES // 2)

    def upto(self, shade: int) -> float:
        """About the greatest value that has this shade."""
        return self.least + (self.most - self.least) * min(1.0, (shade - 0.5) / (SHADES - 1)) ** 2


class Cell(Struct, frozen=True):
    """``shade``: from 0, nothing, to ``SHADES``; None: there is no such time (a change of the clock), or it is over."""

    text: str
    shade: int | None
    title: str = ""


class HeatRow(Struct, frozen=True):
    label: str
    # The day, to look at it alone; None: it is one already.
    day: date | None
    cells: list[Cell]


class Heat(Struct, frozen=True):
    columns: list[str]
    rows: list[HeatRow]
    # What each shade goes up to.
    legend: list[str]


def bounds(span: Span, first: date, zone: tzinfo) -> tuple[int, int, int]:
    """From its first midnight to its last one, by the clocks of the zone, and the length of a bucket."""
    return midnight_us(first, zone), midnight_us(first + timedelta(days=DAYS[span]), zone), BUCKETS_US[span]


def heat(forecast: Forecast, span: Span, measure: Measure, first: date, zone: tzinfo, now_us: int) -> Heat:
    """The buckets by the clock on the wall: what is repeated when clocks go back is one cell, what is left out is none.

    A cell whose time is over is empty: the forecast knows nothing of it.
    """
    sums: dict[tuple[int, int], tuple[int, float, bool]] = {}
    for bucket in forecast.buckets:
        at = _place(bucket, span, first, zone)
        had = sums.get(at, (0, 0.0, True))
        over = bucket.from_us + forecast.bucket_us <= now_us
        sums[at] = (had[0] + bucket.fires, had[1] + bucket.busy_s, had[2] and over)
    values = [value for fires, busy_s, _ in sums.values() if (value := _of(measure, fires, busy_s))]
    scale = Scale(min(values, default=0.0), max(values, default=0.0))
    columns = [f":{minute:02}" for minute in range(0, 60, 5)]
    if span is not Span.DAY:
        columns = [f"{hour:02}" for hour in range(24)]
    rows = []
    for row in range(24 if span is Span.DAY else DAYS[span]):
        cells = [_cell(sums.get((row, column)), measure, scale) for column in range(len(columns))]
        day = first + timedelta(days=row)
        label = f"{row:02}:00" if span is Span.DAY else f"{day:%a} {day.day} {day:%b}"
        rows.append(HeatRow(label, None if span is Span.DAY else day, cells))
    return Heat(columns, rows, [_said(measure, scale.upto(shade)) for shade in range(1, SHADES + 1)])


def _place(bucket: Bucket, span: Span, first: date, zone: tzinfo) -> tuple[int, int]:
    at = from_us(bucket.from_us).astimezone(zone)
    if span is Span.DAY:
        return at.hour, at.minute // 5
    return (at.date() - first).days, at.hour


def _of(measure: Measure, fires: int, busy_s: float) -> float:
    return float(fires) if measure is Measure.FIRES else busy_s


def _cell(found: tuple[int, float, bool] | None, measure: Measure, scale: Scale) -> Cell:
    if found is None:
        return Cell("", None, "no such time: the clock changes")
    fires, busy_s, over = found
    if over:
        return Cell("", None)
    value = _of(measure, fires, busy_s)
    title = f"{fires:,} fires, {duration(busy_s)} of run time"
    return Cell(_said(measure, value), scale.shade(value), title) if value else Cell("", 0, title)


def _said(measure: Measure, value: float) -> str:
    """Short enough for a cell."""
    if measure is Measure.BUSY:
        for unit, size in (("h", 3600), ("m", 60)):
            if value >= size:
                return f"{value / size:.0f}{unit}"
        return f"{value:.2g}s"
    for unit, thousand in (("M", 1e6), ("k", 1e3)):
        if value >= thousand:
            short = value / thousand
            return f"{short:.1f}{unit}" if short < 10 else f"{short:.0f}{unit}"
    return f"{value:.0f}"


def quiet_windows(forecast: Forecast, now_us: int) -> list[tuple[int, Quiet]]:
    """For each length in hours the quietest stretch to come, if one fits."""
    # (What is over would be the quietest of all.)
    coming = [bucket for bucket in forecast.buckets if bucket.from_us >= now_us]
    found: Sequence[tuple[int, Quiet | None]] = [
        (hours, quietest(coming, forecast.bucket_us, hours * HOUR_US)) for hours in QUIET_HOURS
    ]
    return [(hours, quiet) for hours, quiet in found if quiet is not None]
