"""How a line of a job's log is written in a chunk: by the node, once, and read by the server when somebody looks.

A chunk is text in UTF-8, one line each: ``<microseconds> <stream><level> <text>``. A body that begins with zlib's
first byte is compressed, any other is not (a line begins with a digit). What a node sends is stored as it came; reading
is total: whatever a body holds, the outcome is lines.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

from schedule_zero.wire.messages import MAX_LOG_CHUNK

# Below this, compressing costs more than it saves.
SMALL = 200
LEVEL = 1
_ZLIB = 0x78

STREAMS = {"o": "stdout", "e": "stderr", "l": "log", "n": "node"}
LEVELS = {"d": "debug", "i": "info", "w": "warning", "e": "error", "c": "critical"}
STREAM_CODES = {name: code for code, name in STREAMS.items()}
LEVEL_CODES = {name: code for code, name in LEVELS.items()}
NO_LEVEL = "-"
UNREADABLE = "(a line that the server can't read)"


class Line(NamedTuple):
    """One line. ``stream`` is ``stdout``, ``stderr``, ``log`` (the job's logger) or ``node`` (words of its node)."""

    at_us: int
    stream: str
    level: str | None
    text: str


def code_of(stream: str, level: str | None) -> str:
    """The two letters of a stream and a level; KeyError for those that there aren't."""
    return STREAM_CODES[stream] + (NO_LEVEL if level is None else LEVEL_CODES[level])


def lines_of(at_us: int, code: str, text: str) -> bytes:
    """Whole lines; ``text`` may have several, the last one without its line feed."""
    prefix = f"{at_us} {code} ".encode()
    return b"%b%b\n" % (prefix, text.encode("utf-8", "backslashreplace").replace(b"\n", b"\n" + prefix))


def grouped(raw: bytes) -> list[Line]:
    """Sound lines, those that follow each other with the same time, stream and level as one (with line feeds in it)."""
    found: list[Line] = []
    prefix = b""
    texts: list[bytes] = []

    def end() -> None:
        if texts:
            found.append(parse(prefix + b"\n".join(texts)))

    for line in raw.split(b"\n")[:-1]:
        if not texts or not line.startswith(prefix):
            end()
            prefix = line[: line.find(b" ", line.find(b" ") + 1) + 1]
            texts = []
        texts.append(line[len(prefix) :])
    end()
    return found


def pack(raw: bytes) -> bytes:
    """The body of a chunk."""
    return raw if len(raw) < SMALL else zlib.compress(raw, LEVEL)


def unpack(body: bytes) -> bytes | None:
    """The lines of a body, never more than a chunk may hold; None if it is damaged."""
    if not body or body[0] != _ZLIB:
        return body
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(body, MAX_LOG_CHUNK + 1)
    except zlib.error:
        return None
    return raw if stream.eof and len(raw) <= MAX_LOG_CHUNK else None


def split(raw: bytes | None, lines: int) -> Sequence[bytes]:
    """The ``lines`` lines that a chunk is said to have, whatever it really has."""
    found = [] if raw is None else raw.split(b"\n")
    if found and not found[-1]:
        found.pop()
    return [*found[:lines], *[b""] * (lines - len(found))]


def parse(line: bytes) -> Line:
    """One line of a chunk."""
    at, _, rest = line.partition(b" ")
    code, space, text = rest.partition(b" ")
    letters = code.decode("ascii", "replace")
    if not (at.isdigit() and len(at) <= 16 and space and len(letters) == 2 and letters[0] in STREAMS):
        return Line(0, "node", "error", UNREADABLE)
    return Line(int(at), STREAMS[letters[0]], LEVELS.get(letters[1]), text.decode("utf-8", "replace"))
