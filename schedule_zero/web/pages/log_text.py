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
from schedule_zero.wire.log_lines import Line

CHUNK = 500
# Of one line; the rest is in the file.
MOST_CHARACTERS = 20_000

# Colours, cursor moves, titles of windows: said to a terminal, not to a reader.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^_`-~])")
# What would be invisible, or turn the text around.
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_CLASSES = {"warning": "w", "error": "e", "critical": "e", "debug": "d"}
_STREAMS = {"stderr": "s", "node": "n"}


def plain(text: str) -> str:
    """The text that a line shows: without what terminals obey, and what can't be seen as a code or a symbol."""
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]} … ({len(text):,} characters; the file has all)"
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    # (The end of a line that was written for Windows.)
    return _HIDDEN.sub(_seen, text.removesuffix("\r"))


def _seen(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


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
            name += " mark"
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
