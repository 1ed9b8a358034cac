"""What is counted by the minute for the charts: counts, three distributions of times, and how they add up. Pure.

Two numbers of the same stretch of time can always be added, in whatever order: what was counted before a restart and
after it, minutes to an hour, hours to a bucket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from msgspec import Struct

from schedule_zero.model import State

MINUTE_US = 60_000_000
HOUR_US = 3_600_000_000
# What is kept. A bucket is made of the longest of these that fit into it: so no chart reads many of any.
UNITS_US = (MINUTE_US, 10 * MINUTE_US, HOUR_US)
# Lengths of a bucket.
STEPS_S = (60, 120, 300, 600, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400)
# Of one answer: unless a length is asked for, and at the most.
USUAL_BUCKETS = 180
MOST_BUCKETS = 200
# Ends that somebody may have to look into; these are counted by handler as well.
FAILURES = frozenset({State.FAILED.value, State.TIMEOUT.value, State.DEAD.value})
# So many handlers of one minute by name, the others together.
MOST_HANDLERS = 50
OTHERS = "*"
QUANTILES = (0.5, 0.95, 0.99)

# Place in the scale → how many times.
Times: TypeAlias = "dict[int, int]"


# --- the scale of times -----------------------------------------------------------------------------


def place_of(us: int) -> int:
    """The place of a length of time: four to each power of two, from 4 µs on. A negative one (two clocks) is none.

    Integers only, without a search: this runs twice for each execution.
    """
    if us < 4:
        return max(0, us)
    octave = us.bit_length() - 3
    return (octave << 2) + (us >> octave)


def bounds_of(place: int) -> tuple[int, int]:
    """From this, and less than that, in microseconds."""
    if place < 8:
        return place, place + 1
    octave = (place >> 2) - 1
    quarter = place - (octave << 2)
    return quarter << octave, (quarter + 1) << octave


def add_times(times: Times, more: Mapping[int, int]) -> None:
    for place, n in more.items():
        times[place] = times.get(place, 0) + n


class Spread(Struct, frozen=True):
    """How long something took, of ``n`` times; seconds. Exact to a quarter of the value, and far better in a crowd."""

    n: int
    p50_s: float
    p95_s: float
    p99_s: float


def spread_of(times: Times) -> Spread | None:
    """The quantiles, by interpolation within their places; None: it never happened."""
    n = sum(times.values())
    if not n:
        return None
    found: list[float] = []
    wanted = iter(QUANTILES)
    rank = next(wanted) * n
    below = 0
    for place in sorted(times):
        count = times[place]
        low, high = bounds_of(place)
        while below + count >= rank:
            found.append((low + (high - low) * (rank - below) / count) / 1e6)
            following = next(wanted, None)
            if following is None:
                return Spread(n, *found)
            rank = following * n
        below += count
    raise AssertionError(f"no place holds the quantile {rank} of {n}")


def longer_than(us: int, times: Times) -> int:
    """How many took longer; those in the same place of the scale as ``us`` are not counted."""
    place = place_of(us)
    return sum(n for at, n in times.items() if at > place)


# --- what is counted --------------------------------------------------------------------------------


class Stats(Struct, omit_defaults=True):
    """Of one stretch of time; as JSON it is what the store keeps of it."""

    # Executions born; come to their end, by state; failed, by handler.
    created: int = 0
    ended: dict[str, int] = {}
    failed: dict[str, int] = {}
    # Fires decided, by outcome.
    fires: dict[str, int] = {}
    # From due by the trigger to decided; from created (or due, where that is later) to sent to a node; of the method.
    lateness: Times = {}
    queue_wait: Times = {}
    run_time: Times = {}
    # Executions not over, and running, when it was last looked. None: nobody looked.
    open: int | None = None
    running: int | None = None

    @property
    def eventful(self) -> bool:
        """Something was counted."""
        return bool(self.created or self.ended or self.fires or self.lateness or self.queue_wait or self.run_time)

    def end(self, handler_id: str, state: str, n: int) -> None:
        self.ended[state] = self.ended.get(state, 0) + n
        if state in FAILURES:
            self._fail(handler_id, n)

    def _fail(self, handler_id: str, n: int) -> None:
        failed = self.failed
        if handler_id not in failed and len(failed) >= MOST_HANDLERS:
            handler_id = OTHERS
        failed[handler_id] = failed.get(handler_id, 0) + n

    def add(self, later: Stats) -> None:
        """Count what ``later`` counted as well; of what both looked at, it looked last."""
        self.created += later.created
        for mine, other in ((self.ended, later.ended), (self.fires, later.fires)):
            for name, n in other.items():
                mine[name] = mine.get(name, 0) + n
        for handler_id, n in later.failed.items():
            self._fail(handler_id, n)
        add_times(self.lateness, later.lateness)
        add_times(self.queue_wait, later.queue_wait)
        add_times(self.run_time, later.run_time)
        if later.open is not None:
            self.open, self.running = later.open, later.running


def total(parts: Iterable[Stats | None]) -> Stats:
    """All of them, in order of time; the parts stay as they are."""
    found = Stats()
    for part in parts:
        if part is not None:
            found.add(part)
    return found


def by_unit(minutes: Mapping[int, Stats], unit_us: int) -> dict[int, Stats]:
    """The same by longer stretches; both by their beginnings."""
    found: dict[int, Stats] = {}
    for start_us in sorted(minutes):
        found.setdefault(start_us - start_us % unit_us, Stats()).add(minutes[start_us])
    return found


# --- buckets ----------------------------------------------------------------------------------------


class Bucket(Struct, frozen=True, kw_only=True):
    """What a chart shows of one stretch of time."""

    from_us: int
    stats: Stats
    lateness: Spread | None
    queue_wait: Spread | None
    run_time: Spread | None


def step_us(from_us: int, to_us: int, asked_s: float | None) -> int | None:
    """The length of a bucket: the least of ``STEPS_S`` that is asked for, or that makes few of them. None: too many."""
    most = USUAL_BUCKETS if asked_s is None else MOST_BUCKETS
    for step_s in STEPS_S:
        us = step_s * 1_000_000
        if asked_s is not None and step_s < asked_s:
            continue
        # (The last six hours are a little more than that by the time that they are looked at.)
        if to_us - (from_us - from_us % us) <= most * us or (asked_s is None and to_us - from_us < (most + 1) * us):
            return us
        if asked_s is not None:
            return None
    return None


def unit_us(step: int) -> int:
    """What a bucket of this length is made of, one of ``UNITS_US``."""
    return max(unit for unit in UNITS_US if step % unit == 0)


def buckets(rows: Iterable[tuple[int, Stats]], from_us: int, to_us: int, step: int) -> list[Bucket]:
    """The buckets from ``from_us`` (the beginning of one) to ``to_us``. ``rows`` are in order, and fit into them.

    One without rows is there as well: nothing was counted, and nobody looked.
    """
    found = [Stats() for _ in range(from_us, to_us, step)]
    for start_us, stats in rows:
        if from_us <= start_us < to_us:
            found[(start_us - from_us) // step].add(stats)
    return [
        Bucket(
            from_us=from_us + index * step,
            stats=stats,
            lateness=spread_of(stats.lateness),
            queue_wait=spread_of(stats.queue_wait),
            run_time=spread_of(stats.run_time),
        )
        for index, stats in enumerate(found)
    ]
