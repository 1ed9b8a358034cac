"""W1 with one policy of job options switched on at a time: what each costs per job, beside a job without any.

To measure another one, add it to ``POLICIES``: that makes its method, its work and its line in the budget.
The limits are so high that nothing ever waits for them: what is measured is the asking, counting and giving back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schedule_zero import BaseHandler, job

PLAIN = "plain"
# Name → the options of its method.
POLICIES: dict[str, dict[str, Any]] = {
    "priority": {"priority": 10},
    "retries": {"max_attempts": 5, "backoff": "exponential"},
    "max_instances": {"max_instances": 100_000},
    "concurrency_key": {"concurrency_key": "k:{k}", "max_per_key": 10_000},
    "rate_limit": {"rate_limit": "1000000/s", "rate_burst": 100_000},
    "rate_key": {"rate_limit": "1000000/s", "rate_burst": 100_000, "rate_key": "k:{k}"},
    "weight": {"weight": 2},
    "unique": {"unique_key": "n:{n}"},
}
# How many different ``k`` there are; ``n`` is another one for each job.
KEYS = 1_000


def _method(name: str, options: dict[str, Any]) -> Callable[..., Any]:
    def noop(self: Any, k: int = 0, n: int = 0) -> None:
        """Nothing."""

    noop.__name__ = noop.__qualname__ = name
    return job(**options)(noop) if options else noop


# One method for each policy, all the same but for their options.
PolicyHandler = type(
    "PolicyHandler",
    (BaseHandler,),
    {
        "__doc__": "Jobs that do nothing, each under another policy.",
        "handler_id": "policies",
        **{name: _method(name, options) for name, options in {PLAIN: {}, **POLICIES}.items()},
    },
)
