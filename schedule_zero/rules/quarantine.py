"""When the server takes a node out of service by itself, for how long, and when it must not. Pure.

A node is quarantined if all of this holds:

* **it fails**: so many different executions in a row failed or timed out there, nothing completed in between; or so
  many of its processes were lost, with attempts, within ``WINDOW_S``;
* **others do well**: a failure counts only if the last attempt of the same method on another node completed, not long
  ago. A broken job fails everywhere, so it counts nowhere. What a job itself calls final or asks to be repeated
  (``GiveUp``, ``Retry``) says nothing about the node;
* **enough is left**: at least half of the connected nodes of each of its methods go on taking work, so that whatever
  this rule gets wrong costs half of the capacity at most (as Envoy bounds what its outlier detection ejects).

After ``probation_s`` it is on probation: it gets one attempt at a time. The first that completes releases it, the
first that fails puts it back, for twice as long.
"""

from __future__ import annotations

from schedule_zero.model import AttemptOutcome

# What is older says nothing about now.
WINDOW_S = 600.0
# A node that is quarantined again this soon after its release goes on where it was.
RELAPSE_S = 3600.0
LONGEST_S = 3600.0


def is_failure(outcome: AttemptOutcome, *, give_up: bool, retry_after_s: float | None) -> bool:
    """Whether the end of an attempt may be its node's fault."""
    return outcome in (AttemptOutcome.FAILED, AttemptOutcome.TIMEOUT) and not give_up and retry_after_s is None


def does_well(completed_s: float | None, failed_s: float | None, now_s: float) -> bool:
    """Whether a method does well on a node, by when it last completed and last failed there (monotonic)."""
    if completed_s is None or now_s - completed_s > WINDOW_S:
        return False
    return failed_s is None or failed_s < completed_s


def enough_left(others_open: int, connected: int) -> bool:
    """Whether one of ``connected`` nodes may go while ``others_open`` others take work."""
    return others_open > 0 and 2 * others_open >= connected


def times_in_a_row(before: int, released_s_ago: float) -> int:
    """The how manieth quarantine in a row this is, after ``before`` of them."""
    return before + 1 if released_s_ago < RELAPSE_S else 1


def probation_after_s(first_s: float, times: int) -> float:
    """How long the ``times``-th quarantine in a row lasts before the node is on probation."""
    return min(first_s * 2.0 ** min(times - 1, 32), max(first_s, LONGEST_S))
