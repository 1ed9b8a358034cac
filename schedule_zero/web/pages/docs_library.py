"""The documentation that comes with the package: where it lies, its pages, what is found in it. Nothing is fetched.

Installed, the folder ``docs`` is inside the package; in a checkout it lies beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from msgspec import Struct

import schedule_zero
from schedule_zero.errors import NotFound

HOME = "README"
PICTURES = (".svg", ".png")
FENCE = re.compile(r"^(```|~~~)")
HEADING = re.compile(r"^(#{1,4}) (.+?)\s*$")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
# What is left of Markdown in an excerpt would only disturb.
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_MARKS = re.compile(r"[`*|]+")
_ROW = re.compile(r"^\| `([a-z_.]+)` \| `SCHEDULE_ZERO_\w+` \|[^|]*\| (.*) \|$", re.MULTILINE)

MOST_WORDS = 8
MOST_FOUND = 40
EXCERPT = 220


class Section(Struct, frozen=True):
    """A heading and what stands below it, up to the next one. The first section of a page is its title's."""

    page: str
    title: str
    heading: str
    anchor: str
    text: str
    lower: str


class Found(Struct, frozen=True):
    """A section in which all that was looked for stands."""

    page: str
    title: str
    heading: str
    anchor: str
    # Around the first word: (text, whether it is one of the words).
    excerpt: list[tuple[str, bool]]


@cache
def folder() -> Path | None:
    """Where the pages lie; None: they did not come along."""
    package = Path(schedule_zero.__file__).parent
    if (package / "docs" / "README.md").is_file():
        return package / "docs"
    checkout = package.parent
    return checkout / "docs" if (checkout / "pyproject.toml").is_file() and (checkout / "docs").is_dir() else None


@cache
def names() -> frozenset[str]:
    """All pages, as their addresses say them: ``reference/api``."""
    root = folder()
    if root is None:
        return frozenset()
    return frozenset(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.md"))


@cache
def text(name: str) -> str:
    """The Markdown of a page. NotFound."""
    root = folder()
    if root is None:
        raise NotFound("the documentation did not come with this installation")
    if name not in names():
        raise NotFound(f"the documentation has no page {name[:200]!r}", hint="see /docs")
    return (root / f"{name}.md").read_text(encoding="utf-8")


@cache
def picture(name: str) -> bytes:
    """A drawing that stands in a page. NotFound."""
    root = folder()
    found = [] if root is None else [path for kind in PICTURES for path in root.rglob(f"*{kind}")]
    if root is None or name not in {path.relative_to(root).as_posix() for path in found}:
        raise NotFound(f"the documentation has no picture {name[:200]!r}")
    return (root / name).read_bytes()


@cache
def title(name: str) -> str:
    """The first heading of a page."""
    return next((heading for _, heading in headings(text(name))), name)


def headings(markdown: str) -> Iterator[tuple[int, str]]:
    """Level and text of each heading, outside of code."""
    for line in _outside_code(markdown):
        found = HEADING.match(line)
        if found:
            yield len(found[1]), plain(found[2])


def plain(markdown: str) -> str:
    """A line without its marks."""
    return _MARKS.sub("", _LINK.sub(r"\1", markdown)).strip()


class Anchors:
    """The ids of one page's headings, as where the repository is shown: a second one of a name gets a number."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def of(self, heading: str) -> str:
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") or "section"
        times = self._seen.get(slug, 0)
        self._seen[slug] = times + 1
        return f"{slug}-{times}" if times else slug


# --- what settings mean -----------------------------------------------------------------------------


@cache
def setting_meanings() -> dict[str, str]:
    """The meaning of each setting, as the reference says it, in Markdown; empty where there is no documentation."""
    if "reference/configuration" not in names():
        return {}
    return dict(_ROW.findall(text("reference/configuration")))


# --- looking for something --------------------------------------------------------------------------


@cache
def sections() -> tuple[Section, ...]:
    """Every section of every page: half a megabyte of text, read when somebody looks for something first."""
    return tuple(section for name in sorted(names()) for section in _sections_of(name))


def _sections_of(name: str) -> Iterator[Section]:
    anchors, heading, anchor, lines, code = Anchors(), title(name), "", list[str](), False
    for line in COMMENT.sub("", text(name)).splitlines():
        code ^= bool(FENCE.match(line))
        found = None if code else HEADING.match(line)
        if found is None:
            lines.append(line)
            continue
        if lines:
            yield _section(name, heading, anchor, lines)
        heading, lines = plain(found[2]), []
        anchor = anchors.of(heading)
    yield _section(name, heading, anchor, lines)


def _section(name: str, heading: str, anchor: str, lines: list[str]) -> Section:
    body = " ".join(filter(None, (plain(line) for line in lines if not FENCE.match(line))))
    return Section(name, title(name), heading, anchor, body, f"{heading}\n{body}".lower())


def _outside_code(markdown: str) -> Iterator[str]:
    code = False
    for line in markdown.splitlines():
        if FENCE.match(line):
            code = not code
        elif not code:
            yield line


def find(query: str) -> list[Found]:
    """Sections with all words of the query; those with them in their heading first, then those that say them most."""
    words = query.lower().split()[:MOST_WORDS]
    if not words:
        return []
    ranked = []
    for section in sections():
        if all(word in section.lower for word in words):
            heading = sum(word in section.heading.lower() for word in words)
            of_title = sum(word in section.title.lower() for word in words)
            ranked.append((-heading, -of_title, -sum(section.lower.count(word) for word in words), section))
    ranked.sort(key=lambda entry: entry[:3])
    return [_found(section, words) for *_, section in ranked[:MOST_FOUND]]


def _found(section: Section, words: list[str]) -> Found:
    first = min((at for word in words if (at := section.text.lower().find(word)) >= 0), default=0)
    start = max(0, first - EXCERPT // 3)
    # From a word's beginning to a word's end.
    excerpt = section.text[start : start + EXCERPT]
    excerpt = excerpt.partition(" ")[2] if start else excerpt
    excerpt = excerpt.rpartition(" ")[0] if len(section.text) > start + EXCERPT else excerpt
    pieces = re.split(f"({'|'.join(map(re.escape, words))})", excerpt, flags=re.IGNORECASE)
    marked = [(piece, bool(place % 2)) for place, piece in enumerate(pieces) if piece]
    return Found(section.page, section.title, section.heading, section.anchor, marked)
