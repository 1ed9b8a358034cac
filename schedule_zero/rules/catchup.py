"""What becomes of the nominal times of one schedule that are due: run, caught up, skipped or missed.

Pure. Every nominal time from the first undecided one up to now gets exactly one outcome (C2), and the work is
bounded whatever lies between (C3): the old ones are counted by arithmetic, not one by one.

* not later than the grace: ``executed``, each of them, at most ``max_runs`` in one round; the rest stays due.
* older: the latest of them is ``caught_up`` if it lies within the window, the others are ``missed``.
* of a paused schedule: all of them ``skipped``.

Runs of missed or skipped ones get a ledger row each for the newest ``max_rows``, and one row with a count for
those before.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from schedule_zero.model import FireOutcome, SkipReason

MAX_RUNS = 1000

_MISSED = (FireOutcome.MISSED, None)
_PAUSED = (FireOutcome.SKIPPED, SkipReason.PAUSED)


class NominalTimes(Protocol):
    """What a trigger can answer (``timing.trigger.Trigger``)."""

    def next_after(self, us: int) -> int | None: ...

    def last_before(self, us: int) -> int | None: ...

    def count(self, after_us: int, upto_us: int) -> int: ...


class Policy(Struct, frozen=True, kw_only=True):
    """How lateness is treated."""

    grace_us: int
    window_us: int
    # Rows of detail for a run of missed or skipped nominal times.
    max_rows: int = 100
    # Nominal times executed in one round.
    max_runs: int = MAX_RUNS


class Decision(Struct, frozen=True, gc=False):
    """The outcome of one nominal time, or of ``count`` of them from ``nominal_us`` to ``last_nominal_us``."""

    nominal_us: int
    outcome: FireOutcome
    reason: SkipReason | None = None
    count: int = 1
    last_nominal_us: int | None = None

    @property
    def runs(self) -> bool:
        return self.outcome is FireOutcome.EXECUTED or self.outcome is FireOutcome.CAUGHT_UP


class Plan(Struct, frozen=True, gc=False):
    """The decisions of one round, in order of time, and where the next one begins."""

    decisions: list[Decision]
    # The latest nominal time decided.
    last_us: int
    # The first one that isn't; ``None``: the trigger has run out. Up to now if the round was full.
    next_us: int | None


def decide(times: NominalTimes, due_us: int, now_us: int, policy: Policy, *, paused: bool = False) -> Plan:
    """Decide the nominal times from ``due_us`` to ``now_us``.

    ``due_us`` was computed earlier and is a nominal time by definition, also if the trigger would not give it any
    more (a new tzdata). It must not lie after ``now_us``.
    """
    oldest_fresh_us = now_us - policy.grace_us
    if paused:
        decisions = _bounded(times, due_us, now_us + 1, policy.max_rows, _PAUSED)
        last_us = max(due_us, times.last_before(now_us + 1) or due_us)
        return Plan(decisions, last_us, times.next_after(last_us))
    if due_us >= oldest_fresh_us:
        next_us = times.next_after(due_us)
        if next_us is None or next_us > now_us:
            # By far the most frequent case: one nominal time, on time.
            return Plan([Decision(due_us, FireOutcome.EXECUTED)], due_us, next_us)
        return _execute(times, [], due_us, now_us, policy)
    latest_old_us = max(due_us, times.last_before(oldest_fresh_us) or due_us)
    if latest_old_us >= now_us - policy.window_us:
        decisions = _bounded(times, due_us, latest_old_us, policy.max_rows, _MISSED)
        decisions.append(Decision(latest_old_us, FireOutcome.CAUGHT_UP))
    else:
        decisions = _bounded(times, due_us, latest_old_us + 1, policy.max_rows, _MISSED)
    fresh_us = times.next_after(latest_old_us)
    if fresh_us is None or fresh_us > now_us:
        return Plan(decisions, latest_old_us, fresh_us)
    return _execute(times, decisions, fresh_us, now_us, policy)


def _execute(times: NominalTimes, decisions: list[Decision], first_us: int, now_us: int, policy: Policy) -> Plan:
    """Execute each nominal time from ``first_us`` to ``now_us``, as far as the round goes."""
    last_us, next_us = first_us, times.next_after(first_us)
    decisions.append(Decision(first_us, FireOutcome.EXECUTED))
    for _ in range(policy.max_runs - 1):
        if next_us is None or next_us > now_us:
            break
        decisions.append(Decision(next_us, FireOutcome.EXECUTED))
        last_us, next_us = next_us, times.next_after(next_us)
    return Plan(decisions, last_us, next_us)


def _bounded(
    times: NominalTimes, first_us: int, end_us: int, max_rows: int, fate: tuple[FireOutcome, SkipReason | None]
) -> list[Decision]:
    """The same fate for all nominal times from ``first_us`` (itself one of them) up to, not including, ``end_us``."""
    if first_us >= end_us:
        return []
    count = 1 + times.count(first_us, end_us - 1)
    newest_first: list[int] = []
    before_us = end_us
    while len(newest_first) < min(count - 1, max_rows):
        nominal_us = times.last_before(before_us)
        if nominal_us is None or nominal_us <= first_us:
            break
        newest_first.append(nominal_us)
        before_us = nominal_us
    rest = count - len(newest_first)
    if rest == 1:
        decisions = [Decision(first_us, *fate)]
    else:
        last_us = max(first_us, times.last_before(before_us) or first_us)
        decisions = [Decision(first_us, *fate, rest, last_us)]
    decisions.extend(Decision(nominal_us, *fate) for nominal_us in reversed(newest_first))
    return decisions
