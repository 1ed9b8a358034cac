"""IANA zones by name."""

from __future__ import annotations

from zoneinfo import ZoneInfo

# What lies beside the zones in a system's directory of them: copies with leap seconds, which are half a minute off,
# the machine's own zone, and a placeholder for it.
_BESIDE = ("right/", "posix/")
_NO_ZONES = frozenset({"localtime", "posixrules", "Factory"})


def iana_zone(key: object) -> ZoneInfo | None:
    """The zone of that name, if it is one."""
    if not isinstance(key, str) or not key or key.startswith(_BESIDE) or key in _NO_ZONES:
        return None
    # ZoneInfo reads a file of that name: whatever is wrong with the name comes as one of these.
    try:
        return ZoneInfo(key)
    except (KeyError, ValueError, OSError):
        return None
