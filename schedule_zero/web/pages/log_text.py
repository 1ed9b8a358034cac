"""Lines of a job's log as elements of a page. What jobs print is hostile, and there is much of it: made in one go.

One element a line, its number is a link to it. Chunks of ``CHUNK`` lines are laid out by the browser only where one
looks (``content-visibility``), and so may be many.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import tzinfo

from markupsafe import Markup, escape

from schedule_zero.clock import from_us
from schedule_zero.web.pages.words import visible
from schedule_zero.wire.log_lines import Line

CHUNK = 500
# Of one line; the rest is in the file.
MOST_CHARACTERS = 20_000

_CLASSES = {"warning": "w", "error": "e", "critical": "e", "debug": "d"}
_STREAMS = {"stderr": "s", "node": "n"}


def plain(text: str) -> str:
    """The text that a line shows, as much of it as a page can have."""
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]} … ({len(text):,} characters; the file has all)"
    # (The end of a line that was written for Windows.)
    return visible(text.removesuffix("\r"))


def markup(
    lines: Sequence[tuple[int, Line]], zone: tzinfo, *, link: str, marked: int | None = None, needle: str = ""
) -> Markup:
    """Lines (their numbers from 0) as chunks. ``link`` is the address of a line but for its number; ``needle`` is what
    was looked for, to be marked as it stands.
    """
    seconds: dict[int, str] = {}
    link = str(escape(link))
    looked_for = re.compile(f"({re.escape(needle)})", re.IGNORECASE) if needle else None

    def time_of(us: int) -> str:
        if not us:
            return ""
        second, rest = divmod(us, 1_000_000)
        known = seconds.get(second)
        if known is None:
            known = seconds[second] = f"{from_us(second * 1_000_000).astimezone(zone):%H:%M:%S}"
        return f"{known}.{rest // 1000:03d}"

    def one(number: int, line: Line) -> str:
        name = f"{_CLASSES.get(line.level or '', '')}{_STREAMS.get(line.stream, '')}"
        if number == marked:
            name = f"{name} mark".lstrip()
        text = plain(line.text)
        if looked_for is None:
            text = str(escape(text))
        else:
            pieces = [str(escape(piece)) for piece in looked_for.split(text)]
            pieces[1::2] = [f"<mark>{piece}</mark>" for piece in pieces[1::2]]
            text = "".join(pieces)
        at = number + 1
        has = f' class="{name}"' if name else ""
        return f'<p id="L{at}"{has} data-t="{time_of(line.at_us)}"><a href="{link}{at}#L{at}">{at}</a>{text}</p>'

    parts = []
    for start in range(0, len(lines), CHUNK):
        of = lines[start : start + CHUNK]
        full = " full" if len(of) == CHUNK else ""
        parts.append(f'<div class="chunk{full}">{"".join([one(number, line) for number, line in of])}</div>')
    # (What came from a job was escaped above, piece by piece.)
    return Markup("".join(parts))  # noqa: S704
