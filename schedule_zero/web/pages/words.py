"""Facts as people read them: moments with their zone, durations, sizes, counts. Pure: text in, text out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import humanize
from markupsafe import Markup, escape

from schedule_zero.clock import from_us, rfc3339
from schedule_zero.web.pages.preferences import Preferences, TimeIn

# Colours, cursor moves, titles of windows: said to a terminal, not to a reader.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^_`-~])")
# What would be invisible, or turn the text around.
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
UTC = ZoneInfo("UTC")
DAY_US = 86_400_000_000


def moment(us: int | None, now_us: int, wanted: Preferences, zone: tzinfo | None = None) -> Markup:
    """A ``<time>`` in the zone that is wanted, with all zones in its title; ``zone`` is its schedule's."""
    if us is None:
        return Markup('<span class="none">–</span>')
    shown, text = zone_for(wanted, zone), ""
    at = from_us(us)
    if wanted.time is TimeIn.RELATIVE:
        text = relative(us, now_us)
    else:
        text = clock_text(at.astimezone(shown), from_us(now_us).astimezone(shown))
    title = " · ".join(_all(at, zone, wanted))
    live = Markup(" data-relative") if wanted.time is TimeIn.RELATIVE else ""
    return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(rfc3339(us), title, live, text)


def countdown(us: int | None, now_us: int, wanted: Preferences, zone: tzinfo | None = None) -> Markup:
    """How long until then, counted down by the page; the moment itself is its title."""
    if us is None:
        return Markup('<span class="none">–</span>')
    title = " · ".join(_all(from_us(us), zone, wanted))
    return Markup('<time datetime="{}" title="{}" data-relative>{}</time>').format(
        rfc3339(us), title, relative(us, now_us)
    )


def zone_for(wanted: Preferences, zone: tzinfo | None) -> tzinfo:
    """In which zone a moment is shown (a relative one: in which its day begins)."""
    if wanted.time is TimeIn.BROWSER:
        return wanted.zone
    return zone or UTC if wanted.time is TimeIn.SCHEDULE else UTC


def clock_text(at: datetime, now: datetime) -> str:
    """``09:00:00 CET`` today, else ``26 Nov 09:00:00 CET``, with the year if it is another."""
    day = "" if at.date() == now.date() else f"{at.day} {at:%b} "
    if at.year != now.year:
        day = f"{at.day} {at:%b %Y} "
    return f"{day}{at:%H:%M:%S} {zone_name(at)}"


def zone_name(at: datetime) -> str:
    """``CET``; for a zone without letters, its offset."""
    name = at.tzname() or ""
    return name if name.isalpha() else f"UTC{at:%z}"


def relative(us: int, now_us: int) -> str:
    """``12 s ago``, ``in 5 min``; the page counts on in the same words (times.js)."""
    seconds = (us - now_us) / 1e6
    text = short(abs(seconds))
    return "now" if abs(seconds) < 0.5 else f"in {text}" if seconds > 0 else f"{text} ago"


def short(seconds: float) -> str:
    """``12 s``, ``5 min``, ``3 h 20 min``, ``4 d 2 h``: two units at most, rounded down."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if whole < 3600:
        return f"{minutes} min"
    if whole < 86_400:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def duration(seconds: float | None) -> str:
    """``350 µs``, ``12.3 ms``, ``4.56 s``, ``2 min 5 s``: three digits below a minute."""
    if seconds is None:
        return "–"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds == 0:
        return "0 s"
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1, 1e3, "ms"), (60, 1, "s")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return short(seconds)


def between(from_us_: int | None, to_us: int | None) -> str:
    """The duration between two moments; – if one of them is not known."""
    return duration(None if from_us_ is None or to_us is None else (to_us - from_us_) / 1e6)


def count(number: int) -> str:
    """``12,431``."""
    return f"{number:,}"


def size(number: int | None) -> str:
    """``1.2 MiB``."""
    return "–" if number is None else humanize.naturalsize(number, binary=True)


def plural(number: int, one: str, many: str | None = None) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def sentence(text: str) -> str:
    """Text as it begins a line: ``Every 10 seconds``."""
    return text[:1].upper() + text[1:]


def visible(text: str) -> str:
    """Hostile text without what terminals obey; what can't be seen, or turns text around, as a symbol or a code."""
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    return _HIDDEN.sub(_seen, text)


def _seen(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def json_text(document: bytes | str) -> str:
    """JSON text, indented, with its numbers as they are written: no big integer is mangled. Other text: as it is.

    What could not be seen in its strings, or would turn the text around, is escaped: it is the same document.
    """
    try:
        parsed = json.loads(document, parse_int=_Literal, parse_float=_Literal, parse_constant=_Literal)
    except (ValueError, RecursionError):
        return document if isinstance(document, str) else document.decode(errors="replace")
    return "".join(_dump(parsed, "\n"))


class _Literal(str):
    """A number as it is written."""

    __slots__ = ()


def _dump(value: Any, line: str) -> Iterator[str]:
    deeper = line + "  "
    if isinstance(value, dict) and value:
        for place, (key, part) in enumerate(value.items()):
            yield f"{',' if place else '{'}{deeper}{string_text(key)}: "
            yield from _dump(part, deeper)
        yield line + "}"
    elif isinstance(value, list) and value:
        for place, part in enumerate(value):
            yield f"{',' if place else '['}{deeper}"
            yield from _dump(part, deeper)
        yield line + "]"
    else:
        yield (
            value
            if isinstance(value, _Literal)
            else string_text(value)
            if isinstance(value, str)
            else json.dumps(value)
        )


def string_text(value: str) -> str:
    """A string as JSON, of letters that can be seen."""
    return plain_json(json.dumps(value, ensure_ascii=False))


def plain_json(text: str) -> str:
    """JSON text in which what could not be seen, or would turn the text around, is escaped: the same document."""
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _all(at: datetime, zone: tzinfo | None, wanted: Preferences) -> list[str]:
    zones: dict[str, tzinfo] = {"UTC": UTC}
    for one in (zone, wanted.zone):
        if one is not None:
            zones.setdefault(str(one), one)
    return [f"{at.astimezone(one):%Y-%m-%d %H:%M:%S.%f} {name}" for name, one in zones.items()]


def tag(word: str) -> Markup:
    """A state or outcome with its colour."""
    return Markup('<span class="tag {}">{}</span>').format(word.replace("_", "-"), escape(word.replace("_", " ")))
