"""The form of a part of a large result, on the wire and in the store: its bytes, compressed. Pure."""

from __future__ import annotations

import zlib

from schedule_zero.wire.messages import MAX_RESULT_CHUNK

LEVEL = 1


def pack(raw: bytes) -> bytes:
    """The body of a part."""
    return zlib.compress(raw, LEVEL)


def unpack(body: bytes, size: int) -> bytes:
    """Exactly ``size`` bytes, whatever the node had sent: what is missing is blank, which JSON does not mind."""
    try:
        raw = zlib.decompressobj().decompress(body, MAX_RESULT_CHUNK)
    except zlib.error:
        raw = b""
    return raw[:size].ljust(size)
