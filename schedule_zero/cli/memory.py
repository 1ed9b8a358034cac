"""How the C library of a long-lived process gives memory back.

glibc takes each block of 128 KiB and more from the kernel, and gives it back when it is freed; but with the first that
is freed it raises that threshold, up to 32 MiB, and from then on such blocks come from its arenas. There are eight of
these for each processor, about one for each thread, and each keeps what it once had: with large results in eight
threads a node's 7 MiB had become 75. Setting the threshold, even to what it is, keeps it where it is.
"""

from __future__ import annotations

import ctypes
import os

# malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
LARGE_BYTES = 128 << 10
# By these somebody else has decided; see mallopt(3).
_DECIDED = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def give_large_blocks_back() -> bool:
    """To be called once at the start; whether the C library did so (others have no such call, and no such habit)."""
    if any(name in os.environ for name in _DECIDED) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # One of them alone would leave the other to grow.
    return all([mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES), mallopt(_M_TRIM_THRESHOLD, LARGE_BYTES)])
