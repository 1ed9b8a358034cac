"""What comes: the fires of all schedules in buckets, where they collide, and when it is quiet.

Counting is arithmetic, so a schedule costs the same however often it fires. Moments are looked at one by one only of
schedules that name few of them; those are the ones that people put on the full hour.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from schedule_zero.timing.combination import leaves_of
from schedule_zero.timing.cron import CronTrigger

if TYPE_CHECKING:
    from schedule_zero.timing.outlook import Outlook

MAX_BUCKETS = 2000
# Of one trigger in the whole range: above this it has no moments of its own, it is a stream.
MAX_MOMENTS = 1000
# Of all triggers together.
MAX_ALL_MOMENTS = 200_000
MAX_PEAKS = 10
MAX_NAMES = 10


class Firing(Struct, frozen=True, kw_only=True):
    """One schedule for the forecast."""

    schedule_id: str
    outlook: Outlook
    # What its next runs are expected to take, from those it had; ``None``: it had none.
    run_s: float | None


class Bucket(Struct, kw_only=True):
    from_us: int
    fires: int = 0
    # Seconds of run time that its fires are expected to take.
    busy_s: float = 0.0


class Peak(Struct, kw_only=True):
    """A moment at which several schedules fire."""

    at_us: int
    fires: int
    busy_s: float
    # Some of them.
    schedule_ids: list[str]
    # A jitter of this many seconds on each would leave one a second.
    spread_s: int
    # Some of them could say ``H``.
    by_cron: bool


class Quiet(Struct, kw_only=True):
    """The stretch of the wanted length with the least expected run time, then the fewest fires."""

    from_us: int
    to_us: int
    fires: int
    busy_s: float


class Forecast(Struct, kw_only=True):
    buckets: list[Bucket]
    bucket_us: int
    schedules: int
    fires: int
    busy_s: float
    peaks: list[Peak]
    quietest: Quiet | None
    # Schedules whose moments were not looked at for the peaks: they, or all together, have too many.
    unseen: int


def forecast(
    firings: Iterable[Firing],
    from_us: int,
    to_us: int,
    bucket_us: int,
    *,
    quiet_us: int | None = None,
    rest: Callable[[], object] = lambda: None,
) -> Forecast:
    """Forecast ``[from_us, to_us)``. ``rest`` is called between schedules, for whoever shares the interpreter."""
    starts = range(from_us, to_us, bucket_us)
    buckets = [Bucket(from_us=start) for start in starts]
    # A hundred schedules at the same time are one piece of arithmetic.
    counted: dict[Outlook, tuple[list[int], list[int] | None]] = {}
    moments: dict[int, list[str]] = defaultdict(list)
    # Moments at which one by cron fires.
    by_cron: set[int] = set()
    busy: Counter[int] = Counter()
    looked_at, unseen, schedules = 0, 0, 0
    for firing in firings:
        known = counted.get(firing.outlook)
        if known is None:
            known = counted[firing.outlook] = _count(firing.outlook, starts, to_us)
        counts, times = known
        total = sum(counts)
        rest()
        if not total:
            continue
        schedules += 1
        run_s = firing.run_s or 0.0
        for bucket, count in zip(buckets, counts, strict=True):
            bucket.fires += count
            bucket.busy_s += count * run_s
        if times is None or looked_at + total > MAX_ALL_MOMENTS:
            unseen += 1
            continue
        looked_at += total
        for nominal_us in times:
            moments[nominal_us].append(firing.schedule_id)
            busy[nominal_us] += round(run_s * 1e6)
        if any(isinstance(leaf, CronTrigger) for leaf in leaves_of(firing.outlook.trigger)):
            by_cron.update(times)
    return Forecast(
        buckets=buckets,
        bucket_us=bucket_us,
        schedules=schedules,
        fires=sum(bucket.fires for bucket in buckets),
        busy_s=sum(bucket.busy_s for bucket in buckets),
        peaks=_peaks(moments, busy, by_cron),
        quietest=None if quiet_us is None else quietest(buckets, bucket_us, quiet_us),
        unseen=unseen,
    )


def _count(outlook: Outlook, starts: range, to_us: int) -> tuple[list[int], list[int] | None]:
    """How often it runs in each bucket, and its moments if they are few."""
    from_us, bucket_us = starts.start, starts.step
    counts = [0] * len(starts)
    stretches = list(outlook.stretches(from_us, to_us))
    if sum(outlook.count(low_us, high_us) for low_us, high_us in stretches) > MAX_MOMENTS:
        for low_us, high_us in stretches:
            for place in range((low_us - from_us) // bucket_us, -(-(high_us - from_us) // bucket_us)):
                start_us = starts[place]
                counts[place] += outlook.count(max(low_us, start_us), min(high_us, start_us + bucket_us))
        return counts, None
    times: list[int] = []
    for low_us, high_us in stretches:
        for nominal_us in outlook.nominal(low_us, high_us):
            counts[(nominal_us - from_us) // bucket_us] += 1
            times.append(nominal_us)
    return counts, times


def _peaks(moments: dict[int, list[str]], busy: Counter[int], by_cron: set[int]) -> list[Peak]:
    crowded = [us for us, ids in moments.items() if len(ids) > 1]
    crowded.sort(key=lambda us: (-len(moments[us]), us))
    return [
        Peak(
            at_us=us,
            fires=len(moments[us]),
            busy_s=busy[us] / 1e6,
            schedule_ids=sorted(moments[us])[:MAX_NAMES],
            spread_s=len(moments[us]),
            by_cron=us in by_cron,
        )
        for us in crowded[:MAX_PEAKS]
    ]


def quietest(buckets: Sequence[Bucket], bucket_us: int, quiet_us: int) -> Quiet | None:
    """The quietest run of whole buckets that is ``quiet_us`` long at least; ``None``: the range is too short."""
    size = -(-quiet_us // bucket_us)
    if size > len(buckets):
        return None
    best: Quiet | None = None
    fires = sum(bucket.fires for bucket in buckets[:size])
    busy_s = sum(bucket.busy_s for bucket in buckets[:size])
    for at in range(len(buckets) - size + 1):
        if at:
            fires += buckets[at + size - 1].fires - buckets[at - 1].fires
            busy_s += buckets[at + size - 1].busy_s - buckets[at - 1].busy_s
        # Sums of floats drift; what is nearly nothing is nothing.
        if best is None or (round(busy_s, 6), fires) < (round(best.busy_s, 6), best.fires):
            start_us = buckets[at].from_us
            best = Quiet(from_us=start_us, to_us=start_us + size * bucket_us, fires=fires, busy_s=max(busy_s, 0.0))
    return best
