"""Whether fires of a trigger lie closer to each other than a server allows (``timing.min_interval_ms``).

A plain interval says it itself. Of all others the coming fires are looked at, so many that what is too close shows:
those right after now, and around each of the next fires of each single trigger in a combination, because a rare one
may come right before or after one of a dense one; around the changes of the clock, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from schedule_zero.clock import rfc3339
from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing.combination import Steps, ask_last, ask_next, leaves_of
from schedule_zero.timing.combined import AndTrigger, ExceptTrigger
from schedule_zero.timing.instants import IntervalTrigger
from schedule_zero.timing.trigger import DAY_US, LATEST_US, SECOND_US, Trigger
from schedule_zero.timing.wallclock import WallClockTrigger
from schedule_zero.timing.walltime import Gap

# Fires in a row, and of each single trigger.
IN_A_ROW = 100
OF_EACH = 20
# Of the clock of a zone.
CHANGES_US = 366 * DAY_US
# Questions to single triggers, at some 5 µs each.
MOST_STEPS = 1500


class Close(NamedTuple):
    """Two fires in a row."""

    first_us: int
    second_us: int


def refuse_too_close(trigger: Trigger, now_us: int, least_ms: int, pointer: str) -> None:
    """InvalidTrigger with the first two fires that lie too close."""
    # 1 ms is the length of the shortest interval, and no limit: by chance two triggers may come so close.
    found = too_close(trigger, now_us, least_ms * 1000) if least_ms > 1 else None
    if found is not None:
        raise InvalidTrigger(
            f"expected at least {least_ms} ms between two fires, got {(found.second_us - found.first_us) / 1000:g} ms: "
            f"it fires at {rfc3339(found.first_us)} and at {rfc3339(found.second_us)}",
            pointer=pointer,
        )


def too_close(trigger: Trigger, now_us: int, least_us: int) -> Close | None:
    """The first two coming fires that were found to lie closer than ``least_us``."""
    if _is_wide(trigger, least_us):
        return None
    steps, in_a_row = Steps(), 0 if _on_grid(trigger, least_us) else IN_A_ROW
    pairs = chain(_row(trigger, now_us, in_a_row, steps), _around(trigger, now_us, steps))
    return next((pair for pair in pairs if pair.second_us - pair.first_us < least_us), None)


def _is_wide(trigger: Trigger, least_us: int) -> bool:
    """Whether arithmetic alone says that its fires lie far enough from each other."""
    if isinstance(trigger, IntervalTrigger):
        return trigger.period_us >= least_us
    if isinstance(trigger, WallClockTrigger):
        # A fire that is made up for after a gap lies on no grid, but on a whole second.
        return least_us <= SECOND_US or (trigger.times.gap is Gap.SKIP and _on_grid(trigger, least_us))
    if isinstance(trigger, AndTrigger):
        return any(_is_wide(member, least_us) for member in trigger.members)
    if isinstance(trigger, ExceptTrigger):
        return _is_wide(trigger.trigger, least_us)
    return False


def _on_grid(trigger: Trigger, least_us: int) -> bool:
    """Whether the local times that it names lie far enough from each other."""
    return isinstance(trigger, WallClockTrigger) and trigger.times.pattern.times.grid_s * SECOND_US >= least_us


def _row(trigger: Trigger, now_us: int, most: int, steps: Steps) -> Iterator[Close]:
    """The fires after now, two by two."""
    us = now_us
    before_us: int | None = None
    for _ in range(most):
        found = ask_next(trigger, us, LATEST_US, steps)
        if found is None or steps.taken > MOST_STEPS:
            return
        if before_us is not None:
            yield Close(before_us, found)
        us = before_us = found


def _around(trigger: Trigger, now_us: int, steps: Steps) -> Iterator[Close]:
    """Fires near rare ones, with their neighbours."""
    for moment_us in _seldom(trigger, now_us, steps):
        us = ask_next(trigger, moment_us - 1, LATEST_US, steps)
        if us is None or steps.taken > 2 * MOST_STEPS:
            return
        before_us = ask_last(trigger, us, now_us + 1, steps)
        after_us = ask_next(trigger, us, LATEST_US, steps)
        if before_us is not None:
            yield Close(before_us, us)
        if after_us is not None:
            yield Close(us, after_us)


def _seldom(trigger: Trigger, now_us: int, steps: Steps) -> Iterator[int]:
    """Moments near which a rare fire may stand."""
    leaves = leaves_of(trigger)
    upto_us = min(now_us + CHANGES_US, LATEST_US)
    for leaf in leaves:
        if isinstance(leaf, WallClockTrigger):
            for change in (leaf.times.gaps, leaf.times.folds):
                yield from (stretch.start * SECOND_US for stretch in change(now_us // SECOND_US, upto_us // SECOND_US))
    for leaf in leaves if len(leaves) > 1 else ():
        us = ask_next(leaf, now_us, LATEST_US, steps)
        for _ in range(OF_EACH):
            if us is None:
                break
            yield us
            us = ask_next(leaf, us, LATEST_US, steps)
