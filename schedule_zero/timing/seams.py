"""What the changes of the clock do to a trigger: the local times that are left out, for previews and lint."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import reduce
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from schedule_zero.timing.combined import AndTrigger, ExceptTrigger, OrTrigger
from schedule_zero.timing.trigger import DAY_US, LATEST_US, SECOND_US
from schedule_zero.timing.wallclock import WallClockTrigger
from schedule_zero.timing.walltime import Gap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schedule_zero.timing.trigger import Trigger

MAX_SKIPPED = 100
MAX_AHEAD_US = 10 * 366 * DAY_US
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # of local times


class SkippedTime(NamedTuple):
    """A local time that a rule names, that its zone's clock jumped over, and that nothing makes up for."""

    # The first moment after the jump.
    at_us: int
    # Without a zone: there is no such moment in it.
    local: datetime
    zone_key: str


def skipped_by_gap(trigger: Trigger, after_us: int, upto_us: int, most: int = MAX_SKIPPED) -> list[SkippedTime]:
    """The first ``most`` local times left out in ``(after_us, upto_us]`` because they don't exist, at most 10 years on.

    A rule that names every hour is left nothing out of: it goes by real time.
    """
    upto_us = min(upto_us, after_us + MAX_AHEAD_US, LATEST_US)
    return sorted(_skipped(trigger, after_us, upto_us, most))[:most]


def _skipped(trigger: Trigger, after_us: int, upto_us: int, most: int) -> set[SkippedTime]:
    if isinstance(trigger, WallClockTrigger):
        return set(islice(_skipped_local(trigger, after_us, upto_us), most))
    if isinstance(trigger, OrTrigger | AndTrigger):
        parts = [_skipped(member, after_us, upto_us, most) for member in trigger.members]
        found = reduce(set.union if isinstance(trigger, OrTrigger) else set.intersection, parts)
    elif isinstance(trigger, ExceptTrigger):
        left_out = _skipped(trigger.removed, after_us, upto_us, most)
        found = _skipped(trigger.trigger, after_us, upto_us, most) - left_out
    else:
        return set()
    start_us, end_us = trigger.span.start_us, trigger.span.end_us
    return {
        time
        for time in found
        if (start_us is None or time.at_us >= start_us) and (end_us is None or time.at_us <= end_us)
    }


def _skipped_local(trigger: WallClockTrigger, after_us: int, upto_us: int) -> Iterator[SkippedTime]:
    times = trigger.times
    if times.gap is not Gap.SKIP or len(times.pattern.times.hours) == 24:
        return
    start_us, end_us = trigger.span.start_us, trigger.span.end_us
    after_us = after_us if start_us is None else max(after_us, start_us - 1)
    upto_us = upto_us if end_us is None else min(upto_us, end_us)
    for stretch in times.gaps(after_us // SECOND_US, upto_us // SECOND_US):
        gap_start, gap_end = stretch.gap
        local = times.pattern.next(gap_start, gap_end)
        while local is not None:
            yield SkippedTime(stretch.start * SECOND_US, _EPOCH + timedelta(seconds=local), trigger.zone_key)
            local = times.pattern.next(local + 1, gap_end)
