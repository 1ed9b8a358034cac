"""``H`` in a cron field, as in Jenkins: a value that a hash chooses, so that many jobs don't all run on the hour.

``H`` is one value of the field, ``H/15`` every fifteenth from a chosen one on, ``H(0-7)`` and ``H(0-29)/10`` the
same within a range. What is chosen depends on a seed (the schedule's id, unless another one is given) and the name of
the field, never on the moment or the process: SHA-256 of ``seed NUL field``, its first 8 bytes as a big-endian number,
modulo the number of values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256

from cronsim import CronSim, CronSimError

# In the order of the six-field form. Days end at the 28th, which every month has.
RANGES = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day": "1-28",
    "month": "1-12",
    "day_of_week": "0-6",
}
NAMES = tuple(RANGES)
_TERM = re.compile(r"H(?:\((?P<range>[^()]+-[^()]+)\))?(?:/(?P<step>[0-9]+))?")
# Any year will do: only the parsed fields are used.
SOME_DAY = datetime(2000, 1, 1, tzinfo=UTC)


def is_hashed(field: str) -> bool:
    """Whether ``H`` stands in a field (names of days and months never begin with it)."""
    return any(term.startswith("H") for term in field.split(","))


def chosen(name: str, field: str, seed: str) -> str:
    """A field with numbers in place of each ``H``. A ValueError says what is wrong with one."""
    return ",".join(_chosen(name, term, seed) if term.startswith("H") else term for term in field.split(","))


def _chosen(name: str, term: str, seed: str) -> str:
    found = _TERM.fullmatch(term)
    if found is None:
        raise ValueError(f"expected H, H/15, H(0-7) or H(0-29)/10, got {term!r}")
    span = found["range"] or RANGES[name]
    values = field_values(name, span)
    if values is None:
        raise ValueError(f"expected H with a range in {RANGES[name]}, got {term!r}")
    number = int.from_bytes(sha256(f"{seed}\0{name}".encode()).digest()[:8])
    if found["step"] is None:
        return str(values[number % len(values)])
    step = int(found["step"])
    if not 2 <= step <= len(values):
        raise ValueError(f"expected a step from 2 to {len(values)}, the number of values in {span}, got {term!r}")
    return ",".join(map(str, values[number % step :: step]))


def field_values(name: str, field: str) -> Sequence[int] | None:
    """The numbers that a field without ``H``, ``L`` and ``#`` stands for; ``None`` if it can't be read."""
    probe = ["*"] * len(NAMES)
    probe[NAMES.index(name)] = field
    try:
        parsed = CronSim(" ".join(probe), SOME_DAY)
    except CronSimError:
        return None
    found = (parsed.seconds, parsed.minutes, parsed.hours, parsed.days, parsed.months, parsed.weekdays)
    return sorted(value for value in found[NAMES.index(name)] if isinstance(value, int) and value >= 0)
