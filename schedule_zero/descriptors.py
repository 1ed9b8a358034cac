"""How many files and connections this process may have open at once."""

from __future__ import annotations

import resource

# Where there is no limit.
PLENTY = 1 << 20


def limit() -> int:
    """As it is now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return PLENTY if soft == resource.RLIM_INFINITY else soft


def take_all() -> None:
    """As many as there may be: the usual limit (1,024) is that of ``select``, which nobody uses here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
