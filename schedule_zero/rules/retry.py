"""Whether a failed attempt is followed by another one, and how long after it. Pure.

``n`` counts the failures on the execution's own account, from 1: attempts that were lost with their node are none.

* ``fixed``: ``retry_delay_s`` each time
* ``linear``: ``n`` times that
* ``exponential``: once, twice, four times, eight times … that
* ``fibonacci``: once, once, twice, three times, five times … that
* ``list``: the ``n``-th of ``retry_delays_s``, and its last one from then on
"""

from __future__ import annotations

from schedule_zero.job_options import Backoff
from schedule_zero.model import ErrorCategory, JobError
from schedule_zero.rules.jitter import drawn
from schedule_zero.rules.options import EffectiveOptions

# Where growing delays end unless ``retry_max_delay_s`` says so; or at the first one, if that is longer.
GROWN_S = 3600.0
_CATEGORIES = frozenset(category.value for category in ErrorCategory)


def delay_s(options: EffectiveOptions, n: int, execution_id: str) -> float:
    """Seconds from the attempt's end to the next; with jitter anything up to that, the same whenever it is asked."""
    first_s, most_s = options.retry_delay_s, options.retry_max_delay_s
    if options.backoff is Backoff.LIST and options.retry_delays_s:
        delay = options.retry_delays_s[min(n, len(options.retry_delays_s)) - 1]
    elif options.backoff in (Backoff.FIXED, Backoff.LIST):
        delay = first_s
    else:
        end_s = max(GROWN_S, first_s) if most_s is None else most_s
        delay = min(end_s, first_s * _factor(options.backoff, n))
    if most_s is not None:
        delay = min(delay, most_s)
    return delay * drawn(f"{execution_id}#{n}") if options.retry_jitter else delay


def _factor(backoff: Backoff, n: int) -> float:
    """How many times the first delay the ``n``-th is. (The largest of ``max_attempts`` is far from a float's end.)"""
    if backoff is Backoff.LINEAR:
        return float(n)
    if backoff is Backoff.EXPONENTIAL:
        return 2.0 ** (n - 1)
    now, following = 1.0, 1.0
    for _ in range(n - 1):
        now, following = following, now + following
    return now


def is_wanted(options: EffectiveOptions, error: JobError | None) -> bool:
    """Whether an error of this kind is to be retried at all: ``give_up_on`` first, then ``retry_on``."""
    if not options.give_up_on and not options.retry_on:
        return True
    if any(_means(name, error) for name in options.give_up_on):
        return False
    return not options.retry_on or any(_means(name, error) for name in options.retry_on)


def _means(name: str, error: JobError | None) -> bool:
    """Whether ``name`` is the error's category, its class or a base of that; with its module, or without."""
    if error is None:
        return False
    if name in _CATEGORIES:
        return name == error.category
    return any(name in (kind, kind.rpartition(".")[2]) for kind in (error.type, *error.bases))
