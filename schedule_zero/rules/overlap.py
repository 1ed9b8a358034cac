"""What a fire becomes while earlier executions of its schedule are not over. Pure.

An execution that has to wait for an earlier one is born ``blocked``; ``timing.turns`` lets it go when its turn comes.
What is *open* is everything that is not over: waiting for its time, pending, running, or between two attempts.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from msgspec import Struct

from schedule_zero.model import Overlap

# Of several fires of one round only the latest runs.
NEWEST_WINS = frozenset({Overlap.CANCEL_RUNNING, Overlap.REPLACE_PENDING})


class Turn(Enum):
    """What one fire that is to run does."""

    START = "start"
    WAIT = "wait"
    SKIP = "skip"


class Step(Struct, frozen=True):
    """What is to be done about the open executions of one schedule."""

    cancel: list[str] = []
    # Of those to be cancelled, what runs already is left alone.
    only_unstarted: bool = False
    unblock: list[str] = []


def take_turns(overlap: Overlap, fires: int, *, open_: int, blocked: int) -> list[Turn]:
    """A turn for each of ``fires`` fires of one round. ``open_`` counts all that is not over, ``blocked`` included."""
    if overlap is Overlap.ALLOW:
        return [Turn.START] * fires
    if overlap in NEWEST_WINS:
        # What the latest would replace in its own round never comes to be.
        return [Turn.SKIP] * (fires - 1) + [Turn.WAIT if open_ else Turn.START] if fires else []
    turns: list[Turn] = []
    for _ in range(fires):
        if not open_:
            turns.append(Turn.START)
        elif overlap is Overlap.BUFFER_ALL or (overlap is Overlap.BUFFER_ONE and not blocked):
            turns.append(Turn.WAIT)
            blocked += 1
        else:
            turns.append(Turn.SKIP)
            continue
        open_ += 1
    return turns


def next_step(overlap: Overlap, open_: Mapping[str, bool]) -> Step:
    """Whom to cancel and whom to let go, from what is open alone: so a crash in between loses nothing.

    ``open_`` says of each open execution, in the order in which they were born, whether it is blocked.
    """
    blocked = [id_ for id_, waits in open_.items() if waits]
    others = [id_ for id_, waits in open_.items() if not waits]
    if not blocked:
        return Step()
    if overlap is Overlap.ALLOW:
        return Step(unblock=blocked)
    if overlap in NEWEST_WINS:
        return Step(
            cancel=others + blocked[:-1],
            only_unstarted=overlap is Overlap.REPLACE_PENDING,
            unblock=[] if others else blocked[-1:],
        )
    return Step(unblock=[] if others else blocked[:1])
